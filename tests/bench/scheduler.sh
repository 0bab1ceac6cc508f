#!/usr/bin/env bash
# One pass of the scheduler over 100,000 queued jobs and 10,000 workers, and a simulated day.
# Options: --quick (a day of 500 workers and 20,000 jobs instead of 10,000 and 1,000,000).
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target scheduler_bench >&2
machine="$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
exec "$build/bin/scheduler_bench" "$machine" "$@"
