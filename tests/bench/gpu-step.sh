#!/usr/bin/env bash
# The training step on a GPU: LLaMA-MoE-3.5B, bf16, 4,096 tokens. Runs the GPU's tests first. Without
# a GPU it says so and skips, with no goal met.
set -euo pipefail
cd "$(dirname "$0")/../.."

steps=10
[ "${1:-}" = --quick ] && steps=3

goals='{"name": "tokens_per_second", "value": null, "goal": 20000, "met": false},
 {"name": "training_state_gb", "value": null, "goal": 80, "met": false}'
skip() {
  echo "gpu-step: not measured: $1"
  echo "{\"bench\": \"gpu-step\", \"goals\": [${goals//$'\n'/}], \"skipped\": \"$1\", \"machine\": {}}"
  exit 0
}

[ -e /proc/driver/nvidia/version ] || skip "this machine has no NVIDIA GPU"
command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || skip "there is no nvcc to build the plug-in"
deploy/install_deps.sh test >&2
build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON -DMOE_CUDA=ON >&2
cmake --build "$build" --target moe_cuda gpu_step worker_cuda_test >&2
MOE_BIN_DIR="$build/bin" "$build/tests/worker_cuda_test" >&2
"$build/bin/gpu_step" "$build/bin" "$steps" | python3 tests/bench/gpu_step.py
