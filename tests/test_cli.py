# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/man: exit codes, messages that say what to do, nothing touched when something is wrong."""
import json
import stat

import pytest

from tools.lab.process import program, run


def sallyport(*words, data=None):
    return run(program("sallyport"), *words, check=False, data=data)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    assert sallyport("init", folder).returncode == 0
    return folder


def test_init_makes_a_private_home_that_checks_and_is_never_overwritten(home):
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.iterdir():
        if path.name != "sallyport.yaml":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert sallyport("check", "-c", home / "sallyport.yaml").returncode == 0
    before = (home / "master.key").read_bytes()
    assert sallyport("init", home).returncode == 1
    assert (home / "master.key").read_bytes() == before


def test_every_command_has_help_and_wrong_usage_is_2():
    assert sallyport("--help").returncode == 0 and sallyport("--version").stdout.startswith("sallyport ")
    for command in ("init", "check", "run", "device", "reference", "token", "status"):
        helped = sallyport(command, "--help")
        assert helped.returncode == 0 and len(helped.stdout) > 100, command
        assert sallyport(command, "--no-such-option").returncode == 2, command
    assert sallyport("devise").returncode == 2 and "device" in sallyport("devise").stderr
    assert sallyport().returncode == 2


@pytest.mark.parametrize("text,line", [
    ("gateway: {id: gw, state_dir: /tmp/x}\nlistener: []\n", 2),
    ("gateway:\n  id: gw\n  state_dir: /tmp/x\n  threads: many\n", 4),
    ("gateway: {id: gw, state_dir: /tmp/x}\nlisteners: [{address: \"127.0.0.1:8883\", suites: [rot13]}]\n", 2),
    ("gateway: {id: gw, state_dir: /tmp/x}\nroutes:\n  - {from: \"a/#/b\", cloud: x}\n", 3),
    ("gateway: [\n", None),
])
def test_a_faulty_file_is_named_with_its_line(tmp_path, text, line):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    found = sallyport("check", "-c", path)
    assert found.returncode == 1
    assert f"bad.yaml:{line}:" in found.stderr if line else "bad.yaml:" in found.stderr
    assert sallyport("run", "-c", path).returncode == 78


def test_the_canonical_print_is_a_fixed_point(home, tmp_path):
    once = sallyport("check", "-c", home / "sallyport.yaml", "--print").stdout
    again = tmp_path / "again.yaml"
    again.write_text(once)
    assert sallyport("check", "-c", again, "--print").stdout == once


def test_devices_come_and_go(home):
    config = ["-c", home / "sallyport.yaml"]
    bundle = home / "b.json"
    assert sallyport("device", "add", "dev1", "--role", "sensor", "--bundle", bundle, *config).returncode == 0
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    values = json.loads(bundle.read_text())
    assert list(values) == ["version", "device_id", "psk_identity", "psk", "iak", "iak_algorithm", "kek", "binding", "suites", "role",
                            "group", "records", "app_keys"]
    assert sallyport("device", "add", "dev1", "--role", "sensor", *config).returncode == 1
    assert sallyport("device", "add", "dev2", "--role", "nobody", *config).returncode in (1, 2)
    assert sallyport("device", "add", "bad/name", "--role", "sensor", *config).returncode in (1, 2)
    listed = json.loads(sallyport("device", "list", "--json", *config).stdout)
    assert [d["id"] for d in listed] == ["dev1"]
    shown = sallyport("device", "show", "dev1", "--json", *config).stdout
    assert values["psk"] not in shown and values["iak"] not in shown
    (home / "psk").write_text(values["psk"])
    clash = sallyport("device", "add", "dev3", "--role", "sensor", "--psk-file", home / "psk", *config)
    assert clash.returncode == 1 and "PSK" in clash.stderr
    rotated = home / "r.json"
    assert sallyport("device", "rotate", "dev1", "--bundle", rotated, *config).returncode == 0
    assert json.loads(rotated.read_text())["psk"] != values["psk"]
    for command in ("revoke", "restore", "remove"):
        assert sallyport("device", command, "dev1", *config).returncode == 0
    assert sallyport("device", "show", "dev1", *config).returncode == 1


def test_a_short_or_published_key_is_refused(home):
    config = ["-c", home / "sallyport.yaml"]
    (home / "short").write_bytes(b"x" * 15)
    assert sallyport("device", "add", "a", "--role", "sensor", "--psk-file", home / "short", *config).returncode == 1
    (home / "tfm").write_text("a9b454b26d6f90a4ea31193564cba91fec6f9a002a7dc0504b92a1937134585f")
    refused = sallyport("device", "add", "a", "--role", "sensor", "--iak-file", home / "tfm", *config)
    assert refused.returncode == 1 and "develop" in refused.stderr


def test_a_master_key_that_others_can_read_is_refused(home):
    (home / "master.key").chmod(0o644)
    assert sallyport("device", "list", "-c", home / "sallyport.yaml").returncode == 1


def test_references_come_and_go(home):
    config = ["-c", home / "sallyport.yaml"]
    assert sallyport("reference", "add", "--implementation-id", "00" * 32, "--component", "SPE=" + "11" * 32,
                     "--component", f"NSPE={'22' * 32},signer={'33' * 32},version=1.2", *config).returncode == 0
    listed = json.loads(sallyport("reference", "list", "--json", *config).stdout)
    assert len(listed) == 1 and len(listed[0]["components"]) == 2
    assert sallyport("reference", "remove", str(listed[0]["id"]), *config).returncode == 0
    assert sallyport("reference", "remove", str(listed[0]["id"]), *config).returncode == 1
    assert sallyport("reference", "add", "--implementation-id", "00", "--component", "SPE=11", *config).returncode in (1, 2)


def test_status_of_a_gateway_that_does_not_run(home):
    found = sallyport("status", "-c", home / "sallyport.yaml")
    assert found.returncode == 1 and "run" in found.stderr
