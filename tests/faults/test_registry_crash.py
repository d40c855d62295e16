# SPDX-License-Identifier: Apache-2.0
"""A crash, or a power cut, at every system call of `device add`, `rotate` and `revoke` leaves the old or the new state."""
import itertools
import json
import os
import random
import shutil
import subprocess

import pytest

from tests.faults.faults import ANYBODY, Faults
from tools.lab.process import BUILD, program, run

COMMANDS = {"add": ["add", "two", "--role", "sensor"], "rotate": ["rotate", "one"], "revoke": ["revoke", "one"],
            "restore": ["restore", "three"], "remove": ["remove", "one"]}


def cli(home, *words, env=None):
    return subprocess.run([program("sallyport"), *words, "-c", str(home / "sallyport.yaml")], capture_output=True, text=True,
                          env={**os.environ, **(env or {})}, check=False)


def state(home):
    """Every device as the operator sees it, and whether its keys can be read: a rotated key shows in its bundle's digest."""
    shown = cli(home, "device", "list", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = {row["device_id"] if "device_id" in row else row["id"]: row for row in json.loads(shown.stdout)}
    for row in rows.values():
        row.pop("last_seen", None)
        for key in [k for k in row if "time" in k or k in ("created", "changed", "rotated", "updated", "since")]:
            row[key] = row[key] is not None
    return rows


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A home with three devices, the third revoked."""
    home = tmp_path_factory.mktemp("registry") / "home"
    run(program("sallyport"), "init", home)
    for name in ("one", "three"):
        result = cli(home, "device", "add", name, "--role", "sensor")
        assert result.returncode == 0, result.stderr
    assert cli(home, "device", "revoke", "three").returncode == 0
    return home


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_crash_at_every_call_leaves_the_old_or_the_new_state(registry, tmp_path, command):
    rng = random.Random(command)
    home = tmp_path / "home"

    def fresh():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(registry, home)
        text = (home / "sallyport.yaml").read_text()
        (home / "sallyport.yaml").write_text(text.replace(str(registry), str(home)))
    fresh()
    old = state(home)
    faults = Faults(tmp_path / "faults", home, BUILD / "test" / "libspfaults.so")
    assert cli(home, "device", *COMMANDS[command]).returncode == 0
    new = state(home)
    seen, deaths = set(), 0
    for call, moment in itertools.product(("pwrite", "sync", "truncate"), ("before", "after", "halfway")):
        for count in range(1, 200):
            fresh()
            faults.heal()
            faults["used"] = 0
            faults.trap(ANYBODY, call, count, moment)
            result = cli(home, "device", *COMMANDS[command], env=faults.environment())
            if result.returncode == 0:
                break
            assert result.returncode == 137, result.stderr
            deaths += 1
            faults["pid"] = 0
            if rng.random() < 0.7:
                faults.power_cut(rng)
            after = state(home)
            assert after in (old, new), (call, moment, count)
            seen.add("old" if after == old else "new")
            assert run("sqlite3", home / "registry.db", "PRAGMA integrity_check").stdout.strip() == "ok" \
                if shutil.which("sqlite3") else True
    assert deaths > 5 and "old" in seen
