# SPDX-License-Identifier: Apache-2.0
"""Attacks that take more than one packet: QoS 2 without an end, take-over, revocation, keys that are wrong a thousand times, key files,
TLS messages that come back. Names such as M-32 are those of tests/hostile_cases.py."""
import hashlib
import json
import socket
import threading
import time

import pytest

from tests.lib import mqtt, wire
from tests.lib.attester import TestDevice
from tests.lib.canary import canary, forwarded, oracle, watcher  # noqa: F401  pylint: disable=unused-import
from tests.lib.oracle import full
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import Device
from tools.lab.process import wait_for

TLS13 = "NONE:+VERS-TLS1.3:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+ECDHE-PSK:+AES-128-GCM:+AEAD"


def enter(gateway, bundle, **more):
    dev = TestDevice(gateway, bundle)
    dev.attest(**more)
    return dev


def reasons(said):
    return [p.reason for p in said if p.kind == mqtt.DISCONNECT]


def at_cloud(cloud, dev, name):
    return [p for _, p in cloud.received(f"{dev.bundle.id}/{name}")]


def test_a_packet_id_used_for_ever_without_a_release_is_one_message(gateway, cloud, device, oracle, forwarded):
    """M-32: each repeat counts against Receive Maximum, on every connection anew; memory flat, one message at the cloud."""
    bundle, kept, rounds, held = device(), {mqtt.SESSION_EXPIRY: 600}, full(20, 1000), None
    dev = enter(gateway, bundle, props=kept)
    topic = f"dt/{dev.bundle.id}/again"
    for number in range(rounds):
        for repeat in range(100):
            dev.mqtt.publish(topic, b"once", qos=2, dup=number + repeat > 0, packet_id=7)
        said = dev.mqtt.expect_close()
        assert {p.reason for p in said if p.kind == mqtt.PUBREC} <= {0} and reasons(said) == [0x93], said
        dev = enter(gateway, bundle, clean=False, props=kept)
        wait_for(lambda: gateway.metric("connections_open") == 3, 10, "the one before to be gone")
        held = held or gateway.metric("connection_state_bytes")
        wait_for(lambda: gateway.metric("connection_state_bytes") <= held, 5, "no more memory than after the first time")
    oracle.counts("protocol_errors_total", number=rounds)
    oracle.stores(None)  # repeats are written too, as often as they fit before the end; what is there twice is sent once
    oracle.keeps()  # its session
    forwarded.add(topic)
    dev.mqtt.release(7)
    dev.mqtt.expect(mqtt.PUBCOMP)
    dev.mqtt.publish(topic, b"end", qos=1)
    dev.mqtt.expect(mqtt.PUBACK)
    wait_for(lambda: b"end" in at_cloud(cloud, dev, "again"), 10, "the last message at the cloud")
    assert at_cloud(cloud, dev, "again") == [b"once", b"end"]
    dev.close()


def test_packet_ids_without_end_and_no_release_are_cut_off(gateway, device, oracle, forwarded):
    """M-33: more than Receive Maximum unreleased. What was taken before that is stored, as it was acknowledged."""
    dev = TestDevice(gateway, device())
    maximum = dev.attest().props[mqtt.RECEIVE_MAXIMUM]
    forwarded.add(f"dt/{dev.bundle.id}/x")
    oracle.stores(maximum)
    for number in range(1, maximum + 1):
        dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=2, packet_id=number)
        assert dev.mqtt.expect(mqtt.PUBREC).reason == 0
    with oracle.one("protocol_errors_total"):
        dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=2, packet_id=maximum + 1)
        assert reasons(dev.mqtt.expect_close()) == [0x93]


def test_a_device_retains_nothing(gateway, device, oracle):
    """M-36: each attempt ends its connection, and nothing of it is kept or forwarded."""
    bundle, kept = device(), gateway.metric("retained_messages")
    for number in range(full(20, 1000)):
        with oracle.one("protocol_errors_total"):
            dev = enter(gateway, bundle)
            dev.mqtt.publish(f"dt/{dev.bundle.id}/r{number}", b"r" * 1000, qos=1, retain=True)
            assert reasons(dev.mqtt.expect_close()) == [0x9A]
    assert gateway.metric("retained_messages") == kept


def test_a_revoked_device_is_gone_in_the_middle_of_everything(gateway, cloud, device, oracle, forwarded):
    """M-39: a QoS 2 message half done, a subscription, a kept session: closed, and nothing more of it is taken."""
    bundle = device()
    dev = enter(gateway, bundle, props={mqtt.SESSION_EXPIRY: 600})
    forwarded.add(f"dt/{dev.bundle.id}/half")
    oracle.stores(3)  # two messages and a release
    oracle.keeps()  # the session of the restored device
    dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#")
    dev.mqtt.publish(f"dt/{dev.bundle.id}/half", b"half", qos=2, packet_id=3)
    assert dev.mqtt.expect(mqtt.PUBREC).reason == 0
    with oracle.one("revoked_closed_total"):
        gateway.cli("device", "revoke", dev.bundle.id)
        started = time.monotonic()
        assert reasons(dev.mqtt.expect_close()) == [0x98]
        assert time.monotonic() - started < 3
    with oracle.one("tls_unknown_identity_total"), pytest.raises(TlsError):
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


def test_a_device_behind_a_dead_line_takes_itself_over(gateway, cloud, device, oracle, forwarded):
    """M-41: the line swallows everything; the same device comes by another, at once, and no message is there twice."""
    bundle, hole = device(), threading.Event()

    def swallow(data, _offset):
        return [] if hole.is_set() else [data]

    class Through:
        port = wire.Relay(gateway.port, swallow).port
    old = TestDevice(Through, bundle)
    old.attest(props={mqtt.SESSION_EXPIRY: 600})
    topic = f"dt/{old.bundle.id}/line"
    forwarded.add(topic)
    oracle.stores(None)  # the first one twice, or once if the line died before it; what is there twice is sent once
    oracle.keeps()  # its session
    old.mqtt.publish(topic, b"first", qos=2, packet_id=5)  # its PUBREC is never read
    time.sleep(0.3)
    hole.set()
    old.mqtt.publish(topic, b"lost", qos=1)
    started = time.monotonic()
    with oracle.one("sessions_taken_over_total"):
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
    new.close()


# ---- TLS ----

def test_wrong_keys_for_a_name_do_not_lock_it_out(gateway, device, oracle):
    """T-06: so many from one address, which may have to wait; the device itself, from another, is let in."""
    bundle, tries = device(), full(100, 1000)
    alerts = []
    for _ in range(tries):
        try:
            TestDevice(gateway, bundle, psk=b"wrong" * 4)
        except TlsError as error:
            alerts.append(error.alert)
        except OSError:  # the address has to wait
            alerts.append("closed")
    assert set(alerts) <= {20, 51, "closed"} and set(alerts) != {"closed"}, alerts
    oracle.counts("tls_wrong_key_total", "connections_shed_total", number=tries)
    oracle.keeps()  # what is known of the other address
    dev = TestDevice(gateway, bundle, source="127.0.0.2")
    dev.attest()
    dev.close()


def test_names_that_are_nearly_one_are_not_it(gateway, device, oracle):
    """T-07: bytes are compared; what is outside the alphabet is unknown, and all of it looks alike."""
    bundle = device(name="Case-1")
    good, seen = TestDevice(gateway, bundle), set()
    names = [b"case-1", b"CASE-1", b"Case-1 ", b" Case-1", b"Case-1\n", b"Case-1\0", b"../Case-1", b"Case/1", b"Case-1\xcc\x81",
             b"\xff\xfe", b"C\xc3\xa1se-1", b"Case-1\r\nx"]
    for name in names:
        with oracle.one("tls_unknown_identity_total"), pytest.raises(TlsError) as error:
            TestDevice(gateway, bundle, identity=name)
        seen.add(error.value.alert)
    assert len(seen) == 1, seen
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
def test_a_second_hello_that_is_another_ends_it(gateway, oracle, what, second):
    """T-15: after HelloRetryRequest, or whatever the first one got. The first has named a device that nobody knows."""
    before = gateway.metric("tls_handshakes_ok_total")
    with oracle.one("tls_unknown_identity_total"):
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


def test_who_talks_to_a_mirror_gets_nowhere(gateway, device, oracle):
    """T-20: a device that gets its own hello back does not become a server, and takes nothing for a session."""
    mirror = Mirror()
    dev = Device(mirror, device())
    wait_for(lambda: mirror.heard > 0, 10, "the device's hello")
    time.sleep(0.5)
    assert not any("attested" in line or "connected" in line for line in dev.process.out), dev.process.out
    dev.stop()
    mirror.close()
    # and the gateway, to which a gateway's words are said; they are learnt from one that goes away without an answer
    oracle.counts("tls_handshakes_failed_total", number=2)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(wire.records_of(wire.client_hello()))
        server_said = sock.recv(65536)
    back = wire.talk(gateway.port, server_said, seconds=12)
    assert back is not None and b"\x14\x03\x03\x00\x01\x01" not in back


@pytest.mark.parametrize("data", [mqtt.connect(5, b"dev"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 100,
                                  b"\x80\x2e\x01\x00\x02" + bytes(43)], ids=["MQTT", "HTTP", "SSH", "zeros", "SSL 2"])
def test_what_is_no_tls_is_closed_with_one_line(gateway, oracle, data):
    """T-22."""
    lines = len(gateway.events("tls_refused"))
    with oracle.one("tls_handshakes_failed_total"):
        started = time.monotonic()
        wire.talk(gateway.port, data, seconds=12)
        assert time.monotonic() - started < 3
    wait_for(lambda: len(gateway.events("tls_refused")) == lines + 1, 5, "one line in the log")


def test_a_name_is_known_in_tls_13_too(gateway, device, oracle, forwarded):
    """T-25: an external PSK of TLS 1.3 has the name that everything else hangs on."""
    dev = TestDevice(gateway, device(), priority=TLS13)
    dev.attest()
    line = wait_for(lambda: [x for x in gateway.events("device_admitted") if f"device={dev.bundle.id} " in x], 5, "its name in the log")
    assert len(line) == 1
    with oracle.one("messages_denied_total"):
        dev.mqtt.publish("dt/somebody/x", b"x", qos=1)
        assert dev.mqtt.expect(mqtt.PUBACK).reason == 0x87
    forwarded.add(f"dt/{dev.bundle.id}/x")
    oracle.stores(1)
    dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"x", qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    dev.close()
