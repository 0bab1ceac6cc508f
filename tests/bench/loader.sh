#!/usr/bin/env bash
# The trainer's reader, beside what the fastest trainer needs. Option: --quick.
set -euo pipefail
cd "$(dirname "$0")/../.."

build="${MOE_BUILD_DIR:-build/bench}"
[ -f "$build/build.ninja" ] || cmake --preset release -B "$build" -DMOE_BUILD_TESTS=ON >&2
cmake --build "$build" --target loader >&2
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"$build/bin/loader" "$folder" "$@" | python3 tests/bench/loader.py
