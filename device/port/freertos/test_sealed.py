# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""Sealed records of emulated boards: app keys live in the secure world, and a counter never comes twice (docs/protocol.md 5, 6)."""
import json
import os
import pathlib
import random
import sys
import time

import cbor2
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from tests.lib.capture import Tap  # noqa: E402
from tests.lib.memory import memory_of  # noqa: E402
from tests.lib.records import open_record, record_key  # noqa: E402
from tools.lab import qemu  # noqa: E402
from tools.lab.cloud import Cloud  # noqa: E402
from tools.lab.gateway import Gateway  # noqa: E402
from tools.lab.process import wait_for  # noqa: E402

pytestmark = pytest.mark.skipif(not qemu.available(), reason="no emulator, or no images in build/firmware")

SENSOR, MONITOR = "mps2-an521", "mps2-an505"
POWER_CUTS = int(os.environ.get("SALLYPORT_POWER_CUTS", "10"))
GROUPS = {"private": "end-to-end", "hall": "open"}
CELSIUS, PERCENT = 31.25, 63.5
SAID = bytes.fromhex("c48221190c35"), bytes.fromhex("c482211918ce")  # 31.25 and 63.50 as a record has them


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    made = Cloud(tmp_path_factory.mktemp("cloud")).start().log()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, cloud):
    made = Gateway(tmp_path_factory.mktemp("gateway") / "home", cloud)
    for machine in (SENSOR, MONITOR):
        qemu.accept_firmware(made, machine)
    for group, mode in GROUPS.items():
        made.cli("group", "add", group, "--mode", mode)
    yield made.start()
    made.stop()


class Pair:
    """A sensor and a monitor in one group, a tap at each one's link."""

    def __init__(self, gateway, folder, group):
        self.gateway, self.group = gateway, group
        self.taps = {name: Tap(gateway.port) for name in ("sensor", "monitor")}
        self.boards = {}
        for name, machine in (("monitor", MONITOR), ("sensor", SENSOR)):
            bundle = gateway.add(f"{name}-{group}", "--group", group, role=name)
            self.boards[name] = qemu.Board(f"{name}-{group}", bundle, self.taps[name].port, folder, machine,
                                           period_ms=200).start(CELSIUS, PERCENT)
        self.sensor, self.monitor = self.boards["sensor"], self.boards["monitor"]
        self.monitor.wait_event("key_granted", 60)
        wait_for(lambda: len(self.shown()) >= 5, 60, "opened records on the monitor's console")

    def shown(self):
        return [r for r in self.monitor.records() if r["temperature_celsius"] is not None]

    def secrets(self):
        """Name and bytes of every key that no non-secure world may hold."""
        out = self.gateway.folder / f"{self.group}.keys"
        self.gateway.cli("group", "export", self.group, "--out", out)
        for entry in json.loads(out.read_text())["epochs"]:
            key = bytes.fromhex(entry["key"])
            yield f"group key of epoch {entry['epoch']}", key
            yield f"record key of epoch {entry['epoch']}", record_key(key, self.sensor.name)
        for name, board in self.boards.items():
            kek = bytes.fromhex(json.loads(board.bundle.read_text())["kek"])
            yield f"KEK (encryption) of the {name}", kek[:16]
            yield f"KEK (authentication) of the {name}", kek[16:]

    def stop(self):
        for part in (*self.boards.values(), *self.taps.values()):
            part.stop()


@pytest.fixture(scope="module", params=GROUPS)
def pair(request, gateway, tmp_path_factory):
    made = Pair(gateway, tmp_path_factory.mktemp(request.param), request.param)
    yield made
    made.stop()


def assert_no_key(pair, where, content):
    for name, key in pair.secrets():
        for form in (key, key[::-1], key.hex().encode(), key.hex().upper().encode()):
            assert form not in content, f"{name} is in {where}"


def assert_no_value(where, content):
    for value in (*SAID, b"temperature\x01", b"humidity\x01"):
        assert value not in content, f"a plain record is in {where}"


def payloads(cloud, board):
    """What reached the cloud unread: [(epoch, counter, payload)] in order."""
    found = []
    for _, payload in cloud.received(f"/{board.name}/climate"):
        header = cbor2.loads(cbor2.loads(payload).value[0])
        found.append((int.from_bytes(header[4][:4], "big"), int.from_bytes(header[6], "big"), payload))
    return found


def test_the_monitor_shows_what_the_sensor_measured(pair):
    record = pair.shown()[-1]
    assert (record["device"], record["protection"]) == (pair.sensor.name, "sealed")
    assert (record["temperature_celsius"], record["humidity_percent"]) == (31.25, 63.5)


@pytest.mark.parametrize("name", ["sensor", "monitor"])
def test_app_keys_are_nowhere_in_non_secure_memory(pair, name):
    board = pair.boards[name]
    memory = board.non_secure_memory()
    assert board.name.encode() in memory, "this is not the memory of the board"
    assert_no_key(pair, f"the non-secure memory of the {name}", memory)


def test_the_sensors_non_secure_world_only_carries_what_it_measured(pair):
    memory = pair.sensor.non_secure_memory()
    assert bytes([0xD0, 0x83]) in memory, "no sealed record is here"
    assert_no_value("the sensor's non-secure memory", memory)


@pytest.mark.parametrize("name", ["sensor", "monitor"])
def test_a_capture_of_the_link_shows_neither_key_nor_value(pair, name):
    assert len(pair.taps[name].seen()) > 1000
    assert_no_key(pair, f"a capture at the {name}", pair.taps[name].seen())
    assert_no_value(f"a capture at the {name}", pair.taps[name].seen())


@pytest.mark.parametrize("name", ["sensor", "monitor"])
def test_not_even_who_has_the_psk_reads_keys_or_values_from_the_link(pair, name):
    """The devices' suites have no forward secrecy: with the PSK a capture can be decrypted, and this does it."""
    flows = pair.taps[name].opened(bytes.fromhex(json.loads(pair.boards[name].bundle.read_text())["psk"]))
    under = b"".join(part for flow in flows for part in flow)
    topic = f"dt/{pair.sensor.name}/climate".encode()
    assert b"$sp/key/grant" in under and under.count(topic) >= 5
    assert_no_key(pair, f"what TLS carried for the {name}", under)
    assert_no_value(f"what TLS carried for the {name}", under)


def test_the_cloud_gets_documents_or_what_only_the_group_key_opens(pair, cloud):
    received = wait_for(lambda: cloud.received(f"/{pair.sensor.name}/climate"), 20, "records at the cloud")
    if GROUPS[pair.group] == "open":
        document = json.loads(received[-1][1])
        assert (document["temperature_celsius"], document["protection"]) == (31.25, "sealed")
        return
    epoch, _, payload = payloads(cloud, pair.sensor)[-1]
    keys = dict(pair.secrets())
    plain = open_record(keys[f"record key of epoch {epoch}"], f"dt/{pair.sensor.name}/climate", payload)[2]
    assert all(value in plain for value in SAID)
    assert_no_value("the payload", payload)


def test_gate_can_read_an_open_group_only(pair, gateway):
    memory = memory_of(gateway.pids()["gate"])
    keys = dict(pair.secrets())
    assert any(key in memory for name, key in keys.items() if name.startswith("group key")) is (GROUPS[pair.group] == "open")
    if GROUPS[pair.group] != "open":
        assert_no_key(pair, "gate's memory", memory)


def test_power_cuts_never_take_a_record_counter_back(gateway, cloud, tmp_path):
    """The emulator is killed at random moments of start-up, sealing and sending."""
    gateway.cli("group", "add", "cuts", "--mode", "end-to-end")
    name, seed = "cut-sensor", random.randrange(1 << 32)
    board = qemu.Board(name, gateway.add(name, "--group", "cuts"), gateway.port, tmp_path, SENSOR, period_ms=50)
    chance = random.Random(seed)
    board.start()
    wait_for(lambda: payloads(cloud, board), 60, "the first record")
    boot = []
    try:
        for cut in range(POWER_CUTS):
            before = len(payloads(cloud, board))
            started = time.monotonic()
            board.kill()
            board.start()
            if cut % 2 == 0:  # let it come to sealing, and cut somewhere behind that
                wait_for(lambda before=before: len(payloads(cloud, board)) > before, 60, f"records after cut {cut}, seed {seed}")
                boot.append(time.monotonic() - started)
                time.sleep(chance.uniform(0, 0.3))
            else:  # anywhere, around the first sealing above all
                time.sleep(chance.uniform(0.2, 1.3) * min(boot))
        board.kill()
        board.start()
        before = len(payloads(cloud, board))
        wait_for(lambda: len(payloads(cloud, board)) > before, 60, f"records at the end, seed {seed}")
    finally:
        board.stop()
    records = list(dict.fromkeys(payloads(cloud, board)))  # what is sent again after a lost connection is the same bytes
    places = [record[:2] for record in records]
    assert len(set(places)) == len(places), f"a counter came twice, seed {seed}"
    assert places == sorted(places), f"a counter went back, seed {seed}"
    assert len({counter // 1024 for _, counter in places}) > POWER_CUTS // 2, "each start goes on at the stored limit"
    print(f"\n{POWER_CUTS} power cuts, {len(records)} records, counters {places[0]} to {places[-1]}, seed {seed}")
