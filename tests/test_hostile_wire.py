# SPDX-License-Identifier: Apache-2.0
"""Attacks that take more than one packet: QoS 2 without an end, take-over, revocation, keys that are wrong a thousand times, key files,
TLS messages that come back. Names such as M-32 are those of tests/hostile_cases.py."""
import hashlib
import json
import socket
import struct
import threading
import time

import pytest

from tests.lib import mqtt, wire
from tests.lib.attester import TestDevice
from tests.lib.canary import canary, resident_kib  # noqa: F401  pylint: disable=unused-import
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import Device
from tools.lab.process import BUILD, wait_for

TLS13 = "NONE:+VERS-TLS1.3:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+ECDHE-PSK:+AES-128-GCM:+AEAD"
SANITIZED = "asan" in str(BUILD)  # its quarantine keeps what is freed


def enter(gateway, bundle, **more):
    dev = TestDevice(gateway, bundle)
    dev.attest(**more)
    return dev


def reasons(said):
    return [p.reason for p in said if p.kind == mqtt.DISCONNECT]


def at_cloud(cloud, dev, name):
    return [p for _, p in cloud.received(f"{dev.bundle.id}/{name}")]


def test_a_packet_id_used_for_ever_without_a_release_is_one_message(gateway, cloud, device):
    """M-32: each repeat counts against Receive Maximum, on every connection anew; memory flat, one message at the cloud."""
    bundle, kept = device(), {mqtt.SESSION_EXPIRY: 600}
    dev, before = enter(gateway, bundle, props=kept), resident_kib(gateway.pids()["gate"])
    topic = f"dt/{dev.bundle.id}/again"
    for number in range(20):
        for repeat in range(100):
            dev.mqtt.publish(topic, b"once", qos=2, dup=number + repeat > 0, packet_id=7)
        said = dev.mqtt.expect_close()
        assert {p.reason for p in said if p.kind == mqtt.PUBREC} <= {0} and reasons(said) == [0x93], said
        dev = enter(gateway, bundle, clean=False, props=kept)
    assert SANITIZED or resident_kib(gateway.pids()["gate"]) - before < 1024
    dev.mqtt.release(7)
    dev.mqtt.expect(mqtt.PUBCOMP)
    dev.mqtt.publish(topic, b"end", qos=1)
    dev.mqtt.expect(mqtt.PUBACK)
    wait_for(lambda: b"end" in at_cloud(cloud, dev, "again"), 10, "the last message at the cloud")
    assert at_cloud(cloud, dev, "again") == [b"once", b"end"]
    dev.close()


def test_packet_ids_without_end_and_no_release_are_cut_off(gateway, device):
    """M-33: more than Receive Maximum unreleased."""
    dev = TestDevice(gateway, device())
    maximum, before = dev.attest().props[mqtt.RECEIVE_MAXIMUM], gateway.metric("protocol_errors_total")
    for number in range(1, maximum + 1):
        dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=2, packet_id=number)
        assert dev.mqtt.expect(mqtt.PUBREC).reason == 0
    dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=2, packet_id=maximum + 1)
    assert reasons(dev.mqtt.expect_close()) == [0x93]
    gateway.wait_metric("protocol_errors_total", before + 1)


def test_a_device_retains_nothing(gateway, cloud, device):
    """M-36: each attempt ends its connection, and nothing of it is kept or forwarded."""
    bundle, kept, before = device(), gateway.metric("retained_messages"), gateway.metric("protocol_errors_total")
    for number in range(20):
        dev = enter(gateway, bundle)
        dev.mqtt.publish(f"dt/{dev.bundle.id}/r{number}", b"r" * 1000, qos=1, retain=True)
        assert reasons(dev.mqtt.expect_close()) == [0x9A]
    assert gateway.metric("retained_messages") == kept
    gateway.wait_metric("protocol_errors_total", before + 20)
    assert not cloud.received(f"{dev.bundle.id}/r")


def test_a_revoked_device_is_gone_in_the_middle_of_everything(gateway, cloud, device):
    """M-39: a QoS 2 message half done, a subscription, a kept session: closed, and nothing more of it is taken."""
    bundle = device()
    dev, before = enter(gateway, bundle, props={mqtt.SESSION_EXPIRY: 600}), gateway.metric("revoked_closed_total")
    dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#")
    dev.mqtt.publish(f"dt/{dev.bundle.id}/half", b"half", qos=2, packet_id=3)
    assert dev.mqtt.expect(mqtt.PUBREC).reason == 0
    gateway.cli("device", "revoke", dev.bundle.id)
    started = time.monotonic()
    assert reasons(dev.mqtt.expect_close()) == [0x98]
    assert time.monotonic() - started < 3
    gateway.wait_metric("revoked_closed_total", before + 1)
    with pytest.raises(TlsError):
        TestDevice(gateway, bundle)
    gateway.cli("device", "restore", dev.bundle.id)
    again = TestDevice(gateway, bundle)
    assert again.attest(clean=False, props={mqtt.SESSION_EXPIRY: 600}).session_present == 0
    again.mqtt.publish(f"dt/{again.bundle.id}/half", b"new", qos=2, packet_id=3)
    assert again.mqtt.expect(mqtt.PUBREC).reason == 0
    again.mqtt.release(3)
    again.mqtt.expect(mqtt.PUBCOMP)
    wait_for(lambda: b"new" in at_cloud(cloud, again, "half"), 10, "the message of the restored device")
    again.close()


def test_a_device_behind_a_dead_line_takes_itself_over(gateway, cloud, device):
    """M-41: the line swallows everything; the same device comes by another, at once, and no message is there twice."""
    bundle, hole = device(), threading.Event()

    def swallow(data, _offset):
        return [] if hole.is_set() else [data]

    class Through:
        port = wire.Relay(gateway.port, swallow).port
    old, before = TestDevice(Through, bundle), gateway.metric("sessions_taken_over_total")
    old.attest(props={mqtt.SESSION_EXPIRY: 600})
    topic = f"dt/{old.bundle.id}/line"
    old.mqtt.publish(topic, b"first", qos=2, packet_id=5)  # its PUBREC is never read
    time.sleep(0.3)
    hole.set()
    old.mqtt.publish(topic, b"lost", qos=1)
    started = time.monotonic()
    new = TestDevice(gateway, bundle)
    assert new.attest(clean=False, props={mqtt.SESSION_EXPIRY: 600}).session_present == 1
    assert time.monotonic() - started < 5
    assert reasons(old.mqtt.expect_close()) == [0x8E]
    new.mqtt.publish(topic, b"first", qos=2, dup=True, packet_id=5)
    assert new.mqtt.expect(mqtt.PUBREC).reason == 0
    new.mqtt.release(5)
    new.mqtt.expect(mqtt.PUBCOMP)
    new.mqtt.publish(topic, b"end", qos=1)
    new.mqtt.expect(mqtt.PUBACK)
    wait_for(lambda: b"end" in at_cloud(cloud, new, "line"), 10, "the last message at the cloud")
    assert at_cloud(cloud, new, "line") == [b"first", b"end"]
    gateway.wait_metric("sessions_taken_over_total", before + 1)
    new.close()


# ---- TLS ----

def test_wrong_keys_for_a_name_do_not_lock_it_out(gateway, device):
    """T-06: a hundred from one address; the device itself, from another, is let in."""
    bundle = device()
    before = gateway.metric("tls_wrong_key_total")
    alerts = set()
    for _ in range(100):
        try:
            TestDevice(gateway, bundle, psk=b"wrong" * 4)
        except TlsError as error:
            alerts.add(error.alert)
        except OSError:  # the address has to wait
            alerts.add("closed")
    assert alerts <= {20, 51, "closed"} and alerts != {"closed"}, alerts
    assert gateway.metric("tls_wrong_key_total") > before
    dev = TestDevice(gateway, bundle, source="127.0.0.2")
    dev.attest()
    dev.close()


def test_names_that_are_nearly_one_are_not_it(gateway, device):
    """T-07: bytes are compared; what is outside the alphabet is unknown, and all of it looks alike."""
    bundle = device(name="Case-1")
    good, seen, before = TestDevice(gateway, bundle), set(), gateway.metric("tls_unknown_identity_total")
    names = [b"case-1", b"CASE-1", b"Case-1 ", b" Case-1", b"Case-1\n", b"Case-1\0", b"../Case-1", b"Case/1", b"Case-1\xcc\x81",
             b"\xff\xfe", b"C\xc3\xa1se-1", b"Case-1\r\nx"]
    for name in names:
        with pytest.raises(TlsError) as error:
            TestDevice(gateway, bundle, identity=name)
        seen.add(error.value.alert)
    assert len(seen) == 1, seen
    gateway.wait_metric("tls_unknown_identity_total", before + len(names))
    good.attest()
    good.close()


def line(number, psk):
    iak = hashlib.sha256(b"%d" % number + psk).hexdigest().encode()
    return b'{"id":"kf-%d","role":"sensor","psk":"%s","iak":"%s"}' % (number, psk, iak)


GOOD = line(1, b"11" * 16)
KEY_FILES = [
    ("leading zeros are digits", line(2, b"00000000" + b"22" * 14), True),
    ("no line end at the end", GOOD, True),
    ("CRLF", line(3, b"33" * 16) + b"\r\n", True),
    ("odd hex", line(4, b"44" * 16 + b"4"), False),
    ("no hex", line(4, b"zz" * 16), False),
    ("15 bytes", line(4, b"44" * 15), False),
    ("one byte", line(4, b"44"), False),
    ("65 bytes", line(4, b"44" * 65), False),
    ("a name twice", line(5, b"55" * 16) + b"\n" + line(5, b"56" * 16), False),
    ("a name that is there", line(1, b"57" * 16), False),
    ("a key twice", line(6, b"66" * 16) + b"\n" + line(7, b"66" * 16), False),
    ("a bad line behind a good one", line(8, b"88" * 16) + b"\n{\n", False),
    ("a NUL", (line(9, b"99" * 16)).replace(b"kf-9", b"kf\0009"), False),
    ("10 MB", b'{"id":"' + b"a" * 10_000_000 + b'"}', False),
    ("an array", b"[" * 10000, False),
    ("an unknown word", b'{"id":"kf-9","role":"sensor","pks":"99"}', False),
]


def enrolled(gateway):
    return [entry["id"] for entry in json.loads(gateway.cli("device", "list", "--json").stdout)]


def test_a_key_file_is_taken_whole_or_not_at_all(gateway, tmp_path):
    """T-08: all or none; what is wrong is named with its line, and the running gateway keeps what it has."""
    faults = []
    for number, (what, data, right) in enumerate(KEY_FILES):
        path, known = tmp_path / f"list-{number}", enrolled(gateway)
        path.write_bytes(data)
        result = gateway.cli("device", "add", "--from", path, check=False)
        changed = enrolled(gateway) != known
        if (result.returncode == 0, changed) != (right, right) or (not right and not result.stderr.strip()):
            faults.append(f"{what}: exit {result.returncode}, changed {changed}: {result.stderr[:200]}")
    assert not faults, "\n".join(faults)
    bad = gateway.cli("device", "add", "--from", tmp_path / "list-11", check=False)
    assert "2" in bad.stderr, bad.stderr
    assert gateway.cli("device", "add", "--from", tmp_path / "not-there", check=False).returncode != 0
    assert gateway.cli("device", "add", "--from", tmp_path, check=False).returncode != 0


def hello_without_share(suites=(0x1301,), psk=wire.psk_extension(b"dev"), groups=b"\0\2\0\x1d"):
    """A TLS 1.3 hello that has to be asked for a key share."""
    extensions = (wire.extension(43, b"\2\3\4") + wire.extension(45, b"\1\1") + wire.extension(10, groups)
                  + wire.extension(51, b"\0\0") + psk)
    return wire.client_hello(suites=suites, extensions=extensions)


@pytest.mark.parametrize("what,second", [
    ("without its PSK", hello_without_share(psk=b"")),
    ("with another suite", hello_without_share(suites=(0x1304,))),
    ("with another session id", wire.client_hello(session=b"x" * 32, suites=(0x1301,), extensions=wire.EMS)),
    ("as TLS 1.2 with a ticket", wire.client_hello(extensions=wire.EMS + wire.extension(35, b"ticket" * 20))),
    ("the same again", hello_without_share()),
])
def test_a_second_hello_that_is_another_ends_it(gateway, what, second):
    """T-15: after HelloRetryRequest, or whatever the first one got."""
    before = gateway.metric("tls_handshakes_ok_total")
    said = wire.talk(gateway.port, wire.records_of(hello_without_share()), wire.records_of(second), seconds=12)
    assert said is not None and wire.alerts(said), (what, said)
    assert gateway.metric("tls_handshakes_ok_total") == before


class Mirror:
    """Gives every byte back to whoever connects."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                client, _ = self._listener.accept()
                while data := client.recv(65536):
                    self.heard += len(data)
                    client.sendall(data)
                client.close()
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def close(self):
        self._listener.close()


def test_who_talks_to_a_mirror_gets_nowhere(gateway, device):
    """T-20: a device that gets its own hello back does not become a server, and takes nothing for a session."""
    mirror = Mirror()
    dev = Device(mirror, device())
    wait_for(lambda: mirror.heard > 0, 10, "the device's hello")
    time.sleep(0.5)
    assert not any("attested" in line or "connected" in line for line in dev.process.out), dev.process.out
    dev.stop()
    mirror.close()
    # and the gateway, to which a gateway's words are said
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(wire.records_of(wire.client_hello()))
        server_said = sock.recv(65536)
    back = wire.talk(gateway.port, server_said, seconds=12)
    assert back is not None and b"\x14\x03\x03\x00\x01\x01" not in back


@pytest.mark.parametrize("data", [mqtt.connect(5, b"dev"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 100,
                                  b"\x80\x2e\x01\x00\x02" + bytes(43)], ids=["MQTT", "HTTP", "SSH", "zeros", "SSL 2"])
def test_what_is_no_tls_is_closed_with_one_line(gateway, data):
    """T-22."""
    before, lines = gateway.metric("tls_handshakes_failed_total"), len(gateway.events("tls_refused"))
    started = time.monotonic()
    wire.talk(gateway.port, data, seconds=12)
    assert time.monotonic() - started < 3
    gateway.wait_metric("tls_handshakes_failed_total", before + 1)
    wait_for(lambda: len(gateway.events("tls_refused")) == lines + 1, 5, "one line in the log")


def test_a_name_is_known_in_tls_13_too(gateway, device):
    """T-25: an external PSK of TLS 1.3 has the name that everything else hangs on."""
    dev = TestDevice(gateway, device(), priority=TLS13)
    dev.attest()
    line = wait_for(lambda: [x for x in gateway.events("device_admitted") if f"device={dev.bundle.id} " in x], 5, "its name in the log")
    assert len(line) == 1
    dev.mqtt.publish("dt/somebody/x", b"x", qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0x87
    dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    dev.close()


def test_a_hundred_times_the_same_attack_costs_no_memory(gateway, device):
    """The oracle's other half: what is refused leaves nothing behind, whichever door it came to."""
    bundle = device("--attestation", "none")
    attacks = (struct.pack(">BI", 0x30, 0xFFFFFF7F), bytes.fromhex("c08000"), bytes.fromhex("3003000000"), bytes.fromhex("f0021800"))

    def round_of(count):
        for number in range(count):
            dev = TestDevice(gateway, bundle)
            if number % 5 != 4:
                dev.connect(props={mqtt.METHOD: None})
                dev.mqtt.expect(mqtt.CONNACK)
                dev.mqtt.send(attacks[number % 4])
                dev.mqtt.expect_close()
            dev.abort()
            wire.talk(gateway.port, b"\x16\x03\x01\x40\x00\x01", seconds=0.001)
    round_of(50)
    before = resident_kib(gateway.pids()["gate"])
    round_of(300)
    wait_for(lambda: gateway.metric("connections_open") <= 2, 15, "the connections are gone")
    assert SANITIZED or resident_kib(gateway.pids()["gate"]) - before < 512
