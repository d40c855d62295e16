# SPDX-License-Identifier: Apache-2.0
"""Looking into the gateway's processes, to see that a secret is not there."""
import os

import pytest


def only_root():
    """The children can't be dumped, so only root may look into them."""
    if os.getuid() != 0:
        pytest.skip("only root may look into the children")


def memory_of(pid):
    """Everything that can be read of a process's memory."""
    only_root()
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            start, end = (int(x, 16) for x in span.split("-"))
            if mode[0] == "r" and "[v" not in line and end - start < 1 << 30:  # a sanitizer's shadow is larger
                try:
                    memory.seek(start)
                    found.append(memory.read(end - start))
                except (OSError, ValueError, OverflowError):
                    continue
    return b"".join(found)
