# SPDX-License-Identifier: Apache-2.0
"""A gateway between producers that never forget and a cloud that does as it is told."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from tests.faults.faults import Faults
from tools.lab.cloud import free_port, make_certificates
from tools.lab.gateway import Gateway
from tools.lab.process import BUILD, Process, program, run, wait_for

BOUND = 256  # repeats per connection to the cloud: docs/delivery.md, D5
ROUTES = 'routes:\n  - {from: "dt/#", cloud: "dt/sallyport/{gateway}/{rest}"}\n'


class Orders(Process):
    """Reads orders, ends when its stdin closes."""

    def __init__(self, words):
        super().__init__(words, stdin=subprocess.PIPE)
        self.wait_line('"ready"')

    def tell(self, *words):
        self.popen.stdin.write(" ".join(map(str, words)) + "\n")
        self.popen.stdin.flush()

    def finish(self, seconds=30):
        """Close its stdin; its last line."""
        self.popen.stdin.close()
        self.wait(seconds)
        return json.loads([line for line in self.out if line.startswith("{")][-1])


class ScriptedCloud(Orders):
    def __init__(self, folder, certificates, seed, log=None):
        self.port = free_port()
        self.certificates = certificates
        crt = certificates
        super().__init__([program("sallyport-ledger"), "cloud", self.port, crt / "ca.crt", crt / "server.crt",
                          crt / "server.key", log or folder / "cloud.log", seed])

    def calm(self):
        for order in ("away 0", "stall 0", "mute 0", "nack 0 0", "refuse 0", "poison 0", "late 0", "odd 0 0",
                      "window 100"):
            self.tell(order)


class Network(Orders):
    """proxy.py: whoever wants to reach `target` goes to `port`."""

    def __init__(self, target):
        self.port = free_port()
        super().__init__([sys.executable, "-B", pathlib.Path(__file__).with_name("proxy.py"), self.port, target])


class Victim(Gateway):
    """A gateway that is started with faults preloaded, and killed in every way."""

    def __init__(self, folder, certificates, cloud_port, faults=True, extra="", name="sallyport", threads=1):
        self.name = name
        super().__init__(folder, SimpleNamespace(certificates=certificates, port=cloud_port), threads=threads, routes=ROUTES,
                         cloud_extra="  limits: none\n", extra=extra, port=free_port())
        self.faults = Faults(f"{folder}.faults", folder, BUILD / "test" / "libspfaults.so") if faults else None
        self.keep = 4000  # lines
        self.log = open(f"{folder}.log", "w", encoding="utf-8")  # of all runs, whole

    def start(self, seconds=30):
        environment = self.faults.environment() if self.faults else {}
        self.process = Process([program(self.name), "run", "-c", self.config], self._line, env=environment)
        try:
            self.process.wait_line("event=ready", seconds)
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n" + "\n".join(self.process.err[-20:]) + "".join(
                f"\n{pid}: {_wait_channel(pid)}" for pid in _children(self.process.pid))) from error
        self.port = int(self.process.wait_line("event=listening", 2).rsplit(":", 1)[1].split()[0].strip('"'))
        return self

    def _line(self, stream, line):
        super()._line(stream, line)
        self.note(line)
        if len(self.lines) > 2 * self.keep:
            del self.lines[:self.keep]

    def note(self, line):
        """One more line for who has to find out what happened."""
        self.log.write(line + "\n")

    def children(self):
        """Ids of the living children by name: the order in which the parent makes them is kept in their ids."""
        try:
            return {name: entry["pid"] for name, entry in self.status()["processes"].items() if entry["pid"] > 0}
        except (RuntimeError, ValueError):
            return {}

    def kill_child(self, name, number=signal.SIGKILL):
        pid = self.children().get(name)
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return None
        return pid

    def kill_all(self):
        """kill -9 of everything, and wait until all are gone. Stopped first: else a child could be born meanwhile and live on."""
        os.kill(self.process.pid, signal.SIGSTOP)
        wait_for(lambda: _state(self.process.pid) in "TZ", 10, "the parent to stop")
        children = _children(self.process.pid)
        for pid in [*children, self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        wait_for(lambda: not any(_state(pid) != "Z" for pid in children), 10, "the end of killed processes")

    def usage(self):
        """Resident bytes by process id, and bytes of the journal's files."""
        rss = {}
        for pid in _children(self.process.pid):
            try:
                rss[pid] = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
            except (OSError, IndexError):
                pass
        disk = sum(p.stat().st_size for p in self.folder.glob("journal/journal.db*") if p.exists())
        return max(rss.values(), default=0), disk


def _wait_channel(pid):
    """What a process waits in, for reports."""
    try:
        return pathlib.Path(f"/proc/{pid}/wchan").read_text() + " " + pathlib.Path(f"/proc/{pid}/syscall").read_text().strip()
    except OSError as error:
        return str(error)


def _children(pid):
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _state(pid):
    """As in /proc, Z when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


class Ledger:
    """Everything for one run, in one folder."""

    def __init__(self, folder, seed, devices=16, rate=0, window=16, longest=400, extra="", name="sallyport", threads=1,
                 network=False, faults=True):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seed, self.devices = seed, devices
        self.certificates = make_certificates(self.folder / "certificates")
        self.fleet = self.folder / "fleet.jsonl"
        reference = run(program("sallyport-fleet"), "keys", "--fleet", self.fleet, "--sensors", devices, "--prefix", "dev",
                        "--psk-file", self.folder / "psk").stdout.split()
        self.cloud = ScriptedCloud(self.folder, self.certificates, seed)
        self.far = Network(self.cloud.port) if network else None
        self.gateway = Victim(self.folder / "home", self.certificates, (self.far or self.cloud).port, extra=extra, name=name,
                              threads=threads, faults=faults)
        self.gateway.cli("reference", "add", *reference)
        self.gateway.cli("device", "add", "--from", self.fleet)
        self.gateway.start()
        self.near = Network(self.gateway.port) if network else None
        self.producers = Orders([program("sallyport-ledger"), "produce", f"127.0.0.1:{(self.near or self.gateway).port}",
                                 self.fleet, self.folder / "devices.log", seed, f"count={devices}", f"rate={rate}",
                                 f"window={window}", f"longest={longest}"])
        self.peaks = [0, 0]
        self._watching = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while not self._watching.wait(0.5):
            self.peaks = [max(a, b) for a, b in zip(self.peaks, self.gateway.usage())]

    def heal(self):
        self.gateway.faults.heal()
        self.cloud.calm()
        for network in filter(None, (self.near, self.far)):
            network.tell("calm")

    def drain(self, seconds=120):
        """No more new messages; wait until the gateway has passed on what it accepted. Seconds that took."""
        made = self.producers.finish()
        began = time.monotonic()

        def empty():
            if not self.gateway.process.running():
                raise RuntimeError("the gateway ended:\n" + "\n".join(self.gateway.lines[-20:]))
            try:
                status = self.gateway.status()
            except (RuntimeError, ValueError):
                return False
            alive = all(p["pid"] > 0 for p in status["processes"].values())
            return alive and self.gateway_is_empty()
        wait_for(empty, seconds, "an empty journal")
        return made, time.monotonic() - began

    def gateway_is_empty(self):
        return self.gateway.cli("journal", "list", "--json").stdout.split() == ["[]"]

    def dead_letters(self):
        """Write them into a log of their own; how many."""
        import sqlite3
        import struct
        count = 0
        with open(self.folder / "dead.log", "wb") as out, \
                sqlite3.connect(f"file:{self.gateway.folder}/journal/journal.db?mode=ro", uri=True) as db:
            for (payload,) in db.execute("SELECT payload FROM dead_letters"):
                magic, device, number, _ = struct.unpack(">IIQI", payload[:20])
                assert magic == 0x53504C31
                out.write(struct.pack("=BBHIQQII", 6, 0, 0, device, number, 0, 0, 0))
                count += 1
        return count

    def check(self):
        """Stop everything and compare. The findings, and whether they are good."""
        self._watching.set()
        self.gateway.stop()
        self.cloud.finish()
        self.dead_letters()
        result = run(program("sallyport-ledger"), "check", BOUND, self.folder / "devices.log", self.folder / "dead.log",
                     self.folder / "cloud.log", check=False, timeout=300)
        if result.returncode > 1:
            raise RuntimeError(result.stderr)
        return json.loads(result.stdout), result.returncode == 0, result.stderr

    def stop(self):
        self._watching.set()
        for process in filter(None, (self.producers, self.gateway, self.cloud, self.near, self.far)):
            process.stop()
        self.gateway.log.flush()
