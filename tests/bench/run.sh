#!/usr/bin/env bash
# Runs one benchmark: tests/bench/run.sh NAME [--quick] [options of the benchmark]
#
# Each prints a short table and, as its last line, one JSON object
#   {"bench": NAME, "goals": [{"name", "value", "goal", "met"}], "machine": ...}
# Run it with nothing else running. docs/benchmarks.md has what was measured.
set -euo pipefail
cd "$(dirname "$0")/../.."

names() { for f in tests/bench/*.sh; do f="$(basename "$f" .sh)"; [ "$f" = run ] || printf ' %s' "$f"; done; }

case "${1:-}" in
  -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; echo "benchmarks:$(names)"; exit 0 ;;
  '') echo "usage: tests/bench/run.sh NAME [--quick]; benchmarks:$(names)" >&2; exit 2 ;;
esac
script="tests/bench/$1.sh"
if [ "$1" = run ] || [ ! -x "$script" ]; then
  echo "no benchmark '$1'; benchmarks:$(names)" >&2
  exit 2
fi
shift
exec "$script" "$@"
