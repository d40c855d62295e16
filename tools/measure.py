#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""What a board's secure world will say about two images, as arguments of `sallyport reference add`.

usage: measure.py BOARD secure.elf ns.elf [-o measurements.txt]
       measure.py --pin ns.elf | --pin-hex HEX [-o ns_pinned.h]

A measurement is the SHA-256 of what the image puts into code memory, from its first loaded byte to its last; gaps are zeros.
"""
import argparse
import hashlib
import pathlib
import struct
import sys

PT_LOAD = 1


def loaded(path):
    """The bytes that the loader puts into memory, by physical address."""
    elf = path.read_bytes()
    if elf[:6] != b"\x7fELF\x01\x01":
        sys.exit(f"measure.py: {path} is not a 32-bit little-endian ELF file")
    start, = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<HH", elf, 42)
    parts = []
    for i in range(count):
        kind, offset, _, address, length = struct.unpack_from("<IIIII", elf, start + i * size)
        if kind == PT_LOAD and length:
            parts.append((address, elf[offset:offset + length]))
    first = min(address for address, _ in parts)
    image = bytearray(max(address + len(content) for address, content in parts) - first)
    for address, content in parts:
        image[address - first:address - first + len(content)] = content
    return bytes(image)


def arguments(board, secure, non_secure):
    identity = f"sallyport/{board}".encode().ljust(32, b"\0").hex()
    line = f"--implementation-id {identity}"
    for kind, path in (("SPE", secure), ("NSPE", non_secure)):
        line += f" --component {kind}={hashlib.sha256(loaded(path)).hexdigest()}"
    return line + "\n"


def pinned(measurement):
    if len(measurement) != 32:
        sys.exit("measure.py: a measurement has 32 bytes")
    return f"#define SP_NS_PINNED {', '.join(f'0x{byte:02x}' for byte in measurement)}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("board", nargs="?")
    parser.add_argument("secure", nargs="?", type=pathlib.Path)
    parser.add_argument("non_secure", nargs="?", type=pathlib.Path)
    parser.add_argument("--pin", type=pathlib.Path)
    parser.add_argument("--pin-hex", type=bytes.fromhex)
    parser.add_argument("-o", "--out", type=pathlib.Path)
    args = parser.parse_args()
    if args.pin_hex is not None:
        text = pinned(args.pin_hex)
    elif args.pin:
        text = pinned(hashlib.sha256(loaded(args.pin)).digest())
    elif args.non_secure:
        text = arguments(args.board, args.secure, args.non_secure)
    else:
        parser.error("BOARD, secure.elf and ns.elf, or one of --pin, --pin-hex")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="ascii")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
