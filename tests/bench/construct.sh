#!/usr/bin/env bash
# A construct job on a synthetic checkpoint of LLaMA-2-7B's shapes: its rate against the disk's, and
# its peak memory. Options: --quick (2 of 32 layers), --layers N, --folder DIR (where the two models
# go, 1.9 GiB and 0.8 GiB a layer; default: a temporary folder) (see construct.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target moe-coordinator moe-worker moe-rank moectl >&2
export MOE_BIN_DIR="$PWD/$build/bin" PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/construct.py "$@"
