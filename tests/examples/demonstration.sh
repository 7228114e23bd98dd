#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The demonstration from outside: demonstration.sh PROGRAM DATA_FOLDER. The same seed gives the same curve for any number
# of threads, and for a training that Ctrl-C stopped and --resume went on with; mistakes end with 2 and overwrite nothing.
set -u
program=$1 data=$2
[ -r "$data/t10k-labels-idx1-ubyte.gz" ] || { echo "skipped: no data in $data"; exit 77; }
. "$(dirname "$0")/promises.sh" fashion_mnist
call() { exec "$program" --data "$data" --output "$@"; }

train whole --limit 700 --epochs 2 --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" | grep -Eq '^accuracy=0\.[0-9]{4} images=10000 parameters=[0-9]+ train_seconds=[0-9.]+ images_per_second=[0-9]+$' ||
  fail "the last line"
[ "$(head -c 4 "$here/whole/fashion_mnist.png" | tail -c 3)" = PNG ] || fail "no picture"
[ "$(curve whole | wc -l)" -eq 23 ] || fail "a curve of $(curve whole | wc -l) lines"

[ "$(grep -c 'held out: loss .* accuracy' "$here/log")" -eq 8 ] || fail "not tested on the way"

stop_and_go_on --limit 700 --epochs 2

saved=$here/whole/fashion_mnist.safetensors
head -c 300000 "$saved" >"$here/short"
printf '\xff\xff\xff\xff\xff\xff\xff\x7f{}' >"$here/hostile"
sed 's/"state.position":"0"/"state.position":"7"/' "$saved" >"$here/changed"
refuse_places
mistake "$here/short: " --resume "$here/short"
mistake "$here/hostile: " --resume "$here/hostile"
mistake "$here/changed: " --resume "$here/changed"
mistake "$here/none: " --resume "$here/none"
change "$data" train-labels-idx1-ubyte.gz 8
data=$here/elsewhere mistake "$saved: was trained on other data" --resume "$saved"
mistake "--epochs" --resume "$saved" --epochs 3
mistake "--seed" --resume "$saved" --seed 2
mistake "--limit" --resume "$saved" --limit 701
mistake "--epochs: expected a whole number from 1 to 100000, got 0" --epochs 0
mistake "--seed: expected a whole number from 0 to 18446744073709551615, got -1" --seed -1
mistake "--limit: expected a whole number from 1 to 9223372036854775807, got -5" --limit -5
mistake "--pictures: expected a whole number from 0 to 10000, got -1" --pictures -1
mistake "--rate: expected a number from 0 to 1, got -0.1" --rate -0.1
mistake "--mixer: expected additive" --resume "$saved" --mixer retnet
mistake "got retro" --mixer retro

# Another mixer: any number of threads, a checkpoint that knows it, and all of them in a table.
train axial --mixer hgrn2-axial --limit 300 --epochs 2 --threads 1 || fail "--mixer hgrn2-axial ends with $?"
grep -q '^HGRN2, axial: ' "$here/log" || fail "another mixer than hgrn2-axial"
train threads --mixer hgrn2-axial --limit 300 --epochs 2 --threads 2 || fail "--mixer hgrn2-axial ends with $?"
[ "$(curve threads)" = "$(curve axial)" ] || fail "another curve of hgrn2-axial"
saved=$here/axial/fashion_mnist.safetensors
train axial --resume "$saved" --threads 2 || fail "--resume after hgrn2-axial ends with $?"
[ "$(curve threads)" = "$(curve axial)" ] || fail "another curve of hgrn2-axial after its end"
mistake "--mixer: expected hgrn2-axial" --resume "$saved" --mixer additive
train table --compare --seeds 1 --epochs 1 --limit 130 --threads 2 || fail "--compare ends with $?"
[ "$(grep -c '^| .* | [124] | 94,378 | ' "$here/log")" -eq 4 ] || fail "not four rows of mixers"
pairs='accuracy_of_additive=0\.[0-9]{4} accuracy_of_retnet=0\.[0-9]{4} accuracy_of_hgrn2=0\.[0-9]{4} '
pairs+='accuracy_of_hgrn2-axial=0\.[0-9]{4} seeds=1 images=130 parameters=94378 seconds=[0-9.]+'
tail -n 1 "$here/log" | grep -Eq "^$pairs\$" || fail "the last line of --compare"

data=/no/such/folder
mistake "$data/train-images"
echo "the demonstration keeps its promises"
