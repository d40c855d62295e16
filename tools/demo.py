#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demonstration behind ./demo: starts a whole system in a temporary folder, shows it side by side, judges it, and
leaves nothing behind."""
import argparse
import functools
import json
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.lab.cloud import Cloud  # noqa: E402
from tools.lab.gateway import Device, Gateway  # noqa: E402
from tools.lab.process import wait_for  # noqa: E402

SENSORS, MONITOR, LIAR = ("hall-1", "roof-1"), "display-1", "hall-2"
FUSIONS = """fusions:
  - {name: hall, inputs: dt/+/climate, window: 5s, declassify: true, cloud: "dt/sallyport/{gateway}/fused/hall"}
"""
DEFAULT_DEVICES = "qemu"
COLUMNS = ("gateway: who gets in, and app keys", "cloud: what it logs", "monitor: what it opens")


class Screen:
    """One row an event, in the column of who saw it."""

    def __init__(self, plain):
        width = shutil.get_terminal_size((132, 40)).columns
        left = max(104, min(width, 160) - 13)
        self.widths = (left - 2 * (left * 3 // 10), left * 3 // 10, left * 3 // 10)
        self.colour = sys.stdout.isatty() and not plain
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def _paint(self, text, code):
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text

    def heading(self):
        print("   s   " + "  ".join(self._paint(title.ljust(width), "1") for title, width in zip(COLUMNS, self.widths)))
        print("  ───  " + "  ".join("─" * width for width in self.widths), flush=True)

    def row(self, column, text, code=""):
        safe = "".join(c if c.isprintable() else "?" for c in text)
        width = self.widths[column]
        if len(safe) > width:
            safe = safe[:width - 1] + "…"
        cells = ["".ljust(w) for w in self.widths]
        cells[column] = self._paint(safe.ljust(width), code)
        with self._lock:
            print(f" {time.monotonic() - self.started:5.1f} " + "  ".join(cells).rstrip(), flush=True)

    def say(self, text, code="1"):
        with self._lock:
            print(self._paint(text, code), flush=True)


class Story:
    """What was seen, for the verdict at the end."""

    def __init__(self, screen):
        self.screen = screen
        self.attested, self.refused, self.cloud, self.monitor = set(), {}, {}, {}
        self.sealed, self.fused = set(), 0
        self.keys = {}  # app keys that a device's secure world took
        self.rotated = None  # what the monitor had printed of each sensor by then
        self.log = []
        self.heated = False

    def gateway_line(self, stream, line):
        self.log.append(line)
        event = _field(line, "event")
        device = _field(line, "device")
        if event == "device_admitted" and _field(line, "attested") == "yes":
            self.attested.add(device)
            self.screen.row(0, f"✔ {device} attested, admitted as {_field(line, 'role')}", "32")
        elif event == "attest_refused":
            self.refused[device] = _field(line, "check")
            self.screen.row(0, f"✘ {device} refused: {_field(line, 'check')}: {_field(line, 'detail')}", "31")
        elif event == "cloud_connected":
            self.screen.row(0, "cloud link up: TLS with certificates", "36")

    def cloud_message(self, topic, payload):
        match = re.fullmatch(r"dt/sallyport/[^/]+/([^/]+)/climate", topic)
        if match:
            document = json.loads(payload)
            self.sealed.add(document["protection"])
            self.cloud.setdefault(match.group(1), []).append(document)
            self.screen.row(1, f"{document['device']}  {document['temperature_celsius']:.2f} °C  "
                               f"{document['humidity_percent']:.1f} %RH  {document['protection']}")
        elif topic.endswith("/fused/hall"):
            document = json.loads(payload)["temperature_celsius"]
            if document["count"]:
                self.fused += 1
                self.screen.row(1, f"fused: {document['count']} records, mean {document['mean']:.2f} °C", "36")

    def monitor_line(self, stream, line):
        if stream != "out" or not (line.startswith("{") and line.endswith("}")):
            return
        record = json.loads(line)
        if record.get("temperature_celsius") is not None:  # a board reports its events on the same line
            self.monitor.setdefault(record["device"], []).append(record)
            self.screen.row(2, f"{record['device']}  {record['temperature_celsius']:.2f} °C  "
                               f"{record['humidity_percent']:.1f} %RH  #{record['sequence']}")

    def device_line(self, name, stream, line):
        if "key_granted" in line:
            self.keys[name] = self.keys.get(name, 0) + 1
            self.screen.row(0, f"✔ {name} took {'its app key' if self.keys[name] == 1 else 'a new app key'}", "36")
        if name == MONITOR:
            self.monitor_line(stream, line)

    def everybody_has(self, keys):
        return all(self.keys.get(name, 0) >= keys for name in (*SENSORS, MONITOR))

    def verdict(self):
        """(text, true or false) for everything that the demonstration promises."""
        yield from ((f"{name} proved what it booted", name in self.attested) for name in (*SENSORS, MONITOR))
        yield from ((f"the cloud logged {len(self.cloud.get(name, []))} records of {name}", name in self.cloud) for name in SENSORS)
        yield "each of them was granted an app key after that, at run time", self.everybody_has(1)
        yield from ((f"the monitor opened {len(self.monitor.get(name, []))} sealed records of {name} with its key",
                     {record["protection"] for record in self.monitor.get(name, [])} == {"sealed"}) for name in SENSORS)
        yield f"{LIAR}, whose firmware was changed, was refused ({self.refused.get(LIAR, 'not seen')})", LIAR in self.refused
        yield "every record came sealed by its device; the gateway opened it and made JSON of it", self.sealed == {"sealed"}
        if self.rotated is not None:
            more = all(len(self.monitor.get(name, [])) > self.rotated[name] for name in SENSORS)
            yield "the group's key was rotated, everybody took the new one, and records went on", self.everybody_has(2) and more
        yield f"{self.fused} documents joined the records of both sensors", self.fused > 0
        if self.heated:
            yield "the heat reached the cloud", any(d["temperature_celsius"] > 60 for d in self.cloud.get("hall-1", []))
        yield f"nothing of {LIAR} went anywhere", LIAR not in self.cloud and LIAR not in self.monitor


def _field(line, key):
    match = re.search(rf'(?:^| ){key}=("(?:[^"\\]|\\.)*"|\S*)', line)
    return match.group(1).strip('"') if match else ""


class Simulated:
    """Devices as POSIX processes: the same application and services as the firmware, without a secure world."""
    title = "POSIX processes"
    lie = "--tamper measurement"
    patience = 15

    def __init__(self, gateway, folder, story):
        self._gateway, self._folder, self._story = gateway, folder, story
        gateway.accept_device_program()

    def start(self, name, bundle):
        options = {"hall-1": ["--sensor", "constant:21.5,40.0"], "roof-1": ["--sensor", "wave"], LIAR: ["--tamper", "measurement"]}
        return Device(self._gateway, bundle, "--period", "2s", "--state", self._folder / f"{name}.state",
                      *options.get(name, []), on_line=functools.partial(self._story.device_line, name))

    def half_time(self, boards):
        """Nothing can be changed from outside here."""


class Emulated:
    """Devices as emulated Cortex-M33 boards with TrustZone."""
    title = "emulated Cortex-M33 boards: hall-1 is an mps2-an521, roof-1 a musca-b1, display-1 an mps2-an505"
    lie = "one letter of its non-secure image is another"
    patience = 60
    MACHINES = {"hall-1": "mps2-an521", "roof-1": "musca-b1", MONITOR: "mps2-an505", LIAR: "mps2-an521"}

    def __init__(self, gateway, folder, story):
        from tools.lab import qemu
        self._qemu, self._gateway, self._folder, self._story = qemu, gateway, folder, story
        for machine in sorted(set(self.MACHINES.values())):
            qemu.accept_firmware(gateway, machine)

    def start(self, name, bundle):
        machine = self.MACHINES[name]
        changed = self._qemu.tampered_image(machine, self._folder / "changed.elf") if name == LIAR else None
        return self._qemu.Board(name, bundle, self._gateway.port, self._folder, machine, ns=changed, period_ms=2000,
                                on_line=functools.partial(self._story.device_line, name)).start()

    def half_time(self, boards):
        self._story.screen.say("\n  Somebody holds a lighter to the thermometer of hall-1: 21 °C → 63 °C (set in the emulator from outside).\n", "33")
        self._story.heated = True
        boards["hall-1"].set_temperature(63.0)


def rotate(gateway, story):
    """A new epoch of the group's key, while records flow."""
    story.screen.say("\n  The group's key is rotated: monitors get the new one first, then sensors; the old one ends after ten minutes.\n",
                     "33")
    story.rotated = {name: len(story.monitor.get(name, [])) for name in SENSORS}
    gateway.cli("group", "rotate", "hall")


def perform(folder, story, stop, seconds, kind):
    """Start everything, let it run, end it."""
    screen, running = story.screen, []
    try:
        screen.say("Making a certificate authority, a broker with mutual TLS in the cloud's role, a gateway, devices …", "")
        cloud = Cloud(folder / "cloud", story.cloud_message)
        running.append(cloud)
        cloud.start().log()
        gateway = Gateway(folder / "gateway", cloud, on_line=story.gateway_line, extra=FUSIONS)
        devices = kind(gateway, folder, story)
        gateway.cli("group", "add", "hall")
        bundles = {name: gateway.add(name, "--group", "hall", role="monitor" if name == MONITOR else "sensor")
                   for name in (*SENSORS, MONITOR, LIAR)}
        running.append(gateway)
        screen.say(f"Devices: {devices.title}.", "")
        screen.say(f"Look at it from another terminal: build/bin/sallyport status --watch -c {gateway.config}\n", "")
        screen.heading()
        gateway.start()
        wait_for(lambda: gateway.events("cloud_connected"), 15, "the cloud link")
        boards = {}

        def start(name):
            boards[name] = devices.start(name, bundles[name])
            running.append(boards[name])
        start(MONITOR)
        wait_for(lambda: MONITOR in story.attested or stop.is_set(), devices.patience, "the monitor")
        for name in SENSORS:
            start(name)
        wait_for(lambda: set(SENSORS) <= set(story.cloud) or stop.is_set(), devices.patience, "records of both sensors")
        stop.wait(min(6, seconds / 5))
        screen.say(f"\n  Now {LIAR} comes with changed firmware ({devices.lie}). Its keys are right; what it booted is not.\n", "33")
        start(LIAR)
        stop.wait(min(8, seconds / 4))
        devices.half_time(boards)
        rotate(gateway, story)
        wait_for(lambda: story.everybody_has(2) or stop.is_set(), devices.patience, "the new app keys")
        stop.wait(max(4, seconds - (time.monotonic() - screen.started)))
    finally:
        for process in reversed(running):
            process.stop()


def main():
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end by itself after so long, and judge what was seen")
    parser.add_argument("--devices", choices=["qemu", "sim"], default=DEFAULT_DEVICES,
                        help="qemu: emulated Cortex-M33 boards; sim: POSIX processes")
    parser.add_argument("--plain", action="store_true", help="no colours")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    story = Story(Screen(options.plain))
    with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as folder:
        try:
            kind = Emulated if options.devices == "qemu" else Simulated
            perform(pathlib.Path(folder), story, stop, options.seconds or 10 ** 7, kind)
        except (RuntimeError, TimeoutError) as error:
            story.screen.say("\n".join(["", "The gateway's last words:", *story.log[-12:], "", f"demo: {error}"]), "31")
            return 1
    print()
    lines = list(story.verdict())
    for text, good in lines:
        story.screen.say(f"  {'✔' if good else '✘'} {text}", "32" if good else "31")
    return 0 if all(good for _, good in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
