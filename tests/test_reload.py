# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: docs/operations.md, "Changing the configuration". What changes, changes under the connections that are there."""
import json
import os
import signal

import pytest

from tests.conftest import add_reference
from tests.lib import mqtt
from tests.lib.attester import TestDevice, climate
from tests.lib.tlspsk import TlsError
from tools.lab.gateway import ROUTES, Gateway
from tools.lab.process import wait_for

ROLES = """roles:
  display: {publish: ["dt/{device}/#"], subscribe: ["dt/+/climate", "news/#"]}
  visitor: {publish: ["dt/{device}/#"], subscribe: ["news/#"]}
"""


class Home:
    """A gateway whose file is its base plus what each test puts behind it."""

    def __init__(self, folder, cloud):
        self.gateway = Gateway(folder, cloud, threads=2, extra="@", gateway_id="gw-r", routes="")
        self.base = self.gateway.config.read_text().rstrip("@")
        self.cloud = cloud
        self.write()
        add_reference(self.gateway)
        self.gateway.start()
        self.gateway.wait_metric("cloud_links_connected", 1)

    def write(self, roles=ROLES, routes=ROUTES, rest=""):
        self.gateway.config.write_text(self.base + roles + routes + rest)

    def hang_up(self, event):
        """SIGHUP; waits for the event that ends the reload."""
        seen = len(self.gateway.events(event))
        os.kill(self.gateway.process.pid, signal.SIGHUP)
        return self.gateway.wait_event(event, seen + 1)

    def reload(self, **sections):
        self.write(**sections)
        self.hang_up("reloaded")


@pytest.fixture
def home(tmp_path, cloud):
    made = Home(tmp_path / "home", cloud)
    yield made
    assert made.gateway.stop() == 0


def enter(home, name, role="sensor", **more):
    dev = TestDevice(home.gateway, home.gateway.add(name, role=role))
    dev.attest(**more)
    return dev


def published(dev, topic, payload=b"x"):
    """The reason code of a QoS 1 PUBLISH."""
    dev.mqtt.publish(topic, payload, qos=1)
    return dev.mqtt.expect(mqtt.PUBACK).reason


def admitted(home, at_least=1):
    """How many connections were let in so far, once the log has said so of the first `at_least`."""
    wait_for(lambda: len(home.gateway.events("device_admitted")) >= at_least, 10, "the log")
    return len(home.gateway.events("device_admitted"))


def test_roles_change_under_the_connections(home):
    display = enter(home, "display", "display")
    sensors = [enter(home, f"s{i}") for i in range(4)]  # on both loops
    assert display.mqtt.subscribe("dt/+/climate", "news/#") == [1, 1]
    before = admitted(home, 5)
    home.reload(roles=ROLES.replace('"dt/+/climate", ', "").replace(
        'visitor: {publish: ["dt/{device}/#"]', 'visitor: {publish: ["news/#", "dt/{device}/#"]'))
    dropped = home.gateway.wait_event("subscription_dropped")
    assert "device=display" in dropped and "filter=dt/+/climate" in dropped
    visitor = enter(home, "visitor", "visitor")
    for sensor in sensors:
        assert published(sensor, f"dt/{sensor.bundle.id}/climate", climate(sensor.bundle.id)) == 0
    assert published(visitor, "news/today") == 0
    assert display.mqtt.expect(mqtt.PUBLISH).topic == "news/today"  # and no record before it
    assert display.mqtt.subscribe("dt/+/climate") == [0x87]
    assert admitted(home) == before + 1  # the visitor; nobody had to come again
    home.reload()
    wait_for(lambda: published(visitor, "news/today") == 0x87, 5, "the old role")
    assert display.mqtt.subscribe("dt/+/climate") == [1]


def test_a_removed_role_closes_its_devices_and_ends_their_sessions(home):
    sensor = enter(home, "sensor")
    visitor = enter(home, "v1", "visitor")
    away = enter(home, "v2", "visitor", clean=False, props={mqtt.SESSION_EXPIRY: 600})
    away.mqtt.subscribe("news/#")
    away.abort()
    wait_for(lambda: home.gateway.metric("sessions_offline") == 1)
    home.reload(roles=ROLES.split("  visitor")[0])
    assert [p.reason for p in visitor.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x98]
    home.gateway.wait_event("role_gone")
    wait_for(lambda: home.gateway.metric("sessions_offline") == 0, 5, "no session of a role that is gone")
    with pytest.raises((TlsError, mqtt.Closed, OSError)):
        TestDevice(home.gateway, visitor.bundle, timeout=3).attest()
    assert "role_unknown" in home.gateway.wait_event("role_unknown")
    assert published(sensor, "dt/sensor/x") == 0
    home.reload()
    back = TestDevice(home.gateway, away.bundle)
    assert back.attest(clean=False).session_present == 0


def test_routes_change_and_nobody_comes_again(home):
    sensor = enter(home, "s1")
    before = admitted(home)
    assert published(sensor, "dt/s1/x", b"one") == 0
    wait_for(lambda: home.cloud.received("dt/sallyport/gw-r/s1/x"), 10, "the message at the cloud")
    home.reload(routes=ROUTES.replace("{gateway}/{rest}", "{gateway}/new/{rest}"))

    def moved():
        assert published(sensor, "dt/s1/x", b"two") == 0
        return home.cloud.received("dt/sallyport/gw-r/new/s1/x")
    wait_for(moved, 10, "the new route")
    assert admitted(home) == before


def test_commands_change_on_the_cloud_link_that_is_there(home):
    sensor = enter(home, "s2")
    assert sensor.mqtt.subscribe("cmd/s2/#") == [1]
    connects = home.gateway.metric("cloud_connects_total")

    def reaches(topic, text):
        home.cloud.publish(topic, text)
        return sensor.mqtt.expect(mqtt.PUBLISH).payload == text.encode()
    assert reaches("cmd/sallyport/gw-r/s2/led", "on")
    home.reload(routes=ROUTES.replace("cmd/sallyport/{gateway}/#", "orders/{gateway}/#"))

    def counted():
        home.cloud.publish("orders/gw-r/s2/led", "probe")
        return home.gateway.metric("cloud_commands_total") > 1
    wait_for(counted, 10, "the new subscription")
    assert sensor.mqtt.expect(mqtt.PUBLISH).payload == b"probe"
    received = home.gateway.metric("cloud_commands_total")
    home.cloud.publish("cmd/sallyport/gw-r/s2/led", "old")
    home.cloud.publish("orders/gw-r/s2/led", "new")
    while (got := sensor.mqtt.expect(mqtt.PUBLISH).payload) == b"probe":
        pass
    assert got == b"new"
    home.gateway.wait_metric("cloud_commands_total", received + 1)
    assert home.gateway.metric("cloud_connects_total") == connects


def test_a_faulty_file_changes_nothing_and_is_named(home):
    sensor = enter(home, "s3")
    visitor = home.gateway.add("v3", role="visitor")
    home.write(roles=ROLES.replace("visitor:", "guests:"), rest="limits: {subscriptions: many}\n")
    line = home.gateway.config.read_text().split("limits:")[0].count("\n") + 1
    home.hang_up("reload_refused")
    assert f"{home.gateway.config}:{line}:" in home.gateway.events("config_fault")[-1]
    TestDevice(home.gateway, visitor).attest()  # the old roles
    assert published(sensor, "dt/s3/x") == 0
    assert not home.gateway.events("reloaded")


def test_limits_change_and_what_waits_for_a_restart_is_said(home):
    sensor = enter(home, "s4")
    home.reload(rest="limits: {subscriptions: 1, packet: 8KiB, journal: 2GiB}\n")
    waits = home.gateway.wait_event("reload_needs_restart")
    assert "section=limits" in waits and "packet" in waits
    fresh = enter(home, "s5")
    assert fresh.mqtt.subscribe("cmd/s5/a", "cmd/s5/b") == [1, 0x97]
    assert published(sensor, "dt/s4/x", b"y" * 10000) == 0  # as its CONNACK said
    home.write()
    home.gateway.config.write_text(home.gateway.config.read_text().replace("client_id: gw-r", "client_id: other"))
    home.hang_up("reloaded")  # the limits are the old ones again
    assert "section=cloud" in home.gateway.events("reload_needs_restart")[-1]
    assert fresh.mqtt.subscribe("cmd/s5/a", "cmd/s5/b") == [1, 1]


def test_many_signals_at_once_end_with_the_last_file(home):
    sensor, visitor = enter(home, "s6"), enter(home, "v6", "visitor")
    for number in range(60):
        home.write(rest=f"limits: {{attempts: {number + 1}}}\n")
        os.kill(home.gateway.process.pid, signal.SIGHUP)
    home.write(roles=ROLES.split("  visitor")[0])
    os.kill(home.gateway.process.pid, signal.SIGHUP)
    assert [p.reason for p in visitor.mqtt.expect_close() if p.kind == mqtt.DISCONNECT] == [0x98]
    assert published(sensor, "dt/s6/x") == 0
    status = json.loads(home.gateway.cli("status", "--json").stdout)
    assert all(entry["restarts"] == 0 for entry in status["processes"].values()), status["processes"]
