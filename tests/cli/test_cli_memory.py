"""How much memory and how many connections an upload takes, against a server in another process.

A small launcher starts the command and asks the kernel for its peak: measured from here, the peak
would be that of this process, which the kernel counts until exec.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from testbed import MIB, Outcome, Ufile

LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
unit = 1 if sys.platform == "darwin" else 1024
open(sys.argv[1], "w").write(str(usage.ru_maxrss * unit))
sys.exit(os.waitstatus_to_exitcode(status))
"""
LIMIT = 50 * MIB
THREADS = 4


def large(path: Path, size: int) -> Path:
    """A file of holes, with something of its own in each part."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, 4 * MIB):
            os.pwrite(file.fileno(), str(at).encode(), at)
    return path


def measured(alone: Ufile, path: Path, mode: str) -> tuple[Outcome, int, list[dict[str, object]]]:
    """Upload to a server of its own; how it ended, its peak memory, what the server saw."""
    log = alone.home / "requests.jsonl"
    server = alone.start("serve", "--port", "0", "--dir", "served", "--request-log", str(log))
    server.wait_to_say("listening on ", "out")
    url = server.said("out").split()[-1]
    peak = alone.home / "peak"
    start = alone.start_on_terminal if mode == "bars" else alone.start
    running = start(
        str(peak), sys.executable, "-m", "ufile_cli", "upload", "demo", "big", str(path),
        "--endpoint", url, "--progress", mode, "-j", str(THREADS), "--json",
        command=(sys.executable, "-S", "-E", "-c", LAUNCHER),
    )  # fmt: skip
    outcome = running.wait(500)
    assert outcome.code == 0, outcome
    server.kill()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return outcome, int(peak.read_text()), records


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        (256 * MIB, "none"),
        (256 * MIB, "bars"),
        pytest.param(2048 * MIB, "none", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param(2048 * MIB, "bars", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_an_upload_is_small(alone: Ufile, tmp_path: Path, size: int, mode: str) -> None:
    path = large(tmp_path / "big", size)
    _, peak, records = measured(alone, path, mode)
    assert peak < LIMIT, f"{peak / MIB:.1f} MiB"
    parts = [record for record in records if record["call"] == "part"]
    assert len(parts) == size // (4 * MIB)
    assert {record["status"] for record in records} == {200}
    assert len({record["connection"] for record in records}) <= THREADS + 2
