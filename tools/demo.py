#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demonstration behind ./demo: starts a whole system in a temporary folder, shows it side by side, judges it, and
leaves nothing behind."""
import argparse
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

SENSORS = {"hall-1": "constant:21.5,40.0", "roof-1": "wave"}
MONITOR, LIAR = "display-1", "hall-2"
COLUMNS = ("gateway: who gets in", "cloud: what it logs", "monitor: what it prints")


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
        self.log = []

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
            self.cloud.setdefault(match.group(1), []).append(document)
            self.screen.row(1, f"{document['device']}  {document['temperature_celsius']:.2f} °C  "
                               f"{document['humidity_percent']:.1f} %RH  {document['protection']}")

    def monitor_line(self, stream, line):
        if stream == "out" and line.startswith("{"):
            record = json.loads(line)
            self.monitor.setdefault(record["device"], []).append(record)
            self.screen.row(2, f"{record['device']}  {record['temperature_celsius']:.2f} °C  "
                               f"{record['humidity_percent']:.1f} %RH")

    def verdict(self):
        """(text, true or false) for everything that the demonstration promises."""
        yield from ((f"{name} proved what it booted", name in self.attested) for name in (*SENSORS, MONITOR))
        yield from ((f"the cloud logged {len(self.cloud.get(name, []))} records of {name}", name in self.cloud) for name in SENSORS)
        yield from ((f"the monitor printed {len(self.monitor.get(name, []))} records of {name}", name in self.monitor)
                    for name in SENSORS)
        yield f"{LIAR}, whose firmware was changed, was refused ({self.refused.get(LIAR, 'not seen')})", LIAR in self.refused
        yield f"nothing of {LIAR} went anywhere", LIAR not in self.cloud and LIAR not in self.monitor


def _field(line, key):
    match = re.search(rf'(?:^| ){key}=("(?:[^"\\]|\\.)*"|\S*)', line)
    return match.group(1).strip('"') if match else ""


def simulate(folder, story, stop, seconds):
    """Start everything, let it run, end it. Devices are POSIX processes."""
    running = []
    try:
        story.screen.say("Making a certificate authority, a broker with mutual TLS in the cloud's role, a gateway, devices …", "")
        cloud = Cloud(folder / "cloud", story.cloud_message)
        running.append(cloud)
        cloud.start().log()
        gateway = Gateway(folder / "gateway", cloud, on_line=story.gateway_line)
        gateway.accept_device_program()
        bundles = {name: gateway.add(name, role="monitor" if name == MONITOR else "sensor") for name in (*SENSORS, MONITOR, LIAR)}
        running.append(gateway)
        story.screen.say(f"Look at it from another terminal: build/bin/sallyport status --watch -c {gateway.config}\n", "")
        story.screen.heading()
        gateway.start()
        wait_for(lambda: gateway.events("cloud_connected"), 15, "the cloud link")
        running.append(Device(gateway, bundles[MONITOR], on_line=story.monitor_line))
        wait_for(lambda: MONITOR in story.attested, 15, "the monitor")
        for name, readings in SENSORS.items():
            running.append(Device(gateway, bundles[name], "--sensor", readings, "--period", "2s"))
        stop.wait(min(6, seconds / 3))
        story.screen.say(f"\n  Now {LIAR} comes with changed firmware (--tamper measurement). Its keys are right; what it booted is not.\n", "33")
        running.append(Device(gateway, bundles[LIAR], "--tamper", "measurement", "--period", "2s"))
        stop.wait(max(1, seconds - (time.monotonic() - story.screen.started)))
    finally:
        for process in reversed(running):
            process.stop()


def main():
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end by itself after so long, and judge what was seen")
    parser.add_argument("--devices", choices=["sim"], default="sim", help="sim: POSIX processes (emulated Cortex-M33 boards come next)")
    parser.add_argument("--plain", action="store_true", help="no colours")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    story = Story(Screen(options.plain))
    with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as folder:
        try:
            simulate(pathlib.Path(folder), story, stop, options.seconds or 10 ** 7)
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
