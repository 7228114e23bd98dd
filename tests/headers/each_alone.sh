#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles alone: each_alone.sh INCLUDE_FOLDER [--without-io] COMPILER FLAG...
set -u
cd "$1" && shift || exit 1
unwanted='no such path'
if [ "$1" = --without-io ]; then unwanted='*/io/*'; shift; fi
compiler=("$@")

# Each is included, twice, rather than compiled itself: that checks its guard, and #pragma once in a main file warns.
check() {
  printf '#include <%s>\n#include <%s>\n' "$1" "$1" | "${@:2}" -fsyntax-only -x c++ - && return
  echo "FAILED: $1" >&2
  return 1
}
export -f check

headers=$(find lightnet -name '*.hpp' -not -path "$unwanted" | sort)
[ -n "$headers" ] || { echo "no headers below $PWD" >&2; exit 1; }
xargs -P 2 -I '{}' bash -c 'check "$@"' - '{}' "${compiler[@]}" <<<"$headers" || exit 1
echo "$(wc -l <<<"$headers") headers compile alone with ${compiler[0]}"
