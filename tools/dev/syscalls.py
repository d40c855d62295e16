#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The system calls that each process of a gateway really makes, beside those that its sandbox lets through.

    SALLYPORT_BUILD=build tools/dev/syscalls.py [TEST…]      prints a table for docs/sandbox.md

Runs the scenario tests (those named, or TESTS below) with a gateway under strace. For gate, keys and store only what comes after the
filter is on counts. A call that the filter allows and that nobody made stands in the table too, with 0."""
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("SALLYPORT_BUILD", "build")
TESTS = [f"tests/test_{name}.py" for name in ("attestation", "sessions", "reload", "upgrade", "durable", "delivery", "records", "processes",
                                              "identity", "hostile_wire")] + ["tests/faults/test_full_disk.py"]
ROLES = ["parent", "gate", "keys", "store"]
CALL = re.compile(r"^(?:<\.\.\. )?(\w+)(?:\(| resumed)")


def wrapped_build(folder, traces):
    """A build folder in which `sallyport run` is traced; the process id stays the gateway's (strace -D)."""
    (folder / "bin").mkdir()
    for entry in BUILD.iterdir():
        if entry.name not in ("bin", "Testing"):
            (folder / entry.name).symlink_to(entry)
    for entry in (BUILD / "bin").iterdir():
        if entry.name != "sallyport":
            (folder / "bin" / entry.name).symlink_to(entry)
    script = folder / "bin" / "sallyport"
    script.write_text(f'#!/bin/sh\n[ "$1" = run ] || exec {BUILD}/bin/sallyport "$@"\n'
                      'export SP_PRELOAD="$LD_PRELOAD"; unset LD_PRELOAD\n'
                      'exec strace ${SP_PRELOAD:+-E "LD_PRELOAD=$SP_PRELOAD"}'
                      f' -D -ff -qq -e signal=none -s 100 -o {traces}/t.$$ {BUILD}/bin/sallyport "$@"\n')
    script.chmod(0o755)


def role_of(lines, start):
    """Who entered a sandbox: keys opens its folder for Landlock, store its journal, gate nothing."""
    for line in lines[:start]:
        if "O_PATH" in line:
            return "store" if '/journal"' in line else "keys"
    return "gate"


def read_trace(path):
    """(role or None for a thread, Counter of calls, thread ids it made)."""
    lines = path.read_text(errors="replace").splitlines()
    locked = next((i for i, line in enumerate(lines) if line.startswith("seccomp(SECCOMP_SET_MODE_FILTER") and line.endswith("= 0")), None)
    if locked is None:
        role = "parent" if any(line.startswith("execve(") for line in lines[:3]) else None
        rest = lines
    else:
        role = role_of([line for line in lines[:locked] if "landlock" in line or "O_PATH" in line], locked)
        rest = lines[locked + 1:]
    calls = collections.Counter(m.group(1) for m in map(CALL.match, rest) if m)
    threads = [int(m.group(1)) for line in rest for m in [re.search(r"^clone3?\(.*CLONE_THREAD.*= (\d+)$", line)] if m]
    return role, calls, threads


def collect(folder):
    used, owners, rest = {role: collections.Counter() for role in ROLES}, {}, []
    for path in sorted(folder.iterdir()):
        role, calls, threads = read_trace(path)
        run, pid = path.name.rsplit(".", 1)
        if role is None:
            rest.append((run, int(pid), calls))
            continue
        used[role].update(calls)
        for thread in threads:
            owners[run, thread] = role
    for run, pid, calls in rest:
        if (run, pid) in owners:
            used[owners[run, pid]].update(calls)
    return used


def allowed():
    """Calls by process, as the table in sandbox_seccomp.c has them: "allow" or "refuse"."""
    text = (ROOT / "gateway/proc/sandbox_seccomp.c").read_text()
    who = {"ALL": ["gate", "keys", "store"], "FILES": ["keys", "store"], "G": ["gate"], "K": ["keys"], "S": ["store"]}
    found = {role: {"tgkill": "allow"} for role in ROLES[1:]}  # to itself: it has a rule of its own
    for kind, call, names in re.findall(r"\b(CALL|CALL_IF|REFUSE|REFUSE_IF)\((\w+), ([A-Z]+(?: \| [A-Z]+)*)", text):
        for name in names.split(" | "):
            for role in who.get(name, []):
                verdict = "allow" if kind.startswith("CALL") else "refuse"
                found[role][call] = "allow" if found[role].get(call) == "allow" else verdict
    return found


def cell(role, call, used, rules):
    count, rule = used[role].get(call, 0), rules[role].get(call)
    return {None: str(count or ""), "allow": f"+ {count}", "refuse": f"− {count}"}[rule]


def main():
    tests = sys.argv[1:] or TESTS
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "traces").mkdir()
        (folder / "build").mkdir()
        wrapped_build(folder / "build", folder / "traces")
        subprocess.run(["/usr/bin/python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=ROOT, check=False,
                       stdout=sys.stderr, env={**os.environ, "SALLYPORT_BUILD": str(folder / "build")})
        used = collect(folder / "traces")
    rules = allowed()
    print("| call | parent | gate | keys | store |\n|---|---|---|---|---|")
    for call in sorted(set().union(*used.values(), *rules.values())):
        print(f"| `{call}` | {used['parent'].get(call, '')} | " + " | ".join(cell(r, call, used, rules) for r in ROLES[1:]) + " |")
    for role in ROLES[1:]:
        strange = sorted(call for call in used[role] if call not in rules[role])
        if strange:
            print(f"Made by {role} and not in the table: {', '.join(strange)}.")


if __name__ == "__main__":
    main()
