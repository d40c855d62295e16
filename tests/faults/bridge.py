#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The same ledger against Debian's mosquitto and its bridge, with the strictest settings it has.

Same producers, same cloud, same checker, milder faults: kill -9 and a cloud that is away. It has to be found out; the
exit status is 0 when it is, 1 when nothing was lost (then this test of the test has to be renewed).
"""
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.faults.system import BOUND, Orders, ScriptedCloud  # noqa: E402
from tools.lab.cloud import free_port, make_certificates  # noqa: E402
from tools.lab.process import Process, program, run, wait_for  # noqa: E402

# Everything that makes it keep more: persistence on every change, no queue limit, QoS 1, durable bridge session.
CONF = """\
user root
listener {port} 127.0.0.1
psk_hint lab
psk_file {folder}/psk
use_identity_as_username true
ciphers PSK-AES128-CCM8:PSK-AES128-CCM:@SECLEVEL=0
tls_version tlsv1.2
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
log_type error
connection cloud
address localhost:{cloud}
topic dt/# out 1
cleansession false
notifications false
try_private false
bridge_protocol_version mqttv311
remote_clientid bridge
restart_timeout 1
bridge_cafile {crt}/ca.crt
bridge_certfile {crt}/gateway.crt
bridge_keyfile {crt}/gateway.key
bridge_tls_version tlsv1.2
"""


def start(folder, port):
    broker = Process(["mosquitto", "-c", folder / "mosquitto.conf"])

    def listening():
        import socket
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    wait_for(listening, 20, "mosquitto")
    return broker


def play(folder, seed=1, rounds=3):
    rng = random.Random(seed)
    crt = make_certificates(folder / "certificates")
    run(program("sallyport-fleet"), "keys", "--fleet", folder / "fleet.jsonl", "--sensors", 16, "--prefix", "dev",
        "--psk-file", folder / "psk")
    cloud = ScriptedCloud(folder, crt, seed)
    port = free_port()
    (folder / "mosquitto.conf").write_text(CONF.format(port=port, folder=folder, cloud=cloud.port, crt=crt))
    broker = start(folder, port)
    devices = Orders([program("sallyport-ledger"), "produce", f"127.0.0.1:{port}", folder / "fleet.jsonl",
                      folder / "devices.log", seed, "count=16", "rate=4000", "no-attest=1"])
    try:
        for _ in range(rounds):
            cloud.tell("away 1")
            for _ in range(6):
                time.sleep(rng.uniform(0.3, 0.8))
                broker.kill()
                broker.wait()
                broker = start(folder, port)
            cloud.tell("away 0")
            time.sleep(2)
        devices.finish()
        time.sleep(10)
        cloud.finish()
    finally:
        for process in (devices, broker, cloud):
            process.kill()
    result = run(program("sallyport-ledger"), "check", BOUND, folder / "devices.log", folder / "cloud.log", check=False)
    return json.loads(result.stdout)


def main():
    os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bridge-"))
    folder.chmod(0o700)
    try:
        found = play(folder)
    finally:
        shutil.rmtree(folder)
    print(f"mosquitto {run('mosquitto', '-h', check=False).stdout.split()[2]} and its bridge, strictest settings: "
          f"18 x kill -9 with the cloud away, {found['acked']} acknowledged, {found['lost']} lost, "
          f"{found['disorder']} out of order")
    return 0 if found["lost"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
