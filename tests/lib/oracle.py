# SPDX-License-Identifier: Apache-2.0
"""What an attack may leave behind: exactly the counters that its test names, nothing stored, no memory, one line of the log for each refusal."""
import contextlib
import gc
import json
import os
import socket
import time

from tools.lab.process import wait_for

# Counted for whoever comes, whatever becomes of him. All other totals stand for something that went wrong or was refused.
TRAFFIC = {"connections_accepted_total", "tls_handshakes_ok_total", "attestation_challenges_total", "attestations_ok_total",
           "messages_received_total", "messages_received_bytes_total", "messages_delivered_total", "cloud_connects_total",
           "cloud_published_total", "cloud_sent_total", "journal_commits_total"}
STORED, STATE = "journal_appended_total", "connection_state_bytes"
# What each of two loops knows of the address that everybody here comes from.
ADDRESSES = 2 * 96
# Lines of the log that tell of a refusal.
REFUSED = {"appraisal_unavailable", "attest_refused", "connect_refused", "connection_shed", "deadline_passed", "device_revoked",
           "guest_out_of_turn", "keepalive_timeout", "protocol_error", "publish_denied", "publish_refused", "record_alarm",
           "record_refused", "release_refused", "role_gone", "role_unknown", "session_not_stored", "slow_reader", "subscribe_denied",
           "subscription_not_stored", "taken_over", "tls_bad_record", "tls_refused"}


def full(few, many):
    """How many times: `few`, or with SALLYPORT_HOSTILE=full as many as the collection of attacks says."""
    return many if os.environ.get("SALLYPORT_HOSTILE") == "full" else few


def ask(gateway):
    """The document of `sallyport status`, without the program in between."""
    folder = os.open(gateway.folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(f"/proc/self/fd/{folder}/control.sock")
            text = b""
            while data := sock.recv(65536):
                text += data
    finally:
        os.close(folder)
    return json.loads(text)


def refusals(metrics):
    """What counts refusals: for a total with parts, its parts."""
    parts = {name.split("{")[0] for name in metrics if "{" in name}
    return {name: value for name, value in metrics.items()
            if name.split("{")[0].endswith("_total") and name.split("{")[0] not in TRAFFIC | {STORED} and name not in parts}


def of_name(name, metrics):
    """The counters that a name stands for: itself, or the parts of that total."""
    return frozenset(m for m in metrics if m == name or m.startswith(name + "{"))


class Oracle:
    """From here to check(), nothing is counted, stored or kept but what was said to be."""

    def __init__(self, gateway, bird=None, resting=0):
        self.gateway, self.bird, self.resting = gateway, bird, resting
        self.said = []  # (names, at least, at most)
        self.stored, self.kept, self.fewer_lines = 0, False, False
        self.settle()
        self.before, self.acked = self._read()
        self.line = len(gateway.lines)

    @classmethod
    def of_life(cls, gateway):
        """Over all that a gateway has done since it was started."""
        made = cls.__new__(cls)
        made.gateway, made.bird, made.said, made.stored, made.acked, made.line = gateway, None, [], 0, 0, 0
        made.before = dict.fromkeys(ask(gateway)["metrics"], 0)
        made.kept = made.fewer_lines = True
        return made

    def settle(self):
        """Until nobody is connected who came for an attack."""
        gc.collect()  # a test that failed on purpose keeps its devices in a traceback
        wait_for(lambda: ask(self.gateway)["metrics"]["connections_open"] <= self.resting, 40, "all connections of the test to be gone")

    def _read(self):
        with self.bird.still() if self.bird else contextlib.nullcontext():
            metrics = ask(self.gateway)["metrics"]
            return metrics, len(self.bird.acked) if self.bird else 0

    # ---- what a test says ----

    def counts(self, *names, number=1, at_least=None):
        """So many events, each of them in exactly one of these counters; `at_least`: no fewer than that, where chance decides."""
        self.said.append((names, number if at_least is None else at_least, number))

    def stores(self, number):
        """So many messages of the test itself are made durable; None: the test looks into what came of them itself."""
        self.stored = None if number is None else self.stored + number

    def keeps(self):
        """Something stays in memory: the test says what."""
        self.kept = True

    @contextlib.contextmanager
    def one(self, *names, number=1):
        """As counts(), and at the end of the block it has come true and nothing else has."""
        self.counts(*names, number=number)
        yield
        self.check_counters()

    # ---- what is found ----

    def _wrong(self, metrics):
        """What is not as it was said, as text; empty: all is well."""
        then, now = refusals(self.before), refusals(metrics)
        delta = {name: now[name] - then[name] for name in now if now[name] != then[name]}
        groups = []  # names that occur together are looked at together
        for names, low, high in self.said:
            members = frozenset().union(*(of_name(name, now) for name in names))
            assert members, f"no counter is called {names}"
            for group in [g for g in groups if g[0] & members]:
                groups.remove(group)
                members, low, high = members | group[0], low + group[1], high + group[2]
            groups.append((members, low, high))
        wrong = []
        for members, low, high in groups:
            found = sum(delta.pop(name, 0) for name in members)
            if not low <= found <= high:
                wrong.append(f"{sorted(members)}: {found}, not {low}" + (f" to {high}" if high != low else ""))
        wrong += [f"{name}: {value}, not 0" for name, value in delta.items()]
        return wrong + [f"{name} is not the sum of its parts" for name, total in metrics.items()
                        if "{" not in name and (parts := of_name(name, metrics) - {name}) and total != sum(metrics[p] for p in parts)]

    def check_counters(self, seconds=5, whole=False):
        """What is counted comes after what the peer is told; what is too much comes at once or with it."""
        ends = time.monotonic() + seconds
        while True:
            metrics, acked = self._read()
            wrong = self._wrong(metrics) + (self._left_behind(metrics, acked) if whole else [])
            if not wrong or time.monotonic() > ends:
                assert not wrong, "; ".join(wrong)
                return
            time.sleep(0.02)

    def _left_behind(self, metrics, acked):
        """What was stored, kept or said in the log beyond what was announced."""
        wrong = []
        stored = metrics[STORED] - self.before[STORED] - (acked - self.acked)
        if self.stored is not None and stored != self.stored:
            wrong.append(f"{stored} messages stored, not {self.stored}")
        grown = metrics[STATE] - self.before[STATE]
        if grown > ADDRESSES and not self.kept:
            wrong.append(f"{grown} bytes of connections and sessions are left")
        events = [line.split("event=", 1)[1].split(" ", 1)[0] for line in self.gateway.lines[self.line:] if "event=" in line]
        lines, counted = [e for e in events if e in REFUSED], sum(refusals(metrics).values()) - sum(refusals(self.before).values())
        if len(lines) != counted and not self.fewer_lines:
            wrong.append(f"{counted} refusals and {len(lines)} lines: {sorted(set(lines))}")
        return wrong

    def check(self):
        """At the end of a test."""
        self.settle()
        self.check_counters(whole=True)
