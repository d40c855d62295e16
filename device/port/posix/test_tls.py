# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""sallyport-device's TLS against servers that nobody here wrote: `openssl s_server` and `gnutls-serv`.

The servers speak no MQTT; what counts is the event `secured` with the suite that was asked for. Run by pytest with
SALLYPORT_BUILD (default: build) naming the build folder.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tools.lab.process import free_port  # noqa: E402

DEVICE = Path(os.environ.get("SALLYPORT_BUILD", ROOT / "build")) / "bin" / "sallyport-device"
PSK = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
BUNDLE = """{"version":1,"device_id":"dev-1","psk_identity":"dev-1","psk":"%s","iak":"%s",
"iak_algorithm":"hmac256","kek":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","binding":"tls","suites":["profile-small"],"role":"sensor","group":null,
"records":"any","app_keys":[]}"""
# A 2048-bit group (RFC 7919, ffdhe2048), for openssl, which would take 1024 bits for AES-128 by itself.
DH = """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""

# IANA name, openssl's name, GnuTLS's priority (None: that server does not have it)
SUITES = [
    ("TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-PSK-CHACHA20-POLY1305", "+ECDHE-PSK:+CHACHA20-POLY1305:+AEAD"),
    ("TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", "ECDHE-PSK-AES128-CBC-SHA256", "+ECDHE-PSK:+AES-128-CBC:+SHA256"),
    ("TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", "DHE-PSK-CHACHA20-POLY1305", "+DHE-PSK:+CHACHA20-POLY1305:+AEAD"),
    ("TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", "DHE-PSK-AES128-GCM-SHA256", "+DHE-PSK:+AES-128-GCM:+AEAD"),
    ("TLS_DHE_PSK_WITH_AES_128_CCM", "DHE-PSK-AES128-CCM", "+DHE-PSK:+AES-128-CCM:+AEAD"),
    ("TLS_PSK_DHE_WITH_AES_128_CCM_8", "DHE-PSK-AES128-CCM8", "+DHE-PSK:+AES-128-CCM-8:+AEAD"),
    ("TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", "PSK-CHACHA20-POLY1305", "+PSK:+CHACHA20-POLY1305:+AEAD"),
    ("TLS_PSK_WITH_AES_128_GCM_SHA256", "PSK-AES128-GCM-SHA256", "+PSK:+AES-128-GCM:+AEAD"),
    ("TLS_PSK_WITH_AES_128_CCM", "PSK-AES128-CCM", "+PSK:+AES-128-CCM:+AEAD"),
    ("TLS_PSK_WITH_AES_128_CCM_8", "PSK-AES128-CCM8", "+PSK:+AES-128-CCM-8:+AEAD"),
    ("TLS_PSK_WITH_AES_128_CBC_SHA256", "PSK-AES128-CBC-SHA256", "+PSK:+AES-128-CBC:+SHA256"),
]


def listening(port):
    """Asked of the kernel: a connection would be counted as a client by the server."""
    wanted = f"0100007F:{port:04X}"
    wildcard = (f"00000000:{port:04X}", f"{'0' * 32}:{port:04X}")
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and (fields[1] == wanted or fields[1] in wildcard):
                return True
    return False


class Server:
    """A process that listens on a loopback port; ended by its pid."""

    def __init__(self, command, port):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while not listening(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen: {self.end()}")
            time.sleep(0.02)

    def end(self):
        self.process.kill()
        return self.process.communicate()[0].decode(errors="replace")


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "dev-1.bundle"
    path.touch(mode=0o600)
    path.write_text(BUNDLE % (PSK, "a5" * 32))
    return path


def openssl(port, suite, tmp_path, psk=PSK, more=()):
    dh = tmp_path / "dh.pem"
    dh.write_text(DH)
    return Server(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-psk", psk, "-psk_identity", "dev-1", "-nocert",
         "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0", "-dhparam", str(dh), "-quiet", *more], port)


def gnutls(port, priority, tmp_path):
    passwords = tmp_path / "psk.txt"
    passwords.write_text(f"dev-1:{PSK}\n")
    return Server(
        ["gnutls-serv", "--port", str(port), "--pskpasswd", str(passwords), "--echo", "--priority",
         f"NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:{priority}:%SAFE_RENEGOTIATION"], port)


def run_device(bundle, port, *more):
    """Start the device, read its log until TLS is up or has failed, end it; the log."""
    process = subprocess.Popen(
        [str(DEVICE), "--bundle", str(bundle), "--gateway", f"127.0.0.1:{port}", "--backoff", "10s", *more],
        stderr=subprocess.PIPE, text=True)
    log = ""
    for line in process.stderr:
        log += line
        if re.search(r"event=(secured|connection_failed)", line):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    return log


@pytest.mark.parametrize("name,cipher,_", SUITES, ids=[s[0] for s in SUITES])
def test_each_suite_with_openssl(name, cipher, _, bundle, tmp_path):
    port = free_port()
    server = openssl(port, cipher, tmp_path)
    try:
        assert f'event=secured device=dev-1 text="{name}"' in run_device(bundle, port, "--suite", name)
    finally:
        server.end()


@pytest.mark.skipif(shutil.which("gnutls-serv") is None, reason="gnutls-bin is not installed")
@pytest.mark.parametrize("name,_,priority", SUITES, ids=[s[0] for s in SUITES])
def test_each_suite_with_gnutls(name, _, priority, bundle, tmp_path):
    port = free_port()
    server = gnutls(port, priority, tmp_path)
    try:
        assert f'event=secured device=dev-1 text="{name}"' in run_device(bundle, port, "--suite", name)
    finally:
        server.end()


def test_a_suite_that_the_bundle_does_not_allow_is_not_spoken(bundle, tmp_path):
    port = free_port()
    server = openssl(port, "PSK-CHACHA20-POLY1305", tmp_path)
    try:
        log = run_device(bundle, port)  # profile-small does not have it
        assert "event=connection_failed" in log and "secured" not in log
    finally:
        server.end()


def test_a_gateway_with_another_key_is_refused(bundle, tmp_path):
    port = free_port()
    server = openssl(port, "PSK-AES128-CCM", tmp_path, psk="ff" * 32)
    try:
        log = run_device(bundle, port)
        assert "event=connection_failed" in log and "secured" not in log
    finally:
        server.end()


def test_a_gateway_without_extended_master_secret_is_refused(bundle, tmp_path):
    config = tmp_path / "openssl.cnf"
    config.write_text("openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\n"
                      "Options = -ExtendedMasterSecret\n")
    port = free_port()
    os.environ["OPENSSL_CONF"] = str(config)
    try:
        server = openssl(port, "PSK-AES128-CCM", tmp_path)
    finally:
        del os.environ["OPENSSL_CONF"]
    try:
        assert "does not do extended master secret" in run_device(bundle, port)
    finally:
        server.end()


def test_a_cbc_suite_without_encrypt_then_mac_is_refused(bundle, tmp_path):
    config = tmp_path / "openssl.cnf"
    config.write_text("openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\n"
                      "Options = -EncryptThenMac\n")
    port = free_port()
    os.environ["OPENSSL_CONF"] = str(config)
    try:
        server = openssl(port, "ECDHE-PSK-AES128-CBC-SHA256", tmp_path)
    finally:
        del os.environ["OPENSSL_CONF"]
    try:
        assert "does not do encrypt-then-MAC" in run_device(bundle, port)
    finally:
        server.end()


def test_a_server_that_speaks_no_tls_is_left(bundle):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [str(DEVICE), "--bundle", str(bundle), "--gateway", f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert "event=connection_failed" in process.stderr.readline()
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        process.stderr.close()


def fails(*arguments, code):
    done = subprocess.run([str(DEVICE), *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_bundle_that_others_can_read_is_refused(bundle):
    bundle.chmod(0o640)
    assert "0600" in fails("--bundle", bundle, "--gateway", "127.0.0.1:1", code=1)


@pytest.mark.parametrize("text,why", [
    ("", "not a JSON object"),
    ("[]", "not a JSON object"),
    ('{"version":2}', "version is not 1"),
    ((BUNDLE % (PSK, "a5" * 32)).replace('"psk_identity":"dev-1"', '"psk_identity":"dev-2"'), "device_id"),
    (BUNDLE % ("00" * 15, "a5" * 32), "psk is not"),
    (BUNDLE % ("00" * 65, "a5" * 32), "psk is not"),
    (BUNDLE % ("xy" * 16, "a5" * 32), "psk is not"),
    (BUNDLE % (PSK, "a5" * 31), "iak is not"),
    ((BUNDLE % (PSK, "a5" * 32)).replace("hmac256", "md5"), "iak is not"),
    ((BUNDLE % (PSK, "a5" * 32)).replace('"tls"', '"ssl"'), "binding"),
    ((BUNDLE % (PSK, "a5" * 32)).replace('"sensor"', '"client"'), "role"),
    ((BUNDLE % (PSK, "a5" * 32)).replace("profile-small", "null-encryption"), "suites"),
    ("x" * 20000, "too large"),
])
def test_a_bundle_with_a_fault_is_refused_with_a_reason(text, why, bundle):
    bundle.write_text(text)
    assert why in fails("--bundle", bundle, "--gateway", "127.0.0.1:1", code=1)


def test_with_a_state_the_bundle_is_needed_once(bundle, tmp_path):
    state = tmp_path / "state"
    port = free_port()
    server = openssl(port, "PSK-AES128-CCM", tmp_path)
    try:
        assert "event=secured" in run_device(bundle, port, "--state", str(state))
        assert (state.stat().st_mode & 0o777, (state / "its.img").stat().st_mode & 0o777) == (0o700, 0o600)
        bundle.unlink()
        assert "event=secured" in run_device(bundle, port, "--state", str(state))
    finally:
        server.end()
    assert "no state" in fails("--bundle", bundle, "--gateway", "127.0.0.1:1", code=1)


def test_a_rotated_bundle_takes_the_place_of_the_state(bundle, tmp_path):
    state = tmp_path / "state"
    port = free_port()
    server = openssl(port, "PSK-AES128-CCM", tmp_path)
    try:
        assert "event=secured" in run_device(bundle, port, "--state", str(state))
        bundle.write_text(BUNDLE % ("11" * 32, "a5" * 32))
        assert "secured" not in run_device(bundle, port, "--state", str(state))
    finally:
        server.end()
    assert bytes.fromhex(PSK) not in (state / "its.img").read_bytes()


def test_a_damaged_state_is_not_used(bundle, tmp_path):
    state = tmp_path / "state"
    port = free_port()
    server = openssl(port, "PSK-AES128-CCM", tmp_path)
    try:
        run_device(bundle, port, "--state", str(state))
    finally:
        server.end()
    image = bytearray((state / "its.img").read_bytes())
    for at in (20 + 8, 8192 + 20 + 8):
        image[at] ^= 1
    (state / "its.img").write_bytes(image)
    assert "damaged" in fails("--bundle", bundle, "--state", state, "--gateway", "127.0.0.1:1", code=1)


def test_two_processes_do_not_share_a_state(bundle, tmp_path):
    state = tmp_path / "state"
    port = free_port()
    first = subprocess.Popen(
        [str(DEVICE), "--bundle", str(bundle), "--state", str(state), "--gateway", f"127.0.0.1:{port}"],
        stderr=subprocess.PIPE, text=True)
    first.stderr.readline()
    assert "another process" in fails("--bundle", bundle, "--state", state, "--gateway", "127.0.0.1:1", code=1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=10)


@pytest.mark.parametrize("arguments", [
    [], ["--bundle"], ["--nonsense"], ["--bundle", "x"], ["--bundle", "x", "--gateway", "x", "--period", "0s"],
    ["--bundle", "x", "--gateway", "x", "--count", "-1"], ["--bundle", "x", "--gateway", "x", "--suite", "RC4"],
    ["--bundle", "x", "--gateway", "x", "--tamper", "everything"], ["--help=1"],
    ["--bundle", "x", "--gateway", "x", "--sensor", "constant:1"],
])
def test_wrong_usage_is_2_and_says_what_to_do(arguments):
    assert "sallyport-device: " in fails(*arguments, code=2)


def test_the_measurement_is_that_of_the_program():
    digest = subprocess.run(["sha256sum", str(DEVICE)], capture_output=True, text=True, check=True).stdout.split()[0]
    printed = subprocess.run([str(DEVICE), "--print-measurement"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(rf"--implementation-id [0-9a-f]{{64}} --component NSPE={digest}\n", printed)
