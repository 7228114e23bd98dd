#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A misuse does not compile, and says why in one error: compile_fail.sh FILE COMPILER FLAG...
# The first line of the file is "// expect: REGEX" (extended); the one line with "error:" must match it.
set -u
file=$1
shift
expected=$(sed -n '1s|^// expect: ||p' "$file")
[ -n "$expected" ] || { echo "$file: its first line is not '// expect: REGEX'" >&2; exit 1; }

output=$(LC_ALL=C "$@" -S -o /dev/null "$file" 2>&1) && { echo "$file: compiles, and should not" >&2; exit 1; }
errors=$(grep -E '(^|[ :])(fatal )?error:' <<<"$output")
if [ "$(grep -c . <<<"$errors")" -ne 1 ] || ! grep -Eq -- "$expected" <<<"$errors"; then
  printf '%s\n\nexpected one error that matches: %s\ncame:\n%s\n' "$output" "$expected" "$errors" >&2
  exit 1
fi
echo "$errors"
