#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What including the library costs, against Eigen/Core alone: parse_cost.sh COMPILER FLAG...
# The least processor time (user + system) of 11 runs each, interleaved, so that a busy machine disturbs all alike.
set -eu -o pipefail
compiler=("$@")
headers=(Eigen/Core lightnet/recurrence.hpp lightnet/lightnet.hpp)
limits=(1 1.5 2.5)
least=(1e9 1e9 1e9)
TIMEFORMAT='%U %S'

for _ in {1..11}; do
  for i in "${!headers[@]}"; do
    seconds=$({ time "${compiler[@]}" -fsyntax-only -x c++ - <<<"#include <${headers[i]}>" 1>&3 2>&4; } 3>&1 4>&2 2>&1 |
      awk '{ print $1 + $2 }')
    least[i]=$(awk -v a="${least[i]}" -v b="$seconds" 'BEGIN { print (b < a) ? b : a }')
  done
done

failed=0
for i in "${!headers[@]}"; do
  awk -v header="${headers[i]}" -v time="${least[i]}" -v base="${least[0]}" -v limit="${limits[i]}" 'BEGIN {
    printf "%-24s %.3f s  %.2f times Eigen/Core, limit %.1f\n", header, time, time / base, limit
    exit !(time <= limit * base) }' || failed=1
done
exit $failed
