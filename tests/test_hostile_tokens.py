# SPDX-License-Identifier: Apache-2.0
"""Tokens that are no COSE_Mac0, or no map of claims, byte by byte: C-01 to C-15 of tests/hostile_cases.py, and keys that are known."""
import hashlib
import hmac

import cbor2
import pytest

from tests.lib import mqtt
from tests.lib.attester import TestDevice, claims, token
from tests.lib.canary import canary, forwarded, oracle, watcher  # noqa: F401  pylint: disable=unused-import

ALG = b"\xa1\x01\x05"
FORM = {"form", "size"}


def byte_string(data):
    return cbor2.dumps(data)


def mac0(iak, payload, protected=ALG, unprotected=b"\xa0", tag=b"\xd1", start=b"\x84", end=b"", mac=None, algorithm=hashlib.sha256):
    """A COSE_Mac0 whose every part may be other bytes; the MAC fits unless it is given."""
    to_mac = cbor2.dumps(["MAC0", protected, b"", payload])
    mac = hmac.new(iak, to_mac, algorithm).digest() if mac is None else mac
    return tag + start + byte_string(protected) + unprotected + byte_string(payload) + byte_string(mac) + end


class Maker:
    """What each row's function gets: the device's key, its challenge, and the good parts."""

    def __init__(self, dev, challenge):
        self.iak, self.nonce = dev.bundle.iak, challenge
        self.claims = cbor2.dumps(claims(challenge, dev.bundle.iak))
        self.good = token(challenge, dev.bundle.iak)
        self.mac = self.good[-32:]

    def wrap(self, payload=None, **parts):
        return mac0(self.iak, self.claims if payload is None else payload, **parts)

    def with_claim(self, encoded):
        """One more pair, authentic."""
        count = self.claims[0] & 31
        return self.wrap(bytes([0xA0 | count + 1]) + self.claims[1:] + encoded)


HUGE = ["5BFFFFFFFFFFFFFFFF", "9BFFFFFFFFFFFFFFFF", "BB8000000000000000", "5AFFFFFFFF", "BA7FFFFFFF", "7BFFFFFFFFFFFFFFFF"]

# id and what, how it is made, checks that may refuse it; {"ok"}: it is good
ROWS = [
    ("C-01 nothing", lambda m: b"", FORM),
    *[(f"C-01 the first {n} bytes", lambda m, n=n: m.good[:n], FORM) for n in (1, 2, 3, 5, 6, 7, 9, 40, 100, 200)],
    ("C-01 a byte less", lambda m: m.good[:-1], FORM),
    ("C-01 a byte more", lambda m: m.good + b"\0", FORM),
    ("C-02 COSE_Sign1", lambda m: m.wrap(tag=b"\xd2"), FORM),
    ("C-02 COSE_Mac", lambda m: m.wrap(tag=b"\xd8\x61"), FORM),
    ("C-02 no tag", lambda m: m.wrap(tag=b""), FORM),
    ("C-02 the tag twice", lambda m: m.wrap(tag=b"\xd1\xd1"), FORM),
    ("C-02 a CWT", lambda m: m.wrap(tag=b"\xd8\x3d\xd1"), FORM),
    ("C-02 the tag in three bytes", lambda m: m.wrap(tag=b"\xd9\x00\x11"), FORM),
    ("C-03 an array of three", lambda m: m.wrap(start=b"\x83"), FORM),
    ("C-03 an array of five", lambda m: m.wrap(start=b"\x85", end=b"\x00"), FORM),
    ("C-03 a map", lambda m: m.wrap(start=b"\xa2"), FORM),
    ("C-03 without an end", lambda m: m.wrap(start=b"\x9f", end=b"\xff"), FORM),
    ("C-04 no protected header", lambda m: m.wrap(protected=b""), FORM | {"algorithm"}),
    ("C-04 an empty one", lambda m: m.wrap(protected=b"\xa0"), FORM | {"algorithm"}),
    ("C-04 an array in it", lambda m: m.wrap(protected=b"\x83\x01\x02\x03"), FORM),
    ("C-04 a byte behind it", lambda m: m.wrap(protected=ALG + b"\x00"), FORM),
    ("C-05 the algorithm outside only", lambda m: m.wrap(protected=b"\xa0", unprotected=ALG), FORM | {"algorithm"}),
    ("C-05 the algorithm in both", lambda m: m.wrap(unprotected=ALG), FORM | {"algorithm"}),
    *[(f"C-05 algorithm {alg.hex()}", lambda m, alg=alg: m.wrap(protected=b"\xa1\x01" + alg), FORM | {"algorithm"})
      for alg in (b"\x26", b"\x04", b"\x06", b"\x07", b"\x61\x35", b"\xf6", b"\x00", b"\x1a\x00\x01\x00\x05")],
    ("C-05 the algorithm twice", lambda m: m.wrap(protected=b"\xa2\x01\x05\x01\x05"), FORM),
    ("C-06 crit with what nobody knows", lambda m: m.wrap(protected=b"\xa3\x01\x05\x02\x81\x18\x63\x18\x63\x00"), FORM),
    ("C-06 an empty crit", lambda m: m.wrap(protected=b"\xa2\x01\x05\x02\x80"), FORM),
    ("C-06 crit outside", lambda m: m.wrap(unprotected=b"\xa1\x02\x81\x01"), FORM),
    # protocol.md 3.4: a kid outside is ignored, so somebody else's name changes nothing
    ("C-07 somebody else's kid", lambda m: m.wrap(unprotected=b"\xa1\x04\x45other"), {"ok"}),
    ("C-07 a kid inside", lambda m: m.wrap(protected=b"\xa2\x01\x05\x04\x41a"), FORM),
    ("C-07 a kid of text", lambda m: m.wrap(unprotected=b"\xa1\x04\x61a"), FORM),
    ("C-07 a kid twice", lambda m: m.wrap(unprotected=b"\xa2\x04\x41a\x04\x41a"), FORM),
    ("C-07 a kid of 4 KiB", lambda m: m.wrap(unprotected=b"\xa1\x04" + byte_string(bytes(4096))), FORM),
    ("C-08 no MAC", lambda m: m.wrap(mac=b""), FORM | {"mac", "algorithm"}),
    ("C-08 four right bytes", lambda m: m.wrap(mac=m.mac[:4] + bytes(28)), {"mac"}),
    *[(f"C-08 {n} bytes of it", lambda m, n=n: m.wrap(mac=(m.mac + b"\0")[:n]), FORM | {"mac", "algorithm"}) for n in (8, 16, 31, 33)],
    ("C-08 zeros", lambda m: m.wrap(mac=bytes(32)), {"mac"}),
    ("C-08 one bit", lambda m: m.wrap(mac=m.mac[:-1] + bytes([m.mac[-1] ^ 1])), {"mac"}),
    ("C-08 that of another payload", lambda m: m.wrap(mac=mac0(m.iak, b"\xa0")[-32:]), {"mac"}),
    ("C-09 a payload elsewhere", lambda m: b"\xd1\x84" + byte_string(ALG) + b"\xa0\xf6" + byte_string(m.mac), FORM),
    ("C-09 a payload of text", lambda m: b"\xd1\x84" + byte_string(ALG) + b"\xa0\x61a" + byte_string(m.mac), FORM),
    ("C-09 an empty map", lambda m: m.wrap(b"\xa0"), FORM | {"claims", "profile"}),
    ("C-09 two maps", lambda m: m.wrap(m.claims + m.claims), FORM | {"claims"}),
    ("C-10 a nonce in pieces", lambda m: m.wrap(b"\xa1\x0a\x5f\x50" + m.nonce[:16] + b"\x50" + m.nonce[16:] + b"\xff"), FORM | {"claims"}),
    ("C-10 a string of no pieces", lambda m: m.with_claim(b"\x18\x63\x5f\xff"), FORM | {"claims"}),
    ("C-10 a thousand pieces", lambda m: m.with_claim(b"\x18\x63\x5f" + b"\x41\x00" * 1000 + b"\xff"), FORM | {"claims"}),
    ("C-10 pieces in pieces", lambda m: m.with_claim(b"\x18\x63\x5f\x5f\x41\x00\xff\xff"), FORM | {"claims"}),
    ("C-10 pieces of two kinds", lambda m: m.with_claim(b"\x18\x63\x7f\x61a\x41\x00\xff"), FORM | {"claims"}),
    ("C-10 a map without an end", lambda m: m.wrap(b"\xbf" + m.claims[1:] + b"\xff"), FORM | {"claims"}),
    *[(f"C-11 {n} arrays deep", lambda m, n=n: m.with_claim(b"\x18\x63" + b"\x81" * n + b"\x00"), FORM | {"claims"})
      for n in (9, 16, 100, 3000)],
    ("C-11 3000 tags", lambda m: m.with_claim(b"\x18\x63" + b"\xc1" * 3000 + b"\x00"), FORM | {"claims"}),
    ("C-11 4000 arrays and nothing else", lambda m: b"\x81" * 4000, FORM),
    *[(f"C-12 {head} in the payload", lambda m, head=head: m.with_claim(b"\x18\x63" + bytes.fromhex(head)), FORM | {"claims"}) for head in HUGE],
    *[(f"C-12 {head} as the token", lambda m, head=head: b"\xd1\x84" + bytes.fromhex(head), FORM) for head in HUGE[:3]],
    # protocol.md 3.4: integers that are longer than need be are tolerated (RFC 9783), so this one is good
    ("C-13 a lifecycle in nine bytes", lambda m: m.wrap(m.claims.replace(b"\x19\x30\x00", b"\x1b\0\0\0\0\0\0\x30\x00")), {"ok"}),
    ("C-13 an unknown label in nine bytes", lambda m: m.with_claim(b"\x1b\0\0\0\0\0\1\0\0\x05"), {"ok"}),
    ("C-14 the nonce again, wrong", lambda m: m.with_claim(b"\x0a" + byte_string(bytes(32))), FORM | {"claims"}),
    ("C-14 the nonce again, right", lambda m: m.with_claim(b"\x0a" + byte_string(m.nonce)), FORM | {"claims"}),
    ("C-14 a wrong nonce first", lambda m: m.wrap(bytes([m.claims[0] + 1]) + b"\x0a" + byte_string(bytes(32)) + m.claims[1:]),
     FORM | {"claims"}),
    *[(f"C-15 {item} as a value", lambda m, item=item: m.with_claim(b"\x18\x63" + bytes.fromhex(item)), FORM | {"claims"})
      for item in ("1C", "1D", "1E", "FF", "F800", "FC", "DC")],
    ("C-15 a number for the nonce", lambda m: m.wrap(m.claims.replace(byte_string(m.nonce), b"\x05")), {"claims"}),
    ("C-15 not a number for the lifecycle", lambda m: m.wrap(m.claims.replace(b"\x19\x30\x00", b"\xf9\x7e\x00")), FORM | {"claims"}),
    ("C-15 a bignum for the lifecycle", lambda m: m.wrap(m.claims.replace(b"\x19\x30\x00", b"\xc2\x42\x30\x00")), FORM | {"claims"}),
]


def test_what_is_no_token_is_refused_by_the_right_check(gateway, device, oracle):
    """Each by one check, whose counter is raised by one; a good one by none."""
    oracle.keeps()  # for a minute it is known who was refused
    faults, bundle = [], None
    for number, (name, make, right) in enumerate(ROWS):
        bundle = device() if number % 20 == 0 else bundle  # thirty refusals a minute, then 0x97
        dev = TestDevice(gateway, bundle)
        dev.connect()
        maker = Maker(dev, dev.challenge(dev.nonce()))
        connack = dev.answer(make(maker))
        found = "ok" if connack.reason == 0 else connack.props.get(mqtt.REASON_STRING, b"").split(b":")[0].decode()
        if connack.reason not in (0, 0x87) or found not in right:
            faults.append(f"{name}: {connack}")
        if found != "ok":
            oracle.counts(f'attestations_refused_total{{check="{found}"}}')
        oracle.check_counters(5)
        dev.abort()
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("key", ["a9b454b26d6f90a4ea31193564cba91fec6f9a002a7dc0504b92a1937134585f", "00" * 32, "ff" * 32])
def test_a_key_that_is_published_enrols_nobody(gateway, names, key):
    """C-23: TF-M's and RFC 9783's examples, zeros: the loader knows them by their hashes."""
    name = names()
    result = gateway.cli("device", "add", name, "--role", "sensor", "--iak-file", "-", check=False, data=key)
    assert result.returncode != 0 and key not in result.stderr
    assert name not in gateway.cli("device", "list").stdout


def test_a_firmware_that_changes_while_it_is_inside_is_put_out(gateway, device, oracle):
    """C-27: the next challenge is answered with another measurement."""
    dev = TestDevice(gateway, device())
    oracle.keeps()  # for a minute it is known who was refused
    dev.attest()
    gateway.cli("reference", "add", "--implementation-id", "55" * 32, "--component", "X=" + "66" * 32)
    while True:
        found = dev.mqtt.receive()
        if found.kind == mqtt.PUBLISH and found.topic == "$sp/attest/challenge":
            break
    dev.mqtt.ack(found)
    changed = dev.token(found.payload, software=[{1: "NSPE", 2: hashlib.sha256(b"another").digest(), 5: bytes(32)}])
    oracle.counts('attestations_refused_total{check="software"}')
    dev.mqtt.publish("$sp/attest/token", changed, qos=1)
    said = dev.mqtt.expect_close()
    assert [p.payload.split(b":")[0] for p in said if p.kind == mqtt.PUBLISH] == [b"software"]
    assert [p.reason for p in said if p.kind == mqtt.DISCONNECT] == [0x87]
