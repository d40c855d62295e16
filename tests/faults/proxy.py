#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A bad network between two that speak TCP; orders on stdin, until it closes.

    proxy.py PORT TARGET     127.0.0.1, from PORT to TARGET

    delay MS       what comes from now on is passed on so late, in order
    crumbs 0|1     one byte in a segment
    cut            every connection ends in order, FIN to both sides
    reset          RST to both sides
    half near|far  every connection is reset on the other side; this one hears and says nothing, until `calm`
    deaf 0|1       nothing is passed on, nobody is told
    calm           all as it should be; what hung is reset
"""
import collections
import selectors
import socket
import struct
import sys
import time

CHUNK = 65536
HELD_MAX = 256 * 1024
CRUMBS = 400  # in a turn
RESET = struct.pack("ii", 1, 0)


class End:
    """One side of a connection: what is to be sent there, and when."""

    def __init__(self, sock, name):
        self.sock, self.name = sock, name
        self.peer = None
        self.held = collections.deque()  # (due, bytes)
        self.size = 0
        self.finished = False  # nothing more comes from the peer: FIN when `held` is empty
        self.hung = False


class Proxy:
    def __init__(self, port, target):
        self.target = ("127.0.0.1", target)
        self.delay, self.crumbs, self.deaf = 0.0, False, False
        self.ends = {}
        self.select = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.listener.setblocking(False)
        self.select.register(self.listener, selectors.EVENT_READ, self.accept)
        self.select.register(sys.stdin.buffer.raw, selectors.EVENT_READ, self.order)
        self.more = True
        self.rest = b""

    # ---- connections ----

    def accept(self, _):
        near, _ = self.listener.accept()
        far = socket.socket()
        try:
            far.connect(self.target)
        except OSError:
            self.drop(near)
            far.close()
            return
        ends = End(near, "near"), End(far, "far")
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        for end in ends:
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.sock.setblocking(False)
            self.ends[end.sock] = end

    @staticmethod
    def drop(sock, reset=True):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def forget(self, end, reset=True):
        if self.ends.pop(end.sock, None) is not None:
            if end.sock in self.select.get_map():
                self.select.unregister(end.sock)
            self.drop(end.sock, reset)

    def end_both(self, end, reset=True):
        self.forget(end, reset)
        self.forget(end.peer, reset)

    def watch(self, end, now):
        """What this side waits for at the moment."""
        want = 0
        if not end.hung and not end.peer.finished and end.peer.size < HELD_MAX and not self.deaf:
            want |= selectors.EVENT_READ
        if end.held and end.held[0][0] <= now and not self.deaf and not end.hung:
            want |= selectors.EVENT_WRITE
        known = self.select.get_map().get(end.sock)
        if known is None and want:
            self.select.register(end.sock, want, self.ready)
        elif known is not None and not want:
            self.select.unregister(end.sock)
        elif known is not None and known.events != want:
            self.select.modify(end.sock, want, self.ready)

    def ready(self, sock):
        end = self.ends.get(sock)
        if end is None:
            return
        try:
            self.flush(end)
            self.read(end)
        except BlockingIOError:
            pass
        except OSError:
            self.end_both(end)

    def read(self, end):
        if end.peer.finished or end.peer.size >= HELD_MAX or self.deaf:
            return
        data = end.sock.recv(CHUNK)
        if not data:
            end.peer.finished = True
        else:
            end.peer.held.append((time.monotonic() + self.delay, data))
            end.peer.size += len(data)

    def flush(self, end):
        sent, now = 0, time.monotonic()
        while end.held and end.held[0][0] <= now and not self.deaf and (not self.crumbs or sent < CRUMBS):
            due, data = end.held[0]
            count = end.sock.send(data[:1] if self.crumbs else data)
            end.size -= count
            sent += 1
            if count == len(data):
                end.held.popleft()
            else:
                end.held[0] = (due, data[count:])

    # ---- orders ----

    def order(self, _):
        data = sys.stdin.buffer.raw.read(4096)
        self.more = bool(data)
        *lines, self.rest = (self.rest + (data or b"")).split(b"\n")
        for line in lines:
            word, *arguments = line.decode().split()
            getattr(self, "do_" + word)(*arguments)

    def do_delay(self, ms):
        self.delay = int(ms) / 1000

    def do_crumbs(self, on):
        self.crumbs = on == "1"

    def do_deaf(self, on):
        self.deaf = on == "1"

    def do_cut(self):
        self._each(lambda end: self.end_both(end, reset=False))

    def do_reset(self):
        self._each(self.end_both)

    def do_half(self, side):
        def hang(end):
            if end.name == side and not end.hung:
                end.hung = True
                self.forget(end.peer)
        self._each(hang)

    def do_calm(self):
        self.delay, self.crumbs, self.deaf = 0.0, False, False
        self._each(lambda end: self.forget(end) if end.hung else None)

    def _each(self, what):
        for end in list(self.ends.values()):
            if end.sock in self.ends:
                what(end)

    def play(self):
        print('{"event":"ready"}', flush=True)
        while self.more:
            now = time.monotonic()
            for end in list(self.ends.values()):
                if end.sock not in self.ends:
                    continue
                if end.finished and not end.held and not end.hung:
                    self.end_both(end, reset=False)
                else:
                    self.watch(end, now)
            waits = [end.held[0][0] - now for end in self.ends.values() if end.held and not end.hung and not self.deaf]
            waits = [wait for wait in waits if wait > 0]
            for key, _ in self.select.select(min(waits, default=1.0)):
                key.data(key.fileobj)


if __name__ == "__main__":
    Proxy(int(sys.argv[1]), int(sys.argv[2])).play()
