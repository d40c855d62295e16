# SPDX-License-Identifier: Apache-2.0
"""Child processes whose output is kept line by line, and that never outlive us."""
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("SALLYPORT_BUILD", "build")

# What a process prints that a sanitizer has caught, or that a signal ended by a fault of its own: no test expects any of it.
ALARM = re.compile(r"Sanitizer|runtime error: |event=process_died .*signal=(ABRT|BUS|FPE|ILL|SEGV|TRAP)\b")
alarms = []  # such lines of all processes; tests/conftest.py takes them, and fails the test that they came in


def program(name):
    """The path of a built program."""
    return str(BUILD / "bin" / name)


def run(*words, data=None, check=True, timeout=60):
    """Run to the end; stdout and stderr as text unless `data` is bytes."""
    result = subprocess.run([str(w) for w in words], input=data, capture_output=True, timeout=timeout,
                            text=not isinstance(data, bytes), check=False)
    said = result.stderr.decode(errors="replace") if isinstance(data, bytes) else result.stderr
    alarms.extend(line for line in said.splitlines() if ALARM.search(line))
    if check and result.returncode != 0:
        raise RuntimeError(f"{words[0]} {words[1] if len(words) > 1 else ''}: exit {result.returncode}: "
                           f"{result.stderr or result.stdout}")
    return result


def free_port():
    """A TCP port of 127.0.0.1 to listen on, below those the kernel gives to connections, so that none takes it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_for(condition, seconds=10.0, what="a condition"):
    """Poll until `condition()` is true and give its value back; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


def _die_with_parent():
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing is left when we are killed


class Process:
    """A running program. `out` and `err` are its lines so far; `on_line(stream, line)` sees each as it comes."""

    def __init__(self, words, on_line=None, stdin=subprocess.DEVNULL, env=None, cwd=None):
        self.words = [str(w) for w in words]
        self.out, self.err = [], []
        self._on_line = on_line
        self.popen = subprocess.Popen(self.words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, errors="backslashreplace", bufsize=1, cwd=cwd,
                                      env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent)
        self._readers = [threading.Thread(target=self._read, args=(self.popen.stdout, self.out, "out"), daemon=True),
                         threading.Thread(target=self._read, args=(self.popen.stderr, self.err, "err"), daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines, name):
        for line in stream:
            line = line.rstrip("\n")
            lines.append(line)
            if ALARM.search(line):
                alarms.append(line)
            if self._on_line is not None:
                self._on_line(name, line)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def wait_line(self, text, seconds=10.0, count=1):
        """Wait until `count` lines hold `text`; the last of them."""
        def found():
            lines = [line for line in self.out + self.err if text in line]
            if len(lines) >= count:
                return lines[count - 1]
            if not self.running() and not any(reader.is_alive() for reader in self._readers):
                raise RuntimeError(f"{self.words[0]} ended ({self.popen.returncode}) before {text!r}:\n"
                                   + "\n".join((self.out + self.err)[-20:]))
            return None
        return wait_for(found, seconds, f"{text!r} from {pathlib.Path(self.words[0]).name}")

    def wait(self, seconds=10.0):
        """Wait for the end; the exit status."""
        status = self.popen.wait(seconds)
        for reader in self._readers:
            reader.join(2)
        return status

    def kill(self, number=signal.SIGKILL):
        if self.running():
            self.popen.send_signal(number)

    def stop(self, seconds=10.0):
        """Ask it to end, insist after a while; the exit status."""
        self.kill(signal.SIGTERM)
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(seconds)
