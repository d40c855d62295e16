# SPDX-License-Identifier: Apache-2.0
"""A process of a running gateway that does what its sandbox is there for: it dies of it, the parent says so and starts it again, and
devices are served. tests/faults/preload makes the process do it; gateway/proc/sandbox_test.c tries many more, one process at a time."""
import errno
import time

import pytest

from tests.conftest import add_reference
from tests.faults.faults import Faults
from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import Gateway
from tools.lab.process import BUILD

pytestmark = pytest.mark.slow  # sanitizers come with calls, and a runtime, of their own

FORBIDDEN = {
    "gate": ["socket", "connect", "execute", "trace"],
    "keys": ["socket", "execute", "fork", "code"],
    "store": ["listen", "execute", "fork", "spy"],
}
DONE = 0
BROKEN = (OSError, EOFError, AssertionError, TlsError, mqtt.Closed)


@pytest.fixture
def own(tmp_path, cloud):
    """A gateway whose processes can be made to do things."""
    made = Gateway(tmp_path / "home", cloud, threads=2)
    made.faults = Faults(tmp_path / "faults", made.folder, BUILD / "test" / "libspfaults.so")
    made.env = made.faults.environment()
    add_reference(made)
    yield made.start()
    made.stop()


def serve(gateway, bundle):
    """A device is let in and its message is made durable, within what a restart may take."""
    end = time.monotonic() + 30
    while True:
        try:
            dev = TestDevice(gateway, bundle)
            dev.attest()
            dev.mqtt.publish(f"dt/{dev.bundle.id}/a", b"x", qos=1)
            assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
            dev.close()
            return
        except BROKEN:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def provoke(gateway, bundle, over):
    """Traffic through every process until `over()`."""
    end = time.monotonic() + 20
    while not over():
        assert time.monotonic() < end, "the process never came by the trap"
        try:
            dev = TestDevice(gateway, bundle, timeout=1)
            dev.attest()
            dev.mqtt.publish(f"dt/{dev.bundle.id}/a", b"x", qos=1)
            dev.mqtt.expect(mqtt.PUBACK)
            dev.close()
        except BROKEN:
            time.sleep(0.05)  # the process died of it


@pytest.mark.parametrize("process", FORBIDDEN)
def test_a_forbidden_call_is_death_told_counted_and_survived(own, process):
    bundle = own.add("dev")
    serve(own, bundle)
    for count, deed in enumerate(FORBIDDEN[process], 1):
        before = own.pids()
        own.faults.trap(before[process], "receive", 1, deed=deed)
        provoke(own, bundle, lambda: len(own.events("process_died")) == count)
        assert (own.faults["sprung"], own.faults["answer"]) == (count, 0), f"{deed} came back"
        died = own.wait_event("process_died", count)
        assert f"process={process} signal=SYS reason=\"a system call that its sandbox forbids\"" in died
        own.wait_event("restarted", count, 20)
        serve(own, bundle)
        after = own.pids()
        assert [name for name in after if after[name] != before[name]] == [process], "only it was started again"
        status = own.status()
        assert status["metrics"]["forbidden_calls_total"] == status["processes"][process]["restarts"] == count
    assert len(own.events("process_died")) == len(FORBIDDEN[process])
    assert f"{len(FORBIDDEN[process])} times a process made a system call" in own.cli("status").stdout


@pytest.mark.parametrize("process", FORBIDDEN)
def test_a_file_of_the_system_is_refused(own, process):
    """Not death: libraries try to read files, and have another way."""
    bundle = own.add("dev")
    own.faults.trap(own.pids()[process], "receive", 1, deed="open")
    provoke(own, bundle, lambda: own.faults["answer"] != 0)
    by_landlock_alone = process != "gate" and own.events("sandbox_weak")  # an old kernel
    assert own.faults["answer"] - 1 == (DONE if by_landlock_alone else errno.EACCES)
    serve(own, bundle)
    assert own.events("process_died") == [] and own.metric("forbidden_calls_total") == 0


def test_the_same_calls_work_where_they_are_a_right(own):
    """store may make sockets and connect: what kills the others is the list, not the trap."""
    bundle = own.add("dev")
    for deed, expected in (("socket", DONE), ("connect", errno.EBADF)):
        own.faults.trap(own.pids()["store"], "receive", 1, deed=deed)
        provoke(own, bundle, lambda: own.faults["answer"] != 0)
        assert own.faults["answer"] - 1 == expected
    assert own.events("process_died") == []
