"""A line between two network namespaces, with delay, loss and a rate made by `tc netem`.

Nothing leaves the two namespaces, and both are removed when it ends. Needs root, ip and tc; where
the machine does not allow it, `missing` says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from runs import SinkProcess

LINES = {
    "40 ms, 400 Mbit/s": "delay 20ms rate 400mbit limit 4000",
    "80 ms, 0.5 % lost, 100 Mbit/s": "delay 40ms loss 0.5% rate 100mbit limit 4000",
}
"""What netem does to each direction."""


def missing() -> str | None:
    """Why there can be no namespaces here; None where they can be."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if os.geteuid() != 0:
        return "it needs root"
    try:
        with Line("delay 1ms"):
            return None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace").strip()
        return said or f"{error.cmd} failed"


class Line:
    """Two namespaces and the line between them. A context manager.

    Attributes:
        server: the server's address on it.
        inside: what to put before a command that is to run at the client's end.
    """

    server = "10.99.0.2"

    def __init__(self, rules: str) -> None:
        self._rules = rules.split()
        self._names = (f"bench{os.getpid()}c", f"bench{os.getpid()}s")
        self.inside: Sequence[str] = ("ip", "netns", "exec", self._names[0])

    def __enter__(self) -> Line:
        here, there = self._names
        try:
            for name in self._names:
                _do("ip", "netns", "add", name)
                _do("ip", "-n", name, "link", "set", "lo", "up")
            peer = ("peer", "name", "far", "netns", there)
            _do("ip", "-n", here, "link", "add", "near", "type", "veth", *peer)
            for name, end, address in ((here, "near", "10.99.0.1"), (there, "far", self.server)):
                _do("ip", "-n", name, "address", "add", f"{address}/24", "dev", end)
                _do("ip", "-n", name, "link", "set", end, "up")
                rules = ("qdisc", "add", "dev", end, "root", "netem", *self._rules)
                _do("ip", "netns", "exec", name, "tc", *rules)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._remove()

    def sink(self, **ways: Any) -> SinkProcess:
        """A sink at the server's end."""
        inside = ("ip", "netns", "exec", self._names[1])
        return SinkProcess(prefix=inside, host=self.server, **ways)

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
