#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything obeys .clang-format: format.sh CLANG_FORMAT, in the root of the source. Only one version is asked, since
# they differ. To mend: clang-format -i FILE
"$1" --version | grep -q 'version 14\.' || { echo "skipped: not clang-format 14"; exit 77; }
status=0
while read -r file; do
  "$1" "$file" | cmp -s - "$file" || { echo "not formatted: $file"; status=1; }
done < <(find include tests examples bench -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh' | sort)
exit $status
