"""Signals while workers sit in send, recv and connect, and the reader in read; stopped processes.

`LONGEST` only guards against hanging; the grace itself is three seconds.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testbed import (
    MIB,
    PUBLIC,
    SECRET,
    Outcome,
    Running,
    Ufile,
    assert_same,
    make_file,
    stored_parts,
)

from ufile_cli.emulator.server import Emulator

LONGEST = 8.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def by(*signums: signal.Signals) -> pytest.MarkDecorator:
    """Each of these in the quick suite, the others in the long one: each costs its grace."""
    return pytest.mark.parametrize(
        "signum",
        [
            pytest.param(one, id=one.name, marks=() if one in signums else pytest.mark.slow)
            for one in CODES
        ],
    )


def stopped(ufile: Ufile, running: Running, signum: signal.Signals) -> Outcome:
    """Send the signal: the exit code, in time, a journal that is good, and the way to go on."""
    running.send(signum)
    begun = time.monotonic()
    outcome = running.wait()
    assert time.monotonic() - begun < LONGEST
    assert outcome.code == CODES[signum], outcome
    assert "Traceback" not in outcome.err
    journal = ufile.only_journal()
    assert f"ufile resume {journal}" in outcome.err
    assert ufile.status(journal)["state"] == "paused"
    return outcome


@by(signal.SIGHUP)
def test_in_send(ufile: Ufile, emulator: Emulator, tmp_path: Path, signum: signal.Signals) -> None:
    """The server takes the head of each part and then next to nothing."""
    emulator.block_size = 4 * MIB
    path = make_file(tmp_path / "big.bin", 17 * MIB)
    emulator.faults.add(call="part", receive_rate=1000)
    running = ufile.start("upload", "demo", "big", str(path))
    emulator.wait_for("part", 4, stage="arrived")
    stopped(ufile, running, signum)
    emulator.faults.clear()
    assert ufile("resume", "--last").code == 0
    assert_same(emulator, path)


@by(signal.SIGTERM)
def test_in_recv(ufile: Ufile, emulator: Emulator, large: Path, signum: signal.Signals) -> None:
    """Stored, but never answered; what was stored is adopted afterwards."""
    emulator.faults.add(call="part", part="4-", hang="stored")
    running = ufile.start("upload", "demo", "big", str(large))
    emulator.wait_for("part", 4, stage="hanging")
    stopped(ufile, running, signum)
    emulator.faults.clear()
    assert ufile("resume", "--last").code == 0
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)
    assert_same(emulator, large)


@contextmanager
def nobody_accepts(port: int = 0) -> Iterator[int]:
    """A port whose backlog is full: connecting to it takes for ever."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    port = listener.getsockname()[1]
    fillers = []
    try:
        while True:
            filler = socket.socket()
            fillers.append(filler)
            filler.settimeout(0.2)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


def waits_to_connect(pid: int, port: int) -> bool:
    """Whether some socket of this machine is in SYN_SENT towards the port and the process's."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(entry.readlink()))
        except OSError:
            continue
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(
        fields[3] == "02"
        and fields[2].endswith(f":{port:04X}")
        and f"socket:[{fields[9]}]" in inodes
        for fields in table
    )


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into Linux's tables")
@by(signal.SIGINT)
def test_in_connect(alone: Ufile, tmp_path: Path, large: Path, signum: signal.Signals) -> None:
    with Emulator(tmp_path / "store", keys=(PUBLIC, SECRET), block_size=MIB // 4) as server:
        port, url = server.port, server.url
        server.faults.add(call="part", part="4-", status=500)
        assert alone("upload", "demo", "big", str(large), "--endpoint", url, "--retries", "1",
                     "--patience", "0").code == 75  # fmt: skip
    journal = alone.only_journal()
    with nobody_accepts(port):
        running = alone.start("resume", journal, "--retries", "3", "--patience", "5m")
        while not waits_to_connect(running.pid, port):
            assert running.process.poll() is None, running.wait()
            time.sleep(0.02)
        stopped(alone, running, signum)
    with Emulator(
        tmp_path / "store", port=port, keys=(PUBLIC, SECRET), block_size=MIB // 4
    ) as server:
        outcome = alone("resume", journal)
        assert outcome.code == 0, outcome
        assert_same(server, large)


@by(signal.SIGTERM)
def test_in_the_reader(ufile: Ufile, emulator: Emulator, signum: signal.Signals) -> None:
    """The producer says nothing more, and keeps the pipe open."""
    reading, writing = os.pipe()
    try:
        running = ufile.start("upload-stream", "demo", "big", stdin=reading)
        os.close(reading)
        content = os.urandom(4 * MIB + 6 * emulator.block_size + 99)
        os.write(writing, content[: 64 * 1024])
        sent = 64 * 1024
        while sent < len(content):
            sent += os.write(writing, content[sent : sent + MIB])
        emulator.wait_until(lambda records: len(stored_parts(records)) == 22)
        stopped(ufile, running, signum)
    finally:
        os.close(writing)
    journal = ufile.only_journal()
    reading, writing = os.pipe()
    running = ufile.start("resume", journal, "--json", stdin=reading)
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(content)
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert outcome.json["parts_reused"] == 22
    assert max(stored_parts(emulator.requests).values()) == 1


def test_twice_leaves_at_once(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """The second Ctrl-C does not wait for what is in flight; the journal is good all the same."""
    emulator.faults.add(call="part", part="4-", hang="stored")
    running = ufile.start("upload", "demo", "big", str(large))
    emulator.wait_for("part", 4, stage="hanging")
    while running.process.poll() is None:  # at first it may still count as the same signal
        running.send(signal.SIGINT)
        running.send(signal.SIGTERM)
    assert running.wait().code in (130, 143)
    [brief] = ufile.status()
    assert brief["state"] in ("interrupted", "paused")
    emulator.faults.clear()
    assert ufile("resume", "--last").code == 0
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)


def test_one_that_comes_twice_counts_once(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """`timeout` signals the process, then its group; the farewell is said all the same.

    Two signals of one kind may reach a process as one, so here they are of two kinds.
    """
    emulator.faults.add(call="part", part="4-", hang="stored")
    running = ufile.start("upload", "demo", "big", str(large))
    emulator.wait_for("part", 4, stage="hanging")
    running.send(signal.SIGTERM)
    running.send(signal.SIGINT)
    outcome = running.wait()
    assert outcome.code in (130, 143)
    assert f"ufile resume {ufile.only_journal()}" in outcome.err
    assert ufile.status()[0]["state"] == "paused"


def test_stopped_and_continued(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """SIGSTOP in the middle of a part, with others waiting; SIGCONT; as if nothing had been."""
    emulator.faults.add(call="part", part=6, nth=1, hang="body", after_bytes=1000)
    running = ufile.start("upload", "demo", "big", str(large), "--json")
    emulator.wait_for("part", stage="hanging")
    running.send(signal.SIGSTOP)
    os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
    assert ufile.status()[0]["state"] == "running"
    assert ufile("resume", ufile.only_journal()).code == 75, "a stopped process has its lock"
    emulator.faults.clear()
    running.send(signal.SIGCONT)
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)
    assert_same(emulator, large)


def test_connections_that_died_while_it_was_stopped(
    ufile: Ufile, emulator: Emulator, large: Path
) -> None:
    """A laptop's lid: every connection is cut meanwhile; with two attempts it goes on."""
    emulator.faults.add(call="part", part="6-9", per_part=True, first=1, hang="body")
    running = ufile.start(
        "upload", "demo", "big", str(large), "--json", "--retries", "2", "--retry-interval", "0"
    )
    emulator.wait_for("part", 4, stage="hanging")
    running.send(signal.SIGSTOP)
    os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
    for connection, _ in list(emulator._open.values()):
        connection.reset()
    emulator.faults.clear()
    running.send(signal.SIGCONT)
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert_same(emulator, large)


def test_ignored_by_nohup(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """SIGHUP and SIGINT ignored from the start, as by `nohup … &`: only SIGTERM stops it."""

    def ignoring() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    emulator.faults.add(call="part", part=6, nth=1, hang="body")
    running = ufile.start("upload", "demo", "big", str(large), preexec=ignoring)
    emulator.wait_for("part", stage="hanging")
    running.send(signal.SIGHUP)
    running.send(signal.SIGINT)
    assert ufile.status()[0]["state"] == "running"
    running.send(signal.SIGTERM)
    assert running.wait().code == 143
    emulator.faults.clear()
    assert ufile("resume", "--last").code == 0
    assert_same(emulator, large)
