#!/usr/bin/env bash
# The test of native_export_oracle.py on the checkpoint that the quickstart fetches. It needs torch
# and transformers 5 in the benchmarks' Python environment. Exit status 77: skipped.
set -euo pipefail
cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
model="$cache/models/smollm2-135m-instruct-q4_1.gguf"
python="$cache/bench-venv/bin/python"
export LD_LIBRARY_PATH="/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

[ -x "$python" ] || { echo "skipped: tests/bench/run.sh train-step makes $python"; exit 77; }
"$python" -c 'import torch, transformers; assert transformers.__version__ >= "5"' 2>/dev/null || {
  echo "skipped: $python -m pip install transformers"; exit 77; }
[ -e "$model" ] || { echo "skipped: deploy/fetch_model.sh fetches $model"; exit 77; }
exec "$python" "$(dirname "$0")/native_export_oracle.py" "$1" "$model"
