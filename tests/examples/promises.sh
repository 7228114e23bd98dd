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
  train parts --resume "$saved" --threads 2 || fail "going on ends with $?"
  [ "$(curve parts)" = "$(curve whole)" ] || fail "another curve after a stop"
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

# A text of 700 lines.
some_text() {
  for i in $(seq 700); do echo "$i: the $((i * i % 97)) sons of $((i * 7 % 31)) went up unto $((i % 13))."; done
}
