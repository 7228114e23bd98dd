#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The programs in the documentation compile and run: every C++ block with a main is taken from its page.
# Usage: snippets.sh FOLDER COMPILER FLAGS... -- PAGES...
set -euo pipefail
folder=$1 compiler=$2
shift 2
flags=()
while [ "$1" != "--" ]; do flags+=("$1"); shift; done
shift
mkdir -p "$folder"
count=0
for page in "$@"; do
  name=$(basename "$page" .md)
  awk -v to="$folder/$name" '
    /^```cpp$/ { inside = 1; text = ""; next }
    /^```$/ && inside { inside = 0; if (text ~ /int main\(/) { file = to "_" ++n ".cpp"; printf "%s", text > file; close(file); print file } }
    inside { text = text $0 "\n" }' "$page" > "$folder/list"
  while read -r file; do
    echo "$file, of $page"
    "$compiler" "${flags[@]}" "$file" -o "${file%.cpp}"
    "${file%.cpp}"
    count=$((count + 1))
  done < "$folder/list"
done
[ "$count" -gt 0 ] || { echo "no program found in: $*" >&2; exit 1; }
