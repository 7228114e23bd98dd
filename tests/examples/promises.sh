# SPDX-License-Identifier: Apache-2.0
# What the tests of the programs that train share, for them to read in: . promises.sh NAME, where NAME.csv and
# NAME.safetensors are what the program leaves. They say how it is called: call FOLDER ARGUMENTS.. puts the program in the
# place of the shell (exec).
name=$1
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

fail() { printf 'FAILED: %s\n' "$*" >&2; cat "$here/log" >&2; exit 1; }
train() { (call "$here/$1" "${@:2}") >"$here/log" 2>&1; }  # a folder, then arguments
curve() { cut -d, -f1-5,7- "$here/$1/$name.csv"; }         # all but the speed

# Of a checkpoint everything but the curve and the seconds, which end it: parameters, moments, averages, counters.
weights() {
  local file=$here/$1/$name.safetensors header curve
  header=$(($(od -An -N8 -td8 "$file") + 8))
  curve=$(head -c $header "$file" | grep -ao '"extra.curve":{[^}]*' | grep -o '"data_offsets":\[[0-9]*' | grep -o '[0-9]*$')
  [ "${curve:-0}" -gt 0 ] || fail "no curve in $file"
  head -c $((header + curve)) "$file" | cksum
}

# The folder elsewhere: the files of another, but for a byte of a gzip file, which is 1.
change() { # the folder, the file, the place of the byte
  mkdir "$here/elsewhere"
  ln -s "$1"/* "$here/elsewhere"
  rm "$here/elsewhere/$2"
  gunzip -c "$1/$2" >"$here/contents" && printf '\1' | dd of="$here/contents" bs=1 seek="$3" conv=notrunc status=none &&
    gzip -c "$here/contents" >"$here/elsewhere/$2" || fail "no byte $3 in $2"
}

# With these arguments, Ctrl-C and then --resume make of the folder parts what the folder whole is.
stop_and_go_on() {
  : >"$here/log"  # of the training before
  call "$here/parts" --threads 2 "$@" >"$here/log" 2>&1 & local child=$!
  for _ in $(seq 600); do grep -q step "$here/log" && break; sleep 0.1; done
  kill -INT $child
  wait $child
  local code=$?
  [ $code -eq 130 ] || fail "Ctrl-C ends with $code"
  local saved=$here/parts/$name.safetensors
  grep -q -- "--resume $saved" "$here/log" || fail "nothing said about going on"
  grep -q $'[\r\x1b]' "$here/log" && fail "a bar where there is no terminal"
  train parts --resume "$saved" --threads 2 || fail "going on ends with $?"
  [ "$(curve parts)" = "$(curve whole)" ] || fail "another curve after a stop"
  [ "$(weights parts)" = "$(weights whole)" ] || fail "other weights after a stop"
}

mistake() { # a part of the message, then arguments
  local before
  before=$(cat "$here"/whole/* | cksum)
  train whole "${@:2}"
  local code=$?
  [ $code -eq 2 ] || fail "${*:2}: ends with $code"
  grep -qF -- "$1" "$here/log" || fail "${*:2}: does not say '$1'"
  [ "$(cat "$here"/whole/* | cksum)" = "$before" ] || fail "${*:2}: something was overwritten"
}

# Where nothing can be left, nothing is read and nothing is begun.
refuse_places() {
  mkdir -p "$here/taken/$name.csv"
  : >"$here/file"
  local place
  for place in taken file file/below; do
    train "$place" --resume "$here/none"
    local code=$?
    [ $code -eq 2 ] || fail "--output $place: ends with $code"
    grep -qF ": $here/$place" "$here/log" || fail "--output $place: is not named"
  done
  [ "$(ls "$here/taken")" = "$name.csv" ] || fail "--output taken: something was written"
}

# A text of 700 lines.
some_text() {
  for i in $(seq 700); do echo "$i: the $((i * i % 97)) sons of $((i * 7 % 31)) went up unto $((i % 13))."; done
}
