#!/usr/bin/env python3
"""report_plot.py - one plot of an HTML report as an SVG file of its own, with its title, legend and style,
for a README or a slide.

Usage: report_plot.py REPORT.html 'Largest error of gdn_inverse' >plot.svg
The text is the beginning of the plot's title; without it the titles are listed.
"""

import re
import sys
from html import escape, unescape

WIDTH, TITLE, ROW, KEY = 480, 26, 22, 36  # of the plot, its title, a line of the legend, a key in it


def read_figures(page):
    for figure in re.findall(r"<figure>(.*?)</figure>", page, re.S):
        title = unescape(re.search(r"<figcaption>(.*?)</figcaption>", figure, re.S)[1])
        plot = re.search(r'<svg viewBox="0 0 \d+ (\d+)".*?</svg>', figure, re.S)
        keys = re.findall(r"<li>(<svg.*?</svg>)(.*?)</li>", figure, re.S)
        yield title, plot[0], int(plot[1]), keys


def place_legend(keys, top):
    """The keys in lines, as a browser would flow them, and the height they take."""
    parts, x, y = [], 8, top
    for key, name in keys:
        width = KEY + 7.5 * len(unescape(name)) + 18
        if x > 8 and x + width > WIDTH:
            x, y = 8, y + ROW
        parts.append(key.replace("<svg ", f'<svg x="{x}" y="{y}" width="32" height="14" ', 1))
        parts.append(f'<text x="{x + KEY}" y="{y + 11}">{name}</text>')
        x += width
    return "\n".join(parts), y + ROW - top


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        page = file.read()
    figures = list(read_figures(page))
    wanted = [f for f in figures if len(sys.argv) > 2 and f[0].startswith(sys.argv[2])]
    if not wanted:
        sys.exit("the plots are:\n" + "\n".join(figure[0] for figure in figures))
    title, plot, height, keys = wanted[0]
    legend, legend_height = place_legend(keys, TITLE + height + 8)
    total = TITLE + height + 8 + legend_height
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    plot = plot.replace("<svg ", f'<svg y="{TITLE}" width="{WIDTH}" height="{height}" ', 1)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
          f'font-family="system-ui, sans-serif">\n<style>{style}</style>\n'
          f'<rect width="{WIDTH}" height="{total}" style="fill: var(--paper)"/>\n'
          f'<text x="8" y="18" font-weight="600">{escape(title)}</text>\n{plot}\n{legend}\n</svg>')


if __name__ == "__main__":
    main()
