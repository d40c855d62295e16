# SPDX-License-Identifier: Apache-2.0
"""Protected records, grants and acknowledgements (docs/protocol.md 5 and 6), written apart from libs/record."""
import hashlib
import hmac

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from . import mqtt
from .attester import TestDevice, climate

CCM, MAC = 10, 5


def record_key(group_key, device, algorithm=CCM):
    whole = hmac.new(group_key, b"sp-record-1" + bytes([algorithm]) + device.encode(), hashlib.sha256).digest()
    return whole[:16] if algorithm == CCM else whole


def _protected(algorithm, group, epoch, counter):
    return cbor2.dumps({1: algorithm, 4: epoch.to_bytes(4, "big") + group.encode(), 6: counter.to_bytes(5, "big")})


def seal(key, topic, plain, group="hall", epoch=1, counter=1, algorithm=CCM):
    """A record as a device seals it."""
    protected = _protected(algorithm, group, epoch, counter)
    if algorithm == MAC:
        tag = hmac.new(key, cbor2.dumps(["MAC0", protected, topic.encode(), plain]), hashlib.sha256).digest()
        return cbor2.dumps(cbor2.CBORTag(17, [protected, {}, plain, tag]))
    iv = bytes(8) + counter.to_bytes(5, "big")
    aad = cbor2.dumps(["Encrypt0", protected, topic.encode()])
    return cbor2.dumps(cbor2.CBORTag(16, [protected, {}, AESCCM(key, 8).encrypt(iv, plain, aad)]))


def open_record(key, topic, payload):
    """(epoch, counter, plain) of a sealed record; InvalidTag when it does not open."""
    protected, _, sealed = cbor2.loads(payload).value
    header = cbor2.loads(protected)
    aad = cbor2.dumps(["Encrypt0", protected, topic.encode()])
    plain = AESCCM(key, 8).decrypt(bytes(8) + header[6], sealed, aad)
    return int.from_bytes(header[4][:4], "big"), int.from_bytes(header[6], "big"), plain


class KeyDevice(TestDevice):
    """A device that takes app keys."""
    __test__ = False

    def __init__(self, gateway, bundle, **more):
        import json
        super().__init__(gateway, bundle, **more)
        values = json.loads(open(bundle, encoding="utf-8").read())
        self.kek = bytes.fromhex(values["kek"])
        self.group, self.preshared = values["group"], values["app_keys"]
        self.keys, self.epoch, self.counter = {}, 0, 0

    def open_grant(self, payload):
        protected, unprotected, sealed = cbor2.loads(payload).value
        assert protected == b"\xa1\x01\x18\x1e" and list(unprotected) == [5]
        aad = cbor2.dumps(["Encrypt0", protected, b"sp-grant-1" + self.identity])
        return cbor2.loads(AESCCM(self.kek[:16], 16).decrypt(unprotected[5], sealed, aad))

    def ack(self, grant, status=0, next_counter=1):
        protected = b"\xa1\x01\x05"
        payload = cbor2.dumps({1: grant[1], 2: grant[2], 3: grant[3], 8: status, 9: next_counter})
        to_mac = cbor2.dumps(["MAC0", protected, b"sp-ack-1" + self.identity, payload])
        tag = hmac.new(self.kek[16:], to_mac, hashlib.sha256).digest()
        self.mqtt.publish("$sp/key/ack", cbor2.dumps(cbor2.CBORTag(17, [protected, {}, payload, tag])), qos=1)

    def take_grant(self, publish, status=0, next_counter=None):
        """Obey a grant and acknowledge it."""
        self.mqtt.ack(publish)
        grant = self.open_grant(publish.payload)
        if grant[3] not in self.keys:
            self.keys[grant[3]] = grant[6]
            if grant[3] > self.epoch:
                self.epoch, self.counter = grant[3], 0
        self.ack(grant, status, self.counter + 1 if next_counter is None else next_counter)
        return grant

    def wait_grant(self):
        while True:
            found = self.mqtt.receive()
            if found.kind == mqtt.PUBLISH and found.topic == "$sp/key/grant":
                grant = self.take_grant(found)
                assert self.mqtt.expect(mqtt.PUBACK).reason == 0
                return grant

    def join(self):
        self.attest()
        return self.wait_grant()

    @property
    def topic(self):
        return f"dt/{self.bundle.id}/climate"

    def sealed(self, temperature=2350, counter=None, epoch=None, topic=None, device=None, algorithm=CCM):
        """The next record; counter and epoch may be others."""
        if counter is None:
            self.counter += 1
        epoch = epoch or self.epoch
        return seal(self.keys[epoch], topic or self.topic, climate(device or self.bundle.id, temperature), self.group,
                    epoch, counter or self.counter, algorithm)

    def send(self, payload, topic=None):
        """Publish at QoS 1; the reason code of the PUBACK. Grants that come meanwhile are taken."""
        packet_id = self.mqtt.publish(topic or self.topic, payload, qos=1)
        while True:
            found = self.mqtt.receive()
            if found.kind == mqtt.PUBLISH and found.topic == "$sp/key/grant":
                self.take_grant(found)
            elif found.kind == mqtt.PUBACK and found.packet_id == packet_id:
                return found.reason
            else:
                assert found.kind in (mqtt.PUBACK, mqtt.PUBLISH), found


__all__ = ["CCM", "MAC", "InvalidTag", "KeyDevice", "open_record", "record_key", "seal"]
