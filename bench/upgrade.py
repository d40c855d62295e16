#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`sallyport reload --exec` under traffic: is a connection dropped, is a message lost, and how long is the longest pause?

Devices that attested publish at a fixed rate, one monitor gets everything; in the middle the gateway is upgraded, twice. Latency counts from
when a message was due, so the longest one is the longest pause that a device or the monitor sees."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import measure  # noqa: E402
import servers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
COUNTERS = ("tls_handshakes_ok_total", "connections_accepted_total", "attestations_ok_total")


def ask(home, config, *words):
    return subprocess.run([home.program, *words, "-c", config], capture_output=True, text=True, check=True).stdout


def counters(home, config):
    metrics = json.loads(ask(home, config, "status", "--json"))["metrics"]
    return {name: metrics[name] for name in COUNTERS}


def upgrade_twice(home, config, seconds, took):
    for part in (1, 2):
        time.sleep(seconds / 4 if part == 1 else seconds / 3)
        begun = time.monotonic()
        ask(home, config, "reload", "--exec")
        took.append(round((time.monotonic() - begun) * 1000))


def still_ms(server):
    """How long the gate stood still, as its log says, for each upgrade."""
    return [int(n) for n in re.findall(r"event=handed_over .*still_ms=(\d+)", server.log.read_text(errors="replace"))]


def one_round(options, folder, home, fleet_program, fleet_file, qos, cloud):
    cores = set(range(options.threads))
    with servers.Sallyport(folder / f"gateway-{qos}-{cloud is not None}-{time.monotonic_ns()}", cores, home,
                           threads=options.threads, cloud=cloud) as server:
        arguments = ["publish", "--fleet", fleet_file, "--gateway", f"127.0.0.1:{server.port}", "--publishers", options.devices,
                     "--subscribers", 1, "--qos", qos, "--rate", options.rate, "--seconds", options.seconds, "--count", 0,
                     "--window", 60000, "--concurrency", 32]
        with measure.Fleet(fleet_program, cores, arguments) as fleet:
            before, took = counters(home, server.config), []
            helper = threading.Thread(target=upgrade_twice, args=(home, server.config, options.seconds, took))
            helper.start()
            result = fleet.go()
            helper.join()
            after = counters(home, server.config)
        return {"qos": qos, "cloud": cloud is not None, "devices": options.devices, "sent": result["sent"],
                "received": result["received"], "acked": result["acked"], "refused": result["refused"],
                "new": {name: after[name] - before[name] for name in COUNTERS}, "upgrade_ms": took,
                "still_ms": still_ms(server), "latency_us": result["latency_us"], "ack_us": result.get("ack_us")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--devices", type=int, default=9900)
    parser.add_argument("--rate", type=int, default=2000, help="messages a second, over all devices")
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    fleet_program = options.build / "bin" / "sallyport-fleet"
    with tempfile.TemporaryDirectory(prefix="sallyport-upgrade-") as name:
        folder = pathlib.Path(name)
        fleet_file = folder / "fleet.jsonl"
        reference = servers.run([fleet_program, "keys", "--fleet", fleet_file, "--sensors", options.devices, "--monitors", 1])
        home = servers.Home(folder / "home", options.build / "bin" / "sallyport", reference, [fleet_file])
        authority = servers.Authority(folder / "authority")
        for _ in range(options.rounds):
            for qos in (0, 1):
                print(json.dumps(one_round(options, folder, home, fleet_program, fleet_file, qos, None)), flush=True)
            with servers.Cloud(folder / f"cloud-{time.monotonic_ns()}", {options.threads - 1}, authority) as cloud:
                print(json.dumps(one_round(options, folder, home, fleet_program, fleet_file, 1, cloud)), flush=True)


if __name__ == "__main__":
    main()
