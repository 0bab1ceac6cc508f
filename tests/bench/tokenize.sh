#!/usr/bin/env bash
# Text to token ids, on one core, against SentencePiece (C++ and Python) and Hugging Face tokenizers.
# Options: --quick, --megabytes N (see tokenize_bench.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
venv="$cache/oracle-venv"
python="$venv/bin/python"
if ! "$python" -c 'import sentencepiece, tokenizers' 2>/dev/null; then
  { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet sentencepiece tokenizers; } >&2 ||
    echo "SentencePiece and tokenizers could not be installed in $venv" >&2
fi
[ -x "$python" ] || python=python3

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target tokenize tokenize_lines >&2
exec "$python" tests/bench/tokenize_bench.py "$build/bin" "$@"
