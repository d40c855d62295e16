# SPDX-License-Identifier: Apache-2.0
"""The results as a table for people, a file for programs, and a section of docs/performance.md."""
import datetime
import json
import os
import platform
import re
import subprocess

from measure import median

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
PERCENTILES = ("p50", "p99", "p999")
KINDS = {"latency_us": "", "ack_us": ", until PUBACK", "admission_us": ", until admitted"}


def _output(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def machine(root):
    """What the figures depend on."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        model = re.search(r"model name\s*: (.*)", info.read())
    with open("/etc/os-release", encoding="utf-8") as release:
        system = re.search(r'PRETTY_NAME="(.*)"', release.read())
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "-uno"])
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "system": system.group(1) if system else "unknown",
        "mosquitto": (_output(["mosquitto", "-h"]).splitlines() or ["none"])[0],
        "gnutls": _output(["dpkg-query", "-W", "-f", "${Version}", "libgnutls30"]),
        "commit": _output(["git", "-C", str(root), "rev-parse", "--short", "HEAD"]) +
                  (" and uncommitted changes" if changed else ""),
    }


def summarize(cases, samples):
    """Medians and ratios. `samples`: {case: {server: [figure of each round]}}."""
    rows = []
    for case in cases:
        taken = samples.get(case.name, {})
        row = {"case": case.name, "what": case.what, "unit": case.unit, "target": case.target,
               "contestants": list(case.ratio_of), "rounds": taken,
               "median": {name: median(values) for name, values in taken.items() if values}}
        middle = row["median"]
        ours, other = case.ratio_of
        if middle.get(other) and ours in middle:
            row["ratio"] = middle[ours] / middle[other]
            row["met"] = case.met(row["ratio"])
        if middle:
            rows.append(row)
    return rows


def figure(value):
    """For people."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _spread(row, name):
    values = row["rounds"].get(name, [])
    return f" ({figure(min(values))}–{figure(max(values))})" if len(values) > 1 else ""


def _cells(row):
    columns = ("mosquitto", "sallyport")
    versions = not set(row["median"]) & set(columns)  # two versions of our own, named in their cells
    cells = [row["what"], row["unit"]]
    for place, name in enumerate(reversed(row["contestants"]) if versions else columns):
        value = row["median"].get(name)
        cells.append(figure(value) + _spread(row, name) + (f" {name}" if versions else ""))
    ratio = row.get("ratio")
    cells.append("–" if ratio is None else f"{ratio:.2f}")
    verdict = "" if row.get("met") is None else " met" if row["met"] else " MISSED"
    cells.append(row["target"] + verdict)
    return cells


HEAD = ["what", "unit", "mosquitto", "sallyport", "ratio", "target"]


def table_text(rows):
    lines = [HEAD] + [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def page_markdown(rows, latencies, facts, rounds):
    """The section of docs/performance.md: the facts, pictures (bench/plot.py), both tables."""
    lines = [HEAD, ["---"] * len(HEAD)] + [_cells(row) for row in rows]
    told = (f"{facts['when']}, commit {facts['commit']}: {facts['cpu']}, {facts['cores']} cores, "
            f"{facts['system']}, Linux {facts['kernel']}, {facts['mosquitto']}, GnuTLS {facts['gnutls']}; "
            f"medians of {rounds} interleaved round{'s' if rounds > 1 else ''}, lowest and highest in brackets.")
    pictures = "![What it costs](performance/costs.svg)\n![How late](performance/latencies.svg)"
    late = [["latency, µs", "server", "p50", "p99", "p99.9"], ["---"] * 5, *latency_cells(rows, latencies)]
    return "\n\n".join((told, pictures, _markdown(lines), _markdown(late)))


def _markdown(lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def middle_latencies(latencies):
    """(case, server, kind, {percentile: median over the rounds}) of everything that was timed."""
    for case, by_server in latencies.items():
        for server, taken in by_server.items():
            for kind in sorted({one["kind"] for one in taken}):
                picked = [one for one in taken if one["kind"] == kind]
                yield case, server, kind, {p: median([one[p] for one in picked]) for p in PERCENTILES}


def latency_cells(rows, latencies):
    names = {row["case"]: row["what"] for row in rows}
    for case, server, kind, middle in middle_latencies(latencies):
        if case in names:
            yield [names[case].partition(" (")[0] + KINDS[kind], server, *(figure(middle[p]) for p in PERCENTILES)]


def latency_text(latencies):
    return "\n".join(f"{case:18} {server:10} {kind:13} " + "  ".join(f"{p} {middle[p]:9.1f}" for p in PERCENTILES)
                     for case, server, kind, middle in middle_latencies(latencies))


def write_json(path, rows, latencies, facts, rounds):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": facts, "rounds": rounds, "cases": rows, "latency_us": latencies},
                               indent=1) + "\n")


def update_page(path, markdown):
    """Put the table between the markers; the page has them."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{markdown}\n{END}{after}", encoding="utf-8")
