#!/usr/bin/env python3
"""Makes the documents of the seven domains from unpacked Debian packages.

  make_documents.py UNPACKED OUT

UNPACKED/PACKAGE is the content of a package; OUT/DOMAIN/PACKAGE.jsonl gets one {"text", "source"} a
line. The choice is fixed, so the same packages give the same corpus.
"""
import gzip
import json
import pathlib
import re
import subprocess
import sys

from html_to_text import html_to_text

DICT_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
MIN_CHARACTERS = 200
MAX_CHARACTERS = 60_000


class Corpus:
    def __init__(self, out):
        self.out = pathlib.Path(out)

    def write(self, domain, package, documents, limit_bytes):
        """Keeps every k-th document, so that the kept ones are spread and fit `limit_bytes`."""
        documents = [
            (source, text.strip() + "\n")
            for source, text in documents
            if MIN_CHARACTERS <= len(text.strip()) <= MAX_CHARACTERS
        ]
        if not documents:
            sys.exit(f"make_documents.py: package {package} holds no text for {domain}; has its layout changed?")
        total = sum(len(text.encode()) for _, text in documents)
        stride = max(1, -(-total // limit_bytes))
        kept = documents[::stride]
        folder = self.out / domain
        folder.mkdir(parents=True, exist_ok=True)
        size = 0
        with open(folder / f"{package}.jsonl", "w", encoding="utf-8") as file:
            for source, text in kept:
                size += len(text.encode())
                file.write(json.dumps({"text": text, "source": source}, ensure_ascii=False) + "\n")
        print(f"  {domain:14} {package:24} {len(kept):5} documents {size / 1e6:5.2f} MB", flush=True)


def read(path):
    opener = gzip.open if path.suffix in (".gz", ".dz") else open
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", errors="replace")


def dictionary(root, name):
    """The entries of a dictd dictionary, through its index of offsets."""
    data = gzip.open(root / f"usr/share/dictd/{name}.dict.dz").read()
    spans = set()
    for line in (root / f"usr/share/dictd/{name}.index").read_text("utf-8", "replace").splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and not fields[0].startswith("00database"):
            numbers = []
            for field in fields[1:]:
                number = 0
                for digit in field:
                    number = number * 64 + DICT_DIGITS.index(digit)
                numbers.append(number)
            spans.add(tuple(numbers))
    for begin, size in sorted(spans):
        text = data[begin : begin + size].decode("utf-8", errors="replace")
        # Cross-references look {like this}.
        yield name, re.sub(r"\{([^{}]*)\}", r"\1", text)


def html_pages(root, folder, pattern="*.html"):
    for path in sorted((root / folder).rglob(pattern)):
        if path.is_file():
            yield str(path.relative_to(root)), html_to_text(read(path))


def perl_questions(root):
    for path in sorted(root.glob("usr/share/perl/*/pod/perlfaq[1-9].pod")):
        for section in re.split(r"^=head2 ", read(path), flags=re.M)[1:]:
            question, _, answer = section.partition("\n")
            text = f"Q: {question}\n\nA: {answer.split('=head1')[0].strip()}"
            text = re.sub(r"^=(item|over|back|cut|head\d|for|begin|end)\b ?", "", text, flags=re.M)
            # C<code>, L<text|link>, E<lt>: formatting codes, innermost first.
            for _ in range(3):
                text = re.sub(r"L<([^<>|]*)\|[^<>]*>", r"\1", text)
                text = re.sub(r"[BCFILSX]<<?<?\s*([^<>]*?)\s*>?>?>", r"\1", text)
            text = text.replace("E<lt>", "<").replace("E<gt>", ">")
            yield path.name, text


def debian_questions(root):
    for path in sorted(root.glob("usr/share/doc/debian/FAQ/*.en.html")):
        text = html_to_text(read(path))
        for section in re.split(r"\n\n(?=\d+\.\d+\.\s)", text)[1:]:
            question, _, answer = section.partition("\n\n")
            yield path.name, f"Q: {re.sub(r'^[0-9.]+', '', question).strip()}\n\nA: {answer}"


def papers(root):
    """The vignettes of R packages are papers in LaTeX; the R code between <<...>>= and @ is left out."""
    for path in sorted(root.rglob("doc/*.Rnw")):
        text = re.sub(r"^<<.*?>>=.*?^@[^\n]*\n", "", read(path), flags=re.M | re.S)
        # Sections, because a paper is long and a corpus wants many documents.
        for section in re.split(r"^(?=\\section\{)", text, flags=re.M):
            yield path.name, section


def bible(program_root, text_root):
    """Chapters, from the reader that comes with the text."""
    data = text_root / "usr/lib/bible.data"
    program = program_root / "usr/bin/bible"
    whole = subprocess.run(
        [program, "-l100000", "-d", data.name, "-p", str(data.parent), "gen1:1-rev22:21"],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, text=True, errors="replace",
    ).stdout
    # A chapter is its title at the start of a line and its verses, numbered and indented.
    for chapter in re.split(r"^(?=[1-9A-Z])", whole, flags=re.M):
        title = chapter.partition("\n")[0].strip()
        yield title, re.sub(r"^ +\d+ ", "", chapter, flags=re.M)


def source_files(root, patterns):
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(root)), read(path)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    unpacked = pathlib.Path(sys.argv[1])
    corpus = Corpus(sys.argv[2])

    corpus.write("commoncrawl", "postgresql-doc-15",
                 html_pages(unpacked / "postgresql-doc-15", "usr/share/doc/postgresql-doc-15/html"), 3_000_000)
    corpus.write("commoncrawl", "developers-reference",
                 html_pages(unpacked / "developers-reference", "usr/share/developers-reference"), 500_000)
    corpus.write("c4", "apache2-doc",
                 html_pages(unpacked / "apache2-doc", "usr/share/doc/apache2-doc/manual/en"), 1_500_000)
    corpus.write("c4", "debian-policy",
                 html_pages(unpacked / "debian-policy", "usr/share/doc/debian-policy/policy.html"), 500_000)
    corpus.write("github", "libpython3.11-stdlib",
                 source_files(unpacked / "libpython3.11-stdlib",
                              ["usr/lib/python3.11/*.py", "usr/lib/python3.11/*/*.py"]), 900_000)
    corpus.write("github", "libfmt-dev", source_files(unpacked / "libfmt-dev", ["usr/include/fmt/*.h"]), 300_000)
    corpus.write("github", "libcli11-dev",
                 source_files(unpacked / "libcli11-dev", ["usr/include/CLI/*.hpp"]), 300_000)
    corpus.write("wikipedia", "dict-foldoc", dictionary(unpacked / "dict-foldoc", "foldoc"), 900_000)
    corpus.write("wikipedia", "dict-jargon", dictionary(unpacked / "dict-jargon", "jargon"), 400_000)
    corpus.write("books", "bible-kjv-text",
                 bible(unpacked / "bible-kjv", unpacked / "bible-kjv-text"), 1_000_000)
    corpus.write("books", "dict-devil", dictionary(unpacked / "dict-devil", "devil"), 400_000)
    for package in sorted(path.name for path in unpacked.glob("r-cran-*")):
        corpus.write("arxiv", package, papers(unpacked / package), 300_000)
    corpus.write("stackexchange", "perl-doc", perl_questions(unpacked / "perl-doc"), 700_000)
    corpus.write("stackexchange", "debian-faq", debian_questions(unpacked / "debian-faq"), 300_000)


if __name__ == "__main__":
    main()
