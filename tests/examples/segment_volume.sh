#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The segmentation of volumes from outside: segment_volume.sh PROGRAM DATA_FOLDER. The same seed gives the same curve and
# score for any number of threads, and for a training that Ctrl-C stopped and --resume went on with; mistakes end with 2 and
# overwrite nothing.
set -u
program=$1 data=$2
[ -r "$data/ch2.nii.gz" ] && [ -r "$data/aal.nii.gz" ] || { echo "skipped: no data in $data"; exit 77; }
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

fail() { printf 'FAILED: %s\n' "$*" >&2; cat "$here/log" >&2; exit 1; }
train() { "$program" --data "$data" --output "$here/$1" "${@:2}" >"$here/log" 2>&1; }
curve() { cut -d, -f1-5,7,8 "$here/$1/segment_volume.csv"; } # all but the speed
score() { tail -n 1 "$here/log" | cut -d' ' -f1,2; }

train whole --epochs 2 --items 3 --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" | grep -Eq '^dice=0\.[0-9]{4} mirrored=0\.7179 seconds=[0-9.]+ parameters=[0-9]+$' || fail "the last line"
[ "$(head -c 4 "$here/whole/segment_volume.png" | tail -c 3)" = PNG ] || fail "no picture"
[ "$(curve whole | wc -l)" -eq 5 ] || fail "a curve of $(curve whole | wc -l) lines"
expected=$(score)

"$program" --data "$data" --output "$here/parts" --epochs 2 --items 3 --threads 2 >"$here/log" 2>&1 & child=$!
for _ in $(seq 600); do grep -q step "$here/log" && break; sleep 0.1; done
kill -INT $child
wait $child
code=$?
[ $code -eq 130 ] || fail "Ctrl-C ends with $code"
train parts --resume "$here/parts/segment_volume.safetensors" --threads 2 || fail "going on ends with $?"
[ "$(curve parts)" = "$(curve whole)" ] || fail "another curve after a stop"
[ "$(score)" = "$expected" ] || fail "another score after a stop"

mistake() { # a part of the message, then arguments
  local before
  before=$(cat "$here"/whole/* | cksum)
  train whole "${@:2}"
  local code=$?
  [ $code -eq 2 ] || fail "${*:2}: ends with $code"
  grep -qF -- "$1" "$here/log" || fail "${*:2}: does not say '$1'"
  [ "$(cat "$here"/whole/* | cksum)" = "$before" ] || fail "${*:2}: something was overwritten"
}
saved=$here/whole/segment_volume.safetensors
head -c 300000 "$saved" >"$here/short"
mistake "$here/short: " --resume "$here/short"
sed 's/segmenter width/classifier width/' "$saved" >"$here/other"
mistake "$here/other: " --resume "$here/other"
mistake "--items" --resume "$saved" --items 4
mistake "--epochs" --epochs 0
mkdir "$here/bad"
cp "$data/ch2.nii.gz" "$here/bad"
head -c 100000 "$data/aal.nii.gz" >"$here/bad/aal.nii.gz"
data=$here/bad
mistake "$data/aal.nii.gz: the gzip stream is cut short"
data=$here/no
mistake "$data/ch2.nii.gz: does not exist; apt-get install mricron-data"
echo "the segmentation of volumes keeps its promises"
