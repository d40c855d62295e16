# SPDX-License-Identifier: Apache-2.0
"""Who cannot even shake hands: unknown names and wrong keys look the same from outside and are told apart inside."""
import pytest

from tests.lib.attester import Bundle, TestDevice
from tests.lib.tlspsk import SUITE, TlsError

BAD_RECORD_MAC = 20


def refused(gateway, counter, event_part, bundle, **how):
    before = gateway.metric(counter)
    with pytest.raises(TlsError) as error:
        TestDevice(gateway, bundle, **how)
    assert error.value.alert == BAD_RECORD_MAC
    gateway.wait_metric(counter, before + 1)
    assert gateway.metric(counter) == before + 1
    return gateway.wait_event("tls_refused")


def test_a_wrong_key_is_refused_counted_and_logged_with_the_name(gateway, device):
    bundle = Bundle(device())
    refused(gateway, "tls_wrong_key_total", "", bundle, psk=b"x" * 32)
    assert any(bundle.id in line for line in gateway.events("tls_refused"))


def test_an_unknown_identity_is_refused_in_the_same_way(gateway, device):
    bundle = Bundle(device())
    refused(gateway, "tls_unknown_identity_total", "", bundle, identity=b"nobody-here")


def test_a_name_with_a_nul_is_not_the_name_before_it(gateway, device):
    bundle = Bundle(device())
    evil = bundle.id.encode() + b"\0evil"
    refused(gateway, "tls_unknown_identity_total", "", bundle, identity=evil)
    assert not any("\0" in line for line in gateway.lines)
    assert any(bundle.id in line and "evil" in line for line in gateway.events("tls_refused"))


@pytest.mark.parametrize("identity", [b"", b"/etc", b"-dev", b"a" * 65, b"a" * 200, b"\xff\xfe", b"dev\nx=1", b"%s%n"])
def test_names_outside_the_alphabet_are_unknown(gateway, device, identity):
    bundle = Bundle(device())
    before = gateway.metric("tls_unknown_identity_total") + gateway.metric("tls_handshakes_failed_total")
    with pytest.raises(TlsError):
        TestDevice(gateway, bundle, identity=identity)
    from tools.lab.process import wait_for
    wait_for(lambda: gateway.metric("tls_unknown_identity_total") + gateway.metric("tls_handshakes_failed_total") > before)
    assert all(line.isprintable() for line in gateway.lines)


@pytest.mark.parametrize("priority", [
    "NONE:+VERS-TLS1.1:+COMP-NULL:+SIGN-ALL:+PSK:+AES-128-CBC:+SHA1",
    SUITE + "+PSK:+AES-128-CBC:+SHA256",
    SUITE + "+PSK:+NULL:+SHA256",
    SUITE + "+PSK:+AES-128-CCM-8:+AEAD:%NO_SESSION_HASH",
    SUITE + "+ECDHE-PSK:+AES-128-CBC:+SHA256:%NO_ETM",
])
def test_what_profile_small_does_not_have_is_refused(gateway, device, priority):
    with pytest.raises(TlsError):
        TestDevice(gateway, device(), priority=priority)


def test_garbage_plain_mqtt_and_http_are_closed_and_others_undisturbed(gateway, device):
    import socket
    dev = TestDevice(gateway, device())
    dev.attest()
    for data in (b"GET / HTTP/1.0\r\n\r\n", bytes.fromhex("101000044d5154540402003c000464657631"), b"\x16\x03\x01\x40\x00\x01",
                 b"\0" * 600, b"\x16\x03\x01\x00\x02\x01\x00"):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
            sock.sendall(data)
            sock.settimeout(8)
            while sock.recv(4096):
                pass
    dev.mqtt.ping()
    dev.close()
