#!/usr/bin/env bash
# The test of conversation_oracle.py on the checkpoint that the quickstart fetches, and on the
# SentencePiece model in MOE_SHARED_DATA where that is set. Exit status 77: skipped.
set -euo pipefail
cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
model="$cache/models/smollm2-135m-instruct-q4_1.gguf"
python="$cache/bench-venv/bin/python"
oracle="$(dirname "$0")/conversation_oracle.py"

[ -x "$python" ] || { echo "skipped: tests/bench/run.sh train-step makes $python"; exit 77; }
"$python" -c 'import gguf, jinja2, sentencepiece, tokenizers' 2>/dev/null || {
  echo "skipped: $python -m pip install gguf jinja2 sentencepiece tokenizers"; exit 77; }
[ -e "$model" ] || { echo "skipped: deploy/fetch_model.sh fetches $model"; exit 77; }
exec "$python" "$oracle" "$1" "$model" ${MOE_SHARED_DATA:+"$MOE_SHARED_DATA/llama_tokenizer.model"}
