# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""A scripted MQTT cloud over mutual TLS, for tests of the cloud link. It does what its script says and logs all."""

import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Message:
    """One PUBLISH as it arrived."""

    connection: int
    client_id: str
    topic: str
    payload: bytes
    qos: int
    dup: bool
    packet_id: int
    properties: dict = field(default_factory=dict)  # user properties
    expiry: int | None = None
    reason: int | None = None  # what it was answered with; None: not at all
    at: float = 0.0

    @property
    def message_id(self):
        p = self.properties
        return "/".join((p["gateway"], p["epoch"], p["device"], p["sequence"]))


def varint(n):
    out = b""
    while True:
        n, low = divmod(n, 128)
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def text(s):
    raw = s.encode()
    return struct.pack("!H", len(raw)) + raw


def packet(first, body):
    return bytes([first]) + varint(len(body)) + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        part = self.data[self.at:self.at + n]
        assert len(part) == n, "cut off"
        self.at += n
        return part

    def u16(self):
        return struct.unpack("!H", self.take(2))[0]

    def text(self):
        return self.take(self.u16()).decode()

    def varint(self):
        value = shift = 0
        while True:
            b = self.take(1)[0]
            value |= (b & 0x7F) << shift
            shift += 7
            if b < 0x80:
                return value

    def rest(self):
        return self.take(len(self.data) - self.at)


def read_properties(r):
    """User properties and message expiry of a PUBLISH."""
    end = r.varint() + r.at
    user, expiry = {}, None
    while r.at < end:
        kind = r.varint()
        if kind == 0x26:
            name = r.text()
            assert name not in user, "a user property twice"
            user[name] = r.text()
        elif kind == 0x02:
            expiry = struct.unpack("!I", r.take(4))[0]
        else:
            raise AssertionError(f"property {kind}")
    return user, expiry


class Cloud:
    """`answer(message)` decides: a reason code, None for silence, "close" to hang up, bytes to send as they are."""

    def __init__(self, certificates, answer=lambda message: 0):
        self.answer = answer
        self.connack = b"\x00\x00\x00"  # flags, reason, no properties
        self.version = 5
        self.messages = []
        self.connects = []  # times and client ids
        self.subscriptions = []
        self.pubacks = []  # of our own messages
        self.changed = threading.Condition()
        self.sockets = {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        self.context.load_verify_locations(certificates / "ca.crt")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = None
        self.port = 0
        self.open()

    def open(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.listener.listen(16)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self):
        """Be away: no listener, no connection."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        for s in list(self.sockets.values()):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def publish(self, topic, payload, qos=1, packet_id=1):
        body = text(topic) + (struct.pack("!H", packet_id) if qos else b"") + b"\x00" + payload
        for s in list(self.sockets.values()):
            s.sendall(packet(0x30 | qos << 1, body))

    def wait(self, what, seconds=20):
        with self.changed:
            ok = self.changed.wait_for(lambda: what(self), seconds)
        assert ok, f"nothing came of it: {len(self.messages)} messages, {len(self.connects)} connects"

    def accepted(self):
        return [m for m in self.messages if m.reason == 0]

    def _accept(self, listener):
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        number = len(self.connects)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s = self.context.wrap_socket(raw, server_side=True)
            self._talk(s, number)
        except (OSError, AssertionError, ConnectionError) as e:
            if isinstance(e, AssertionError):
                print("cloud:", e)
        finally:
            self.sockets.pop(id(raw), None)
            raw.close()

    def _talk(self, s, number):
        stream = s.makefile("rb")
        client_id = ""
        while True:
            first = stream.read(1)
            if not first:
                return
            length = shift = 0
            while True:
                b = stream.read(1)[0]
                length |= (b & 0x7F) << shift
                shift += 7
                if b < 0x80:
                    break
            r = Reader(stream.read(length))
            kind = first[0] >> 4
            if kind == 1:
                client_id, number = self._connect(s, r)
            elif kind == 3:
                if not self._publish(s, r, first[0], client_id, number):
                    return
            elif kind == 4:
                with self.changed:
                    self.pubacks.append(r.u16())
                    self.changed.notify_all()
            elif kind == 8:
                self._subscribe(s, r)
            elif kind == 12:
                s.sendall(b"\xd0\x00")
            elif kind == 14:
                return

    def _connect(self, s, r):
        assert r.text() == "MQTT"
        level = r.take(1)[0]
        assert level == self.version, level
        r.take(3)
        if level == 5:
            r.take(r.varint())
        client_id = r.text()
        with self.changed:
            self.connects.append((time.monotonic(), client_id))
            number = len(self.connects)
            self.sockets[number] = s
            self.changed.notify_all()
        s.sendall(packet(0x20, self.connack if level == 5 else self.connack[:2]))
        return client_id, number

    def _publish(self, s, r, first, client_id, number):
        topic = r.text()
        qos = first >> 1 & 3
        packet_id = r.u16() if qos else 0
        user, expiry = read_properties(r) if self.version == 5 else ({}, None)
        m = Message(number, client_id, topic, r.rest(), qos, bool(first & 8), packet_id, user,
                    expiry, at=time.monotonic())
        verdict = self.answer(m)
        if isinstance(verdict, int):  # or else it may have been answered meanwhile, by another thread
            m.reason = verdict
        with self.changed:
            self.messages.append(m)
            self.changed.notify_all()
        if verdict == "close":
            s.shutdown(socket.SHUT_RDWR)
            return False
        if isinstance(verdict, bytes):
            s.sendall(verdict)
        elif verdict is not None and qos:
            code = bytes([verdict]) if verdict and self.version == 5 else b""
            s.sendall(packet(0x40, struct.pack("!H", packet_id) + code))
        return True

    def _subscribe(self, s, r):
        packet_id = r.u16()
        if self.version == 5:
            r.take(r.varint())
        asked = []
        while r.at < len(r.data):
            asked.append((r.text(), r.take(1)[0] & 3))
        codes = b"\x01" * len(asked)
        s.sendall(packet(0x90, struct.pack("!H", packet_id) + (b"\x00" if self.version == 5 else b"") + codes))
        with self.changed:  # not before: the test may publish now, and one socket is no place for two writers
            self.subscriptions += asked
            self.changed.notify_all()
