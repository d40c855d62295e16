# SPDX-License-Identifier: Apache-2.0
"""What a server costs by its own account in /proc, and the fleet that makes it work."""
import ctypes
import json
import os
import queue
import signal
import subprocess
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0  # seconds for anything that a fleet or a server is asked to do


class BenchError(Exception):
    """Something that makes a figure worthless."""


def _die_with_parent():
    """Nothing may outlive this program, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def start(command, cores, **more):
    """Start a program that may use these cores only."""
    def prepare():
        _die_with_parent()
        os.sched_setaffinity(0, cores)
    return subprocess.Popen([str(part) for part in command], preexec_fn=prepare, **more)


def stop(process, seconds=10):
    """End a program that start() started, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processes(root):
    """The process `root` and all its descendants, as ids."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _seconds(folder):
    """User and system time of one thread: the scheduler's own nanoseconds, or else ticks."""
    try:
        with open(f"{folder}/schedstat", encoding="ascii") as schedstat:
            return int(schedstat.read().split()[0]) / 1e9
    except OSError:
        with open(f"{folder}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK  # utime, stime


def thread_seconds(root):
    """User and system time of each thread of a server, over all its processes."""
    return {int(task): _seconds(f"/proc/{pid}/task/{task}")
            for pid in processes(root) for task in os.listdir(f"/proc/{pid}/task")}


def cpu_seconds(root):
    """User and system time of a server."""
    return sum(thread_seconds(root).values())


def _memory_of(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            wanted = ("Pss_Anon:", "Pss_Shmem:")
            lines = rollup.readlines()
    except OSError:  # not ours to look into: what status tells everybody
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            wanted = ("RssAnon:", "RssShmem:")
            lines = status.readlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(wanted)) * 1024


def memory_bytes(root):
    """Memory that a server has taken, all its processes summed: no pages of files, which the load generator has mapped too."""
    return sum(_memory_of(pid) for pid in processes(root))


class Fleet:
    """One run of sallyport-fleet, paced: it is set up when this returns, and works from go() on."""

    def __init__(self, program, cores, arguments):
        self.arguments = [str(a) for a in arguments]
        self.process = start([program, *self.arguments, "--paced"], cores, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        self.events = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put({"event": "gone"})

    def _wait(self, wanted):
        try:
            event = self.events.get(timeout=PATIENCE)
        except queue.Empty:
            event = {"event": "silence"}
        if event["event"] != wanted:
            raise BenchError(f"fleet {' '.join(self.arguments)}: {event} where {wanted} was due")
        return event

    def _tell(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self):
        try:
            self.ready = self._wait("ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def go(self):
        """Let it work; its result, of which nothing may be missing."""
        self._tell()
        result = self._wait("done")
        if result["complaints"]:
            raise BenchError(f"fleet {' '.join(self.arguments)}: {result}")
        return result

    def __exit__(self, *_):
        try:
            self._tell()
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            pass
        stop(self.process)
        self.process.stdin.close()


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def wait_until(what, condition, seconds=PATIENCE):
    """Ask until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"gave up waiting for {what}")
        time.sleep(0.05)
