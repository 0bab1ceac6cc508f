#!/usr/bin/env bash
# The training step against the speed of its own matrix products, against plain PyTorch and against
# transformers' Mixtral.
# Options: --quick, --threads N, --type bf16|fp32, --shape smollm2|slice7b (see train_step.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
venv="$cache/bench-venv"

# PyTorch as the wheel has it, with the few libraries that its import needs. CUDA's own come from a
# toolkit where there is one. Where any of it fails, the benchmark says so and goes on without.
install_peer() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-deps torch==2.11.0 nvidia-cufile \
    nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5
  "$venv/bin/pip" install --quiet typing-extensions sympy networkx jinja2 fsspec filelock numpy \
    setuptools
  # Named as missing in the report where it is.
  "$venv/bin/pip" install --quiet transformers || true
}
export LD_LIBRARY_PATH="/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
python="$venv/bin/python"
if ! "$python" -c 'import torch' 2>/dev/null; then
  install_peer >&2 || echo "PyTorch could not be installed in $venv" >&2
fi
[ -x "$python" ] || python=python3

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target train_step >&2
exec "$python" tests/bench/train_step.py "$build/bin/train_step" "$@"
