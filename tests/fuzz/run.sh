#!/usr/bin/env bash
# Searches for inputs that break a reader: tests/fuzz/run.sh [SECONDS [TARGET...]]
#
# SECONDS per target (default 60); targets: gguf safetensors config tokenizer request. Needs clang. New
# inputs that reach new code go to build/fuzz/corpus/TARGET; a crash ends it, and the input is
# printed. Add what was worth finding to tests/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds="${1:-60}"
shift || true
[ $# -gt 0 ] || set -- gguf safetensors config tokenizer request

build="${MOE_FUZZ_BUILD_DIR:-build/fuzz}"
if [ ! -f "$build/build.ninja" ]; then
  cmake -G Ninja -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DMOE_WITH_TORCH=OFF -DMOE_FUZZ=ON -DMOE_SANITIZE=address,undefined,fuzzer-no-link >&2
fi
for target in "$@"; do
  cmake --build "$build" --target "fuzz_$target" >&2
  mkdir -p "$build/corpus/$target"
  # Leaks are looked for at the end: a stream ends by itself, a little after the request that began it.
  "$build/bin/fuzz_$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=10 \
    -detect_leaks=0 -print_final_stats=1 -artifact_prefix="$build/corpus/" "$build/corpus/$target" \
    "tests/fuzz/corpus/$target"
done
