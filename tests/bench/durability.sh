#!/usr/bin/env bash
# kill -9 of the daemons at random moments under load. Options: --quick, --kills N, --seed N,
# --victims coordinator worker both, --no-slurm (see durability.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target moe-coordinator moe-worker moectl control_load noop_rank >&2
export MOE_BIN_DIR="$PWD/$build/bin" PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/durability.py "$@"
