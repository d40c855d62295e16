# SPDX-License-Identifier: Apache-2.0
"""The cloud's stand-in: mosquitto with mutual TLS under a certificate authority of its own, and a logging subscriber."""
import json
import pathlib
import socket

from .process import Process, free_port, run, wait_for

BACK_S = 150  # a link that found nobody for long waits for up to two minutes until it tries again (SP_BACKOFF_CAP_MS)


def make_certificates(folder):
    """A CA, a server certificate for localhost and 127.0.0.1, and client certificates `gateway` and `logger`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("openssl", "req", "-x509", *key, "-days", "30", "-subj", "/CN=Sallyport lab CA",
        "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    names = {"server": "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
             "gateway": "extendedKeyUsage=clientAuth\n", "logger": "extendedKeyUsage=clientAuth\n"}
    for name, extensions in names.items():
        (folder / f"{name}.ext").write_text(extensions)
        run("openssl", "req", *key, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
        run("openssl", "x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-days", "30", "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.crt")
    for path in folder.glob("*.key"):
        path.chmod(0o600)
    return folder


class Cloud:
    """A broker that only certificates get into. `start()` and `stop()` it at will; it keeps its port and sessions."""

    def __init__(self, folder, on_message=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificates = make_certificates(self.folder / "certificates")
        self.port = free_port()
        self.messages = []  # (topic, payload) in order of arrival
        self._on_message = on_message
        self.broker = self.logger = None
        crt = self.certificates
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"cafile {crt}/ca.crt\ncertfile {crt}/server.crt\nkeyfile {crt}/server.key\n"
            "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            f"persistence true\npersistence_location {self.folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            f"max_queued_messages 0\nmax_inflight_messages 100\nlog_type error\nlog_type warning\nuser {_user()}\n")

    def start(self):
        self.broker = Process([_mosquitto(), "-c", self.folder / "mosquitto.conf"])

        def listening():
            if not self.broker.running():
                raise RuntimeError("mosquitto ended: " + "\n".join(self.broker.err))
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for(listening, 10, "the cloud's broker")
        return self

    def log(self):
        """Start the logging subscriber (QoS 1, durable session: it misses nothing while it is subscribed once)."""
        self.logger = Process(["mosquitto_sub", *self.client("logger"), "-i", "logger", "-c", "-q", "1", "-t", "#",
                               "-F", '{"t":"%t","q":%q,"p":"%x"}'], self._logged)
        wait_for(lambda: self.logger.running(), 1)
        self.publish("lab/hello", "logger?", seconds=15)
        self.messages.clear()
        return self

    def _logged(self, stream, line):
        if stream == "out" and line.startswith("{"):
            entry = json.loads(line)
            message = (entry["t"], bytes.fromhex(entry["p"]))
            self.messages.append(message)
            if self._on_message is not None:
                self._on_message(*message)

    def client(self, name):
        crt = self.certificates
        return ["-h", "127.0.0.1", "-p", str(self.port), "--cafile", f"{crt}/ca.crt", "--cert", f"{crt}/{name}.crt",
                "--key", f"{crt}/{name}.key"]

    def publish(self, topic, payload, qos=1, seconds=5):
        """Publish as somebody in the cloud, and wait until the logger has it."""
        before = len(self.messages)
        data = payload if isinstance(payload, bytes) else payload.encode()

        def arrived():
            return any(t == topic and p == data for t, p in self.messages[before:])
        for _ in range(20):
            run("mosquitto_pub", *self.client("logger"), "-i", f"pub{id(self)}", "-q", str(qos), "-t", topic, "-s", data=data)
            try:
                wait_for(arrived, seconds / 20, f"{topic} at the logger")
                return
            except TimeoutError:
                continue
        raise TimeoutError(f"{topic} never reached the logger")

    def stop(self):
        for process in (self.logger, self.broker):
            if process is not None:
                process.stop()

    def stop_broker(self):
        self.broker.stop()

    def received(self, topic_part):
        return [(t, p) for t, p in list(self.messages) if topic_part in t]


def _mosquitto():
    for path in ("/usr/sbin/mosquitto", "/usr/bin/mosquitto"):
        if pathlib.Path(path).exists():
            return path
    return "mosquitto"


def _user():
    import os
    import pwd
    return pwd.getpwuid(os.getuid()).pw_name
