#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom (docs/architecture.md, section 4), which file may know which foreign library, and what
the portable libraries may use. Prints every breach as file:line and exits 1 if there is one."""
import re
import subprocess
import sys

# A folder may include itself and what is listed here; the longest matching folder counts.
MAY_INCLUDE = {
    "libs/base": [],
    "libs/cbor": ["libs/base"],
    "libs/cose": ["libs/cbor", "libs/base"],
    "libs/attest": ["libs/cose", "libs/cbor", "libs/base"],
    "libs/link": ["libs/cose", "libs/cbor", "libs/base"],
    "libs/record": ["libs/link", "libs/cose", "libs/cbor", "libs/base"],
    "libs/mqtt": ["libs/base"],
    "libs/senml": ["libs/cbor", "libs/base"],
    "gateway/log": ["libs"],
    "gateway/metrics": ["libs"],
    "gateway/crypto": ["libs"],
    "gateway/config": ["libs", "gateway/proc/messages.h", "gateway/tls/suites.h"],
    "gateway/slab": ["libs", "gateway/metrics"],
    "gateway/tls": ["libs", "gateway/config", "gateway/slab", "gateway/proc/messages.h"],
    "gateway/loop": ["libs", "gateway/log", "gateway/metrics", "gateway/slab"],
    "gateway": ["libs"],
    "device": ["libs"],
    "tools": ["libs", "gateway"],
    "bench": ["libs", "gateway"],
    "tests": ["libs", "gateway", "bench"],
}
# These rooms of the gateway meet only by messages.
STRANGERS = ["gateway/gate", "gateway/keys", "gateway/store"]

# Foreign header → the files that may include it.
SEAMS = {
    r"gnutls/": r"(_gnutls(_test)?\.c|bench/fleet/.*\.c)$",
    r"nettle/": r"_nettle\.c$",
    r"sqlite3\.h": r"_sqlite(_test)?\.c$",
    r"yaml\.h": r"_yaml\.c$",
    r"cJSON\.h|cjson/": r"(tools/.*|bench/.*|_json|_cjson)\.c$",
    r"seccomp\.h|linux/(landlock|seccomp|filter)": r"(gateway/proc/sandbox.*|_test)\.[ch]$",
    r"systemd/": r"gateway/proc/.*\.c$",
    r"microhttpd\.h": r"_microhttpd\.c$",
    r"mbedtls/": r"^device/(port|secure)/",
    r"lwip/": r"^device/port/",
    r"FreeRTOS\.h|task\.h": r"^device/port/",
}
LIBS_SYSTEM_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "string.h", "limits.h", "assert.h"}
TEST_FILE = re.compile(r"(_test\.c|_fuzz\.c|/test\.h|/test/.*|_test_.*\.[ch])$")


def files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"],
                            capture_output=True, text=True, check=True).stdout.split()
    return sorted(set(listed))


def room_of(path):
    best = ""
    for room in list(MAY_INCLUDE) + STRANGERS:
        if path.startswith(room + "/") and len(room) > len(best):
            best = room
    return best


def allowed(path, target):
    room = room_of(path)
    rules = MAY_INCLUDE.get(room, MAY_INCLUDE.get(room.split("/")[0], []))
    own = room if room in MAY_INCLUDE else room.split("/")[0]
    if TEST_FILE.search(path):
        rules = rules + ["libs", "gateway/crypto"] if not path.startswith("libs/base") else rules + ["libs/base"]
    if room in STRANGERS and any(target.startswith(s + "/") for s in STRANGERS if s != room):
        return False
    return any(target == r or target.startswith(r.rstrip("/") + "/") for r in rules + [own])


def check(path, breaches):
    conditionals = 0
    depth = 0
    with open(path, encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            where = f"{path}:{number}"
            include = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
            if include:
                check_include(path, where, include.group(1), include.group(2), breaches)
            if re.match(r"\s*#\s*if", line) and not re.search(r"ifndef\s+\w+_H\b|__cplusplus", line):
                conditionals += 1
                if depth > 0 and path.endswith(".c"):
                    breaches.append(f"{where}: conditional compilation inside a function; make it a whole file")
            if line.startswith("{"):
                depth = 1
            elif line.startswith("}"):
                depth = 0
    if conditionals > 3:
        breaches.append(f"{path}: {conditionals} conditionals; at most 3 in a file")


def check_include(path, where, quote, target, breaches):
    for pattern, seam in SEAMS.items():
        if re.match(pattern, target) and not re.search(seam, path):
            breaches.append(f"{where}: {target} belongs in a seam file ({seam})")
    if quote == "<":
        pure = path.startswith("libs/") and not TEST_FILE.search(path)
        if pure and target not in LIBS_SYSTEM_HEADERS:
            breaches.append(f"{where}: libs/ is pure, <{target}> is not for it")
        return
    if target.endswith("_internal.h") and target.rsplit("/", 1)[0] != path.rsplit("/", 1)[0]:
        breaches.append(f"{where}: {target} is private to its folder")
    if re.match(r"(libs|gateway|device|tools|bench|tests)/", target):
        if not allowed(path, target):
            breaches.append(f"{where}: {room_of(path)} may not include {target}")
    elif not path.startswith("device/"):
        breaches.append(f"{where}: includes start at the repository's root, not {target}")


def main():
    breaches = []
    for path in files():
        check(path, breaches)
    print("\n".join(breaches) if breaches else f"layers hold in {len(files())} files")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
