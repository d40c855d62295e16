# SPDX-License-Identifier: Apache-2.0
"""Faults of the disk and deaths at named calls, through libspfaults.so; see preload/block.h, whose structs these are."""
import mmap
import os
import struct

MAGIC = 0x53504631
UNDO = 64 << 20
FILES = ["journal/journal.db", "journal/journal.db-wal", "journal/journal.db-shm", "registry.db", "registry.db-wal", "registry.db-shm",
         "registry.db-journal"]
CALLS = ["pwrite", "sync", "truncate", "send", "receive"]
MOMENTS = ["before", "after", "halfway"]
DEEDS = ["end", "open", "socket", "connect", "listen", "execute", "fork", "trace", "spy", "code"]
FIELDS = ["magic", "full", "fail_syncs", "fail_writes", "short_writes", "pid", "call", "moment", "count", "sprung",
          "overflows", "registry", "deed", "answer"]
WIDE = ["syncs", "lies", "spared", "clock", "area", "used 0", "used 1"]
HEAD = 4 * len(FIELDS) + 8 * len(WIDE)
RECORD = struct.Struct("=IIIIQQQQ")
WRITE, TRUNCATE, CREATE = 1, 2, 3
SYNCED = 2
SECTOR = 512
ANYBODY = 0xFFFFFFFF


class Faults:
    """The shared block of one gateway."""

    def __init__(self, path, state_dir, library):
        self.path, self.state_dir, self.library = str(path), str(state_dir), str(library)
        with open(self.path, "wb") as out:
            out.truncate(HEAD + 2 * UNDO)
        with open(self.path, "r+b") as both:
            self.map = mmap.mmap(both.fileno(), HEAD + 2 * UNDO)
        self["magic"] = MAGIC

    def environment(self):
        return {"LD_PRELOAD": self.library, "SP_FAULTS": self.path, "SP_FAULTS_DIR": self.state_dir}

    @staticmethod
    def _place(name):
        if name in FIELDS:
            return 4 * FIELDS.index(name), "=I"
        return 4 * len(FIELDS) + 8 * WIDE.index(name), "=Q"

    def __getitem__(self, name):
        at, form = self._place(name)
        return struct.unpack_from(form, self.map, at)[0]

    def __setitem__(self, name, value):
        at, form = self._place(name)
        struct.pack_into(form, self.map, at, value & (2**64 - 1))

    def heal(self):
        for name in ("full", "fail_syncs", "fail_writes", "short_writes", "pid", "spared", "clock"):
            self[name] = 0

    def trap(self, pid, call, count, moment="before", deed="end"):
        """`pid` ends itself, or does what its sandbox should not let it do, at the count-th such call from now."""
        self["pid"] = self["answer"] = 0
        self["deed"] = DEEDS.index(deed)
        self["call"], self["moment"], self["count"] = CALLS.index(call), MOMENTS.index(moment), count
        self["pid"] = pid

    def _records(self):
        area = self["area"]
        at, begin = 0, HEAD + area * UNDO
        while at < self[f"used {area}"]:
            size, file, kind, state, offset, length, old_len, old_size = RECORD.unpack_from(self.map, begin + at)
            start = begin + at + RECORD.size
            if state not in (0, SYNCED):
                yield file, kind, offset, length, self.map[start:start + old_len], old_size
            at += size

    def power_cut(self, rng):
        """All processes are dead: of what was not synced, a random part was never written. Gives what was taken back."""
        if self["overflows"]:
            raise RuntimeError("the undo area was too small: this power cut would be a lie")
        survive = rng.choice([0.0, 0.0, 0.5, 0.9])
        records = list(self._records())
        undone = 0
        for number, name in enumerate(FILES):
            mine = [r for r in records if r[0] == number]
            path = os.path.join(self.state_dir, name)
            if mine and os.path.exists(path):
                undone += _undo_file(path, mine, survive, rng)
        for name in FILES:  # rebuilt by whoever opens the database; a machine that starts again has none
            if name.endswith("-shm") and os.path.exists(os.path.join(self.state_dir, name)):
                os.unlink(os.path.join(self.state_dir, name))
        self.forget()
        return undone

    def forget(self):
        """What was written counts as synced."""
        self["used 0"] = self["used 1"] = 0


def _undo_file(path, records, survive, rng):
    """Sector by sector: each has what some prefix of the writes to it left, and the size is one that the file had."""
    kept, undone = set(), 0
    created = False
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        for _, kind, offset, length, old, old_size in reversed(records):
            if kind == CREATE:
                created = True
                continue
            if kind == TRUNCATE:
                if rng.random() >= survive and not any(s * SECTOR >= offset for s in kept):
                    file.seek(offset)
                    file.write(old)
                    size = max(size, old_size)
                    undone += 1
                continue
            for sector in range(offset // SECTOR, (offset + length + SECTOR - 1) // SECTOR):
                if sector in kept:
                    continue
                if rng.random() < survive:
                    kept.add(sector)
                    continue
                begin, end = max(offset, sector * SECTOR), min(offset + length, (sector + 1) * SECTOR)
                before = old[begin - offset:end - offset]
                file.seek(begin)
                file.write(before + bytes(end - begin - len(before)))
                undone += 1
            grown = max([(s + 1) * SECTOR for s in kept if (s + 1) * SECTOR <= size] + [old_size])
            size = min(size, grown) if old_size < size else size
        file.truncate(size)
    if created and not kept and rng.random() >= survive:
        os.unlink(path)
    return undone
