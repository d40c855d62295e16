#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Deliberate bugs: does the checker catch each one?

    bugs.py write NAME SOURCE_ROOT OUT    the bug's source file, changed (CMake calls this)
    bugs.py list                          NAME FILE for each
    bugs.py run [NAME …]                  run the ledger against each build; exit status 1 when one got away

A bug is one replacement in one source file, which has to be there exactly once, and the cycles that bring it to light.
"""
import concurrent.futures
import pathlib
import sys
from collections import namedtuple

Bug = namedtuple("Bug", "file old new cycles")
AT_A_TIME = 4  # trials mostly wait
TRIES = 4  # the processes' timing is their own: one trial may miss a bug, not all of them
POWER, STORE, ALL = ("power",), ("kill", "store"), ("all",)
TRAPS = [("trap", "store", "sync", n, "before") for n in (3, 9, 20)] + [("trap", "store", "pwrite", n, "halfway") for n in (2, 7)]


def each(weathers=((),), disks=((),), blows=(ALL,), times=1):
    return [(w, d, b) for _ in range(times) for w in weathers for d in disks for b in blows]


BUGS = {
    "ack-before-sync": Bug(
        "gateway/store/keeper.c",
        "    enum sp_err committed = commit(k);\n    for (uint32_t i = 0; i < k->door_count; i++) {\n"
        "        sp_door_answer(&k->doors[i], committed);\n    }\n",
        "    for (uint32_t i = 0; i < k->door_count; i++) {\n        sp_door_answer(&k->doors[i], SP_OK);\n"
        "        sp_door_flush(&k->doors[i]);\n    }\n    (void)commit(k);\n",
        each([("away 1",)], blows=TRAPS)),
    "no-sync": Bug(
        "gateway/store/journal_open_sqlite.c", "PRAGMA synchronous=FULL;", "PRAGMA synchronous=OFF;",
        each([("away 1",)], blows=[POWER], times=5)),
    "lazy-sync": Bug(
        "gateway/store/journal_open_sqlite.c", "PRAGMA synchronous=FULL;", "PRAGMA synchronous=NORMAL;",
        each([("away 1",)], blows=[POWER], times=5)),
    "a-log-found-is-trusted": Bug(
        "gateway/store/journal_open_sqlite.c", "    return rc == SQLITE_OK ? renew_log(j) : rc;\n", "    return rc;\n",
        [(("away 1",), d, b) for d, b in [(("fail_syncs", 3), STORE), ((), POWER)] * 3]),
    "a-failed-commit-is-acked": Bug(
        "gateway/store/keeper.c", "        commit_failed(k);\n        return err;\n",
        "        commit_failed(k);\n        return SP_OK;\n",
        each(disks=[("fail_syncs", 2), ("fail_writes", 2)], times=3)),
    "delete-before-cloud-ack": Bug(
        "gateway/store/uplink_rows.c",
        "    sp_row_list_push(row->seq == 0 ? &l->ended : &l->flying, row);\n",
        "    row->end = SP_ROW_DELIVERED;\n    if (row->seq != 0) {\n        sp_lanes_done(&l->queue, row);\n    }\n"
        "    sp_row_list_push(&l->ended, row);\n",
        each([("mute 1",), ("stall 1",)], blows=[ALL, STORE], times=2)),
    "a-refusal-counts-as-ack": Bug(
        "gateway/store/uplink_events.c", "    if (code >= 0x80 && dead == NULL) {\n", "    if (code == 0xFF) {\n",
        each([("nack 0x97 10",), ("nack 0x80 5",)], times=2)),
    "packet-id-reused": Bug(
        "libs/mqtt/client.c", "    message.packet_id = sp_mqtt_client_slot_id(c, c->used);\n",
        "    message.packet_id = sp_mqtt_client_slot_id(c, c->used / 2U);\n",
        each(times=3)),
    "any-ack-is-for-the-oldest": Bug(
        "libs/mqtt/client_input.c", "    if (offset >= c->sent) {\n        return SP_ERR_PROTOCOL;\n    }\n    struct sp_mqtt_slot",
        "    offset = offset >= c->sent && c->sent > 0 ? 0 : offset;\n    if (offset >= c->sent) {\n"
        "        return SP_ERR_PROTOCOL;\n    }\n    struct sp_mqtt_slot",
        each([("mute 1", "odd 0 3")], blows=[ALL, STORE], times=3)),
    "put-back-behind-the-others": Bug(
        "gateway/store/lanes.c",
        "    sp_row_list_push(&all, row);\n    sp_row_list_append(&all, &lane->rows);\n",
        "    sp_row_list_append(&all, &lane->rows);\n    sp_row_list_push(&all, row);\n",
        each([("late 100", "window 4"), ("reset",), ("mute 1",), ("reset",)], times=2)),
    "a-refusal-is-overtaken": Bug(
        "gateway/store/uplink.c", "cloud->version == SP_CLOUD_MQTT_5 ? 1 : SP_UPLINK_REPEATS_MAX",
        "SP_UPLINK_REPEATS_MAX", each([("late 20", "nack 0x97 10")], times=3)),
    "a-stray-ack-blames-the-oldest": Bug(
        "gateway/store/uplink.c", "    sp_uplink_lose(l, now, sp_err_text(err), false);\n}\n\nstatic bool reserve_in",
        "    sp_uplink_lose(l, now, sp_err_text(err), true);\n}\n\nstatic bool reserve_in",
        each([("odd 0 1",)], blows=[("kill", "gate")], times=4)),
    "starts-behind-the-backlog": Bug(
        "gateway/store/keeper.c", "    k->free_below = UINT64_MAX;\n    k->level = next_level(k);\n",
        "    k->free_below = UINT64_MAX;\n    k->level = next_level(k);\n    for (uint32_t i = 0; i < k->links; i++) {\n"
        "        k->feeds[i].handed = sp_journal_last(journal);\n    }\n",
        each([("away 1",)], blows=[STORE], times=2)),
    "dead-letters-thrown-away": Bug(
        "gateway/store/journal_sqlite.c", "    if (row->end == SP_ROW_DEAD) {\n        rc = bury(j, row);\n",
        "    if (row->end == SP_ROW_DEAD) {\n",
        each([("nack 0x99 20",)], times=2)),
    "never-lets-go": Bug(
        "gateway/store/messages_sqlite.c", "    return rc == SQLITE_OK && b->left < before ? write_batch(m, b) : rc;\n",
        "    (void)before;\n    return rc;\n",
        each(blows=[STORE, ALL])),
    "a-batch-goes-with-its-first": Bug(
        "gateway/store/messages_sqlite.c", "    if (b->left == 0) {\n", "    if (b->left < b->count) {\n",
        each([("stall 1",), ("mute 1",)], blows=[ALL, STORE], times=2)),
    "a-sequence-of-its-own": Bug(
        "gateway/store/letter.c", "    sp_write_dec(&number, (int64_t)row->seq);\n",
        "    static int64_t own;\n    sp_write_dec(&number, ++own);\n",
        each(blows=[STORE, ALL], times=2)),
    "a-refused-message-is-acked": Bug(
        "gateway/gate/route/tickets.c", "            bool refused = ack.stored && !durable;\n",
        "            bool refused = ack.stored && !durable && up_to == 0;\n",
        each(disks=[("fail_syncs", 2), ("full", 1)], blows=[STORE, ALL], times=2)),
}


def write(name, root, out):
    bug = BUGS[name]
    text = (pathlib.Path(root) / bug.file).read_text()
    if text.count(bug.old) != 1:
        sys.exit(f"bugs.py: {name}: {bug.file} has {text.count(bug.old)} places like that; renew the bug")
    pathlib.Path(out).write_text(text.replace(bug.old, bug.new))


def hunt(program, cycles):
    """Play them against a build until it is found out: was it, and by what."""
    from tests.faults import torture
    caught, why = False, ""
    for seed in range(5, 5 + TRIES):
        if not caught:
            caught, why = torture.trial(program, cycles, seed)
    return caught, why


def run(names):
    """Each build has to be found out. How many were not."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
    from tests.faults import torture
    away = 0
    with concurrent.futures.ProcessPoolExecutor(AT_A_TIME) as pool:
        innocent = pool.submit(torture.trial, "sallyport", [c for bug in BUGS.values() for c in bug.cycles[:2]])
        trials = [pool.submit(hunt, f"sallyport-bug-{name}", BUGS[name].cycles) for name in names]
        for name, trial in zip(names, trials):
            caught, why = trial.result()
            away += not caught
            print(f"{'caught' if caught else 'GOT AWAY':9} {name:29} {why}", flush=True)
        caught, why = innocent.result()
    away += caught
    print(f"{'ACCUSED' if caught else 'cleared':9} {'no bug at all':29} {why}")
    print(f"{len(names) + 1 - away} passed, {away} failed")
    return away


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    elif sys.argv[1] == "list":
        print("\n".join(f"{name} {bug.file}" for name, bug in BUGS.items()))
    elif sys.argv[1] == "run":
        sys.exit(run(sys.argv[2:] or list(BUGS)) != 0)
