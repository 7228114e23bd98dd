#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The language model from outside: language_model.sh PROGRAM. The same seed gives the same curve and the same text for any
# number of threads, and for a training that Ctrl-C stopped and --resume went on with; mistakes end with 2 and overwrite
# nothing.
set -u
program=$1
. "$(dirname "$0")/promises.sh" language_model
some_text >"$here/text"
call() { # a folder, then arguments
  local data=(--data "$here/text")
  [[ " $* " == *" --data "* ]] && data=()
  exec "$program" "${data[@]}" --epochs 2 --count 60 --output "$@"
}
sample() { sed -n '/^--- a sample ---$/,/^---$/p' "$here/log"; }

train whole --seed 3 --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" | grep -Eq '^bits_per_byte=[0-9]\.[0-9]{4} accuracy=0\.[0-9]{4} bytes=[0-9]+ parameters=[0-9]+ seconds=[0-9.]+$' ||
  fail "the last line"
[ "$(grep -c 'held out: bits/byte' "$here/log")" -ge 4 ] || fail "not tested on the way"
text=$(sample)
[ ${#text} -gt 60 ] || fail "no sample"

stop_and_go_on --seed 3
saved=$here/parts/language_model.safetensors
[ "$(sample)" = "$text" ] || fail "another text after a stop"
train parts --resume "$saved" --prompt Behold --temperature 0 || fail "writing alone ends with $?"
sample | grep -q '^Behold' || fail "a text that does not begin with the prompt"

: >"$here/empty"
head -c 200000 "$saved" >"$here/short"
refuse_places
mistake "$here/empty: is too short: 0 bytes" --data "$here/empty"
mistake "is too short: 1000 bytes" --limit 1000
mistake "$here/none: cannot be opened" --data "$here/none"
mkfifo "$here/pipe"
mistake "$here: is a folder, expected a regular file" --data "$here"
mistake "$here/pipe: is a pipe, expected a regular file" --data "$here/pipe"
mistake "$here/short: " --resume "$here/short"
sed 's/"extra.program":"language_model"/"extra.program":"another__model"/' "$saved" >"$here/foreign"
mistake "$here/foreign: was made by the program 'another__model', expected 'language_model'" --resume "$here/foreign" --limit 20000
mistake "--seed" --resume "$saved" --seed 2
cat "$here/text" "$here/text" >"$here/longer"
mistake "trains on" --resume "$saved" --limit 20000
mistake "pieces of text, expected" --resume "$saved" --data "$here/longer"
sed 's/sons/suns/' "$here/text" >"$here/other"
mistake "$saved: was trained on other data" --resume "$saved" --data "$here/other"
mistake "--prompt: expected one byte or more, got none" --prompt ""
mistake "--temperature: expected a number from 0 to 1e+06, got -1" --temperature -1
mistake "--top-k: expected a whole number from 0 to 9223372036854775807, got -1" --top-k -1
mistake "--top-p: expected a number from 1e-06 to 1, got 0" --top-p 0
mistake "--count: expected a whole number from 0 to 100000000, got -1" --count -1
mistake "--seed: expected a whole number from 0 to 18446744073709551615, got -1" --seed -1
# Pieces of words: made from the text once, and the same text and curve from the file; the package may be missing.
awk 'BEGIN { for (i = 1; i <= 12000; ++i) { x = (i * i * 7919 + i) % 4001; w = ""; while (x > 0) { w = w sprintf("%c", 97 + x % 23); x = int(x / 3) } printf "%s%s", w, i % 9 ? " " : "\n" } }' >"$here/words"
pieces=(--data "$here/words" --tokenizer)
if train made "${pieces[@]}" "$here/model"; then
  text=$(sample)
  grep -q ' bytes to learn from' "$here/log" || fail "no bytes"
  before=$(cksum <"$here/model")
  train read "${pieces[@]}" "$here/model" || fail "with a file of pieces it ends with $?"
  [ "$(curve read)" = "$(curve made)" ] && [ "$(sample)" = "$text" ] || fail "another training with the same pieces"
  train read --data "$here/words" --resume "$here/made/language_model.safetensors" --tokenizer "$here/model" ||
    fail "pieces of a checkpoint: ends with $?"
  [ "$(sample)" = "$text" ] || fail "another text with the pieces of a checkpoint"
  mistake "pieces of text, expected" --data "$here/words" --resume "$here/made/language_model.safetensors"
  mistake "sentencepiece: " --tokenizer "$here/text"
  mistake "sentencepiece: " --tokenizer "$here/none" --limit 30000
  mistake "$here/file/none: cannot create" --tokenizer "$here/file/none" --limit 30000
  [ "$(cksum <"$here/model")" = "$before" ] || fail "the pieces were written again"
  mistake "$here/none: does not exist, expected the pieces of" --data "$here/words" \
    --resume "$here/made/language_model.safetensors" --tokenizer "$here/none"
  [ ! -e "$here/none" ] || fail "pieces of too little text, or of a training that goes on, were written"
else
  grep -q 'install the Debian package libsentencepiece-dev' "$here/log" || fail "pieces: nothing said about the package"
  mistake "libsentencepiece-dev" --tokenizer "$here/model"
fi
PATH=$here "$program" --output "$here/whole" >"$here/log" 2>&1
[ $? -eq 2 ] || fail "without the package bible-kjv it ends with another code"
grep -q 'install the Debian package bible-kjv' "$here/log" || fail "nothing said about the package"
echo "the language model keeps its promises"
