#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The segmentation of volumes from outside: segment_volume.sh PROGRAM DATA_FOLDER. The same seed gives the same curve and
# score for any number of threads, and for a training that Ctrl-C stopped and --resume went on with; mistakes end with 2 and
# overwrite nothing.
set -u
program=$1 data=$2
[ -r "$data/ch2.nii.gz" ] && [ -r "$data/aal.nii.gz" ] || { echo "skipped: no data in $data"; exit 77; }
. "$(dirname "$0")/promises.sh" segment_volume
call() { exec "$program" --data "$data" --output "$@"; }
score() { tail -n 1 "$here/log" | cut -d' ' -f1,2; }

train whole --epochs 2 --items 3 --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" | grep -Eq '^dice=0\.[0-9]{4} mirrored=0\.7179 seconds=[0-9.]+ parameters=[0-9]+$' || fail "the last line"
[ "$(head -c 4 "$here/whole/segment_volume.png" | tail -c 3)" = PNG ] || fail "no picture"
[ "$(curve whole | wc -l)" -eq 5 ] || fail "a curve of $(curve whole | wc -l) lines"
[ "$(grep -c 'held out: loss .* accuracy' "$here/log")" -eq 4 ] || fail "not tested on the way"
expected=$(score)

stop_and_go_on --epochs 2 --items 3
[ "$(score)" = "$expected" ] || fail "another score after a stop"

saved=$here/whole/segment_volume.safetensors
head -c 300000 "$saved" >"$here/short"
refuse_places
mistake "$here/short: " --resume "$here/short"
sed 's/segmenter width/segmented width/' "$saved" >"$here/other"
mistake "'segmented', expected 'segmenter'" --resume "$here/other"
sed 's/"extra.program":"segment_volume"/"extra.program":"classify_image"/' "$saved" >"$here/other"
mistake "$here/other: was made by the program 'classify_image', expected 'segment_volume'" --resume "$here/other"
change "$data" ch2.nii.gz 352
data=$here/elsewhere mistake "$saved: was trained on other data" --resume "$saved"
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
