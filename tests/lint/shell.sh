#!/usr/bin/env bash
# Every script through shellcheck, every YAML file through yamllint.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t scripts < <(git ls-files -co --exclude-standard '*.sh' '.ci/run' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
shellcheck --severity=warning "${scripts[@]}"
mapfile -t yamls < <(git ls-files -co --exclude-standard '*.yaml' '*.yml' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
yamllint -d '{extends: default, rules: {document-start: disable, line-length: {max: 160}, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}, truthy: {check-keys: false}}}' "${yamls[@]}"
echo "shell: ${#scripts[@]} scripts and ${#yamls[@]} YAML files are clean"
