#!/usr/bin/env bash
# Balanced k-means against the package that the published code uses, k-means-constrained 0.9.1, from
# the same starting centres and for the same number of iterations.
# Options: --quick, --threads N, --iterations N (see clustering.py).
set -euo pipefail
cd "$(dirname "$0")/../.."

venv="${MOE_CACHE_DIR:-$HOME/.cache/moe}/clustering-venv"
python="$venv/bin/python"
if ! "$python" -c 'import k_means_constrained' 2>/dev/null; then
  { [ -x "$python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet k-means-constrained==0.9.1; } >&2 ||
    { echo "k-means-constrained could not be installed in $venv" >&2; exit 1; }
fi

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target clustering >&2
exec "$python" tests/bench/clustering.py "$build/bin/clustering" "$@"
