#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A training gives the same bits for any number of threads, and without OpenMP.
# Usage: same_bits.sh FOLDER COMPILER FLAGS... (without -fopenmp)
set -euo pipefail
folder=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
"$@" -fopenmp "$here/training.cpp" -o "$folder/with" &
"$@" "$here/training.cpp" -o "$folder/without"
wait $!
expected=$("$folder/without" 1)
echo "without OpenMP: $expected"
for threads in 1 2 3 5; do
  got=$("$folder/with" $threads)
  echo "$threads threads: $got"
  [ "$got" = "$expected" ] || { echo "the bits differ" >&2; exit 1; }
done
