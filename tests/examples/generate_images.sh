#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image generator from outside: generate_images.sh PROGRAM DEMONSTRATION DATA_FOLDER. The same seed gives the same curve,
# the same picture and the same distances for any number of threads, and for a training that Ctrl-C stopped and --resume went
# on with; mistakes end with 2 and overwrite nothing.
set -u
program=$1 demonstration=$2 data=${3:-}
[ -r "$data/t10k-labels-idx1-ubyte.gz" ] || { echo "skipped: no data in $data"; exit 77; }
. "$(dirname "$0")/promises.sh" generate_images
unjudged=(--judged 0)  # most trainings draw nothing for the distances
call() { exec "$program" --data "$data" --output "$1" --steps 2 "${unjudged[@]}" "${@:2}"; }
drawing() { cksum <"$here/$1/generate_images.png"; }
distances() { grep -o 'frechet=[0-9.]* frechet_of_training_images=[0-9.]*' "$here/log"; }

train whole --limit 300 --epochs 2 --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" | grep -Eq '^loss=[0-9.]+ parameters=[0-9]+ seconds=[0-9.]+ images_per_second=[0-9]+ drawing_seconds=[0-9.]+$' ||
  fail "the last line"
[ "$(head -c 4 "$here/whole/generate_images.png" | tail -c 3)" = PNG ] || fail "no picture"
[ "$(curve whole | wc -l)" -eq 11 ] || fail "a curve of $(curve whole | wc -l) lines"

[ "$(grep -c 'held out: loss' "$here/log")" -eq 8 ] || fail "not tested on the way"

stop_and_go_on --limit 300 --epochs 2

# A finished training draws.
saved=$here/whole/generate_images.safetensors
train one --resume "$saved" --threads 1 || fail "drawing ends with $?"
[ "$(drawing one)" = "$(drawing whole)" ] || fail "another picture of the same training"
train two --resume "$saved" --threads 2 || fail "drawing with two threads ends with $?"
[ "$(drawing two)" = "$(drawing one)" ] || fail "another picture with two threads"
train seed --resume "$saved" --drawing-seed 2 || fail "drawing with another seed ends with $?"
[ "$(drawing seed)" != "$(drawing one)" ] || fail "the same picture with another seed"

# Its images have a distance to the held-out ones, in the eyes of a classifier that it trains or that it is given.
unjudged=()
train one --resume "$saved" --threads 1 --judged 30 || fail "--judged ends with $?"
tail -n 1 "$here/log" | grep -Eq '^loss=[0-9.]+ frechet=[0-9.]+ frechet_of_training_images=[0-9.]+ parameters=' ||
  fail "the last line with --judged"
near=$(distances)
echo "$near" | awk -F '[= ]' '{ exit !($2 > $4 && $4 > 0) }' || fail "drawn images nearer than real ones: $near"
train two --resume "$saved" --threads 2 --judged 30 || fail "--judged with two threads ends with $?"
[ "$(distances)" = "$near" ] || fail "other distances with two threads: $(distances)"
"$demonstration" --data "$data" --output "$here/judge" --limit 300 --epochs 2 >"$here/log" 2>&1 ||
  fail "the demonstration ends with $?"
judge=$here/judge/fashion_mnist.safetensors
train two --resume "$saved" --judged 30 --classifier "$judge" || fail "--classifier ends with $?"
grep -q 'the classifier knows' "$here/log" && fail "a classifier was trained beside the one that is given"
[ "$(distances)" != "$near" ] || fail "the same distances with another classifier"

unjudged=(--judged 0)
# Another mixer: any number of threads, and a checkpoint that knows it.
train other --mixer hgrn2 --limit 130 --epochs 1 --threads 1 || fail "--mixer hgrn2 ends with $?"
grep -q '^HGRN2: ' "$here/log" || fail "another mixer than hgrn2"
train threads --mixer hgrn2 --limit 130 --epochs 1 --threads 2 || fail "--mixer hgrn2 with two threads ends with $?"
[ "$(curve threads)" = "$(curve other)" ] || fail "another curve of hgrn2"
train threads --resume "$here/other/generate_images.safetensors" || fail "--resume after hgrn2 ends with $?"
[ "$(drawing threads)" = "$(drawing other)" ] || fail "another picture of hgrn2"

unjudged=()
head -c 300000 "$saved" >"$here/short"
sed 's/average.tpe.gamma/average.tpe.gamme/' "$saved" >"$here/changed"
refuse_places
mistake "$here/short: " --resume "$here/short"
mistake "$here/changed: does not hold the tensors of this model: missing: 'extra.average.tpe.gamma'" --resume "$here/changed"
mistake "$here/none: " --resume "$here/none"
change "$data" train-images-idx3-ubyte.gz 16
data=$here/elsewhere mistake "$saved: was trained on other data" --resume "$saved"
mistake "--epochs" --resume "$saved" --epochs 3
mistake "--seed" --resume "$saved" --seed 2
mistake "--limit" --resume "$saved" --limit 301
mistake "--mixer: expected additive" --resume "$saved" --mixer retnet
mistake "--mixer: expected hgrn2" --resume "$here/other/generate_images.safetensors" --mixer additive
mistake "got retro" --mixer retro
mistake "$judge: was made by the program 'fashion_mnist', expected 'generate_images'" --resume "$judge"
mistake "$saved: has as its program 'generate_images', expected 'fashion_mnist'" --classifier "$saved"
mistake "$here/none: " --classifier "$here/none"
mistake "--judged: expected 0, or 2 to 10000" --judged 1
mistake "--steps" --steps 1001
mistake "--guidance" --guidance -1
data=/no/such/folder mistake "/no/such/folder"
