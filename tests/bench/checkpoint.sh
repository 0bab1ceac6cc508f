#!/usr/bin/env bash
# The training state on disk, against torch.save, safetensors and torch.distributed.checkpoint.
# Options: --quick, --mib N, --folder DIR, --threads N (see checkpoint.py).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=python3
. tests/bench/peers/torch.sh  # or one with PyTorch

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target checkpoint >&2
exec "$python" tests/bench/checkpoint.py "$build/bin/checkpoint" "$@"
