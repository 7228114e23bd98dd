#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles alone: each_alone.sh INCLUDE_FOLDER [--without-io] [--together] COMPILER FLAG...
# --together: all in one, where another run has shown that they stand alone.
set -u
cd "$1" && shift || exit 1
unwanted='no such path' checkpoint='no such path'
if [ "$1" = --without-io ]; then unwanted='*/io/*' checkpoint='*/checkpoint.hpp'; shift; fi
together=0
if [ "$1" = --together ]; then together=1; shift; fi

headers=$(find lightnet -name '*.hpp' -not -path "$unwanted" -not -path "$checkpoint" | sort)
[ -n "$headers" ] || { echo "no headers below $PWD" >&2; exit 1; }
count=$(wc -l <<<"$headers")
if [ $together = 1 ]; then
  sed 's/.*/#include <&>/' <<<"$headers" | "$@" -fsyntax-only -x c++ - || exit 1
  echo "$count headers compile together with $1"
  exit
fi

# Each is included, twice, rather than compiled itself: that checks its guard, and #pragma once in a main file warns.
check() {
  printf '#include <%s>\n#include <%s>\n' "$1" "$1" | "${@:2}" -fsyntax-only -x c++ - && return
  echo "FAILED: $1" >&2
  return 1
}
export -f check
xargs -P 2 -I '{}' bash -c 'check "$@"' - '{}' "$@" <<<"$headers" || exit 1
echo "$count headers compile alone with $1"
