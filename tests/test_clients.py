# SPDX-License-Identifier: Apache-2.0
"""Clients nobody here wrote, over every suite of the set `all` that they and GnuTLS share (docs/clients.md is this table)."""
import re
import subprocess

import pytest

from tests.lib.attester import Bundle
from tests.lib.mqtt import Mqtt, connect
from tests.lib.tlspsk import SUITE, TlsPsk
from tools.lab.cloud import make_certificates
from tools.lab.gateway import Gateway
from tools.lab.process import run, wait_for

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
                      extra='roles:\n  client: {publish: ["#"], subscribe: ["#"]}\n')
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
        import os
        import select
        import time
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


@pytest.mark.parametrize("version", ["311", "5"])
@pytest.mark.parametrize("cipher", [None, "PSK-AES128-CCM", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_mosquitto_pub_and_sub(open_house, version, cipher):
    gateway, bundle, other = open_house
    common = ["-h", "127.0.0.1", "-p", str(gateway.port), "-V", version]
    if cipher is not None:
        common += ["--ciphers", cipher, "--tls-version", "tlsv1.2"]
    before = gateway.metric("subscriptions")
    listener = subprocess.Popen(["mosquitto_sub", *common, "--psk", other.psk.hex(), "--psk-identity", other.id, "-i", other.id,
                                 "-t", "lab/#", "-q", "1", "-C", "2", "-W", "20", "-v"], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: gateway.metric("subscriptions") > before, 10, "the subscription")
        for qos in ("0", "1"):
            run("mosquitto_pub", *common, "--psk", bundle.psk.hex(), "--psk-identity", bundle.id, "-i", bundle.id,
                "-t", f"lab/{qos}", "-m", "hello", "-q", qos, timeout=20)
        assert sorted(listener.communicate(timeout=25)[0].splitlines()) == ["lab/0 hello", "lab/1 hello"]
    finally:
        if listener.poll() is None:
            listener.kill()
            listener.wait()


def test_a_wrong_key_fails_in_every_client(open_house):
    gateway, bundle, _ = open_house
    wrong = "00" * 16
    failed = subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(gateway.port), "--psk", wrong, "--psk-identity",
                             bundle.id, "-i", bundle.id, "-t", "x", "-m", "y"], capture_output=True, timeout=20)
    assert failed.returncode != 0
    out = talk(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-tls1_2", "-psk_identity", bundle.id,
                "-psk", wrong, "-cipher", "PSK-AES128-CCM"])
    assert b"bad record mac" in out
