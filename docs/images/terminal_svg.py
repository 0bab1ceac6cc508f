#!/usr/bin/env python3
"""Draws text as a terminal window: docs/images/terminal_svg.py TITLE < text > picture.svg"""
import html
import sys

FONT, WIDTH, HEIGHT, MARGIN, BAR = 13, 7.83, 17, 16, 30


def main() -> None:
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width = max(len(line) for line in lines) * WIDTH + 2 * MARGIN
    height = len(lines) * HEIGHT + 2 * MARGIN + BAR
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
          f'width="{width:.0f}" height="{height:.0f}">')
    print('<rect width="100%" height="100%" rx="8" fill="#1e1e2e"/>')
    for i, colour in enumerate(("#f38ba8", "#f9e2af", "#a6e3a1")):
        print(f'<circle cx="{MARGIN + 6 + 18 * i}" cy="{BAR // 2 + 2}" r="5.5" fill="{colour}"/>')
    print(f'<text x="{width / 2:.0f}" y="{BAR // 2 + 6}" fill="#a6adc8" font-family="monospace" '
          f'font-size="{FONT}" text-anchor="middle">{html.escape(sys.argv[1])}</text>')
    print(f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}" '
          'fill="#cdd6f4" xml:space="preserve">')
    for i, line in enumerate(lines):
        y = BAR + MARGIN + (i + 0.75) * HEIGHT
        colour = ' fill="#89b4fa"' if line.startswith("$ ") else ""
        print(f'<text x="{MARGIN}" y="{y:.1f}" textLength="{len(line) * WIDTH:.1f}"{colour}>'
              f'{html.escape(line)}</text>')
    print("</g></svg>")


if __name__ == "__main__":
    main()
