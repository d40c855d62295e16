#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""What the firmware takes of a board's memory: docs/footprint.md, made from the images of build/firmware.

usage: footprint.py [-o docs/footprint.md]   the page; without -o on standard output
       footprint.py --check                  exit 1 when the secure side of AN521 is larger than TF-M's Profile Small

SALLYPORT_FIRMWARE names another folder than build/firmware. Needs arm-none-eabi-size.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / os.environ.get("SALLYPORT_FIRMWARE", "build/firmware")
MACHINES = ("mps2-an521", "mps2-an505", "musca-b1")
CHECKED = "mps2-an521"
# Trusted Firmware-M 2.3.0, Profile Small, AN521, Armclang, MinSizeRel: flash and RAM of the secure side, from its release notes.
PROFILE_SMALL = (52004, 13328)

PAGE = """# Footprint

Bytes. Made by `tools/footprint.py` from `build/firmware/<board>/{{secure,ns}}.elf` ({compiler}, preset `firmware-*`: MinSizeRel); do not edit.

| board | secure image | secure RAM | non-secure image | non-secure RAM |
|---|---:|---:|---:|---:|
{boards}
| TF-M 2.3 Profile Small, AN521 (Armclang) | {small_image:,} | {small_ram:,} | | |
| AN521 without app keys | {same_image:,} | {same_ram:,} | | |
| … beside TF-M | {image_change:+.1f} % | {ram_change:+.1f} % | | |

What is counted: *image* is what lies in code memory (`arm-none-eabi-size`: text + data: code, constants, vectors, the gate, start values of variables; in the
non-secure image its header of 1,024 bytes too). *RAM* is all that is laid out when the image is linked (data + bss). Secure: all of it, with its one stack and the crypto
partition's heap, both of fixed size. Non-secure: with the tasks' stacks and the library's heaps, which are arrays, and without the stack of {stack:,} bytes
at the end of RAM that start-up and interrupts use (`MAP_NS_STACK_SIZE`). Not counted: what is in the storage.

TF-M's numbers are those of its own release notes for its secure image, padding included; measured with another compiler and not by us. Our secure side has the services
of that profile (crypto, storage, attestation), AES-GCM, one-shot calls and the sensor partition besides. It also has a service that Profile Small knows nothing like: app keys and
sealed records; *without app keys* leaves out what the linker's map says of that service and of `libs/record`, nothing else. `tools/footprint.py --check` fails when the rest is
larger than Profile Small in either number.
"""


def sizes(machine, image):
    """Bytes of code memory and of RAM that an image takes."""
    path = FIRMWARE / machine / image
    if not path.exists():
        sys.exit(f"footprint.py: {path} is missing; build the presets firmware-an521, firmware-an505, firmware-musca")
    done = subprocess.run(["arm-none-eabi-size", path], check=True, capture_output=True, text=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    return text + data, data + bss


def app_keys():
    """Of the checked board's secure image, what the app key service and the protection of records take: image, RAM.

    Profile Small has nothing like it. From the linker's map: the sections of those objects that were kept.
    """
    image = ram = 0
    lines = (FIRMWARE / CHECKED / "secure.elf.map").read_text().split("Linker script and memory map", 1)[1]
    for kind, size in re.findall(r"^ \.(text|rodata|data|bss)\S*\s+0x[0-9a-f]{8}\s+0x([0-9a-f]+) "
                                 r"\S*(?:partitions/appkeys/|libsp_records?\.a)\S*$", lines, re.MULTILINE):
        image += int(size, 16) if kind != "bss" else 0
        ram += int(size, 16) if kind in ("data", "bss") else 0
    return image, ram


def compiler():
    done = subprocess.run(["arm-none-eabi-gcc", "-dumpfullversion"], check=True, capture_output=True, text=True)
    return f"gcc {done.stdout.strip()}"


def non_secure_stack():
    """The stack at the end of non-secure RAM, which no section of the image holds; the same on every board."""
    found = {int(line.split()[2], 16)
             for path in (ROOT / "device/boards").glob("**/*.h") for line in path.read_text().splitlines()
             if line.startswith("#define MAP_NS_STACK_SIZE ")}
    if len(found) != 1:
        sys.exit(f"footprint.py: the boards disagree about MAP_NS_STACK_SIZE: {sorted(found)}")
    return found.pop()


def page():
    rows = {machine: sizes(machine, "secure.elf") + sizes(machine, "ns.elf") for machine in MACHINES}
    boards = "\n".join(f"| {machine} | " + " | ".join(f"{n:,}" for n in row) + " |" for machine, row in rows.items())
    same = [have - extra for have, extra in zip(rows[CHECKED], app_keys())]
    image, ram = (100 * (have / limit - 1) for have, limit in zip(same, PROFILE_SMALL))
    return PAGE.format(compiler=compiler(), boards=boards, small_image=PROFILE_SMALL[0], small_ram=PROFILE_SMALL[1],
                       same_image=same[0], same_ram=same[1], image_change=image, ram_change=ram, stack=non_secure_stack())


def check():
    """0 when the secure side is not larger than Profile Small, else 1."""
    failed = 0
    for what, whole, extra, limit in zip(("image", "RAM"), sizes(CHECKED, "secure.elf"), app_keys(), PROFILE_SMALL):
        have = whole - extra
        print(f"{CHECKED}: secure {what} without app keys {have:,} of {limit:,} bytes" + (": TOO LARGE" if have > limit else ""))
        failed |= have > limit
    return int(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("-o", "--out", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    text = page()
    if arguments.out:
        arguments.out.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
