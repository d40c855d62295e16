#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The ledger: devices publish, everything else dies, and nothing that was acknowledged may be lost (docs/delivery.md).

    make torture CYCLES=1200 SEED=7

One seed is one schedule. Each cycle ends with a death: of a process, of all, at a named system call, or a power cut.
Prints what was done and found; the last line says it in short. Exit status 1 when a promise was broken.
"""
import argparse
import collections
import pathlib
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults.faults import CALLS, MOMENTS  # noqa: E402
from tests.faults.system import BOUND, Ledger  # noqa: E402

RSS_CAP = 256 << 20
DISK_CAP = 320 << 20
LIMITS = "limits: {journal: 64MiB, attempts: 100000}\n"
BROKEN = ("lost", "invented", "altered", "disorder", "overtaken", "backwards", "renamed", "swamped")
HANG_UPS = ("reset", "disconnect", "away", "poison")
PATIENT = ("poison", "odd 0 1")
Cycle = collections.namedtuple("Cycle", "weather disk blow before after seed network clock", defaults=((), 0))


def weather(rng):
    """What the cloud does during a cycle, as orders."""
    return rng.choices([
        (),
        ("away 1",),
        ("stall 1",),
        ("mute 1",),
        ("reset",),
        (f"disconnect {rng.choice([0x89, 0x8B, 0x97, 0x82])}",),
        (f"nack {rng.choice([0x80, 0x83, 0x97])} {rng.randint(20, 400)}",),
        (f"late {rng.randint(5, 200)}",),
        (f"window {rng.randint(1, 12)}", "reset"),
        (f"refuse {rng.choice([0x88, 0x89, 0x9F])}", "reset"),
        (f"odd {rng.randint(3, 50)} {rng.randint(3, 50)}",),
        (f"poison {rng.randint(3000, 9000)}",),
    ], [30, 12, 8, 6, 8, 4, 8, 6, 6, 4, 4, 2])[0]


def disk(rng):
    return rng.choices([(), ("full", 1), ("fail_syncs", rng.randint(1, 3)), ("fail_writes", rng.randint(1, 3)),
                        ("short_writes", rng.randint(1, 9))], [70, 8, 8, 6, 8])[0]


def network(rng):
    """What happens to TCP: between devices and gateway (near), or gateway and cloud (far)."""
    order = rng.choices(["", f"delay {rng.randint(1, 150)}", "crumbs 1", "cut", "reset", "half near", "half far", "deaf 1"],
                        [60, 8, 6, 6, 6, 5, 5, 4])[0]
    return (rng.choice(["near", "far"]), order) if order else ()


def clock(rng):
    """By how many seconds the gateway's time of day leaps, and back at the end of the cycle."""
    return rng.choices([0, rng.randint(-3600, 3600), rng.choice([-1, 1]) * 400 * 86400], [88, 8, 4])[0]


def blow(rng):
    """How the cycle ends."""
    name = rng.choice(["store", "store", "store", "gate", "keys"])
    trap = (name, rng.choice(CALLS if name == "store" else ["send", "receive"]), rng.randint(1, 40), rng.choice(MOMENTS))
    return rng.choices([("kill", "gate"), ("kill", "keys"), ("kill", "store"), ("all",), ("trap", *trap), ("power",),
                        ("pause", rng.choice(["gate", "keys", "store"]), rng.randint(50, 1500))],
                       [12, 8, 18, 12, 22, 22, 6])[0]


def schedule(seed, cycles):
    """The same seed gives the same cycles."""
    rng = random.Random(seed)
    return [Cycle(weather(rng), disk(rng), blow(rng), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.4), rng.getrandbits(32),
                  network(rng), clock(rng))
            for _ in range(cycles)]


class Nemesis:
    def __init__(self, ledger):
        self.ledger, self.gateway = ledger, ledger.gateway
        self.counts = collections.Counter()
        self.hang_ups = 0

    def play(self, cycle):
        for order in cycle.weather:
            self.ledger.cloud.tell(order)
            self.counts["cloud " + order.split()[0]] += 1
            self.hang_ups += order.startswith(HANG_UPS)
        if cycle.disk:
            self.gateway.faults[cycle.disk[0]] = cycle.disk[1]
            self.counts["disk " + cycle.disk[0]] += 1
        if cycle.clock:
            self.gateway.faults["clock"] = cycle.clock
            self.counts["clock leaps"] += 1
        if cycle.network:
            where, order = cycle.network
            getattr(self.ledger, where).tell(order)
            self.counts[f"network {where} {order.split()[0]}"] += 1
            self.hang_ups += where == "far" and not order.startswith(("delay", "crumbs"))
        patience = 2.5 if any(order.startswith(PATIENT) for order in cycle.weather) else 0  # three lost connections
        time.sleep(cycle.before + patience)
        getattr(self, "_" + cycle.blow[0])(cycle, *cycle.blow[1:])
        if cycle.disk and cycle.disk[0] == "full":
            time.sleep(0.3)
        self.ledger.heal()
        if not self.gateway.process.running():
            raise RuntimeError("the gateway ended by itself:\n" + "\n".join(self.gateway.lines[-20:]))
        time.sleep(cycle.after)

    def _kill(self, cycle, name):
        if self.gateway.kill_child(name):
            self.counts["kill -9 " + name] += 1
        else:
            self._all(cycle)

    def _restart(self):
        self.gateway.faults.heal()  # a disk that is full at the start is another test
        self.gateway.start()

    def _all(self, cycle):
        self.gateway.kill_all()
        self.counts["kill -9 all"] += 1
        self._restart()

    def _power(self, cycle):
        """In the middle of a write or before a sync, if store comes by there: else most cuts would find all of it synced."""
        rng, sprung = random.Random(cycle.seed), self.gateway.faults["sprung"]
        pid = self.gateway.children().get("store")
        if pid:
            self.gateway.faults.trap(pid, rng.choice(CALLS[:2]), rng.randint(1, 60), rng.choice(MOMENTS))
            deadline = time.monotonic() + 0.5
            while self.gateway.faults["sprung"] == sprung and time.monotonic() < deadline:
                time.sleep(0.001)
        self.gateway.kill_all()
        if self.gateway.faults.power_cut(random.Random(cycle.seed)):
            self.counts["power cuts with writes lost"] += 1
        self.counts["power cut"] += 1
        self._restart()

    def _trap(self, cycle, name, call, count, moment):
        sprung = self.gateway.faults["sprung"]
        pid = self.gateway.children().get(name)
        if pid:
            self.gateway.faults.trap(pid, call, count, moment)
            deadline = time.monotonic() + 1
            while self.gateway.faults["sprung"] == sprung and time.monotonic() < deadline:
                time.sleep(0.01)
            self.gateway.faults["pid"] = 0
        if self.gateway.faults["sprung"] == sprung:
            self._all(cycle)
        else:
            self.counts[f"died in {call} of {name}"] += 1

    def _pause(self, cycle, name, ms):
        import signal
        if self.gateway.kill_child(name, signal.SIGSTOP):
            time.sleep(ms / 1000)
            self.gateway.kill_child(name, signal.SIGCONT)
            self.counts["pause " + name] += 1

    def kills(self):
        """Deaths but for power cuts: at random and at a named call."""
        return sum(n for what, n in self.counts.items() if what.startswith(("kill", "died")))


def trial(program, plan, seed=5):
    """Play a few cycles against another build: was it found out, and by what."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-torture-"))
    rng = random.Random(seed)
    ledger = Ledger(folder, seed, rate=2000, extra=LIMITS, name=program, threads=2)
    nemesis = Nemesis(ledger)
    try:
        time.sleep(0.5)
        for orders, fault, blow in plan:
            nemesis.play(Cycle(orders, fault, blow, 0.4, 0.3, rng.getrandbits(32)))
        ledger.drain(25)
        found, good, _ = ledger.check()
        good = good and explained(found, nemesis)
        return not good, ", ".join(f"{found[k]} {k}" for k in (*BROKEN, "unexplained") if found[k]) or "nothing found"
    except (RuntimeError, TimeoutError) as error:
        return True, str(error).splitlines()[0]
    finally:
        ledger.stop()
        shutil.rmtree(folder)


def explained(found, nemesis):
    """Dead letters that nobody refused: only what three lost connections in a row can do."""
    return found["unexplained"] <= nemesis.hang_ups // 3


def run(options):
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="sallyport-torture-"))
    began = time.monotonic()
    ledger = Ledger(folder, options.seed, devices=options.devices, rate=options.rate,
                    extra=LIMITS, name=options.program, threads=options.threads, network=True)
    nemesis = Nemesis(ledger)
    try:
        for number, cycle in enumerate(schedule(options.seed, options.cycles), 1):
            ledger.gateway.note(f"cycle {number}: {cycle}")
            nemesis.play(cycle)
            if number % 100 == 0:
                print(f"  {number} cycles, {time.monotonic() - began:.0f} s, journal "
                      f"{ledger.gateway.usage()[1] >> 20} MiB", flush=True)
        made, took = ledger.drain()
        found, good, details = ledger.check()
    finally:
        ledger.stop()
    rss, journal = ledger.peaks
    overflows = ledger.gateway.faults["overflows"]
    caps = rss <= RSS_CAP and journal <= DISK_CAP
    print(f"seed {options.seed}, {options.cycles} cycles in {time.monotonic() - began:.0f} s:")
    for what, count in sorted(nemesis.counts.items()):
        print(f"  {what:32} {count}")
    print("ledger:")
    for what, count in {**found, "reconnects of devices": made["connections"], "peak memory of a process, bytes": rss,
                        "peak journal files, bytes": journal, "seconds to drain": round(took, 1)}.items():
        print(f"  {what:32} {count}")
    print(details, end="")
    good = good and caps and overflows == 0 and explained(found, nemesis)
    print(f"{nemesis.kills()} x kill -9, {nemesis.counts['power cut']} power cuts, {found['acked']} acknowledged, "
          f"{found['lost']} lost, {found['invented'] + found['altered'] + found['renamed']} wrong, "
          f"{found['disorder'] + found['overtaken'] + found['backwards']} out of order, {found['most_repeats']} repeats at most (bound {BOUND}), "
          f"caps {'kept' if caps else 'broken'}: {'GOOD' if good else 'BROKEN'}")
    if good and not options.folder:
        shutil.rmtree(folder)
    elif not options.folder:
        print(f"kept: {folder}")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--rate", type=int, default=3000, help="messages per second; 0: as fast as answers come")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default="sallyport", help="another build of the gateway, in bin/")
    parser.add_argument("--folder", help="keep everything here")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
