#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything obeys .clang-format: format.sh CLANG_FORMAT, in the root of the source. Only one version is asked, since
# they differ. To mend: clang-format -i FILE
"$1" --version | grep -q 'version 14\.' || { echo "skipped: not clang-format 14"; exit 77; }
find include tests examples bench -name '*.[ch]pp' -exec "$1" --dry-run -Werror {} +
