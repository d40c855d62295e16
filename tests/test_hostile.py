# SPDX-License-Identifier: Apache-2.0
"""Attacks, as tables of bytes where that is possible. All the while a canary device publishes; at the end it must have lost nothing,
no process may have died, and no line of the log may hold anything unprintable. Names such as M-05 are those of the list of bug
classes that other brokers and TLS stacks had."""
import contextlib
import os
import signal
import socket
import string
import struct
import threading
import time

import pytest

from tests.lib import mqtt, wire
from tests.lib.attester import MEASUREMENT, METHODS, SIGNER, Bundle, TestDevice, climate, token
from tests.lib.attester import challenge as challenge_of
from tests.lib.canary import canary, forwarded, oracle, watcher  # noqa: F401  pylint: disable=unused-import
from tests.lib.oracle import full
from tests.lib.tlspsk import CCM8, TlsError, TlsPsk, _lib
from tools.lab.process import wait_for

TLS13 = "NONE:+VERS-TLS1.3:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+ECDHE-PSK:+AES-128-GCM:+AEAD"


@pytest.fixture
def open_device(gateway, device):
    """`open_device(version)`: admitted without a token, under a fresh name."""
    def enter(version=5, **more):
        dev = TestDevice(gateway, device("--attestation", "none"), version)
        dev.connect(props={mqtt.METHOD: None}, **more)
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
        return dev
    return enter


def ask(dev, **more):
    """CONNECT; the nonce that comes back."""
    dev.connect(**more)
    if dev.version == 4:
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
    return dev.nonce()


def hear(dev, topic, seconds=15):
    """The next message on a topic, whatever comes before it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = dev.mqtt.receive()
        if found.kind == mqtt.PUBLISH and found.topic == topic:
            return found
    raise TimeoutError(topic)


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


def reasons(said, kind=mqtt.DISCONNECT):
    return [p.reason for p in said if p.kind == kind]


def publish5(topic, props=b"\0", payload=b"x", flags=0, packet_id=b""):
    return mqtt.packet(mqtt.PUBLISH, mqtt.text(topic) + packet_id + props + payload, flags)


def prop_block(body):
    return mqtt.varint(len(body)) + body


# Bytes of one property each, by number (MQTT 5, 2.2.2.2).
ONE_PROPERTY = {1: "01 00", 2: "02 00000001", 3: "03 0001 61", 8: "08 0001 61", 9: "09 0001 61", 11: "0B 01", 17: "11 00000001",
                18: "12 0001 61", 19: "13 0001", 21: "15 0001 61", 22: "16 0001 61", 23: "17 00", 24: "18 00000001", 25: "19 00",
                26: "1A 0001 61", 28: "1C 0001 61", 31: "1F 0001 61", 33: "21 0001", 34: "22 0001", 35: "23 0001", 36: "24 00",
                37: "25 00", 38: "26 0001 61 0001 61", 39: "27 00000001", 40: "28 00", 41: "29 00", 42: "2A 00"}
IN_PUBLISH = {1, 2, 3, 8, 9, 35, 38}  # 35, the alias, has an answer of its own; 11 is the server's alone
IN_SUBSCRIBE = {11, 38}
IN_CONNECT = {17, 21, 22, 23, 25, 33, 34, 38, 39}
IN_WILL = {1, 2, 3, 8, 9, 24, 38}
BAD_TEXT = ["00", "C0 80", "ED A0 80", "F4 90 80 80", "F5 80 80 80", "80", "E2 28 A1", "C3"]

# name, bytes of an admitted MQTT 5 client, reasons that are right
AFTER_CONNACK = [
    ("M-01 256 MB announced", hexed("30 FF FF FF 7F"), {0x95}),
    ("M-02 five bytes of length", hexed("10 FF FF FF FF 7F"), {0x81}),
    ("M-02 a long way to say little", hexed("10 80 80 80 80 01"), {0x81}),
    ("M-03 no length in two bytes", hexed("C0 80 00"), {0x81}),
    ("M-03 no properties in two bytes", hexed("30 06 00 01 61 80 00 78"), {0x81}),
    ("M-04 a topic longer than its packet", hexed("30 05 00 FF 61 2F 62"), {0x81}),
    ("M-06 QoS 1 without a packet id", hexed("32 05 00 03 61 2F 62"), {0x81}),
    ("M-07 a filter without options", hexed("82 08 00 01 00 00 03 61 2F 62"), {0x81}),
    ("M-08 SUBSCRIBE to nothing", hexed("82 03 00 01 00"), {0x82}),
    ("M-08 UNSUBSCRIBE from nothing", hexed("A2 03 00 01 00"), {0x82}),
    ("M-09 SUBSCRIBE with flags 0", hexed("80 03 00 01 00"), {0x81}),
    ("M-09 PUBREL with flags 0", hexed("60 02 00 01"), {0x81}),
    ("M-09 PINGREQ with a flag", hexed("C1 00"), {0x81}),
    ("M-09 DISCONNECT with a flag", hexed("E1 00"), {0x81}),
    ("M-09 PINGREQ with a body", hexed("C0 01 00"), {0x81}),
    ("M-10 PUBLISH with packet id 0", hexed("32 07 00 01 61 00 00 00 78"), {0x81, 0x82}),
    ("M-10 SUBSCRIBE with packet id 0", hexed("82 07 00 00 00 00 01 61 00"), {0x81, 0x82}),
    ("M-10 PUBACK with packet id 0", hexed("40 02 00 00"), {0x81, 0x82}),
    ("M-11 PUBLISH with QoS 3", hexed("36 07 00 01 61 00 01 00 78"), {0x81}),
    ("M-11 SUBSCRIBE with QoS 3", hexed("82 07 00 01 00 00 01 61 03"), {0x82}),
    ("M-11 retain handling 3", hexed("82 07 00 01 00 00 01 61 30"), {0x82}),
    ("M-11 reserved options", hexed("82 07 00 01 00 00 01 61 40"), {0x81}),
    ("M-11 DUP with QoS 0", hexed("38 05 00 01 61 00 78"), {0x81}),
    ("M-12 no topic and no alias", hexed("30 03 00 00 00"), {0x82}),
    ("M-13 a wildcard in a topic", publish5("dt/a/#"), {0x82, 0x90}),
    ("M-13 the other wildcard", publish5("dt/+/x"), {0x82, 0x90}),
    ("M-15 a topic of 257 bytes", publish5("dt/" + "a" * 254), {0x90}),
    ("M-15 17 levels", publish5("/" * 16), {0x90}),
    ("M-20 a second CONNECT", mqtt.connect(5, b"again"), {0x82}),
    ("M-24 CONNACK", hexed("20 03 00 00 00"), {0x82}),
    ("M-24 SUBACK", hexed("90 04 00 01 00 00"), {0x82}),
    ("M-24 UNSUBACK", hexed("B0 04 00 01 00 00"), {0x82}),
    ("M-24 PINGRESP", hexed("D0 00"), {0x82}),
    ("M-24 type 0", hexed("00 00"), {0x81}),
    ("M-25 properties longer than the packet", hexed("30 05 00 01 61 7F 78"), {0x81}),
    ("M-25 a property across the end of its block", hexed("30 08 00 01 61 02 02 00 00 00"), {0x81}),
    ("M-28 10000 user properties", publish5("dt/x", prop_block(hexed("26 0000 0000") * 3000)), {0x95, 0x97}),
    ("M-28 nine user properties", publish5("dt/x", prop_block(hexed("26 0000 0000") * 9)), {0x97}),
    ("M-28 a user property of 16000 bytes", publish5("dt/x", prop_block(b"\x26\x00\x01a" + mqtt.text(b"b" * 16400))), {0x95}),
    ("M-29 alias 0", publish5("", prop_block(hexed("23 0000"))), {0x82, 0x94}),
    ("M-29 an alias where there may be none", publish5("dt/x", prop_block(hexed("23 0001"))), {0x94}),
    ("M-29 an alias never set", publish5("", prop_block(hexed("23 0007"))), {0x94}),
    ("M-31 subscription id 0", hexed("82 09 00 01 02 0B 00 00 01 61 00"), {0x82}),
    ("M-31 subscription id in PUBLISH", publish5("dt/x", prop_block(hexed("0B 01"))), {0x82}),
    ("M-45 AUTH without a method", hexed("F0 02 18 00"), {0x82}),
    ("M-45 AUTH", hexed("F0 00"), {0x82}),
    ("session expiry raised at the end", hexed("E0 07 00 05 11 00 00 00 09"), {0x82}),
    ("reason that is no reason", hexed("E0 01 03"), {0x82}),
]
AFTER_CONNACK += [(f"M-14 {bad} in a topic", publish5(b"dt/" + hexed(bad)), {0x81, 0x82}) for bad in BAD_TEXT]
AFTER_CONNACK += [(f"M-14 {bad} in a user property", publish5("dt/x", prop_block(b"\x26" + mqtt.text(b"k") + mqtt.text(hexed(bad)))),
                   {0x81}) for bad in BAD_TEXT]
AFTER_CONNACK += [(f"M-26 property {number} in PUBLISH", publish5("dt/x", prop_block(hexed(one))), {0x82})
                  for number, one in ONE_PROPERTY.items() if number not in IN_PUBLISH]
AFTER_CONNACK += [(f"M-26 property {number} in SUBSCRIBE",
                   mqtt.packet(mqtt.SUBSCRIBE, b"\0\1" + prop_block(hexed(one)) + mqtt.text("a") + b"\0", 2), {0x82})
                  for number, one in ONE_PROPERTY.items() if number not in IN_SUBSCRIBE]
AFTER_CONNACK += [(f"M-26 unknown property {one}", publish5("dt/x", prop_block(hexed(one))), {0x81, 0x82}) for one in ("00", "7F", "80 01")]
AFTER_CONNACK += [(f"M-27 property {number} twice", publish5("dt/x", prop_block(hexed(ONE_PROPERTY[number]) * 2)), {0x82})
                  for number in sorted(IN_PUBLISH - {38})]


def test_an_admitted_mqtt_5_client_that_breaks_a_rule_is_told_which_and_closed(open_device, oracle):
    faults = []
    for name, data, right in AFTER_CONNACK:
        dev = open_device()
        with oracle.one("protocol_errors_total"):
            dev.mqtt.send(data)
            try:
                said = reasons(dev.mqtt.expect_close())
            except TimeoutError:
                said = "nothing"
        if len(said) != 1 or said[0] not in right:
            faults.append(f"{name}: {said}, not one of {sorted(right)}")
    assert not faults, "\n".join(faults)


def test_answers_to_nothing_change_nothing(open_device, oracle):
    """M-34: a late answer is no fault, and counts as none. A release is noted in the journal, whatever it is for."""
    oracle.stores(1)
    dev = open_device()
    dev.mqtt.send(hexed("50 02 00 09"))  # PUBREC
    release = dev.mqtt.expect(mqtt.PUBREL)
    assert release.body == b"\x00\x09\x92"
    dev.mqtt.send(hexed("70 02 00 09 40 02 00 09 62 02 00 09"))  # PUBCOMP, PUBACK, PUBREL
    assert dev.mqtt.expect(mqtt.PUBCOMP).packet_id == 9
    dev.mqtt.ping()
    dev.close()


AFTER_CONNACK_311 = [
    ("M-02", "10 FF FF FF FF 7F"), ("M-03", "C0 80 00"), ("M-06", "32 05 00 03 61 2F 62"), ("M-07", "82 07 00 01 00 03 61 2F 62"),
    ("M-08", "82 02 00 01"), ("M-08", "A2 02 00 01"), ("M-09", "80 06 00 01 00 01 61 00"), ("M-09", "C0 01 00"), ("M-09", "E0 01 00"),
    ("M-10", "32 05 00 01 61 00 00"), ("M-10", "82 06 00 00 00 01 61 00"), ("M-10", "40 02 00 00"), ("M-11", "36 05 00 01 61 00 01"),
    ("M-11", "82 06 00 01 00 01 61 03"), ("M-11 an option of MQTT 5", "82 06 00 01 00 01 61 04"), ("M-12", "30 02 00 00"),
    ("M-13", "30 05 00 03 61 2F 23"), ("M-22 PUBACK with a byte too much", "40 03 00 01 00"), ("M-24", "20 02 00 00"),
    ("M-24", "90 03 00 01 00"), ("M-24", "D0 00"), ("M-24", "00 00"), ("M-24 AUTH", "F0 00"),
    ("M-16 $SYS", "30 08 00 06 24 53 59 53 2F 78"), ("M-16 $", "30 03 00 01 24"),
]


def test_an_admitted_311_client_that_breaks_a_rule_is_closed_without_a_word(open_device, oracle):
    faults = []
    for name, data in AFTER_CONNACK_311:
        dev = open_device(4)
        with oracle.one("messages_denied_total" if "M-16" in name else "protocol_errors_total"):
            dev.mqtt.send(hexed(data))
            try:
                said = dev.mqtt.expect_close()
            except TimeoutError:
                said = "it stays"
        if said:
            faults.append(f"{name} {data}: {said}")
    assert not faults, "\n".join(faults)


def connect_body(flags=2, level=5, name=b"MQTT", props=b"\0", rest=b"", client_id=b"", keep_alive=60):
    props = props if level == 5 else b""
    return mqtt.packet(mqtt.CONNECT, mqtt.text(name) + bytes([level, flags]) + struct.pack(">H", keep_alive) + props
                       + mqtt.text(client_id) + rest)


WILL = b"\0" + mqtt.text("dt/x/y") + mqtt.text("w")
# name, first bytes of a connection, reasons of a CONNACK that are right; empty: closed without one
INSTEAD_OF_CONNECT = [
    ("M-01 256 MB announced at once", hexed("30 FF FF FF 7F"), set()),
    ("M-01 a CONNECT of 256 MB", hexed("10 FF FF FF 7F"), set()),
    ("M-02", hexed("10 FF FF FF FF 7F"), set()),
    ("M-20 PUBLISH first", publish5("dt/x"), set()),
    ("M-20 PINGREQ first", hexed("C0 00"), set()),
    ("M-45 AUTH first", hexed("F0 00"), set()),
    ("M-21 the reserved flag", connect_body(3), {0x81}),
    ("M-21 will QoS without a will", connect_body(0x0A), {0x81}),
    ("M-21 will retain without a will", connect_body(0x22), {0x81}),
    ("M-21 will QoS 3", connect_body(0x1E, rest=WILL), {0x81}),
    ("M-21 password without user name, 3.1.1", connect_body(0x42, 4, rest=mqtt.text("p")), set()),
    ("M-22 a byte too much", connect_body(rest=b"x"), {0x81}),
    ("M-22 user name announced and missing", connect_body(0x82), {0x81}),
    ("M-23 another protocol", connect_body(name=b"MQTX"), {0x81, None}),
    ("M-23 small letters", connect_body(name=b"mqtt"), {0x81, None}),
    ("M-23 level 6", connect_body(level=6), {0x84}),
    ("M-23 level 255", connect_body(level=255), {0x84}),
    ("M-23 MQIsdp", connect_body(level=3, name=b"MQIsdp"), {1}),
    ("M-17 a name with #", connect_body(client_id=b"dev#"), {0x85}),
    ("M-17 a name with /", connect_body(client_id=b"dev/1"), {0x85}),
    ("M-47 a name with a line end", connect_body(client_id=b"dev\r\n"), {0x81, 0x85}),
    ("M-47 a name with formats", connect_body(client_id=b"%s%n"), {0x85}),
    ("M-18 empty without Clean Session, 3.1.1", connect_body(0, 4), {2}),
    ("M-30 Receive Maximum 0", connect_body(props=hexed("03 21 0000")), {0x82}),
    ("M-30 Maximum Packet Size 0", connect_body(props=hexed("05 27 00000000")), {0x82}),
    ("M-30 Request Response Information 2", connect_body(props=hexed("02 19 02")), {0x82}),
    ("M-44 a will of 64 KiB", connect_body(6, rest=b"\0" + mqtt.text("dt/x/y") + mqtt.text(b"w" * 65535)), set()),
    ("M-44 a will on $SYS", connect_body(6, rest=b"\0" + mqtt.text("$SYS/x") + mqtt.text("w")), {0x87}),
    ("M-44 a will of somebody else", connect_body(6, rest=WILL), {0x87}),
    ("M-44 a will with a wildcard", connect_body(6, rest=b"\0" + mqtt.text("dt/#") + mqtt.text("w")), {0x81, 0x82, 0x90}),
    ("M-45 data without a method", connect_body(props=hexed("04 16 0001 61")), {0x82}),
    ("M-28 nine user properties", connect_body(props=prop_block(hexed("26 0000 0000") * 9)), {0x97}),
]
INSTEAD_OF_CONNECT += [(f"M-14 {bad} in the client id", connect_body(client_id=hexed(bad)), {0x81}) for bad in BAD_TEXT]
INSTEAD_OF_CONNECT += [(f"M-14 {bad} in the user name", connect_body(0x82, rest=mqtt.text(hexed(bad))), {0x81}) for bad in BAD_TEXT]
INSTEAD_OF_CONNECT += [(f"M-26 property {number} in CONNECT", connect_body(props=prop_block(hexed(one))), {0x82})
                       for number, one in ONE_PROPERTY.items() if number not in IN_CONNECT]
INSTEAD_OF_CONNECT += [(f"M-26 property {number} in a will",
                        connect_body(6, rest=prop_block(hexed(one)) + mqtt.text("dt/x/y") + mqtt.text("w")), {0x82})
                       for number, one in ONE_PROPERTY.items() if number not in IN_WILL]
INSTEAD_OF_CONNECT += [(f"M-27 property {number} twice in CONNECT", connect_body(props=prop_block(hexed(ONE_PROPERTY[number]) * 2)), {0x82})
                       for number in sorted(IN_CONNECT - {38})]


NOT_ALLOWED = {1, 2, 0x84, 0x85, 0x87, 0x97}  # a CONNECT that is well formed and refused; the rest is no MQTT


def test_a_wrong_first_packet_is_refused_and_leaves_nothing(gateway, device, oracle):
    bundle, faults = device("--attestation", "none"), []
    online = gateway.metric("devices_online")
    for name, data, right in INSTEAD_OF_CONNECT:
        dev = TestDevice(gateway, bundle)
        dev.mqtt.version = 4 if right and right < {1, 2, 3, 4, 5} else 5
        dev.mqtt.send(data)
        try:
            got = reasons(dev.mqtt.expect_close(), mqtt.CONNACK) or [None]
        except TimeoutError:
            got = ["nothing, and it stays"]
        oracle.counts("connects_refused_total" if got[0] in NOT_ALLOWED else "protocol_errors_total")
        oracle.check_counters()
        if len(got) != 1 or got[0] not in (right or {None}):
            faults.append(f"{name}: {got}, not one of {right or 'silence'}")
    assert not faults, "\n".join(faults)
    assert gateway.metric("devices_online") == online


def count_answer(oracle, said):
    """What a client is told and what is counted are the same."""
    for found in said:
        if found.kind == mqtt.DISCONNECT:
            oracle.counts("protocol_errors_total")
        elif found.kind == mqtt.SUBACK:
            oracle.counts("subscriptions_denied_total", number=sum(code >= 0x80 for code in found.codes))
        elif found.kind == mqtt.PUBACK and found.reason == 0x87:
            oracle.counts("messages_denied_total")
    oracle.check_counters()


def test_a_name_of_another_device_changes_nothing_of_its_session(open_device, device, gateway, oracle):
    """M-19: refused at CONNECT, whatever waits for the other one, who stays."""
    other, mine = open_device(), device("--attestation", "none")
    with oracle.one("connects_refused_total"):
        dev = TestDevice(gateway, mine)
        dev.connect(props={mqtt.METHOD: None}, client_id=other.bundle.id, clean=True)
        assert reasons(dev.mqtt.expect_close(), mqtt.CONNACK) == [0x85]
    other.mqtt.ping()
    other.close()


@pytest.mark.parametrize("more,right", [(-1, []), (0, []), (1, [0x95])])
def test_a_packet_may_be_as_large_as_connack_says_and_no_larger(gateway, device, oracle, forwarded, more, right):
    """M-46: the whole packet, with its header."""
    dev = TestDevice(gateway, device("--attestation", "none"))
    dev.connect(props={mqtt.METHOD: None})
    maximum, topic = dev.mqtt.expect(mqtt.CONNACK).props[39], f"dt/{dev.bundle.id}/x"
    bare = len(publish5(topic, payload=bytes(maximum - 100))) - (maximum - 100)
    data = publish5(topic, payload=bytes(maximum + more - bare))
    assert len(data) == maximum + more
    if right:
        with oracle.one("protocol_errors_total"):
            dev.mqtt.send(data)
            assert reasons(dev.mqtt.expect_close()) == right
    else:
        forwarded.add(topic)
        dev.mqtt.send(data)
        dev.mqtt.ping()
        dev.close()


def test_packets_cut_at_every_byte_are_never_taken_for_more_than_they_are(open_device, oracle):
    """M-05: the length is that of the cut, so each is a whole packet."""
    whole = [(mqtt.PUBLISH, 2, mqtt.text("dt/x") + b"\0\1" + prop_block(hexed("01 01 26 0001 61 0001 62")) + b"pay"),
             (mqtt.SUBSCRIBE, 2, b"\0\2" + prop_block(hexed("26 0001 61 0001 62")) + mqtt.text("cmd/x") + b"\1" + mqtt.text("a/+") + b"\0"),
             (mqtt.UNSUBSCRIBE, 2, b"\0\3\0" + mqtt.text("cmd/x") + mqtt.text("a")),
             (mqtt.PUBACK, 0, hexed("00 01 10 06 1F 00 03 61 62 63")),
             (mqtt.DISCONNECT, 0, hexed("04 0B 11 00 00 00 00 1F 00 03 61 62 63"))]
    for kind, flags, body in whole:
        for cut in range(len(body)):
            dev = open_device()
            dev.mqtt.send(mqtt.packet(kind, body[:cut], flags) + mqtt.packet(mqtt.PINGREQ, b""))
            said = []
            try:
                while not said or said[-1].kind not in (mqtt.PINGRESP, mqtt.DISCONNECT):
                    said.append(dev.mqtt.receive())
            except mqtt.Closed:
                assert kind == mqtt.DISCONNECT
            count_answer(oracle, said)
            dev.abort()


def test_filters_that_are_none_are_refused(open_device, oracle):
    """M-15, M-37, M-38: in SUBACK or by closing."""
    for filters in (["a/#/b"], ["a+"], ["#/"], [""], ["$share//x"], ["$share/g+/x"], ["a/#b"], ["/".join(["+"] * 17)], ["x" * 257]):
        dev = open_device()
        dev.mqtt.send(mqtt.packet(mqtt.SUBSCRIBE, b"\0\1\0" + b"".join(mqtt.text(f) + b"\1" for f in filters), 2))
        said = dev.mqtt.receive()
        assert said.kind == mqtt.DISCONNECT or all(code >= 0x80 for code in said.codes), (filters, said)
        count_answer(oracle, [said])
        dev.abort()


def test_a_thousand_subscriptions_come_and_go_without_a_trace(gateway, open_device, oracle):
    """M-37."""
    dev = open_device()
    before = gateway.metric("subscriptions")
    for number in range(full(1000, 100000)):
        assert dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/{number}") == [1]
        body = struct.pack(">H", dev.mqtt.next_id()) + b"\0" + mqtt.text(f"cmd/{dev.bundle.id}/{number}")
        dev.mqtt.send(mqtt.packet(mqtt.UNSUBSCRIBE, body, 2))
        assert dev.mqtt.expect(mqtt.UNSUBACK).codes == [0]
    codes = [dev.mqtt.subscribe(f"cmd/{dev.bundle.id}/{number}")[0] for number in range(20)]
    assert codes == [1] * 16 + [0x97] * 4
    oracle.counts("subscriptions_denied_total", number=4)
    dev.close()
    wait_for(lambda: gateway.metric("subscriptions") == before)


def test_nobody_has_an_unlimited_keep_alive(gateway, device):
    """M-40."""
    for asked in (0, 65535):
        dev = TestDevice(gateway, device("--attestation", "none"))
        dev.connect(props={mqtt.METHOD: None}, keep_alive=asked)
        assert 0 < dev.mqtt.expect(mqtt.CONNACK).props[19] <= 1800
        dev.close()


def test_a_connect_in_drops_does_not_outlive_its_deadline(gateway, device, oracle):
    """M-43: absolute, whatever trickles in."""
    dev = TestDevice(gateway, device("--attestation", "none"))
    data = connect_body(client_id=b"x" * 60)
    started = time.monotonic()
    oracle.counts("deadline_timeouts_total")
    with pytest.raises((OSError, TlsError)):
        for byte in data:
            dev.tls.send(bytes([byte]))
            time.sleep(0.3)
    assert time.monotonic() - started < 6


def test_eight_connections_that_take_each_other_over_break_nothing(gateway, device, open_device, oracle, forwarded):
    """M-48, M-49: one name from eight sockets, while somebody floods what they subscribe to. Nobody goes before he is told to, so each
    who was let in is taken over once, but for the last."""
    bundle = device("--attestation", "none", role="monitor")
    sensor, faults, ends, admitted, sent = open_device(), [], time.monotonic() + full(6, 120), [], 0
    forwarded.add(f"dt/{sensor.bundle.id}/x")

    def enter():
        dev = TestDevice(gateway, bundle, timeout=60)
        dev.connect(props={mqtt.METHOD: None}, clean=False)
        assert dev.mqtt.receive().kind == mqtt.CONNACK
        admitted.append(1)
        return dev

    def take_over():
        try:
            while time.monotonic() < ends:
                dev = enter()
                with contextlib.suppress(mqtt.Closed, TlsError, OSError):
                    dev.mqtt.send(mqtt.packet(mqtt.SUBSCRIBE, b"\0\1\0" + mqtt.text("dt/+/climate") + b"\0", 2))
                    while dev.tls.recv():
                        pass
                dev.abort()
        except BaseException as error:  # pylint: disable=broad-except
            faults.append(error)

    threads = [threading.Thread(target=take_over) for _ in range(8)]
    for thread in threads:
        thread.start()
    while time.monotonic() < ends:
        for _ in range(20):
            sensor.mqtt.publish(f"dt/{sensor.bundle.id}/climate", b"\x81\xa0", qos=0)
            sensor.mqtt.publish(f"dt/{sensor.bundle.id}/x", b"f" * 500, qos=0)
        sensor.mqtt.ping()
        sent += 20
    last = enter()
    for thread in threads:
        thread.join()
    assert not faults, faults
    last.close()
    sensor.close()
    oracle.counts('records_refused_total{kind="content"}', number=sent)
    oracle.counts("cloud_dropped_total", "messages_dropped_total", number=2 * sent, at_least=0)  # what a flood at QoS 0 may lose
    oracle.counts("sessions_taken_over_total", number=len(admitted) - 1)
    oracle.fewer_lines = True  # those of one device have a limit


def test_a_monitor_that_does_not_read_is_closed_and_holds_nobody_up(gateway, device, open_device, oracle, forwarded):
    """M-42: one counter for the monitor, one for each message that it did not get."""
    monitor = TestDevice(gateway, device("--attestation", "none", role="monitor"))
    monitor.tls.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    monitor.connect(props={mqtt.METHOD: None})
    monitor.mqtt.expect(mqtt.CONNACK)
    monitor.mqtt.subscribe("dt/+/climate", qos=0)
    sensor, before = open_device(), gateway.metric("slow_readers_closed_total")
    record, topic = climate(sensor.bundle.id), f"dt/{sensor.bundle.id}/climate"
    props = {38: [("k" * 100, "v" * 140)] * 4}
    forwarded.add(topic)
    ends, sent = time.monotonic() + 25, 0
    while gateway.metric("slow_readers_closed_total") == before and time.monotonic() < ends:
        for _ in range(250):
            sensor.mqtt.publish(topic, record, props=props)
        sensor.mqtt.ping()
        sent += 250
        time.sleep(0.3)
    assert gateway.metric("slow_readers_closed_total") == before + 1
    monitor.abort()
    sensor.close()
    oracle.counts("slow_readers_closed_total")
    oracle.counts("messages_dropped_total", "cloud_dropped_total", number=3 * sent, at_least=0)  # the watcher and the cloud may too
    oracle.fewer_lines = True  # a dropped message has none


def test_what_devices_say_is_escaped_in_the_log(gateway, open_device, oracle):
    """M-47; the fixture looks at every line."""
    dev = open_device()
    for topic in ("dt/x/%s%n", "dt/x/\u202e\u2028", "dt/y/ev=1 level=error"):
        with oracle.one("messages_denied_total"):
            dev.mqtt.publish(topic, b"x", qos=1)
            assert dev.mqtt.expect(mqtt.PUBACK).reason == 0x87
    dev.mqtt.send(mqtt.packet(mqtt.DISCONNECT, b"\x04" + prop_block(b"\x1f" + mqtt.text("a\" event=ready x=\""))))
    dev.mqtt.expect_close()
    gateway.wait_event("publish_denied")


def test_a_device_cannot_fill_the_log(gateway, open_device, oracle):
    dev = open_device()
    oracle.fewer_lines = True
    for _ in range(20):
        dev.mqtt.send(publish5("dt/not-mine/x") * 50)
    dev.mqtt.ping()
    oracle.counts("messages_denied_total", number=1000)
    oracle.check_counters()

    def lines(event):
        return [line for line in gateway.events(event) if f"device={dev.bundle.id} " in line]
    wait_for(lambda: lines("log_limited"), 5, "the last line")
    assert (len(lines("publish_denied")), len(lines("log_limited"))) == (100, 1)
    dev.close()


# ---- TLS ----

def refused(said):
    return said is not None and b"\x14\x03\x03\x00\x01\x01" not in said  # no ChangeCipherSpec of the gateway's


HELLOS = [
    ("T-01 TLS 1.1", wire.client_hello(0x0302), 70),
    ("T-01 TLS 1.0", wire.client_hello(0x0301), 70),
    ("T-01 SSL 3", wire.client_hello(0x0300), 70),
    ("T-01 a fallback from nowhere", wire.client_hello(0x0302, (0xC0A8, 0x5600)), 70),
    ("T-02 NULL encryption", wire.client_hello(suites=(0x00B0, 0x002C)), 40),
    ("T-02 RSA-PSK", wire.client_hello(suites=(0x00AC,)), 40),
    ("T-02 plain CBC", wire.client_hello(suites=(0x00AE, 0x008C)), 40),
    ("T-02 anonymous", wire.client_hello(suites=(0x00A6, 0xC018)), 40),
    ("T-02 RC4 and 3DES", wire.client_hello(suites=(0x008A, 0x008B)), 40),
    ("T-02 certificates", wire.client_hello(suites=(0xC02B, 0x1301)), 40),
    ("T-18 no extended master secret", wire.client_hello(extensions=b""), 40),
    ("no suite at all", wire.client_hello(suites=()), None),
    ("no compression method", wire.client_hello(compression=b""), None),
    ("a session id of 255 bytes", wire.client_hello(session=bytes(255)), None),
    ("an extension longer than its block", wire.client_hello(extensions=b"\x00\x17\x40\x00"), 50),
    ("bytes behind the extensions", wire.message(1, wire.client_hello()[4:] + b"x"), 50),
    ("a hello of 16 MB", b"\x01\xff\xff\xff" + bytes(200), 50),
    ("a hello of 4096 bytes and more", wire.client_hello(extensions=wire.EMS + wire.extension(21, bytes(5000))), 50),
]


@pytest.mark.parametrize("name,hello,alert", HELLOS, ids=[case[0] for case in HELLOS])
def test_a_hello_that_will_not_do_gets_its_alert(gateway, oracle, name, hello, alert):
    oracle.counts("tls_handshakes_failed_total")
    said = wire.talk(gateway.port, wire.records_of(hello, version=0x0301), seconds=12)
    assert refused(said), name
    assert alert is None or wire.alerts(said) == [alert], (name, said)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 256, 257, 4000, 16000, 65535])
def test_identities_of_any_length_end_in_an_alert(gateway, oracle, length):
    """T-04; a Finished of noise follows, so that the key is tried. What is longer than a hello may be is no handshake at all."""
    oracle.counts("tls_unknown_identity_total" if length < 4000 else "tls_handshakes_failed_total")
    exchange = wire.records_of(wire.key_exchange(b"a" * length))
    rest = wire.record(20, b"\1") + wire.record(22, bytes(40))
    said = wire.talk(gateway.port, wire.records_of(wire.client_hello()), exchange + rest, seconds=12)
    assert refused(said) and len(wire.alerts(said)) == 1, said


OUT_OF_TURN = [
    ("Finished before the key", wire.record(22, wire.message(20, bytes(12)))),
    ("CertificateVerify", wire.record(22, wire.message(15, bytes(8)))),
    ("Certificate", wire.record(22, wire.message(11, bytes(3)))),
    ("application data", wire.record(23, mqtt.connect(5, b"dev"))),
    ("ChangeCipherSpec and data", wire.record(20, b"\1") + wire.record(23, mqtt.connect(5, b"dev"))),
    ("two hellos", wire.records_of(wire.client_hello())),
    ("HelloRequest", wire.record(22, wire.message(0, b""))),
    ("empty handshake records", wire.record(22, b"") * 2000),
    ("ChangeCipherSpec a thousand times", wire.record(20, b"\1") * 1000),
    ("a ChangeCipherSpec of two", wire.record(20, b"\2")),
    ("warning alerts", wire.record(21, b"\1\x5a") * 2000),
    ("a fatal alert", wire.record(21, b"\2\x28")),
    ("a heartbeat", wire.record(24, b"\1\x40\0" + bytes(19))),
    ("a record of 64 KB", b"\x16\3\3\xff\xff" + bytes(70000)),
    ("a type that is none", wire.record(99, b"x")),
]


@pytest.mark.parametrize("name,second", OUT_OF_TURN, ids=[case[0] for case in OUT_OF_TURN])
def test_messages_out_of_turn_end_the_handshake(gateway, oracle, name, second):
    """T-10, T-11, T-14."""
    oracle.counts("tls_handshakes_failed_total")
    before = gateway.metric("tls_handshakes_ok_total")
    said = wire.talk(gateway.port, wire.records_of(wire.client_hello()), second, seconds=12)
    assert refused(said), name
    assert gateway.metric("tls_handshakes_ok_total") <= before + 1  # the canary's neighbours, not this one


BROKEN_PSK = [
    ("binder of no bytes", wire.hello13(wire.psk_extension(b"dev", b""))),
    ("binder cut", wire.hello13(wire.psk_extension(b"dev", binders=b"\x20" + bytes(9)))),
    ("more binders than identities", wire.hello13(wire.psk_extension(b"dev", binders=(b"\x20" + bytes(32)) * 2))),
    ("no binder", wire.hello13(wire.psk_extension(b"dev", binders=b""))),
    ("no identity", wire.hello13(wire.psk_extension(b"", identities=b""))),
    ("identity of no bytes", wire.hello13(wire.psk_extension(b""))),
    ("identity longer than its list", wire.hello13(wire.psk_extension(b"", identities=b"\xff\xffdev" + bytes(4)))),
    ("an extension behind it", wire.hello13(wire.psk_extension(b"dev"), wire.EMS)),
    ("a wrong binder", wire.hello13(wire.psk_extension(b"dev"))),
    ("early data", wire.hello13(wire.extension(42, b"") + wire.psk_extension(b"dev"))),
    ("twice", wire.hello13(wire.psk_extension(b"dev") + wire.psk_extension(b"dev"))),
]


@pytest.mark.parametrize("name,hello", BROKEN_PSK, ids=[case[0] for case in BROKEN_PSK])
def test_a_tls_13_hello_with_a_broken_psk_extension_is_refused(gateway, oracle, name, hello):
    """T-16, T-19. Without a name it is no handshake; with one, which nobody has, it fails at the key."""
    nameless = name in ("no identity", "identity of no bytes", "identity longer than its list")
    oracle.counts("tls_handshakes_failed_total" if nameless else "tls_unknown_identity_total")
    said = wire.talk(gateway.port, wire.records_of(hello), seconds=12)
    assert refused(said) and wire.alerts(said), (name, said)


def test_in_tls_13_too_a_wrong_key_looks_like_an_unknown_name(gateway, device, oracle):
    """T-03, T-05."""
    dev, seen = device(), []
    for how in ({"psk": b"w" * 32}, {"identity": b"nobody"}, {"identity": b"dev\0evil"}, {"identity": b"a" * 200}):
        counter = "tls_wrong_key_total" if "psk" in how else "tls_unknown_identity_total"
        with oracle.one(counter), pytest.raises(TlsError) as error:
            TestDevice(gateway, dev, priority=TLS13, **how)
        seen.append(error.value.alert)
    assert len(set(seen)) == 1, seen
    for priority in (TLS13, CCM8, TLS13, CCM8):  # T-17
        entered = TestDevice(gateway, dev, priority=priority)
        entered.attest()
        entered.close()


@pytest.mark.parametrize("change", [wire.by_bytes, lambda data, at: wire.tiny_records(data, at, 1), lambda data, at: wire.tiny_records(data, at, 7)],
                         ids=["segments", "records of 1", "records of 7"])
def test_a_handshake_in_crumbs_is_a_handshake(gateway, device, change):
    """T-12."""
    class Through:
        port = wire.Relay(gateway.port, change).port
    dev = TestDevice(Through, device())
    dev.attest()
    dev.close()


def clear_flight(gateway, bundle):
    """What a device sends until it is admitted, as (offset, size) of its records: hello, key exchange, ChangeCipherSpec, Finished,
    CONNECT, token."""
    sent = []

    class Through:
        port = wire.Relay(gateway.port, lambda data, _offset: sent.append(data) or [data]).port
    dev = TestDevice(Through, bundle)
    dev.attest()
    data, found, at = b"".join(sent), [], 0
    while at < len(data):
        found.append((at, 5 + struct.unpack(">H", data[at + 3:at + 5])[0]))
        at += found[-1][1]
    dev.close()
    assert len(found) == 6, found
    return found


def flip_each(gateway, bundles, flips):
    """A handshake for each (byte, bit), as many at a time as there are bundles; those that came in."""
    entered, waiting = [], list(flips)

    def attempt(bundle, position, bit):
        class Through:
            port = wire.Relay(gateway.port, wire.flip(position, 1 << bit)).port
        try:
            dev = TestDevice(Through, bundle, timeout=30)  # longer than the gateway waits for anything: it is he who ends it
            dev.attest()
            entered.append((position, bit))
            dev.abort()
        except (TlsError, OSError, mqtt.Closed, AssertionError):
            pass

    def work(bundle):
        with contextlib.suppress(IndexError):
            while True:
                attempt(bundle, *waiting.pop())
    threads = [threading.Thread(target=work, args=(bundle,)) for bundle in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return entered


def test_no_bit_of_a_handshake_may_change(gateway, device, oracle):
    """T-21, first part: every byte of it, and of the first record that follows, a bit of each (in full: every bit). Nobody comes in, but
    for the two bytes that say nothing and that TLS 1.2 leaves out of what is authenticated: the lower version byte of the hello's
    record (RFC 5246 E.1: any), and the value of ChangeCipherSpec. Who changes those gets the device itself."""
    oracle.keeps()  # for a minute it is known whose token never came
    bundles = [device(name=f"flip-{2 * letter}") for letter in string.ascii_letters[:40]]  # none a bit from another; fewer than an address has places
    hello, exchange, change, finished, connect, answer = clear_flight(gateway, bundles[0])

    def flips(*positions):
        return [(at, bit) for at in positions for bit in full([at % 8], range(8))]

    def inside(record, first=0, last=0):
        return range(record[0] + first, record[0] + record[1] - last)
    random, name = range(11, 43), inside(exchange, 5 + 4 + 2)
    nothing = [hello[0] + 2, change[0] + 5]
    exactly = [("tls_wrong_key_total", flips(*random)), ("tls_unknown_identity_total", flips(*name)),
               ("tls_wrong_key_total", flips(*inside(finished, 5))), ("tls_bad_record_total", flips(*inside(connect, 5)))]
    for counter, which in exactly:
        with oracle.one(counter, number=len(which)):
            assert flip_each(gateway, bundles, which) == []
    said = {at for _, which in exactly for at, _ in which}
    rest = [at for at in range(answer[0] + 5) if at not in said | set(nothing)]  # what is left: lengths, types, lists
    with oracle.one("tls_wrong_key_total", "tls_unknown_identity_total", "tls_bad_record_total", "tls_handshakes_failed_total",
                    "deadline_timeouts_total", 'attestations_refused_total{check="timeout"}', number=len(flips(*rest))):
        assert flip_each(gateway, bundles, flips(*rest)) == []
    assert sorted(flip_each(gateway, bundles, flips(*nothing))) == flips(*nothing)


def test_changed_handshakes_under_one_name_are_counted_once_each_too(gateway, device, oracle):
    """T-21 with all of them at once: who comes to his token while another of the name is asked for one is refused at CONNECT, and of
    more than handshakes_per_identity the oldest ends. A change that says nothing may meet either."""
    oracle.keeps()
    bundle = device()
    answer = clear_flight(gateway, bundle)[-1]
    flips = [(at, at % 8) for at in range(answer[0] + 5)]
    entered = flip_each(gateway, [bundle] * len(flips), flips)
    oracle.counts("tls_wrong_key_total", "tls_unknown_identity_total", "tls_bad_record_total", "tls_handshakes_failed_total",
                  "deadline_timeouts_total", 'attestations_refused_total{check="timeout"}', "connects_refused_total",
                  "connections_shed_total", number=len(flips) - len(entered))
    assert len(entered) <= 2


def test_a_changed_record_is_the_end_of_its_connection(gateway, device, oracle):
    """T-21, second part."""
    limit = {"at": None, "sent": 0}

    def change(data, offset):
        limit["sent"] = offset + len(data)
        if limit["at"] is not None and offset >= limit["at"]:
            return [data[:-3] + bytes([data[-3] ^ 16]) + data[-2:]]
        return [data]

    class Through:
        port = wire.Relay(gateway.port, change).port
    dev = TestDevice(Through, device())
    dev.attest()
    limit["at"] = limit["sent"]
    with oracle.one("tls_bad_record_total"):
        dev.mqtt.publish(f"dt/{dev.bundle.id}/x", b"changed", qos=1)
        assert reasons(dev.mqtt.expect_close()) == []


@pytest.mark.parametrize("priority,what", [
    (CCM8, lambda s: _lib.gnutls_handshake(s)),
    (CCM8, lambda s: [_lib.gnutls_alert_send(s, 1, 90) for _ in range(1000)]),
    (TLS13, lambda s: [_lib.gnutls_session_key_update(s, 1) for _ in range(1000)]),
])
def test_renegotiation_and_floods_of_nothing_are_cut_off(gateway, device, oracle, priority, what):
    """T-09, T-11."""
    oracle.counts("tls_bad_record_total")
    dev = TestDevice(gateway, device(), priority=priority)
    dev.attest()
    what(dev.tls._session)  # pylint: disable=protected-access
    try:
        dev.mqtt.ping()
        dev.mqtt.ping()
        stayed = True
    except (mqtt.Closed, TlsError, OSError, AssertionError):
        stayed = False
    assert not stayed


def test_nothing_resumes(gateway, oracle):
    """T-19: no session id, no ticket; it ends with an alert of the peer's."""
    oracle.counts("tls_handshakes_failed_total")
    said = wire.talk(gateway.port, wire.records_of(wire.client_hello(session=b"r" * 32, extensions=wire.EMS + wire.extension(35, b"ticket"))),
                     wire.record(21, b"\2\x28"), seconds=12)
    hello = said[9:]
    assert said[5] == 2 and hello[34] in (0, 32) and hello[35:35 + hello[34]] != b"r" * 32


# ---- tokens ----

def attempt(gateway, bundle, **changes):
    """CONNECT and a token; the CONNACK."""
    dev = TestDevice(gateway, bundle)
    dev.connect()
    connack = dev.answer(dev.token(dev.nonce(), **changes))
    dev.abort()
    return connack


SOFTWARE = {1: "NSPE", 2: MEASUREMENT, 5: SIGNER}
TOKENS = [
    *[(f"C-16 a nonce of {n} bytes", {"nonce": bytes(n)}, {"claims", "nonce"}) for n in (0, 16, 31, 33, 48, 64)],
    ("C-16 no nonce", {"nonce": None}, {"claims"}),
    ("C-16 a nonce of text", {"nonce": "a" * 32}, {"claims"}),
    ("C-16 several nonces", {"nonce": [bytes(32), bytes(32)]}, {"claims"}),
    ("C-19 another profile", {"profile": "PSA_IOT_PROFILE_1"}, {"profile", "claims"}),
    ("C-19 no profile", {"profile": None}, {"profile", "claims"}),
    *[(f"C-20 lifecycle {value:#x}", {"lifecycle": value}, {"lifecycle", "claims"})
      for value in (0, 0x1000, 0x2000, 0x2FFF, 0x3100, 0x4000, 0x5000, 0x6000, 0x13000, -1)],
    ("C-20 no lifecycle", {"lifecycle": None}, {"claims"}),
    ("C-21 no software", {"software": None}, {"claims", "software"}),
    ("C-21 empty software", {"software": []}, {"claims", "software"}),
    ("C-21 90 components", {"software": [SOFTWARE] * 30}, {"claims", "software"}),
    ("C-21 a type twice", {"software": [SOFTWARE, SOFTWARE]}, {"software"}),
    ("C-21 one more, unknown", {"software": [SOFTWARE, {1: "X", 2: MEASUREMENT, 5: SIGNER}]}, {"software"}),
    ("C-21 another signer", {"software": [{1: "NSPE", 2: MEASUREMENT, 5: bytes(32)}]}, {"software"}),
    *[(f"C-22 an instance id of {n} bytes", {"instance_id": b"\x01" + bytes(n - 1)}, {"claims"}) for n in (32, 34)],
    ("C-22 not a RAND", {"instance_id": b"\x02" + bytes(32)}, {"claims", "instance-id"}),
    ("C-22 somebody else", {"instance_id": b"\x01" + bytes(32)}, {"instance-id"}),
    ("C-22 another implementation", {"implementation_id": bytes(32)}, {"implementation-id"}),
]


def test_tokens_that_do_not_hold_are_refused_by_the_right_check(gateway, device, oracle):
    oracle.keeps()  # for a minute it is known who was refused
    faults, bundle = [], None
    for number, (name, changes, right) in enumerate(TOKENS):
        bundle = device() if number % 20 == 0 else bundle  # thirty a minute, then 0x97
        connack = attempt(gateway, bundle, **changes)
        check = connack.props.get(mqtt.REASON_STRING, b"").split(b":")[0].decode()
        oracle.counts(f'attestations_refused_total{{check="{check}"}}')
        oracle.check_counters()
        if (connack.reason, check in right) != (0x87, True):
            faults.append(f"{name}: {connack}")
    assert not faults, "\n".join(faults)


def test_a_lifecycle_of_all_secured_values_passes(gateway, device):
    for value in (0x3000, 0x30FF):
        assert attempt(gateway, device(), lifecycle=value).reason == 0


@pytest.mark.parametrize("version", [5, 4])
def test_a_good_token_is_good_once(gateway, device, oracle, version):
    """C-17: again on the same connection, on another one, and before there was a challenge."""
    oracle.keeps()  # for a minute it is known who was refused
    oracle.counts("protocol_errors_total")
    oracle.counts('attestations_refused_total{check="nonce"}')
    dev = TestDevice(gateway, device(), version)
    good = dev.token(ask(dev))
    dev.answer(good)
    if version == 5:
        dev.send_auth(good)
    else:
        dev.mqtt.publish("$sp/attest/token", good, qos=1)
    assert reasons(dev.mqtt.expect_close()) == ([0x82] if version == 5 else [])
    again = TestDevice(gateway, dev.bundle, version)
    ask(again)
    found = again.answer(good)
    assert (found.props[mqtt.REASON_STRING] if version == 5 else found.payload).startswith(b"nonce")


def test_a_token_of_somebody_else_or_of_another_session_is_worth_nothing(gateway, device, oracle):
    """C-18: under another device's key; over a challenge that is bound to another TLS session."""
    oracle.keeps()  # for a minute it is known who was refused
    bundle, other = device(), Bundle(device())
    for check, make in (("mac", lambda dev, nonce: token(dev.challenge(nonce), other.iak)),
                        ("nonce", lambda dev, nonce: token(challenge_of("tls", nonce, bytes(32), dev.identity), dev.bundle.iak))):
        with oracle.one(f'attestations_refused_total{{check="{check}"}}'):
            dev = TestDevice(gateway, bundle)
            dev.connect()
            assert dev.answer(make(dev, dev.nonce())).props[mqtt.REASON_STRING].startswith(check.encode())


def test_a_token_too_large_or_in_crumbs(gateway, device, oracle):
    """C-24: by a byte, a token that is too large; by far, a packet."""
    oracle.keeps()  # for a minute it is known who was refused
    oracle.counts('attestations_refused_total{check="size"}')
    oracle.counts("protocol_errors_total")
    bundle = device()
    dev = TestDevice(gateway, bundle)
    dev.connect()
    dev.nonce()
    assert dev.answer(bytes(4097)).props[mqtt.REASON_STRING].startswith(b"size")
    dev = TestDevice(gateway, bundle)
    dev.connect()
    data = dev.token(dev.nonce())
    for byte in mqtt.packet(mqtt.AUTH, b"\x18" + mqtt.properties({mqtt.METHOD: METHODS["tls"], mqtt.DATA: data})):
        dev.tls.send(bytes([byte]))
    assert dev.mqtt.receive().reason == 0
    dev.close()
    dev = TestDevice(gateway, bundle)
    dev.connect()
    dev.nonce()
    dev.send_auth(bytes(9000))
    assert reasons(dev.mqtt.expect_close(), mqtt.CONNACK) == [0x95]


def test_a_token_that_never_comes_is_a_timeout(gateway, device, oracle):
    oracle.counts('attestations_refused_total{check="timeout"}')
    oracle.keeps()  # for a minute it is known who was refused
    dev = TestDevice(gateway, device("--answer-timeout", "700ms"))
    dev.connect()
    dev.nonce()
    started = time.monotonic()
    connack = dev.mqtt.receive()
    assert (connack.reason, connack.props[mqtt.REASON_STRING][:8]) == (0x87, b"timeout:")
    assert time.monotonic() - started < 3


def test_too_many_refused_tokens_are_turned_away_at_connect(gateway, device, oracle):
    """C-26: thirty by the check, one more before it."""
    oracle.keeps()  # for a minute it is known who was refused
    oracle.counts('attestations_refused_total{check="mac"}', number=30)
    oracle.counts("connects_refused_total")
    bundle = device()
    for _ in range(30):
        assert attempt(gateway, bundle, mac_key=bytes(32)).reason == 0x87
    dev = TestDevice(gateway, bundle)
    dev.connect()
    assert dev.mqtt.receive().reason == 0x97


def test_publishes_behind_a_bad_token_go_nowhere(gateway, device, oracle):
    """C-25: ten of them in flight when the verdict is no. Whichever comes first ends it, and is counted alone."""
    oracle.keeps()  # for a minute it is known who was refused
    oracle.counts("guest_out_of_turn_total", 'attestations_refused_total{check="mac"}')
    dev = TestDevice(gateway, device())
    dev.connect()
    bad = dev.token(dev.nonce(), mac_key=bytes(32))
    topic = f"dt/{dev.bundle.id}/early"
    auth = mqtt.packet(mqtt.AUTH, b"\x18" + mqtt.properties({mqtt.METHOD: METHODS["tls"], mqtt.DATA: bad}))
    for number in range(1, 11):
        auth += publish5(topic, flags=2, packet_id=struct.pack(">H", number))
    dev.mqtt.send(auth)
    assert all(p.kind == mqtt.CONNACK and p.reason in (0x82, 0x87) for p in dev.mqtt.expect_close())


# ---- many ----

def test_three_hundred_connections_left_at_each_stage_go_away_by_themselves(gateway, device, oracle):
    """T-13: idle, half a hello, a whole one, in TLS without CONNECT, half a CONNECT. Each is ended once by the gateway, at its deadline
    or because others wait for its place. A device comes in afterwards."""
    many = full(300, 5000)
    bundle = TestDevice(gateway, device("--attestation", "none")).bundle
    wait_for(lambda: gateway.metric("connections_open") <= 2, 15)
    half, whole = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", wire.records_of(wire.client_hello())

    def raw(data):
        sock = socket.create_connection(("127.0.0.1", gateway.port), 10)
        sock.sendall(data)
        return sock

    def secured(data):
        with contextlib.suppress(TlsError, OSError):  # others may have waited for its place already
            tls = TlsPsk(gateway.port, bundle.id.encode(), bundle.psk, timeout=30)
            tls.send(data)
            return tls

    for leaves, waits in (((lambda: raw(b""), lambda: raw(half)), False), ((lambda: raw(whole),), True),
                          ((lambda: secured(b""), lambda: secured(b"\x10\x30\x00\x04MQ")), True)):
        limits = ["deadline_timeouts_total"] + ["connections_shed_total"] * (waits or many > 2000)
        with oracle.one(*limits, number=many):
            left = [leaves[number % len(leaves)]() for number in range(many)]
            wait_for(lambda: gateway.metric("connections_open") <= 2, 60, "they are gone")
        del left
        dev = TestDevice(gateway, bundle, timeout=20)
        dev.connect(props={mqtt.METHOD: None})
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
        dev.close()


# ---- keys dies in the middle; a gateway of its own, since the canary's must live ----

@pytest.fixture
def lonely(tmp_path):
    from tests.conftest import add_reference
    from tools.lab.gateway import Gateway
    made = Gateway(tmp_path / "home", threads=2, extra="limits:\n  preauth_timeout: 4s\n  tls_timeout: 4s\n  connect_timeout: 4s\n"
                                                       "attestation:\n  answer_timeout: 3s\n")
    add_reference(made)
    made.start()
    yield made
    assert made.stop() == 0


def kill_keys(gateway, wait=True):
    before = gateway.metric("keys_restarts_total")
    os.kill(gateway.pids()["keys"], signal.SIGKILL)
    if wait:
        wait_for(lambda: gateway.metric("keys_restarts_total") > before and len(gateway.events("channel_renewed")) >= 2 * (before + 1), 20)


def test_keys_dies_at_every_step_of_an_attestation(lonely):
    """C-28: never in without a verdict, told to come back, and in the next time."""
    bundle = lonely.add("dev")
    inside = TestDevice(lonely, lonely.add("inside"))
    inside.attest()
    time.sleep(1)  # keys notes what it has told; a name that it does not know to be told of it tells again
    dev = TestDevice(lonely, bundle)  # TLS is there, CONNECT is not
    kill_keys(lonely)
    dev.connect()
    assert dev.mqtt.receive().reason == 0x88

    for version in (5, 4):
        dev = TestDevice(lonely, bundle, version)  # challenged
        data = dev.token(ask(dev))
        kill_keys(lonely)
        assert reasons(dev.mqtt.expect_close(), mqtt.CONNACK) == ([0x88] if version == 5 else [])
        again = TestDevice(lonely, bundle, version)
        ask(again)
        found = again.answer(data)  # of before
        assert (found.props[mqtt.REASON_STRING] if version == 5 else found.payload).startswith(b"nonce")
        last = TestDevice(lonely, bundle, version)
        last.attest()
        last.close()
    inside.mqtt.ping()
    inside.close()


def test_the_token_of_a_device_inside_is_not_held_against_it_when_keys_dies(lonely):
    dev = TestDevice(lonely, lonely.add("dev"), timeout=20)  # ten seconds until it is asked again
    dev.attest()
    lonely.cli("reference", "add", "--implementation-id", "11" * 32, "--component", "X=" + "22" * 32)
    challenge = hear(dev, "$sp/attest/challenge")
    dev.mqtt.ack(challenge)
    time.sleep(1)
    kill_keys(lonely)
    dev.mqtt.publish("$sp/attest/token", dev.token(challenge.payload), qos=1)
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    dev.mqtt.ping()
    challenge = hear(dev, "$sp/attest/challenge")
    dev.mqtt.publish("$sp/attest/token", dev.token(challenge.payload), qos=1)
    assert hear(dev, "$sp/attest/verdict").payload == b"ok"
    dev.close()


def test_a_device_that_may_take_its_time_gets_it(lonely):
    """answer_timeout of a row goes beyond the time that a connection usually has."""
    dev = TestDevice(lonely, lonely.add("slow", "--answer-timeout", "9s"))
    dev.connect()
    data = dev.token(dev.nonce())
    time.sleep(5)
    assert dev.answer(data).reason == 0
    dev.close()
    dev = TestDevice(lonely, lonely.add("usual"))
    dev.connect()
    data = dev.token(dev.nonce())
    assert dev.mqtt.receive().props[mqtt.REASON_STRING].startswith(b"timeout")


def test_a_device_that_acknowledges_no_challenge_is_not_trusted_for_ever(lonely):
    dev = TestDevice(lonely, lonely.add("dev"))
    dev.attest()
    lonely.cli("reference", "add", "--implementation-id", "11" * 32, "--component", "X=" + "22" * 32)
    challenge = hear(dev, "$sp/attest/challenge")
    dev.mqtt.publish("$sp/attest/token", dev.token(challenge.payload), qos=1)  # and no PUBACK
    hear(dev, "$sp/attest/verdict")
    lonely.cli("reference", "add", "--implementation-id", "33" * 32, "--component", "X=" + "22" * 32)
    assert reasons(dev.mqtt.expect_close()) == [0x87]
