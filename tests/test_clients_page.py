# SPDX-License-Identifier: Apache-2.0
"""docs/clients.md, pasted block by block into a bash as a reader would, with free ports for 8883 and 1883. A block ```sh is run; a block
```text after it is what it prints. A block ```sh second terminal runs beside the following ones, once its subscription is there."""
import json
import os
import re
import signal
import subprocess

import pytest

from tools.lab.process import BUILD, ROOT, Process, free_port, program, run, wait_for

BLOCK = re.compile(r"^```(sh|sh second terminal)\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.M | re.S)
END = "end of the block"


class Terminal:
    """A bash in the reader's folder."""

    def __init__(self, folder):
        self.bash = Process(["setsid", "bash"], stdin=subprocess.PIPE, cwd=folder, env={"PATH": f"{BUILD}/bin:{os.environ['PATH']}"})
        self.blocks = self.seen = 0
        self.bash.popen.stdin.write("exec 2>&1\n")

    def paste(self, block):
        self.bash.popen.stdin.write(f"{block}echo {END} $?\n")
        self.bash.popen.stdin.flush()
        self.blocks += 1

    def printed(self):
        """What the last block printed, and how its last command ended."""
        status = int(self.bash.wait_line(END, 120, self.blocks).split()[-1])
        lines = self.bash.out[self.seen:]
        self.seen += len(lines)
        return "".join(line + "\n" for line in lines[:-1]), status

    def close(self):
        os.killpg(self.bash.pid, signal.SIGKILL)
        self.bash.wait()


@pytest.fixture
def terminals(tmp_path):
    """`terminals()`: one more; with all that they started they end with the test."""
    opened = []

    def more():
        opened.append(Terminal(tmp_path))
        return opened[-1]
    yield more
    for one in opened:
        one.close()


def subscriptions(folder):
    status = run(program("sallyport"), "status", "--json", "-c", folder / "gw/sallyport.yaml").stdout
    return json.loads(status)["metrics"].get("subscriptions", 0)


def test_every_command_of_the_page(terminals, tmp_path):
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    for port in ("8883", "1883"):
        page = re.sub(rf"\b{port}\b", str(free_port()), page)
    here, beside = terminals(), []
    blocks = BLOCK.findall(page)
    assert len(blocks) == len(re.findall(r"^```sh", page, re.M)) > 10
    for kind, block, expected in blocks:
        if kind == "sh":
            here.paste(block)
            assert here.printed() == (expected, 0), block
        else:
            wait_for(lambda: subscriptions(tmp_path) == 0, 30, "the end of earlier sessions")
            beside.append((terminals(), block, expected))
            beside[-1][0].paste(block)
            wait_for(lambda: subscriptions(tmp_path) == 1, 30, "the subscription of the second terminal")
    for terminal, block, expected in beside:
        assert terminal.printed() == (expected, 0), block
