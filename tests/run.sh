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
# Many tests wait for one another's processes; one more fills the gaps.
readonly TEST_JOBS=$((jobs + 1))
started="$(date +%s)"
say() { printf '== %s (%d s)\n' "$*" "$(($(date +%s) - started))"; }

say "installing what is missing"
deploy/install_deps.sh test

# $1 the preset, the rest: targets (default: all)
build() {
  local preset="$1"; shift
  say "building preset $preset"
  mkdir -p build
  cmake --preset "$preset" >"build/$preset.log" 2>&1 || { cat "build/$preset.log"; return 1; }
  if [ $# -gt 0 ]; then
    cmake --build --preset "$preset" -j "$jobs" --target "$@" -- --quiet
  else
    cmake --build --preset "$preset" -j "$jobs" -- --quiet
  fi
}

# What the sanitizers watch: everything that parses bytes from outside under asan and ubsan, what
# shares memory between threads under tsan. The gRPC services are left to the whole build of the
# presets (cmake --build --preset tsan), which takes too long for every run.
readonly ASAN_TESTS="common_test run_channel_test subprocess_test nearest_test term_test artefacts_test
  sample_sequence_test token_shard_test tokenizer_test documents_test prepare_test
  coordinator_schedule_test store_test"
readonly TSAN_TESTS="common_test run_channel_test subprocess_test prepare_test store_test"

failed=
if [ -z "$quick" ]; then
  for preset in asan tsan; do
    tests="$ASAN_TESTS"
    [ "$preset" = asan ] || tests="$TSAN_TESTS"
    # shellcheck disable=SC2086
    build "$preset" $tests
    say "testing preset $preset"
    # shellcheck disable=SC2086
    ctest --test-dir "build/$preset" -j "$TEST_JOBS" --output-on-failure --no-tests=error \
      -R "^($(printf '%s' $tests | sed 's/_test/_test|/g; s/|$//'))\$" || failed="$failed $preset"
  done
fi

build check
say "testing preset check"
ctest --test-dir build/check -j "$TEST_JOBS" --output-on-failure --no-tests=error "$@" || failed="$failed check"

if [ -n "$failed" ]; then
  echo "tests/run.sh: failed:$failed" >&2
  exit 1
fi
