# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""sallyport-device against a gateway of a few lines: GnuTLS through ctypes, MQTT 5 and COSE by hand.

It shares no code with libs/, so token, binding and records are checked by a second reading of docs/protocol.md.
"""

import ctypes
import hashlib
import hmac
import json
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

import cbor2
import pytest

ROOT = Path(__file__).resolve().parents[3]
DEVICE = Path(os.environ.get("SALLYPORT_BUILD", ROOT / "build")) / "bin" / "sallyport-device"
PSK = bytes(range(32))
IAKS = {"hmac256": (b"\xa5" * 32, 5, hashlib.sha256), "hmac384": (b"\xa6" * 48, 6, hashlib.sha384),
        "hmac512": (b"\xa7" * 64, 7, hashlib.sha512)}
METHODS = {"tls": b"sp-psa-iat-1", "none": b"sp-psa-iat-raw-1"}
CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT, AUTH = 1, 3, 4, 8, 12, 14, 15

_gnutls = ctypes.CDLL("libgnutls.so.30")
_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
for _name in ("gnutls_record_recv", "gnutls_record_send"):
    getattr(_gnutls, _name).restype = ctypes.c_ssize_t
    getattr(_gnutls, _name).argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_gnutls.gnutls_transport_set_int2.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Datum))
def give_psk(_session, _identity, key):
    key.contents.data = _libc.malloc(len(PSK))  # GnuTLS frees it
    ctypes.memmove(key.contents.data, PSK, len(PSK))
    key.contents.size = len(PSK)
    return 0


class Session:
    """One device's TLS session, seen from the gateway, with MQTT packets in and out."""

    def __init__(self, sock):
        self.sock = sock
        self.data = b""
        self.session, credentials, dh = ctypes.c_void_p(), ctypes.c_void_p(), None
        _gnutls.gnutls_init(ctypes.byref(self.session), 1)
        priority = b"NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+ECDHE-PSK:+PSK:+CHACHA20-POLY1305:+AES-128-CCM:+AEAD"
        assert _gnutls.gnutls_priority_set_direct(self.session, priority, dh) == 0
        _gnutls.gnutls_psk_allocate_server_credentials(ctypes.byref(credentials))
        _gnutls.gnutls_psk_set_server_credentials_function(credentials, give_psk)
        _gnutls.gnutls_credentials_set(self.session, 4, credentials)
        _gnutls.gnutls_transport_set_int2(self.session, sock.fileno(), sock.fileno())
        code = _gnutls.gnutls_handshake(self.session)
        while code in (-28, -52):
            code = _gnutls.gnutls_handshake(self.session)
        assert code == 0, code

    def exporter(self):
        out = ctypes.create_string_buffer(32)
        label = b"EXPORTER-Channel-Binding"
        assert _gnutls.gnutls_prf_rfc5705(self.session, len(label), label, 0, b"", 32, out) == 0
        return out.raw

    def read(self, count):
        while len(self.data) < count:
            buffer = ctypes.create_string_buffer(16384)
            got = _gnutls.gnutls_record_recv(self.session, buffer, 16384)
            if got in (-28, -52):
                continue
            assert got > 0, f"the device closed ({got})"
            self.data += buffer.raw[:got]
        out, self.data = self.data[:count], self.data[count:]
        return out

    def packet(self):
        """(type, flags, body)"""
        first, length, shift = self.read(1)[0], 0, 0
        while True:
            byte = self.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first >> 4, first & 15, self.read(length)

    def expect(self, kind):
        found = self.packet()
        while found[0] == PINGREQ:
            self.send(b"\xd0\x00")
            found = self.packet()
        assert found[0] == kind, found
        return found

    def send(self, data):
        assert _gnutls.gnutls_record_send(self.session, data, len(data)) == len(data)

    def close(self):
        self.sock.close()
        _gnutls.gnutls_deinit(self.session)


def string(data):
    return struct.pack(">H", len(data)) + data


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def packet(first, body):
    return bytes([first]) + varint(len(body)) + body


def auth_packet(method, data):
    props = b"\x15" + string(method) + b"\x16" + string(data)
    return packet(AUTH << 4, b"\x18" + varint(len(props)) + props)


def connack(reason, method=None, text=b""):
    props = (b"\x15" + string(method) if method else b"") + (b"\x1f" + string(text) if text else b"")
    return packet(0x20, bytes([0, reason]) + varint(len(props)) + props)


def publish(topic, payload, qos=0, number=1):
    return packet(0x30 | qos << 1, string(topic) + (struct.pack(">H", number) if qos else b"") + b"\0" + payload)


def parse_publish(found):
    """(topic, packet id or None, payload)"""
    _, flags, body = found
    size = struct.unpack(">H", body[:2])[0]
    topic, rest = body[2:2 + size], body[2 + size:]
    number = None
    if flags & 6:
        number, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
    return topic, number, rest[1 + rest[0]:]


def parse_auth(body):
    """The authentication method and data of an AUTH packet."""
    assert body[0] == 0x18
    at, found = (2 if body[1] < 128 else 3), {}
    while at < len(body):
        size = struct.unpack(">H", body[at + 1:at + 3])[0]
        found[body[at]] = body[at + 3:at + 3 + size]
        at += 3 + size
    return found[0x15], found[0x16]


def verify(token, challenge, algorithm="hmac256"):
    """The first check that fails, as docs/protocol.md 3.4 names it, or the claims."""
    iak, number, digest = IAKS[algorithm]
    tag = cbor2.loads(token)
    assert tag.tag == 17
    protected, unprotected, payload, mac = tag.value
    assert cbor2.loads(protected) == {1: number} and unprotected == {}
    if not hmac.compare_digest(mac, hmac.new(iak, cbor2.dumps(["MAC0", protected, b"", payload]), digest).digest()):
        return "mac"
    claims = cbor2.loads(payload)
    measured = hashlib.sha256(DEVICE.read_bytes()).digest()
    assert claims[265] == "tag:psacertified.org,2023:psa#tfm"
    if claims[10] != challenge:
        return "nonce"
    assert claims[256] == b"\x01" + hashlib.sha256(hashlib.sha256(iak).digest()).digest()
    assert claims[2394] < 0 and len(claims[2396]) == 32 and len(claims[268]) == 32
    if not 0x3000 <= claims[2395] <= 0x30FF:
        return "lifecycle"
    if [(c[1], c[2]) for c in claims[2399]] != [("NSPE", measured)]:
        return "software"
    return claims


class Gateway:
    def __init__(self, tmp_path, role="sensor", binding="tls", algorithm="hmac256"):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(20)
        self.port = self.listener.getsockname()[1]
        self.binding, self.algorithm, self.processes = binding, algorithm, []
        self.bundle = tmp_path / "bundle"
        self.bundle.touch(mode=0o600)
        self.bundle.write_text(json.dumps({
            "version": 1, "device_id": "dev-1", "psk_identity": "dev-1", "psk": PSK.hex(),
            "iak": IAKS[algorithm][0].hex(), "iak_algorithm": algorithm, "kek": "5a" * 48, "binding": binding,
            "suites": ["profile-small"], "role": role, "group": None, "records": "any", "app_keys": []}))

    def device(self, *more):
        process = subprocess.Popen(
            [str(DEVICE), "--bundle", str(self.bundle), "--gateway", f"127.0.0.1:{self.port}", "--backoff", "200ms",
             *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def accept(self):
        sock, _ = self.listener.accept()
        sock.settimeout(None)
        return Session(sock)

    def challenge(self, session, nonce):
        exporter = session.exporter() if self.binding == "tls" else b""
        return hashlib.sha256(METHODS[self.binding] + nonce + exporter + b"dev-1").digest()

    def token(self, session, nonce=b"\x5a" * 32):
        """Take CONNECT, send the nonce, take the token: what verify() says of it."""
        _, _, body = session.expect(CONNECT)
        assert body[:7] == b"\0\4MQTT\5" and body.endswith(string(b"dev-1"))
        assert b"\x15" + string(METHODS[self.binding]) in body
        session.send(auth_packet(METHODS[self.binding], nonce))
        method, token = parse_auth(session.expect(AUTH)[2])
        assert method == METHODS[self.binding]
        return verify(token, self.challenge(session, nonce), self.algorithm)

    def attested(self):
        """A session of a device that was admitted; its SUBSCRIBE is answered."""
        session = self.accept()
        assert isinstance(self.token(session), dict)
        session.send(connack(0, METHODS[self.binding]))
        _, _, body = session.expect(SUBSCRIBE)
        filters, at = 0, 3
        while at < len(body):
            at += 3 + struct.unpack(">H", body[at:at + 2])[0]
            filters += 1
        session.send(packet(0x90, body[:2] + b"\0" + b"\1" * filters))
        return session

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.listener.close()


@pytest.fixture
def gateway(tmp_path):
    made = []

    def make(**more):
        made.append(Gateway(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.end()


def take_record(session):
    topic, number, payload = parse_publish(session.expect(PUBLISH))
    session.send(packet(PUBACK << 4, struct.pack(">H", number)))
    return topic, payload


@pytest.mark.parametrize("binding", ["tls", "none"])
@pytest.mark.parametrize("algorithm", list(IAKS))
def test_the_token_is_what_the_protocol_asks_for(gateway, binding, algorithm):
    home = gateway(binding=binding, algorithm=algorithm)
    home.device("--sensor", "constant:1,2")
    home.attested().close()


def test_a_sensor_publishes_its_records_and_ends(gateway):
    home = gateway()
    device = home.device("--sensor", "constant:23.5,41.0", "--period", "20ms", "--count", "3")
    session = home.attested()
    for _ in range(3):
        topic, payload = take_record(session)
        assert topic == b"dt/dev-1/climate"
        # docs/protocol.md 8
        assert payload.hex() == ("82a421666465762d312f006b74656d7065726174757265016343656c02c4822119092ea3006868756d"
                                 "6964697479016325524802c48221191004")
    session.expect(DISCONNECT)
    assert device.wait(10) == 0


def test_records_state_the_time_that_the_gateway_told(gateway):
    home = gateway()
    home.device("--sensor", "constant:-3.25,99", "--period", "20ms")
    session = home.attested()
    session.send(publish(b"$sp/time", b"1800000000"))
    times = set()
    for _ in range(5):
        first = cbor2.loads(take_record(session)[1])[0]
        times.add(first.get(-3))
        assert first[-2] == "dev-1/" and float(first[2]) == -3.25
    assert times <= {None, 1800000000, 1800000001} and max(t or 0 for t in times) >= 1800000000


@pytest.mark.parametrize("lie,check", [
    ("measurement", "software"), ("lifecycle", "lifecycle"), ("mac", "mac"), ("replay", "nonce")])
def test_each_lie_is_seen(gateway, lie, check):
    home = gateway()
    device = home.device("--tamper", lie, "--exit-on-refusal")
    session = home.accept()
    assert home.token(session) == check
    session.send(connack(0x87, text=check.encode() + b": refused"))
    assert device.wait(10) == 1
    assert f'event=refused device=dev-1 code=135 text="{check}: refused"' in device.stderr.read()


def test_a_refused_device_tries_again(gateway):
    home = gateway()
    home.device()
    for _ in range(3):
        session = home.accept()
        home.token(session)
        session.send(connack(0x87))
        session.close()


def test_a_gateway_that_admits_without_asking_is_left(gateway):
    home = gateway()
    device = home.device("--sensor", "constant:1,2")
    session = home.accept()
    session.expect(CONNECT)
    session.send(connack(0, METHODS["tls"]))
    with pytest.raises(AssertionError, match="the device closed"):
        session.packet()
    home.accept()
    device.send_signal(signal.SIGTERM)
    assert "did not challenge" in device.communicate(timeout=10)[1]


def test_attestation_is_repeated_when_asked(gateway):
    home = gateway(role="monitor")
    device = home.device()
    session = home.attested()
    for number in range(1, 4):
        nonce = bytes([number]) * 32
        session.send(publish(b"$sp/attest/challenge", nonce, qos=1, number=number))
        assert struct.unpack(">H", session.expect(PUBACK)[2][:2])[0] == number
        topic, _, token = parse_publish(session.expect(PUBLISH))
        assert topic == b"$sp/attest/token"
        assert isinstance(verify(token, home.challenge(session, nonce)), dict)
        session.send(publish(b"$sp/attest/verdict", b"ok"))
    device.send_signal(signal.SIGTERM)
    session.expect(DISCONNECT)
    assert device.wait(10) == 0


def test_an_unacknowledged_record_is_sent_again_first(gateway):
    home = gateway()
    source = home.bundle.parent / "reading"
    source.write_text("1,1")
    home.device("--sensor", f"file:{source}", "--period", "20ms")
    session = home.attested()
    _, _, lost = parse_publish(session.expect(PUBLISH))
    source.write_text("2,2")
    session.close()
    session = home.attested()
    _, number, again = parse_publish(session.expect(PUBLISH))
    assert again == lost
    session.send(packet(PUBACK << 4, struct.pack(">H", number)))
    for _ in range(20):
        if float(cbor2.loads(take_record(session)[1])[0][2]) == 2:
            break
    else:
        pytest.fail("the new readings did not come")


def test_a_monitor_prints_one_object_per_record(gateway):
    home = gateway(role="monitor")
    device = home.device("--count", "2")
    session = home.attested()
    record = cbor2.dumps([{-2: "other/", -3: 1700000000, 0: "temperature", 1: "Cel", 2: 21.5},
                          {0: "humidity", 1: "%RH", 2: 40}])
    session.send(publish(b"dt/other/climate", b"junk", qos=1, number=1))
    session.send(publish(b"dt/other/climate", record, qos=1, number=2))
    for _ in range(2):
        session.expect(PUBACK)
    out, log = device.communicate(timeout=10)
    assert device.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"device": "other", "time": 1700000000, "temperature_celsius": 21.5, "humidity_percent": 40,
         "sequence": None, "protection": "clear"}]
    assert "event=record_not_shown" in log


def test_keys_are_not_in_the_log(gateway):
    home = gateway()
    device = home.device("--sensor", "constant:1,2", "--count", "1")
    take_record(home.attested())
    out, log = device.communicate(timeout=10)
    for secret in (PSK, IAKS["hmac256"][0]):
        assert secret.hex() not in (out + log).lower()
