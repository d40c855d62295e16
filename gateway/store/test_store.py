# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The store process against a scripted cloud: what was acknowledged arrives, in order, whatever happens."""

import json
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fake_cloud import Cloud

DRIVER = os.environ["STORE_DRIVER"]
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", **os.environ}  # nobody may trace store in its sandbox
RECORD = bytes.fromhex("82a421666465762d312f006b74656d7065726174757265016343656c02c4822119092e"
                       "a3006868756d6964697479016325524802c48221191004")  # dev-1, 23.5 Cel, 41 %RH
RAW, SENML_JSON, JSON = 0, 1, 2


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    d = tmp_path_factory.mktemp("certificates")

    def run(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA",
        "-addext", "basicConstraints=critical,CA:TRUE")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"), ("gateway", "extendedKeyUsage=clientAuth")):
        (d / "ext").write_text(extension)
        run("req", *key[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2",
            "-extfile", "ext", "-out", f"{name}.crt")
    return d


class Store:
    """A running store with its driver."""

    def __init__(self, config):
        self.events = []
        self.log = []
        self.changed = threading.Condition()
        self.ticket = 0
        self.process = subprocess.Popen([DRIVER, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for stream, into in ((self.process.stdout, self.events), (self.process.stderr, self.log)):
            threading.Thread(target=self._read, args=(stream, into), daemon=True).start()
        self.pid = int(self.wait("pid ")[4:])
        self.wait("ready")

    def _read(self, stream, into):
        for line in stream:
            with self.changed:
                into.append(line.rstrip("\n"))
                self.changed.notify_all()

    def wait(self, prefix, seconds=20, count=1):
        """The count-th event that starts so."""
        def found():
            return [e for e in self.events if e.startswith(prefix)]
        with self.changed:
            ok = self.changed.wait_for(lambda: len(found()) >= count, seconds)
        assert ok, f"no `{prefix}`; {self.events[-5:]} {self.log[-5:]}"
        return found()[count - 1]

    def wait_log(self, part, seconds=20):
        with self.changed:
            ok = self.changed.wait_for(lambda: any(part in line for line in self.log), seconds)
        assert ok, f"no log line with {part}: {self.log[-8:]}"

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def append(self, payload, device="dev-1", qos=1, fmt=RAW, topic=None, expiry=0, time_ms=None):
        self.ticket += qos
        time_ms = int(time.time() * 1000) if time_ms is None else time_ms
        topic = topic or f"up/{device}/x"
        self.do(f"append {self.ticket if qos else 0} {qos} {device} {topic} dt/{device}/x {fmt} {time_ms} {expiry} "
                f"{payload.hex() or '-'}")
        return self.ticket

    def durable(self):
        """Tickets that were answered: {ticket: err}."""
        answers, last = {}, 0
        for e in list(self.events):
            if e.startswith("durable "):
                up_to, err = map(int, e.split()[1:])
                answers.update({t: err for t in range(last + 1, up_to + 1)})
                last = up_to
        return answers

    def wait_durable(self, ticket, seconds=20):
        with self.changed:
            ok = self.changed.wait_for(lambda: ticket in self.durable(), seconds)
        assert ok, self.events[-5:]

    def metric(self, name):
        before = len([e for e in self.events if e.startswith(f"metric {name} ")])
        self.do(f"metric {name}")
        return int(self.wait(f"metric {name} ", count=before + 1).split()[2])

    def wait_metric(self, name, value, seconds=10):
        end = time.monotonic() + seconds
        have = self.metric(name)
        while have != value and time.monotonic() < end:
            time.sleep(0.05)
            have = self.metric(name)
        assert have == value, name

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait("exit ") == "exit -9"
        self.process.wait(10)

    def stop(self):
        self.do("stop")
        assert self.wait("exit ", 6) == "exit 0", self.log[-5:]
        self.process.wait(10)


@pytest.fixture
def home(tmp_path, certificates):
    """make(cloud, …) starts a store for that cloud; all of them are ended."""
    stores = []

    def make(cloud, limits="none", connections=1, extra="", host="127.0.0.1", version=5):
        state = tmp_path / "state"
        state.mkdir(exist_ok=True, mode=0o700)
        c = certificates
        config = tmp_path / "sallyport.yaml"
        cloud_part = f"""
cloud:
  endpoint: {host}:{cloud.port}
  ca: {c}/ca.crt
  certificate: {c}/gateway.crt
  key: {c}/gateway.key
  client_id: gw-1
  connections: {connections}
  version: {"5" if version == 5 else "3.1.1"}
  limits: {limits}
commands:
  - cloud: cmd/sallyport/{{gateway}}/#
    to: cmd/{{rest}}
""" if cloud else ""
        config.write_text(f"""
gateway:
  id: gw-1
  state_dir: {state}
  threads: 1
listeners:
  - address: 127.0.0.1:0
{cloud_part}{extra}
""")
        stores.append(Store(str(config)))
        return stores[-1]

    yield make
    for s in stores:
        if not any(e.startswith("exit ") for e in s.events):
            os.kill(s.pid, signal.SIGKILL)
        s.process.wait(10)


def numbers(messages, device="dev-1"):
    return [int(m.payload) for m in messages if device in (None, m.properties["device"])]


def firsts(items):
    return list(dict.fromkeys(items))


def test_acknowledged_messages_arrive_in_order_and_say_who_they_are(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    for i in range(500):
        store.append(str(i).encode())
    store.wait_durable(500)
    assert set(store.durable().values()) == {0}
    cloud.wait(lambda c: len(c.messages) >= 500)
    assert numbers(cloud.messages) == list(range(500))
    m = cloud.messages[0]
    assert (m.topic, m.qos, m.client_id) == ("up/dev-1/x", 1, "gw-1")
    assert m.properties["topic"] == "dt/dev-1/x" and m.properties["gateway"] == "gw-1"
    assert len({m.message_id for m in cloud.messages}) == 500
    store.wait_metric("cloud_published_total", 500)
    store.wait_metric("journal_messages", 0)
    store.wait_metric("journal_bytes", 0)
    store.stop()


def test_a_cloud_that_is_away_gets_everything_later(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    store.append(b"0")
    cloud.wait(lambda c: len(c.messages) == 1)
    cloud.close()
    for i in range(1, 3001):  # more than is kept in memory
        store.append(str(i).encode())
    store.wait_durable(3001)
    cloud.open()
    cloud.wait(lambda c: len(firsts(numbers(c.messages))) == 3001, 40)
    assert firsts(numbers(cloud.messages)) == list(range(3001))
    store.append(b"3001")
    cloud.wait(lambda c: numbers(c.messages)[-1] == 3001)
    store.stop()


def test_after_kill_9_everything_arrives_and_repeats_carry_the_same_id(home, certificates):
    silent = []
    cloud = Cloud(certificates, lambda m: None if silent else 0)
    store = home(cloud)
    for i in range(100):
        store.append(str(i).encode(), device=f"dev-{i % 100}")
    cloud.wait(lambda c: len(c.messages) >= 100)
    silent.append(True)
    for i in range(100, 400):
        store.append(str(i).encode(), device=f"dev-{i % 100}")
    store.wait_durable(400)
    cloud.wait(lambda c: len(c.messages) > 150)  # one of each device is under way
    store.kill()
    silent.clear()
    seen = {m.payload: m.message_id for m in cloud.messages}
    store = home(cloud)
    cloud.wait(lambda c: len(firsts(numbers(c.accepted(), None))) == 400)
    assert set(numbers(cloud.messages, None)) == set(range(400))
    assert all(m.message_id == seen[m.payload] for m in cloud.messages if m.payload in seen)
    for device in range(100):
        again = [n for n in numbers((m for m in cloud.messages if m.connection == 2), None) if n % 100 == device]
        assert again == list(range(again[0], 400, 100))  # an in-order suffix
    repeats = len(cloud.messages) - 400
    assert repeats <= 256
    store.stop()
    home(cloud).wait_metric("journal_messages", 0)


def test_kill_9_at_any_time_loses_nothing_that_was_acknowledged(home, certificates):
    cloud = Cloud(certificates)
    sent, acked = 0, set()
    for round in range(6):
        store = home(cloud)
        first = sent
        for i in range(300):
            store.append(str(sent).encode())
            sent += 1
        store.wait_durable(1 + round * 40)
        time.sleep(0.004 * round)
        store.kill()
        acked |= {first + t - 1 for t, err in store.durable().items() if err == 0}
    store = home(cloud)
    cloud.wait(lambda c: acked <= set(numbers(c.messages)))
    store.append(str(sent).encode())
    cloud.wait(lambda c: sent in numbers(c.messages))
    got = firsts(numbers(cloud.messages))
    assert got == sorted(got)
    ids = {}
    for m in cloud.messages:
        assert ids.setdefault(m.payload, m.message_id) == m.message_id
    store.stop()


def test_a_permanent_refusal_makes_a_dead_letter_and_the_rest_goes_on(home, certificates):
    cloud = Cloud(certificates, lambda m: 0x99 if m.payload == b"7" else 0)
    store = home(cloud)
    for i in range(20):
        store.append(str(i).encode())
    cloud.wait(lambda c: len(c.accepted()) == 19)
    store.wait_log("event=dead_letter")
    assert numbers(cloud.messages) == list(range(20))
    assert store.metric("journal_dead_letters_total") == 1
    store.stop()
    store = home(cloud)
    store.append(b"20")
    cloud.wait(lambda c: 20 in numbers(c.messages))
    assert len(cloud.messages) == 21  # the dead letter is not sent again
    assert "dead_letters=1" in " ".join(store.log)


def test_a_message_that_makes_the_cloud_hang_up_is_found_and_buried(home, certificates):
    cloud = Cloud(certificates, lambda m: "close" if m.payload == b"5" else None if len(cloud.connects) < 2 else 0)
    store = home(cloud)
    for i in range(10):
        store.append(str(i).encode())
    cloud.wait(lambda c: len(c.accepted()) == 9, 60)
    store.wait_log("event=dead_letter")
    assert [int(m.payload) for m in cloud.accepted()] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert store.metric("journal_dead_letters_total") == 1


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_a_refusal_for_now_is_tried_again_in_order(home, certificates, code):
    refusals = [code] * 2
    cloud = Cloud(certificates, lambda m: refusals.pop() if m.payload == b"3" and refusals else 0)
    store = home(cloud)
    for i in range(10):
        store.append(str(i).encode())
        store.append(str(100 + i).encode(), device="dev-2")
    cloud.wait(lambda c: len(c.accepted()) == 20, 30)
    taken = numbers(cloud.accepted(), None)
    assert [n for n in taken if n < 100] == list(range(10))  # nothing overtook it
    assert [n for n in taken if n >= 100] == list(range(100, 110))
    assert taken.index(109) < taken.index(3)  # only its device waited
    assert numbers(cloud.messages).count(3) == 3
    assert len({m.message_id for m in cloud.messages if m.payload == b"3"}) == 1
    assert store.metric("journal_dead_letters_total") == 0
    store.stop()


def test_a_cloud_that_answers_pings_but_never_acknowledges_is_left_and_gets_all_again(home, certificates):
    cloud = Cloud(certificates, lambda m: None if m.connection == 1 else 0)
    store = home(cloud)
    for i in range(20):
        store.append(str(i).encode(), device=f"dev-{i}")
    store.wait_log("no PUBACK in time", 40)
    cloud.wait(lambda c: len(c.accepted()) == 20)
    assert numbers(cloud.messages, None) == list(range(20)) * 2
    store.wait_metric("journal_messages", 0)
    assert store.metric("journal_dead_letters_total") == 0


def test_a_cloud_that_refuses_everything_for_a_while_is_not_hammered(home, certificates):
    until = time.monotonic() + 4
    cloud = Cloud(certificates, lambda m: 0x97 if time.monotonic() < until else 0)
    store = home(cloud)
    for i in range(60):
        store.append(str(i).encode(), device=f"dev-{i % 20}")
    cloud.wait(lambda c: len(c.accepted()) == 60, 60)
    taken = numbers(cloud.accepted(), None)
    for device in range(20):
        assert [n for n in taken if n % 20 == device] == [device, device + 20, device + 40]
    assert len(cloud.messages) - 60 < 20 * 12  # back-off with jitter, a device at a time
    assert len([line for line in store.log if "event=cloud_busy" in line]) < 12
    store.stop()


def test_answers_that_nobody_asked_for_neither_delete_nor_bury_a_message(home, certificates):
    """A stray one, three connections in a row with the same message at the head; then each answer twice."""
    stray = b"\x40\x02\x77\x77"
    twice = []

    def answer(m):
        if m.payload == b"3" and m.connection <= 4:
            return stray
        if m.payload == b"6" and not twice:
            twice.append(m)
            one = b"\x40\x02" + m.packet_id.to_bytes(2, "big")
            return one + one
        return 0

    cloud = Cloud(certificates, answer)
    store = home(cloud)
    for i in range(10):
        store.append(str(i).encode())
    cloud.wait(lambda c: len(c.connects) > 4, 60)
    cloud.wait(lambda c: {3, 9} <= set(numbers(c.accepted())), 60)
    assert firsts(numbers(cloud.messages)) == list(range(10))
    assert {3, 7, 8, 9} <= set(numbers(cloud.accepted()))
    assert store.metric("journal_dead_letters_total") == 0
    store.wait_metric("journal_messages", 0)
    store.stop()


def test_a_disk_that_fails_refuses_and_heals_by_itself(home, certificates):
    cloud = Cloud(certificates)
    cloud.close()
    store = home(cloud)
    for i in range(50):
        store.append(str(i).encode())
    store.wait_durable(50)
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    for i in range(50, 60):
        store.append(str(i).encode())
    store.wait_durable(60)
    store.wait("pressure 2")
    store.wait_log("event=journal_failed")
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.wait_log("event=journal_recovered")
    store.wait("pressure 0", count=2)
    store.append(b"60")
    store.wait_durable(61)
    answers = store.durable()
    accepted = [t - 1 for t, err in answers.items() if err == 0]
    assert accepted == list(range(50)) + [60]
    cloud.open()
    cloud.wait(lambda c: len(c.accepted()) == 51)
    assert firsts(numbers(cloud.messages)) == accepted
    store.stop()


def test_the_formats(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    for fmt in (RAW, SENML_JSON, JSON):
        store.append(RECORD, fmt=fmt, time_ms=1700000000000)
    store.append(b"no record", fmt=JSON)
    cloud.wait(lambda c: len(c.messages) == 3)
    raw, senml, plain = cloud.messages
    assert raw.payload == RECORD and raw.properties["topic"] == "dt/dev-1/x"
    assert json.loads(senml.payload)[0]["bn"] == "dev-1/"
    document = json.loads(plain.payload)
    assert document["temperature_celsius"] == 23.5 and document["time"] == 1700000000
    assert document["attested"] is True and document["protection"] == "clear" and document["sequence"] is None
    assert document["message_id"] == plain.message_id
    store.wait_log("event=dead_letter")


def test_expired_messages_are_buried_not_sent(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    now = int(time.time() * 1000)
    store.append(b"1", expiry=5, time_ms=now - 60000)
    store.append(b"2", expiry=500, time_ms=now - 60000)
    cloud.wait(lambda c: len(c.messages) == 1)
    assert cloud.messages[0].payload == b"2" and 430 <= cloud.messages[0].expiry <= 440
    store.wait_log("reason=expired")


def test_qos_0_goes_when_the_cloud_is_there_and_is_counted_when_not(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    store.wait_log("event=cloud_connected")
    store.append(b"1", qos=0)
    cloud.wait(lambda c: len(c.messages) == 1)
    assert cloud.messages[0].qos == 0
    cloud.close()
    store.wait_log("event=cloud_lost")
    store.append(b"2", qos=0)
    store.wait_metric("cloud_dropped_total", 1)


def test_the_cloud_s_limits_are_kept(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud, limits="{publishes_per_second: 40, in_flight: 5, topic_levels: 4, topic_bytes: 40, packet: 2000}")
    for i in range(60):
        store.append(str(i).encode())
    store.append(b"deep", topic="a/b/c/d/e")
    store.append(b"long", topic="a" * 41)
    store.append(b"x" * 3000)
    store.append(b"60")
    cloud.wait(lambda c: len(c.messages) == 61)
    assert numbers(cloud.messages) == list(range(61))
    times = [m.at for m in cloud.messages]
    worst = max(sum(1 for t in times if start <= t < start + 1) for start in times)
    assert worst <= 41  # one for the network's unevenness
    store.wait_metric("journal_dead_letters_total", 3)


@pytest.mark.parametrize("maximum", [1, 5])
def test_receive_maximum_of_the_cloud_is_kept(home, certificates, maximum):
    open_now, worst = [], []

    def answer(m):
        open_now.append(m)
        worst.append(len(open_now))
        threading.Timer(0.02, reply, [m]).start()

    def reply(m):
        with cloud.changed:
            open_now.remove(m)
            cloud.sockets[m.connection].sendall(b"\x40\x02" + m.packet_id.to_bytes(2, "big"))
            m.reason = 0
            cloud.changed.notify_all()

    cloud = Cloud(certificates, answer)
    cloud.connack = b"\x00\x00\x03\x21" + maximum.to_bytes(2, "big")
    store = home(cloud)
    for i in range(30):
        store.append(str(i).encode(), device=f"dev-{i}")
    cloud.wait(lambda c: len(c.accepted()) == 30)
    assert max(worst) == maximum
    store.stop()


def test_maximum_packet_size_of_the_cloud_is_kept(home, certificates):
    cloud = Cloud(certificates)
    cloud.connack = b"\x00\x00\x05\x27" + (300).to_bytes(4, "big")
    store = home(cloud)
    store.append(b"1")
    store.append(b"x" * 400)
    store.append(b"2")
    cloud.wait(lambda c: len(c.messages) == 2)
    assert numbers(cloud.messages) == [1, 2]
    store.wait_log("event=dead_letter")


def test_a_cloud_that_takes_qos_0_only_gets_nothing(home, certificates):
    cloud = Cloud(certificates)
    cloud.connack = b"\x00\x00\x02\x24\x00"
    store = home(cloud)
    store.append(b"1")
    store.wait_durable(1)
    store.wait_log("QoS 0 only")
    assert cloud.messages == []
    cloud.connack = b"\x00\x00\x00"
    cloud.wait(lambda c: len(c.messages) == 1)


def test_a_refused_connect_is_told_and_tried_again_ever_more_slowly(home, certificates):
    cloud = Cloud(certificates)
    cloud.connack = b"\x00\x87\x00"
    store = home(cloud)
    store.append(b"1")
    store.wait_log("event=cloud_refused")
    cloud.wait(lambda c: len(c.connects) == 3)
    cloud.connack = b"\x00\x00\x00"
    cloud.wait(lambda c: len(c.messages) == 1, 30)
    waits = [int(line.split("retry_ms=")[1]) for line in store.log if "retry_ms=" in line]
    assert all(w <= 1000 * 2 ** i for i, w in enumerate(waits))


HOSTILE = {
    "type 0": b"\x00\x00",
    "reserved bits": b"\x41\x02\x00\x01",
    "length of five bytes": b"\x40\xff\xff\xff\xff\x7f",
    "256 MB PUBLISH": b"\x30\xff\xff\xff\x7f",
    "PUBACK for nobody": b"\x40\x02\x77\x77",
    "second CONNACK": b"\x20\x03\x00\x00\x00",
    "PUBLISH with QoS 2": b"\x34\x06\x00\x01a\x00\x05\x00",
    "topic alias never set": b"\x30\x06\x00\x00\x03\x23\x00\x01",
    "DISCONNECT with garbage": b"\xe0\x03\x00\x7f\x01",
    "SUBACK nobody asked for": b"\x90\x04\x99\x99\x00\x01",
    "a client's packet": b"\xc0\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_reset_the_link_and_nothing_else(home, certificates, name):
    poison = [HOSTILE[name]]
    cloud = Cloud(certificates, lambda m: poison.pop() if m.payload == b"3" and poison else 0)
    store = home(cloud)
    for i in range(10):
        store.append(str(i).encode())
    cloud.wait(lambda c: len(set(numbers(c.accepted()))) == 10)
    assert firsts(numbers(cloud.messages)) == list(range(10))
    assert len(cloud.connects) == 2
    store.stop()


def test_devices_are_spread_over_connections_each_on_one(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud, connections=3)
    for i in range(300):
        store.append(str(i).encode(), device=f"dev-{i % 20}")
    cloud.wait(lambda c: len(c.messages) == 300)
    clients = {}
    for m in cloud.messages:
        clients.setdefault(m.properties["device"], set()).add(m.client_id)
    assert all(len(c) == 1 for c in clients.values())
    assert set.union(*clients.values()) == {"gw-1", "gw-1-2", "gw-1-3"}
    for d in range(20):
        assert numbers(cloud.messages, f"dev-{d}") == list(range(d, 300, 20))
    store.stop()


def test_commands_reach_gate_and_are_acknowledged_only_when_taken(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud)
    cloud.wait(lambda c: c.subscriptions == [("cmd/sallyport/gw-1/#", 1)])
    cloud.publish("cmd/sallyport/gw-1/dev-1/led", b"on", packet_id=9)
    _, tag, qos, topic, payload = store.wait("command ").split()
    assert bytes.fromhex(topic) == b"cmd/sallyport/gw-1/dev-1/led" and bytes.fromhex(payload) == b"on" and qos == "1"
    time.sleep(0.3)
    assert cloud.pubacks == []
    store.do("replace")  # gate died before it took it
    assert store.wait("command ", count=2).split()[1] == tag
    store.do(f"bytes 11 {tag} -")
    cloud.wait(lambda c: c.pubacks == [9])
    cloud.publish("cmd/sallyport/gw-1/dev-1/led", b"off", qos=0)
    assert store.wait("command ", count=3).split()[2] == "0"
    store.stop()


def test_mqtt_3_1_1(home, certificates):
    cloud = Cloud(certificates)
    cloud.version = 4
    store = home(cloud, version=4)
    for i in range(20):
        store.append(str(i).encode())
    cloud.wait(lambda c: len(c.messages) == 20)
    assert [int(m.payload) for m in cloud.messages] == list(range(20))
    store.stop()


def test_a_host_name_is_looked_up(home, certificates):
    cloud = Cloud(certificates)
    store = home(cloud, host="localhost")
    store.append(b"1")
    cloud.wait(lambda c: len(c.messages) == 1, 30)
    store.stop()


def test_a_full_journal_refuses_and_says_so_and_frees_itself(home, certificates):
    cloud = Cloud(certificates)
    cloud.close()
    store = home(cloud, extra="limits:\n  journal: 1MiB\n")
    for i in range(1200):
        store.append(str(i).encode() + b" " * 1000)
    store.wait_durable(1200)
    answers = store.durable()
    accepted = [t - 1 for t, err in answers.items() if err == 0]
    assert 800 < len(accepted) < 1200
    assert accepted == list(range(len(accepted)))
    store.wait("pressure 2")  # one commit may go past the 80 % of level 1
    cloud.open()
    cloud.wait(lambda c: len(c.accepted()) == len(accepted), 60)
    assert firsts(numbers(cloud.messages)) == accepted
    store.wait("pressure 0", count=2)
    store.stop()


def test_without_a_cloud_messages_are_refused(home):
    store = home(None)
    store.append(b"1")
    store.wait_durable(1)
    assert store.durable()[1] != 0
    store.stop()


def test_a_gate_that_lies_ends_the_store_and_the_next_one_goes_on(home, certificates):
    cloud = Cloud(certificates)
    lies = ["append 1 1 dev-1 up/x $sp/attest/token 0 0 0 00",
            "append 1 1 dev-1 up/# dt/x 0 0 0 00",
            "append 1 1 ../dev up/x dt/x 0 0 0 00",
            "append 1 3 dev-1 up/x dt/x 0 0 0 00",
            "append 0 1 dev-1 up/x dt/x 0 0 0 00",
            "append 1 1 dev-1 up/x dt/x 9 0 0 00",
            "bytes 10 1 " + "ff" * 48,
            "bytes 10 1 0011",
            "bytes 1 1 -"]
    for lie in lies:
        store = home(cloud)
        store.do(lie)
        store.wait("exit 1")
        store.process.stdin.close()
        store.process.wait(10)
    store = home(cloud)
    store.append(b"1")
    cloud.wait(lambda c: len(c.messages) == 1)
    assert numbers(cloud.messages) == [1]
    store.stop()


def test_a_damaged_journal_is_named_and_left_alone(tmp_path, home):
    store = home(None)
    store.stop()
    journal = tmp_path / "state" / "journal" / "journal.db"
    journal.write_bytes(b"not a journal " * 1000)
    before = journal.read_bytes()
    run = subprocess.run([DRIVER, tmp_path / "sallyport.yaml"], input="", text=True, capture_output=True, timeout=20, env=ENVIRONMENT)
    assert "exit 1" in run.stdout and "event=journal_refused" in run.stderr and str(journal) in run.stderr
    assert journal.read_bytes() == before
