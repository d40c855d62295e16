# SPDX-License-Identifier: Apache-2.0
"""A software attester and a device that speaks it: tokens made with cbor2 and hmac, apart from libs/attest."""
import hashlib
import hmac
import json

import cbor2

from . import mqtt
from .tlspsk import CCM8, TlsPsk

METHODS = {"tls": b"sp-psa-iat-1", "none": b"sp-psa-iat-raw-1"}
IMPLEMENTATION = bytes(range(32))
MEASUREMENT = hashlib.sha256(b"firmware 1").digest()
SIGNER = hashlib.sha256(b"signer").digest()


def ueid(iak):
    return b"\x01" + hashlib.sha256(hashlib.sha256(iak).digest()).digest()


def claims(nonce, iak, /, **changes):
    """RFC 9783 claims; a change of None leaves the claim out. Names as in the `--json` output of the tool."""
    labels = {"nonce": 10, "boot_seed": 268, "instance_id": 256, "implementation_id": 2396, "client_id": 2394,
              "lifecycle": 2395, "software": 2399, "profile": 265}
    values = {"nonce": nonce, "boot_seed": bytes(32), "instance_id": ueid(iak), "implementation_id": IMPLEMENTATION,
              "client_id": -1, "lifecycle": 0x3000,
              "software": [{1: "NSPE", 2: MEASUREMENT, 5: SIGNER}], "profile": "tag:psacertified.org,2023:psa#tfm"}
    values.update(changes)
    return {labels[name]: value for name, value in values.items() if value is not None}


def token(nonce, iak, /, mac_key=None, **changes):
    protected = b"\xa1\x01\x05"
    payload = cbor2.dumps(claims(nonce, iak, **changes))
    to_mac = cbor2.dumps(["MAC0", protected, b"", payload])
    tag = hmac.new(mac_key or iak, to_mac, hashlib.sha256).digest()
    return cbor2.dumps(cbor2.CBORTag(17, [protected, {}, payload, tag]))


class Bundle:
    def __init__(self, path):
        values = json.loads(open(path, encoding="utf-8").read())
        self.id = values["device_id"]
        self.psk, self.iak = bytes.fromhex(values["psk"]), bytes.fromhex(values["iak"])
        self.binding = values["binding"]


def challenge(binding, nonce, exporter, identity):
    parts = METHODS[binding] + nonce + (exporter if binding == "tls" else b"") + identity
    return hashlib.sha256(parts).digest()


class TestDevice:
    """A connection under a bundle's keys, every step of which a test can do wrongly."""
    __test__ = False

    def __init__(self, gateway, bundle, version=5, priority=CCM8, identity=None, psk=None, timeout=10.0,
                 source="127.0.0.1"):
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        self.identity = self.bundle.id.encode() if identity is None else identity
        self.tls = TlsPsk(gateway.port, self.identity, psk or self.bundle.psk, priority, timeout, source=source)
        self.mqtt = mqtt.Mqtt(self.tls, version)
        self.version = version

    def challenge(self, nonce):
        return challenge(self.bundle.binding, nonce, self.tls.exporter(), self.identity)

    def token(self, nonce, /, **changes):
        return token(self.challenge(nonce), self.bundle.iak, **changes)

    def connect(self, clean=True, props=None, **more):
        """Send CONNECT; with MQTT 5 under the device's method."""
        values = dict(props or {})
        if self.version == 5 and mqtt.METHOD not in values:
            values[mqtt.METHOD] = METHODS[self.bundle.binding]
        values = {k: v for k, v in values.items() if v is not None}
        more.setdefault("client_id", self.bundle.id)
        self.mqtt.send(mqtt.connect(self.version, clean=clean, props=values, **more))

    def nonce(self):
        """Take the challenge that follows: AUTH (5) or a PUBLISH (3.1.1)."""
        if self.version == 5:
            auth = self.mqtt.expect(mqtt.AUTH)
            assert auth.reason == 0x18 and auth.props[mqtt.METHOD] == METHODS[self.bundle.binding]
            return auth.props[mqtt.DATA]
        publish = self.mqtt.expect(mqtt.PUBLISH)
        assert publish.topic == "$sp/attest/challenge", publish
        if publish.qos:
            self.mqtt.ack(publish)
        return publish.payload

    def answer(self, data):
        """Send a token and give back CONNACK (5), or the verdict's PUBLISH (3.1.1)."""
        if self.version == 5:
            self.send_auth(data)
            return self.mqtt.receive()
        self.mqtt.publish("$sp/attest/token", data, qos=1)
        while True:
            found = self.mqtt.receive()
            if found.kind == mqtt.PUBLISH and found.topic == "$sp/attest/verdict":
                return found

    def send_auth(self, data, method=None, reason=0x18):
        props = {mqtt.METHOD: method or METHODS[self.bundle.binding]}
        if data is not None:
            props[mqtt.DATA] = data
        self.mqtt.send(mqtt.packet(mqtt.AUTH, bytes([reason]) + mqtt.properties(props)))

    def attest(self, clean=True, props=None, **more):
        """The whole way in; gives back CONNACK."""
        self.connect(clean=clean, props=props, **more)
        if self.version == 5:
            found = self.answer(self.token(self.nonce()))
            assert found.kind == mqtt.CONNACK and found.reason == 0, found
            return found
        connack = self.mqtt.expect(mqtt.CONNACK)
        assert connack.reason == 0
        verdict = self.answer(self.token(self.nonce()))
        assert verdict.payload == b"ok", verdict
        return connack

    def close(self):
        self.mqtt.disconnect()

    def abort(self):
        self.tls.abort()


def climate(device, temperature=2350, humidity=4100):
    """A clear record in the byte form of docs/protocol.md 5."""
    from decimal import Decimal
    record = [{-2: f"{device}/", 0: "temperature", 1: "Cel", 2: Decimal(temperature).scaleb(-2)},
              {0: "humidity", 1: "%RH", 2: Decimal(humidity).scaleb(-2)}]
    record[0][2] = cbor2.CBORTag(4, [-2, temperature])
    record[1][2] = cbor2.CBORTag(4, [-2, humidity])
    return cbor2.dumps(record)
