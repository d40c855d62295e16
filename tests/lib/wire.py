# SPDX-License-Identifier: Apache-2.0
"""What lies between a client and the gateway, or speaks without a TLS library: a relay that damages, and hand-made hellos."""
import socket
import struct
import threading


class Relay:
    """Passes one connection on to `port`; `change(data, offset)` gives back the pieces that are sent instead of the client's bytes."""

    def __init__(self, port, change):
        self._change, self._target = change, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        client, _ = self._listener.accept()
        self._listener.close()
        server = socket.create_connection(("127.0.0.1", self._target), 10)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._back, args=(server, client), daemon=True).start()
        offset = 0
        try:
            while data := client.recv(65536):
                for piece in self._change(data, offset):
                    server.sendall(piece)
                offset += len(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            server.close()

    @staticmethod
    def _back(server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        try:
            client.shutdown(socket.SHUT_RDWR)  # a close() would wait for the other thread's recv()
        except OSError:
            pass


def by_bytes(data, _offset):
    """Each byte in a TCP segment of its own."""
    return [data[i:i + 1] for i in range(len(data))]


def tiny_records(data, _offset, size=1):
    """Handshake messages in clear cut into tiny records; whole records come in."""
    out = b""
    while data:
        end = 5 + struct.unpack(">H", data[3:5])[0]
        whole, data = data[:end], data[end:]
        clear = whole[0] == 22 and whole[5] in (1, 16)
        out += records_of(whole[5:], size=size) if clear else whole
    return [out]


def flip(position, bit=1):
    """Change one bit of the client's byte number `position`."""
    def change(data, offset):
        at = position - offset
        if 0 <= at < len(data):
            data = data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]
        return [data]
    return change


def record(kind, body, version=0x0303):
    return struct.pack(">BHH", kind, version, len(body)) + body


def message(kind, body):
    return bytes([kind]) + struct.pack(">I", len(body))[1:] + body


def extension(number, body):
    return struct.pack(">HH", number, len(body)) + body


EMS = extension(23, b"")


def client_hello(version=0x0303, suites=(0xC0A8,), extensions=EMS, session=b"", compression=b"\0"):
    body = struct.pack(">H", version) + bytes(32) + bytes([len(session)]) + session
    body += struct.pack(">H", 2 * len(suites)) + b"".join(struct.pack(">H", s) for s in suites)
    body += bytes([len(compression)]) + compression + struct.pack(">H", len(extensions)) + extensions
    return message(1, body)


def psk_extension(identity, binder=bytes(32), identities=None, binders=None):
    """RFC 8446 4.2.11; `identities` and `binders` replace the lists as they are."""
    if identities is None:
        identities = struct.pack(">H", len(identity)) + identity + bytes(4)
    if binders is None:
        binders = bytes([len(binder)]) + binder
    return extension(41, struct.pack(">H", len(identities)) + identities + struct.pack(">H", len(binders)) + binders)


def hello13(psk, after=b""):
    share = struct.pack(">HH", 29, 32) + b"\x09" + bytes(31)
    extensions = (extension(43, b"\2\3\4") + extension(45, b"\1\1") + extension(10, b"\0\2\0\x1d")
                  + extension(51, struct.pack(">H", len(share)) + share) + psk + after)
    return client_hello(suites=(0x1301,), extensions=extensions)


def key_exchange(identity):
    return message(16, struct.pack(">H", len(identity)) + identity)


def records_of(data, kind=22, size=16384, version=0x0303):
    return b"".join(record(kind, data[i:i + size], version) for i in range(0, len(data), size))


def talk(port, *pieces, seconds=8.0, wait=True):
    """Send each piece (after an answer, where `wait`) and give back all that the gateway says until it closes; None: it does not."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), seconds) as sock:
        sock.settimeout(seconds)
        try:
            for number, piece in enumerate(pieces):
                if number and wait:
                    said += sock.recv(65536)
                sock.sendall(piece)
            while data := sock.recv(65536):
                said += data
        except TimeoutError:
            return None
        except OSError:
            pass
    return said


def alerts(said):
    """The numbers of the alerts in clear in a flight."""
    found = []
    while said and len(said) >= 5:
        size = 5 + struct.unpack(">H", said[3:5])[0]
        if said[0] == 21 and size == 7:
            found.append(said[6])
        said = said[size:]
    return found
