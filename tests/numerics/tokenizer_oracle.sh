#!/usr/bin/env bash
# The test of tokenizer_oracle.py: on the checkpoint that the quickstart fetches, and on the text and
# the SentencePiece model in MOE_SHARED_DATA where that is set. Exit status 77: skipped.
set -euo pipefail
cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
model="$cache/models/smollm2-135m-instruct-q4_1.gguf"
python="$cache/oracle-venv/bin/python"
oracle="$(dirname "$0")/tokenizer_oracle.py"

[ -x "$python" ] || { echo "skipped: deploy/install_deps.sh test makes $python"; exit 77; }
[ -e "$model" ] || { echo "skipped: deploy/fetch_model.sh fetches $model"; exit 77; }
if [ -z "${MOE_SHARED_DATA:-}" ]; then
  echo "MOE_SHARED_DATA is not set: no text of the seven domains, no SentencePiece model"
  exec "$python" "$oracle" "$1" "$model"
fi
"$python" "$oracle" "$1" "$model" "$MOE_SHARED_DATA/redpajama_sample"
"$python" "$oracle" "$1" "$MOE_SHARED_DATA/llama_tokenizer.model" "$MOE_SHARED_DATA/redpajama_sample"
