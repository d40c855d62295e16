# SPDX-License-Identifier: Apache-2.0
"""A crash, or a power cut, at every system call of `device add`, `rotate` and `revoke` leaves the old or the new state."""
import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from tests.faults.faults import ANYBODY, Faults
from tools.lab.process import BUILD, program, run

COMMANDS = {"add": ["add", "two", "--role", "sensor"], "rotate": ["rotate", "one"], "revoke": ["revoke", "one"],
            "restore": ["restore", "three"], "remove": ["remove", "one"]}


def cli(home, *words, env=None):
    return subprocess.run([program("sallyport"), *words, "-c", str(home / "sallyport.yaml")], capture_output=True, text=True,
                          env={**os.environ, **(env or {})}, check=False)


def state(home):
    """Every device as the operator sees it."""
    shown = cli(home, "device", "list", "--json")
    assert shown.returncode == 0, shown.stderr
    return {row["id"]: row for row in json.loads(shown.stdout)}


def told_apart(rows, old, volatile):
    """Times and what follows from random keys: only whether it is as before."""
    return {name: {key: (value == old.get(name, {}).get(key) if key in volatile else value) for key, value in row.items()}
            for name, row in rows.items()}


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


def copy_home(registry, home):
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(registry, home)
    text = (home / "sallyport.yaml").read_text()
    (home / "sallyport.yaml").write_text(text.replace(str(registry), str(home)))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_crash_at_every_call_leaves_the_old_or_the_new_state(registry, tmp_path, command):
    rng = random.Random(command)
    home = tmp_path / "home"

    def fresh():
        copy_home(registry, home)
    fresh()
    old = state(home)
    faults = Faults(tmp_path / "faults", home, BUILD / "test" / "libspfaults.so")
    faults["registry"] = 1
    twice = []
    for _ in range(2):
        fresh()
        time.sleep(1)  # seconds count
        assert cli(home, "device", *COMMANDS[command]).returncode == 0
        twice.append(state(home))
    volatile = {key for name in twice[0] for key in twice[0][name] if twice[0][name][key] != twice[1][name][key]}
    before, after_all = told_apart(old, old, volatile), told_apart(twice[0], old, volatile)
    seen, deaths = set(), 0
    for call, moment in itertools.product(("pwrite", "sync", "truncate"), ("before", "after", "halfway")):
        for count in range(1, 200):
            fresh()
            faults.heal()
            faults.forget()
            faults.trap(ANYBODY, call, count, moment)
            result = cli(home, "device", *COMMANDS[command], env=faults.environment())
            if result.returncode == 0:
                break
            assert result.returncode == 137, result.stderr
            deaths += 1
            faults["pid"] = 0
            if rng.random() < 0.7:
                faults.power_cut(rng)
            after = told_apart(state(home), old, volatile)
            assert after in (before, after_all), (call, moment, count)
            seen.add("old" if after == before else "new")
    assert deaths > 5 and "old" in seen


def leave_log(home, faults):
    """A log with a whole commit in it, as a gateway that was killed leaves one."""
    for count in range(1, 50):
        faults.trap(ANYBODY, "sync", count, "after")
        assert cli(home, "device", "add", f"log-{count}", "--role", "sensor", env=faults.environment()).returncode == 137
        if (home / "registry.db-wal").stat().st_size > 0 and f"log-{count}" in state(home):
            return
    raise AssertionError("no death leaves a log")


@contextlib.contextmanager
def somebody_reads(home):
    """As a running gateway does: no command is the last one to close the registry, which would carry the log over. Then kill -9."""
    text = ("import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('SELECT count(*) FROM device').fetchall()\n"
            "print('open', flush=True)\nsys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", text, str(home / "registry.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout.readline() == b"open\n"
            yield
        finally:
            reader.kill()


@pytest.mark.slow
def test_what_a_failed_sync_left_in_the_log_takes_no_later_command_with_it(registry, tmp_path):
    """A command's sync fails and it dies of something else at once; the next command finds its log, and is done. A power cut."""
    rng = random.Random(7)
    home = tmp_path / "home"
    faults = Faults(tmp_path / "faults", home, BUILD / "test" / "libspfaults.so")
    faults["registry"] = 1
    deaths = 0
    for spared, call, moment in itertools.product(range(4), ("pwrite", "sync", "truncate"), ("before", "after")):
        for count in range(1, 60):
            copy_home(registry, home)
            faults.heal()
            faults.forget()
            leave_log(home, faults)
            faults.forget()
            faults["spared"], faults["fail_syncs"] = spared, 1
            faults.trap(ANYBODY, call, count, moment)
            first = cli(home, "device", "revoke", "one", env=faults.environment())
            failed = faults["fail_syncs"] == 0
            faults.heal()
            if failed:
                with somebody_reads(home):
                    done = cli(home, "device", *COMMANDS["add"], env=faults.environment())
                    assert done.returncode == 0, done.stderr
                    before = state(home)
                faults.power_cut(rng)
                assert "two" in before and state(home) == before, (spared, call, moment, count)
            deaths += failed and first.returncode == 137
            if first.returncode != 137:
                break
    assert deaths > 5
