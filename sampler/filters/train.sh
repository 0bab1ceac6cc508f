#!/usr/bin/env bash
# Makes sampler/filters/models again, byte for byte, from the RedPajama sample in $MOE_SHARED_DATA, and
# prints how good they are.
#
#   sampler/filters/train.sh [OUT]      default: sampler/filters/models
set -euo pipefail
cd "$(dirname "$0")/../.."

out="${1:-sampler/filters/models}"
sample="${MOE_SHARED_DATA:?must name the folder that holds redpajama_sample}/redpajama_sample"
build="${MOE_BUILD_DIR:-build/dev}"
cmake --build "$build" --target train_filters >&2
exec "$build/bin/train_filters" --web "$sample/c4-rp" \
  --good "$sample/wiki" --good "$sample/book" --good "$sample/cc" \
  --labels sampler/filters/labels.tsv --out "$out"
