#!/usr/bin/env bash
# One rank against two, and the model of many. Options: --quick (see scaling.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target scaling >&2
exec python3 tests/bench/scaling.py "$build/bin/scaling" "$@"
