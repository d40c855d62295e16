# SPDX-License-Identifier: Apache-2.0
"""What the Eclipse Paho interoperability suites ask of an MQTT server, in our own words, and what MQTT 5 says beyond it: for clients with
all rights on a gateway with three loops, so that most of it crosses from one to another. docs/clients.md tells how the suites themselves are run."""
import itertools
import subprocess
import time

import pytest

from tests.lib import mqtt
from tests.lib.attester import Bundle, TestDevice
from tools.lab.gateway import Gateway
from tools.lab.process import run, wait_for

_numbers = itertools.count(1)
BOTH = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("interop") / "home", threads=3,
                      extra="roles:\n  client: {publish: ['#', '$lab/#'], subscribe: ['lab/#', '$lab/#', '+/+', 'cmd/#']}\n"
                            "limits: {keep_alive_min: 1s, keep_alive_max: 60s, retained_device: 30, session_queue: 8KiB}\n")
    gateway.start()
    yield gateway
    gateway.stop()


class Tool:
    """A client that need not attest."""

    def __init__(self, house, bundle=None, version=5, **more):
        self.bundle = bundle or Bundle(house.add(f"tool-{next(_numbers)}", "--attestation", "none", role="client"))
        self.version = version
        self.waiting = []  # messages that came before an answer
        self.device = TestDevice(house, self.bundle, version)
        self.mqtt = self.device.mqtt
        props = {mqtt.METHOD: None, **more.pop("props", {})}
        self.device.connect(props=props, **more)
        self.connack = self.mqtt.expect(mqtt.CONNACK)
        assert self.connack.reason == 0

    def want(self, kind):
        """The next packet of that kind; messages that come before it wait for hear()."""
        while True:
            found = self.waiting.pop(0) if kind == mqtt.PUBLISH and self.waiting else self.mqtt.receive()
            if found.kind == kind:
                return found
            assert found.kind == mqtt.PUBLISH, found
            self.waiting.append(found)

    def hear(self):
        """The next PUBLISH, acknowledged in full."""
        got = self.want(mqtt.PUBLISH)
        if got.qos == 1:
            self.mqtt.answer(mqtt.PUBACK, got.packet_id)
        elif got.qos == 2:
            self.mqtt.answer(mqtt.PUBREC, got.packet_id)
            assert self.want(mqtt.PUBREL).packet_id == got.packet_id
            self.mqtt.answer(mqtt.PUBCOMP, got.packet_id)
        return got

    def say(self, topic, payload, qos=0, **more):
        """A PUBLISH with all its answers; the reason of the first."""
        number = self.mqtt.publish(topic, payload, qos=qos, **more)
        if qos == 0:
            return self.flush() or 0
        answer = self.want(mqtt.PUBACK if qos == 1 else mqtt.PUBREC)
        assert answer.packet_id == number
        if qos == 2 and answer.reason < 0x80:
            self.mqtt.answer(mqtt.PUBREL, number)
            assert self.want(mqtt.PUBCOMP).packet_id == number
        return answer.reason

    def flush(self):
        """What was said before has been heard."""
        self.mqtt.send(mqtt.packet(mqtt.PINGREQ, b""))
        self.want(mqtt.PINGRESP)

    def nothing(self):
        """Nothing has come, also not from another loop."""
        time.sleep(0.2)
        assert not self.waiting
        self.mqtt.send(mqtt.packet(mqtt.PINGREQ, b""))
        found = self.mqtt.receive()
        assert found.kind == mqtt.PINGRESP, found

    def close(self):
        self.mqtt.disconnect()

    def vanish(self):
        self.device.abort()


@pytest.fixture
def tool(house):
    made = []

    def make(*args, **more):
        made.append(Tool(house, *args, **more))
        return made[-1]
    yield make
    for one in made:
        try:
            one.vanish()
        except OSError:
            pass


def kept(seconds=60):
    return {mqtt.SESSION_EXPIRY: seconds}


@BOTH
def test_messages_of_every_qos_arrive_at_the_lower_of_both(tool, version):
    writer, base = tool(version=version), f"lab/basic{version}"
    for wanted in (0, 1, 2):
        reader = tool(version=version)
        assert reader.mqtt.subscribe(f"{base}/+", qos=wanted) == [wanted]
        for qos in (0, 1, 2):
            assert writer.say(f"{base}/{qos}", b"m%d" % qos, qos) == 0
            got = reader.hear()
            assert (got.topic, got.payload, got.qos, got.retain) == (f"{base}/{qos}", b"m%d" % qos, min(qos, wanted), 0)
        reader.close()


@BOTH
def test_a_second_connect_closes(tool, version):
    one = tool(version=version)
    one.mqtt.send(mqtt.connect(version, one.bundle.id))
    said = one.mqtt.expect_close()
    assert [p.reason for p in said] == ([0x82] if version == 5 else [])


@BOTH
def test_retained_messages_are_kept_replaced_and_deleted(tool, version):
    base = f"lab/retained{version}"
    props = {38: [("a", "2"), ("c", "3"), ("a", "1")], 3: "text/plain", 1: 1} if version == 5 else None
    writer = tool(version=version)
    for qos in (0, 1, 2):
        assert writer.say(f"{base}/{qos}", b"old", qos, retain=True) == 0
        assert writer.say(f"{base}/{qos}", b"q%d" % qos, qos, retain=True, props=props) == 0
    reader = tool(version=version)
    reader.mqtt.subscribe(f"{base}/#", qos=2)
    got = [reader.hear() for _ in range(3)]
    assert [(p.topic, p.payload, p.qos, p.retain) for p in got] == [(f"{base}/{q}", b"q%d" % q, q, 1) for q in (0, 1, 2)]
    if version == 5:
        assert all(p.props[38] == [(b"a", b"2"), (b"c", b"3"), (b"a", b"1")] and p.props[3] == b"text/plain" and p.props[1] == 1
                   for p in got)
    for qos in (0, 1, 2):
        assert writer.say(f"{base}/{qos}", b"", qos, retain=True) == 0
        assert (reader.hear().payload, reader.mqtt.version) == (b"", version)
    late = tool(version=version)
    late.mqtt.subscribe(f"{base}/#", qos=2)
    late.nothing()


def test_retain_handling_and_retain_as_published(tool):
    writer, reader = tool(), tool()
    writer.say("lab/handling/a", b"kept", 1, retain=True)
    for options, first, again in ((0x00, True, True), (0x10, True, False), (0x20, False, False)):
        reader.mqtt.unsubscribe("lab/handling/+")
        for expected in (first, again):
            reader.mqtt.subscribe("lab/handling/+", qos=options | 1)
            if expected:
                assert reader.hear().retain == 1
            reader.nothing()
    for options, retain in ((0x20, 0), (0x28, 1)):
        reader.mqtt.subscribe("lab/handling/+", qos=options | 1)
        writer.say("lab/handling/a", b"kept", 1, retain=True)
        assert reader.hear().retain == retain
        writer.say("lab/handling/a", b"passing", 1)
        assert reader.hear().retain == 0
    writer.say("lab/handling/a", b"", 0, retain=True)


def test_retained_messages_expire_and_are_bounded(house, tool):
    writer, before = tool(), house.metric("retained_messages")
    for i in range(30):
        assert writer.say(f"lab/bounded/{i:02}", b"x", 1, retain=True, props={mqtt.MESSAGE_EXPIRY: 2 if i else 60}) == 0
    assert writer.say("lab/bounded/30", b"x", 1, retain=True) == 0x97
    assert writer.say("lab/bounded/30", b"x", 2, retain=True) == 0x97
    house.wait_metric("retained_messages", before + 30)
    reader = tool()
    reader.mqtt.subscribe("lab/bounded/+", qos=1)
    assert [reader.hear().topic for _ in range(30)] == [f"lab/bounded/{i:02}" for i in range(30)]
    time.sleep(2.2)
    late = tool()
    late.mqtt.subscribe("lab/bounded/+", qos=1)
    assert 50 <= late.hear().props[mqtt.MESSAGE_EXPIRY] <= 58
    late.nothing()
    assert writer.say("lab/bounded/30", b"x", 1, retain=True) == 0
    house.wait_metric("retained_messages", before + 2)


def test_a_will_is_retained_if_it_says_so_and_carries_its_properties(tool):
    props = {38: [("a", "2"), ("c", "3")], mqtt.CORRELATION: b"\x00\xff", mqtt.RESPONSE_TOPIC: "lab/answers"}
    one = tool(will=("lab/gone/one", b"bye", 2, True), will_props=props)
    reader = tool()
    reader.mqtt.subscribe("lab/gone/+", qos=2)
    one.vanish()
    for got in (reader.hear(), None):
        if got is None:
            late = tool()
            late.mqtt.subscribe("lab/gone/+", qos=2)
            got = late.hear()
            assert got.retain == 1
        assert (got.payload, got.qos) == (b"bye", 2)
        assert got.props[38] == [(b"a", b"2"), (b"c", b"3")] and got.props[mqtt.CORRELATION] == b"\x00\xff"
        assert got.props[mqtt.RESPONSE_TOPIC] == b"lab/answers"
    late.say("lab/gone/one", b"", 0, retain=True)


@pytest.mark.parametrize("delay,expiry,at_least,at_most", [(0, 60, 0, 1.9), (2, 60, 1.5, 10), (60, 2, 1.5, 10), (60, 0, 0, 1.9)])
def test_a_will_waits_for_its_delay_or_the_end_of_the_session(tool, delay, expiry, at_least, at_most):
    topic = f"lab/delay{delay}/{expiry}"
    one = tool(props=kept(expiry), will=(topic, b"bye", 1, False), will_props={mqtt.WILL_DELAY: delay})
    reader = tool()
    reader.mqtt.subscribe(topic, qos=1)
    left = time.monotonic()
    one.vanish()
    assert reader.hear().payload == b"bye"
    # How late is for a slow machine to say; never early. Where nothing is to be waited for, nothing is.
    assert time.monotonic() - left >= at_least
    assert at_least > 0 or time.monotonic() - left < 30


def test_no_will_after_disconnect_unless_it_asks_for_one(tool):
    reader = tool()
    reader.mqtt.subscribe("lab/last/+", qos=1)
    tool(will=("lab/last/quiet", b"w", 1, False)).close()
    loud = tool(will=("lab/last/loud", b"w", 1, False))
    loud.mqtt.send(mqtt.packet(mqtt.DISCONNECT, b"\x04"))
    assert reader.hear().topic == "lab/last/loud"
    reader.nothing()


@BOTH
def test_silence_is_ended_and_the_will_speaks(tool, version):
    one = tool(version=version, keep_alive=2, will=(f"lab/silent{version}", b"gone", 1, False))
    reader = tool(version=version, keep_alive=0)
    reader.mqtt.subscribe(f"lab/silent{version}", qos=1)
    assert reader.hear().payload == b"gone"
    assert [p.reason for p in one.mqtt.expect_close()] == ([0x8D] if version == 5 else [])


def test_the_server_keep_alive_is_the_longest_that_is_allowed(tool):
    assert tool(keep_alive=120).connack.props[19] == 60
    assert 19 not in tool(keep_alive=30).connack.props


@BOTH
def test_what_comes_while_a_client_is_away_waits_for_it(tool, version):
    away = tool(version=version, clean=False, props=kept()) if version == 5 else tool(version=4, clean=False)
    base, bundle = f"lab/away{version}", away.bundle
    away.mqtt.subscribe(f"{base}/+", qos=2)
    away.close()
    writer = tool(version=version)
    for qos in (0, 1, 2):
        writer.say(f"{base}/{qos}", b"m", qos)
    back = tool(bundle, version=version, clean=False, **({"props": kept()} if version == 5 else {}))
    assert back.connack.session_present
    assert [(back.hear().qos) for _ in range(2)] == [1, 2]
    back.nothing()
    back.close()
    clean = tool(bundle, version=version)
    assert not clean.connack.session_present
    writer.say(f"{base}/1", b"m", 1)
    clean.nothing()


def test_sessions_end_when_they_said_and_disconnect_may_change_when(tool):
    one = tool()  # expiry 0
    one.mqtt.subscribe("lab/expiry", qos=1)
    one.close()
    two = tool(one.bundle, clean=False, props=kept(1))
    assert not two.connack.session_present and two.connack.props[mqtt.SESSION_EXPIRY] == 1
    two.close()
    time.sleep(1.5)
    three = tool(one.bundle, clean=False, props=kept(1))
    assert not three.connack.session_present
    three.mqtt.send(mqtt.packet(mqtt.DISCONNECT, b"\x00" + mqtt.properties(kept(60))))
    three.mqtt.expect_close()
    time.sleep(1.5)
    four = tool(one.bundle, clean=False, props=kept(60))
    assert four.connack.session_present
    four.mqtt.send(mqtt.packet(mqtt.DISCONNECT, b"\x00" + mqtt.properties(kept(0))))
    four.mqtt.expect_close()
    assert not tool(one.bundle, clean=False).connack.session_present


@BOTH
def test_take_over_keeps_the_session_and_tells_the_old_one(tool, version):
    props = {"props": kept()} if version == 5 else {}
    old = tool(version=version, clean=False, **props)
    old.mqtt.subscribe("lab/mine", qos=1)
    new = tool(old.bundle, version=version, clean=False, **props)
    assert new.connack.session_present
    assert [p.reason for p in old.mqtt.expect_close()] == ([0x8E] if version == 5 else [])
    tool(version=version).say("lab/mine", b"m", 1)
    assert new.hear().payload == b"m"


@BOTH
def test_overlapping_subscriptions_give_one_message_with_the_highest_qos(tool, version):
    reader, base = tool(version=version), f"lab/overlap{version}"
    assert reader.mqtt.subscribe(f"{base}/#", qos=2) == [2]
    assert reader.mqtt.subscribe(f"{base}/+", qos=1) == [1]
    assert tool(version=version).say(f"{base}/a", b"m", 2) == 0
    assert reader.hear().qos == 2
    reader.nothing()


@BOTH
def test_unfinished_exchanges_go_on_after_a_reconnect(tool, version):
    props = {"props": kept()} if version == 5 else {}
    reader, base = tool(version=version, clean=False, **props), f"lab/again{version}"
    reader.mqtt.subscribe(f"{base}/+", qos=2)
    writer = tool(version=version)
    for qos in (1, 2, 2):
        writer.say(f"{base}/{qos}", b"m", qos)
    first = [reader.mqtt.expect(mqtt.PUBLISH) for _ in range(3)]
    assert [p.dup for p in first] == [0, 0, 0]
    reader.mqtt.answer(mqtt.PUBREC, first[2].packet_id)
    assert reader.mqtt.expect(mqtt.PUBREL).packet_id == first[2].packet_id
    reader.vanish()
    reader = tool(reader.bundle, version=version, clean=False, **props)
    for one in first[:2]:
        got = reader.hear() if one.qos == 1 else reader.mqtt.expect(mqtt.PUBLISH)
        assert (got.topic, got.payload, got.packet_id, got.dup) == (one.topic, one.payload, one.packet_id, 1)
    assert reader.mqtt.expect(mqtt.PUBREL).packet_id == first[2].packet_id
    reader.mqtt.answer(mqtt.PUBCOMP, first[2].packet_id)
    reader.mqtt.answer(mqtt.PUBREC, first[1].packet_id)
    assert reader.mqtt.expect(mqtt.PUBREL).packet_id == first[1].packet_id
    reader.mqtt.answer(mqtt.PUBCOMP, first[1].packet_id)
    reader.nothing()


@BOTH
def test_a_qos_2_message_sent_twice_arrives_once(tool, version):
    props = {"props": kept()} if version == 5 else {}
    reader, writer = tool(version=version), tool(version=version, clean=False, **props)
    reader.mqtt.subscribe(f"lab/once{version}", qos=2)
    for attempt in range(3):
        writer.mqtt.publish(f"lab/once{version}", b"m", qos=2, packet_id=9, dup=attempt > 0)
        assert writer.mqtt.expect(mqtt.PUBREC).reason == 0
        if attempt == 1:
            writer.vanish()
            writer = tool(writer.bundle, version=version, clean=False, **props)
    writer.mqtt.release(9)
    writer.mqtt.expect(mqtt.PUBCOMP)
    assert reader.hear().payload == b"m"
    reader.nothing()
    writer.mqtt.publish(f"lab/once{version}", b"next", qos=2, packet_id=9)
    assert reader.hear().payload == b"next"


@BOTH
def test_filters_that_are_not_allowed_or_none_are_refused(tool, version):
    one = tool(version=version)
    codes = one.mqtt.subscribe("test/no/subscribe", "lab/ok", "a/#/b", "lab/+x", "#", "$share/g", "$share//lab", "$share/g/test/no/x")
    v5 = [0x87, 1, 0x8F, 0x8F, 0x87, 0x8F, 0x8F, 0x87]
    assert codes == (v5 if version == 5 else [c if c < 3 else 0x80 for c in v5])


@BOTH
def test_wildcards_do_not_match_dollar_topics(tool, version):
    reader, writer = tool(version=version), tool(version=version)
    reader.mqtt.subscribe("+/+", qos=1)
    assert writer.say("$lab/b", b"", 1) == 0
    reader.nothing()
    reader.mqtt.subscribe("$lab/+", qos=1)
    assert writer.say("$lab/b", b"m", 1) == 0
    assert reader.hear().topic == "$lab/b"
    writer.mqtt.publish("$SYS/x", b"m", qos=1)
    if version == 5:
        assert writer.mqtt.expect(mqtt.PUBACK).reason == 0x87
    else:
        assert writer.mqtt.expect_close() == []


@BOTH
def test_unsubscribe(tool, version):
    reader, writer, base = tool(version=version), tool(version=version), f"lab/unsub{version}"
    reader.mqtt.subscribe(*[f"{base}/{i}" for i in range(3)], qos=2)
    assert reader.mqtt.unsubscribe(f"{base}/0", f"{base}/9") == ([0, 0x11] if version == 5 else [])
    for i in range(3):
        writer.say(f"{base}/{i}", b"", 1)
    assert [reader.hear().topic for _ in range(2)] == [f"{base}/1", f"{base}/2"]
    reader.nothing()


def test_an_empty_client_id_gets_the_identity(tool):
    one = tool(client_id=b"")
    assert one.connack.props[18].decode() == one.bundle.id
    again = tool(one.bundle, client_id=b"", clean=False)
    assert again.connack.props[18].decode() == one.bundle.id


def test_connack_says_what_there_is(tool):
    props = tool().connack.props
    assert props[37] == props[41] == props[42] == 1 and 36 not in props and props[34] == 16 and 40 not in props
    assert props[33] == 16 and props[39] == 16384 and 26 not in props
    one = tool(props={25: 1})
    assert one.connack.props[26] == f"cmd/{one.bundle.id}/".encode()


def test_request_and_response(tool):
    server, asker = tool(), tool(props={25: 1})
    base = asker.connack.props[26].decode()
    server.mqtt.subscribe("lab/service", qos=2)
    asker.mqtt.subscribe(base + "+", qos=1)
    asker.say("lab/service", b"question", 2, props={mqtt.RESPONSE_TOPIC: base + "r", mqtt.CORRELATION: b"\x00\x01"})
    request = server.hear()
    assert request.props == {mqtt.RESPONSE_TOPIC: (base + "r").encode(), mqtt.CORRELATION: b"\x00\x01"}
    server.say(request.props[mqtt.RESPONSE_TOPIC].decode(), b"answer", 1, props={mqtt.CORRELATION: request.props[mqtt.CORRELATION]})
    answer = asker.hear()
    assert (answer.payload, answer.props) == (b"answer", {mqtt.CORRELATION: b"\x00\x01"})


def test_properties_are_passed_on_unchanged_and_in_order(tool):
    reader = tool()
    reader.mqtt.subscribe("lab/props", qos=2)
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("ü", "ß")]
    tool().say("lab/props", b"m", 2, props={1: 1, 3: "text/x", 38: pairs})
    got = reader.hear()
    assert got.props == {1: 1, 3: b"text/x", 38: [(k.encode(), v.encode()) for k, v in pairs]}


def test_message_expiry_counts_down_and_ends(tool):
    away = tool(clean=False, props=kept())
    away.mqtt.subscribe("lab/expires/+", qos=2)
    away.close()
    writer = tool()
    writer.say("lab/expires/1", b"gone", 1, props={mqtt.MESSAGE_EXPIRY: 1})
    writer.say("lab/expires/2", b"there", 2, props={mqtt.MESSAGE_EXPIRY: 60})
    writer.say("lab/expires/3", b"for ever", 1)
    time.sleep(1.6)
    back = tool(away.bundle, clean=False, props=kept())
    assert 40 <= back.hear().props[mqtt.MESSAGE_EXPIRY] <= 58
    assert mqtt.MESSAGE_EXPIRY not in back.hear().props
    back.nothing()


def test_subscription_identifiers_and_options(tool):
    reader, writer = tool(), tool()
    reader.mqtt.subscribe("lab/ids/a", qos=2, props={mqtt.SUBSCRIPTION_ID: 456789})
    reader.mqtt.subscribe("lab/ids/+", qos=1, props={mqtt.SUBSCRIPTION_ID: 268435455})
    reader.mqtt.subscribe("lab/#", qos=0x20)  # without what is retained
    writer.say("lab/ids/a", b"m", 2)
    got = reader.hear()
    assert sorted(got.props[mqtt.SUBSCRIPTION_ID]) == [456789, 268435455] and got.qos == 2
    writer.say("lab/ids/b", b"m", 0)
    assert reader.hear().props[mqtt.SUBSCRIPTION_ID] == [268435455]
    writer.say("lab/elsewhere", b"m", 1)
    assert mqtt.SUBSCRIPTION_ID not in reader.hear().props
    # No Local
    writer.mqtt.subscribe("lab/local", qos=2 | 4)
    writer.say("lab/local", b"mine", 2)
    reader.hear()
    reader.say("lab/local", b"another's", 1)
    assert writer.hear().payload == b"another's"


def test_aliases_both_ways(tool):
    writer, reader, plain = tool(), tool(props={34: 2}), tool()
    for one in (reader, plain):
        one.mqtt.subscribe("lab/alias/+", qos=1)
    writer.say("lab/alias/a", b"1", 1, props={mqtt.TOPIC_ALIAS: 16})
    writer.say("", b"2", 1, props={mqtt.TOPIC_ALIAS: 16})
    writer.say("lab/alias/b", b"3", 1, props={mqtt.TOPIC_ALIAS: 16})
    writer.say("", b"4", 1, props={mqtt.TOPIC_ALIAS: 16})
    assert [(p.topic, p.payload, p.props) for p in (plain.hear() for _ in range(4))] == [
        ("lab/alias/a", b"1", {}), ("lab/alias/a", b"2", {}), ("lab/alias/b", b"3", {}), ("lab/alias/b", b"4", {})]
    seen = [(p.topic, p.props[mqtt.TOPIC_ALIAS]) for p in (reader.hear() for _ in range(4))]
    assert seen == [("lab/alias/a", 1), ("", 1), ("lab/alias/b", 2), ("", 2)]
    writer.mqtt.publish("lab/alias/c", b"", props={mqtt.TOPIC_ALIAS: 17})
    assert [p.reason for p in writer.mqtt.expect_close()] == [0x94]


def test_a_packet_too_large_for_its_reader_is_left_out(tool):
    reader, writer = tool(props={39: 60}), tool()
    reader.mqtt.subscribe("lab/large", qos=1)
    writer.say("lab/large", b"." * 30, 1)
    writer.say("lab/large", b"." * 60, 1)
    writer.say("lab/large", b"last", 0)
    assert [len(reader.hear().payload), reader.hear().payload] == [30, b"last"]
    writer.mqtt.publish("lab/large", b"." * 16384)
    assert [p.reason for p in writer.mqtt.expect_close()] == [0x95]


def test_flow_control_towards_the_client(tool):
    reader, writer = tool(props={mqtt.RECEIVE_MAXIMUM: 2}), tool()
    reader.mqtt.subscribe("lab/flow", qos=2)
    for i in range(4):
        writer.say("lab/flow", b"%d" % i, 1 + i % 2)
    first, second = reader.mqtt.expect(mqtt.PUBLISH), reader.mqtt.expect(mqtt.PUBLISH)
    reader.nothing()
    reader.mqtt.answer(mqtt.PUBREC, second.packet_id)
    reader.mqtt.expect(mqtt.PUBREL)
    reader.nothing()  # a QoS 2 message holds its place until PUBCOMP
    reader.mqtt.answer(mqtt.PUBCOMP, second.packet_id)
    assert reader.mqtt.expect(mqtt.PUBLISH).payload == b"2"
    reader.mqtt.answer(mqtt.PUBACK, first.packet_id)
    assert reader.mqtt.expect(mqtt.PUBLISH).payload == b"3"


def test_flow_control_towards_the_gateway(tool):
    writer = tool()
    for i in range(17):
        writer.mqtt.publish("lab/flow2", b"x", qos=2, packet_id=i + 1)
    said = writer.mqtt.expect_close()
    assert [p.kind for p in said[:-1]] == [mqtt.PUBREC] * 16 and said[-1].reason == 0x93


def test_a_wildcard_in_a_topic_is_0x90(tool):
    for topic in ("lab/#", "lab/+/x"):
        one = tool()
        one.mqtt.publish(topic, b"x")
        assert [p.reason for p in one.mqtt.expect_close()] == [0x90]


def test_refusals_come_in_words_unless_they_are_not_wanted(tool):
    for wanted in (1, 0):
        one = tool(props={23: wanted})
        one.mqtt.publish("$SYS/x", b"m", qos=1)
        answer = one.mqtt.expect(mqtt.PUBACK)
        assert answer.reason == 0x87 and (mqtt.REASON_STRING in answer.props) == bool(wanted)


@BOTH
def test_a_group_on_several_loops_shares_the_work(tool, version):
    members, writer, base = [tool(version=version) for _ in range(6)], tool(version=version), f"lab/share{version}"
    for one in members:
        assert one.mqtt.subscribe(f"$share/crew/{base}/+", f"{base}/all", qos=1) == [1, 1]
    for i in range(24):
        writer.say(f"{base}/x", b"%d" % i, 1)
    # Loops take turns by one counter, so it comes out even.
    got = [one.hear().payload for one in members for _ in range(4)]
    assert sorted(got, key=int) == [b"%d" % i for i in range(24)]
    for one in members:
        one.nothing()
    writer.say(f"{base}/all", b"m", 1)  # as one of the group, and each by itself
    heard = 0
    ends = time.monotonic() + 10
    while heard < 7 and time.monotonic() < ends:
        for one in members:
            one.flush()
            heard += len(one.waiting)
            one.waiting.clear()
    assert heard == 7


def test_what_a_member_leaves_behind_goes_to_the_others(tool):
    members, writer = [tool() for _ in range(4)], tool()
    for one in members:
        one.mqtt.subscribe("$share/crew/lab/leave", qos=2)
    for i in range(12):
        writer.say("lab/leave", b"%d" % i, 1)
    # Three each: one acknowledges none and leaves, the others do all.
    held = {members[0].mqtt.expect(mqtt.PUBLISH).payload for _ in range(3)}
    seen = {one.hear().payload for one in members[1:] for _ in range(3)}
    assert len(held) == 3 and len(seen) == 9 and not held & seen
    members[0].close()
    again = set()
    ends = time.monotonic() + 10
    while len(again) < 3 and time.monotonic() < ends:
        for one in members[1:]:
            one.flush()
            again.update(p.payload for p in one.waiting)
            one.waiting.clear()
    assert again == held


def test_members_that_are_away_are_passed_over(house, tool):
    away, here, writer = tool(clean=False, props=kept()), tool(), tool()
    for one in (away, here):
        one.mqtt.subscribe("$share/crew/lab/passed", qos=1)
    offline = house.metric("sessions_offline")
    away.close()
    house.wait_metric("sessions_offline", offline + 1)
    for i in range(6):
        writer.say("lab/passed", b"%d" % i, 1)
    assert [here.hear().payload for _ in range(6)] == [b"%d" % i for i in range(6)]
    here.close()
    wait_for(lambda: writer.say("lab/passed", b"late", 1) == 0)
    back = tool(away.bundle, clean=False, props=kept())
    assert back.hear().payload == b"late"


def test_a_shared_subscription_with_no_local_is_a_protocol_error(tool):
    one = tool()
    one.mqtt.send(mqtt.packet(mqtt.SUBSCRIBE, b"\x00\x01\x00" + mqtt.text("$share/g/lab/x") + b"\x05", 2))
    assert [p.reason for p in one.mqtt.expect_close()] == [0x82]


def test_more_retained_messages_than_buffers_hold_all_arrive(house, tool):
    bundles = [Bundle(house.add(f"keeper-{next(_numbers)}", "--attestation", "none", role="client")) for _ in range(4)]
    for n, bundle in enumerate(bundles):
        writer = tool(bundle)
        for i in range(25):
            assert writer.say(f"lab/many/{n}{i:02}", bytes(4000), 1, retain=True) == 0
    for qos in (0, 1, 2):
        reader = tool()  # 100 × 4 KB; its queue is 8 KiB
        reader.mqtt.subscribe("lab/many/+", qos=qos)
        assert [reader.hear().topic for _ in range(100)] == [f"lab/many/{n}{i:02}" for n in range(4) for i in range(25)]
        reader.close()


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_s_clients_do_all_of_it(house, version):
    """QoS 2, retained messages, a will, a shared subscription."""
    bundles = [Bundle(house.add(f"mosq-{next(_numbers)}", "--attestation", "none", role="client")) for _ in range(2)]

    def words(program, bundle, *more):
        return [program, "-h", "127.0.0.1", "-p", str(house.port), "-V", version, "--psk", bundle.psk.hex(), "--psk-identity", bundle.id,
                "-i", bundle.id, *more]

    base, before = f"lab/mosq{version}", house.metric("subscriptions")
    run(*words("mosquitto_pub", bundles[0], "-t", f"{base}/kept", "-m", "kept", "-q", "2", "-r"), timeout=20)
    with subprocess.Popen(words("mosquitto_sub", bundles[1], "-t", f"{base}/+", "-t", f"$share/g/{base}/x/+", "-q", "2", "-C", "3", "-W", "20",
                                "-F", "%r %q %t %p", "--will-topic", f"{base}/will", "--will-payload", "bye"),
                          stdout=subprocess.PIPE, text=True) as reader:
        wait_for(lambda: house.metric("subscriptions") >= before + 2, 10, "the subscriptions")
        run(*words("mosquitto_pub", bundles[0], "-t", f"{base}/a", "-m", "one", "-q", "2"), timeout=20)
        run(*words("mosquitto_pub", bundles[0], "-t", f"{base}/x/y", "-m", "shared", "-q", "1"), timeout=20)
        out = reader.communicate(timeout=25)[0].splitlines()
    assert sorted(out) == sorted([f"1 2 {base}/kept kept", f"0 2 {base}/a one", f"0 1 {base}/x/y shared"])
