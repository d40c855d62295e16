# SPDX-License-Identifier: Apache-2.0
"""A process per right: what each child of a running gateway holds and can't do."""
import os
import pathlib
import signal

import pytest

from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tests.lib.memory import memory_of, only_root
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import Gateway
from tools.lab.process import Process, alarms, run, wait_for


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def sockets(pid):
    """(family, state) of each socket of a process: unix pairs, or inet from /proc/net/tcp."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    inet = [line.split() for name in ("tcp", "tcp6", "udp", "udp6")
            for line in pathlib.Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return inodes, [entry for entry in inet if entry[9] in inodes]


@pytest.mark.parametrize("process", ["gate", "keys", "store"])
def test_every_child_is_under_seccomp_without_new_privileges(gateway, process):
    pid = gateway.pids()[process]
    fields = status_of(pid)
    assert (fields["Seccomp"].strip(), fields["NoNewPrivs"].strip()) == ("2", "1")
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert [line.split()[-3:-1] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]


def test_keys_has_no_network_socket(gateway):
    only_root()
    assert sockets(gateway.pids()["keys"])[1] == []


def test_gate_has_no_file_open(gateway):
    only_root()
    targets = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{gateway.pids()['gate']}/fd").iterdir()]
    files = [t for t in targets if t.startswith("/") and not t.startswith("/dev/null") and "/pts/" not in t]
    assert files == [], files


def test_secrets_stay_where_they_belong(gateway, device):
    """The IAK is in no memory but that of keys; the registry file holds neither key in clear."""
    dev = TestDevice(gateway, device())
    dev.attest()
    for process in ("gate", "store"):
        memory = memory_of(gateway.pids()[process])
        assert dev.bundle.iak not in memory
    assert dev.bundle.psk not in memory_of(gateway.pids()["store"])
    for path in gateway.folder.glob("registry.db*"):
        data = path.read_bytes()
        for secret in (dev.bundle.psk, dev.bundle.iak):
            assert secret not in data and secret.hex().encode() not in data
    assert not any(dev.bundle.psk.hex() in line or dev.bundle.iak.hex() in line for line in gateway.lines)
    dev.close()


def test_a_second_gateway_on_the_same_folder_is_refused(gateway):
    from tools.lab.process import program, run
    second = run(program("sallyport"), "run", "-c", gateway.config, check=False, timeout=15)
    assert second.returncode == 1


def test_shutdown_says_so_to_devices(tmp_path):
    from tests.conftest import add_reference
    from tools.lab.gateway import Gateway
    gateway = Gateway(tmp_path / "home")
    add_reference(gateway)
    gateway.start()
    dev = TestDevice(gateway, gateway.add("dev"))
    dev.attest()
    assert gateway.stop() == 0
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x8B]


@pytest.fixture
def home(tmp_path):
    """A gateway of a test's own, whose processes may be killed."""
    from tests.conftest import add_reference
    made = Gateway(tmp_path / "home", threads=2)
    add_reference(made)
    made.start()
    yield made
    assert made.stop() == 0


def kill_keys(home):
    os.kill(home.pids()["keys"], signal.SIGKILL)


def enter(home, bundle, version):
    """What was answered, try by try, until the device was in; a gateway without keys for a moment says so or says nothing."""
    reasons = []

    def inside():
        dev = None
        try:
            dev = TestDevice(home, bundle, version, timeout=2)
            dev.connect()
            if version == 4:
                dev.mqtt.expect(mqtt.CONNACK)
            reply = dev.answer(dev.token(dev.nonce()))
            reasons.append(reply.payload if reply.kind == mqtt.PUBLISH else reply.reason)
        except (TlsError, mqtt.Closed, TimeoutError, AssertionError):
            pass
        if reasons[-1:] in ([0], [b"ok"]):
            return dev
        if dev is not None:
            dev.abort()
        return None
    return wait_for(inside, 30, "a device inside"), set(reasons)


@pytest.mark.parametrize("version", [4, 5])
def test_a_device_that_was_just_added_comes_in_and_stays_in_whatever_keys_dies_of(home, version):
    """A new keys process tells of the row once more, because nobody may have heard of it: its device is of that row."""
    early = home.add("early")
    kill_keys(home)
    dev, reasons = enter(home, early, version)
    assert reasons <= {0, b"ok", 0x88}, reasons
    dev.close()
    bundle = home.add("asked")
    dev = TestDevice(home, bundle, version)
    dev.connect()
    dev.nonce() if version == 5 else dev.mqtt.expect(mqtt.CONNACK)
    kill_keys(home)
    dev.abort()
    dev, reasons = enter(home, bundle, version)
    assert reasons <= {0, b"ok", 0x88}, reasons
    dev.close()
    bundle = home.add("inside")
    dev = TestDevice(home, bundle, version)
    dev.attest()
    kill_keys(home)
    after = home.add("after")
    other, _ = enter(home, after, version)  # by the new process: whatever it tells of others was told
    dev.mqtt.publish("dt/inside/x", b"1", qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason in (0, 0x10)
    assert home.events("device_revoked") == []
    dev.close()
    other.close()


@pytest.mark.parametrize("line", ["==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x1", "a.c:1:2: runtime error: shift exponent 64",
                                  "==7==ERROR: LeakSanitizer: detected memory leaks", "event=process_died process=gate signal=SEGV"])
def test_what_no_process_may_say_is_heard_whoever_looks(line):
    """tests/conftest.py fails the test in which that happens; here it is taken before."""
    for talk in (lambda: Process(["sh", "-c", 'echo "$0" >&2', line]).wait(), lambda: run("sh", "-c", 'echo "$0" >&2', line)):
        talk()
        assert alarms == [line]
        alarms.clear()


def test_a_child_that_fails_and_is_started_again_is_heard(tmp_path):
    made = Gateway(tmp_path / "home")
    made.start()
    os.kill(made.pids()["gate"], signal.SIGSEGV)  # under a sanitizer that is a report
    wait_for(lambda: any("signal=SEGV" in line or "Sanitizer: SEGV" in line for line in alarms), 20, "the alarm")
    made.wait_event("restarted", seconds=20)
    made.stop()
    alarms.clear()
