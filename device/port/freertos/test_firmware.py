# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The firmware on emulated boards against a real gateway: three boards, and all that may happen to them."""
import json
import os
import pathlib
import random
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from tools.lab import qemu, serial_link  # noqa: E402
from tools.lab.cloud import Cloud, free_port  # noqa: E402
from tools.lab.gateway import Gateway  # noqa: E402
from tools.lab.process import wait_for  # noqa: E402

pytestmark = pytest.mark.skipif(not qemu.available(), reason="no emulator, or no images in build/firmware")
VECTOR = bytes.fromhex("00020302020307010261066280546c6300")  # of device/port/link/serial_link_test.c

SENSORS = ("mps2-an521", "musca-b1")
PERIOD_MS = 500
POWER_CUTS = int(os.environ.get("SALLYPORT_POWER_CUTS", "8"))
BACK = 60  # seconds in which a device must be back, its longest pause of 30 s included


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    made = Cloud(tmp_path_factory.mktemp("cloud")).start().log()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, cloud):
    """A gateway that keeps its port over restarts and accepts the firmware of every board as it was built."""
    made = Gateway(tmp_path_factory.mktemp("gateway") / "home", cloud, port=free_port()).start()
    for machine in qemu.MACHINES:
        qemu.accept_firmware(made, machine)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def boards(tmp_path_factory, gateway):
    """One board of each kind: AN521 and Musca-B1 as sensors, AN505 as monitor."""
    folder = tmp_path_factory.mktemp("boards")
    made = {}
    for machine in qemu.MACHINES:
        name = f"dev-{machine}"
        bundle = gateway.add(name, role="sensor" if machine in SENSORS else "monitor")
        made[machine] = qemu.Board(name, bundle, gateway.port, folder, machine, period_ms=PERIOD_MS).start()
    yield made
    for board in made.values():
        board.stop()


def documents(cloud, board):
    return [json.loads(payload) for _, payload in cloud.received(f"/{board.name}/climate")]


def wait_for_more(cloud, board, seconds=BACK, what="records"):
    """Three records more than now."""
    before = len(documents(cloud, board))
    wait_for(lambda: len(documents(cloud, board)) >= before + 3, seconds,
             f"{what} of {board.name}; its last lines: {board.lines[-8:]}")
    return documents(cloud, board)[-1]


def test_both_ends_of_the_serial_line_mean_the_same_bytes():
    frame = serial_link.Frame(serial_link.DATA, 0x00020007, 0x0100, b"a\0b")
    assert serial_link.encode(frame) == VECTOR
    assert serial_link.Decoder().feed(VECTOR) == [frame]
    byte_by_byte = serial_link.Decoder()
    assert [f for at in range(len(VECTOR)) for f in byte_by_byte.feed(VECTOR[at:at + 1])] == [frame]


def test_the_host_finds_a_frame_behind_any_garbage():
    numbers = random.Random(1)
    for _ in range(300):
        decoder = serial_link.Decoder()
        payload = numbers.randbytes(numbers.randrange(serial_link.PAYLOAD_MAX + 1))
        frame = serial_link.Frame(serial_link.DATA, numbers.getrandbits(32), numbers.getrandbits(16), payload)
        assert decoder.feed(numbers.randbytes(numbers.randrange(2000))) == []
        assert decoder.feed(serial_link.encode(frame)) == [frame]
        damaged = bytearray(serial_link.encode(frame))
        damaged[numbers.randrange(1, len(damaged) - 1)] ^= 1 << numbers.randrange(8)
        assert decoder.feed(bytes(damaged)) == []


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_a_board_attests(boards, machine):
    assert boards[machine].wait_event("secured")["text"].startswith("TLS_PSK_WITH_AES_128_")
    assert boards[machine].wait_event("attested")["ms"] < 10000


@pytest.mark.parametrize("machine", SENSORS)
def test_a_sensors_records_reach_the_cloud(boards, cloud, machine):
    document = wait_for_more(cloud, boards[machine])
    assert document["device"] == boards[machine].name and document["attested"] is True
    assert -50 < document["temperature_celsius"] < 100 and 0 <= document["humidity_percent"] <= 100


def test_what_the_thermometer_measures_arrives_at_the_cloud_and_on_the_monitors_console(boards, cloud):
    board, monitor = boards["mps2-an521"], boards["mps2-an505"]
    for celsius, percent in ((31.5, 62.0), (-7.25, 12.5)):
        board.set_temperature(celsius)
        board.set_humidity(percent)

        def has(documents_, celsius=celsius, percent=percent):
            return any((d["device"], d["temperature_celsius"], d["humidity_percent"]) == (board.name, celsius, percent)
                       for d in documents_)
        wait_for(lambda has=has: has(documents(cloud, board)), 20, f"{celsius} Cel at the cloud")
        wait_for(lambda has=has: has(monitor.records()), 20, f"{celsius} Cel on the monitor's console")


@pytest.mark.parametrize("machine", SENSORS)
def test_a_tampered_image_is_refused(gateway, cloud, tmp_path, machine):
    name = f"liar-{machine}"
    before = gateway.refused("software")
    board = qemu.Board(name, gateway.add(name), gateway.port, tmp_path, machine,
                       ns=qemu.tampered_image(machine, tmp_path / "ns.elf"))
    board.start()
    try:
        assert board.wait_event("refused")["text"].startswith("software")
        assert gateway.refused("software") > before
        assert not board.events("attested") and not documents(cloud, board)
    finally:
        board.stop()


def test_the_boards_come_back_when_the_gateway_was_restarted(boards, gateway, cloud):
    gateway.stop()
    time.sleep(2)
    gateway.start()
    for machine in SENSORS:
        wait_for_more(cloud, boards[machine])
    seen = len(boards["mps2-an505"].records())
    wait_for(lambda: len(boards["mps2-an505"].records()) > seen, BACK, "records on the monitor's console")


def test_the_boards_come_back_when_the_gateway_was_killed(boards, gateway, cloud):
    gateway.kill()
    gateway.start()
    for machine in SENSORS:
        wait_for_more(cloud, boards[machine])


def test_a_short_loss_of_the_network_does_not_end_the_connection(boards, cloud):
    board = boards["mps2-an521"]
    lost = len(board.events("connection_lost"))
    board.set_network(False)
    time.sleep(2)
    board.set_network(True)
    wait_for_more(cloud, board)
    assert len(board.events("connection_lost")) == lost


def test_a_half_open_connection_is_noticed(boards, gateway, cloud):
    """The gateway forgets the connection while the board is cut off and cannot hear of it."""
    board = boards["mps2-an521"]
    board.set_network(False)
    gateway.stop()
    gateway.start()
    time.sleep(1)
    board.set_network(True)
    wait_for_more(cloud, board)


def test_a_board_without_its_network_notices_and_comes_back(boards, cloud):
    board = boards["mps2-an521"]
    lost = len(board.events("connection_lost"))
    board.set_network(False)
    board.wait_event("connection_lost", 60, lost + 1)
    board.set_network(True)
    wait_for_more(cloud, board)


def test_garbage_on_the_serial_line_does_not_stop_the_board(boards, cloud):
    board = boards["musca-b1"]
    for garbage in (b"\xff" * 3000, bytes(5000), bytes(range(256)) * 20, b"\x00\x02\x03" * 500, b"\x01"):
        for _ in range(10):
            board.link.inject(garbage)
        wait_for_more(cloud, board)


def test_a_serial_line_that_loses_bytes_starts_over(boards, cloud):
    board = boards["musca-b1"]
    opened = board.link.opened
    for _ in range(3):
        board.link.unplug()
        wait_for_more(cloud, board)
    board.link.cut()
    wait_for_more(cloud, board)
    assert board.link.opened > opened


def test_the_hosts_end_of_the_serial_line_may_be_restarted(boards, gateway, cloud):
    board = boards["musca-b1"]
    port = board.link.port
    board.link.stop()
    time.sleep(1)
    board.link = qemu.SerialLink(("127.0.0.1", gateway.port), port).start()
    wait_for_more(cloud, board)


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_a_board_comes_back_from_a_reset(boards, machine):
    board = boards[machine]
    times = len(board.events("attested"))
    board.reset()
    board.wait_event("attested", BACK, times + 1)


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_a_board_comes_back_from_a_power_cut(boards, machine):
    board = boards[machine]
    times = len(board.events("attested"))
    board.kill()
    board.start()
    board.wait_event("attested", BACK, times + 1)


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_a_board_survives_power_cuts_at_any_moment_of_its_start(boards, machine):
    board = boards[machine]
    seconds = random.Random(machine)
    for _ in range(POWER_CUTS):
        board.kill()
        board.start()
        time.sleep(seconds.uniform(0, 0.4))
    times = len(board.events("attested"))
    board.kill()
    board.start()
    board.wait_event("attested", BACK, times + 1)


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_the_keys_are_nowhere_in_non_secure_memory(boards, machine):
    board = boards[machine]
    keys = json.loads(board.bundle.read_text())
    memory = board.non_secure_memory()
    assert board.name.encode() in memory, "this is not the memory of the board"
    for name in ("psk", "iak"):
        secret = bytes.fromhex(keys[name])
        for form in (secret, secret[::-1], keys[name].encode(), keys[name].upper().encode()):
            assert form not in memory, f"{name} is in non-secure memory"


@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_tasks_that_are_preempted_inside_the_secure_world_do_not_disturb_each_other(gateway, tmp_path, machine):
    name = f"stress-{machine}"
    board = qemu.Board(name, gateway.add(name), gateway.port, tmp_path, machine,
                       ns=qemu.FIRMWARE / machine / "test_stress.elf")
    board.start()
    try:
        wait_for(lambda: board.events("stress_done") or board.events("stress_failed"), 60, "the end of the stress")
        assert board.events("stress_done") and not board.events("restart")
    finally:
        board.stop()


@pytest.mark.parametrize("attempt,exception", [("execute_data", 4), ("write_code", 4), ("exceed_stack", 6)])
@pytest.mark.parametrize("machine", qemu.MACHINES)
def test_the_non_secure_world_protects_itself(gateway, tmp_path, machine, attempt, exception):
    name = f"{attempt.replace('_', '-')}-{machine}"
    board = qemu.Board(name, gateway.add(name), gateway.port, tmp_path, machine,
                       ns=qemu.FIRMWARE / machine / f"test_{attempt}.elf")
    board.start()
    try:
        assert board.wait_event("restart")["code"] == exception
        assert not board.events("survived")
    finally:
        board.stop()
