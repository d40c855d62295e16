#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
"""The secure world's service table, from the partitions' manifests (TF-M's format, written as JSON, which YAML contains).

usage: manifest.py LIST [--omit PARTITION] --services OUT.c     write the table
       manifest.py LIST --check INCLUDE_DIR                     psa_manifest/{sid,pid}.h say the same as the manifests
"""
import argparse
import json
import pathlib
import re
import sys

HEAD = """/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Made by tools/dev/manifest.py from {source}. */
"""
# The secure function of a service, where it is not called after the service as in TF-M.
FUNCTIONS = {
    "TFM_CRYPTO": ("sp_crypto_sfn", "crypto/crypto_service.h"),
    "TFM_INTERNAL_TRUSTED_STORAGE_SERVICE": ("sp_its_sfn", "its/its_service.h"),
    "TFM_ATTESTATION_SERVICE": ("sp_attestation_sfn", "initial_attestation/attestation_service.h"),
    "SP_SENSOR_SERVICE": ("sp_sensor_sfn", "sensor/sensor_service.h"),
    "SP_APPKEYS_SERVICE": ("sp_appkeys_sfn", "appkeys/appkeys_service.h"),
}


class Fault(Exception):
    """A manifest that is not what the partition manager can serve."""


def need(condition, where, what):
    if not condition:
        raise Fault(f"{where}: {what}")


def read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"{path}: {error}") from error


def load(list_path):
    """(partition, pid, service) of every service, checked."""
    found = []
    for entry in read(list_path)["manifest_list"]:
        path = list_path.parent / entry["manifest"]
        partition = read(path)
        need(partition.get("psa_framework_version") == 1.1, path, "psa_framework_version is not 1.1")
        need(partition.get("model") == "SFN", path, "only the secure-function model is served")
        for service in partition["services"]:
            need(service.get("connection_based") is False, path, "only stateless services are served")
            need(1 <= service["stateless_handle"] <= 32, path, "stateless_handle is not 1..32")
            need(re.fullmatch(r"0x[0-9A-Fa-f]{8}", service["sid"]), path, "sid is not 0x and eight digits")
            need(service["name"] in FUNCTIONS, path, f"{service['name']} has no secure function")
            found.append((partition, entry["pid"], service))
    for what, key in (("sid", lambda f: f[2]["sid"]), ("stateless_handle", lambda f: f[2]["stateless_handle"])):
        values = [key(f) for f in found]
        need(len(set(values)) == len(values), list_path, f"two services have one {what}")
    names = {f[2]["name"] for f in found}
    for partition, _, _ in found:
        for name in partition.get("dependencies", []):
            need(name in names, partition["name"], f"depends on {name}, which is nobody's")
    return found


def table(found, source):
    includes = sorted(FUNCTIONS[service["name"]][1] for _, _, service in found)
    lines = [HEAD.format(source=source), '#include "device/secure/spm/services.h"', ""]
    lines += [f'#include "device/secure/partitions/{header}"' for header in includes]
    lines += ['#include "psa_manifest/sid.h"', "", "const struct sp_spm_service sp_services[] = {"]
    for partition, pid, service in found:
        name = service["name"]
        lines.append(f"    {{.handle = {name}_HANDLE, .partition = {pid}, .function = {FUNCTIONS[name][0]},")
        lines.append(f"     .sid = {name}_SID, .version = {service.get('version', 1)},"
                     f" .non_secure_clients = {str(service['non_secure_clients']).lower()}}}, /* {partition['name']} */")
    lines += ["};", "const size_t sp_service_count = sizeof(sp_services) / sizeof(sp_services[0]);", ""]
    return "\n".join(lines)


def check(found, include):
    text = "".join((include / "psa_manifest" / name).read_text(encoding="utf-8") for name in ("sid.h", "pid.h"))
    defined = dict(re.findall(r"#define\s+(\w+)\s+(\S+)", text))
    for partition, pid, service in found:
        name = service["name"]
        need(defined.get(f"{name}_SID", "").rstrip("U").lower() == service["sid"].lower(), name, "sid.h has another sid")
        need(defined.get(f"{name}_HANDLE") == f"SP_SERVICE_HANDLE({service['stateless_handle']})", name,
             "sid.h has another handle")
        need(str(pid) in [v for k, v in defined.items() if k.startswith("SP_PARTITION_")], partition["name"],
             f"pid.h lacks {pid}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=pathlib.Path)
    parser.add_argument("--omit", action="append", default=[])
    parser.add_argument("--services", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path)
    args = parser.parse_args()
    try:
        found = load(args.list)
        if args.check:
            check(found, args.check)
        if args.services:
            kept = [f for f in found if f[0]["name"] not in args.omit]
            args.services.write_text(table(kept, args.list.name), encoding="utf-8")
    except Fault as fault:
        sys.exit(f"manifest.py: {fault}")


if __name__ == "__main__":
    main()
