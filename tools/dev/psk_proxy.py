#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets clients and test suites that know neither TLS nor PSK reach a gateway: plain MQTT on one port here, stunnel towards the gateway.

    tools/dev/psk_proxy.py --listen 1883 --gateway 127.0.0.1:8883 a.json b.json anyone.json

Each bundle (from `sallyport device add --bundle`) is an identity. The client id of a CONNECT says whose key is used; one that is no
identity, or empty, goes under the last bundle, and is sent as that identity where its length allows (`clean retained` as `clean-retained`).
For tests by hand on one's own machine: whoever reaches the port is let in.
"""
import argparse
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start_stunnel(folder, gateway, bundles):
    """One stunnel with a door for each identity. Gives back the process and {identity: port}."""
    ports, lines = {}, ["foreground = yes", "pid =", f"output = {folder}/stunnel.log"]
    for bundle in bundles:
        name, port = bundle["device_id"], free_port()
        secrets = folder / f"{name}.psk"
        secrets.write_text(f"{name}:{bundle['psk']}\n", encoding="ascii")
        secrets.chmod(0o600)
        ports[name] = port
        lines += [f"[{name}]", "client = yes", f"accept = 127.0.0.1:{port}", f"connect = {gateway}", f"PSKsecrets = {secrets}",
                  f"PSKidentity = {name}", "ciphers = PSK-AES128-CCM", "sslVersionMax = TLSv1.2", "sessionResume = no"]
    config = folder / "stunnel.conf"
    config.write_text("\n".join(lines) + "\n", encoding="ascii")
    return subprocess.Popen(["stunnel4", str(config)], stdin=subprocess.DEVNULL), ports


def client_id_of(data):
    """(offset, bytes) of the client id in a CONNECT, or None."""
    try:
        if data[0] != 0x10:
            return None
        at = 1
        while data[at] & 0x80:
            at += 1
        at += 1
        at += 2 + int.from_bytes(data[at:at + 2], "big")
        version, at = data[at], at + 4
        if version == 5:
            size = shift = 0
            while True:
                size |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
            at += size
        length = int.from_bytes(data[at:at + 2], "big")
        return at + 2, data[at + 2:at + 2 + length]
    except IndexError:
        return None


def pump(source, sink):
    """Until `source` has said everything; what the other side does not take any more is dropped, as a server that lingers does."""
    try:
        while data := source.recv(65536):
            try:
                sink.sendall(data)
            except OSError:
                pass
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, ports, last):
    first = client.recv(65536)
    found = client_id_of(first)
    name = last
    if found is not None:
        at, raw = found
        wanted = raw.decode("utf-8", "replace").replace(" ", "-")
        if wanted in ports:
            name = wanted
            first = first[:at] + name.encode() + first[at + len(raw):]
    upstream = socket.create_connection(("127.0.0.1", ports[name]))
    upstream.sendall(first)
    threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
    pump(client, upstream)
    client.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, default=1883)
    parser.add_argument("--gateway", required=True, help="HOST:PORT")
    parser.add_argument("bundles", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    bundles = [json.loads(path.read_text(encoding="utf-8")) for path in options.bundles]
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", options.listen)) as listener:
        stunnel, ports = start_stunnel(pathlib.Path(folder), options.gateway, bundles)
        time.sleep(0.5)
        print(f"127.0.0.1:{listener.getsockname()[1]} → {options.gateway} as {', '.join(ports)}", flush=True)
        try:
            while stunnel.poll() is None:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client, ports, bundles[-1]["device_id"]), daemon=True).start()
        except KeyboardInterrupt:
            pass
        finally:
            stunnel.terminate()
            stunnel.wait()


if __name__ == "__main__":
    main()
