#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""Instructions per operation, counted by callgrind: a figure that a busy machine does not change.

    bench/instructions.py            count, and compare with bench/results/instructions.json; exit 1 when one has grown by a tenth
    bench/instructions.py --write    count, and keep the counts as the ones to compare with
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "bench" / "results" / "instructions.json"
SHORT, LONG = 200, 1200
GROWTH = 1.10


def counted(program, operation, times):
    """Instructions of one run."""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, operation, str(times)],
                          capture_output=True, text=True, check=False, timeout=300)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        sys.exit(f"instructions.py: {operation}: exit {done.returncode}\n{done.stderr[-1000:]}")
    return int(found.group(1))


def measure(program):
    """{operation: instructions}, the set-up taken out by the difference of two runs."""
    names = subprocess.run([program, "list"], capture_output=True, text=True, check=True).stdout.split()
    return {name: round((counted(program, name, LONG) - counted(program, name, SHORT)) / (LONG - SHORT)) for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--build", default=os.environ.get("SALLYPORT_BUILD", str(ROOT / "build")))
    chosen = parser.parse_args()
    now = measure(f"{chosen.build}/bin/sallyport-guard")
    if chosen.write:
        KEPT.write_text(json.dumps(now, indent=1) + "\n")
    before = json.loads(KEPT.read_text(encoding="ascii"))
    grown = 0
    for name, count in now.items():
        ratio = count / before.get(name, count)
        grown += ratio > GROWTH
        print(f"{name:14} {count:9,} instructions  {ratio:5.2f} of what it was{'   GROWN' if ratio > GROWTH else ''}")
    print(f"{len(now) - grown} passed, {grown} failed")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
