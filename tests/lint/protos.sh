#!/usr/bin/env bash
# buf lint (STANDARD and COMMENTS), and buf breaking against the last release's descriptors.
#
#   tests/lint/protos.sh            check
#   tests/lint/protos.sh --release  make the present protos the new baseline; for releases only
set -euo pipefail
cd "$(dirname "$0")/../../proto"

buf="${MOE_CACHE_DIR:-$HOME/.cache/moe}/lint-venv/bin/buf"
[ -x "$buf" ] || { echo "buf is missing: run deploy/install_deps.sh test" >&2; exit 1; }
# buf keeps a cache and would look for a module registry only where buf.yaml named one.
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}"

if [ "${1:-}" = --release ]; then
  "$buf" build -o baseline.binpb
  exit 0
fi
"$buf" lint
"$buf" breaking --against baseline.binpb
echo "protos: lint and breaking are clean"
