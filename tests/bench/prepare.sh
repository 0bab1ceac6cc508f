#!/usr/bin/env bash
# Compressed JSON lines to shards, with every rule and filter on, beside what the machine could do at
# best and beside Hugging Face datasets and tokenizers doing the same work. Options: --quick,
# --megabytes N (see prepare.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
venv="$cache/prepare-venv"
python="$venv/bin/python"
if ! "$python" -c 'import datasets, tokenizers, xxhash, zstandard' 2>/dev/null; then
  { python3 -m venv "$venv" &&
    "$venv/bin/pip" install --quiet datasets tokenizers xxhash zstandard; } >&2 ||
    echo "datasets and tokenizers could not be installed in $venv" >&2
fi
[ -x "$python" ] || python=python3

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target moe-prepare >&2
exec "$python" tests/bench/prepare.py "$build/bin" "$@"
