# SPDX-License-Identifier: Apache-2.0
"""A small MQTT 3.1.1 and 5 client for tests, written apart from libs/mqtt so that both can be wrong only separately."""
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = range(1, 10)
PUBREC, PUBREL, PUBCOMP = 5, 6, 7
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 10, 11, 12, 13, 14, 15

# id → kind of value
PROPERTIES = {1: "b", 2: "i", 3: "s", 8: "s", 9: "s", 11: "v", 17: "i", 18: "s", 19: "h", 21: "s", 22: "s", 23: "b",
              24: "i", 25: "b", 26: "s", 28: "s", 31: "s", 33: "h", 34: "h", 35: "h", 36: "b", 37: "b", 38: "p",
              39: "i", 40: "b", 41: "b", 42: "b"}
METHOD, DATA, REASON_STRING, SESSION_EXPIRY, RECEIVE_MAXIMUM = 21, 22, 31, 17, 33
MESSAGE_EXPIRY, RESPONSE_TOPIC, CORRELATION, SUBSCRIPTION_ID, WILL_DELAY, TOPIC_ALIAS = 2, 8, 9, 11, 24, 35


def varint(value):
    out = b""
    while True:
        out += bytes([value % 128 | (128 if value > 127 else 0)])
        value //= 128
        if value == 0:
            return out


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def properties(values):
    """A property block from {id: value}; a list stands for several of one kind."""
    body = b""
    for number, value in (values or {}).items():
        for one in value if isinstance(value, list) else [value]:
            kind = PROPERTIES[number]
            encoded = {"b": lambda v: bytes([v]), "h": lambda v: struct.pack(">H", v), "v": varint, "s": text,
                       "i": lambda v: struct.pack(">I", v), "p": lambda v: text(v[0]) + text(v[1])}[kind](one)
            body += bytes([number]) + encoded
    return varint(len(body)) + body


def packet(kind, body, flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(version, client_id=b"", clean=True, keep_alive=60, props=None, will=None, will_props=None):
    """`will` = (topic, payload, qos, retain)."""
    flags = 2 if clean else 0
    if will:
        flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
    body = text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    body += properties(props) if version == 5 else b""
    body += text(client_id)
    if will:
        body += (properties(will_props) if version == 5 else b"") + text(will[0]) + text(will[1])
    return packet(CONNECT, body)


class Packet:
    def __init__(self, kind, flags, body, version):
        self.kind, self.flags, self.body = kind, flags, body
        self.props, self.reason, self.packet_id = {}, None, None
        v5 = version == 5
        if kind == CONNACK:
            self.session_present, self.reason = body[0], body[1]
            self.props = _parse(body, 2)[0] if v5 else {}
        elif kind == PUBLISH:
            size = struct.unpack(">H", body[:2])[0]
            self.topic, at = body[2:2 + size].decode(), 2 + size
            self.qos, self.dup, self.retain = flags >> 1 & 3, flags >> 3, flags & 1
            if self.qos:
                self.packet_id, at = struct.unpack(">H", body[at:at + 2])[0], at + 2
            if v5:
                self.props, at = _parse(body, at)
            self.payload = body[at:]
        elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK):
            self.packet_id = struct.unpack(">H", body[:2])[0]
            if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
                self.reason = body[2] if len(body) > 2 else 0
                self.props = _parse(body, 3)[0] if len(body) > 3 else {}
            else:
                at = _parse(body, 2)[1] if v5 else 2
                self.codes = list(body[at:])
        elif kind in (DISCONNECT, AUTH):
            self.reason = body[0] if body else 0
            self.props = _parse(body, 1)[0] if len(body) > 1 else {}

    def __repr__(self):
        return f"<packet {self.kind} reason={self.reason} id={self.packet_id} props={self.props} {self.body[:80]!r}>"


def _varint_at(body, at):
    value = shift = 0
    while True:
        value |= (body[at] & 127) << shift
        shift += 7
        at += 1
        if body[at - 1] < 128:
            return value, at


def _parse(body, at):
    size, at = _varint_at(body, at)
    end, found = at + size, {}
    while at < end:
        number, at = body[at], at + 1
        kind = PROPERTIES[number]
        if kind == "b":
            value, at = body[at], at + 1
        elif kind == "h":
            value, at = struct.unpack(">H", body[at:at + 2])[0], at + 2
        elif kind == "i":
            value, at = struct.unpack(">I", body[at:at + 4])[0], at + 4
        elif kind == "v":
            value, at = _varint_at(body, at)
        else:
            parts = []
            for _ in range(2 if kind == "p" else 1):
                length = struct.unpack(">H", body[at:at + 2])[0]
                parts.append(body[at + 2:at + 2 + length])
                at += 2 + length
            value = tuple(parts) if kind == "p" else parts[0]
        if kind in "pv":
            found.setdefault(number, []).append(value)
        else:
            found[number] = value
    return found, end


class Closed(Exception):
    """The server closed the connection."""


class Mqtt:
    """Packets over a TlsPsk (or anything with send, recv, close, abort)."""

    def __init__(self, tls, version=5):
        self.tls, self.version = tls, version
        self._buffer = b""
        self._next_id = 0

    def send(self, data):
        self.tls.send(data)

    def receive(self):
        """The next packet, whatever it is."""
        while True:
            if len(self._buffer) >= 2:
                try:
                    size, at = _varint_at(self._buffer, 1)
                except IndexError:
                    size = None
                if size is not None and len(self._buffer) >= at + size:
                    first, body = self._buffer[0], self._buffer[at:at + size]
                    self._buffer = self._buffer[at + size:]
                    return Packet(first >> 4, first & 15, body, self.version)
            data = self.tls.recv()
            if not data:
                raise Closed()
            self._buffer += data

    def expect(self, kind, seconds=10.0):
        """The next packet of that kind; PUBLISH packets that come before it are dropped unless it is one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.receive()
            if found.kind == kind:
                return found
            if found.kind != PUBLISH:
                raise AssertionError(f"wanted packet {kind}, got {found}")
        raise TimeoutError

    def expect_close(self):
        """Everything the server still says until it closes."""
        said = []
        try:
            while True:
                said.append(self.receive())
        except Closed:
            return said

    def next_id(self):
        self._next_id = self._next_id % 65535 + 1
        return self._next_id

    def publish(self, topic, payload, qos=0, retain=False, dup=False, packet_id=None, props=None):
        body = text(topic)
        if qos:
            packet_id = packet_id or self.next_id()
            body += struct.pack(">H", packet_id)
        body += properties(props) if self.version == 5 else b""
        self.send(packet(PUBLISH, body + payload, qos << 1 | retain | dup << 3))
        return packet_id

    def subscribe(self, *filters, qos=1, props=None):
        """The codes that the SUBACK gives. `qos`: all of the options byte."""
        body = struct.pack(">H", self.next_id()) + (properties(props) if self.version == 5 else b"")
        self.send(packet(SUBSCRIBE, body + b"".join(text(f) + bytes([qos]) for f in filters), 2))
        return self.expect(SUBACK).codes

    def unsubscribe(self, *filters):
        """The codes that the UNSUBACK gives; none in 3.1.1."""
        body = struct.pack(">H", self.next_id()) + (properties(None) if self.version == 5 else b"")
        self.send(packet(UNSUBSCRIBE, body + b"".join(text(f) for f in filters), 2))
        return self.expect(UNSUBACK).codes

    def ack(self, publish):
        self.send(packet(PUBACK, struct.pack(">H", publish.packet_id)))

    def answer(self, kind, packet_id):
        """PUBACK, PUBREC, PUBREL or PUBCOMP without a reason."""
        self.send(packet(kind, struct.pack(">H", packet_id), 2 if kind == PUBREL else 0))

    def release(self, packet_id):
        self.send(packet(PUBREL, struct.pack(">H", packet_id), 2))

    def ping(self):
        self.send(packet(PINGREQ, b""))
        self.expect(PINGRESP)

    def disconnect(self):
        self.send(packet(DISCONNECT, b""))
        self.tls.close()
