#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The masked language model from outside: masked_language_model.sh PROGRAM. The same seed gives the same curve and the same
# guesses for any number of threads, and for a training that Ctrl-C stopped and --resume went on with; mistakes end with 2
# and overwrite nothing.
set -u
program=$1
. "$(dirname "$0")/promises.sh" masked_language_model
some_text >"$here/text"
gzip -c "$here/text" >"$here/text.gz"
call() { # a folder, then arguments
  local given=()
  [[ " $* " == *" --data "* ]] || given+=(--data "$here/text.gz")
  [[ " $* " == *" --length "* ]] || given+=(--length 50)
  exec "$program" "${given[@]}" --output "$@"
}
guesses() { sed -n '/^held-out text/,/safetensors$/p' "$here/log" | grep -v safetensors; }
accuracy() { tail -n 1 "$here/log" | cut -d ' ' -f 1; }

train whole --threads 1 || fail "training ends with $?"
tail -n 1 "$here/log" |
  grep -Eq '^masked_accuracy=0\.[0-9]{4} unigram=0\.[0-9]{4} places=[0-9]+ parameters=[0-9]+ seconds=[0-9.]+$' ||
  fail "the last line"
[ "$(grep -c 'held out: bits/guess .* accuracy' "$here/log")" -ge 4 ] || fail "not tested on the way"
[ "$(grep -c '^hidden .*_' "$here/log")" -eq 4 ] || fail "not four texts"
text=$(guesses) right=$(accuracy)

stop_and_go_on --data "$here/text"
saved=$here/parts/masked_language_model.safetensors
[ "$(guesses)" = "$text" ] || fail "other guesses after a stop"
[ "$(accuracy)" = "$right" ] || fail "another accuracy after a stop"
train parts --resume "$saved" --fill 'the so_s of _' || fail "guessing alone ends with $?"
grep -q '^hidden   the so_s of _$' "$here/log" || fail "a text was not filled in"
grep -Eq '^guessed  the so[^_]s of [^_]$' "$here/log" || fail "a text was not filled in"

: >"$here/empty"
head -c 3000 "$here/text.gz" >"$here/short.gz"
head -c 200000 "$saved" >"$here/short"
refuse_places
mistake "$here/empty: is too short: of its 0 bytes" --data "$here/empty"
mistake "is too short: of its" --length 2000
mistake "$here/none: is not there; the dictionary is in the Debian package dict-gcide" --data "$here/none"
mkfifo "$here/pipe"
mistake "$here: is a folder, expected a regular file" --data "$here"
mistake "$here/pipe: is a pipe, expected a regular file" --data "$here/pipe"
mistake "$here/short.gz: the gzip stream is cut short" --data "$here/short.gz"
mistake "$here/short: " --resume "$here/short"
mistake "--seed" --resume "$saved" --seed 2
mistake "'mask_rate=0.15', expected 'mask_rate=0.2'" --resume "$saved" --mask-rate 0.2
sed 's/sons/suns/' "$here/text" >"$here/other"
mistake "$saved: was trained on other data" --resume "$saved" --data "$here/other"
mistake "trains on 485 pieces of text, expected 1 to 199" --resume "$saved" --limit 10000
mistake "--mask-rate" --mask-rate 0
mistake "--length" --length 0
mistake "--fill: expected one byte or more, got none" --fill ""
mistake "--seed: expected a whole number from 0 to 18446744073709551615, got -1" --seed -1
echo "the masked language model keeps its promises"
