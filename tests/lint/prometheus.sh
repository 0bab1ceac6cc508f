#!/usr/bin/env bash
# promtool on the scrape configuration and the alert rules, and the rules' own tests.
set -euo pipefail
cd "$(dirname "$0")/../../deploy/prometheus"
promtool check config --syntax-only prometheus.yml
promtool check rules rules.yml
promtool test rules rules_test.yml
