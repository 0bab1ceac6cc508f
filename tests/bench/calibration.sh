#!/usr/bin/env bash
# Mixtures of SmolLM2-135M by every method, as published and calibrated: the loss on held-out text of
# seven domains before any training and after equal training.
# Options: --quick (half the calibration text, a quarter of the held-out text, a fifth of the
# training), --methods NAME... (some of them), --folder DIR (where the models go: 25 GB; default: a
# temporary folder). Text is that of MOE_SHARED_DATA (default: ../shared/data).
set -euo pipefail
cd "$(dirname "$0")/../.."

model="${MOE_CACHE_DIR:-$HOME/.cache/moe}/models/smollm2-135m-instruct-q4_1.gguf"
text="${MOE_SHARED_DATA:-../shared/data}/redpajama_sample"
[ -e "$model" ] || { echo "calibration: no $model; run deploy/quickstart.sh" >&2; exit 1; }
[ -d "$text" ] || { echo "calibration: no $text; set MOE_SHARED_DATA" >&2; exit 1; }

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target moe-coordinator moe-worker moe-rank moe-prepare moectl >&2
export MOE_BIN_DIR="$PWD/$build/bin" PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/calibration.py "$(realpath "$model")" "$(realpath "$text")" "$@"
