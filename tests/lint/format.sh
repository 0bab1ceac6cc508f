#!/usr/bin/env bash
# clang-format on every C++ file; `--fix` rewrites them.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
if [ "${1:-}" = --fix ]; then
  clang-format-14 -i "${files[@]}"
else
  clang-format-14 --dry-run --Werror "${files[@]}"
fi
echo "format: ${#files[@]} files are clean"
