#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program that uses a checkpoint, from outside: predict.sh PROGRAM DEMONSTRATION LARGE_NETWORK DATA_FOLDER. It says of
# pictures what the demonstration has learnt, with either of its networks, has nothing of training in it, and ends with 2 for
# everything that is wrong.
set -u
program=$1 demonstration=$2 large_network=$3 data=${4:-}
[ -r "$data/t10k-labels-idx1-ubyte.gz" ] || { echo "skipped: no data in $data"; exit 77; }
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1

fail() { printf 'FAILED: %s\n' "$*" >&2; cat log >&2; exit 1; }

"$demonstration" --data "$data" --output one --epochs 1 --limit 1500 --pictures 3 >log 2>&1 || fail "training ends with $?"
"$program" one/fashion_mnist.safetensors one/test_{0_Boot,1_Pullover,2_Trouser}.png >log 2>&1 || fail "ends with $?"
[ "$(grep -c '^one/test_[0-2]_.*\.png: [A-Za-z-]*, [0-9.]* %$' log)" -eq 3 ] || fail "not three answers"
grep -q '_Trouser.png: Trouser, ' log || fail "trousers are what is learnt first"
"$large_network" large one/test_2_Trouser.png >log 2>&1 || fail "the large network ends with $?"
"$program" large one/test_2_Trouser.png >log 2>&1 || fail "with the large network it ends with $?"
grep -q '_Trouser.png: Bag, [0-9.]* %$' log || fail "not what the large network knows"
if command -v nm >/dev/null; then
  nm -C "$program" >symbols
  grep -q 'lightnet' symbols || fail "no symbols"
  grep -E 'adam|trainer|backward' symbols >log && fail "has these of training"
fi

mistake() { # a part of the message, then arguments
  "$program" "${@:2}" >log 2>&1
  local code=$?
  [ $code -eq 2 ] || fail "${*:2}: ends with $code"
  grep -q ' %$' log && fail "${*:2}: answers nevertheless"
  grep -qF -- "$1" log || fail "${*:2}: does not say '$1'"
}
saved=one/fashion_mnist.safetensors picture=one/test_0_Boot.png
head -c 200000 $saved >short
head -c 300 $picture >short.png
head -c 3000 $saved >none.txt
{ head -c 200 $picture; printf '\377\377\377\377'; tail -c +205 $picture; } >damaged.png
sed 's/"head.bias"/"tail.bias"/' $saved >renamed
sed 's/ heads=2 / heads=4 /' $saved >heads
sed 's/Trouser,Pullover/Pullover,Trouser/' $saved >labels
sed 's/"extra.mixer":"additive"/"extra.mixer":"retnet"  /' $saved >other
sed 's/"extra.program":"fashion_mnist"/"extra.program":"another_thing"/' $saved >foreign
sed 's/ heads=6 / heads=3 /' large >large_heads
mistake "none: cannot be opened" none $picture
mistake "short: " short $picture
mistake "missing: 'head.bias'; left over: 'tail.bias'" renamed $picture
mistake "heads: has as its description 'image_classifier width=64 heads=4 " heads $picture
mistake "', expected 'image_classifier width=64 heads=2 " heads $picture
mistake "has as its description 'image_classifier width=192 heads=3 " large_heads $picture
mistake "labels: has as its description " labels $picture
mistake "labels=T-shirt,Pullover,Trouser,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Boot', expected '" labels $picture
mistake "other: has as its mixer 'retnet', expected 'additive'" other $picture
mistake "foreign: has as its program 'another_thing', expected 'fashion_mnist'" foreign $picture
mistake "not a regular file" /dev/null $picture
mistake "none.png: cannot be read as a PNG file: " $saved none.png
mistake "short.png: cannot be read as a PNG file: " $saved $picture short.png
mistake "damaged.png: cannot be read as a PNG file: " $saved damaged.png
mistake "none.txt: cannot be read as a PNG file: " $saved none.txt
mistake "one: cannot be read as a PNG file: " $saved one
mistake "one/fashion_mnist.png: has 2" $saved one/fashion_mnist.png
mistake " pixels, expected 28 x 28" $saved one/fashion_mnist.png
mistake "CHECKPOINT PICTURE.png" $saved
"$program" --help >log 2>errors || fail "--help ends with $?"
{ grep -q "CHECKPOINT PICTURE.png" log && [ ! -s errors ]; } || fail "--help does not say it on the standard output"
"$program" >log 2>errors && fail "nothing given ends with 0"
{ grep -q "CHECKPOINT PICTURE.png" errors && [ ! -s log ]; } || fail "a mistake is not told on the standard error"
echo "predict keeps its promises"
