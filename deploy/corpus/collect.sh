#!/usr/bin/env bash
# Collects the text that a first run reads: real documents from Debian packages, for seven domains.
#
#   deploy/corpus/collect.sh DIR
#
# Downloads about 40 MB of packages and unpacks them without installing anything; needs no root.
# Leaves DIR/DOMAIN/*.jsonl, about 9 MB. A second run takes no time. All packages are in Debian's
# main section, so their texts may be used, changed and passed on; the licence of each is in
# /usr/share/doc/PACKAGE/copyright of the package.
set -euo pipefail

# commoncrawl: manuals as web pages     c4: more of them          github: source code
# wikipedia: dictionaries of computing  books: old books          arxiv: papers in LaTeX
# stackexchange: questions and answers
readonly PACKAGES=(
  postgresql-doc-15 developers-reference
  apache2-doc debian-policy
  libpython3.11-stdlib libfmt-dev libcli11-dev
  dict-foldoc dict-jargon
  bible-kjv bible-kjv-text dict-devil
  r-cran-coin r-cran-lme4 r-cran-lmtest r-cran-multcomp r-cran-mvtnorm r-cran-party
  r-cran-sandwich r-cran-strucchange r-cran-vcd r-cran-zoo
  perl-doc debian-faq
)

say() { printf '%s\n' "collect: $*" >&2; }
die() { say "error: $*"; exit 1; }

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here

case "${1:-}" in
  -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
  '' | -*) say "usage: deploy/corpus/collect.sh DIR"; exit 2 ;;
esac
[ $# -eq 1 ] || { say "usage: deploy/corpus/collect.sh DIR"; exit 2; }
for tool in apt-get dpkg-deb python3; do
  command -v "$tool" >/dev/null || die "$tool is missing; this needs Debian 12 with python3"
done
mkdir -p "$1"
dir="$(cd "$1" && pwd)"
readonly dir

# Names that begin with a dot are not read by moe-prepare.
readonly stamp="$dir/.complete" work="$dir/.work"
recipe="$(cat "$here"/collect.sh "$here"/*.py | cksum)"
readonly recipe
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$recipe" ]; then
  say "$dir is complete"
  exit 0
fi
rm -rf "$work" "$stamp"
mkdir -p "$work/debs" "$work/unpacked" "$work/corpus"
trap 'rm -rf "$work"' EXIT

# The machine's package lists may be missing or old, and only root may renew them: then we fetch
# lists of our own.
own_lists=()
update_own_lists() {
  own_lists=(-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  say "fetching package lists"
  apt-get "${own_lists[@]}" -o Debug::NoLocking=1 -o APT::Sandbox::User=root -qq update ||
    die "cannot fetch the package lists; is a Debian mirror in reach?"
}
download() {
  (cd "$work/debs" &&
    apt-get "${own_lists[@]}" -o APT::Sandbox::User=root -qq download "$@") >"$work/log" 2>&1
}
say "downloading ${#PACKAGES[@]} packages"
if ! download "${PACKAGES[@]}"; then
  update_own_lists
  for package in "${PACKAGES[@]}"; do
    compgen -G "$work/debs/${package}_*.deb" >/dev/null && continue
    download "$package" ||
      die "cannot download the package $package: $(tail -n 1 "$work/log")"
  done
fi

for package in "${PACKAGES[@]}"; do
  dpkg-deb -x "$work/debs/${package}"_*.deb "$work/unpacked/$package" ||
    die "cannot unpack the package $package"
done
say "making documents"
python3 "$here/make_documents.py" "$work/unpacked" "$work/corpus" >&2
for domain in "$work"/corpus/*; do
  rm -rf "${dir:?}/$(basename "$domain")"
  mv "$domain" "$dir/"
done
printf '%s' "$recipe" >"$stamp"
say "$dir holds $(cat "$dir"/*/*.jsonl | wc -l) documents, $(du -sh --exclude=.work "$dir" | cut -f1)"
