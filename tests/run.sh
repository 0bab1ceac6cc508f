#!/usr/bin/env bash
# Installs what the tests need, builds, and runs every test and check.
#
#   tests/run.sh                everything: the sanitizer builds first, then the whole suite
#   tests/run.sh --quick        without the sanitizer builds
#   tests/run.sh [--quick] -- ARGS   ARGS go to the last ctest, as in: tests/run.sh --quick -- -R scheduler -V
#
# Ends in ctest's own summary. Real data for the numerics tests is read from MOE_SHARED_DATA where
# that is set (default: ../shared/data if it exists); tests that want it skip without.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=1 ;;
    --) shift; break ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done

if [ -z "${MOE_SHARED_DATA:-}" ] && [ -d ../shared/data ]; then
  MOE_SHARED_DATA="$(cd ../shared/data && pwd)"
  export MOE_SHARED_DATA
fi
jobs="$(nproc)"
started="$(date +%s)"
say() { printf '== %s (%d s)\n' "$*" "$(($(date +%s) - started))"; }

say "installing what is missing"
deploy/install_deps.sh test

build() {
  say "building preset $1"
  cmake --preset "$1" >"build-$1.log" 2>&1 || { cat "build-$1.log"; rm -f "build-$1.log"; return 1; }
  rm -f "build-$1.log"
  cmake --build --preset "$1" -j "$jobs" -- --quiet
}

failed=
if [ -z "$quick" ]; then
  # The sanitizers watch everything that has no LibTorch in it, and our own kernels.
  for preset in asan tsan; do
    build "$preset"
    say "testing preset $preset"
    ctest --preset "$preset" -L 'unit|integration' -LE torch -j "$jobs" --output-on-failure || failed="$failed $preset"
  done
fi

build dev
say "testing preset dev"
ctest --test-dir build/dev --output-on-failure "$@" || failed="$failed dev"

if [ -n "$failed" ]; then
  echo "tests/run.sh: failed:$failed" >&2
  exit 1
fi
