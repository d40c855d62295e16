# SPDX-License-Identifier: Apache-2.0
"""The servers that are compared, each in a folder of its own, and the broker in the cloud's role."""
import socket
import subprocess
import threading

from measure import BenchError, start, stop, wait_until


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command):
    """Run to the end; what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          timeout=300)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


class Authority:
    """A certificate authority for one day: the cloud's certificate and the gateway's."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.crt"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run(["openssl", "req", "-x509", *curve, "-keyout", folder / "ca.key", "-out", self.ca, "-days", 1,
             "-subj", "/CN=bench authority"])
        for name in ("cloud", "gateway"):
            (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            run(["openssl", "req", *curve, "-keyout", self.key(name), "-out", folder / "csr",
                 "-subj", f"/CN={name}"])
            run(["openssl", "x509", "-req", "-in", folder / "csr", "-CA", self.ca, "-CAkey", folder / "ca.key",
                 "-CAcreateserial", "-out", self.certificate(name), "-days", 1, "-extfile", folder / "ext"])

    def certificate(self, name):
        return self.folder / f"{name}.crt"

    def key(self, name):
        return self.folder / f"{name}.key"


class Server:
    """A program with a configuration, running between __enter__ and __exit__."""

    def __init__(self, folder, cores):
        self.folder = folder
        self.cores = cores
        self.port = free_port()
        self.process = None
        folder.mkdir(exist_ok=True)
        self.log = folder / "log"

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        return answers(self.port)

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = start(self.command(), self.cores, stdout=log, stderr=log,
                                 stdin=subprocess.DEVNULL)
        try:
            wait_until(f"{self.command()}", self._settled, 20)
        except BenchError:
            self.__exit__()
            raise
        return self

    def _settled(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.command()} ended:\n{self.log.read_text(errors='replace')[-2000:]}")
        return self.is_ready()

    def __exit__(self, *_):
        stop(self.process)

    @property
    def pid(self):
        return self.process.pid


# The queue limits are lifted on both sides: as they are by default, a stall of the fleet on a busy machine would make
# the servers drop what it counts.
MOSQUITTO = """\
user root
listener {port} 127.0.0.1
psk_hint bench
psk_file {psk_file}
use_identity_as_username true
ciphers PSK-AES128-CCM8:PSK-AES128-CCM:PSK-AES128-GCM-SHA256:@SECLEVEL=0
tls_version tlsv1.2
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
log_type error
log_dest stderr
"""
# MQTT 3.1.1: with 5, this bridge of 2.0.11 is refused by its own broker (protocol error).
BRIDGE = """
connection cloud
address localhost:{port}
topic dt/# out 1
cleansession true
notifications false
bridge_protocol_version mqttv311
remote_clientid bridge
bridge_cafile {ca}
bridge_certfile {certificate}
bridge_keyfile {key}
bridge_tls_version tlsv1.2
"""


class Mosquitto(Server):
    """Debian's mosquitto for the devices' side; with a cloud, it bridges to it."""
    name = "mosquitto"

    def __init__(self, folder, cores, psk_file, cloud=None):
        super().__init__(folder, cores)
        text = MOSQUITTO.format(port=self.port, psk_file=psk_file)
        if cloud is not None:
            text += BRIDGE.format(port=cloud.port, ca=cloud.authority.ca,
                                  certificate=cloud.authority.certificate("gateway"),
                                  key=cloud.authority.key("gateway"))
        (folder / "mosquitto.conf").write_text(text)

    def command(self):
        return ["mosquitto", "-c", self.folder / "mosquitto.conf"]


# No limit on what is under way: this broker's own of 20 would be told to a client that speaks MQTT 5, and not to the bridge.
CLOUD = """\
user root
per_listener_settings false
listener {port} localhost
cafile {ca}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
listener {watch} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
sys_interval 1
log_type error
log_dest stderr
"""


class Cloud(Server):
    """A broker with mutual TLS in the cloud's role, that tells how many messages it got."""

    def __init__(self, folder, cores, authority):
        super().__init__(folder, cores)
        self.authority = authority
        self.watch = free_port()
        self.received = 0
        self.watcher = None
        (folder / "cloud.conf").write_text(CLOUD.format(
            port=self.port, watch=self.watch, ca=authority.ca, certificate=authority.certificate("cloud"),
            key=authority.key("cloud")))

    def command(self):
        return ["mosquitto", "-c", self.folder / "cloud.conf"]

    def is_ready(self):
        return answers(self.watch)

    def _listen(self):
        for line in self.watcher.stdout:
            self.received = int(line)

    def __enter__(self):
        super().__enter__()
        self.watcher = start(["mosquitto_sub", "-h", "127.0.0.1", "-p", self.watch, "-t",
                              "$SYS/broker/publish/messages/received"], self.cores,
                             stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        if self.watcher is not None:
            stop(self.watcher)
        super().__exit__()


SALLYPORT = """\
gateway:
  id: bench
  state_dir: {home}
  threads: {threads}

listeners:
  - address: 127.0.0.1:{port}
    suites: [profile-small]

limits:
  message_rate: 0
  session_queue: 64MiB
  connects_per_second: 1000000
  connects_burst: 1000000
"""
SALLYPORT_CLOUD = """
cloud:
  endpoint: localhost:{port}
  ca: {ca}
  certificate: {certificate}
  key: {key}
  client_id: bench
  version: "{version}"
  limits: none

routes:
  - from: dt/+/climate
    cloud: dt/sallyport/{{gateway}}/{{device}}/climate
    format: {format}
    qos: 1
"""


class Home:
    """A gateway home with a registry that knows the fleets."""

    def __init__(self, folder, program, reference, fleets):
        self.folder = folder
        self.program = program
        run([program, "init", folder])
        config = self.configure(1, 1)
        run([program, "reference", "add", *reference.split(), "-c", config])
        for fleet in fleets:
            run([program, "device", "add", "--from", fleet, "-c", config])

    def configure(self, port, threads, cloud=None, form="raw", version="5"):
        """Write a configuration file over this home; its name."""
        text = SALLYPORT.format(home=self.folder, threads=threads, port=port)
        if cloud is not None:
            text += SALLYPORT_CLOUD.format(port=cloud.port, ca=cloud.authority.ca, format=form, version=version,
                                           certificate=cloud.authority.certificate("gateway"),
                                           key=cloud.authority.key("gateway"))
        name = self.folder / "bench.yaml"
        name.write_text(text)
        return name


class Sallyport(Server):
    """This repository's gateway."""
    name = "sallyport"

    def __init__(self, folder, cores, home, **settings):
        super().__init__(folder, cores)
        self.home = home
        self.config = home.configure(self.port, **settings)

    def command(self):
        return [self.home.program, "run", "-c", self.config]

    def is_ready(self):
        return b"event=ready" in self.log.read_bytes()
