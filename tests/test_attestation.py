# SPDX-License-Identifier: Apache-2.0
"""Docs/protocol.md 3: who is let in, who is refused, with which code and which counter. Nothing of the refused goes on."""
import hashlib
import socket

import pytest

from tests.lib import mqtt
from tests.lib.attester import METHODS, Bundle, TestDevice, climate, token

DEBUG, UNKNOWN = 0x4000, hashlib.sha256(b"another firmware").digest()


def refuse(gateway, bundle, check, version=5, **changes):
    """A token with `changes` is refused with `check`, once, and its sender forwards nothing."""
    before = gateway.refused(check)
    dev = TestDevice(gateway, bundle, version)
    dev.connect()
    if version == 4:
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
    nonce = dev.nonce()
    answer = dev.answer(dev.token(nonce, **changes))
    if version == 5:
        assert (answer.kind, answer.reason) == (mqtt.CONNACK, 0x87)
        assert answer.props[mqtt.REASON_STRING].startswith(check.encode())
    else:
        assert answer.payload.startswith(check.encode())
    assert dev.mqtt.expect_close() == []
    gateway.wait_metric(f'attestations_refused_total{{check="{check}"}}', before + 1)
    assert gateway.refused(check) == before + 1


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("binding", ["tls", "none"])
def test_an_honest_device_is_admitted_and_its_record_reaches_the_cloud(gateway, cloud, device, binding, version):
    dev = TestDevice(gateway, device("--binding", binding), version)
    dev.attest()
    dev.mqtt.publish(f"dt/{dev.bundle.id}/climate", climate(dev.bundle.id), qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    dev.close()
    from tools.lab.process import wait_for
    wait_for(lambda: cloud.received(f"dt/sallyport/gw-1/{dev.bundle.id}/climate"), 10, "the record at the cloud")


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("check,changes", [
    ("mac", {"mac_key": bytes(32)}),
    ("nonce", {"nonce": bytes(32)}),
    ("instance-id", {"instance_id": b"\x01" + bytes(32)}),
    ("lifecycle", {"lifecycle": DEBUG}),
    ("software", {"software": [{1: "NSPE", 2: UNKNOWN, 5: hashlib.sha256(b"signer").digest()}]}),
    ("client-id", {"client_id": 1}),
    ("implementation-id", {"implementation_id": bytes(32)}),
    ("profile", {"profile": "tag:example.com,2026:other"}),
    ("claims", {"instance_id": None}),
])
def test_a_token_that_lies_is_refused_with_its_own_counter(gateway, cloud, device, version, check, changes):
    refuse(gateway, device(), check, version, **changes)


def test_an_old_nonce_is_refused(gateway, device):
    bundle = device()
    first = TestDevice(gateway, bundle)
    first.connect()
    old = first.token(first.nonce())
    first.abort()
    before = gateway.refused("nonce")
    second = TestDevice(gateway, bundle)
    second.connect()
    second.nonce()
    assert second.answer(old).reason == 0x87
    gateway.wait_metric('attestations_refused_total{check="nonce"}', before + 1)


def test_a_token_of_another_device_is_refused_at_the_mac(gateway, device):
    mine, other = device(), Bundle(device())
    dev = TestDevice(gateway, mine)
    dev.connect()
    nonce = dev.nonce()
    assert dev.answer(token(dev.challenge(nonce), other.iak)).props[mqtt.REASON_STRING].startswith(b"mac")


def test_a_token_made_for_another_tls_session_is_refused(gateway, device):
    dev = TestDevice(gateway, device())
    dev.connect()
    nonce = dev.nonce()
    from tests.lib.attester import challenge
    relayed = challenge("tls", nonce, bytes(32), dev.identity)
    assert dev.answer(token(relayed, dev.bundle.iak)).props[mqtt.REASON_STRING].startswith(b"nonce")


def test_no_method_another_method_and_the_other_binding_are_refused_with_8c(gateway, device):
    for method in (None, b"SCRAM-SHA-1", METHODS["none"]):
        dev = TestDevice(gateway, device())
        dev.connect(props={mqtt.METHOD: method})
        connack = dev.mqtt.receive()
        assert (connack.kind, connack.reason) == (mqtt.CONNACK, 0x8C)
        assert dev.mqtt.expect_close() == []


def test_authentication_data_in_connect_is_a_protocol_error(gateway, device):
    dev = TestDevice(gateway, device())
    dev.connect(props={mqtt.DATA: b"early"})
    assert dev.mqtt.receive().reason == 0x82
    dev.mqtt.expect_close()


def out_of_turn(gateway):
    return gateway.metric("guest_out_of_turn_total") + gateway.metric("protocol_errors_total")


@pytest.mark.parametrize("what", ["publish", "subscribe", "ping", "connect", "reason", "method", "no data"])
def test_anything_before_the_verdict_but_the_answer_closes(gateway, cloud, device, what):
    dev = TestDevice(gateway, device())
    topic = f"dt/{dev.bundle.id}/x"
    dev.connect()
    nonce = dev.nonce()
    good = dev.token(nonce)
    before = out_of_turn(gateway)
    if what == "publish":
        dev.mqtt.publish(topic, b"early", qos=1)
    elif what == "subscribe":
        dev.mqtt.send(mqtt.packet(mqtt.SUBSCRIBE, b"\0\1\0" + mqtt.text("cmd/x") + b"\1", 2))
    elif what == "ping":
        dev.mqtt.send(mqtt.packet(mqtt.PINGREQ, b""))
    elif what == "connect":
        dev.connect()
    elif what == "reason":
        dev.send_auth(good, reason=0x19)
    elif what == "method":
        dev.send_auth(good, method=METHODS["none"])
    else:
        dev.send_auth(None)
    said = dev.mqtt.expect_close()
    assert [p.reason for p in said] == [0x82], said
    assert out_of_turn(gateway) == before + 1
    assert not cloud.received(topic.removeprefix("dt/"))


def test_what_is_sent_with_the_token_is_early_too(gateway, cloud, device):
    dev = TestDevice(gateway, device())
    topic = f"dt/{dev.bundle.id}/x"
    dev.connect()
    good = dev.token(dev.nonce())
    auth = mqtt.packet(mqtt.AUTH, b"\x18" + mqtt.properties({mqtt.METHOD: METHODS["tls"], mqtt.DATA: good}))
    body = mqtt.text(topic) + b"\0\1\0early"
    dev.mqtt.send(auth + mqtt.packet(mqtt.PUBLISH, body, 2))
    said = dev.mqtt.expect_close()
    assert [p.reason for p in said] == [0x82], said
    assert not cloud.received(topic.removeprefix("dt/"))


def test_half_a_record_sent_with_the_token_is_early_too(gateway, device):
    dev = TestDevice(gateway, device())
    dev.connect()
    good = dev.token(dev.nonce())
    before = gateway.metric("guest_out_of_turn_total")
    dev.tls.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # both in one segment
    dev.send_auth(good)
    dev.tls.sock.send(b"\x17\x03\x03\x00\x40" + bytes(8))
    dev.tls.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert [p.reason for p in dev.mqtt.expect_close()] == [0x82]
    gateway.wait_metric("guest_out_of_turn_total", before + 1)


def test_a_311_device_that_publishes_before_its_verdict_is_closed(gateway, cloud, device):
    dev = TestDevice(gateway, device(), 4)
    topic = f"dt/{dev.bundle.id}/x"
    dev.connect()
    dev.mqtt.expect(mqtt.CONNACK)
    before = gateway.metric("guest_out_of_turn_total")
    dev.mqtt.publish(topic, b"early", qos=1)
    assert all(p.kind == mqtt.PUBLISH for p in dev.mqtt.expect_close())
    gateway.wait_metric("guest_out_of_turn_total", before + 1)
    assert not cloud.received(topic.removeprefix("dt/"))


def test_a_guest_does_not_disturb_the_connection_that_is_there(gateway, device):
    bundle = device()
    old = TestDevice(gateway, bundle)
    old.attest()
    guest = TestDevice(gateway, bundle)
    guest.connect()
    nonce = guest.nonce()
    old.mqtt.ping()
    second = TestDevice(gateway, bundle)
    second.connect()
    assert [p.reason for p in second.mqtt.expect_close()] == [0x97]
    connack = guest.answer(guest.token(nonce))
    assert connack.reason == 0
    assert [p.reason for p in old.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x8E]
    guest.close()


def test_a_refused_guest_leaves_the_old_connection_alone(gateway, device):
    bundle = device()
    old = TestDevice(gateway, bundle)
    old.attest()
    refuse(gateway, bundle, "mac", mac_key=bytes(32))
    old.mqtt.ping()
    old.close()


def test_optional_and_none_do_what_they_say(gateway, device):
    optional = device("--attestation", "optional")
    dev = TestDevice(gateway, optional)
    dev.connect(props={mqtt.METHOD: None})
    assert dev.mqtt.receive().reason == 0
    dev.close()
    TestDevice(gateway, optional).attest()
    refuse(gateway, optional, "mac", mac_key=bytes(32))
    none = device("--attestation", "none")
    dev = TestDevice(gateway, none)
    dev.connect(props={mqtt.METHOD: None})
    assert dev.mqtt.receive().reason == 0
    dev.close()
    dev = TestDevice(gateway, none)
    dev.connect()
    assert dev.mqtt.receive().reason == 0x8C


def test_auth_after_the_verdict_is_a_protocol_error(gateway, device):
    dev = TestDevice(gateway, device())
    dev.attest()
    dev.send_auth(b"x", reason=0x19)
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x82]


def test_a_policy_change_asks_again_and_refuses_what_no_longer_fits(gateway, device):
    implementation = hashlib.sha256(b"board 2").digest()
    measured = hashlib.sha256(b"firmware 2").digest()
    added = gateway.cli("reference", "add", "--implementation-id", implementation.hex(), "--component",
                        f"NSPE={measured.hex()}").stdout
    dev = TestDevice(gateway, device())
    software = {"software": [{1: "NSPE", 2: measured, 5: bytes(32)}], "implementation_id": implementation}
    dev.connect()
    assert dev.answer(dev.token(dev.nonce(), **software)).reason == 0
    import json
    import re
    listed = json.loads(gateway.cli("reference", "list", "--json").stdout)
    number = next(e["id"] for e in listed if e["implementation_id"] == implementation.hex())
    assert re.search(str(number), added)
    gateway.cli("reference", "remove", number)
    verdict = b"ok"
    while verdict == b"ok":  # the entry that was added is a change of policy too, and may be asked about first
        found = dev.mqtt.receive()
        if found.kind != mqtt.PUBLISH:
            continue
        if found.topic == "$sp/attest/challenge":
            dev.mqtt.ack(found)
            dev.mqtt.publish("$sp/attest/token", dev.token(found.payload, **software), qos=1)
        elif found.topic == "$sp/attest/verdict":
            verdict = found.payload
    assert verdict.startswith(b"implementation-id")
    said = dev.mqtt.expect_close()
    assert [p.reason for p in said if p.kind == mqtt.DISCONNECT] == [0x87]


def test_a_revoked_device_is_closed_within_a_second(gateway, device):
    import time
    dev = TestDevice(gateway, device())
    dev.attest()
    gateway.cli("device", "revoke", dev.bundle.id)
    started = time.monotonic()
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x98]
    assert time.monotonic() - started < 2
    from tests.lib.tlspsk import TlsError
    with pytest.raises(TlsError) as error:
        TestDevice(gateway, dev.bundle)
    assert error.value.alert == 20
