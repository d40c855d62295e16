# SPDX-License-Identifier: Apache-2.0
"""Kept sessions outlive the gate, the store and the machine (docs/decisions/0006-durable-sessions.md)."""
import os
import signal
import time

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tools.lab.gateway import Gateway
from tools.lab.process import wait_for

ROLES = """roles:
  service: {publish: ["cmd/#", "news/#"], subscribe: ["news/#"]}
"""
KEPT = {mqtt.SESSION_EXPIRY: 600}
MESSAGE_EXPIRY = 2


@pytest.fixture
def own(tmp_path, cloud):
    """`own(limits)`: a gateway for one test, with two loops."""
    made = []

    def make(limits=""):
        gateway = Gateway(tmp_path / "home", cloud, threads=2, extra=ROLES + limits)
        add_reference(gateway)
        made.append(gateway)
        return gateway.start()
    yield make
    for gateway in made:
        gateway.stop()


def enter(gateway, bundle, version=5, clean=False, props=KEPT):
    dev = TestDevice(gateway, bundle, version)
    dev.connack = dev.attest(clean=clean, props=props if version == 5 else None)
    return dev


def next_message(dev):
    """The next message that is not about attestation."""
    while True:
        found = dev.mqtt.expect(mqtt.PUBLISH)
        if not found.topic.startswith("$sp"):
            return found


def take(dev, count):
    """So many messages, acknowledged."""
    got = []
    for _ in range(count):
        got.append(next_message(dev))
        dev.mqtt.ack(got[-1])
    return got


def kept(gateway, bundle, version=5):
    """A device with a session, away; its name."""
    dev = enter(gateway, bundle, version, clean=version == 5)
    assert dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/#") == [1]
    dev.close()
    return dev.bundle.id


def send(gateway, service, name, numbers, props=None):
    """Publish to a device; the reasons of the PUBACKs."""
    reasons = []
    for number in numbers:
        service.mqtt.publish(f"cmd/{name}/x", str(number).encode(), qos=1, props=props)
        reasons.append(service.mqtt.expect(mqtt.PUBACK).reason)
    return reasons


def crash(gateway, what):
    if what == "all":
        gateway.kill()
        gateway.start()
    elif what == "restart":
        gateway.stop()
        gateway.start()
    else:
        old = gateway.pids()[what]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: gateway.pids()[what] not in (old, 0), 10, f"another {what}")


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("what", ["gate", "store", "all", "restart"])
def test_what_was_accepted_for_a_device_that_is_away_comes_after_a_crash_in_order(own, what, version):
    gateway = own()
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    name = kept(gateway, bundle, version)
    assert send(gateway, service, name, range(20)) == [0] * 20
    crash(gateway, what)
    dev = enter(gateway, bundle, version)
    assert dev.connack.session_present
    got = take(dev, 20)
    assert [p.payload for p in got] == [str(n).encode() for n in range(20)]
    assert all(p.dup == (what != "store") for p in got)  # after gate nobody knows that they were never sent
    # It is subscribed as before.
    service = enter(gateway, gateway.folder / "svc.json", clean=True, props=None)
    assert send(gateway, service, name, [20]) == [0]
    assert [p.payload for p in take(dev, 1)] == [b"20"]
    dev.mqtt.ping()
    wait_for(lambda: gateway.metric("session_messages") == 0, 10, "nothing left in the journal")


def test_a_shared_subscription_and_its_identifier_are_there_after_a_crash(own):
    gateway = own()
    member, bundle = gateway.add("member", role="service"), gateway.add("svc", role="service")
    dev = enter(gateway, member, clean=True)
    assert dev.mqtt.subscribe("$share/crew/news/+", qos=1, props={mqtt.SUBSCRIPTION_ID: 77}) == [1]
    dev.close()
    crash(gateway, "gate")
    service = enter(gateway, bundle, clean=True, props=None)
    assert service.mqtt.subscribe("$share/crew/news/+", qos=1) == [1]
    helper = enter(gateway, gateway.add("publisher", role="service"), clean=True, props=None)
    dev = enter(gateway, member)
    assert dev.connack.session_present
    for number in range(4):  # two members, by turns
        helper.mqtt.publish("news/a", b"%d" % number, qos=1)
        assert helper.mqtt.expect(mqtt.PUBACK).reason == 0
    got = take(dev, 2)
    assert all(p.props[mqtt.SUBSCRIPTION_ID] == [77] for p in got)
    assert len({p.payload for p in got + take(service, 2)}) == 4


@pytest.mark.parametrize("what", ["gate", "all"])
def test_commands_of_the_cloud_wait_in_the_journal(own, cloud, what):
    gateway = own()
    bundle = gateway.add("dev")
    topic = f"cmd/sallyport/gw-1/{kept(gateway, bundle)}/led"
    gateway.wait_metric("cloud_links_connected", 1)
    # The first may come before the link is subscribed, and any may be published twice: the lab repeats what its logger has not seen.
    wait_for(lambda: cloud.publish(topic, "0") or gateway.metric("session_messages") > 0, 10, "a command in the journal")
    for number in range(1, 5):
        cloud.publish(topic, str(number))
    wait_for(lambda: gateway.metric("session_messages") >= 5, 10, "five messages in the journal")
    crash(gateway, what)
    dev = enter(gateway, bundle)
    assert dev.connack.session_present
    got = []
    while b"4" not in got:
        got.append(take(dev, 1)[0].payload)
    assert list(dict.fromkeys(got)) == [b"0", b"1", b"2", b"3", b"4"]


def test_what_was_sent_and_not_acknowledged_comes_again_as_a_repeat_with_its_packet_id(own):
    gateway = own()
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    dev = enter(gateway, bundle, clean=True)
    assert dev.mqtt.subscribe("cmd/dev/#") == [1]
    # The device acknowledges nothing: the journal has to have it before the service is told.
    assert send(gateway, service, "dev", range(3)) == [0] * 3
    first = [next_message(dev) for _ in range(3)]
    assert not any(p.dup for p in first)
    crash(gateway, "gate")
    again = enter(gateway, bundle)
    second = take(again, 3)
    assert [(p.payload, p.packet_id) for p in second] == [(p.payload, p.packet_id) for p in first]
    assert all(p.dup for p in second)


def test_a_device_that_acknowledges_at_once_leaves_nothing_in_the_journal(own):
    gateway = own()
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    dev = enter(gateway, gateway.add("dev"), clean=True)
    assert dev.mqtt.subscribe("cmd/dev/#") == [1]
    time.sleep(1.2)  # what connecting and subscribing had to write is written
    commits = gateway.metric("journal_commits_total")
    for number in range(50):
        service.mqtt.publish("cmd/dev/x", str(number).encode(), qos=1)
        dev.mqtt.ack(next_message(dev))
        assert service.mqtt.expect(mqtt.PUBACK).reason == 0
    # A slow machine may let a few wait for longer than the grace.
    assert gateway.metric("journal_commits_total") - commits < 25


def test_a_clean_start_ends_a_session_for_good(own):
    gateway = own()
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    name = kept(gateway, bundle)
    assert send(gateway, service, name, [1]) == [0]
    fresh = enter(gateway, bundle, clean=True)
    assert not fresh.connack.session_present
    gateway.kill()
    gateway.start()
    dev = enter(gateway, bundle)
    # Whether or not the session of the clean start was durable already: nothing of the one before is there.
    service = enter(gateway, gateway.folder / "svc.json", clean=True, props=None)
    assert send(gateway, service, name, [2]) == [0]
    dev.mqtt.subscribe("cmd/dev/#")
    assert send(gateway, service, name, [3]) == [0]
    assert [p.payload for p in take(dev, 1)] == [b"3"]


def test_a_session_that_is_not_kept_leaves_nothing(own):
    gateway = own()
    bundle = gateway.add("dev")
    kept(gateway, bundle)
    wait_for(lambda: gateway.metric("sessions_kept") == 1, 10, "the session in the journal")
    dev = enter(gateway, bundle, props=None)  # resumed, and not kept from now on
    assert dev.connack.session_present
    wait_for(lambda: gateway.metric("sessions_kept") == 0, 10, "no session in the journal")
    gateway.kill()
    gateway.start()
    assert not enter(gateway, bundle).connack.session_present


def test_sessions_and_messages_expire_while_nothing_runs(own):
    gateway = own()
    short, long = gateway.add("short"), gateway.add("long")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    dev = enter(gateway, short, clean=True, props={mqtt.SESSION_EXPIRY: 1})
    dev.close()
    kept(gateway, long)
    assert send(gateway, service, "long", [1], {MESSAGE_EXPIRY: 1}) == [0]
    assert send(gateway, service, "long", [2], {MESSAGE_EXPIRY: 600}) == [0]
    assert send(gateway, service, "long", [3]) == [0]
    gateway.kill()
    time.sleep(2.2)
    gateway.start()
    assert not enter(gateway, short).connack.session_present
    dev = enter(gateway, long)
    assert dev.connack.session_present
    got = take(dev, 2)
    assert [p.payload for p in got] == [b"2", b"3"]
    assert 500 < got[0].props[MESSAGE_EXPIRY] <= 598


@pytest.mark.parametrize("running", [True, False])
def test_a_name_that_is_removed_and_added_again_has_no_session(own, running):
    gateway = own()
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    name = kept(gateway, bundle)
    assert send(gateway, service, name, [1]) == [0]
    if not running:
        gateway.kill()
    gateway.cli("device", "remove", "dev")
    bundle.unlink()
    bundle = gateway.add("dev")
    if not running:
        gateway.start()

    def admitted():
        try:
            return enter(gateway, bundle)
        except Exception:  # the gateway has not noticed yet
            return None
    dev = wait_for(admitted, 15, "the new device")
    assert not dev.connack.session_present
    wait_for(lambda: gateway.metric("session_messages") == 0, 10, "nothing left of it")


def test_a_revoked_device_loses_its_session(own):
    gateway = own()
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    name = kept(gateway, bundle)
    assert send(gateway, service, name, [1]) == [0]
    gateway.cli("device", "revoke", "dev")
    wait_for(lambda: gateway.metric("session_messages") == 0, 10, "nothing left of it")
    gateway.kill()
    gateway.start()
    gateway.cli("device", "restore", "dev")

    def admitted():
        try:
            return enter(gateway, bundle)
        except Exception:  # the gateway has not noticed yet
            return None
    assert not wait_for(admitted, 15, "the device").connack.session_present


def test_a_full_queue_refuses_and_takes_again(own):
    gateway = own("limits: {session_queue: 1KiB}\n")
    bundle = gateway.add("dev")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    name = kept(gateway, bundle)
    reasons = send(gateway, service, name, range(40))
    taken = reasons.count(0)
    assert 0 < taken < 40 and reasons == [0] * taken + [0x97] * (40 - taken)
    gateway.wait_event("session_queue_full")
    assert len(gateway.events("session_queue_full")) == 1
    gateway.kill()
    gateway.start()
    dev = enter(gateway, bundle)
    assert [p.payload for p in take(dev, taken)] == [str(n).encode() for n in range(taken)]
    service = enter(gateway, gateway.folder / "svc.json", clean=True, props=None)
    service.mqtt.publish("cmd/dev/x", b"again", qos=1)
    assert [p.payload for p in take(dev, 1)] == [b"again"]
    assert service.mqtt.expect(mqtt.PUBACK).reason == 0


def test_all_queues_together_have_a_limit_too(own):
    gateway = own("limits: {session_queue: 1MiB, sessions: 64KiB}\n")
    service = enter(gateway, gateway.add("svc", role="service"), clean=True, props=None)
    bundles = [gateway.add(f"dev{n}") for n in range(3)]
    names = [kept(gateway, bundle) for bundle in bundles]
    reasons = []
    for _ in range(4):
        for name in names:
            service.mqtt.publish(f"cmd/{name}/x", bytes(8000), qos=1)
            reasons.append(service.mqtt.expect(mqtt.PUBACK).reason)
    taken = reasons.count(0)
    assert 7 <= taken <= 8 and set(reasons) == {0, 0x97}
    assert gateway.metric("session_bytes") <= 65536
    crash(gateway, "gate")
    assert sum(len(take(enter(gateway, bundle), taken // 3)) for bundle in bundles) == taken // 3 * 3


def test_devices_come_in_while_sessions_are_being_loaded(own):
    """Everybody who comes at once after a crash gets in, with a session of its own."""
    gateway = own()
    bundles = [gateway.add(f"dev{n}") for n in range(12)]
    for bundle in bundles:
        kept(gateway, bundle)
    gateway.kill()
    gateway.start()
    devices = []
    for bundle in bundles:
        dev = TestDevice(gateway, bundle)
        dev.connect(clean=False, props=KEPT)
        devices.append(dev)
    for dev in devices:
        assert dev.answer(dev.token(dev.nonce())).session_present
