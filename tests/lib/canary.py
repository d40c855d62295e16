# SPDX-License-Identifier: Apache-2.0
"""The oracle of the hostile tests: a device that goes on publishing while they run (`from tests.lib.canary import canary`)."""
import pathlib
import threading
import time

import pytest

from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tools.lab.process import wait_for


class Canary:
    """Publishes ten messages a second, and counts what was acknowledged and the longest wait for it."""

    def __init__(self, gateway, bundle):
        self.device = TestDevice(gateway, bundle)
        self.device.attest()
        self.topic = f"dt/{self.device.bundle.id}/sign"
        self.at_cloud = f"gw-1/{self.device.bundle.id}/sign"
        self.acked, self.longest, self.fault, self.going = [], 0.0, None, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        try:
            while self.going:
                number += 1
                started = time.monotonic()
                self.device.mqtt.publish(self.topic, b"%d" % number, qos=1)
                assert self.device.mqtt.expect(mqtt.PUBACK).reason == 0
                self.acked.append(b"%d" % number)
                self.longest = max(self.longest, time.monotonic() - started)
                time.sleep(0.1)
        except BaseException as error:  # pylint: disable=broad-except
            self.fault = error

    def stop(self):
        self.going = False
        self.thread.join(15)
        return self.fault


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@pytest.fixture(scope="module", autouse=True)
def canary(gateway, cloud):
    """What every attack of a file is held against: a device that loses nothing, processes that live, a log that can be read."""
    bird = Canary(gateway, gateway.add("canary"))
    pids = gateway.pids()
    yield bird
    assert bird.stop() is None, bird.fault
    assert bird.longest < 5, f"the canary waited {bird.longest:.1f} s"
    assert gateway.pids() == pids
    wait_for(lambda: len(cloud.received(bird.at_cloud)) >= len(bird.acked), 10, "the canary's messages")
    assert [payload for topic, payload in cloud.messages if topic.endswith(bird.at_cloud)][:len(bird.acked)] == bird.acked
    assert all(line.isprintable() for line in gateway.lines)
    assert not any("Sanitizer" in line or "runtime error" in line for line in gateway.lines)
    assert gateway.stop() == 0, "\n".join(gateway.lines[-30:])
    assert not any("Sanitizer" in line or "runtime error" in line for line in gateway.lines), "\n".join(gateway.lines[-60:])
