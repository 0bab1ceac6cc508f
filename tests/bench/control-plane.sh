#!/usr/bin/env bash
# The control plane as its clients feel it, beside Slurm. Options: --quick, --no-slurm (see
# control_plane.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target moe-coordinator moe-worker moectl control_load noop_rank >&2
export MOE_BIN_DIR="$PWD/$build/bin" PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/control_plane.py "$@"
