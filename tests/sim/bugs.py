#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Deliberate bugs: does the simulation find each one?

    bugs.py list                          NAME FILE for each
    bugs.py write NAME SOURCE_ROOT OUT    the bug's source file, changed (CMake calls this)
    bugs.py run FOLDER [NAME …]           run sim-bug-NAME in FOLDER up to the first seed that fails; exit status 1 when none did

Those of the ledger (tests/faults/bugs.py), and some that only a simulation meets often enough.
"""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.faults.bugs import BUGS as LEDGER_BUGS  # noqa: E402  pylint: disable=wrong-import-position

SEEDS = 2000  # as many as the simulation without a bug has to pass

# What its cloud does not do often enough, or its own ledger does not look at
NOT_HERE = ("a-refusal-is-overtaken", "a-stray-ack-blames-the-oldest")

# name: file, the text that is there exactly once, what takes its place
BUGS = {name: (bug.file, bug.old, bug.new) for name, bug in LEDGER_BUGS.items() if name not in NOT_HERE} | {
    "order-lost-behind-a-refusal": (
        "gateway/gate/route/tickets.c", "    record.after = chain(home, m, client);\n", "    (void)chain(home, m, client);\n"),
    "what-follows-a-refused-one-is-stored": (
        "gateway/store/keeper_doors.c", "follows_refused(d, &r->head) ? SP_ERR_LIMIT : sp_keeper_take_durable(d->keeper, r);",
        "sp_keeper_take_durable(d->keeper, r);"),
    "qos-2-believes-no-repeat": (
        "gateway/store/packets_sqlite.c", "    *repeat = rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == digest_of(row);\n",
        "    *repeat = false;\n"),
    "the-packet-id-alone-is-believed": (
        "gateway/store/packets_sqlite.c", "    *repeat = rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == digest_of(row);\n",
        "    *repeat = rc == SQLITE_ROW;\n"),
    "what-is-left-of-a-batch-is-lost": (
        "gateway/store/messages_sqlite.c", "            rc = insert_row(m, &message);\n", "            (void)insert_row;\n"),
    "what-gathers-is-acked": (
        "gateway/store/keeper.c", "        more = !gathers(k) && finish_turn(k);\n        for (uint32_t i = 0; i < k->door_count; i++) {\n",
        "        more = !gathers(k) && finish_turn(k);\n        for (uint32_t i = 0; i < k->door_count; i++) {\n"
        "            sp_door_answer(&k->doors[i], SP_OK);\n"),
    "no-share-for-a-device": (
        "gateway/store/keeper_records.c", "                        k->config->limits.journal_device_bytes) {\n", "                        UINT64_MAX) {\n"),
    "acks-overtake": (
        "gateway/gate/session/client.c", "    if (sp_client_in_flight(client)->unacked == 0 ||\n", "    if (true ||\n"),
    "a-lost-store-is-no-refusal": (
        "gateway/gate/route/tickets.c", "    release(home, UINT64_MAX, false);\n", "    release(home, UINT64_MAX, true);\n"),
    "expired-before-its-time": (
        "gateway/store/letter.c", "    return age_s < row->expiry_s ? row->expiry_s - (uint32_t)age_s : 0;\n", "    return age_s * 10U < row->expiry_s ? row->expiry_s - (uint32_t)age_s : 0;\n"),
}


def write(name, root, out):
    file, old, new = BUGS[name]
    text = (pathlib.Path(root) / file).read_text()
    if text.count(old) != 1:
        sys.exit(f"bugs.py: {name}: {file} has {text.count(old)} places like that; renew the bug")
    pathlib.Path(out).write_text(text.replace(old, new))


def run(folder, names):
    away = 0
    for name in names:
        done = subprocess.run([pathlib.Path(folder) / f"sim-bug-{name}", "--seeds", f"1-{SEEDS}", "--first"],
                              capture_output=True, text=True, check=False)
        found = done.returncode == 1 and done.stdout.startswith("FAIL")
        away += not found
        print(f"{'found' if found else 'GOT AWAY':9} {name:32} {done.stdout.splitlines()[0] if found else done.returncode}", flush=True)
    print(f"{len(names) - away} passed, {away} failed")
    return away


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    elif sys.argv[1] == "list":
        print("\n".join(f"{name} {bug[0]}" for name, bug in BUGS.items()))
    elif sys.argv[1] == "run":
        sys.exit(run(sys.argv[2], sys.argv[3:] or list(BUGS)) != 0)
