"""upload-stream: every length byte for byte, in bounded memory, whatever standard input is."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streambed import (
    STREAM,
    acknowledged,
    begin,
    content_of,
    cut,
    peak_rss,
    piped,
    refused_finish,
    replay,
    same,
    sent_again,
    stdin_of,
    sums,
)
from testbed import AT_ONCE, MIB, Running, Ufile, calls_of, read_object, stored_parts

from ufile_cli.emulator.server import Emulator

RSS_LIMIT = 75 * MIB


# Lengths


@pytest.mark.parametrize("block", [1, 4, 8])
@pytest.mark.parametrize("length", ["0", "1", "part", "2 parts", "2 parts + 1"])
def test_arrives(ufile: Ufile, emulator: Emulator, block: int, length: str) -> None:
    emulator.block_size = block * MIB
    part = block * MIB
    size = {"0": 0, "1": 1, "part": part, "2 parts": 2 * part, "2 parts + 1": 2 * part + 1}[length]
    content = content_of(size)
    result = piped(ufile, *STREAM, "--json", content=content).json
    same(emulator, content)
    assert result["size"] == result["bytes_sent"] == size and result["exit_code"] == 0
    if size:
        assert result["verified"] == "etag"
    if size <= 4 * MIB:
        assert emulator.count("put") == 1 and emulator.count("initiate") == 0
        assert result["journal_id"] is None and not list(ufile.journals.glob("*"))
    else:
        parts = -(-size // part)
        assert stored_parts(emulator.requests) == dict.fromkeys(range(parts), 1)
        assert result["parts"] == result["parts_sent"] == parts
        assert ufile.status(result["journal_id"])["state"] == "finished"


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1])
def test_around_a_block(ufile: Ufile, emulator: Emulator, size: int) -> None:
    emulator.block_size = MIB
    content = content_of(size)
    assert piped(ufile, *STREAM, content=content).code == 0
    same(emulator, content)
    assert emulator.count("put") == (size <= 4 * MIB)


def _dribble(content: bytes, *, around: int = 700) -> Iterator[bytes]:
    """Single bytes at the beginning, around each MiB and at the end, pieces in between."""
    at = 0
    while at < len(content):
        off = min(at % MIB, MIB - at % MIB, len(content) - at)
        step = 1 if off <= around else min(off - around, 65537)
        yield content[at : at + step]
        at += step


@pytest.mark.parametrize("size", [3001, 6 * MIB + 333])
def test_single_bytes(ufile: Ufile, emulator: Emulator, size: int) -> None:
    """A part is exactly a block, however little comes at a time."""
    emulator.block_size = MIB
    content = content_of(size)
    assert piped(ufile, *STREAM, content=_dribble(content)).code == 0
    same(emulator, content)
    parts = [record for record in calls_of(emulator, "part") if record.part_number != 6]
    assert {record.bytes_received for record in parts} <= {MIB}


def test_a_redirected_file_and_a_fifo(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    content = content_of(9 * MIB + 1)
    path, fifo = tmp_path / "dump", tmp_path / "fifo"
    path.write_bytes(content)
    with stdin_of(path, 5) as stdin:
        assert ufile.start(*STREAM, stdin=stdin).wait().code == 0
    same(emulator, content[5:])
    os.mkfifo(fifo)
    stdin = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # non-blocking, as some producers leave it
    running = ufile.start("upload-stream", "demo", "fifo", stdin=stdin)
    fifo.write_bytes(content)
    os.close(stdin)
    assert running.wait().code == 0
    same(emulator, content, key="fifo")


# Memory


@pytest.mark.skipif(sys.platform == "win32", reason="needs wait4")
@pytest.mark.parametrize(
    "megabytes", [300, pytest.param(2048, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_peak_memory(ufile: Ufile, tmp_path: Path, megabytes: int) -> None:
    """`head -c 2G /dev/urandom | ufile upload-stream …`: 4 threads, 4 MiB blocks."""
    with Emulator(tmp_path / "discarding", discard=True) as server:
        outcome, peak = peak_rss(
            ufile,
            (*STREAM, "--json", "-j", "4", "--endpoint", server.url),
            ("head", "-c", f"{megabytes}M", "/dev/urandom"),
            tmp_path,
        )
    assert outcome.code == 0, outcome
    assert outcome.json["size"] == megabytes * MIB and outcome.json["verified"] == "etag"
    assert peak < RSS_LIMIT, f"{peak / MIB:.1f} MiB"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", [1, 4, 8])
def test_two_gigabytes(ufile: Ufile, emulator: Emulator, block: int) -> None:
    emulator.block_size = block * MIB
    mebibyte = content_of(MIB)

    def pieces() -> Iterator[bytes]:
        for number in range(2048):  # no two alike
            yield number.to_bytes(8, "big") + mebibyte[8:]

    running, producer = begin(ufile, *STREAM, "--json", content=pieces())
    outcome = running.wait(timeout=500)
    producer.join()
    assert outcome.code == 0, outcome
    assert outcome.json["size"] == 2048 * MIB and outcome.json["verified"] == "etag"
    assert sums(read_object(emulator, "demo", "big")) == sums(pieces())


# Sizes that are told


@pytest.mark.parametrize("size", [1000, 5 * MIB, 5 * MIB + 17])
@pytest.mark.parametrize("off", [-1, MIB])
def test_another_size_than_the_exact_one(
    ufile: Ufile, emulator: Emulator, size: int, off: int
) -> None:
    """A producer that died in a pipe looks like an end: 66, and no object."""
    if size + off <= 0:
        pytest.skip("less than nothing")
    emulator.block_size = MIB
    outcome = piped(
        ufile, *STREAM, "--json", "--exact-size", str(size), content=content_of(size + off)
    )
    assert outcome.code == 66 and f"{size:,}" in outcome.err, outcome
    assert emulator.count("finish") == emulator.count("put") == 0


def test_the_exact_size(ufile: Ufile, emulator: Emulator) -> None:
    for size in (1000, 5 * MIB, 5 * MIB + 17):
        assert piped(ufile, *STREAM, "--exact-size", str(size), content=content_of(size)).code == 0
        same(emulator, content_of(size))


def test_a_producer_that_died_under_exact_size_is_replayed(
    ufile: Ufile, emulator: Emulator
) -> None:
    """It died in the middle of a part; what was whole before is not sent again. And --exact-size
    still holds."""
    emulator.block_size = MIB
    content = content_of(8 * MIB + 17)
    exact = ("--exact-size", str(len(content)))
    assert piped(ufile, *STREAM, *exact, content=content[: 6 * MIB + 9]).code == 66
    journal = ufile.only_journal()
    before = len(emulator.requests)
    up = set(stored_parts(emulator.requests))
    assert up <= set(range(6))
    assert replay(ufile, journal, content[: 7 * MIB]).code == 66
    outcome = replay(ufile, journal, content)
    assert outcome.code == 0, outcome
    same(emulator, content)
    assert sent_again(emulator, before) == set(range(9)) - up


@pytest.mark.parametrize("told", ["1", "6M", "100M"])
def test_a_wrong_size_never_shows_more_than_all(
    ufile: Ufile, emulator: Emulator, told: str
) -> None:
    emulator.block_size = MIB
    content = content_of(6 * MIB + 99)
    outcome = piped(ufile, *STREAM, "--size", told, "--progress", "json", content=content)
    assert outcome.code == 0, outcome
    shown = [event for event in outcome.events if event["event"] == "progress"]
    assert shown
    for event in shown:
        assert event["percent"] is None or 0 <= event["percent"] <= 100
        assert event["size"] is None or event["bytes_done"] <= event["size"]
    assert outcome.events[-1]["event"] == "finished" and outcome.events[-1]["size"] == len(content)
    outcome = piped(ufile, *STREAM, "--size", told, "--progress", "plain", content=content)
    assert all(int(number) <= 100 for number in re.findall(r"(\d+) ?%", outcome.err)), outcome


# Standard input that is none


@pytest.mark.parametrize("resume", [False, True])
def test_a_terminal(ufile: Ufile, emulator: Emulator, resume: bool) -> None:
    """Somebody sits there, and does not mean to type an object."""
    emulator.block_size = MIB
    arguments = STREAM
    if resume:
        arguments = ("resume", cut(ufile, emulator, content_of(5 * MIB + 1), (0, 1)))  # type: ignore[assignment]
    before = len(emulator.requests)
    outcome = ufile.start_on_terminal(*arguments).wait()
    assert outcome.code == 2 and "terminal" in outcome.err and " | ufile " in outcome.err
    assert len(emulator.requests) == before


def test_closed(ufile: Ufile, emulator: Emulator) -> None:
    outcome = ufile(*STREAM, preexec=lambda: os.close(0))
    assert outcome.code == 2 and "standard input is closed" in outcome.err, outcome
    assert emulator.requests == []


# Trouble on the way


def _events(running: Running, name: str) -> list[dict[str, object]]:
    lines = running.said().splitlines()
    events = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))
    return [event for event in events if event["event"] == name]


@pytest.mark.parametrize("threads", [1, 4])
def test_an_outage_holds_the_producer(ufile: Ufile, emulator: Emulator, threads: int) -> None:
    """With nothing getting through, (threads + 1) parts are read and no more; then it goes on."""
    emulator.block_size = 4 * MIB
    size = 12 if threads == 1 else 40
    content = content_of(size * MIB + 5)
    emulator.faults.add(call="part", after=1, status=503)
    running, producer = begin(
        ufile, *STREAM, "--progress", "json", "-j", str(threads), "--retries", "1",
        "--retry-interval", "0.1", "--patience", "1h", content=content,
    )  # fmt: skip
    running.wait_to_say('"event":"outage_began"')
    most = 4 * MIB * (threads + 2)  # one part got through, and the pipe holds some besides
    producer.wait_until_written(most)
    arrived = emulator.count("part")
    emulator.wait_for("part", arrived + 5, timeout=30)  # probes go on; the producer does not
    assert most <= producer.written <= most + 256 * 1024
    emulator.faults.clear()
    assert running.wait().code == 0
    producer.join()
    assert not producer.broken
    same(emulator, content)
    assert set(stored_parts(emulator.requests).values()) == {1}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("much", [0, 1000, 6 * MIB + 100])
def test_stopped_while_the_producer_is_silent(
    ufile: Ufile, emulator: Emulator, signum: int, much: int
) -> None:
    emulator.block_size = MIB
    content = content_of(8 * MIB + 1)
    running, producer = begin(
        ufile, *STREAM, "--progress", "json", content=content[:much], end=False
    )  # fmt: skip
    if much > 4 * MIB:
        acknowledged(running, range(6))
    else:
        producer.join()
        if much:
            assert producer.written == much
        _until_it_listens(running)
    running.send(signum)
    assert running.wait(timeout=4).code == 128 + signum
    producer.close()
    if much <= 4 * MIB:
        assert emulator.requests == [] and not list(ufile.journals.glob("*.json"))
        return
    journal = ufile.only_journal()
    status = ufile.status(journal)
    assert (status["state"], status["parts_done"]) == ("paused", 6)
    assert status["pause_offset"] == 6 * MIB
    assert f"| ufile resume {journal}" in running.said()
    before = len(emulator.requests)
    assert replay(ufile, journal, content).code == 0
    same(emulator, content)
    assert sent_again(emulator, before) == {6, 7, 8}


def _until_it_listens(running: Running) -> None:
    """Until the handler of SIGINT is the command's own, by what the kernel says of it."""
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in Path(f"/proc/{running.pid}/status").read_text().splitlines():
            # The worker that reads: there is a second thread.
            if line.startswith("Threads:") and int(line.split()[1]) > 1:
                return
        time.sleep(0.005)
    raise AssertionError("it never began to read")


def test_what_a_failure_says(ufile: Ufile, emulator: Emulator) -> None:
    """How to go on, and how to give up."""
    emulator.block_size = MIB
    emulator.faults.add(call="part", part="2-", status=503)
    outcome = piped(ufile, *STREAM, *AT_ONCE, content=content_of(7 * MIB))
    assert outcome.code == 75
    journal = ufile.only_journal()
    assert f"the same stream again | ufile resume {journal}" in outcome.err
    assert f"ufile abort {journal}" in outcome.err
    assert ufile("abort", journal).code == 0
    assert emulator.store.uploads("demo", "") == []


def test_a_wrong_object_is_given_up_and_piped_again(ufile: Ufile, emulator: Emulator) -> None:
    """`--restart` alone, which a stream does not have, is not what it says."""
    content = content_of(9 * MIB)
    emulator.faults.add(call="finish", etag="wrong")
    outcome = piped(ufile, *STREAM, content=content)
    assert outcome.code == 1 and "abort this one and upload it again" in outcome.err, outcome
    emulator.faults.clear()
    assert ufile("abort", ufile.only_journal()).code == 0
    assert piped(ufile, *STREAM, content=content).code == 0
    same(emulator, content)


def test_the_last_part_is_not_taken_for_whole(ufile: Ufile, emulator: Emulator) -> None:
    """Bytes done are those of the stream, also where its last part is a short one."""
    emulator.block_size = MIB
    content = content_of(6 * MIB + 99)
    journal = refused_finish(ufile, emulator, content)
    status = ufile.status(journal)
    assert status["bytes_done"] == status["pause_offset"] == len(content)
