# SPDX-License-Identifier: Apache-2.0
"""MQTT on the device side: QoS 0 and 1 both ways, keep-alive, will, sessions, what a role may do, limits and their codes."""
import time

import pytest

from tests.lib import mqtt
from tests.lib.attester import TestDevice, climate
from tools.lab.process import wait_for


def enter(gateway, bundle, version=5, **more):
    dev = TestDevice(gateway, bundle, version)
    dev.attest(**more)
    return dev


def test_connack_carries_the_limits(gateway, device):
    dev = TestDevice(gateway, device())
    connack = dev.attest()
    assert connack.props[mqtt.METHOD] == b"sp-psa-iat-1"
    assert connack.props[37] == 0 and connack.props[42] == 0  # retain, shared
    assert 36 not in connack.props  # no Maximum QoS: 2 is taken
    assert connack.props[mqtt.RECEIVE_MAXIMUM] >= 1 and connack.props[39] >= 4096


def test_an_empty_client_id_is_assigned_the_identity(gateway, device):
    dev = TestDevice(gateway, device())
    assert dev.attest(client_id=b"").props[18].decode() == dev.bundle.id


@pytest.mark.parametrize("version,code", [(5, 0x85), (4, 2)])
def test_another_client_id_is_refused(gateway, device, version, code):
    dev = TestDevice(gateway, device(), version)
    dev.connect(client_id=b"somebody-else")
    assert dev.mqtt.receive().reason == code
    assert dev.mqtt.expect_close() == []


@pytest.mark.parametrize("level", [3, 6, 0, 255])
def test_other_versions_are_refused(gateway, device, level):
    dev = TestDevice(gateway, device(), 4)
    body = mqtt.text("MQTT") + bytes([level, 2, 0, 60]) + mqtt.properties(None) + mqtt.text(dev.bundle.id)
    dev.mqtt.send(mqtt.packet(mqtt.CONNECT, body))
    assert [p.reason for p in dev.mqtt.expect_close()] in ([0x84], [1])


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_monitor_gets_records_as_published(gateway, device, version, qos):
    monitor = enter(gateway, device(role="monitor"), version)
    assert monitor.mqtt.subscribe("dt/+/climate", "fused/+", qos=1) == [1, 1]
    sensor = enter(gateway, device())
    record = climate(sensor.bundle.id)
    sensor.mqtt.publish(f"dt/{sensor.bundle.id}/climate", record, qos=qos)
    while True:
        got = monitor.mqtt.expect(mqtt.PUBLISH)
        if sensor.bundle.id in got.topic:
            break
    assert (got.payload, got.qos) == (record, qos)
    if qos:
        monitor.mqtt.ack(got)
    monitor.close()
    sensor.close()


@pytest.mark.parametrize("version,refused", [(5, 0x87), (4, 0x80)])
def test_subscriptions_outside_the_role_are_refused(gateway, device, version, refused):
    sensor = enter(gateway, device(), version)
    own = f"cmd/{sensor.bundle.id}/#"
    assert sensor.mqtt.subscribe(own, "#", "dt/+/climate", "cmd/+/x", "cmd/other/#", "$SYS/#", "fused/+") == [1] + [refused] * 6
    monitor = enter(gateway, device(role="monitor"), version)
    assert monitor.mqtt.subscribe("dt/+/climate", "dt/x/climate", "dt/#", "dt/+/+") == [1, 1, refused, refused]
    shared = monitor.mqtt.subscribe("$share/g/dt/+/climate")
    assert shared == [0x9E if version == 5 else 0x80]
    sensor.close()
    monitor.close()


def test_a_publish_outside_the_role_is_refused_and_goes_nowhere(gateway, cloud, device):
    sensor = enter(gateway, device())
    before = gateway.metric("messages_denied_total")
    for topic in ("dt/other/climate", "cmd/x/y", "fused/hall", "$sp/key/ack2", "$SYS/x", "dt"):
        sensor.mqtt.publish(topic, b"no", qos=1)
        assert sensor.mqtt.expect(mqtt.PUBACK).reason == 0x87, topic
    sensor.mqtt.publish("dt/other/climate", b"no", qos=0)
    sensor.mqtt.ping()
    gateway.wait_metric("messages_denied_total", before + 7)
    assert not cloud.received("other")
    old = enter(gateway, device(), 4)
    old.mqtt.publish("dt/other/climate", b"no", qos=1)
    assert all(p.kind == mqtt.PUBLISH for p in old.mqtt.expect_close())


def test_a_record_that_does_not_hold_is_refused_with_99(gateway, cloud, device):
    sensor = enter(gateway, device())
    topic = f"dt/{sensor.bundle.id}/climate"
    for record in (b"", b"hello", climate("somebody-else"), climate(sensor.bundle.id)[:-1], climate(sensor.bundle.id) + b"\0",
                   b"\xd0\x83", b"\xd1\x84", b"\x80"):
        sensor.mqtt.publish(topic, record, qos=1)
        assert sensor.mqtt.expect(mqtt.PUBACK).reason == 0x99, record
    sensor.mqtt.publish(topic, climate(sensor.bundle.id), qos=1)
    assert sensor.mqtt.expect(mqtt.PUBACK).reason == 0
    wait_for(lambda: len(cloud.received(f"{sensor.bundle.id}/climate")) == 1)
    sensor.close()


def test_retain_is_refused_in_5_and_ignored_in_311(gateway, device):
    sensor = enter(gateway, device())
    sensor.mqtt.publish(f"dt/{sensor.bundle.id}/x", b"r", qos=1, retain=True)
    assert [p.reason for p in sensor.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x9A]
    old = enter(gateway, device(), 4)
    old.mqtt.publish(f"dt/{old.bundle.id}/x", b"r", qos=1, retain=True)
    old.mqtt.expect(mqtt.PUBACK)
    old.close()


@pytest.mark.parametrize("version", [5, 4])
def test_qos_2_is_taken_once_however_often_it_is_sent(gateway, cloud, device, version):
    sensor = enter(gateway, device(), version)
    topic = f"dt/{sensor.bundle.id}/twice"
    packet_id = sensor.mqtt.publish(topic, b"2", qos=2)
    assert sensor.mqtt.expect(mqtt.PUBREC).body[:2] == packet_id.to_bytes(2, "big")
    sensor.mqtt.publish(topic, b"2", qos=2, packet_id=packet_id, dup=True)
    sensor.mqtt.expect(mqtt.PUBREC)
    sensor.mqtt.send(mqtt.packet(mqtt.PUBREL, packet_id.to_bytes(2, "big"), 2))
    sensor.mqtt.expect(mqtt.PUBCOMP)
    sensor.mqtt.publish(topic, b"end", qos=1)
    sensor.mqtt.expect(mqtt.PUBACK)
    there = topic.split("/", 1)[1]
    wait_for(lambda: [p for _, p in cloud.received(there)][-1:] == [b"end"], 10, "the last message at the cloud")
    assert [p for _, p in cloud.received(there)] == [b"2", b"end"]
    sensor.close()


def test_a_release_of_nothing_is_answered(gateway, device):
    sensor = enter(gateway, device())
    sensor.mqtt.send(mqtt.packet(mqtt.PUBREL, b"\0\x09", 2))
    assert sensor.mqtt.expect(mqtt.PUBCOMP).body[:2] == b"\0\x09"
    sensor.mqtt.ping()
    sensor.close()


@pytest.mark.parametrize("version", [5, 4])
def test_a_will_speaks_for_a_device_that_vanishes_only(gateway, cloud, device, version):
    bundle = device()
    topic = f"dt/{TestDevice(gateway, bundle, version).bundle.id}/gone"
    dev = TestDevice(gateway, bundle, version)
    dev.attest(will=(topic, b"vanished", 1, False))
    dev.close()
    dev = TestDevice(gateway, bundle, version)
    dev.attest(will=(topic, b"vanished", 1, False))
    assert not cloud.received(topic.split("/", 1)[1])
    dev.abort()
    wait_for(lambda: cloud.received(topic.split("/", 1)[1]), 10, "the will at the cloud")


@pytest.mark.parametrize("topic,retain", [("dt/other/x", False), ("dt/{}/climate", False), ("dt/{}/x", True), ("$sp/x", False)])
@pytest.mark.parametrize("version,code", [(5, 0x87), (4, 5)])
def test_a_will_elsewhere_is_refused(gateway, device, version, code, topic, retain):
    dev = TestDevice(gateway, device(), version)
    dev.connect(will=(topic.format(dev.bundle.id), b"w", 0, retain))
    assert dev.mqtt.receive().reason == code


def test_a_guest_has_no_will(gateway, cloud, device):
    dev = TestDevice(gateway, device())
    dev.connect(will=(f"dt/{dev.bundle.id}/gone", b"vanished", 1, False))
    dev.nonce()
    dev.abort()
    time.sleep(0.5)
    assert not cloud.received(f"{dev.bundle.id}/gone")


@pytest.mark.parametrize("version", [5, 4])
def test_a_session_that_is_kept_gets_what_came_meanwhile(gateway, cloud, device, version):
    bundle = device()
    expiry = {mqtt.SESSION_EXPIRY: 600} if version == 5 else None
    dev = TestDevice(gateway, bundle, version)
    assert not dev.attest(clean=version == 5, props=expiry).session_present
    assert dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#") == [1]
    dev.close()
    time.sleep(0.2)
    for number in range(3):
        cloud.publish(f"cmd/sallyport/gw-1/{dev.bundle.id}/led", str(number))
    wait_for(lambda: gateway.metric("cloud_commands_total") >= 3)
    again = TestDevice(gateway, bundle, version)
    assert again.attest(clean=False, props=expiry).session_present
    got = []
    while len(got) < 3:
        publish = again.mqtt.expect(mqtt.PUBLISH)
        if publish.topic.startswith("cmd/"):
            got.append(publish.payload)
            again.mqtt.ack(publish)
    assert got == [b"0", b"1", b"2"]
    again.close()
    clean = TestDevice(gateway, bundle, version)
    assert not clean.attest(clean=True).session_present
    clean.close()


def test_what_was_not_acknowledged_comes_again_with_dup(gateway, cloud, device):
    bundle = device()
    dev = TestDevice(gateway, bundle)
    dev.attest(props={mqtt.SESSION_EXPIRY: 600})
    dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#")
    cloud.publish(f"cmd/sallyport/gw-1/{dev.bundle.id}/led", "on")
    first = dev.mqtt.expect(mqtt.PUBLISH)
    while first.topic.startswith("$sp"):
        first = dev.mqtt.expect(mqtt.PUBLISH)
    assert not first.dup
    dev.abort()
    again = TestDevice(gateway, bundle)
    assert again.attest(clean=False, props={mqtt.SESSION_EXPIRY: 600}).session_present
    second = again.mqtt.expect(mqtt.PUBLISH)
    while second.topic.startswith("$sp"):
        second = again.mqtt.expect(mqtt.PUBLISH)
    assert (second.payload, second.packet_id, bool(second.dup)) == (b"on", first.packet_id, True)
    again.close()


def test_a_silent_device_is_closed_after_one_and_a_half_keep_alives(tmp_path):
    from tests.conftest import add_reference
    from tools.lab.gateway import Gateway
    gateway = Gateway(tmp_path / "home", extra="limits: {keep_alive_min: 1s}\n")
    add_reference(gateway)
    gateway.start()
    try:
        dev = TestDevice(gateway, gateway.add("quiet"))
        dev.attest(keep_alive=1)
        started = time.monotonic()
        said = dev.mqtt.expect_close()
        assert 1.0 < time.monotonic() - started < 6
        assert [p.reason for p in said if p.kind == mqtt.DISCONNECT] == [0x8D]
    finally:
        gateway.stop()


def test_commands_go_to_the_device_they_name_alone(gateway, cloud, device):
    one, two = (enter(gateway, device()) for _ in range(2))
    for dev in (one, two):
        assert dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#") == [1]
    cloud.publish(f"cmd/sallyport/gw-1/{one.bundle.id}/led", "on")
    got = one.mqtt.expect(mqtt.PUBLISH)
    while got.topic.startswith("$sp"):
        got = one.mqtt.expect(mqtt.PUBLISH)
    assert (got.topic, got.payload) == (f"cmd/{one.bundle.id}/led", b"on")
    two.mqtt.ping()
    one.close()
    two.close()


@pytest.mark.parametrize("data", [
    "30ffffff7f", "10ffffffff7f", "c08000", "320500036" + "12f62", "820700010003612f62", "82020001", "c100", "e100",
    "3600", "30020000", "2000", "9003000100", "f000", "0000", "4002ffff", "30060003612f2378",
])
def test_malformed_packets_close_the_sender_alone(gateway, device, data):
    other = enter(gateway, device())
    dev = enter(gateway, device())
    dev.mqtt.send(bytes.fromhex(data))
    if data not in ("4002ffff",):
        said = dev.mqtt.expect_close()
        assert all(p.kind in (mqtt.PUBLISH, mqtt.DISCONNECT, mqtt.PUBACK) for p in said)
    other.mqtt.ping()
    other.close()


def test_more_than_receive_maximum_in_flight_is_refused(gateway, cloud, device):
    dev = TestDevice(gateway, device())
    maximum = dev.attest().props[mqtt.RECEIVE_MAXIMUM]
    burst = b""
    for number in range(1, 40 * maximum):
        body = mqtt.text(f"dt/{dev.bundle.id}/x") + number.to_bytes(2, "big") + b"\0" + b"p"
        burst += mqtt.packet(mqtt.PUBLISH, body, 2)
    dev.mqtt.send(burst)
    said = dev.mqtt.expect_close()
    assert [p.reason for p in said if p.kind == mqtt.DISCONNECT] == [0x93]


def test_a_packet_over_the_limit_is_refused_with_95(gateway, device):
    dev = TestDevice(gateway, device())
    maximum = dev.attest().props[39]
    dev.mqtt.publish(f"dt/{dev.bundle.id}/x", bytes(maximum), qos=0)
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x95]
