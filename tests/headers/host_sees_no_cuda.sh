#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole library reads no file of CUDA: host_sees_no_cuda.sh COMPILER FLAG...
set -eu
files=$("$@" -M -x c++ - <<<'#include <lightnet/lightnet.hpp>' | tr -d '\\')
[ -n "$files" ]
if seen=$(tr ' ' '\n' <<<"$files" | grep -E '\.cuh$|/(cuda|cublas)[^/]*\.h$'); then
  printf 'a host compiler was shown:\n%s\n' "$seen" >&2
  exit 1
fi
echo "$(wc -w <<<"$files") files read, none of CUDA"
