#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No atomic operation on floating point numbers in the machine code of a program: no_float_atomics.sh PROGRAM
# They add in an order that differs from run to run. Where the device has no such instruction (shared memory, single
# numbers of two bytes) a loop around compare-and-swap takes its place, so that is refused as well.
set -o pipefail
PATH=$PATH:/usr/local/cuda/bin
if ! command -v cuobjdump >/dev/null || ! command -v nvdisasm >/dev/null; then
  echo "skipped: no cuobjdump or nvdisasm"
  exit 77
fi
cuobjdump -sass "$1" | awk '
  /Function :/ { name = $3; ++kernels }
  /[ \t](ATOM|ATOMG|ATOMS|RED|REDG|REDS)\.([A-Z0-9_.]*\.)?(B?F(16|32|64)|CAST?[ .])/ { print name ": " $0; ++found }
  /[ \t](UBLKRED|UTMAREDG)/ { print name ": " $0; ++found }
  END {
    print kernels + 0 " functions, " found + 0 " atomic operations on floating point numbers"
    exit !(kernels > 0 && found == 0)
  }'
