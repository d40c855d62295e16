# SPDX-License-Identifier: Apache-2.0
"""A hostile cloud, a hostile disk, clock and memory: each against a gateway of its own, since it has to be started, damaged or starved.
Names such as M-50 are those of tests/hostile_cases.py."""
import contextlib
import datetime
import os
import random
import resource
import shutil
import socket
import sqlite3
import ssl
import struct
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.store import fake_cloud
from tests.conftest import add_reference
from tests.faults.faults import Faults
from tests.lib import mqtt
from tests.lib.attester import TestDevice
from tests.lib.memory import only_root
from tests.lib.odds import Odds
from tests.lib.oracle import Oracle
from tests.lib.tlspsk import TlsError
from tools.lab.cloud import make_certificates
from tools.lab.gateway import Gateway
from tools.lab.process import BUILD, wait_for

SANITIZED = "asan" in str(BUILD)
plain_only = pytest.mark.skipif(SANITIZED, reason="a preloaded library and a sanitizer's allocator do not go together")


class Site:
    """A folder with certificates, a scripted cloud, a gateway and a device that is admitted without a token."""

    def __init__(self, folder, start=True, **more):
        self.folder = folder
        self.certificates = make_certificates(folder / "certificates")
        self.cloud = fake_cloud.Cloud(self.certificates)
        self.gateway = Gateway(folder / "home", self.cloud_place(), gateway_id="gw-1", **more)
        add_reference(self.gateway)
        self.bundle = self.gateway.add("dev", "--attestation", "none")
        self.sent = 0
        if start:
            self.gateway.start()
            self.gateway.wait_metric("cloud_links_connected", 1)

    def cloud_place(self):
        class Place:
            certificates, port = self.certificates, self.cloud.port
        return Place

    def enter(self, **more):
        dev = TestDevice(self.gateway, self.bundle, **more)
        dev.connect(props={mqtt.METHOD: None})
        assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
        return dev

    def publish(self, dev, qos=1):
        """The reason of the PUBACK."""
        self.sent += 1
        dev.mqtt.publish("dt/dev/x", b"%d" % self.sent, qos=qos)
        return dev.mqtt.expect(mqtt.PUBACK, 20).reason

    def one_life(self, *counters, number=0, stored=None, at_least=None):
        """Since it was started, nothing was counted and stored but this."""
        life = Oracle.of_life(self.gateway)
        if counters:
            life.counts(*counters, number=number, at_least=at_least)
        life.stores(stored)
        life.check_counters(whole=True)

    def arrived(self):
        return [m.payload for m in self.cloud.messages if m.reason == 0]

    def all_arrive(self, payloads, seconds=20):
        wait_for(lambda: set(payloads) <= set(self.arrived()), seconds, "everything at the cloud")

    def stop(self):
        status = self.gateway.stop()
        self.cloud.close()
        return status


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    assert made.stop() == 0
    assert all(line.isprintable() for line in made.gateway.lines)


# ---- the cloud ----

HOSTILE_CLOUD = [  # what it says in the place of a PUBACK
    ("a PUBACK for nothing", bytes.fromhex("40020FFF")),
    ("a PUBACK twice, one of them for nothing", bytes.fromhex("40027FFF40027FFE")),
    ("SUBACK out of nowhere", bytes.fromhex("90040001000000")),
    ("256 MB announced", bytes.fromhex("30FFFFFF7F")),
    ("five bytes of length", bytes.fromhex("30FFFFFFFF7F")),
    ("properties beyond the packet", bytes.fromhex("40050001000FFF")),
    ("a topic alias that was never set", bytes.fromhex("30060000032300 05".replace(" ", ""))),
    ("DISCONNECT with garbage", bytes.fromhex("E0058EFFFFFFFF")),
    ("a CONNECT", mqtt.connect(5, b"cloud")),
    ("a second CONNACK", bytes.fromhex("2003000000")),
    ("SUBSCRIBE", bytes.fromhex("820700010000016100")),
    ("type 0", b"\0\0"),
    ("PUBREC for a QoS 1 message", bytes.fromhex("50020001")),
    ("a wildcard in a topic", bytes.fromhex("300700042F232F2300")),
    ("noise", bytes(range(255, 0, -1))),
]


def begin_anew(site):
    """kill -9 and start: the link comes at once, without the back-off of the one before."""
    site.gateway.kill()
    site.gateway.start()


def test_a_hostile_cloud_costs_nothing_but_its_link(site):
    """M-50: the link is reset, once; journal and devices never notice, and in the end everything is there once at least."""
    faults = []
    for what, said in HOSTILE_CLOUD:
        dev, once, before = site.enter(), iter([said]), len(site.cloud.messages)
        store = site.gateway.pids()["store"]
        site.cloud.answer = lambda message, once=once: next(once, 0)
        if site.publish(dev) != 0:
            faults.append(f"{what}: the device was refused")
        wait_for(lambda before=before: len(site.cloud.messages) > before, 15, what)
        try:
            site.one_life("cloud_failures_total", number=1, stored=1)
        except AssertionError as error:
            faults.append(f"{what}: {error}")
        if site.gateway.pids()["store"] != store:
            faults.append(f"{what}: the store died")
        begin_anew(site)
        site.gateway.wait_metric("cloud_links_connected", 1)
    assert not faults, "\n".join(faults)
    site.all_arrive([b"%d" % n for n in range(1, site.sent + 1)], 40)


def test_a_connack_that_cannot_be_is_a_failure(site):
    """M-50, the first packet."""
    for connack in (b"\x00\x88\x00", b"\x02\x00\x00", b"\x00\x00\xff\x7f", b"\x00\x00\x03\x21\x00\x00", b""):
        site.cloud.connack = connack
        before = len(site.cloud.connects)
        begin_anew(site)
        site.gateway.wait_metric("cloud_failures_total", 1, 25)
        assert site.gateway.metric("cloud_links_connected") == 0
        assert site.publish(site.enter()) == 0
        failed = site.gateway.metric("cloud_failures_total")  # it tries again and again, each time one
        assert failed <= len(site.cloud.connects) - before
        site.one_life("cloud_failures_total", number=len(site.cloud.connects) - before + 1, at_least=failed, stored=1)
    site.cloud.connack = b"\x00\x00\x00"
    begin_anew(site)
    site.all_arrive([b"%d" % n for n in range(1, site.sent + 1)])


def test_a_cloud_that_pings_and_never_acknowledges_is_left(tmp_path):
    """M-51: after thirty seconds the link is made anew, and all is sent again in order."""
    odds = Odds(tmp_path / "odds")
    site = Site(tmp_path, start=False)
    site.gateway.env = {} if SANITIZED else odds.environment()
    site.gateway.start()
    dev = site.enter()
    site.cloud.answer = lambda message: None if message.connection == 1 else 0
    for _ in range(5):
        assert site.publish(dev) == 0
    site.cloud.wait(lambda c: len(c.messages) >= 1)
    odds.pass_time(40)
    assert site.publish(dev) == 0  # and something to wake up for
    site.cloud.wait(lambda c: len(c.connects) > 1, 75)
    site.all_arrive([b"%d" % n for n in range(1, 7)], 20)
    assert site.arrived() == [b"%d" % n for n in range(1, 7)]
    site.one_life("cloud_failures_total", number=1, stored=6)
    assert site.stop() == 0


@pytest.mark.parametrize("limits,dead", [("03210001", 0), ("03210005", 0), ("0321FFFF", 0), ("052700000064", 1), ("022400", 0)],
                         ids=["window 1", "window 5", "window 65535", "packets of 100 bytes", "QoS 0 only"])
def test_the_limits_of_the_cloud_hold(site, limits, dead):
    """M-52: never more in flight than it takes; what is too large goes to the dead letters and holds nobody up."""
    lock, flying, most = threading.Lock(), [0], [0]
    site.cloud.connack = b"\x00\x00" + bytes.fromhex(limits)
    begin_anew(site)
    dev = site.enter()

    def answer(_message):
        with lock:
            flying[0] += 1
            most[0] = max(most[0], flying[0])
            flying[0] -= 1
        return 0
    site.cloud.answer = answer
    for number in range(6):
        site.sent += 1
        dev.mqtt.publish("dt/dev/x", b"%d" % site.sent, qos=1)
        assert dev.mqtt.expect(mqtt.PUBACK).reason == 0
    if limits == "022400":  # at QoS 0, in the dead letters, or kept: never lost in silence
        wait_for(lambda: len(site.cloud.messages) + site.gateway.metric("journal_dead_letters_total")
                 + site.gateway.metric("journal_messages") >= 6, 10)
        site.one_life("cloud_failures_total", number=100, at_least=1, stored=6)  # a link that cannot carry them, tried again and again
        return
    if dead:  # the properties alone are larger, so none fits; the link stays
        site.gateway.wait_metric("journal_dead_letters_total", 6)
        assert site.gateway.metric("cloud_links_connected") == 1
        site.one_life("journal_dead_letters_total", number=6, stored=6)
        return
    site.all_arrive([b"%d" % n for n in range(1, 7)])
    site.one_life(stored=6)
    assert most[0] <= 6


def certificate(folder, name, names=("localhost",), begins=-1, ends=1, usage=ExtendedKeyUsageOID.SERVER_AUTH, authority=None):
    """A server's certificate that is wrong in one way; days from now. `authority`: folder with ca.crt and ca.key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    issuer = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    made = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(issuer.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins)).not_valid_after(now + datetime.timedelta(days=ends))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)).sign(signer, hashes.SHA256())
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM)
                     + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


def test_a_cloud_that_is_not_the_cloud_gets_no_word(tmp_path):
    """T-23: expired, too young, another name, a wildcard over everything, another authority, a client's certificate."""
    site = Site(tmp_path, start=False)
    other = make_certificates(tmp_path / "other")
    own = site.certificates
    wrong = [certificate(tmp_path, "expired", begins=-9, ends=-1, authority=own),
             certificate(tmp_path, "young", begins=1, ends=9, authority=own),
             certificate(tmp_path, "elsewhere", ("elsewhere.example",), authority=own),
             certificate(tmp_path, "nul", ("localhost.evil.example",), authority=own),
             certificate(tmp_path, "wildcard", ("*.com",), authority=own),
             certificate(tmp_path, "stranger", authority=other),
             certificate(tmp_path, "client", usage=ExtendedKeyUsageOID.CLIENT_AUTH, authority=own)]
    listener, said = socket.create_server(("127.0.0.1", 0)), []
    site.gateway.config.write_text(site.gateway.config.read_text().replace(f"localhost:{site.cloud.port}",
                                                                            f"localhost:{listener.getsockname()[1]}"))

    def forget_the_last_gateway():
        listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()  # it may have tried again before it was stopped
        listener.settimeout(10)

    def hear(path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        raw, _ = listener.accept()
        raw.settimeout(5)
        with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as tls:
            said.append((path.name, tls.recv(100)))
        raw.close()
    for path in wrong:
        forget_the_last_gateway()
        site.gateway.start()
        hear(path)
        site.gateway.wait_metric("cloud_failures_total", 1)
        assert site.gateway.metric("cloud_connects_total") == 0
        assert site.publish(site.enter()) == 0  # into the journal
        site.one_life("cloud_failures_total", number=1, stored=1)  # the next try finds nobody who listens, and waits
        site.gateway.kill()
    assert not [entry for entry in said if entry[1]], said
    site.gateway.start()
    hear(wrong[0])
    hear(wrong[0])  # it tries again, with a back-off
    listener.close()
    assert site.stop() == 0


# ---- memory and clock ----

@plain_only
def test_no_allocation_that_fails_lets_anybody_in(tmp_path):
    """T-24: number n of a handshake fails, for every n: refused or in order, and the gateway lives."""
    odds = Odds(tmp_path / "odds")
    site = Site(tmp_path, start=False)
    site.gateway.env = odds.environment()
    site.gateway.start()
    other = site.gateway.add("other", "--attestation", "none")
    pids, tries, failures, entered = site.gateway.pids(), 0, 0, 0
    for number in range(1, 400):
        odds.fail_malloc(pids["gate"], number)
        tries += 1
        try:
            dev = TestDevice(site.gateway, other, timeout=6)
            dev.connect(props={mqtt.METHOD: None})
            assert dev.mqtt.expect(mqtt.CONNACK).reason == 0
            entered += 1
            with pytest.raises(TlsError):
                TestDevice(site.gateway, other, psk=b"w" * 32, timeout=6)
            dev.abort()
        except (TlsError, OSError, mqtt.Closed, AssertionError, TimeoutError):
            failures += 1
        failed = odds.failed()
        odds.fail_malloc(0, 0)
        if not failed:
            break
    else:
        pytest.fail("four hundred allocations for one handshake")
    assert failures > 5 and entered > 0, (failures, entered)
    site.one_life("tls_handshakes_failed_total", "tls_unknown_identity_total", "tls_wrong_key_total", "tls_bad_record_total",
                  "connections_shed_total", "connects_refused_total", "deadline_timeouts_total", "protocol_errors_total",
                  number=tries, stored=0)  # once for him who did not come in, or for him who had a wrong key after he did
    assert site.gateway.pids() == pids, site.gateway.lines[-20:]
    assert site.publish(site.enter()) == 0
    assert site.stop() == 0


@plain_only
def test_a_clock_that_jumps_moves_nobody(tmp_path):
    """S-07: a year ahead, a year back, to 1970, while devices are connected and messages wait."""
    odds = Odds(tmp_path / "odds")
    site = Site(tmp_path, start=False)
    site.gateway.env = odds.environment()
    site.gateway.start()
    site.gateway.wait_metric("cloud_links_connected", 1)
    dev, now = site.enter(), int(time.time())
    for jump in (365 * 86400, -365 * 86400, -now + 5, 0):
        odds.clock(jump)
        time.sleep(0.3)
        assert site.publish(dev) == 0, jump
        dev.mqtt.ping()
        again = TestDevice(site.gateway, site.bundle)
        again.abort()
    site.all_arrive([b"%d" % n for n in range(1, site.sent + 1)])
    site.one_life(stored=site.sent)
    odds.clock(-now + 100)  # and it starts in 1970
    site.gateway.kill()
    site.gateway.start()
    assert site.publish(site.enter()) == 0
    assert site.stop() == 0


# ---- the disk ----

@plain_only
@pytest.mark.parametrize("fault", ["fail_syncs", "fail_writes", "short_writes", "full"])
def test_what_the_disk_did_not_take_is_not_acknowledged(tmp_path, fault):
    """S-02 and S-03: syncs and writes that fail or stop halfway, a full disk: 0x97, no crash, and it takes messages again."""
    site = Site(tmp_path, start=False)
    faults = Faults(tmp_path / "block", site.gateway.folder, BUILD / "test" / "libspfaults.so")
    os.chmod(tmp_path / "block", 0o666)
    site.gateway.env = faults.environment()
    site.gateway.start()
    site.gateway.wait_metric("cloud_links_connected", 1)
    site.cloud.answer = lambda message: None  # so that the journal has to hold them
    dev, pids, acked = site.enter(), site.gateway.pids(), []
    assert site.publish(dev) == 0
    acked.append(b"%d" % site.sent)
    faults[fault] = 1 if fault in ("full",) else 1000
    refused = 0
    for _ in range(12):
        reason = site.publish(dev)
        refused += reason == 0x97
        assert reason in (0, 0x97), hex(reason)
        if reason == 0:
            acked.append(b"%d" % site.sent)
    assert refused > 0 or fault in ("full", "short_writes"), "it never noticed"
    faults.heal()

    def takes():
        reason = site.publish(dev)
        if reason == 0:
            acked.append(b"%d" % site.sent)
        return reason == 0
    wait_for(takes, 15, "it takes messages again")
    assert site.gateway.pids() == pids
    site.one_life("journal_refused_total", "messages_refused_total", number=site.sent - len(acked), stored=len(acked))
    site.gateway.kill()  # and it starts again on what is there
    site.cloud.answer = lambda message: 0
    site.gateway.start()
    site.all_arrive(acked, 30)
    assert site.stop() == 0


def fill(site, count):
    """Messages in the journal, the gateway stopped; their payloads."""
    site.cloud.answer = lambda message: None
    dev = site.enter()
    for _ in range(count):
        assert site.publish(dev) == 0
    site.gateway.kill()
    return [b"%d" % n for n in range(1, count + 1)]


def starts(gateway):
    """It serves; else it has said why in its log."""
    try:
        gateway.start(10)
        return True
    except RuntimeError:
        return False


def damage(site, how, rng):
    journal = site.gateway.folder / "journal" / "journal.db"
    log = journal.with_name("journal.db-wal")
    if how == "a torn log":
        size = log.stat().st_size
        os.truncate(log, rng.randrange(size // 2, size))
    elif how == "a flipped log":
        data = bytearray(log.read_bytes())
        data[rng.randrange(len(data) // 2, len(data))] ^= 1 << rng.randrange(8)
        log.write_bytes(data)
    elif how == "no log":
        log.unlink()
    else:
        for path in (log, journal.with_name("journal.db-shm")):
            path.unlink(missing_ok=True)
        journal.write_bytes({"an empty file": b"", "a foreign file": b"#!/bin/sh\necho\n" * 400}[how])


@pytest.mark.parametrize("how,lives", [("a torn log", True), ("a flipped log", True), ("no log", None), ("an empty file", True),
                                       ("a foreign file", False)])
def test_a_damaged_journal_is_cut_or_refused_and_never_a_crash(tmp_path, how, lives):
    """S-04: a torn tail is cut silently, and what stood before it is delivered; what is no journal is refused and left alone."""
    site, rng = Site(tmp_path), random.Random(how)
    sent = fill(site, 20)
    damage(site, how, rng)
    path = site.gateway.folder / "journal" / "journal.db"
    before = path.read_bytes()
    site.cloud.answer = lambda message: 0
    alive = starts(site.gateway)
    assert lives is None or alive == lives, site.gateway.lines[-10:]
    if not alive:
        assert path.read_bytes() == before
        assert any("journal_refused" in line for line in site.gateway.lines)
        site.cloud.close()
        return
    dev = site.enter()
    site.sent += 100
    assert site.publish(dev) == 0
    site.all_arrive([b"%d" % site.sent])
    site.one_life(stored=1)
    kept = [p for p in site.arrived() if p in sent]
    assert kept == sent[:len(kept)], "a gap"  # a prefix: what was cut was the end
    assert site.stop() == 0


def test_a_registry_that_breaks_lets_nobody_new_in(site):
    """S-05: half-written, then gone: who was known is known, nobody else is, and nothing crashes."""
    other = site.gateway.add("other", "--attestation", "none")
    TestDevice(site.gateway, other).abort()  # so that it is known
    dev, pids = site.enter(), site.gateway.pids()
    registry = site.gateway.folder / "registry.db"
    good = registry.read_bytes()
    for change in (lambda: registry.write_bytes(good[:len(good) // 2] + os.urandom(100)), registry.unlink):
        change()
        time.sleep(0.6)
        with pytest.raises(TlsError):
            TestDevice(site.gateway, site.bundle, identity=b"stranger")
        assert site.publish(dev) == 0
        TestDevice(site.gateway, other).abort()
        assert site.gateway.pids() == pids
    registry.write_bytes(good)
    registry.chmod(0o600)
    site.one_life("tls_unknown_identity_total", number=2, stored=site.sent)


def test_with_no_file_descriptors_left_the_cloud_and_the_journal_go_on(tmp_path):
    """S-06: accepting pauses; the device that is there goes on, and afterwards others come in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    site = Site(tmp_path, start=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        site.gateway.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1024), hard))
    site.gateway.wait_metric("cloud_links_connected", 1)
    dev, crowd = site.enter(), []
    for _ in range(300):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", site.gateway.port))
        crowd.append(sock)
    for _ in range(20):
        assert site.publish(dev) == 0
    site.all_arrive([b"%d" % n for n in range(1, site.sent + 1)])
    for sock in crowd:
        sock.close()
    # each once: closed to make room, for having said nothing, or by himself
    site.one_life("connections_shed_total", "deadline_timeouts_total", "tls_handshakes_failed_total", number=len(crowd), stored=site.sent)
    wait_for(lambda: _enters(site), 20, "others come in again")
    assert site.stop() == 0


def _enters(site):
    try:
        site.enter(timeout=5).abort()
        return True
    except (OSError, TlsError, mqtt.Closed, TimeoutError, AssertionError):
        return False


def test_a_process_that_ends_badly_leaves_no_dump_with_keys(site):
    """S-08: no core file, and nobody of the same user may look; tests/test_processes.py greps the memory itself."""
    only_root()
    for pid in site.gateway.pids().values():
        with open(f"/proc/{pid}/limits", encoding="utf-8") as limits:
            assert "Max core file size        0                    0" in limits.read()
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0  # not dumpable: root's, whoever runs it


def test_a_state_that_others_could_write_is_not_used(tmp_path):
    """S-09: links in the place of files, keys that others can read, whatever the umask."""
    old = os.umask(0)
    try:
        site = Site(tmp_path)
        site.gateway.stop()
    finally:
        os.umask(old)
    home = site.gateway.folder
    for path in [home, home / "registry.db", home / "journal", home / "journal" / "journal.db"]:
        assert path.stat().st_mode & 0o077 == 0, path
    journal = home / "journal" / "journal.db"
    for suffix in ("-wal", "-shm"):
        journal.with_name("journal.db" + suffix).unlink(missing_ok=True)
    shutil.move(journal, tmp_path / "moved")
    journal.symlink_to(tmp_path / "moved")
    assert not starts(site.gateway), "a link in the place of the journal"
    journal.unlink()
    shutil.move(tmp_path / "moved", journal)
    (home / "registry.db").chmod(0o644)
    assert not starts(site.gateway), "a registry that others can read"
    (home / "registry.db").chmod(0o600)
    assert starts(site.gateway)
    assert site.stop() == 0


def rows_again(db):
    """What is in batches (gateway/store/batch.h) as rows, a message in each: so it was before version 3."""
    for first, count, data in db.execute("SELECT first, count, data FROM batches").fetchall():
        for seq in range(first, first + count):
            time_ms, _, expiry, *numbers, device, topic, origin, payload = struct.unpack_from("!QQIBBBBHHHI", data)
            at = [34, 34 + device, 34 + device + topic, 34 + device + topic + origin, 34 + device + topic + origin + payload]
            texts = [data[a:b].decode() for a, b in zip(at[:3], at[1:4])]
            db.execute("INSERT INTO messages(seq,time_ms,expiry_s,qos,format,protection,flags,device,topic,origin,payload,stream)"
                       " VALUES(?,?,?,?,?,?,?,?,?,?,?,0)", (seq, time_ms, expiry, *numbers, *texts, data[at[3]:at[4]]))
            data = data[at[4]:]
    db.executescript("DROP TABLE batches; DROP TABLE gone")


def test_a_journal_of_another_version_is_kept(tmp_path):
    """S-10: one from later is refused and stays as it is; one from before is taken over with what is in it."""
    site = Site(tmp_path)
    sent = fill(site, 5)
    site.gateway.start()
    site.gateway.stop()
    path = site.gateway.folder / "journal" / "journal.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    assert not starts(site.gateway)
    assert path.read_bytes() == before
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows_again(db)
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (5,)
        db.execute("DROP TABLE marks")
        db.execute("ALTER TABLE messages DROP COLUMN counter")
        db.execute("PRAGMA user_version=1")
        db.commit()
    site.cloud.answer = lambda message: 0
    assert starts(site.gateway)
    site.all_arrive(sent)
    site.one_life(stored=0)
    assert site.stop() == 0
