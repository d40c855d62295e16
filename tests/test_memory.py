# SPDX-License-Identifier: Apache-2.0
"""Memory stays flat however many devices come, attest, publish and go (issue 2)."""
import json
import re
import subprocess

import pytest

from tools.lab.cloud import Cloud
from tools.lab.gateway import Gateway
from tools.lab.process import program, run, wait_for

DEVICES = 64
WARM_UP = 5000
CYCLES = 10000
ALLOWED_KIB = 256


@pytest.fixture
def system(tmp_path):
    cloud = Cloud(tmp_path / "cloud").start()
    gateway = Gateway(tmp_path / "home", cloud, threads=2)
    fleet = tmp_path / "fleet.jsonl"
    reference = run(program("sallyport-fleet"), "keys", "--fleet", fleet, "--sensors", DEVICES).stdout
    gateway.cli("reference", "add", *reference.split())
    gateway.cli("device", "add", "--from", fleet)
    yield gateway.start(), fleet
    gateway.stop()
    cloud.stop()


def cycle(gateway, fleet, count):
    """So many times: connect, attest, publish one record that the journal takes, disconnect."""
    done = subprocess.run([program("sallyport-fleet"), "connect", "--fleet", fleet, "--gateway",
                           f"127.0.0.1:{gateway.port}", "--count", str(count), "--publish"],
                          stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["admitted"] == count and not result["complaints"], result
    wait_for(lambda: gateway.metric("journal_messages") == 0, 60, "the cloud to have everything")


def memory_kib(gateway):
    """What each process holds of its own; file pages come and go with the page cache and say nothing."""
    def resident(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return int(re.search(r"^RssAnon:\s+(\d+) kB", status.read(), re.M).group(1))
    return {name: resident(pid) for name, pid in gateway.pids().items()}


@pytest.mark.slow
def test_ten_thousand_devices_that_come_and_go_leave_nothing_behind(system):
    gateway, fleet = system
    cycle(gateway, fleet, WARM_UP)
    before = memory_kib(gateway)
    cycle(gateway, fleet, CYCLES)
    after = memory_kib(gateway)
    assert after.keys() == before.keys() == {"gate", "keys", "store"}
    growth = {name: after[name] - before[name] for name in after}
    assert sum(growth.values()) <= ALLOWED_KIB, (growth, before)
    assert gateway.metric("attestations_ok_total") >= WARM_UP + CYCLES
