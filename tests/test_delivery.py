# SPDX-License-Identifier: Apache-2.0
"""Docs/delivery.md, the part that issue 1 promises: acknowledged to the device = it will reach the cloud, in order, whatever dies."""
import json
import sqlite3
import threading

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt
from tests.lib.attester import TestDevice, climate
from tests.lib.oracle import Oracle
from tools.lab.cloud import BACK_S, Cloud
from tools.lab.gateway import Gateway
from tools.lab.process import wait_for


@pytest.fixture
def system(tmp_path):
    cloud = Cloud(tmp_path / "cloud").start().log()
    gateway = Gateway(tmp_path / "home", cloud, threads=2)
    add_reference(gateway)
    yield gateway.start(), cloud
    gateway.stop()
    cloud.stop()


class Producer:
    """Publishes numbers at QoS 1, one after another, and remembers which were acknowledged; comes back when it is cut."""

    def __init__(self, gateway, bundle):
        self.gateway, self.bundle = gateway, bundle
        self.acked, self.refused, self._stop = [], 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        while not self._stop.is_set():
            try:
                dev = TestDevice(self.gateway, self.bundle, timeout=3)
                dev.attest()
                while not self._stop.is_set():
                    dev.mqtt.publish(f"dt/{dev.bundle.id}/n", str(number).encode(), qos=1)
                    if dev.mqtt.expect(mqtt.PUBACK).reason == 0:
                        self.acked.append(number)
                    else:
                        self.refused += 1
                    number += 1
                dev.close()
            except (OSError, mqtt.Closed, AssertionError, TimeoutError, Exception):
                self._stop.wait(0.1)

    def stop(self):
        self._stop.set()
        self.thread.join(15)


def arrived(cloud, name):
    return [int(p) for t, p in list(cloud.messages) if t.endswith(f"{name}/n")]


def first_seen(numbers):
    return list(dict.fromkeys(numbers))


def check_ledger(cloud, producer, name):
    wait_for(lambda: set(producer.acked) <= set(arrived(cloud, name)), BACK_S, "every acknowledged message at the cloud")
    seen = first_seen(arrived(cloud, name))
    assert seen == sorted(seen), "order of first occurrences"


@pytest.mark.slow
def test_the_cloud_away_and_the_gateway_killed_lose_nothing(system):
    gateway, cloud = system
    names = ["one", "two", "three"]
    producers = [Producer(gateway, gateway.add(name)) for name in names]
    wait_for(lambda: all(len(p.acked) > 20 for p in producers), 20, "acknowledgements")
    cloud.stop_broker()
    level = [len(p.acked) for p in producers]
    wait_for(lambda: all(len(p.acked) > n + 50 for p, n in zip(producers, level)), 30, "acknowledgements without a cloud")
    port = gateway.port
    gateway.kill()
    gateway.config.write_text(gateway.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    gateway.start()
    level = [len(p.acked) for p in producers]
    wait_for(lambda: all(len(p.acked) > n + 50 for p, n in zip(producers, level)), 30, "acknowledgements after the crash")
    cloud.start()
    for producer in producers:
        producer.stop()
    for name, producer in zip(names, producers):
        assert len(producer.acked) > 100
        check_ledger(cloud, producer, name)
    wait_for(lambda: gateway.metric("journal_messages") == 0, 20, "an empty journal")


@pytest.mark.parametrize("process", ["store", "keys", "gate"])
def test_a_process_that_dies_comes_back_and_nothing_acked_is_lost(system, process):
    import os
    import signal
    gateway, cloud = system
    producer = Producer(gateway, gateway.add("dev"))
    wait_for(lambda: len(producer.acked) > 20, 20)
    os.kill(gateway.pids()[process], signal.SIGKILL)
    level = len(producer.acked)
    gateway.wait_metric(f"{process}_restarts_total", 1)
    wait_for(lambda: len(producer.acked) > level + 50, 30, "acknowledgements after the restart")
    producer.stop()
    check_ledger(cloud, producer, "dev")
    life = Oracle.of_life(gateway)
    life.counts(f"{process}_restarts_total")
    if process == "store":
        life.counts("messages_refused_total", number=10**6, at_least=0)  # 0x97 until it is back
    life.check_counters()


@pytest.mark.parametrize("version", [5, 4])
def test_qos_2_survives_a_crash_without_a_copy_or_a_loss(system, version):
    """D6, and security-and-reliability.md M-35: kill -9 after PUBREC, and again between PUBREL and PUBCOMP."""
    gateway, cloud = system
    bundle = gateway.add("dev")
    gateway.config.write_text(gateway.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{gateway.port}"))

    def connected():
        dev = TestDevice(gateway, bundle, version=version)
        dev.attest(clean=False)
        return dev.mqtt
    link = connected()
    link.publish("dt/dev/n", b"1", qos=2, packet_id=7)
    assert link.expect(mqtt.PUBREC).packet_id == 7
    gateway.kill()
    gateway.start()
    link = connected()
    link.publish("dt/dev/n", b"1", qos=2, packet_id=7, dup=True)
    assert link.expect(mqtt.PUBREC).packet_id == 7
    link.release(7)
    gateway.kill()
    gateway.start()
    link = connected()
    link.release(7)
    assert link.expect(mqtt.PUBCOMP).packet_id == 7
    link.publish("dt/dev/n", b"2", qos=2, packet_id=7)  # the same id, another message
    assert link.expect(mqtt.PUBREC).reason == 0
    gateway.kill()
    gateway.start()
    link = connected()  # a device that lost its state: no DUP, the same id, the same text
    link.publish("dt/dev/n", b"2", qos=2, packet_id=7)
    assert link.expect(mqtt.PUBREC).reason == 0
    link.release(7)
    assert link.expect(mqtt.PUBCOMP).packet_id == 7
    wait_for(lambda: len(arrived(cloud, "dev")) >= 3)
    wait_for(lambda: gateway.metric("journal_messages") == 0)
    with sqlite3.connect(f"file:{gateway.folder}/journal/journal.db?mode=ro", uri=True) as db:
        assert db.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(3,)], "messages ever accepted"
        assert db.execute("SELECT count(*) FROM received").fetchall() == [(0,)], "packet ids that wait for a release"
    assert first_seen(arrived(cloud, "dev")) == [1, 2]
    Oracle.of_life(gateway).check_counters()  # nothing was refused


def test_formats_and_message_identity(system):
    gateway, cloud = system
    dev = TestDevice(gateway, gateway.add("thermo"))
    dev.attest()
    for number in range(3):
        dev.mqtt.publish("dt/thermo/climate", climate("thermo", 2350 + number), qos=1)
        assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    wait_for(lambda: len(cloud.received("thermo/climate")) == 3)
    documents = [json.loads(p) for _, p in cloud.received("thermo/climate")]
    assert [d["temperature_celsius"] for d in documents] == [23.5, 23.51, 23.52]
    assert all(d["device"] == "thermo" and d["humidity_percent"] == 41 and d["attested"] is True
               and d["protection"] == "clear" and d["sequence"] is None for d in documents)
    assert len({d["message_id"] for d in documents}) == 3


def test_the_journal_full_refuses_and_takes_again(tmp_path):
    cloud = Cloud(tmp_path / "cloud").start().log()
    gateway = Gateway(tmp_path / "home", cloud, extra="limits: {journal: 1MiB}\n")
    add_reference(gateway)
    gateway.start()
    try:
        cloud.stop_broker()
        wait_for(lambda: gateway.metric("cloud_links_connected") == 0)
        dev = TestDevice(gateway, gateway.add("dev"))
        dev.attest()
        acked, codes = [], []
        for number in range(200):
            dev.mqtt.publish("dt/dev/n", str(number).encode() + b" " * 10000, qos=1)
            codes.append(dev.mqtt.expect(mqtt.PUBACK).reason)
            if codes[-1] == 0:
                acked.append(number)
        assert 0x97 in codes and set(codes) == {0, 0x97}
        cloud.start()
        wait_for(lambda: {int(p) for t, p in list(cloud.messages) if t.endswith("dev/n")} >= set(acked), BACK_S,
                 "what was acknowledged at the cloud")

        def taken():
            dev.mqtt.publish("dt/dev/n", b"1000", qos=1)
            return dev.mqtt.expect(mqtt.PUBACK).reason == 0
        wait_for(taken, 10, "room again")
    finally:
        gateway.stop()
        cloud.stop()


def test_one_device_cannot_fill_the_journal_for_the_others(tmp_path):
    """D10: a share per device; it is counted anew after a restart."""
    cloud = Cloud(tmp_path / "cloud").start().log()
    gateway = Gateway(tmp_path / "home", cloud, extra="limits: {journal: 1MiB, journal_device: 64KiB}\n")
    add_reference(gateway)
    gateway.start()
    try:
        cloud.stop_broker()
        wait_for(lambda: gateway.metric("cloud_links_connected") == 0)
        bundles = [gateway.add(name) for name in ("greedy", "modest")]

        def codes(bundle, count):
            dev = TestDevice(gateway, bundle)
            dev.attest()
            found = []
            for _ in range(count):
                dev.mqtt.publish(f"dt/{dev.bundle.id}/n", b"0" * 10000, qos=1)
                found.append(dev.mqtt.expect(mqtt.PUBACK).reason)
            dev.close()
            return found
        assert codes(bundles[0], 10) == [0] * 6 + [0x97] * 4
        assert codes(bundles[1], 3) == [0] * 3
        gateway.kill()
        gateway.start()
        assert codes(bundles[0], 1) == [0x97]
        assert codes(bundles[1], 3) == [0] * 3
        cloud.start()
        wait_for(lambda: gateway.metric("journal_messages") == 0, BACK_S, "an empty journal")
        assert codes(bundles[0], 6) == [0] * 6
    finally:
        gateway.stop()
        cloud.stop()
