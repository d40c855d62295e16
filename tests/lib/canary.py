# SPDX-License-Identifier: Apache-2.0
"""A device that only does its work while others attack: what every attack is held against."""
import threading
import time

from . import mqtt
from .attester import TestDevice


class Canary:
    """Publishes ten messages a second, and counts what was acknowledged and the longest wait for it."""

    def __init__(self, gateway, bundle):
        self.device = TestDevice(gateway, bundle)
        self.device.attest()
        self.topic = f"dt/{self.device.bundle.id}/sign"
        self.at_cloud = f"gw-1/{self.device.bundle.id}/sign"
        self.acked, self.longest, self.fault, self.going = [], 0.0, None, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        try:
            while self.going:
                number += 1
                started = time.monotonic()
                self.device.mqtt.publish(self.topic, b"%d" % number, qos=1)
                assert self.device.mqtt.expect(mqtt.PUBACK).reason == 0
                self.acked.append(b"%d" % number)
                self.longest = max(self.longest, time.monotonic() - started)
                time.sleep(0.1)
        except BaseException as error:  # pylint: disable=broad-except
            self.fault = error

    def stop(self):
        self.going = False
        self.thread.join(15)
        return self.fault
