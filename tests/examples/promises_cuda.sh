#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An example on a GPU from outside: promises_cuda.sh NAME PROGRAM [DATA_FOLDER]. With the standard settings it is as good as it
# has to be within six minutes, and leaves its picture.
set -u
name=$1 program=$2 data=${3:-}
skip() { echo "skipped: $*"; exit 77; }
nvidia-smi -L >/dev/null 2>&1 || skip "no GPU"
case $name in
  language_model) needed=$(command -v bible) || needed=/usr/bin/bible ;;
  masked_language_model) needed=/usr/share/dictd/gcide.dict.dz ;;
  segment_volume) needed=$data/aal.nii.gz ;;
  *) needed=$data/t10k-labels-idx1-ubyte.gz ;;
esac
[ -r "$needed" ] || skip "no $needed"
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

fail() { printf 'FAILED: %s\n' "$*" >&2; tail -n 30 "$here/log" >&2; exit 1; }
train() {
  rm -f "$here/$name".*
  timeout 360 "$program" ${data:+--data "$data"} --output "$here" "$@" >"$here/log" 2>&1 || fail "${name}_cuda $*: ends with $?"
  tail -n 1 "$here/log"
}
# What the last line says, and what has to hold of it.
said() { tail -n 1 "$here/log" | grep -oE "(^| )$1=[0-9.]+" | cut -d= -f2; }
holds() { awk "BEGIN { exit !($*) }" || fail "not: $*"; }
picture() { [ "$(head -c 4 "$here/$name.png" | tail -c 3)" = PNG ] || fail "no picture"; }

case $name in
  language_model)
    train
    holds "$(said bits_per_byte) < 1.8"
    ;;
  masked_language_model)  # the shape of the paper's smallest
    train
    holds "$(said masked_accuracy) >= 2 * $(said unigram) && $(said parameters) > 1e8"
    ;;
  generate_images)  # the same budget for all
    for mixer in additive retnet hgrn2; do
      train --mixer $mixer --epochs 4
      holds "$(said frechet) > $(said frechet_of_training_images)"
      picture
    done
    ;;
  segment_volume)
    train
    holds "$(said dice) > 0.5"
    picture
    ;;
  fashion_mnist)
    train
    holds "$(said accuracy) > 0.92"
    picture
    ;;
  *) echo "promises_cuda.sh: no example '$name'" >&2; exit 2 ;;
esac
echo "$name keeps its promises on a GPU"
