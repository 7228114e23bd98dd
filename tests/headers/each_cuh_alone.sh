#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each header of the CUDA backend compiles alone: each_cuh_alone.sh INCLUDE_FOLDER NVCC FLAG...
# (nvcc reads no standard input, and has no -fsyntax-only.)
set -u
cd "$1" && shift || exit 1
headers=$(find lightnet -name '*.cuh' | sort)
[ -n "$headers" ] || { echo "no CUDA headers below $PWD" >&2; exit 1; }
export folder
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

check() {
  local name=${1//\//_}
  printf '#include <%s>\n#include <%s>\n' "$1" "$1" >"$folder/$name.cu"
  "${@:2}" -c "$folder/$name.cu" -o "$folder/$name.o" && return
  echo "FAILED: $1" >&2
  return 1
}
export -f check
xargs -P 2 -I '{}' bash -c 'check "$@"' - '{}' "$@" <<<"$headers" || exit 1
echo "$(wc -l <<<"$headers") headers compile alone with $1"
