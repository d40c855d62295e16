# SPDX-License-Identifier: Apache-2.0
"""mqtt.js, Debian's node-mqtt, over TLS-PSK: MQTT 3.1.1 and 5, TLS 1.2 and 1.3. tests/lib/mqttjs.js is driven from here."""
import base64
import itertools
import json
import subprocess

import pytest

from tests.lib.attester import Bundle, climate
from tools.lab.gateway import Gateway
from tools.lab.process import ROOT, Process, run, wait_for

TLS = {"tls12": {"maxVersion": "TLSv1.2", "ciphers": "PSK-AES128-CCM"}, "tls13": {"minVersion": "TLSv1.3"}}
SUITE = {"tls12": "TLS_PSK_WITH_AES_128_CCM", "tls13": "TLS_AES_128_GCM_SHA256"}
VERSIONS = pytest.mark.parametrize("version", [4, 5])
BOTH_TLS = pytest.mark.parametrize("tls", sorted(TLS))
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("mqttjs") / "home", threads=2,
                      extra='roles:\n  client: {publish: ["#"], subscribe: ["#"]}\n'
                            # mqtt.js 4 does not heed Receive Maximum
                            "limits: {packet: 1MiB, session_queue: 4MiB, write_buffer: 4MiB, receive_maximum: 100}\n")
    gateway.start()
    yield gateway
    gateway.stop()


class Js:
    """One mqtt.js client in a process of its own."""

    def __init__(self, gateway, bundle, version, tls="tls12", wait=True, **options):
        setup = {"port": gateway.port, "identity": bundle.id, "psk": bundle.psk.hex(), "protocolVersion": version, **TLS[tls], **options}
        self.process = Process(["/usr/bin/node", ROOT / "tests/lib/mqttjs.js", json.dumps(setup)], stdin=subprocess.PIPE,
                               env={"NODE_PATH": "/usr/share/nodejs"})
        self.calls = 0
        if wait:
            self.connack = self.event("connect")[-1]

    def events(self, kind):
        return [event for event in map(json.loads, list(self.process.out)) if event["event"] == kind]

    def event(self, kind, count=1):
        """The first `count` events of that kind."""
        def enough():
            found = self.events(kind)
            if len(found) < count and not self.process.running():
                raise RuntimeError("\n".join(self.process.out + self.process.err))
            return len(found) >= count and found[:count]
        return wait_for(enough, 30, f"{count} {kind} of mqtt.js")

    def call(self, method, *args, wait=True):
        """A method of the client; what its callback was told."""
        self.calls += 1
        number = self.calls
        self.process.popen.stdin.write(json.dumps({"id": number, "call": method, "args": args}) + "\n")
        self.process.popen.stdin.flush()
        return wait_for(lambda: next((a for a in self.events("answer") if a["id"] == number), None), 30, method) if wait else None

    def subscribe(self, filters, qos=1, **more):
        answer = self.call("subscribe", filters, {"qos": qos, **more})
        assert answer["error"] is None, answer
        return [granted["qos"] for granted in answer["result"]]

    def publish(self, topic, payload, qos=1, **more):
        answer = self.call("publish", topic, payload, {"qos": qos, **more})
        assert answer["error"] is None, answer

    def messages(self, count):
        return self.event("message", count)

    def payloads(self, count):
        return [message["payload"] for message in self.messages(count)]

    def leave(self):
        """DISCONNECT, and the end of the process."""
        self.call("end", False, {})
        self.process.stop()


@pytest.fixture
def js(house):
    """`js(bundle, version, …)`; none outlives the test."""
    started = []

    def start(*how, gateway=house, **more):
        started.append(Js(gateway, *how, **more))
        return started[-1]
    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def tool(house):
    """`tool()`: a new client that need not attest."""
    return lambda: Bundle(house.add(f"tool-{next(_numbers)}", "--attestation", "none", role="client"))


def kept(version):
    """Options for a session that is kept."""
    return {"clean": False, **({"properties": {"sessionExpiryInterval": 600}} if version == 5 else {})}


@VERSIONS
@BOTH_TLS
def test_every_quality_of_service_through_wildcards(js, tool, version, tls):
    reader, writer = js(tool(), version, tls), js(tool(), version, tls)
    assert (reader.connack["suite"], reader.connack["session"]) == (SUITE[tls], False)
    assert reader.subscribe(["a/+/c/#", "b/#"], qos=2) == [2, 2]
    expected = []
    for topic in ("a/x/c", "a/y/c/d", "b"):
        for qos in (0, 1, 2):
            writer.publish(topic, f"{qos} zwölf", qos=qos)
            expected.append((topic, f"{qos} zwölf", qos))
    writer.publish("a/x/d", "not this")
    writer.publish("b", "end")
    # mqtt.js tells of a QoS 2 message when its PUBREL is there, and a later QoS 0 message may overtake that
    assert sorted((m["topic"], m["payload"], m["qos"]) for m in reader.messages(10)) == sorted(expected + [("b", "end", 1)])
    assert reader.call("unsubscribe", "b/#")["error"] is None
    writer.publish("b", "nobody hears")
    writer.publish("a/x/c", "last")
    assert reader.payloads(11)[10] == "last"


@VERSIONS
@BOTH_TLS
@pytest.mark.parametrize("qos", [1, 2])
def test_a_kept_session_is_resumed(js, tool, version, tls, qos):
    me = tool()
    reader, writer = js(me, version, tls, **kept(version)), js(tool(), version, tls)
    assert not reader.connack["session"]
    reader.subscribe("kept/#", qos=2)
    reader.leave()
    lines = [f"message {n}" for n in range(40)]
    for line in lines:
        writer.call("publish", "kept/x", line, {"qos": qos}, wait=False)
    writer.event("answer", len(lines))
    again = js(me, version, tls, **kept(version))
    assert again.connack["session"]
    assert again.payloads(len(lines)) == lines
    again.leave()
    assert not js(me, version, tls, clean=True).connack["session"]


@VERSIONS
@BOTH_TLS
def test_a_dropped_connection_goes_on(js, tool, version, tls):
    """The socket is destroyed amid QoS 2 traffic both ways; mqtt.js reconnects by itself, and nothing is lost or doubled."""
    reader = js(tool(), version, tls, reconnectPeriod=50, **kept(version))
    writer = js(tool(), version, tls, reconnectPeriod=50, **kept(version))
    reader.subscribe("flow", qos=2)
    lines = [f"{n}" for n in range(90)]
    for n, line in enumerate(lines):
        writer.call("publish", "flow", line, {"qos": 2}, wait=False)
        if n == 40:
            reader.call("drop", wait=False)
        if n == 60:
            writer.call("drop", wait=False)
    writer.event("connect", 2)
    assert reader.event("connect", 2)[-1]["session"]
    writer.event("answer", len(lines) + 1)
    assert sorted(map(int, reader.payloads(len(lines)))) == list(range(90))
    writer.publish("flow", "end", qos=2)
    assert reader.payloads(len(lines) + 1)[-1] == "end"


@VERSIONS
def test_retained_messages(js, tool, version):
    writer, topic = js(tool(), version), f"retained/{version}"
    writer.publish(f"{topic}/a", "stays", retain=True)
    writer.publish(f"{topic}/b", "goes", retain=True)
    writer.publish(f"{topic}/b", "", retain=True)
    reader = js(tool(), version)
    reader.subscribe(f"{topic}/+")
    writer.publish(f"{topic}/end", "end")
    assert [(m["payload"], m["retain"]) for m in reader.messages(2)] == [("stays", True), ("end", False)]


@VERSIONS
@BOTH_TLS
def test_a_will_speaks_for_a_client_that_is_killed_only(js, tool, version, tls):
    reader, topic = js(tool(), version, tls), f"gone/{version}/{tls}"
    reader.subscribe(topic, qos=2)
    will = {"topic": topic, "payload": "vanished", "qos": 2}
    if version == 5:
        will["properties"] = {"userProperties": {"why": "cable"}}
    js(tool(), version, tls, will=will).leave()
    js(tool(), version, tls, will=will).process.kill()
    js(tool(), version, tls).publish(topic, "end")
    first = reader.messages(2)
    assert sorted(m["payload"] for m in first) == ["end", "vanished"]
    if version == 5:
        spoken = next(m for m in first if m["payload"] == "vanished")
        assert spoken["properties"]["userProperties"] == {"why": "cable"}


def test_properties_identifiers_and_aliases(js, tool):
    reader = js(tool(), 5, topicAliasMaximum=4)
    writer = js(tool(), 5, autoUseTopicAlias=True, autoAssignTopicAlias=True)
    reader.subscribe("p/#", properties={"subscriptionIdentifier": 7})
    given = {"userProperties": {"room": ["1", "2"]}, "contentType": "text/plain", "payloadFormatIndicator": True}
    for n in range(3):
        writer.publish("p/x", f"{n}", properties=dict(given))
    for n, message in enumerate(reader.messages(3)):
        assert (message["topic"], message["payload"]) == ("p/x", f"{n}")
        assert message["properties"]["subscriptionIdentifier"] == 7
        assert {name: message["properties"][name] for name in given} == given


def test_options_of_a_subscription(js, tool):
    me = js(tool(), 5)
    me.publish("o/kept", "old", retain=True)
    me.subscribe("o/#", nl=True, rap=True, rh=2)
    me.publish("o/x", "my own")
    js(tool(), 5).publish("o/y", "another's", retain=True)
    assert [(m["payload"], m["retain"]) for m in me.messages(1)] == [("another's", True)]


def test_a_shared_subscription(js, tool):
    crew = [js(tool(), 5) for _ in range(3)]
    for one in crew:
        one.subscribe("$share/crew/job/+")
    writer = js(tool(), 5)
    for n in range(60):
        writer.call("publish", "job/x", f"{n}", {"qos": 1}, wait=False)

    def done():
        return [m["payload"] for one in crew for m in one.events("message")]
    wait_for(lambda: len(done()) >= 60, 30, "all jobs")
    assert sorted(map(int, done())) == list(range(60))
    for one in crew:
        mine = [int(m["payload"]) for m in one.events("message")]
        assert mine == sorted(mine) and mine


@pytest.mark.parametrize("tls", [(), ("--tls-version", "tlsv1.2", "--ciphers", "PSK-AES128-CCM")], ids=["tls13", "tls12"])
def test_mosquitto_rr_asks_and_mqtt_js_answers(house, js, tool, tls):
    responder, me = js(tool(), 5), tool()
    responder.call("respond", "echo of ")
    responder.subscribe("ask/+")
    for n in range(3):
        got = run("mosquitto_rr", "-h", "127.0.0.1", "-p", house.port, "-V", "5", "--psk", me.psk.hex(), "--psk-identity", me.id,
                  *tls, "-i", me.id, "-t", "ask/x", "-e", f"answer/{me.id}", "-m", f"question {n}", "-W", "30",
                  "-D", "publish", "correlation-data", f"c{n}", "-F", "%D %p")
        assert got.stdout == f"c{n} echo of question {n}\n"


@VERSIONS
@BOTH_TLS
def test_large_payloads_up_to_the_limit(house, js, tool, version, tls):
    """A packet of 1 MiB, which the configuration allows, and one more byte."""
    me = tool()
    reader, writer = js(tool(), version, tls), js(me, version, tls, reconnectPeriod=0)
    reader.subscribe("big")
    largest = (1 << 20) - (1 + 3) - (2 + 3) - 2 - (1 if version == 5 else 0)
    payload = "0123456789abcdef" * (largest // 16) + "x" * (largest % 16)
    writer.publish("big", payload)
    assert reader.payloads(1) == [payload]
    writer.call("publish", "big", payload + "x", {"qos": 1}, wait=False)
    writer.event("close")
    wait_for(lambda: any("code=149" in line for line in house.events("protocol_error") if f"device={me.id} " in line), 10, "0x95")
    js(tool(), version, tls).publish("big", "end")
    assert reader.payloads(2)[1] == "end"


@VERSIONS
@BOTH_TLS
def test_a_wrong_key_or_name_is_not_let_in(js, tool, version, tls):
    me = tool()
    for how in ({"psk": "00" * 32}, {"identity": "nobody"}):
        failed = js(me, version, tls, wait=False, reconnectPeriod=0, **how)
        failed.event("close")
        assert failed.events("error") and not failed.events("connect")
    assert js(me, version, tls).connack["tls"] == {"tls12": "TLSv1.2", "tls13": "TLSv1.3"}[tls]


@VERSIONS
@pytest.mark.parametrize("attestation", ["none", "optional"])
def test_a_sensor_that_need_not_attest(js, gateway, cloud, device, version, attestation):
    bundle = Bundle(device("--attestation", attestation))
    sensor = js(bundle, version, gateway=gateway, reconnectPeriod=0)
    sensor.subscribe(f"cmd/{bundle.id}/#")
    answer = sensor.call("publish", f"dt/{bundle.id}/climate", {"base64": base64.b64encode(climate(bundle.id)).decode()}, {"qos": 1})
    assert answer["error"] is None
    wait_for(lambda: cloud.received(f"{bundle.id}/climate"), 10, "the record at the cloud")
    arrived = json.loads(cloud.received(f"{bundle.id}/climate")[0][1])
    assert (arrived["temperature_celsius"], arrived["attested"]) == (23.5, False)
    cloud.publish(f"cmd/sallyport/gw-1/{bundle.id}/blink", "3")
    assert sensor.payloads(1) == ["3"]
    if version == 5:
        assert "Not authorized" in sensor.call("publish", "lab/x", "not its topic", {"qos": 1})["error"]
        assert sensor.call("subscribe", "#", {"qos": 1})["result"][0]["qos"] >= 0x80
    else:
        sensor.call("publish", "lab/x", "not its topic", {"qos": 1}, wait=False)
        sensor.event("close")
