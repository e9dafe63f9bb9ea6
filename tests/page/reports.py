#!/usr/bin/env python3
"""reports.py - the example results as HTML reports: valid, without outside requests, readable on a phone
and on paper, in both colour schemes, each plot drawn inside its frame with no text upon another.

Usage: reports.py --tool build/dev/report_tool --results tests/data/results --shots build/page
"""

import argparse
import subprocess
import sys
from pathlib import Path

import html5lib
from browser import PHONE, WIDE, Browser, run

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--tool", required=True)
parser.add_argument("--results", type=Path, required=True)
parser.add_argument("--shots", type=Path, required=True)
args = parser.parse_args()
browser = Browser(args.shots)
RESULTS = sorted(args.results.glob("*.json"))


def html(result):
    return subprocess.run([args.tool, result, "html"], check=True, capture_output=True).stdout


def open_report(result):
    path = args.shots.resolve() / f"report_{result.stem}.html"
    path.write_bytes(html(result))
    browser.driver.get(path.as_uri())


# Texts of plots that lie upon another one, or leave the picture.
COLLISIONS = """
    const found = [];
    for (const svg of document.querySelectorAll('figure > svg')) {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].filter((t) => t.getClientRects().length &&
            t.textContent.trim()).map((t) => [t.textContent, t.getBoundingClientRect()]);
        for (const [a, p] of texts) {
            if (p.left < frame.left - 1 || p.right > frame.right + 1 || p.bottom > frame.bottom + 1)
                found.push(`'${a}' leaves its plot`);
            for (const [b, q] of texts)
                if (p !== q && p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 4 &&
                    q.top < p.bottom - 4) found.push(`'${a}' lies on '${b}'`);
        }
    }
    return found.slice(0, 5);"""


def test_html_is_valid():
    for result in RESULTS:
        checked = html5lib.HTMLParser(strict=True).parse(html(result))
        assert checked is not None, result


def test_nothing_runs_or_is_fetched():
    for result in RESULTS:
        open_report(result)
        assert not browser.js("return document.scripts.length + document.images.length"), result
    outside = [url for url in browser.requested() if not url.startswith(("file:", "data:"))]
    assert not outside, outside
    assert not browser.console()


def test_plots_are_drawn():
    for result in RESULTS:
        open_report(result)
        for size in (WIDE, PHONE):
            browser.screen(size)
            found = browser.js(COLLISIONS)
            assert not found, f"{result.stem} at {size[0]} px: {found}"
            empty = browser.js("""return [...document.querySelectorAll('figure > svg')].filter((svg) =>
                svg.getBoundingClientRect().height < 60 || !svg.querySelector(
                '.mark, .curve, .bar, .heat') || !svg.querySelector('title, desc')).length""")
            assert not empty, f"{empty} empty plots in {result.stem}"
    browser.screen()


def test_marks_lie_inside_their_plots():
    for result in RESULTS:
        open_report(result)
        out = browser.js("""return [...document.querySelectorAll('figure .mark, figure .bar')].filter((m) => {
            const p = m.getBoundingClientRect(), q = m.closest('svg').getBoundingClientRect();
            return !(p.left >= q.left - 1 && p.right <= q.right + 1 && p.top >= q.top - 1 &&
                p.bottom <= q.bottom + 1); }).length""")
        assert out == 0, f"{out} marks outside in {result.stem}"


def test_screens_and_colours():
    for result in RESULTS:
        open_report(result)
        for size, width in ((WIDE, "wide"), (PHONE, "phone")):
            for dark in (False, True):
                browser.screen(size, dark)
                scheme = "dark" if dark else "light"
                browser.check_fits(f"{result.stem} {width}")
                browser.check_axe(f"{result.stem} {width} {scheme}")
                browser.shot(f"report_{result.stem}_{width}_{scheme}")
    browser.screen()


def test_prints():
    for result in RESULTS:
        open_report(result)
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        browser.shot(f"report_{result.stem}_print")
        hidden = browser.js("return [...document.querySelectorAll('details')].filter((d) => "
                            "d.getClientRects().length).length")
        assert hidden == 0, "closed details take room on paper"
    browser.screen()


try:
    status = run(dict(globals()), browser)
finally:
    browser.quit()
sys.exit(status)
