# SPDX-License-Identifier: Apache-2.0
"""A channel that breaks between two living processes: whoever cannot go on ends, and comes back with new channels."""
import ctypes
import os
import socket
import time

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt
from tests.lib.attester import TestDevice, climate
from tests.lib.memory import only_root
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import Gateway
from tools.lab.process import wait_for

PIDFD_GETFD = 438
NO_FRAME = b"\xff" * 16  # a length that no message has


def streams(pid):
    """The channels of a process, as sockets of ours: only root can take them."""
    only_root()
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    found = []
    for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            assert fd >= 0, os.strerror(ctypes.get_errno())
            one = socket.socket(fileno=fd)
            if (one.family, one.type & 0xF) == (socket.AF_UNIX, socket.SOCK_STREAM):
                found.append(one)
            else:
                one.close()
    os.close(pidfd)
    return found


@pytest.fixture
def gateway(tmp_path, cloud):
    made = Gateway(tmp_path / "home", cloud, threads=2)
    add_reference(made)
    yield made.start()
    made.stop()


def admitted(gateway, bundle, seconds=20):
    """A device that comes back as real ones do: again, until it is let in."""
    ends = time.monotonic() + seconds
    while True:
        try:
            dev = TestDevice(gateway, bundle)
            dev.attest()
            return dev
        except (OSError, TlsError, mqtt.Closed, AssertionError) as error:
            if time.monotonic() > ends:
                raise TimeoutError("the device was not let in again") from error
            time.sleep(0.2)


@pytest.mark.parametrize("process", ["keys", "store", "gate"])
def test_a_process_that_loses_a_channel_to_nonsense_is_started_again_and_the_gateway_accepts_again(gateway, cloud, process):
    bundle = gateway.add("dev")
    admitted(gateway, bundle).close()
    before = gateway.pids()
    # What is written into one end is read at the other: gate's ends lead to keys and store, theirs lead to gate.
    channels = streams(before["keys" if process == "gate" else "gate"])
    assert len(channels) == (2 if process == "gate" else 4)
    broken = {"gate": channels[:1], "keys": channels[:2], "store": channels[2:]}[process]
    broken[-1].sendall(NO_FRAME)
    for channel in channels:
        channel.close()
    wait_for(lambda: gateway.pids()[process] not in (0, before[process]), 20, f"another {process}")
    wait_for(lambda: gateway.status()["state"] == "serving", 20, "the gateway to serve")
    assert gateway.events("process_died")[0].endswith(f"process={process} status=1")
    dev = admitted(gateway, bundle)
    dev.mqtt.publish("dt/dev/climate", climate("dev"), qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    dev.close()
    after = gateway.pids()
    assert {name for name in after if after[name] != before[name]} == {process}
