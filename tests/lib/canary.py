# SPDX-License-Identifier: Apache-2.0
"""The oracle of the hostile tests: a device that goes on publishing while they run, a monitor of everything, and what may be counted
(`from tests.lib.canary import canary, oracle, watcher`)."""
import contextlib
import pathlib
import threading
import time

import pytest

from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tests.lib.oracle import Oracle
from tools.lab.process import wait_for


class Canary:
    """Publishes ten messages a second, and counts what was acknowledged and the longest wait for it."""

    def __init__(self, gateway, bundle):
        self.device = TestDevice(gateway, bundle)
        self.device.attest()
        self.topic = f"dt/{self.device.bundle.id}/sign"
        self.at_cloud = f"gw-1/{self.device.bundle.id}/sign"
        self.acked, self.longest, self.fault, self.going = [], 0.0, None, True
        self._publishing = threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _publish(self, number):
        started = time.monotonic()
        self.device.mqtt.publish(self.topic, b"%d" % number, qos=1)
        puback = self.device.mqtt.expect(mqtt.PUBACK)
        assert puback.reason == 0, f"{puback.reason:#x} for the canary's message {number}"
        self.acked.append(b"%d" % number)
        self.longest = max(self.longest, time.monotonic() - started)

    def _run(self):
        number = 0
        try:
            while self.going:
                number += 1
                with self._publishing:
                    self._publish(number)
                time.sleep(0.1)
        except BaseException as error:  # pylint: disable=broad-except
            self.fault = error

    @contextlib.contextmanager
    def still(self):
        """Nothing of it is under way: what was sent is acknowledged."""
        with self._publishing:
            yield

    def stop(self):
        self.going = False
        self.thread.join(15)
        return self.fault


class Watcher:
    """A client with all rights that is subscribed to everything: what goes through the gateway, it sees."""

    def __init__(self, gateway, bundle):
        self.device = TestDevice(gateway, bundle, timeout=0.5)
        self.device.connect(props={mqtt.METHOD: None}, keep_alive=1800)
        assert self.device.mqtt.expect(mqtt.CONNACK).reason == 0
        assert self.device.mqtt.subscribe("#", qos=0) == [0]
        self.seen, self.fault, self.going = [], None, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while self.going:
                with contextlib.suppress(TimeoutError):
                    found = self.device.mqtt.receive()
                    self.seen.append((found.topic, found.payload))
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


@pytest.fixture(scope="module")
def forwarded():
    """Topics of messages that tests of this file mean to come through; what is not in it must have gone nowhere."""
    return set()


@pytest.fixture(scope="module", autouse=True)
def watcher(gateway):
    """The monitor of everything, there before the canary."""
    return Watcher(gateway, gateway.add("watcher", "--attestation", "none", role="watcher"))


@pytest.fixture(scope="module", autouse=True)
def canary(gateway, cloud, watcher, forwarded):
    """What every attack of a file is held against: a device that loses nothing, processes that live, a log that can be read."""
    bird = Canary(gateway, gateway.add("canary"))
    pids = gateway.pids()
    yield bird
    assert bird.stop() is None, bird.fault
    assert bird.longest < 5, f"the canary waited {bird.longest:.1f} s"
    assert gateway.pids() == pids
    wait_for(lambda: len(cloud.received(bird.at_cloud)) >= len(bird.acked), 10, "the canary's messages")
    assert [payload for topic, payload in cloud.messages if topic.endswith(bird.at_cloud)][:len(bird.acked)] == bird.acked
    wait_for(lambda: (bird.topic, bird.acked[-1]) in watcher.seen, 10, "the canary's last message at the watcher")
    assert watcher.stop() is None, watcher.fault
    came_through = {topic for topic, _ in watcher.seen} | {"dt/" + topic.split("/gw-1/", 1)[-1] for topic, _ in cloud.messages}
    assert came_through <= {bird.topic} | forwarded, came_through - {bird.topic} - forwarded
    assert all(line.isprintable() for line in gateway.lines)
    assert gateway.stop() == 0, "\n".join(gateway.lines[-30:])


@pytest.fixture(autouse=True)
def oracle(gateway, canary):
    """What a test does not say may not happen: no other counter, nothing stored, nothing left in memory."""
    made = Oracle(gateway, canary, resting=2)
    yield made
    made.check()
