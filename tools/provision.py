#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""Turn a bundle of `sallyport device add --bundle` into the storage image of an emulated or real board.

usage: provision.py BUNDLE --gateway ADDRESS:PORT --out IMAGE [--lifecycle secured] [--replace]
                    [--network ADDRESS/PREFIX,ROUTER] [--period MILLISECONDS]
       provision.py --renew IMAGE

IMAGE has 32 KiB and holds secrets (mode 0600). On mps2 boards it is the EEPROM (-drive file=IMAGE for at24c-eeprom):
the secure world takes the keys over at its first start, erases them from the parcel, and keeps its storage there.
An image that exists is a device's storage and is not overwritten, unless --replace says so. On musca-b1 the loader
puts IMAGE at MAP_S_STORAGE at each start; the board forgets what it writes, so that --renew has to put a new random
seed into the parcel before every start: else its random numbers repeat.

The parcel's format is in device/secure/start/provision.h.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import struct
import sys

SIZE = 32768
OFFSET = 0x6000
BODY_MAX = 640
MAGIC = b"SPPV\x01\x00"
HEAD_LEN = 40
DEVICE, PSK, IAK, IAK_ALGORITHM, SEED, LIFECYCLE, ASSET, KEK, GROUP, APP_KEY = range(1, 11)
SEED_LEN = 64

LIFECYCLES = {"assembly": 0x1000, "provisioning": 0x2000, "secured": 0x3000, "debug": 0x4000}
# Assets of the non-secure world: device/app/profile.c, device/secure/ns/ns.h, device/port/freertos/settings.h.
PROFILE_UID, GATEWAY_UID, NETWORK_UID, PERIOD_UID = 1, 2, 3, 4
ROLES = {"sensor": 0, "monitor": 1}
BINDINGS = {"tls": 0, "none": 1}
# Bits of device/port/suites.c: what a secure world with AES-128 and SHA-256 alone can do.
SUITES = {"TLS_PSK_WITH_AES_128_GCM_SHA256": 1 << 7, "TLS_PSK_WITH_AES_128_CCM": 1 << 8,
          "TLS_PSK_WITH_AES_128_CCM_8": 1 << 9}
SETS = ("profile-small", "all")


class Fault(Exception):
    """What is wrong with the bundle or the image, for the user."""


def key_of(bundle, name, least, most):
    try:
        value = bytes.fromhex(bundle[name])
    except (KeyError, TypeError, ValueError) as error:
        raise Fault(f"{name} is not hex") from error
    if not least <= len(value) <= most:
        raise Fault(f"{name} is not {least} to {most} bytes")
    return value


def choice(bundle, name, table):
    if bundle.get(name) not in table:
        raise Fault(f"{name} is none of {', '.join(table)}")
    return table[bundle[name]]


def suites_of(bundle):
    wanted = bundle.get("suites", "profile-small")
    wanted = wanted if isinstance(wanted, list) else [wanted]
    mask = 0
    for name in wanted:
        mask |= sum(SUITES.values()) if name in SETS else SUITES.get(name, 0)
    if mask == 0:
        raise Fault("suites names nothing that this firmware can speak")
    return mask


def item(tag, content):
    return struct.pack(">BH", tag, len(content)) + content


def asset(uid, content):
    return item(ASSET, struct.pack(">I", uid) + content)


def app_keys_of(bundle):
    """KEK, group and keys, where the device is in a group."""
    group = bundle.get("group")
    if group is None:
        return b""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", str(group)):
        raise Fault("group is not a name")
    items = item(KEK, key_of(bundle, "kek", 48, 48)) + item(GROUP, group.encode())
    for key in bundle.get("app_keys", []):
        algorithm = choice(key, "algorithm", {"ccm": 10, "mac": 5})
        kind = choice(key, "kind", {"record": 0, "group": 1})
        items += item(APP_KEY, struct.pack(">IBB", key["epoch"], algorithm, kind) + key_of(key, "key", 16, 32))
    return items


def settings_of(args):
    """The non-secure world's settings as assets; the firmware has defaults for what is not given."""
    values = {GATEWAY_UID: args.gateway, NETWORK_UID: args.network, PERIOD_UID: args.period}
    return b"".join(asset(uid, str(value).encode()) for uid, value in values.items() if value is not None)


def body_of(text, settings, lifecycle):
    try:
        bundle = json.loads(text)
    except ValueError as error:
        raise Fault("it is not JSON") from error
    if not isinstance(bundle, dict) or bundle.get("version") != 1:
        raise Fault("version is not 1")
    identity = bundle.get("psk_identity")
    if identity != bundle.get("device_id") or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", str(identity)):
        raise Fault("psk_identity is not an identity, or not the same as device_id")
    if bundle.get("iak_algorithm") != "hmac256":
        raise Fault("iak_algorithm is not hmac256, and the firmware's secure world has no other hash than SHA-256")
    identity = identity.encode()
    profile = struct.pack(">B32sBBI", 1, hashlib.sha256(text).digest(), choice(bundle, "role", ROLES),
                          choice(bundle, "binding", BINDINGS), suites_of(bundle)) + identity
    return b"".join([
        item(DEVICE, identity), item(PSK, key_of(bundle, "psk", 16, 64)), item(IAK, key_of(bundle, "iak", 32, 64)),
        item(IAK_ALGORITHM, b"\x05"), item(SEED, os.urandom(SEED_LEN)), item(LIFECYCLE, struct.pack(">H", lifecycle)),
        asset(PROFILE_UID, profile), app_keys_of(bundle), settings])


def parcel_of(body):
    if len(body) > BODY_MAX:
        raise Fault("it does not fit: names or keys too long")
    return MAGIC + struct.pack(">H", len(body)) + hashlib.sha256(body).digest() + body


def image_of(parcel):
    image = bytearray(b"\xff" * SIZE)
    image[OFFSET:OFFSET + len(parcel)] = parcel
    return bytes(image)


def write(path, content, replace):
    """Beside its place, then moved there: an image is whole or not there."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        os.replace(beside, path)
        return
    try:
        os.link(beside, path)
    except FileExistsError as error:
        raise Fault(f"{path} exists and is a device's storage; --replace if the device is to start anew") from error
    finally:
        beside.unlink()


def renewed(image):
    """The image with another seed in its parcel."""
    if len(image) != SIZE or image[OFFSET:OFFSET + len(MAGIC)] != MAGIC:
        raise Fault("there is no parcel in it")
    length = struct.unpack_from(">H", image, OFFSET + len(MAGIC))[0]
    body = bytearray(image[OFFSET + HEAD_LEN:OFFSET + HEAD_LEN + length])
    at = 0
    while at + 3 <= len(body):
        tag, size = struct.unpack_from(">BH", body, at)
        if tag == SEED:
            body[at + 3:at + 3 + size] = os.urandom(size)
            return image_of(parcel_of(bytes(body)))
        at += 3 + size
    raise Fault("there is no seed in its parcel")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=pathlib.Path)
    parser.add_argument("--gateway", help="where the device finds its gateway, ADDRESS:PORT")
    parser.add_argument("--network", metavar="ADDRESS/PREFIX,ROUTER", help="its own place (default: 10.0.2.15/24,10.0.2.2)")
    parser.add_argument("--period", type=int, metavar="MILLISECONDS", help="between readings, 50 or more (default: 2000)")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--lifecycle", choices=LIFECYCLES, default="secured")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--renew", type=pathlib.Path, metavar="IMAGE")
    args = parser.parse_args()
    if args.renew is None and (args.bundle is None or args.out is None or args.gateway is None):
        parser.error("BUNDLE, --gateway and --out, or --renew IMAGE")
    place = args.renew or args.bundle
    try:
        if args.renew:
            write(args.renew, renewed(args.renew.read_bytes()), True)
        else:
            body = body_of(args.bundle.read_bytes(), settings_of(args), LIFECYCLES[args.lifecycle])
            write(args.out, image_of(parcel_of(body)), args.replace)
    except (Fault, OSError) as error:
        sys.exit(f"provision.py: {place}: {error}")


if __name__ == "__main__":
    main()
