# SPDX-License-Identifier: Apache-2.0
"""Clients nobody here wrote, over every suite of the set `all` that they and GnuTLS share (docs/clients.md is this table)."""
import json
import os
import re
import select
import subprocess
import time

import pytest

from tests.lib.attester import Bundle, climate
from tests.lib.mqtt import Mqtt, connect
from tests.lib.tlspsk import SUITE, TlsPsk
from tools.lab.cloud import make_certificates
from tools.lab.gateway import Gateway
from tools.lab.process import Process, run, wait_for

# IANA name, OpenSSL's name
SUITES = [(f"TLS_{kx}_WITH_{cipher}", f"{prefix}{name}") for kx, prefix in
          (("PSK", "PSK-"), ("DHE_PSK", "DHE-PSK-"), ("ECDHE_PSK", "ECDHE-PSK-"), ("RSA_PSK", "RSA-PSK-"))
          for cipher, name in (("AES_128_CBC_SHA", "AES128-CBC-SHA"), ("AES_256_CBC_SHA", "AES256-CBC-SHA"),
                               ("AES_128_CBC_SHA256", "AES128-CBC-SHA256"), ("AES_256_CBC_SHA384", "AES256-CBC-SHA384"),
                               ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"), ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
                               ("AES_128_CCM", "AES128-CCM"), ("AES_256_CCM", "AES256-CCM"), ("AES_128_CCM_8", "AES128-CCM8"),
                               ("AES_256_CCM_8", "AES256-CCM8"), ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"))
          if not (kx == "ECDHE_PSK" and ("GCM" in cipher or "CCM" in cipher)) and not (kx == "RSA_PSK" and "CCM" in cipher)]

GNUTLS_KX = {"PSK": "PSK", "DHE_PSK": "DHE-PSK", "ECDHE_PSK": "ECDHE-PSK", "RSA_PSK": "RSA-PSK"}
GNUTLS_CIPHER = {"AES_128_CBC_SHA": "AES-128-CBC:+SHA1", "AES_256_CBC_SHA": "AES-256-CBC:+SHA1",
                 "AES_128_CBC_SHA256": "AES-128-CBC:+SHA256", "AES_256_CBC_SHA384": "AES-256-CBC:+SHA384",
                 "AES_128_GCM_SHA256": "AES-128-GCM:+AEAD", "AES_256_GCM_SHA384": "AES-256-GCM:+AEAD",
                 "AES_128_CCM": "AES-128-CCM:+AEAD", "AES_256_CCM": "AES-256-CCM:+AEAD",
                 "AES_128_CCM_8": "AES-128-CCM-8:+AEAD", "AES_256_CCM_8": "AES-256-CCM-8:+AEAD",
                 "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305:+AEAD"}


@pytest.fixture(scope="module")
def open_house(tmp_path_factory):
    """A gateway with the set `all` (and a certificate for RSA-PSK), and a device `tool` that need not attest."""
    folder = tmp_path_factory.mktemp("clients")
    crt = make_certificates(folder / "certificates")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=gateway",
        "-keyout", crt / "rsa.key", "-out", crt / "rsa.crt")
    gateway = Gateway(folder / "home", suites="all", listener=f", certificate: {crt}/rsa.crt, key: {crt}/rsa.key",
                      extra='roles:\n  client: {publish: ["#", "$lab/#"], subscribe: ["#", "$lab/#"]}\n')
    bundle = Bundle(gateway.add("tool", "--attestation", "none", role="client"))
    other = Bundle(gateway.add("listener", "--attestation", "none", role="client"))
    gateway.start()
    yield gateway, bundle, other
    gateway.stop()


def talk(words):
    """Send an MQTT 3.1.1 CONNECT through a client that pipes stdin to TLS; what came back."""
    client = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        client.stdin.write(connect(4, b"tool"))
        client.stdin.flush()
        seen = b""
        deadline = time.monotonic() + 15
        while b"\x20\x02\x00\x00" not in seen and time.monotonic() < deadline:
            if select.select([client.stdout], [], [], 0.5)[0]:
                data = os.read(client.stdout.fileno(), 65536)
                if not data:
                    break
                seen += data
        return seen
    finally:
        client.kill()
        client.wait()


@pytest.mark.parametrize("iana,name", SUITES, ids=[s[0] for s in SUITES])
def test_openssl(open_house, iana, name):
    gateway, bundle, _ = open_house
    seen = talk(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-tls1_2", "-psk_identity", bundle.id,
                 "-psk", bundle.psk.hex(), "-cipher", f"{name}:@SECLEVEL=0", "-quiet"])
    assert b"\x20\x02\x00\x00" in seen, seen


def kx_and_cipher(iana):
    return re.match(r"TLS_(\w+?_?PSK|PSK)_WITH_(\w+)", iana).groups()


# Debian's gnutls-cli 3.7.9 crashes after every (EC)DHE-PSK handshake, with gnutls-serv too: it prints a user name that a
# client does not have. So these go through the library in test_gnutls_library().
@pytest.mark.parametrize("iana", [s[0] for s in SUITES if "DHE_PSK" not in s[0]])
def test_gnutls_cli(open_house, iana):
    gateway, bundle, _ = open_house
    kx, cipher = kx_and_cipher(iana)
    priority = (f"NORMAL:-VERS-TLS-ALL:+VERS-TLS1.2:-KX-ALL:+{GNUTLS_KX[kx]}:-CIPHER-ALL:-MAC-ALL:+{GNUTLS_CIPHER[cipher]}")
    seen = talk(["gnutls-cli", "--insecure", "-p", gateway.port, "127.0.0.1", "--pskusername", bundle.id,
                 "--pskkey", bundle.psk.hex(), "--priority", priority, "--logfile", "/dev/null"])
    assert b"\x20\x02\x00\x00" in seen, seen


@pytest.mark.parametrize("iana", [s[0] for s in SUITES if "DHE_PSK" in s[0]])
def test_gnutls_library(open_house, iana):
    gateway, bundle, _ = open_house
    kx, cipher = kx_and_cipher(iana)
    tls = TlsPsk(gateway.port, bundle.id.encode(), bundle.psk, f"{SUITE}+{GNUTLS_KX[kx]}:+{GNUTLS_CIPHER[cipher]}")
    client = Mqtt(tls, 4)
    client.send(connect(4, bundle.id.encode()))
    assert client.receive().reason == 0
    client.disconnect()


def test_openssl_tls13(open_house):
    gateway, bundle, _ = open_house
    seen = talk(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-tls1_3", "-psk_identity", bundle.id,
                 "-psk", bundle.psk.hex(), "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-quiet"])
    assert b"\x20\x02\x00\x00" in seen, seen


def test_gnutls_cli_tls13(open_house):
    gateway, bundle, _ = open_house
    seen = talk(["gnutls-cli", "--insecure", "-p", gateway.port, "127.0.0.1", "--pskusername", bundle.id, "--pskkey",
                 bundle.psk.hex(), "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK",
                 "--logfile", "/dev/null"])
    assert b"\x20\x02\x00\x00" in seen, seen


VERSIONS = pytest.mark.parametrize("version", ["311", "5"])
TLS12 = ("--tls-version", "tlsv1.2", "--ciphers", "PSK-AES128-CCM")


def words(gateway, bundle, version, *more):
    """What every mosquitto client is told: where, who, which version of MQTT."""
    return ["-h", "127.0.0.1", "-p", str(gateway.port), "-V", version, "--psk", bundle.psk.hex(), "--psk-identity", bundle.id,
            "-i", bundle.id, *more]


def publish(gateway, bundle, version, topic, *more, data=None, check=True):
    return run("mosquitto_pub", *words(gateway, bundle, version, "-t", topic, *more), data=data, timeout=30, check=check)


class Sub:
    """A mosquitto_sub that has its subscription."""

    def __init__(self, gateway, bundle, version, *more):
        self.process = Process(["stdbuf", "-oL", "mosquitto_sub", *words(gateway, bundle, version, "-d", *more)])
        self.process.wait_line("received SUBACK", 30)

    def heard(self):
        """What it has printed but for what -d adds."""
        return [line for line in list(self.process.out) if not line.startswith(("Client ", "Subscribed "))]

    def lines(self, count, seconds=20):
        """Its first `count` lines."""
        wait_for(lambda: len(self.heard()) >= count, seconds, f"{count} lines of mosquitto_sub")
        return self.heard()[:count]

    def stop(self):
        self.process.stop()


@pytest.fixture
def sub(open_house):
    """`sub(bundle, version, options…)`; none outlives the test."""
    gateway, _, _ = open_house
    started = []

    def start(*how):
        started.append(Sub(gateway, *how))
        return started[-1]
    yield start
    for one in started:
        one.stop()


@VERSIONS
@pytest.mark.parametrize("cipher", [None, "PSK-AES128-CCM", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_mosquitto_pub_and_sub(open_house, sub, version, cipher):
    gateway, bundle, other = open_house
    how = () if cipher is None else ("--ciphers", cipher, "--tls-version", "tlsv1.2")
    listener = sub(other, version, *how, "-t", "lab/+/#", "-t", "$lab/#", "-q", "2", "-F", "%t %q %p")
    for topic in ("lab/a", "lab/a/b", "$lab/c"):
        for qos in "012":
            publish(gateway, bundle, version, topic, *how, "-m", f"hello {qos}", "-q", qos)
    assert listener.lines(9) == [f"{topic} {qos} hello {qos}" for topic in ("lab/a", "lab/a/b", "$lab/c") for qos in "012"]


@VERSIONS
@pytest.mark.parametrize("how", [(), TLS12], ids=["tls13", "tls12"])
@pytest.mark.parametrize("qos", ["1", "2"])
def test_mosquitto_sub_resumes_its_session(open_house, version, how, qos):
    """-E leaves once it is subscribed; -c and -x keep the session, and what comes meanwhile waits in order."""
    gateway, bundle, other = open_house
    keep = ["-c", "-q", qos, "-t", "lab/kept/#"] + (["-x", "600"] if version == "5" else [])
    run("mosquitto_sub", *words(gateway, other, version, *how, *keep, "-E"))
    lines = [f"message {n}" for n in range(60)]
    publish(gateway, bundle, version, "lab/kept/x", *how, "-q", qos, "-l", data="\n".join(lines))
    got = run("mosquitto_sub", *words(gateway, other, version, *how, *keep, "-C", "60", "-W", "30")).stdout.splitlines()
    assert got == lines
    run("mosquitto_sub", *words(gateway, other, version, *how, "-t", "lab/kept/#", "-E"))  # and the session is no more


@VERSIONS
def test_mosquitto_sub_resumes_after_the_gateway_was_killed(open_house, version):
    gateway, bundle, other = open_house
    keep = ["-c", "-q", "1", "-t", "lab/cut"] + (["-x", "600"] if version == "5" else [])
    run("mosquitto_sub", *words(gateway, other, version, *keep, "-E"))
    lines = [f"message {n}" for n in range(20)]
    publish(gateway, bundle, version, "lab/cut", "-q", "1", "-l", data="\n".join(lines))
    gateway.kill()
    gateway.start()
    publish(gateway, bundle, version, "lab/cut", "-q", "1", "-m", "after")
    got = run("mosquitto_sub", *words(gateway, other, version, *keep, "-C", "21", "-W", "30")).stdout.splitlines()
    assert got == lines + ["after"]
    run("mosquitto_sub", *words(gateway, other, version, "-t", "lab/cut", "-E"))


def test_mosquitto_sub_without_c_keeps_nothing(open_house, sub):
    gateway, bundle, other = open_house
    run("mosquitto_sub", *words(gateway, other, "5", "-q", "1", "-t", "lab/left", "-E"))
    publish(gateway, bundle, "5", "lab/left", "-m", "meanwhile", "-q", "1")
    listener = sub(other, "5", "-c", "-x", "0", "-q", "1", "-t", "lab/left")
    publish(gateway, bundle, "5", "lab/left", "-m", "now", "-q", "1")
    assert listener.lines(1) == ["now"]


@VERSIONS
def test_mosquitto_and_retained_messages(open_house, sub, version):
    gateway, bundle, other = open_house
    for name in ("one", "two"):
        publish(gateway, bundle, version, f"lab/retained/{name}", "-m", name, "-r", "-q", "1")
    got = run("mosquitto_sub", *words(gateway, other, version, "-t", "lab/retained/+", "-C", "2", "-W", "20", "-F", "%r %p")).stdout
    assert sorted(got.splitlines()) == ["1 one", "1 two"]
    publish(gateway, bundle, version, "lab/retained/one", "-n", "-r", "-q", "1")
    listener = sub(other, version, "-t", "lab/retained/+", "-F", "%r %p")
    assert listener.lines(1) == ["1 two"]
    publish(gateway, bundle, version, "lab/retained/two", "-n", "-r", "-q", "1")
    publish(gateway, bundle, version, "lab/retained/end", "-m", "end", "-q", "1")
    assert listener.lines(3) == ["1 two", "0 ", "0 end"]


@VERSIONS
def test_mosquitto_and_wills(open_house, sub, version):
    gateway, bundle, other = open_house
    listener = sub(other, version, "-t", "lab/gone", "-q", "2", "-F", "%p %q %P")
    will = ["--will-topic", "lab/gone", "--will-payload", "vanished", "--will-qos", "2", "-t", "lab/none"]
    if version == "5":
        will += ["-D", "will", "user-property", "why", "cable"]
    sub(bundle, version, *will).stop()  # with a DISCONNECT: no will
    vanishing = sub(bundle, version, *will)
    vanishing.process.kill()
    assert listener.lines(1) == ["vanished 2 " + ("why:cable" if version == "5" else "")]


def test_mosquitto_properties_are_passed_on(open_house, sub):
    gateway, bundle, other = open_house
    listener = sub(other, "5", "-t", "lab/props", "-F", "%C|%F|%R|%D|%P|%p")
    publish(gateway, bundle, "5", "lab/props", "-m", "x", "-D", "publish", "user-property", "room", "hall 1",
            "-D", "publish", "user-property", "room", "hall 2", "-D", "publish", "content-type", "text/plain",
            "-D", "publish", "payload-format-indicator", "1", "-D", "publish", "response-topic", "lab/answer",
            "-D", "publish", "correlation-data", "c-7", "-D", "publish", "message-expiry-interval", "60")
    assert listener.lines(1) == ["text/plain|1|lab/answer|c-7|room:hall 1 room:hall 2|x"]


def test_mosquitto_subs_share_a_subscription(open_house, sub):
    gateway, bundle, other = open_house
    third = Bundle(gateway.add("third", "--attestation", "none", role="client"))
    both = [sub(who, "5", "-t", "$share/crew/lab/job/+", "-q", "1") for who in (other, third)]
    jobs = [f"job {n}" for n in range(30)]
    publish(gateway, bundle, "5", "lab/job/x", "-q", "1", "-l", data="\n".join(jobs))

    def done():
        return [line for one in both for line in one.heard()]
    wait_for(lambda: len(done()) >= len(jobs), 20, "all jobs")
    assert sorted(done()) == sorted(jobs)
    for one in both:
        mine = [line for line in jobs if line in one.heard()]
        assert one.heard() == mine and mine, "each gets some, in order"


@VERSIONS
def test_mosquitto_packets_up_to_the_limit(open_house, sub, tmp_path, version):
    """16 KiB by default. MQTT 5 tells its client so; an older one is closed."""
    gateway, bundle, other = open_house
    largest = 16384 - (1 + 2) - (2 + len("lab/big")) - 2 - (1 if version == "5" else 0)
    listener = sub(other, version, "-t", "lab/big", "-F", "%l", "-q", "1")
    payload = tmp_path / "payload"
    for size, fits in ((largest, True), (largest + 1, False)):
        payload.write_bytes(b"x" * size)
        sent = publish(gateway, bundle, version, "lab/big", "-f", payload, "-q", "1", check=False)
        assert (sent.returncode == 0) == fits, sent
    publish(gateway, bundle, version, "lab/big", "-m", "end")
    assert listener.lines(2) == [str(largest), "3"]


@VERSIONS
@pytest.mark.parametrize("attestation", ["none", "optional"])
def test_mosquitto_pub_as_a_sensor_that_need_not_attest(gateway, cloud, device, tmp_path, version, attestation):
    bundle = Bundle(device("--attestation", attestation))
    record = tmp_path / "record"
    record.write_bytes(climate(bundle.id))
    publish(gateway, bundle, version, f"dt/{bundle.id}/climate", "-f", record, "-q", "1")
    wait_for(lambda: cloud.received(f"{bundle.id}/climate"), 10, "the record at the cloud")
    arrived = json.loads(cloud.received(f"{bundle.id}/climate")[0][1])
    assert (arrived["temperature_celsius"], arrived["attested"]) == (23.5, False)
    refused = publish(gateway, bundle, version, "lab/x", "-m", "not its topic", "-q", "1", check=False)
    assert "Not authorized" in refused.stderr if version == "5" else refused.returncode != 0
    listener = Sub(gateway, bundle, version, "-t", f"cmd/{bundle.id}/#", "-q", "1", "-C", "1")
    try:
        cloud.publish(f"cmd/sallyport/gw-1/{bundle.id}/blink", "3")
        assert listener.lines(1) == ["3"]
    finally:
        listener.stop()


@pytest.mark.parametrize("how", [(), TLS12], ids=["tls13", "tls12"])
@pytest.mark.parametrize("client", ["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"])
def test_a_wrong_key_fails_in_mosquitto(open_house, client, how):
    gateway, bundle, _ = open_house
    more = {"mosquitto_pub": ["-m", "y"], "mosquitto_sub": ["-W", "20"], "mosquitto_rr": ["-m", "y", "-e", "z", "-W", "20"]}[client]
    for identity, key in ((bundle.id, "00" * 32), ("nobody", bundle.psk.hex())):
        failed = run(client, "-h", "127.0.0.1", "-p", gateway.port, "-V", "5", "--psk", key, "--psk-identity", identity, *how,
                     "-i", identity, "-t", "x", *more, check=False)
        assert failed.returncode not in (0, 27), failed  # 27: -W ran out


def test_a_wrong_key_fails_in_openssl(open_house):
    gateway, bundle, _ = open_house
    out = talk(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-tls1_2", "-psk_identity", bundle.id,
                "-psk", "00" * 16, "-cipher", "PSK-AES128-CCM"])
    assert b"bad record mac" in out
