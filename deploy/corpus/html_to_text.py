#!/usr/bin/env python3
"""Turns the HTML of manuals into plain text: what a reader reads, without navigation and mark-up.

  html_to_text.py FILE...      prints the text of each
"""
import html.parser
import re
import sys

SKIPPED = {"head", "script", "style", "nav", "svg", "form", "button"}
SKIPPED_CLASSES = re.compile(
    r"\b(navheader|navfooter|related|sphinxsidebar|footer|top|toplang|bottomlang|headerlink|toc"
    r"|skip-link|sidebar|navigation|page-header|path)\b"
)
BLOCKS = {
    "p", "div", "section", "article", "main", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl",
    "dt", "dd", "table", "tr", "blockquote", "pre", "hr", "body", "html",
}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class TextExtractor(html.parser.HTMLParser):
    """Collects paragraphs; `pre` keeps its line breaks, list items begin with a dash."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs = []
        self._current = []
        self._open = []  # (tag, whether everything inside is left out)
        self._preformatted = 0

    def handle_starttag(self, tag, attrs):
        if tag in BLOCKS or tag == "li":
            self._end_paragraph()
        if tag == "li":
            self._current.append("- ")
        if tag == "br":
            self._current.append("\n")
        if tag in ("td", "th"):
            self._current.append("  ")
        if tag == "pre":
            self._preformatted += 1
        if tag in VOID:
            return
        # An unclosed <p> or <li> ends where the next begins.
        if tag in ("p", "li", "dt", "dd", "td", "th", "tr") and self._open and self._open[-1][0] == tag:
            self._open.pop()
        inherited = bool(self._open) and self._open[-1][1]
        names = " ".join(value or "" for key, value in attrs if key in ("class", "id"))
        self._open.append((tag, inherited or tag in SKIPPED or bool(SKIPPED_CLASSES.search(names))))

    def handle_startendtag(self, tag, attrs):
        if tag in VOID:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag in BLOCKS or tag == "li":
            self._end_paragraph()
        if tag == "pre":
            self._preformatted = max(0, self._preformatted - 1)
        for depth in range(len(self._open) - 1, -1, -1):
            if self._open[depth][0] == tag:
                del self._open[depth:]
                break

    def handle_data(self, data):
        if self._open and self._open[-1][1]:
            return
        self._current.append(data if self._preformatted else re.sub(r"\s+", " ", data))

    def _end_paragraph(self):
        text = "".join(self._current)
        self._current = []
        if not self._preformatted:
            text = "\n".join(re.sub(r" +", " ", line).strip() for line in text.split("\n"))
        if text.strip(" -\n\t"):
            self.paragraphs.append(text.strip("\n"))


def html_to_text(content):
    extractor = TextExtractor()
    extractor.feed(content)
    extractor.close()
    extractor._end_paragraph()
    return "\n\n".join(extractor.paragraphs)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8", errors="replace") as file:
            print(html_to_text(file.read()))
