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
mistake "$here/empty: is too short: 0 bytes" --data "$here/empty"
mistake "is too short: 1000 bytes" --limit 1000
mistake "$here/none: cannot be opened" --data "$here/none"
mistake "$here: cannot be read" --data "$here"
mistake "$here/short: " --resume "$here/short"
mistake "--seed" --resume "$saved" --seed 2
cat "$here/text" "$here/text" >"$here/longer"
mistake "pieces of text, of" --resume "$saved" --limit 20000
mistake "pieces of text, and this one has" --resume "$saved" --data "$here/longer"
mistake "--prompt" --prompt ""
mistake "--temperature" --temperature -1
mistake "--top-k" --top-k 257
mistake "--top-p" --top-p 0
mistake "--count" --count -1
PATH=$here "$program" --output "$here/whole" >"$here/log" 2>&1
[ $? -eq 2 ] || fail "without the package bible-kjv it ends with another code"
grep -q 'install the Debian package bible-kjv' "$here/log" || fail "nothing said about the package"
echo "the language model keeps its promises"
