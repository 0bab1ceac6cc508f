#!/usr/bin/env bash
# The training step against the speed of its own matrix products, against plain PyTorch and against
# transformers' Mixtral.
# Options: --quick, --threads N, --type bf16|fp32, --shape smollm2|slice7b (see train_step.py).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=python3
. tests/bench/peers/torch.sh  # or one with PyTorch

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target train_step >&2
exec "$python" tests/bench/train_step.py "$build/bin/train_step" "$@"
