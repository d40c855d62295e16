# SPDX-License-Identifier: Apache-2.0
"""Sealed records, app keys and fusion, end to end (docs/protocol.md 5, 6, 7)."""
import json
import os
import signal
import struct
import threading
import time

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt
from tests.lib.attester import climate
from tests.lib.memory import memory_of
from tests.lib.records import MAC, InvalidTag, KeyDevice, open_record, record_key, seal
from tools.lab.cloud import Cloud
from tools.lab.gateway import Device, Gateway
from tools.lab.process import program, run, wait_for

FUSIONS = """fusions:
  - {name: hall, inputs: dt/+/climate, window: 1s, late: 500ms, declassify: true, cloud: "dt/sallyport/{gateway}/fused/hall"}
  - {name: closed, inputs: dt/+/climate, window: 1s, late: 0ms}
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    cloud = Cloud(folder / "cloud").start().log()
    gateway = Gateway(folder / "home", cloud, threads=2, extra=FUSIONS)
    add_reference(gateway)
    gateway.cli("group", "add", "hall")
    gateway.cli("group", "add", "readable", "--algorithm", "mac")
    gateway.cli("group", "add", "private", "--mode", "end-to-end")
    yield gateway.start(), cloud
    gateway.stop()
    cloud.stop()


@pytest.fixture
def sensor(system, names):
    """`sensor(group)`: an attested device with its key."""
    def make(group="hall", name=None, **more):
        gateway, _ = system
        bundle = gateway.add(name or names("seal"), "--group", group)
        dev = KeyDevice(gateway, bundle, **more)
        dev.join()
        return dev
    return make


def flipped(payload):
    return payload[:-1] + bytes([payload[-1] ^ 1])


def refused(gateway, kind):
    return gateway.metric(f'records_refused_total{{kind="{kind}"}}')


def documents(cloud, name):
    return [json.loads(p) for t, p in cloud.received(f"/{name}/climate")]


def test_a_sealed_record_reaches_the_cloud_as_json(system, sensor):
    gateway, cloud = system
    dev = sensor()
    assert dev.send(dev.sealed(2350)) == 0 and dev.send(dev.sealed(2351)) == 0
    wait_for(lambda: len(documents(cloud, dev.bundle.id)) == 2)
    first, second = documents(cloud, dev.bundle.id)
    assert first["temperature_celsius"] == 23.5 and first["sequence"] == 1 and first["protection"] == "sealed"
    assert second["sequence"] == 2 and second["attested"] is True and second["message_id"] != first["message_id"]


def test_an_authenticated_record_is_told_apart(system, sensor):
    gateway, cloud = system
    dev = sensor("readable")
    assert dev.send(dev.sealed(algorithm=MAC)) == 0
    wait_for(lambda: documents(cloud, dev.bundle.id))
    assert documents(cloud, dev.bundle.id)[0]["protection"] == "mac"


FORMATS = """routes:
  - {from: dt/as-raw/climate, cloud: "up/{device}", format: raw}
  - {from: dt/as-senml/climate, cloud: "up/{device}", format: senml-json}
  - {from: dt/as-json/climate, cloud: "up/{device}", format: json}
"""


def test_an_opened_record_goes_to_the_cloud_in_each_format(system, tmp_path):
    _, cloud = system
    gateway = Gateway(tmp_path / "home", cloud, routes=FORMATS, gateway_id="gw-2")
    add_reference(gateway)
    gateway.cli("group", "add", "hall")
    gateway.start()
    try:
        sent, got = {}, {}
        for name in ("as-raw", "as-senml", "as-json"):
            dev = KeyDevice(gateway, gateway.add(name, "--group", "hall"))
            dev.join()
            sent[name] = dev.sealed(2350)
            assert dev.send(sent[name]) == 0
            wait_for(lambda name=name: cloud.received(f"up/{name}"))
            got[name] = cloud.received(f"up/{name}")[0][1]
        assert got["as-raw"] == sent["as-raw"]
        senml = json.loads(got["as-senml"])
        assert [(r.get("bn"), r["n"], r["u"], r["v"]) for r in senml] == \
            [("as-senml/", "temperature", "Cel", 23.5), (None, "humidity", "%RH", 41)]
        document = json.loads(got["as-json"])
        assert (document["temperature_celsius"], document["humidity_percent"], document["sequence"]) == (23.5, 41, 1)
    finally:
        gateway.stop()


def test_each_false_record_is_refused_with_its_counter(system, sensor):
    gateway, cloud = system
    dev, other = sensor(), sensor()
    good = dev.sealed()
    before = {kind: refused(gateway, kind) for kind in ("weaker", "form", "key", "epoch", "open", "content", "range", "time")}
    assert dev.send(climate(dev.bundle.id)) == 0x99
    assert dev.send(b"\x00hello") == 0x99
    assert dev.send(seal(dev.keys[1], dev.topic, climate(dev.bundle.id), "yard", 1, 9)) == 0x99
    assert dev.send(seal(dev.keys[1], dev.topic, climate(dev.bundle.id), "hall", 99, 9)) == 0x99
    assert dev.send(flipped(good)) == 0x99                       # a bit flipped
    assert dev.send(other.sealed(topic=other.topic)) == 0x99                        # another device's
    assert dev.send(good, f"dt/{dev.bundle.id}/elsewhere") == 0x99                   # on another topic
    assert dev.send(dev.sealed(device=other.bundle.id)) == 0x99                     # names another device inside
    assert dev.send(seal(dev.keys[1], dev.topic, climate(dev.bundle.id, 9999999), "hall", 1, 90)) == 0x99
    after = {kind: refused(gateway, kind) - before[kind] for kind in before}
    assert after == {"weaker": 1, "form": 1, "key": 1, "epoch": 1, "open": 3, "content": 1, "range": 1, "time": 0}
    assert dev.send(good) == 0
    wait_for(lambda: documents(cloud, dev.bundle.id))
    time.sleep(0.3)
    assert len(documents(cloud, dev.bundle.id)) == 1 and not documents(cloud, other.bundle.id)


def test_replayed_and_reordered_records_are_acknowledged_and_go_nowhere(system, sensor):
    gateway, cloud = system
    dev = sensor()
    records = [dev.sealed(2000 + n) for n in range(5)]
    assert dev.send(records[1]) == 0 and dev.send(records[4]) == 0
    before = gateway.metric("records_repeated_total")
    for number in (0, 1, 2, 3, 4):
        assert dev.send(records[number]) == 0
    assert gateway.metric("records_repeated_total") == before + 5
    assert dev.send(dev.sealed(2100)) == 0
    wait_for(lambda: len(documents(cloud, dev.bundle.id)) == 3)
    time.sleep(0.3)
    assert [d["sequence"] for d in documents(cloud, dev.bundle.id)] == [2, 5, 6]


def dead_letters(gateway, name):
    lines = gateway.cli("journal", "export", "--dead-letters").stdout.splitlines()
    return [entry for entry in map(json.loads, lines) if entry["device"] == name]


def test_over_3_1_1_a_refused_record_is_acknowledged_and_a_dead_letter(system, sensor):
    gateway, cloud = system
    dev = sensor(version=4)
    bad = [climate(dev.bundle.id), b"\x00hello", flipped(dev.sealed()), dev.sealed(temperature=9999999)]
    kinds = ["weaker", "form", "open", "range"]
    before = gateway.metric("journal_dead_letters_total")
    for payload in bad:
        assert dev.send(payload) == 0
    found = dead_letters(gateway, dev.bundle.id)
    assert [bytes.fromhex(entry["payload"]) for entry in found] == bad
    assert [entry["reason"] for entry in found] == [f"refused record: {kind}" for kind in kinds]
    assert {entry["topic"] for entry in found} == {dev.topic}
    assert gateway.metric("journal_dead_letters_total") == before + 4
    gateway.cli("journal", "requeue")
    assert len(dead_letters(gateway, dev.bundle.id)) == 4, "a refused record never goes to the cloud"
    assert dev.send(dev.sealed()) == 0
    wait_for(lambda: documents(cloud, dev.bundle.id))
    time.sleep(0.3)
    assert len(documents(cloud, dev.bundle.id)) == 1


def test_over_mqtt_5_a_refused_record_is_no_dead_letter(system, sensor):
    gateway, _ = system
    dev = sensor()
    assert dev.send(b"\x00hello") == 0x99 and not dead_letters(gateway, dev.bundle.id)


def test_ten_records_that_do_not_open_end_the_connection(system, sensor):
    gateway, _ = system
    dev = sensor()
    before = gateway.metric("records_closed_total")
    for _ in range(10):
        bad = bytearray(dev.sealed())
        bad[-3] ^= 4
        dev.mqtt.publish(dev.topic, bytes(bad), qos=1)
    said = dev.mqtt.expect_close()
    assert said[-1].kind == mqtt.DISCONNECT and said[-1].reason == 0x99
    assert gateway.metric("records_closed_total") == before + 1
    assert len([line for line in gateway.events("record_refused") if f"{dev.bundle.id} " in line or
                f'"{dev.bundle.id}"' in line]) == 1, "told once per device and kind"


def test_the_mark_outlives_every_process(system, sensor, names):
    gateway, cloud = system
    name = names("mark")
    dev = sensor(name=name)
    record = dev.sealed()
    assert dev.send(record) == 0
    for process in ("gate", "store", "keys"):
        restarts = gateway.metric(f"{process}_restarts_total")
        os.kill(gateway.pids()[process], signal.SIGKILL)
        gateway.wait_metric(f"{process}_restarts_total", restarts + 1)
        again = wait_for(lambda: _join_again(gateway, dev), 20, "a connection")
        assert again.send(record) == 0
        again.close()
    time.sleep(0.5)
    assert len({d["message_id"] for d in documents(cloud, name)}) == 1  # delivered twice at most (D5), accepted once


def _join_again(gateway, dev):
    again = None
    try:
        again = KeyDevice(gateway, gateway.folder / f"{dev.bundle.id}.json", timeout=5)
        again.keys, again.epoch, again.counter = dict(dev.keys), dev.epoch, dev.counter
        again.attest()
        grant = again.mqtt.receive()
        while grant.kind != mqtt.PUBLISH or grant.topic != "$sp/key/grant":
            grant = again.mqtt.receive()
        again.take_grant(grant, status=1)
        assert again.mqtt.expect(mqtt.PUBACK).reason == 0
        return again
    except (OSError, mqtt.Closed, AssertionError, TimeoutError):
        return None


def test_a_counter_that_went_back_rotates_the_group(system, sensor, names):
    gateway, _ = system
    gateway.cli("group", "add", "lost")
    dev = sensor("lost")
    for _ in range(3):
        assert dev.send(dev.sealed()) == 0
    dev.close()
    fresh = KeyDevice(gateway, gateway.folder / f"{dev.bundle.id}.json")
    assert fresh.join()[3] == 1  # says that its next counter is 1
    grant = fresh.wait_grant()
    assert grant[3] == 2
    assert gateway.events("app_key_alarm")
    assert fresh.send(fresh.sealed()) == 0


def epochs(gateway, name):
    return next(g for g in json.loads(gateway.cli("group", "list", "--json").stdout) if g["group"] == name)["epochs"]


def test_monitors_get_a_new_epoch_first_and_the_old_one_ends(system, sensor, names):
    gateway, _ = system
    gateway.cli("group", "add", "short", "--grace", "2s")
    dev = sensor("short")
    monitor = KeyDevice(gateway, gateway.add(names("mon"), "--group", "short", role="monitor"))
    assert monitor.join()[5] == 1
    old = [dev.sealed(), dev.sealed()]
    gateway.cli("group", "rotate", "short")
    grant = monitor.wait_grant()
    assert grant[3] == 2 and grant[5] == 1
    assert dev.wait_grant()[3] == 2
    assert record_key(grant[6], dev.bundle.id) == dev.keys[2]
    assert dev.send(old[0]) == 0 and dev.send(dev.sealed()) == 0
    time.sleep(2.5)
    before = refused(gateway, "epoch")
    assert dev.send(old[1]) == 0x99
    assert refused(gateway, "epoch") == before + 1 and dev.send(dev.sealed()) == 0
    gateway.cli("device", "revoke", monitor.bundle.id)
    assert monitor.mqtt.expect_close()[-1].reason == 0x98
    assert dev.wait_grant()[3] == 3


def test_an_unacknowledged_grant_keeps_the_connection(system, names):
    gateway, _ = system
    dev = KeyDevice(gateway, gateway.add(names("mute"), "--group", "hall"))
    dev.attest()
    found = dev.mqtt.receive()
    while found.kind != mqtt.PUBLISH or found.topic != "$sp/key/grant":
        found = dev.mqtt.receive()
    first = dev.open_grant(found.payload)
    dev.mqtt.ack(found)
    again, deadline = None, time.monotonic() + 13
    while again is None and time.monotonic() < deadline:
        time.sleep(0.5)
        dev.mqtt.send(mqtt.packet(mqtt.PINGREQ, b""))
        found = dev.mqtt.receive()
        while found.kind != mqtt.PINGRESP:
            again = found if found.kind == mqtt.PUBLISH and found.topic == "$sp/key/grant" else again
            found = dev.mqtt.receive()
    assert again is not None and dev.open_grant(again.payload)[1] > first[1]


def test_a_monitor_opens_what_the_gateway_forwards(system, sensor, names):
    gateway, _ = system
    dev = sensor("private")
    monitor = KeyDevice(gateway, gateway.add(names("mon"), "--group", "private", role="monitor"))
    key = monitor.join()[6]
    assert monitor.mqtt.subscribe(dev.topic) == [1]
    before = gateway.metric("records_forwarded_total")
    payload = dev.sealed(1234)
    assert dev.send(payload) == 0
    found = monitor.mqtt.expect(mqtt.PUBLISH)
    assert found.payload == payload and gateway.metric("records_forwarded_total") == before + 1
    assert open_record(record_key(key, dev.bundle.id), dev.topic, payload)[2] == climate(dev.bundle.id, 1234)
    with pytest.raises(InvalidTag):
        open_record(record_key(key, monitor.bundle.id), dev.topic, payload)


def test_a_cloud_consumer_opens_an_end_to_end_record(system, sensor, tmp_path):
    gateway, cloud = system
    dev = sensor("private")
    assert dev.send(dev.sealed(1717)) == 0
    wait_for(lambda: cloud.received(f"/{dev.bundle.id}/climate"))
    payload = cloud.received(f"/{dev.bundle.id}/climate")[0][1]
    keys, record = tmp_path / "keys.json", tmp_path / "record"
    gateway.cli("group", "export", "private", "--out", keys)
    assert keys.stat().st_mode & 0o777 == 0o600
    record.write_bytes(payload)
    words = [program("sallyport"), "record", "open", "--keys", keys, "--topic"]
    opened = json.loads(run(*words, dev.topic, record).stdout)
    assert opened["temperature_celsius"] == 17.17 and opened["sequence"] == 1 and opened["protection"] == "sealed"
    assert run(*words, "dt/other/climate", record, check=False).returncode == 1
    record.write_bytes(flipped(payload))
    failed = run(*words, dev.topic, record, check=False)
    assert failed.returncode == 1 and "refused: open" in failed.stderr


def test_a_cloud_consumer_notices_repeats(system, sensor, names, tmp_path):
    gateway, _ = system
    group = names("lines")
    gateway.cli("group", "add", group, "--mode", "end-to-end")
    dev, other = sensor(group), sensor(group)
    keys = tmp_path / "keys.json"
    gateway.cli("group", "export", group, "--out", keys)
    one, two, three = (dev.sealed(2000 + n) for n in range(3))
    from_other = other.sealed(2500)
    forged = flipped(dev.sealed(2600, counter=99))
    lines = [(dev, one), (dev, three), (dev, three), (dev, two), (other, from_other), (other, three), (dev, forged), (dev, dev.sealed(2003))]
    text = "".join(f"{sender.topic} {payload.hex()}\n" for sender, payload in lines)
    text += f"nonsense\n{dev.topic} 0g\ndt/ 00\n{dev.topic} {'00' * 5000}\n"
    words = [program("sallyport"), "record", "open", "--keys", keys, "--lines"]
    result = run(*words, "-", data=text, check=False)
    opened = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(r["device"], r["sequence"]) for r in opened] == \
        [(dev.bundle.id, 1), (dev.bundle.id, 3), (other.bundle.id, 1), (dev.bundle.id, 4)]
    refused_ = [line.split(": ")[1:4:2] for line in result.stderr.splitlines()]
    assert refused_ == [["line 3", "repeat"], ["line 4", "repeat"], ["line 6", "open"], ["line 7", "open"],
                        ["line 9", "form"], ["line 10", "form"], ["line 11", "form"], ["line 12", "form"]]
    assert result.returncode == 1
    file = tmp_path / "lines"
    file.write_text(f"{dev.topic} {one.hex()}\r\n{dev.topic} {two.hex()}")
    assert len(run(*words, file).stdout.splitlines()) == 2
    assert run(*words, file, "--topic", dev.topic, check=False).returncode == 2
    assert run(*words, tmp_path / "none", check=False).returncode == 1


def test_gate_holds_neither_key_nor_value_of_an_end_to_end_group(system, sensor, tmp_path):
    gateway, _ = system
    dev, plain = sensor("private"), sensor("hall")
    assert dev.send(dev.sealed(31337)) == 0 and plain.send(plain.sealed(29437)) == 0
    memory = memory_of(gateway.pids()["gate"])
    keys = tmp_path / "keys.json"
    for group, expected in (("hall", True), ("private", False)):
        gateway.cli("group", "export", group, "--out", keys)
        key = bytes.fromhex(json.loads(keys.read_text())["epochs"][-1]["key"])
        assert (key in memory) is expected, group
    assert dev.keys[1] not in memory and dev.kek not in memory
    assert climate(dev.bundle.id, 31337) not in memory
    assert struct.pack("<d", 294.37) in memory, "of what it reads it keeps the last values: this is how they look"
    for form in (struct.pack("<d", 313.37), struct.pack("<q", 31337), bytes.fromhex("c48221197a69")):
        assert form not in memory, "a plain value of an end-to-end record"


def test_fusion_of_sealed_records(system, sensor, names):
    gateway, cloud = system
    time.sleep(3)  # the windows of what earlier tests sent are over
    monitor = KeyDevice(gateway, gateway.add(names("mon"), "--group", "hall", role="monitor"))
    monitor.join()
    assert monitor.mqtt.subscribe("fused/+") == [1]
    sensors = [sensor() for _ in range(4)]
    before = gateway.metric("fusion_refused_total")
    names_ = len(sensors)
    for number, dev in enumerate(sensors):
        assert dev.send(dev.sealed(2000 + 100 * number)) == 0
    seen = 0
    while seen < names_:
        found = monitor.mqtt.expect(mqtt.PUBLISH)
        document = json.loads(found.payload)
        if found.topic == "fused/hall" and document["temperature_celsius"]["count"]:
            seen += document["devices_seen"]
            assert document["declassified"] is True and document["window_seconds"] == 1
            assert 20 <= document["temperature_celsius"]["min"] <= document["temperature_celsius"]["mean"] \
                <= document["temperature_celsius"]["max"] <= 23
        assert found.topic != "fused/closed" or document["temperature_celsius"]["count"] == 0
        monitor.mqtt.ack(found)
    assert seen == names_ and gateway.metric("fusion_refused_total") >= before + names_
    wait_for(lambda: any(json.loads(p)["devices_seen"] for t, p in cloud.received("fused/hall")))


@pytest.mark.slow
def test_rotation_under_load_loses_nothing(tmp_path):
    """100 devices, 10 records per second each, a new epoch every second."""
    cloud = Cloud(tmp_path / "cloud").start().log()
    gateway = Gateway(tmp_path / "home", cloud, threads=2, cloud_extra="  limits: none\n")
    add_reference(gateway)
    gateway.cli("group", "add", "hall", "--grace", "3s")
    gateway.start()
    try:
        bundles = [gateway.add(f"load-{n}", "--group", "hall") for n in range(100)]
        devices = []
        for bundle in bundles:
            devices.append(KeyDevice(gateway, bundle, timeout=20))
            devices[-1].join()
        stop, problems, sent = threading.Event(), [], {}

        def drive(some):
            while not stop.is_set():
                began = time.monotonic()
                for dev in some:
                    try:
                        code = dev.send(dev.sealed())
                        while code == 0x97:
                            code = dev.send(dev.sealed(counter=dev.counter))
                    except Exception as error:  # noqa: BLE001
                        problems.append(f"{dev.bundle.id}: {error!r}")
                        stop.set()
                        return
                    if code != 0:
                        problems.append(f"{dev.bundle.id}: {code:#x}")
                    sent[dev.bundle.id] = sent.get(dev.bundle.id, 0) + 1
                time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
        threads = [threading.Thread(target=drive, args=(devices[n::5],), daemon=True) for n in range(5)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for _ in range(8):
            time.sleep(1)
            gateway.cli("group", "rotate", "hall")
        stop.set()
        for thread in threads:
            thread.join(30)
        lasted = time.monotonic() - started
        assert not problems, problems[:5]
        assert max(dev.epoch for dev in devices) >= 6
        total = sum(sent.values())
        assert total > 1000

        def arrived():
            return sum(1 for t, _ in list(cloud.messages) if t.endswith("/climate"))
        wait_for(lambda: arrived() >= total, 60, f"{total} records at the cloud")
        assert arrived() == total
        print(f"\n{total} records of 100 devices in {lasted:.1f} s, epochs up to {max(dev.epoch for dev in devices)}")
        late = devices[0]
        assert late.send(late.sealed(epoch=1, counter=10**6)) == 0x99, "an epoch past its grace"
    finally:
        gateway.stop()
        cloud.stop()


@pytest.fixture(scope="module")
def programs(system):
    gateway, _ = system
    gateway.accept_device_program()
    return gateway


def test_the_device_program_seals_and_the_monitor_opens(programs, system, names, tmp_path):
    gateway, cloud = system
    sensor_name, monitor_name = names("prog"), names("mon")
    monitor = Device(gateway, gateway.add(monitor_name, "--group", "private", role="monitor"))
    monitor.process.wait_line("key_granted")
    bundle = gateway.add(sensor_name, "--group", "private")
    options = ["--state", tmp_path / "state", "--sensor", "constant:23.5,41.0", "--period", "100ms", "--count", "5"]
    assert Device(gateway, bundle, *options).process.wait(30) == 0
    records = wait_for(lambda: len(mine(monitor, sensor_name)) >= 5 and mine(monitor, sensor_name), 10, "opened records")
    assert [r["sequence"] for r in records] == [1, 2, 3, 4, 5]
    assert all((r["temperature_celsius"], r["humidity_percent"], r["protection"]) == (23.5, 41.0, "sealed") for r in records)
    assert Device(gateway, bundle, *options).process.wait(30) == 0
    records = wait_for(lambda: len(mine(monitor, sensor_name)) >= 10 and mine(monitor, sensor_name), 10, "more records")
    assert [r["sequence"] for r in records[5:]] == [1025, 1026, 1027, 1028, 1029], "counting goes on at the stored limit"
    assert monitor.stop() == 0
    wait_for(lambda: len(cloud.received(f"/{sensor_name}/climate")) >= 10)
    assert all(payload[0] == 0xD0 for _, payload in cloud.received(f"/{sensor_name}/climate"))


def mine(monitor, name):
    return [r for r in monitor.records() if r.get("device") == name]


def test_the_device_program_authenticates_where_its_group_says_so(programs, system, names, tmp_path):
    gateway, cloud = system
    name = names("prog")
    monitor = Device(gateway, gateway.add(names("mon"), "--group", "readable", role="monitor"))
    monitor.process.wait_line("key_granted")
    options = ["--state", tmp_path / "state", "--sensor", "constant:23.5,41.0", "--period", "100ms", "--count", "3"]
    assert Device(gateway, gateway.add(name, "--group", "readable"), *options).process.wait(30) == 0
    records = wait_for(lambda: len(mine(monitor, name)) >= 3 and mine(monitor, name), 10, "opened records")
    assert [(r["sequence"], r["temperature_celsius"], r["protection"]) for r in records] == [(n, 23.5, "mac") for n in (1, 2, 3)]
    wait_for(lambda: len(documents(cloud, name)) >= 3)
    assert {d["protection"] for d in documents(cloud, name)} == {"mac"}
    assert monitor.stop() == 0


def test_the_device_program_follows_a_rotation(programs, system, names, tmp_path):
    gateway, cloud = system
    gateway.cli("group", "add", "turning")
    name = names("turn")
    monitor = Device(gateway, gateway.add(names("mon"), "--group", "turning", role="monitor"))
    monitor.process.wait_line("key_granted")
    dev = Device(gateway, gateway.add(name, "--group", "turning"), "--state", tmp_path / "state",
                 "--sensor", "constant:20,50", "--period", "100ms")
    wait_for(lambda: len(mine(monitor, name)) > 3, 20)
    for epoch in (2, 3, 4):
        gateway.cli("group", "rotate", "turning")
        wait_for(lambda: epochs(gateway, "turning")[-1]["in_use_since"] is not None, 15, f"epoch {epoch} in use")
        seen = len(mine(monitor, name))
        wait_for(lambda: len(mine(monitor, name)) > seen + 5, 15, f"records under epoch {epoch}")
    assert all(r["temperature_celsius"] == 20 for r in mine(monitor, name)), "none was shown without its values"
    sequences = [r["sequence"] for r in mine(monitor, name)]
    assert len(set(zip(sequences, range(len(sequences))))) == len(sequences) and sequences.count(1) == 4
    assert dev.stop() == 0 and monitor.stop() == 0
    documents_ = documents(cloud, name)
    assert documents_ and all(d["protection"] == "sealed" for d in documents_)


def test_a_sensor_in_a_group_needs_a_place_for_its_counters(programs, names):
    dev = Device(programs, programs.add(names("stateless"), "--group", "hall"))
    assert dev.process.wait(10) == 1
    assert any("--state" in line for line in dev.process.err)


def test_a_capture_of_the_device_link_shows_neither_key_nor_value(system, sensor):
    gateway, _ = system
    dev = sensor("private")
    seen = bytearray()
    send = dev.tls.send

    def spy(data):
        seen.extend(data)
        return send(data)
    dev.tls.send = spy  # what lies under TLS: the most that whoever has the PSK could see
    assert dev.send(dev.sealed(4711)) == 0
    assert dev.keys[1] not in seen and dev.kek not in seen and b"temperature" not in seen
    assert climate(dev.bundle.id, 4711) not in seen
