# SPDX-License-Identifier: Apache-2.0
"""`sallyport reload --exec`: docs/operations.md, "Upgrading". Another program under the devices' connections; devices notice nothing."""
import os
import shutil
import signal
import socket
import struct
import threading

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt, wire
from tests.lib.attester import TestDevice
from tests.lib.tlspsk import CCM8, GCM
from tools.lab.gateway import ROUTES, Gateway, at_any_rate
from tools.lab.process import program, wait_for

ROLES = """roles:
  talker: {publish: ["dt/{device}/#", "news/#"], subscribe: ["dt/#", "news/#", "cmd/{device}/#"]}
  visitor: {publish: ["dt/{device}/#"], subscribe: ["news/#"]}
"""
TLS13 = "NONE:+VERS-TLS1.3:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+ECDHE-PSK:+AES-128-GCM:+AEAD"
FLEET = 100


class Home:
    """A gateway that runs from a file of its own, so that the file can be replaced."""

    def __init__(self, folder, cloud, threads=2):
        self.gateway = Gateway(folder, cloud, threads=threads, extra="@", gateway_id="gw-u", routes="", cloud_extra="  limits: none\n")
        self.base = self.gateway.config.read_text().rstrip("@")
        self.write()
        add_reference(self.gateway)
        self.gateway.binary = str(folder.parent / "sallyport")
        shutil.copy2(program("sallyport"), self.gateway.binary)
        self.gateway.start()
        self.gateway.wait_metric("cloud_links_connected", 1)

    def write(self, base=None, roles=ROLES):
        self.gateway.config.write_text(at_any_rate((base or self.base) + roles + ROUTES))

    def replace(self, text):
        """Another program at the path of this one."""
        new = self.gateway.binary + ".new"
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(new, 0o755)
        os.replace(new, self.gateway.binary)

    def upgrade(self):
        return self.gateway.cli("reload", "--exec", check=False)

    def upgraded(self):
        result = self.upgrade()
        assert result.returncode == 0, result.stderr
        assert self.gateway.status()["state"] == "serving"

    def refused(self):
        """What the command says when it does not work; the gateway serves on, in the same process."""
        before = self.gateway.process.pid
        result = self.upgrade()
        assert result.returncode == 1
        assert self.gateway.process.running() and self.gateway.status()["pid"] == before
        return result.stderr

    def under_way(self):
        """Begin an upgrade that waits for a handshake which does not go on. Gives back the thread and the connection."""
        guest = socket.create_connection(("127.0.0.1", self.gateway.port))
        guest.sendall(wire.records_of(wire.client_hello()))
        wait_for(lambda: self.gateway.metric("handshakes") > 0, 10, "a handshake")
        self.result = None

        def run():
            self.result = self.upgrade()
        before = self.gateway.pids()["gate"]
        thread = threading.Thread(target=run)
        thread.start()

        def moving():
            both = [self.gateway.status()["processes"][name] for name in ("gate", "keys")]
            return both[0]["pid"] not in (0, before) and all(p["state"] == "ready" for p in both)
        wait_for(moving, 10, "the new gate")
        return thread, guest, before


@pytest.fixture
def home(tmp_path, cloud):
    made = Home(tmp_path / "home", cloud)
    yield made
    assert made.gateway.stop() == 0


def enter(home, name, role="talker", version=5, priority=CCM8, **more):
    bundle = home.gateway.folder / f"{name}.json"
    if not bundle.exists():
        home.gateway.add(name, role=role)
    dev = TestDevice(home.gateway, bundle, version=version, priority=priority)
    dev.connack = dev.attest(**more)
    return dev


def counts(home):
    names = ("tls_handshakes_ok_total", "connections_accepted_total", "attestations_ok_total", "tls_bad_record_total")
    metrics = home.gateway.status()["metrics"]
    return [metrics[name] for name in names] + [metrics["devices_online"]]


def number_of(payload):
    return struct.unpack(">I", payload[:4])[0]


def acknowledge(dev, found):
    """Do what a PUBLISH or PUBREL asks for; the PUBLISH, or None."""
    if found.kind == mqtt.PUBREL:
        dev.mqtt.send(mqtt.packet(mqtt.PUBCOMP, struct.pack(">H", found.packet_id)))
        return None
    if found.kind != mqtt.PUBLISH:
        return None
    if found.qos == 1:
        dev.mqtt.ack(found)
    elif found.qos == 2:
        dev.mqtt.send(mqtt.packet(mqtt.PUBREC, struct.pack(">H", found.packet_id)))
    return found


def next_message(dev):
    """The next PUBLISH that is not the gateway's own word to the device."""
    while True:
        found = dev.mqtt.expect(mqtt.PUBLISH)
        if not found.topic.startswith("$sp/"):
            return found


def say(dev, number, qos):
    """Publish and wait for all that is due for it."""
    packet_id = dev.mqtt.publish(f"dt/{dev.bundle.id}/q{qos}", struct.pack(">I", number), qos=qos)
    if qos == 1:
        assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    elif qos == 2:
        assert dev.mqtt.expect(mqtt.PUBREC).reason == 0
        dev.mqtt.release(packet_id)
        dev.mqtt.expect(mqtt.PUBCOMP)


class Traffic:
    """Devices that talk without a pause, and one that listens, until told to stop."""

    def __init__(self, home, devices, listener):
        self.said, self.heard, self.errors = {d.bundle.id: [0, 0, 0] for d in devices}, {}, []
        self.done = threading.Event()
        self.listener = listener
        groups = [devices[i::6] for i in range(6)]
        self.threads = [threading.Thread(target=self.talk, args=(group,)) for group in groups]
        self.ear = threading.Thread(target=self.listen)
        for thread in [*self.threads, self.ear]:
            thread.start()

    def talk(self, devices):
        try:
            while not self.done.is_set():
                for dev in devices:
                    for qos in (0, 1, 2):
                        say(dev, self.said[dev.bundle.id][qos], qos)
                        self.said[dev.bundle.id][qos] += 1
        except Exception as error:  # noqa: BLE001: whatever it is, the test has to know
            self.errors.append(error)

    def listen(self):
        try:
            while True:
                found = acknowledge(self.listener, self.listener.mqtt.receive())
                if found is not None and found.topic == "news/end":
                    return
                if found is not None:
                    self.heard.setdefault(found.topic, []).append(number_of(found.payload))
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)

    def stop(self, speaker):
        self.done.set()
        for thread in self.threads:
            thread.join(60)
        speaker.mqtt.publish("news/end", b"", qos=1)
        assert speaker.mqtt.expect(mqtt.PUBACK).reason == 0
        self.ear.join(30)
        assert not self.ear.is_alive() and self.errors == []


def test_a_fleet_notices_nothing(home, cloud):
    """Two upgrades under traffic: no handshake, no connection, nothing lost at any QoS, nothing twice at QoS 0 and 2."""
    devices = [enter(home, f"s{i}", version=5 if i % 3 else 4, priority=GCM if i % 4 == 0 else CCM8) for i in range(FLEET)]
    listener, speaker = enter(home, "listener", version=5), enter(home, "speaker")
    assert listener.mqtt.subscribe("dt/#", "news/#", qos=2) == [2, 2]
    before = counts(home)
    traffic = Traffic(home, devices[:30], listener)
    for _ in range(2):
        wait_for(lambda: min(sum(n) for n in traffic.said.values()) >= 3 or traffic.errors, 30, "traffic")
        home.upgraded()
        wait_for(lambda: home.gateway.metric("cloud_links_connected") == 1, 10, "the cloud")
    middle = {name: list(n) for name, n in traffic.said.items()}
    wait_for(lambda: all(n > m for name in middle for n, m in zip(traffic.said[name], middle[name])) or traffic.errors, 30,
             "traffic after the upgrades")
    traffic.stop(speaker)
    for name, said in traffic.said.items():
        for qos in (0, 1, 2):
            heard = traffic.heard.get(f"dt/{name}/q{qos}", [])
            assert heard == list(range(said[qos])), (name, qos)
    for dev in devices:  # those that were quiet too
        dev.mqtt.ping()
    assert counts(home) == before
    assert home.gateway.metric("cloud_dropped_total") == 0  # QoS 0 (the lab's cloud itself drops some when it is busy)
    for name, said in traffic.said.items():  # acknowledged is durable: it reaches the cloud, in order, but for repeats
        for qos in (1, 2):
            topic = f"dt/sallyport/gw-u/{name}/q{qos}"
            wait_for(lambda: len({number_of(p) for _, p in cloud.received(topic)}) == said[qos], 20, topic)
            firsts = list(dict.fromkeys(number_of(p) for _, p in cloud.received(topic)))
            assert firsts == list(range(said[qos]))
        arrived = [number_of(p) for _, p in cloud.received(f"dt/sallyport/gw-u/{name}/q0")]
        assert arrived == sorted(set(arrived))


def test_half_a_packet_and_a_full_socket_come_along(home):
    """What had come of a packet is completed after the upgrade; what the socket did not take yet is sent, and what waits too."""
    home.write(roles=ROLES + "limits: {in_flight: 300, session_queue: 16MiB, write_buffer: 8MiB}\n")
    home.upgraded()
    dev, reader, speaker = enter(home, "s1"), enter(home, "reader"), enter(home, "speaker")
    reader.tls.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    assert reader.mqtt.subscribe("dt/#", "news/#", qos=1) == [1, 1]
    body = mqtt.text("dt/s1/x") + struct.pack(">H", 7) + mqtt.properties(None) + b"y" * 3000
    whole = mqtt.packet(mqtt.PUBLISH, body, 2)
    dev.mqtt.send(whole[:1000])
    dev.mqtt.send(whole[1000:1500])
    sent = [struct.pack(">I", i) + os.urandom(16000) for i in range(400)]
    for payload in sent:
        speaker.mqtt.publish("news/x", payload, qos=1)
        assert speaker.mqtt.expect(mqtt.PUBACK).reason == 0
    home.upgraded()
    dev.mqtt.send(whole[1500:])
    assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    heard = []
    while len(heard) < len(sent) + 1:
        found = reader.mqtt.expect(mqtt.PUBLISH)
        reader.mqtt.ack(found)
        heard.append(found)
    assert not any(found.dup for found in heard)
    assert [f.payload for f in heard if f.topic == "news/x"] == sent
    assert [f.payload for f in heard if f.topic == "dt/s1/x"] == [b"y" * 3000]


def test_sessions_wills_and_queues_of_those_away_come_along(home):
    away = enter(home, "away", clean=False, props={mqtt.SESSION_EXPIRY: 600})
    witness, speaker = enter(home, "witness"), enter(home, "speaker")
    assert away.mqtt.subscribe("news/#", qos=1) == [1]
    assert witness.mqtt.subscribe("dt/#", qos=1) == [1]
    lost = enter(home, "lost", will=("dt/lost/will", b"gone", 1, False))
    speaker.mqtt.publish("news/kept", b"kept", qos=1, retain=True)
    assert speaker.mqtt.expect(mqtt.PUBACK).reason == 0
    away.mqtt.ack(next_message(away))
    away.mqtt.ping()
    away.abort()
    wait_for(lambda: home.gateway.metric("sessions_offline") == 1)
    for i in range(5):
        speaker.mqtt.publish("news/today", struct.pack(">I", i), qos=1)
        assert speaker.mqtt.expect(mqtt.PUBACK).reason == 0
    home.upgraded()
    assert home.gateway.metric("sessions_offline") == 1
    assert speaker.mqtt.subscribe("news/#", qos=1) == [1]
    assert next_message(speaker).payload == b"kept"
    lost.abort()
    assert next_message(witness).payload == b"gone"  # and not before
    back = enter(home, "away", clean=False, props={mqtt.SESSION_EXPIRY: 600})
    assert back.connack.session_present == 1
    assert [number_of(next_message(back).payload) for _ in range(5)] == list(range(5))


def test_an_attached_session_is_ended_in_order_and_resumed(home):
    """TLS 1.3 is not detached: such a connection stays behind and is told so; its session is there when it comes again."""
    dev = enter(home, "modern", priority=TLS13, clean=False, props={mqtt.SESSION_EXPIRY: 600})
    other, speaker = enter(home, "s1"), enter(home, "speaker")
    assert dev.mqtt.subscribe("news/#", qos=1) == [1]
    home.upgraded()
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x8B]
    speaker.mqtt.publish("news/today", b"meanwhile", qos=1)
    assert speaker.mqtt.expect(mqtt.PUBACK).reason == 0
    back = enter(home, "modern", priority=TLS13, clean=False, props={mqtt.SESSION_EXPIRY: 600})
    assert back.connack.session_present == 1
    assert next_message(back).payload == b"meanwhile"
    other.mqtt.ping()


def test_a_program_that_does_not_start_changes_nothing(home):
    dev = enter(home, "s1")
    before = counts(home)
    home.replace("#!/bin/sh\nexit 1\n")
    assert "does not start" in home.refused()
    home.replace("not a program")
    assert "does not start" in home.refused()
    home.replace("#!/bin/sh\necho handover 999\n")
    assert "another way" in home.refused()
    say(dev, 1, 1)
    assert counts(home) == before
    shutil.copy2(program("sallyport"), home.gateway.binary + ".new")
    os.replace(home.gateway.binary + ".new", home.gateway.binary)
    home.upgraded()
    say(dev, 2, 1)
    assert counts(home) == before


def test_processes_that_do_not_start_call_the_old_program_back(home):
    """The new program runs, but its keys process cannot: the old one goes on, with its children, and can be upgraded later."""
    dev = enter(home, "s1")
    before, pids = counts(home), home.gateway.pids()
    key = home.gateway.folder / "master.key"
    key.rename(key.with_suffix(".away"))
    assert "died" in home.refused()
    assert home.gateway.pids() == pids
    say(dev, 1, 1)
    key.with_suffix(".away").rename(key)
    home.upgraded()
    assert home.gateway.pids()["gate"] != pids["gate"]
    say(dev, 2, 1)
    assert counts(home) == before


def test_a_faulty_configuration_changes_nothing(home):
    dev = enter(home, "s1")
    home.write(roles="nonsense: true\n")
    assert home.upgrade().returncode == 1
    home.write()
    say(dev, 1, 1)
    home.upgraded()
    say(dev, 2, 1)


@pytest.mark.parametrize("victim", ["new gate", "new keys", "old store"])
def test_a_process_that_is_killed_in_the_middle_is_survived(home, victim):
    """kill -9 before anything was handed over: connections stay, whoever was killed is there again."""
    dev = enter(home, "s1")
    old = home.gateway.pids()
    before = counts(home)
    thread, guest, _ = home.under_way()
    pid = old["store"] if victim == "old store" else home.gateway.pids()[victim.split()[1]]
    os.kill(pid, signal.SIGKILL)
    thread.join(60)
    guest.close()
    wait_for(lambda: home.gateway.status()["state"] == "serving", 15, "serving")
    wait_for(lambda: home.gateway.metric("cloud_links_connected") == 1, 10, "the cloud")
    assert home.result.returncode == (0 if victim == "old store" else 1)
    say(dev, 1, 1)
    assert counts(home)[0] == before[0]
    home.upgraded()
    say(dev, 2, 1)
    assert counts(home)[0] == before[0]


def test_an_old_gate_that_is_killed_in_the_middle_is_a_gate_that_died(home):
    """Its connections end, as whenever a gate dies; devices come again, and what they stored is there."""
    dev = enter(home, "s1")
    say(dev, 1, 1)
    thread, guest, gate = home.under_way()
    os.kill(gate, signal.SIGKILL)
    thread.join(60)
    guest.close()
    assert home.result.returncode == 1
    dev.mqtt.expect_close()
    wait_for(lambda: home.gateway.status()["state"] == "serving", 15, "serving")
    say(enter(home, "s1"), 2, 1)
    home.upgraded()


def test_the_gateway_can_be_stopped_in_the_middle(tmp_path, cloud):
    home = Home(tmp_path / "home", cloud)
    dev = enter(home, "s1")
    thread, guest, _ = home.under_way()
    assert home.gateway.stop() == 0
    assert [p.reason for p in dev.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x8B]
    thread.join(60)
    guest.close()
    assert home.result.returncode == 1


@pytest.mark.parametrize("threads", [(1, 3), (3, 1), (2, 3)])
def test_a_changed_configuration_comes_with_it(tmp_path, cloud, threads):
    """Another number of loops, another listener, other roles: nobody has to come again but whose role is gone."""
    home = Home(tmp_path / "home", cloud, threads=threads[0])
    devices = [enter(home, f"s{i}") for i in range(12)]
    visitor, listener = enter(home, "v1", role="visitor"), enter(home, "listener")
    assert listener.mqtt.subscribe("dt/#", qos=0) == [0]
    before = counts(home)
    base = home.base.replace(f"threads: {threads[0]}", f"threads: {threads[1]}")
    home.write(base.replace("listeners:\n", "listeners:\n  - {address: \"127.0.0.1:0\", suites: [profile-small]}\n"),
               ROLES.split("  visitor")[0])
    home.upgraded()
    assert [p.reason for p in visitor.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x98]
    for i, dev in enumerate(devices):
        say(dev, i, 1)
        assert number_of(next_message(listener).payload) == i
    assert counts(home)[:4] == before[:4]
    status = home.gateway.status()
    assert len(status["listeners"]) == 2 and {entry["port"] for entry in status["listeners"]} > {home.gateway.port}
    for i in range(12):  # the sockets that were there take new ones, on every loop
        enter(home, f"n{i}")
    home.gateway.port = next(e["port"] for e in status["listeners"] if e["port"] != home.gateway.port)
    enter(home, "other-door")
    assert home.gateway.stop() == 0


def test_a_device_that_is_revoked_just_before_is_not_carried_over(home):
    dev = enter(home, "s1")
    keys = home.gateway.pids()["keys"]
    home.gateway.cli("device", "revoke", "s1")
    home.upgraded()
    assert dev.mqtt.expect_close() is not None
    assert home.gateway.pids()["keys"] != keys
    wait_for(lambda: home.gateway.metric("devices_online") == 0, 5, "nobody online")


