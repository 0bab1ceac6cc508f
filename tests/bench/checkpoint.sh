#!/usr/bin/env bash
# The training state on disk, against torch.save, safetensors and torch.distributed.checkpoint.
# Options: --quick, --mib N, --folder DIR, --threads N (see checkpoint.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

# PyTorch is installed by the train-step benchmark; a peer that is missing is named.
cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
venv="$cache/bench-venv"
export LD_LIBRARY_PATH="/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
python="$venv/bin/python"
if [ -x "$python" ] && ! "$python" -c 'import safetensors' 2>/dev/null; then
  "$venv/bin/pip" install --quiet safetensors >&2 || echo "safetensors could not be installed" >&2
fi
[ -x "$python" ] || python=python3

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target checkpoint >&2
exec "$python" tests/bench/checkpoint.py "$build/bin/checkpoint" "$@"
