#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measure Sallyport and Debian's mosquitto side by side: CPU per connection and per message, memory per idle
device, two loops against one. What the cases do and what the figures mean: bench/README.md."""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

import measure
import plot
import report
import servers

ROOT = pathlib.Path(__file__).resolve().parent.parent
MONITORS = 1000
SMALL_FLEET = 64
STEADY = 5000  # messages a second, where many devices have a rate


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything; --quick is for a first look."""
    rounds: int
    connections: int
    messages: int
    fan_out: int  # messages, each delivered 1000 times
    cloud: int
    idle: int
    paced: int  # seconds


FULL = Size(rounds=5, connections=8000, messages=200000, fan_out=200, cloud=60000, idle=10000, paced=6)
QUICK = Size(rounds=1, connections=2000, messages=50000, fan_out=100, cloud=30000, idle=5000, paced=2)


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table. `run(lab, server name, case)` gives the figure of one round."""
    name: str
    what: str
    unit: str
    run: object
    arguments: tuple = ()
    target: str = ""
    ratio_of: tuple = ("sallyport", "mosquitto")
    best: float = None  # the ratio must not be above (or, for capacity, below) this
    above: bool = False

    def met(self, ratio):
        if self.best is None:
            return None
        return ratio >= self.best if self.above else ratio <= self.best

    @property
    def contestants(self):
        return tuple(reversed(self.ratio_of))


class Lab:
    """The folder, the cores, the keys and the homes that all cases share."""

    def __init__(self, folder, build, size, wanted):
        self.folder = folder
        self.size = size
        self.fleet_program = build / "bin" / "sallyport-fleet"
        cores = sorted(os.sched_getaffinity(0))
        self.server_core = {cores[0]}
        self.load_core = {cores[-1]}
        self.all_cores = {cores[0], cores[-1]}
        self.latencies = {}
        self.fleets = {name: folder / f"{name}.jsonl" for name in ("small", "big")}
        self._make_fleet("small", SMALL_FLEET, 0)
        reference = self._make_fleet("big", max(size.idle, MONITORS), MONITORS)
        self.authority = servers.Authority(folder / "authority")
        self.home = None
        if "sallyport" in wanted:
            self.home = servers.Home(folder / "home", build / "bin" / "sallyport", reference,
                                     self.fleets.values())

    def _make_fleet(self, name, sensors, monitors):
        return servers.run([self.fleet_program, "keys", "--fleet", self.fleets[name], "--psk-file",
                            self.psk_file(name), "--prefix", name, "--sensors", sensors, "--monitors",
                            monitors])

    def psk_file(self, fleet):
        return self.folder / f"{fleet}.psk"

    def server(self, name, fleet="big", cores=None, threads=1, **cloud):
        cores = cores or self.server_core
        if name == "mosquitto":
            return servers.Mosquitto(self.folder / name, cores, self.psk_file(fleet), cloud.get("cloud"))
        return servers.Sallyport(self.folder / name, cores, self.home, threads=threads, **cloud)

    def cloud(self):
        return servers.Cloud(self.folder / "cloud", self.load_core, self.authority)

    def fleet(self, server, command, *arguments, fleet="big", cores=None):
        attest = ["--no-attest"] if server.name == "mosquitto" else []
        return measure.Fleet(self.fleet_program, cores or self.load_core,
                             [command, "--fleet", self.fleets[fleet], "--gateway", f"127.0.0.1:{server.port}",
                              *arguments, *attest])

    def note(self, case, server, result):
        for kind in ("latency_us", "ack_us", "admission_us"):
            if kind in result:
                self.latencies.setdefault(case.name, {}).setdefault(server, []).append(
                    {"kind": kind, **result[kind]})


def connection(lab, name, case):
    """Connect, attest (ours), disconnect."""
    with lab.server(name, fleet="small") as server, \
            lab.fleet(server, "connect", "--count", lab.size.connections, "--warmup", lab.size.connections // 10,
                      *case.arguments, fleet="small") as fleet:
        before = measure.cpu_seconds(server.pid)
        result = fleet.go()
        spent = measure.cpu_seconds(server.pid) - before
        if result["admitted"] != lab.size.connections:
            raise measure.BenchError(f"{name}: {result}")
        lab.note(case, name, result)
        return spent / result["admitted"] * 1e6


def message(lab, name, case):
    """Deliver messages from fleet to fleet."""
    with lab.server(name) as server, lab.fleet(server, "publish", *case.arguments) as fleet:
        before = measure.cpu_seconds(server.pid)
        result = fleet.go()
        spent = measure.cpu_seconds(server.pid) - before
        if result["received"] != result["expected"] or result["refused"]:
            raise measure.BenchError(f"{name}: {result}")
        lab.note(case, name, result)
        return spent / result["received"] * 1e6


# How our link to the cloud differs in these cases; else it speaks MQTT 5 and sends what it got.
CLOUD_LINKS = {"cloud-json": {"form": "json"}, "cloud-311": {"version": "3.1.1"},
                 "cloud-rate-311": {"version": "3.1.1"}}
CLOUD_WARMUP = 1000


@contextlib.contextmanager
def to_cloud(lab, name, case, count):
    """A server with a link to a cloud, a fleet that is ready to send it `count` messages, and what waits for the last of them."""
    with lab.cloud() as cloud, lab.server(name, cloud=cloud, **CLOUD_LINKS.get(case.name, {})) as server, \
            lab.fleet(server, "publish", "--subscribers", 0, "--qos", 1, "--publishers", 16, "--window", 256,
                      "--warmup", CLOUD_WARMUP, "--count", count, *case.arguments) as fleet:
        measure.wait_until("the first messages in the cloud", lambda: cloud.received >= CLOUD_WARMUP)
        yield server, fleet, lambda: measure.wait_until(
            "the last message in the cloud", lambda: cloud.received >= CLOUD_WARMUP + count)


def cloud_message(lab, name, case):
    """Carry QoS 1 messages to the cloud, until the last one is there."""
    paced = "--rate" in case.arguments
    with to_cloud(lab, name, case, STEADY * lab.size.paced if paced else lab.size.cloud) as (server, fleet, arrived):
        before = measure.cpu_seconds(server.pid)
        result = fleet.go()
        arrived()
        spent = measure.cpu_seconds(server.pid) - before
        lab.note(case, name, result)
        return spent / result["acked"] * 1e6


def cloud_rate(lab, name, case):
    """From the first message to the last one in the cloud; the broker there counts once a second."""
    count = 15 * lab.size.cloud
    with to_cloud(lab, name, case, count) as (_, fleet, arrived):
        began = time.monotonic()
        fleet.go()
        arrived()
        return count / (time.monotonic() - began)


def idle(lab, name, case):
    """Memory that a connected, silent device with one subscription takes."""
    with lab.server(name) as server:
        time.sleep(1)
        before = measure.memory_bytes(server.pid)
        with lab.fleet(server, "hold", "--count", lab.size.idle, *case.arguments):
            time.sleep(3)
            return (measure.memory_bytes(server.pid) - before) / lab.size.idle


def capacity(lab, name, case):
    """Messages per CPU second of the busiest thread: what limits the gateway, with one loop or two."""
    threads = {"one loop": 1, "two loops": 2}[name]
    with lab.server("sallyport", cores=lab.all_cores, threads=threads) as server, \
            lab.fleet(server, "publish", *case.arguments, cores=lab.all_cores) as fleet:
        before = measure.thread_seconds(server.pid)
        result = fleet.go()
        after = measure.thread_seconds(server.pid)
        busiest = max(after[task] - before.get(task, 0) for task in after)
        return result["received"] / busiest


def cases(size):
    fan_in = ("--publishers", 1000, "--window", 200, "--warmup", 2000, "--count", size.messages)
    fan_out = ("--subscribers", 1000, "--warmup", 20, "--count", size.fan_out)
    one = ("--window", 64, "--warmup", 2000, "--count", size.messages)
    pairs = ("--publishers", 200, "--subscribers", 200, "--filter", "dt/{peer}/climate", "--window", 400,
             "--warmup", 4000, "--count", size.messages)
    cpu = "CPU µs"
    per_message = {"unit": cpu, "run": message}

    def at_most(ratio):
        return {"target": f"≤ {ratio:g}", "best": ratio}
    yield Case("connection", "connection, admitted and closed (ours attested)", cpu, connection,
               **at_most(0.6))
    for qos in (0, 1):
        yield Case(f"one-to-one-{qos}", f"message 1 → 1, QoS {qos}", arguments=("--qos", qos, *one),
                   **per_message, **at_most(0.5))
        yield Case(f"fan-in-{qos}", f"message 1000 → 1, QoS {qos}", arguments=("--qos", qos, *fan_in),
                   **per_message, **at_most(0.5))
        yield Case(f"fan-out-{qos}", f"message 1 → 1000, QoS {qos}",
                   arguments=("--qos", qos, "--window", 16, *fan_out), **per_message, **at_most(0.3))
        yield Case(f"fan-out-one-{qos}", f"message 1 → 1000, one at a time, QoS {qos}",
                   arguments=("--qos", qos, "--window", 1, *fan_out), **per_message)
    for qos in (0, 1):
        yield Case(f"steady-{qos}", f"message 1 → 1 at 500/s, QoS {qos}",
                   arguments=("--qos", qos, "--rate", 500, "--warmup", 100, "--count", 500 * size.paced),
                   **per_message, **at_most(1))
    for qos in (0, 1):
        yield Case(f"steady-fan-in-{qos}", f"message 1000 → 1 at 5000/s, QoS {qos}",
                   arguments=("--qos", qos, "--rate", STEADY, "--publishers", 1000, "--window", 20000,
                              "--warmup", 2000, "--count", STEADY * size.paced), **per_message, **at_most(1))
    many = ("--publishers", 1000)
    steady = ("--rate", STEADY, "--window", 20000)
    yield Case("cloud-many", "message to the cloud from 1000 devices, QoS 1 (ours durable first, MQTT 5)", cpu, cloud_message,
               many, **at_most(0.5))
    yield Case("cloud", "message to the cloud from 16 devices, QoS 1 (ours durable first, MQTT 5)", cpu, cloud_message,
               **at_most(0.5))
    yield Case("cloud-311", "message to the cloud from 16 devices, MQTT 3.1.1 as the bridge speaks", cpu, cloud_message,
               **at_most(0.5))
    rate = {"unit": "1/s", "run": cloud_rate, "target": "≥ 1", "best": 1.0, "above": True}
    yield Case("cloud-rate-many", "messages to the cloud per second from 1000 devices, QoS 1", arguments=many, **rate)
    yield Case("cloud-rate", "messages to the cloud per second from 16 devices, QoS 1", **rate)
    yield Case("cloud-rate-311", "messages to the cloud per second from 16 devices, MQTT 3.1.1", **rate)
    yield Case("cloud-steady-many", "message to the cloud from 1000 devices at 5000/s, QoS 1", cpu, cloud_message,
               many + steady, **at_most(0.5))
    yield Case("cloud-steady", "message to the cloud from 16 devices at 5000/s, QoS 1", cpu, cloud_message, steady,
               **at_most(0.5))
    yield Case("cloud-json", "message to the cloud as JSON (bridge: as it is)", cpu, cloud_message)
    yield Case("idle", f"memory per idle device with a subscription, {size.idle} held", "bytes", idle,
               ("--concurrency", 16, "--filter", "cmd/{id}/valve"), **at_most(0.03))
    yield Case("loops", "messages per CPU second of the busiest loop × loops", "1/s", capacity, pairs, "≥ 1.9",
               ("two loops", "one loop"), 1.9, above=True)


def play(lab, chosen, wanted):
    samples = {}
    for number in range(lab.size.rounds):
        for case in chosen:
            contestants = [c for c in case.contestants if c in wanted or
                           (c.endswith(("loop", "loops")) and "sallyport" in wanted)]
            for name in contestants if number % 2 == 0 else reversed(contestants):
                figure = case.run(lab, name, case)
                samples.setdefault(case.name, {}).setdefault(name, []).append(figure)
                print(f"round {number + 1}: {case.what}: {name}: {figure:.1f} {case.unit}", flush=True)
    return samples


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", choices=["mosquitto", "sallyport"], help="leave the other out")
    parser.add_argument("--cases", metavar="A,B", help="only these; `--cases list` names them")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder (build)")
    parser.add_argument("--no-write", action="store_true", help="leave bench/results and docs as they are")
    return parser.parse_args()


def missing_programs(build, wanted):
    needed = [build / "bin" / "sallyport-fleet", "mosquitto", "mosquitto_sub", "openssl"]
    needed += [build / "bin" / "sallyport"] if "sallyport" in wanted else []
    return [str(program) for program in needed
            if shutil.which(program) is None]


def main():
    chosen_by = arguments()
    size = QUICK if chosen_by.quick else FULL
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    size = dataclasses.replace(size, rounds=chosen_by.rounds or size.rounds, idle=min(size.idle, hard - 500))
    chosen = list(cases(size))
    if chosen_by.cases:
        names = chosen_by.cases.split(",")
        if not set(names) <= {case.name for case in chosen}:
            print("cases:", *[case.name for case in chosen])
            return 0 if names == ["list"] else 2
        chosen = [case for case in chosen if case.name in names]
    wanted = [chosen_by.only] if chosen_by.only else ["mosquitto", "sallyport"]
    os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"  # where Debian puts mosquitto
    missing = missing_programs(chosen_by.build.resolve(), wanted)
    if missing:
        print("compare.py: not there:", *missing, "(`make` builds, `./check --setup-only` installs)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts = report.machine(ROOT)  # now: the working tree may have moved on when the rounds are over
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            lab = Lab(folder, chosen_by.build.resolve(), size, wanted)
            samples = play(lab, chosen, wanted)
        except measure.BenchError as error:
            print(f"compare.py: {error}", file=sys.stderr)
            return 1
    rows = report.summarize(chosen, samples)
    print("\n" + report.table_text(rows) + "\n\n" + report.latency_text(lab.latencies))
    if not chosen_by.no_write:
        report.write_json(ROOT / "bench" / "results" / "latest.json", rows, lab.latencies, facts, size.rounds)
        if not chosen_by.only and not chosen_by.cases:
            report.update_page(ROOT / "docs" / "performance.md",
                               report.page_markdown(rows, lab.latencies, facts, size.rounds))
            plot.write(ROOT / "docs" / "performance", rows, lab.latencies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
