#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cloud is away for a long time: how much memory does the backlog take, and how fast does it drain, in order?

    backlog.py [MESSAGES]     1000000 without one; exit status 1 when something was lost or store grew by more than 32 MiB
"""
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults.system import Ledger  # noqa: E402


def resident(gateway):
    pid = gateway.children()["store"]
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-backlog-"))
    ledger = Ledger(folder, 1, longest=200, extra="limits: {journal: 4GiB, journal_device: 4GiB}\n", threads=2)
    gateway = ledger.gateway
    try:
        ledger.cloud.tell("window 1000")
        ledger.cloud.tell("away 1")
        time.sleep(1)
        before = resident(gateway)
        began = time.monotonic()
        while gateway.metric("journal_messages") < wanted:
            time.sleep(0.5)
        filled = time.monotonic() - began
        ledger.producers.finish()
        held = gateway.metric("journal_messages")
        full = resident(gateway)
        ledger.cloud.tell("away 0")
        while gateway.metric("cloud_links_connected") == 0:
            time.sleep(0.05)
        began = time.monotonic()
        while gateway.metric("journal_messages") > 0:
            time.sleep(0.05)
        drained = time.monotonic() - began
        peak = max(full, resident(gateway))
        found, good, _ = ledger.check()
    finally:
        ledger.stop()
        shutil.rmtree(folder)
    grown = peak - before
    print(f"{held} messages queued at {held / filled:.0f}/s; store grew by {grown / 2**20:.1f} MiB; drained at "
          f"{held / drained:.0f}/s; {found['acked']} acknowledged, {found['lost']} lost, {found['disorder']} out of order")
    return 0 if good and grown < 32 << 20 else 1


if __name__ == "__main__":
    sys.exit(main())
