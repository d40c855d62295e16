# SPDX-License-Identifier: Apache-2.0
"""`sallyport-device`: the device application as a process, honest and lying, against a running gateway."""
import json

import pytest

from tools.lab.gateway import Device
from tools.lab.process import program, run, wait_for


@pytest.fixture(scope="module")
def home(gateway):
    gateway.accept_device_program()
    return gateway


def test_a_sensor_and_a_monitor(home, cloud, names):
    sensor, monitor = names("sensor"), names("monitor")
    watching = Device(home, home.add(monitor, role="monitor"))
    wait_for(lambda: home.metric("subscriptions") >= 1, 10, "the monitor's subscription")
    sending = Device(home, home.add(sensor), "--sensor", "constant:23.5,41.0", "--period", "200ms", "--count", "5")
    assert sending.process.wait(30) == 0
    records = wait_for(lambda: len(watching.records()) >= 5 and watching.records(), 10, "records at the monitor")
    assert {r["device"] for r in records} == {sensor}
    assert all((r["temperature_celsius"], r["humidity_percent"], r["protection"]) == (23.5, 41.0, "clear") for r in records)
    assert set(records[0]) == {"device", "time", "temperature_celsius", "humidity_percent", "sequence", "protection"}
    wait_for(lambda: len(cloud.received(f"{sensor}/climate")) >= 5, 10, "records at the cloud")
    document = json.loads(cloud.received(f"{sensor}/climate")[0][1])
    assert document["temperature_celsius"] == 23.5 and document["attested"] is True
    assert watching.stop() == 0


@pytest.mark.parametrize("lie,check", [("measurement", "software"), ("lifecycle", "lifecycle"), ("mac", "mac"), ("replay", "nonce")])
def test_a_liar_is_refused(home, cloud, names, lie, check):
    name = names("liar")
    before = home.refused(check)
    liar = Device(home, home.add(name), "--tamper", lie, "--sensor", "constant:1,2", "--period", "100ms", "--exit-on-refusal")
    assert liar.process.wait(30) == 1
    assert home.refused(check) == before + 1
    assert not cloud.received(name)
    assert any(check in line for line in liar.process.err)


def test_a_device_keeps_its_keys_in_its_state_folder(home, names, tmp_path):
    name = names("keeper")
    bundle = home.add(name)
    options = ["--state", tmp_path / "state", "--sensor", "constant:20,50", "--period", "100ms", "--count", "2"]
    assert Device(home, bundle, *options).process.wait(30) == 0
    assert Device(home, bundle, *options).process.wait(30) == 0


def test_a_device_comes_back_after_the_gateway_was_away(home, cloud, names):
    name = names("patient")
    sensor = Device(home, home.add(name), "--sensor", "constant:20,50", "--period", "200ms")
    try:
        wait_for(lambda: cloud.received(f"{name}/climate"), 20)
        port = home.port
        home.stop()
        home.config.write_text(home.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        home.start()
        seen = len(cloud.received(f"{name}/climate"))
        wait_for(lambda: len(cloud.received(f"{name}/climate")) > seen + 3, 60, "records after the restart")
    finally:
        sensor.stop()


def test_the_bundle_must_be_private(home, names, tmp_path):
    bundle = home.add(names("open"))
    bundle.chmod(0o644)
    refused = run(program("sallyport-device"), "--bundle", bundle, "--gateway", "127.0.0.1:1", check=False)
    assert refused.returncode in (1, 2) and "0600" in refused.stderr
