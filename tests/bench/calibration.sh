#!/usr/bin/env bash
# Where mixtures of SmolLM2-135M start before any training: the published construction and each part
# of calibration, by the loss on held-out text of seven domains.
# Options: --quick (half the calibration text, a quarter of the held-out text, four of the rows),
# --threads N, --dataset FOLDER (a dataset artefact of SmolLM2's vocabulary; default: the newest that
# the quickstart has made).
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
model="$cache/models/smollm2-135m-instruct-q4_1.gguf"
datasets="${MOE_HOME:-$HOME/.local/share/moe}/artefacts/dataset"
dataset="" threads="$(nproc)" quick=""
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=--quick ;;
    --threads) threads="$2"; shift ;;
    --dataset) dataset="$2"; shift ;;
    *) echo "calibration: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
[ -n "$dataset" ] || dataset="$(find "$datasets" -mindepth 1 -maxdepth 1 2>/dev/null | sort -V | tail -n 1)"
[ -e "$model" ] && [ -e "$dataset/manifest.json" ] || {
  echo "calibration: no $model or no dataset; run deploy/quickstart.sh, or give --dataset" >&2; exit 1; }

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target calibration >&2
"$build/bin/calibration" "$model" "$dataset" "$threads" $quick
