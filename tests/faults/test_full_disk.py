# SPDX-License-Identifier: Apache-2.0
"""The disk is full, and again: nothing crashes, nothing is acknowledged that is not kept, and all that was accepted arrives."""
import os
import time

import pytest

from tests.faults.system import Ledger

SECONDS = float(os.environ.get("FULL_DISK_SECONDS", "3"))


@pytest.mark.slow
def test_a_full_disk_refuses_loses_nothing_and_recovers(tmp_path):
    ledger = Ledger(tmp_path, 4, devices=8, rate=1500)
    gateway = ledger.gateway
    try:
        ledger.cloud.tell("away 1")  # nothing leaves, so the files have to grow
        for again in (False, True):
            time.sleep(1)
            pids = gateway.children()
            gateway.faults["full"] = 1
            time.sleep(SECONDS)
            assert gateway.events("journal_failed"), "it never noticed"
            assert gateway.children() == pids, "a process died of a full disk"
            refused = gateway.metric("journal_refused_total")
            assert refused > 0
            if again:
                gateway.kill_all()
            gateway.faults["full"] = 0
            if again:
                gateway.start()
            appended = gateway.metric("journal_appended_total")
            time.sleep(3)
            assert gateway.metric("journal_appended_total") > appended + 100, "it takes messages again"
        ledger.cloud.calm()
        ledger.drain(60)
        found, good, details = ledger.check()
        assert good, (found, details)
        assert found["refused"] > 0 and found["acked"] > 1000
    finally:
        ledger.stop()
