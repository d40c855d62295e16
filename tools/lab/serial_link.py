# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The host's end of a board's serial line to the gateway: frames on one side, a TCP connection on the other.

The frames and their rules are in device/port/link/frame.h. The board asks for a connection (OPEN); we make one to the
gateway and say so (OPENED), or that we cannot (CLOSE). Nothing is repeated: a gap in the sequence ends the connection, and
the board opens another. When a board's line comes in, CLOSE with epoch 0 tells it that whatever it had open is gone. The board's side is a TCP port that the emulator connects to; for a real board, put
`socat TCP:127.0.0.1:PORT /dev/ttyACM1,b115200,raw,crtscts` there. One board per link.

    python3 -m tools.lab.serial_link --listen 5600 --gateway 127.0.0.1:8883
"""
import argparse
import binascii
import collections
import selectors
import socket
import struct
import threading
import time

OPEN, OPENED, DATA, CLOSE = 1, 2, 3, 4
VERSION = b"\x01"
PAYLOAD_MAX = 240
WIRE_MAX = 7 + PAYLOAD_MAX + 4 + 1
PROBE_SECONDS = 1.0  # after the last DATA an empty one follows, so that the loss of the last is noticed
HIGH_WATER = 65536  # bytes on their way to a side that does not take them: the other is not read meanwhile

Frame = collections.namedtuple("Frame", "type epoch sequence payload")


def encode(frame):
    """A frame as it goes over the line."""
    body = struct.pack(">BIH", frame.type, frame.epoch, frame.sequence) + frame.payload
    body += struct.pack(">I", binascii.crc32(body))
    return b"\0" + b"".join(bytes([len(run) + 1]) + run for run in body.split(b"\0")) + b"\0"


def _unstuff(raw):
    out, at = bytearray(), 0
    while at < len(raw):
        run = raw[at]
        if at + run > len(raw):
            return b""
        out += raw[at + 1:at + run]
        at += run
        if at < len(raw):
            out.append(0)
    return bytes(out)


class Decoder:
    """Bytes in, frames out; whatever is no frame is skipped, and counted in `skipped`."""

    def __init__(self):
        self._raw = b""
        self.skipped = 0

    def feed(self, data):
        *chunks, rest = (self._raw + data).split(b"\0")
        self._raw = rest[:WIRE_MAX + 1]  # one byte too long: never a frame, whatever follows
        parsed = [self._parse(chunk) for chunk in chunks if chunk]
        self.skipped += parsed.count(None)
        return [frame for frame in parsed if frame is not None]

    @staticmethod
    def _parse(chunk):
        body = _unstuff(chunk) if 0 < len(chunk) <= WIRE_MAX else b""
        if len(body) < 11 or struct.unpack(">I", body[-4:])[0] != binascii.crc32(body[:-4]):
            return None
        kind, epoch, sequence = struct.unpack(">BIH", body[:7])
        return Frame(kind, epoch, sequence, body[7:-4]) if OPEN <= kind <= CLOSE else None


class _Connection:
    """A connection to the gateway on behalf of one epoch."""

    def __init__(self, epoch, gateway):
        self.epoch = epoch
        self.sent = self.expected = 0  # sequences to and from the board
        self.out = bytearray()
        self.established = False
        self.probe_at = None  # when the empty DATA is due
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.failed = self.socket.connect_ex(gateway) not in (0, 115)  # EINPROGRESS


class SerialLink:
    """Bridge one board to `gateway` (host, port); runs in a thread of its own between start() and stop()."""

    def __init__(self, gateway, port=0):
        self.gateway = gateway
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(1)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._board = None
        self._out = bytearray()
        self._decoder = Decoder()
        self._connection = None
        self._jobs = collections.deque()
        self._running = False
        self._thread = None
        self.opened = 0  # connections that reached the gateway

    def start(self):
        self._running = True
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        self._do(self._end)
        self._thread.join(5)

    def inject(self, data):
        """Put bytes on the line to the board that no frame of ours is made of."""
        self._do(lambda: self._out.extend(data))

    def cut(self):
        """Drop the connection to the gateway as a broken network would; the board is told nothing."""
        self._do(self._drop)

    def unplug(self):
        """Break the line to the board; the emulator connects again within a second."""
        self._do(self._board_gone)

    def _do(self, job):
        self._jobs.append(job)
        self._wake_write.send(b"x")

    def _end(self):
        self._running = False

    def run(self):
        self._running = True
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._work)
        while self._running:
            for key, mask in self._selector.select(PROBE_SECONDS / 4):
                if key.fileobj.fileno() >= 0:
                    key.data(mask)
            self._probe()
            self._interests()
        self._drop()
        self._board_gone()
        self._selector.close()
        for part in (self._listener, self._wake_read, self._wake_write):
            part.close()

    def _work(self, _mask):
        self._wake_read.recv(64)
        while self._jobs:
            self._jobs.popleft()()

    def _accept(self, _mask):
        board, _ = self._listener.accept()
        self._board_gone()
        board.setblocking(False)
        board.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._board = board
        self._drop()  # bytes may be missing, and what the board had open was perhaps not ours
        self._send(CLOSE, 0)

    def _interests(self):
        """Tell the selector what each side is waited for."""
        connection = self._connection
        self._watch(self._board, self._on_board, connection is None or len(connection.out) < HIGH_WATER, bool(self._out))
        if connection is not None:
            self._watch(connection.socket, self._on_gateway, connection.established and len(self._out) < HIGH_WATER,
                        bool(connection.out) or not connection.established)

    def _watch(self, part, call, reading, writing):
        if part is None:
            return
        mask = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if writing else 0)
        known = part in self._selector.get_map()
        if known and mask:
            self._selector.modify(part, mask, call)
        elif known:
            self._selector.unregister(part)
        elif mask:
            self._selector.register(part, mask, call)

    def _forget(self, part):
        if part in self._selector.get_map():
            self._selector.unregister(part)
        part.close()

    def _board_gone(self):
        self._out.clear()
        self._decoder = Decoder()
        if self._board is not None:
            self._forget(self._board)
            self._board = None

    def _drop(self):
        if self._connection is not None:
            self._forget(self._connection.socket)
            self._connection = None

    def _send(self, kind, epoch, sequence=0, payload=b""):
        if self._board is not None:
            self._out += encode(Frame(kind, epoch, sequence, payload))

    def _send_data(self, payload):
        connection = self._connection
        self._send(DATA, connection.epoch, connection.sent, payload)
        connection.sent = (connection.sent + 1) & 0xFFFF
        connection.probe_at = time.monotonic() + PROBE_SECONDS if payload else None

    def _probe(self):
        if self._connection is not None and self._connection.probe_at is not None and time.monotonic() >= self._connection.probe_at:
            self._send_data(b"")

    def _on_board(self, mask):
        try:
            if mask & selectors.EVENT_WRITE and self._out:
                del self._out[:self._board.send(self._out)]
            if mask & selectors.EVENT_READ:
                data = self._board.recv(4096)
                if not data:
                    self._board_gone()
                for frame in self._decoder.feed(data):
                    self._on_frame(frame)
        except BlockingIOError:
            pass
        except OSError:
            self._board_gone()

    def _on_frame(self, frame):
        connection = self._connection
        current = connection is not None and connection.epoch == frame.epoch
        if frame.type == OPEN and frame.payload == VERSION:
            self._on_open(frame.epoch, current)
        elif frame.type == CLOSE and current:
            self._drop()
        elif frame.type == DATA and current and connection.established and frame.sequence == connection.expected:
            connection.expected = (connection.expected + 1) & 0xFFFF
            connection.out += frame.payload
        elif frame.type == DATA:  # a gap, or of a connection that is no more
            self._send(CLOSE, frame.epoch)
            if current:
                self._drop()

    def _on_open(self, epoch, current):
        if current:  # repeated: our answer is under way, or was lost
            if self._connection.established:
                self._send(OPENED, epoch)
            return
        self._drop()
        self._connection = _Connection(epoch, self.gateway)
        if self._connection.failed:
            self._close()

    def _close(self):
        self._send(CLOSE, self._connection.epoch)
        self._drop()

    def _on_gateway(self, mask):
        connection = self._connection
        try:
            if mask & selectors.EVENT_WRITE and not connection.established:
                self._established(connection)
            if mask & selectors.EVENT_WRITE and connection.out:
                del connection.out[:connection.socket.send(connection.out)]
            if mask & selectors.EVENT_READ:
                data = connection.socket.recv(4096)
                for at in range(0, len(data), PAYLOAD_MAX):
                    self._send_data(data[at:at + PAYLOAD_MAX])
                if not data:
                    self._close()
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _established(self, connection):
        error = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        connection.established = True
        self.opened += 1
        self._send(OPENED, connection.epoch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, required=True, metavar="PORT", help="where the board's line comes in")
    parser.add_argument("--gateway", required=True, metavar="HOST:PORT")
    args = parser.parse_args()
    host, port = args.gateway.rsplit(":", 1)
    link = SerialLink((host, int(port)), args.listen)
    try:
        link.run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
