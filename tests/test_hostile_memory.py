# SPDX-License-Identifier: Apache-2.0
"""The oracle's other half: what is refused leaves nothing behind in gate, whichever door it came to. Every row of the tables of attacks
is repeated, and the bytes that gate has in use (tests/hostile/odds.c counts each allocation and each free) are what they were."""
import pytest

from tests.conftest import add_reference
from tests.lib import mqtt, wire
from tests.lib.attester import TestDevice
from tests.lib.odds import Odds
from tests.lib.oracle import ask, full
from tests.lib.tlspsk import TlsError
from tests.test_hostile import (AFTER_CONNACK, AFTER_CONNACK_311, BROKEN_PSK, HELLOS, INSTEAD_OF_CONNECT, OUT_OF_TURN, TOKENS, hexed)
from tests.test_hostile_tokens import ROWS, Maker
from tools.lab.gateway import Gateway
from tools.lab.process import BUILD, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif("asan" in str(BUILD), reason="a sanitizer has an allocator of its own, and finds leaks itself")]
TRIES, SMALLEST = full(40, 1000), 16  # no allocation is smaller


class Place:
    """A gateway of one loop that counts, and a device for those who come in."""

    def __init__(self, folder):
        self.odds = Odds(folder / "odds")
        self.gateway = Gateway(folder / "home", extra="limits: {attempts: 100000, log_lines: 0}\n")
        add_reference(self.gateway)
        self.open, self.attested = self.gateway.add("open", "--attestation", "none"), self.gateway.add("attested")
        self.gateway.env = self.odds.environment()
        self.gateway.start()
        self.odds.watch_heap(self.gateway.pids()["gate"])

    def quiet(self):
        wait_for(lambda: ask(self.gateway)["metrics"]["connections_open"] == 0, 20, "nobody to be connected")

    def in_use(self):
        return self.odds.heap() + ask(self.gateway)["metrics"]["connection_state_bytes"]

    # ---- the doors ----

    def admitted(self, data, version):
        dev = TestDevice(self.gateway, self.open, version)
        dev.connect(props={mqtt.METHOD: None})
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
        dev.mqtt.send(data)
        dev.mqtt.expect_close()

    def first(self, data):
        dev = TestDevice(self.gateway, self.open)
        dev.mqtt.send(data)
        while dev.tls.recv():
            pass

    def token(self, make):
        dev = TestDevice(self.gateway, self.attested)
        dev.connect()
        dev.answer(make(dev, dev.nonce()))
        dev.abort()

    def tls(self, *pieces):
        assert wire.talk(self.gateway.port, *pieces, seconds=12) is not None

    def name(self, **how):
        with pytest.raises(TlsError):
            TestDevice(self.gateway, self.open, **how)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("memory"))
    yield made
    assert made.gateway.stop() == 0


def by_case():
    """Case → what is done for each of its rows."""
    found = {}

    def add(name, door, *what):
        found.setdefault(name.split(" ")[0] if name[:1] in "MTC" and name[1:2] == "-" else "more", []).append((door, what))
    for name, data, _ in AFTER_CONNACK:
        add(name, Place.admitted, data, 5)
    for name, data in AFTER_CONNACK_311:
        add(name, Place.admitted, hexed(data), 4)
    for name, data, _ in INSTEAD_OF_CONNECT:
        add(name, Place.first, data)
    for name, changes, _ in TOKENS:
        add(name, Place.token, lambda dev, nonce, changes=changes: dev.token(nonce, **changes))
    for name, make, _ in ROWS:
        add(name, Place.token, lambda dev, nonce, make=make: make(Maker(dev, dev.challenge(nonce))))
    for name, hello, _ in HELLOS:
        add(name, Place.tls, wire.records_of(hello, version=0x0301))
    for _, second in OUT_OF_TURN:
        add("T-14", Place.tls, wire.records_of(wire.client_hello()), second)
    for _, hello in BROKEN_PSK:
        add("T-16", Place.tls, wire.records_of(hello))
    for length in (0, 64, 257, 65535):
        exchange = wire.records_of(wire.key_exchange(b"a" * length)) + wire.record(20, b"\1") + wire.record(22, bytes(40))
        add("T-04", Place.tls, wire.records_of(wire.client_hello()), exchange)
    found["T-03"] = [(lambda place: place.name(identity=b"open\0evil"), ())]
    found["T-05"] = [(lambda place: place.name(identity=b"nobody"), ()), (lambda place: place.name(psk=b"w" * 32), ())]
    for data in (mqtt.connect(5, b"dev"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100)):
        add("T-22", Place.tls, data)
    return found


CASES = by_case()


@pytest.mark.parametrize("name", CASES)
def test_attacks_leave_no_byte_in_use(place, name):
    def round_of():
        for door, what in CASES[name]:
            door(place, *what)
    rounds = max(2, -(-TRIES // len(CASES[name])))
    for _ in range(max(2, -(-10 // len(CASES[name])))):  # what is made once, and what caches hold
        round_of()
    place.quiet()
    before = place.in_use()
    for _ in range(rounds):
        round_of()
    place.quiet()
    most = before + SMALLEST * rounds * len(CASES[name])
    wait_for(lambda: place.in_use() < most, 10, f"{place.in_use()} bytes in use to be near the {before} of before")


def test_what_is_in_use_is_counted(place):
    """The measure can fail: half a packet lies in gate's heap, and a connection in its slabs."""
    place.quiet()
    heap, whole = place.odds.heap(), place.in_use()
    dev = TestDevice(place.gateway, place.open)
    dev.connect(props={mqtt.METHOD: None})
    assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
    dev.mqtt.send(mqtt.packet(mqtt.PUBLISH, bytes(2000), 2)[:1900])
    wait_for(lambda: place.odds.heap() >= heap + 1900, 5, "half a packet to be in use")
    assert place.in_use() - place.odds.heap() > whole - heap
    dev.abort()
    place.quiet()
    wait_for(lambda: place.odds.heap() < heap + 1900, 5, "it to be given back")
