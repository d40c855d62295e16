# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The results as pictures (SVG, no library): what everything costs beside the peer, and how late messages are."""
import math
from xml.sax.saxutils import escape

from report import KINDS, PERCENTILES, figure, middle_latencies

COLOURS = {"mosquitto": "#b8bcc2", "sallyport": "#1f6f8b"}
INK, FAINT = "#24292f", "#d8dce1"
ROW, BAR, LEFT, WIDTH, RIGHT = 40, 13, 510, 1080, 90


def _text(x, y, words, anchor="start", size=13, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{INK}">{escape(words)}</text>')


def _page(title, note, rows, body):
    height = 74 + ROW * rows + 12
    legend = "".join(
        f'<rect x="{LEFT + 120 * i}" y="46" width="12" height="12" rx="2" fill="{colour}"/>' +
        _text(LEFT + 120 * i + 18, 57, name) for i, (name, colour) in enumerate(COLOURS.items()))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="system-ui, sans-serif" role="img"><title>{escape(title)}</title>'
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>' + _text(16, 28, title, size=17, weight="bold") +
            _text(16, 57, note, size=12) + legend + body + "</svg>\n")


def _bar(x, y, length, colour):
    return f'<rect x="{x}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>'


def costs(rows):
    """Each case as two bars; the longer one is as long as the page is wide, since the units differ. Rates are no costs."""
    drawn = [row for row in rows if set(COLOURS) <= set(row["median"]) and row["unit"] != "1/s"]
    room = WIDTH - LEFT - RIGHT
    body = ""
    for i, row in enumerate(drawn):
        top = 74 + ROW * i
        longest = max(row["median"][name] for name in COLOURS)
        body += _text(16, top + 18, row["what"].partition(" (")[0])
        for j, (name, colour) in enumerate(COLOURS.items()):
            value = row["median"][name]
            length = room * value / longest
            body += _bar(LEFT, top + 2 + (BAR + 2) * j, length, colour)
            body += _text(LEFT + length + 6, top + 13 + (BAR + 2) * j, f"{figure(value)} {row['unit'].split()[-1]}", size=11)
    return _page("What it costs: shorter is better", "server's own CPU and memory", len(drawn), body)


def _whisker(points, y, colour):
    """p50, p99 and p99.9 as three dots on a line."""
    dots = "".join(f'<circle cx="{p:.1f}" cy="{y}" r="{radius}" fill="{colour}"/>' for p, radius in zip(points, (5, 4, 3)))
    return f'<line x1="{points[0]:.1f}" y1="{y}" x2="{points[-1]:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>' + dots


def latencies(taken, names):
    """p50, p99, p99.9 of each case on a logarithmic axis. `names`: {case: what it is}."""
    low, high = 1.0, 6.0  # 10 µs to 1 s
    room = WIDTH - LEFT - 40

    def place(us):
        return LEFT + room * (min(max(math.log10(max(us, 1)), low), high) - low) / (high - low)
    timed = {}
    for case, server, kind, middle in middle_latencies(taken):
        if case in names:
            timed.setdefault((case, kind), {})[server] = middle
    drawn = [(names[case].partition(" (")[0] + KINDS[kind], by_server) for (case, kind), by_server in timed.items()
             if set(COLOURS) <= set(by_server)]
    bottom = 74 + ROW * len(drawn)
    body = "".join(
        f'<line x1="{place(us):.1f}" y1="70" x2="{place(us):.1f}" y2="{bottom}" stroke="{FAINT}"/>' +
        _text(place(us), bottom + 10, label, "middle", 11)
        for us, label in ((10, "10 µs"), (100, "100 µs"), (1e3, "1 ms"), (1e4, "10 ms"), (1e5, "100 ms"), (1e6, "1 s")))
    for i, (what, by_server) in enumerate(drawn):
        top = 74 + ROW * i
        body += _text(16, top + 18, what)
        for j, (name, colour) in enumerate(COLOURS.items()):
            points = [place(by_server[name][p]) for p in PERCENTILES]
            body += _whisker(points, top + 8 + 14 * j, colour)
    return _page("How late: further left is better", "dots: p50, p99, p99.9", len(drawn), body)


def write(folder, rows, taken):
    """Both pictures into `folder`."""
    folder.mkdir(exist_ok=True)
    names = {row["case"]: row["what"] for row in rows}
    (folder / "costs.svg").write_text(costs(rows), encoding="utf-8")
    (folder / "latencies.svg").write_text(latencies(taken, names), encoding="utf-8")
