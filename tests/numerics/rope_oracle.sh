#!/usr/bin/env bash
# The test of rope_oracle.py. It needs torch and transformers 5 in the benchmarks' Python
# environment. Exit status 77: skipped.
set -euo pipefail
python="${MOE_CACHE_DIR:-$HOME/.cache/moe}/bench-venv/bin/python"
export LD_LIBRARY_PATH="/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

[ -x "$python" ] || { echo "skipped: tests/bench/run.sh train-step makes $python"; exit 77; }
"$python" -c 'import torch, transformers; assert transformers.__version__ >= "5"' 2>/dev/null || {
  echo "skipped: $python -m pip install transformers"; exit 77; }
exec "$python" "$(dirname "$0")/rope_oracle.py" "$1"
