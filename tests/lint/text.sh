#!/usr/bin/env bash
# Spelling, and the few things that must not be in the tree: tabs, trailing blanks, broken links
# between our documents.
set -euo pipefail
cd "$(dirname "$0")/../.."

failed=0
mapfile -t texts < <(git ls-files -co --exclude-standard '*.md' '*.h' '*.cc' '*.cu' '*.proto' '*.py' '*.sh' '*.cmake' '*CMakeLists.txt' '*.yaml' '*.yml' | while read -r f; do [ -f "$f" ] && echo "$f"; done)

codespell --ignore-words-list=artefact,artefacts,nd,te,ot,ans,fo,hist,bu,crate,ro,inout,sie,dout,filetest,onother --skip='*golden*' \
  "${texts[@]}" || failed=1

mapfile -t code < <(printf '%s\n' "${texts[@]}" | grep -E '\.(h|cc|cu|py|sh|proto)$')
if grep -nP '\t' "${code[@]}" | grep -v '_test\.' ; then echo "text: tabs, see above" >&2; failed=1; fi
if grep -nP '[ \t]+$' "${texts[@]}"; then echo "text: trailing blanks, see above" >&2; failed=1; fi

python3 - <<'PY' || failed=1
import pathlib, re, subprocess, sys
bad = 0
files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True, check=True).stdout.split()
for name in files:
    path = pathlib.Path(name)
    if not path.exists():
        continue
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        if not (path.parent / target).exists():
            print(f"{name}: link to {target}, which does not exist")
            bad = 1
sys.exit(bad)
PY
[ "$failed" = 0 ] && echo "text: ${#texts[@]} files are clean"
exit "$failed"
