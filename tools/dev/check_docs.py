#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""Files and folders that the documentation names in backticks exist: `gateway/tls/`, `tools/main.c`. In `tests/fuzz/NAME` NAME is any."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name not in ("build", ".git"))
NAMED = re.compile(r"`((?:%s)/[\w./*-]*)[^`\n]*`" % "|".join(map(re.escape, ROOMS)))


def main():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*/**/README.md"))]
    missing = 0
    for page in (p for p in pages if "build" not in p.relative_to(ROOT).parts):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for named in NAMED.findall(line):
                if next(ROOT.glob(re.sub(r"\b[A-Z]+\b", "*", named)), None) is None:
                    print(f"{page.relative_to(ROOT)}:{number}: there is no {named}")
                    missing += 1
    sys.exit(1 if missing else 0)


main()
