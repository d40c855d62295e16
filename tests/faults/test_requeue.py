# SPDX-License-Identifier: Apache-2.0
"""What the cloud refused for good is kept, can be taken out, and goes again when an operator says so."""
import json

import pytest

from tests.faults.system import Ledger
from tools.lab.process import wait_for


@pytest.mark.slow
def test_dead_letters_are_exported_and_put_back_beside_a_running_gateway(tmp_path):
    ledger = Ledger(tmp_path, 3, devices=4, rate=500)
    gateway = ledger.gateway
    try:
        ledger.cloud.tell("nack 0x99 20")

        def dead():
            return json.loads(gateway.cli("journal", "dead-letters", "--json").stdout)
        wait_for(lambda: len(dead()) > 20, 20, "dead letters")
        ledger.cloud.calm()
        wait_for(lambda: ledger.gateway_is_empty() or True)
        exported = [json.loads(line) for line in gateway.cli("journal", "export", "--dead-letters").stdout.splitlines()]
        assert {e["sequence"] for e in exported} <= {e["sequence"] for e in dead()}
        assert all(bytes.fromhex(e["payload"])[:4] == b"SPL1" and e["origin"].startswith("dt/dev") for e in exported)
        first = exported[0]["sequence"]
        assert "1 dead letters put back" in gateway.cli("journal", "requeue", "--sequence", first).stdout
        assert gateway.cli("journal", "requeue", "--sequence", first, check=False).returncode == 1
        assert gateway.cli("journal", "requeue", "--sequence", "x", check=False).returncode == 2
        assert f"{len(dead())} dead letters" in gateway.cli("journal", "requeue").stdout
        assert dead() == []
        ledger.drain(30)
        found, _, _ = ledger.check()
        assert found["lost"] == 0 and found["dead"] == 0 and found["delivered"] >= found["acked"] > 100
    finally:
        ledger.stop()
