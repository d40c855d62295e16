#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cloud is away for a long time: how much memory does the backlog take, and how fast does it drain, in order?

    backlog.py [MESSAGES]     1000000 without one; exit status 1 when something was lost, store grew by more than 32 MiB, or it
                          drained at less than 20000/s
"""
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults.system import Ledger  # noqa: E402
from tools.lab.process import wait_for  # noqa: E402

GROWN = 32 << 20  # bytes
RATE = 20000  # messages a second


def resident(gateway):
    pid = gateway.children()["store"]
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def main():
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-backlog-"))
    ledger = Ledger(folder, 1, longest=200, extra="limits: {journal: 4GiB, journal_device: 4GiB}\n", threads=2, faults=False)
    gateway = ledger.gateway
    try:
        ledger.cloud.tell("window 1000")
        ledger.cloud.tell("away 1")
        wait_for(lambda: gateway.metric("cloud_links_connected") == 0, 10, "the cloud to be away")
        least = resident(gateway)
        first, began = gateway.metric("journal_messages"), time.monotonic()
        sizes = [least]
        while gateway.metric("journal_messages") < wanted:
            sizes.append(resident(gateway))
            time.sleep(0.2)
        filled = time.monotonic() - began
        ledger.producers.finish()
        held = gateway.metric("journal_messages")
        ledger.cloud.tell("away 0")
        while gateway.metric("cloud_links_connected") == 0:
            time.sleep(0.05)
        began = time.monotonic()
        while gateway.metric("journal_messages") > 0:
            sizes.append(resident(gateway))
            time.sleep(0.1)
        drained = time.monotonic() - began
        found, good, _ = ledger.check()
    finally:
        ledger.stop()
        shutil.rmtree(folder)
    grown = max(sizes) - least
    rate = held / drained
    print(f"{held} messages queued at {(held - first) / filled:.0f}/s, durable; store grew by {grown / 2**20:.1f} MiB; drained at "
          f"{rate:.0f}/s (at least {RATE}); {found['acked']} acknowledged, {found['lost']} lost, "
          f"{found['disorder'] + found['overtaken']} out of order")
    return 0 if good and grown < GROWN and rate > RATE else 1


if __name__ == "__main__":
    sys.exit(main())
