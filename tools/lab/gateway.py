# SPDX-License-Identifier: Apache-2.0
"""A gateway in a folder of its own: made by `sallyport init`, configured, run, asked, killed."""
import json
import pathlib
import re

from .process import Process, program, run, wait_for

ROUTES = """routes:
  - {from: dt/+/climate, cloud: "dt/sallyport/{gateway}/{device}/climate", format: json, qos: 1}
  - {from: "dt/#", cloud: "dt/sallyport/{gateway}/{rest}"}
commands:
  - {cloud: "cmd/sallyport/{gateway}/#", to: "cmd/{rest}"}
"""


def at_any_rate(extra):
    """Tests publish as fast as they can: `limits: message_rate` is off unless `extra`, the end of a configuration, names it."""
    if "message_rate" in extra:
        return extra
    if "\nlimits:" not in "\n" + extra:
        return extra + "limits: {message_rate: 0}\n"
    return re.sub(r"(?m)^limits:(?: \{|\n  )", lambda found: found.group() + "message_rate: 0" + (", " if "{" in found.group() else "\n  "), extra, count=1)


class Gateway:
    """`sallyport run` over a state folder that outlives each run."""

    def __init__(self, folder, cloud=None, threads=1, suites="profile-small", extra="", listener="", routes=ROUTES,
                 gateway_id="gw-1", on_line=None, cloud_extra="", port=0):
        self.folder = pathlib.Path(folder)
        run(program("sallyport"), "init", self.folder)
        self.config = self.folder / "sallyport.yaml"
        text = (f"gateway:\n  id: {gateway_id}\n  state_dir: {self.folder}\n  threads: {threads}\n"
                f"listeners:\n  - {{address: \"127.0.0.1:{port}\", suites: [{suites}]{listener}}}\n")
        if cloud is not None:
            crt = cloud.certificates
            text += (f"cloud:\n  endpoint: localhost:{cloud.port}\n  ca: {crt}/ca.crt\n  certificate: {crt}/gateway.crt\n"
                     f"  key: {crt}/gateway.key\n  client_id: {gateway_id}\n{cloud_extra}")
            text += routes
        self.config.write_text(text + (extra if extra == "@" else at_any_rate(extra)))
        self.binary = program("sallyport")  # what runs; the command line is always the built one
        self.process = None
        self.port = None
        self._on_line = on_line
        self.lines = []  # of all runs
        self.env = {}  # more for the environment of the next run

    def start(self, seconds=15):
        self.process = Process([self.binary, "run", "-c", self.config], self._line, env=self.env)
        self.process.wait_line("event=ready", seconds)
        line = self.process.wait_line("event=listening", 2)
        self.port = int(re.search(r"address=\"?\S*?:(\d+)\"?(\s|$)", line).group(1))
        return self

    def _line(self, stream, line):
        self.lines.append(line)
        if self._on_line is not None:
            self._on_line(stream, line)

    def cli(self, *words, check=True, data=None):
        """A subcommand of `sallyport` on this gateway."""
        return run(program("sallyport"), *words, "-c", self.config, check=check, data=data)

    def add(self, name, *options, role="sensor"):
        """Add a device; its bundle's path."""
        bundle = self.folder / f"{name}.json"
        self.cli("device", "add", name, "--role", role, "--bundle", bundle, *options)
        return bundle

    def accept_device_program(self):
        """Take the measurement of the built sallyport-device as a reference."""
        words = run(program("sallyport-device"), "--print-measurement").stdout.split()
        self.cli("reference", "add", *words)

    def status(self):
        return json.loads(self.cli("status", "--json").stdout)

    def metric(self, name):
        """A counter by its name, 0 where it is not listed."""
        return self.status()["metrics"].get(name, 0)

    def refused(self, check):
        return self.metric(f'attestations_refused_total{{check="{check}"}}')

    def wait_metric(self, name, at_least, seconds=10):
        return wait_for(lambda: self.metric(name) >= at_least, seconds, f"{name} >= {at_least}")

    def events(self, name):
        return [line for line in list(self.lines) if f"event={name}" in line]

    def wait_event(self, name, count=1, seconds=10):
        return wait_for(lambda: len(self.events(name)) >= count and self.events(name)[count - 1], seconds,
                        f"event={name}")

    def pids(self):
        """Process ids of the children by name."""
        return {name: entry["pid"] for name, entry in self.status()["processes"].items()}

    def kill(self):
        """kill -9 of the parent and every child, as a power cut would."""
        import os
        import signal
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.running():
            return self.process.stop()
        return None


class Device:
    """`sallyport-device` with a bundle."""

    def __init__(self, gateway, bundle, *options, on_line=None):
        self.process = Process([program("sallyport-device"), "--bundle", bundle,
                                "--gateway", f"127.0.0.1:{gateway.port}", *options], on_line)

    def records(self):
        """What a monitor has printed so far."""
        return [json.loads(line) for line in list(self.process.out) if line.startswith("{")]

    def stop(self):
        return self.process.stop()
