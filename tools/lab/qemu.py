# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""Emulated boards: qemu-system-arm with the images of build/firmware/<machine>, and a device's own storage image.

    board = Board("dev-1", bundle, gateway_port=8883, folder=tmp, machine="mps2-an521").start()
    board.wait_event("attested")
    board.set_temperature(31.5)
    board.stop()
"""
import json
import os
import pathlib
import re
import shutil
import socket
import tempfile

from .process import ROOT, Process, run, wait_for
from .serial_link import SerialLink

FIRMWARE = ROOT / os.environ.get("SALLYPORT_FIRMWARE", "build/firmware")
MACHINES = ("mps2-an521", "mps2-an505", "musca-b1")
HOST = "10.0.2.2"  # our loopback, as an emulated board with Ethernet sees it


def _map(machine, name):
    """A number of a board's memory map: its map.h is the one place that says so."""
    boards = ROOT / "device/boards"
    text = (boards / machine / "map.h").read_text()
    for included in re.findall(r'^#include "device/boards/(.*)"$', text, re.MULTILINE):
        text += (boards / included).read_text()
    return int(re.search(rf"^#define {name}\s+(0x[0-9A-Fa-f]+)\b", text, re.MULTILINE).group(1), 16)


def available():
    """There is an emulator, and images for it."""
    return shutil.which("qemu-system-arm") is not None and all((FIRMWARE / m / "ns.elf").exists() for m in MACHINES)


def accept_firmware(gateway, machine):
    """Take the built firmware of a machine as a reference; what `sallyport reference add` is told is the build's own file."""
    gateway.cli("reference", "add", *(FIRMWARE / machine / "measurements.txt").read_text().split())


def tampered_image(machine, path):
    """A copy of a machine's non-secure image in which one letter of a text that it prints is another."""
    image = (FIRMWARE / machine / "ns.elf").read_bytes()
    changed = image.replace(b"the gateway closed", b"the gateway cloSed")
    if image == changed:
        raise RuntimeError(f"{machine}: the text to be changed is not in the image")
    pathlib.Path(path).write_bytes(changed)
    return path


class Qmp:
    """The emulator's control socket; one command at a time."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        wait_for(lambda: self._socket.connect_ex(str(path)) == 0, 10, "the emulator's control socket")
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.command("qmp_capabilities")

    def command(self, name, /, **arguments):
        self._file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline() or '{"error": "the emulator is gone"}')
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self._file.close()
        self._socket.close()


class Board:
    """One emulated device. Its storage image outlives each run; `lines` are those of all runs.

    `bundle` is what `sallyport device add --bundle` wrote. `ns` is another non-secure image than the built one.
    A board with Ethernet finds the gateway itself; a musca-b1 is bridged to it by a SerialLink (`link`).
    """

    def __init__(self, name, bundle, gateway_port, folder, machine="mps2-an521", ns=None, on_line=None, period_ms=None):
        if machine not in MACHINES:
            raise ValueError(f"{machine} is none of {', '.join(MACHINES)}")
        self.name, self.machine, self.bundle = name, machine, pathlib.Path(bundle)
        self.ns = pathlib.Path(ns) if ns else FIRMWARE / machine / "ns.elf"
        self.storage = pathlib.Path(folder) / f"{name}.storage"
        self.lines = []
        self.process = self.qmp = self.link = None
        self._on_line = on_line
        self._gateway_port = gateway_port
        self._sockets = None
        words = ["--period", str(period_ms)] if period_ms else []
        run("/usr/bin/python3", ROOT / "tools/provision.py", bundle, "--gateway", f"{HOST}:{gateway_port}",
            "--out", self.storage, *words)

    def _common(self):
        return ["qemu-system-arm", "-M", self.machine, "-name", self.name, "-display", "none", "-monitor", "none",
                "-no-user-config", "-kernel", FIRMWARE / self.machine / "secure.elf", "-device", f"loader,file={self.ns}",
                "-qmp", f"unix:{self._sockets}/qmp,server=on,wait=off",
                "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]

    def _ethernet(self):
        return ["-drive", f"if=none,id=ee,file={self.storage},format=raw",
                "-device", "at24c-eeprom,bus=i2c,address=0x50,rom-size=32768,drive=ee",
                "-device", "tmp105,bus=i2c,address=0x48,id=thermometer", "-device", "tmp105,bus=i2c,address=0x49,id=hygrometer",
                "-nic", "user,model=lan9118,id=net"]

    def _serial(self):
        return ["-device", f"loader,file={self.storage},addr={_map(self.machine, 'MAP_S_STORAGE'):#x},force-raw=on",
                "-chardev", f"socket,id=line,host=127.0.0.1,port={self.link.port},nodelay=on,reconnect=1",
                "-serial", "chardev:line"]

    def start(self, temperature=21.0, humidity=45.0):
        self._sockets = tempfile.mkdtemp(prefix="sp-qemu-")  # a socket's path must be short
        if self.machine == "musca-b1":
            if self.link is None:
                self.link = SerialLink(("127.0.0.1", self._gateway_port)).start()
            run("/usr/bin/python3", ROOT / "tools/provision.py", "--renew", self.storage)
            words = self._common() + self._serial()
        else:
            words = self._common() + self._ethernet() + ["-S"]  # until the sensors have values
        self.process = Process(words, self._line)
        self.qmp = Qmp(f"{self._sockets}/qmp")
        if self.machine != "musca-b1":
            self.set_temperature(temperature)
            self.set_humidity(humidity)
            self.qmp.command("cont")
        return self

    def _line(self, stream, line):
        self.lines.append(line)
        if self._on_line is not None:
            self._on_line(stream, line)

    def _parsed(self):
        for line in list(self.lines):
            if line.startswith("{") and line.endswith("}"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def events(self, name=None):
        """What the device has reported about itself so far: dicts with `event`, `ms`, perhaps `code` and `text`."""
        return [entry for entry in self._parsed() if "event" in entry and name in (None, entry["event"])]

    def records(self):
        """What a monitor has printed so far."""
        return [entry for entry in self._parsed() if "device" in entry]

    def wait_event(self, name, seconds=20.0, count=1):
        def found():
            seen = self.events(name)
            if len(seen) < count and not self.process.running():
                raise RuntimeError(f"{self.name}: the emulator ended:\n" + "\n".join(self.lines[-20:]))
            return len(seen) >= count and seen[count - 1]
        try:
            return wait_for(found, seconds, f"event {name} of {self.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its last lines:\n" + "\n".join(self.lines[-20:])) from None

    def _set_sensor(self, device, value):
        self.qmp.command("qom-set", path=f"/machine/peripheral/{device}", property="temperature", value=round(value * 1000))

    def set_temperature(self, celsius):
        """What the thermometer measures from now on; a musca-b1 has none that could be set."""
        self._set_sensor("thermometer", celsius)

    def set_humidity(self, percent):
        self._set_sensor("hygrometer", percent)

    def set_network(self, up):
        """Pull the Ethernet plug, or put it in again."""
        self.qmp.command("set_link", name="net", up=up)

    def non_secure_memory(self):
        """All of the memory that the non-secure world can write."""
        dump = pathlib.Path(self._sockets) / "dump"
        self.qmp.command("memsave", val=_map(self.machine, "MAP_NS_RAM"), size=_map(self.machine, "MAP_NS_RAM_SIZE"),
                         filename=str(dump))
        return dump.read_bytes()

    def reset(self):
        """As the reset button does."""
        self.qmp.command("system_reset")

    def kill(self):
        """As a power cut does: the emulator is killed."""
        self._end(self.process.kill)

    def stop(self):
        """The emulator ends; the storage image stays."""
        if self.process is not None:
            self._end(self.process.stop)
        if self.link is not None:
            self.link.stop()
            self.link = None

    def _end(self, how):
        if self.qmp is not None:
            self.qmp.close()
            self.qmp = None
        how()
        self.process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)
