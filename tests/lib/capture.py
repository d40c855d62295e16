# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""What a device's link shows: a tap between the device and the gateway, and what can be read of it by who has the PSK."""
import hashlib
import hmac
import socket
import struct
import threading

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

GCM, CCM, CCM8 = 0x00A8, 0xC0A4, 0xC0A8  # TLS_PSK_WITH_AES_128_…
CHANGE_CIPHER_SPEC, HANDSHAKE, DATA = 20, 22, 23
CLIENT_HELLO, SERVER_HELLO, CLIENT_KEY_EXCHANGE = 1, 2, 16


class Tap:
    """Passes any number of connections on to `port` and keeps both directions; `flows`: (client's bytes, server's bytes)."""

    def __init__(self, port, listen=0):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", listen))
        self.port = self._listener.getsockname()[1]
        self.flows = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()
        except OSError:
            pass  # stopped

    def _join(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        flow = (bytearray(), bytearray())
        self.flows.append(flow)
        back = threading.Thread(target=_pass, args=(server, client, flow[1]), daemon=True)
        back.start()
        _pass(client, server, flow[0])
        back.join()
        client.close()
        server.close()

    def seen(self):
        """Every byte so far."""
        return b"".join(bytes(part) for flow in list(self.flows) for part in flow)

    def opened(self, psk):
        """Everything that was under TLS, for who has the PSK: of each finished handshake (client's bytes, server's bytes)."""
        opened = (_open(bytes(client), bytes(server), psk) for client, server in list(self.flows))
        return [flow for flow in opened if flow is not None]

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pass(source, sink, kept):
    try:
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _records(data):
    """(type, header, body) of all whole records."""
    while len(data) >= 5:
        size = struct.unpack(">H", data[3:5])[0]
        if len(data) < 5 + size:
            return
        yield data[0], data[:5], data[5:5 + size]
        data = data[5 + size:]


def _split(data):
    """What a side said in the clear of its handshake, and its records after ChangeCipherSpec."""
    clear, sealed, changed = b"", [], False
    for kind, header, body in _records(data):
        if changed:
            sealed.append((kind, header, body))
        elif kind == CHANGE_CIPHER_SPEC:
            changed = True
        elif kind == HANDSHAKE:
            clear += body
    return clear, sealed


def _messages(data):
    while len(data) >= 4:
        size = 4 + int.from_bytes(data[1:4], "big")
        yield data[0], data[:size]
        data = data[size:]


def _prf(secret, label, seed, length):
    out, a = b"", label + seed
    while len(out) < length:
        a = hmac.new(secret, a, hashlib.sha256).digest()
        out += hmac.new(secret, a + label + seed, hashlib.sha256).digest()
    return out[:length]


def _suite_of(server_hello):
    at = 4 + 2 + 32
    at += 1 + server_hello[at]
    return struct.unpack(">H", server_hello[at:at + 2])[0]


def _decrypt(suite, key, salt, records):
    """Bytes of application data; stops at a record that does not open, which is a fault of the reader."""
    aead = AESGCM(key) if suite == GCM else AESCCM(key, 8 if suite == CCM8 else 16)
    tag, out = 8 if suite == CCM8 else 16, b""
    for sequence, (kind, header, body) in enumerate(records):
        aad = struct.pack(">Q", sequence) + header[:3] + struct.pack(">H", len(body) - 8 - tag)
        plain = aead.decrypt(salt + body[:8], body[8:], aad)
        out += plain if kind == DATA else b""
    return out


def _open(client, server, psk):
    said, client_sealed = _split(client)
    answered, server_sealed = _split(server)
    mine = dict(_messages(said))
    theirs = list(_messages(answered))
    if CLIENT_KEY_EXCHANGE not in mine or not client_sealed or not server_sealed:
        return None
    suite = _suite_of(theirs[0][1])
    if suite not in (GCM, CCM, CCM8):
        raise ValueError(f"suite {suite:#06x} is none that a PSK alone opens")
    transcript = mine[CLIENT_HELLO] + b"".join(message for _, message in theirs) + mine[CLIENT_KEY_EXCHANGE]
    premaster = struct.pack(">H", len(psk)) + bytes(len(psk)) + struct.pack(">H", len(psk)) + psk
    master = _prf(premaster, b"extended master secret", hashlib.sha256(transcript).digest(), 48)
    randoms = theirs[0][1][6:38] + mine[CLIENT_HELLO][6:38]
    block = _prf(master, b"key expansion", randoms, 40)
    return (_decrypt(suite, block[:16], block[32:36], client_sealed),
            _decrypt(suite, block[16:32], block[36:40], server_sealed))
