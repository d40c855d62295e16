# SPDX-License-Identifier: Apache-2.0
"""A gateway whose wall clock, allocator and accept4() a test holds in its hands (tests/hostile/odds.c)."""
import mmap
import struct

from tools.lab.process import BUILD


class Odds:
    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(64))
        path.chmod(0o666)
        with open(path, "r+b") as both:
            self.map = mmap.mmap(both.fileno(), 64)

    def environment(self):
        return {"LD_PRELOAD": str(BUILD / "test" / "libspodds.so"), "SP_ODDS": str(self.path)}

    def clock(self, seconds):
        """Add so many seconds to the wall clock of all processes."""
        struct.pack_into("=q", self.map, 0, seconds)

    def pass_time(self, seconds):
        """As if so many seconds had gone by since the start, for everything that waits."""
        struct.pack_into("=q", self.map, 8, seconds)

    def fail_malloc(self, pid, number):
        """In that process the allocation with this number from now fails; pid 0: none."""
        struct.pack_into("=i", self.map, 16, 0)
        struct.pack_into("=i", self.map, 20, number)
        struct.pack_into("=i", self.map, 16, pid)

    def watch_heap(self, pid):
        """From now on that process says how much of its heap is in use."""
        struct.pack_into("=i", self.map, 32, pid)

    def heap(self):
        """Bytes in use by the watched process; each allocation and each free() has been counted."""
        return struct.unpack_from("=q", self.map, 40)[0]

    def fail_accepts(self, pid, error=0):
        """Every accept4() of that process fails with that errno; pid 0: they work."""
        struct.pack_into("=i", self.map, 28, error)
        struct.pack_into("=i", self.map, 24, pid)

    def failed(self):
        """The allocation was asked for, and failed."""
        return struct.unpack_from("=i", self.map, 20)[0] <= 0
