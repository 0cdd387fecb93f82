"""`-- COMMAND`: an object comes to be only where the command ends with 0, and it never outlives us.

Commands are small scripts of sh; what they upload lies in a file.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from streambed import (
    STREAM,
    acknowledged,
    content_of,
    read_all,
    same,
    sent_again,
    wait_until_reaped,
)
from testbed import MIB, SECRET, Ufile

from ufile_cli.emulator.server import Emulator

CONTENT = content_of(6 * MIB + 99)


@pytest.fixture(autouse=True)
def _small_parts(emulator: Emulator) -> None:
    emulator.block_size = MIB


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump"
    path.write_bytes(CONTENT)
    return path


def no_object(emulator: Emulator) -> None:
    assert emulator.count("finish") == emulator.count("put") == 0


@pytest.mark.parametrize("size", [0, 6 * MIB + 99])
def test_uploads_the_output(ufile: Ufile, emulator: Emulator, dump: Path, size: int) -> None:
    outcome = ufile(*STREAM, "--json", "--", "head", "-c", str(size), str(dump))
    assert outcome.code == 0, outcome
    assert outcome.json["size"] == size
    same(emulator, CONTENT[:size])


@pytest.mark.parametrize("size", [0, 1000, 5 * MIB + 1])
def test_a_failing_command(ufile: Ufile, emulator: Emulator, dump: Path, size: int) -> None:
    """66, with its name and its status, and no object; small outputs and large ones."""
    outcome = ufile(*STREAM, "--json", "--", "sh", "-c", f"head -c {size} {dump}; exit 3")
    assert outcome.code == 66 and outcome.json["exit_code"] == 66, outcome
    assert "sh ended with exit code 3" in outcome.err
    no_object(emulator)


@pytest.mark.parametrize("size", [5 * MIB, 5 * MIB + 1])
def test_a_failing_command_is_run_again(
    ufile: Ufile, emulator: Emulator, dump: Path, size: int
) -> None:
    """It died in the middle of a part; the one that gets further goes on from its last whole."""
    outcome = ufile(*STREAM, "--", "sh", "-c", f"head -c {size} {dump}; exit 3")
    journal = ufile.only_journal()
    assert outcome.code == 66 and f"ufile resume {journal} -- sh" in outcome.err, outcome
    assert f"ufile abort {journal}" in outcome.err
    before = len(emulator.requests)
    outcome = ufile("resume", journal, "--", "cat", str(dump))
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) <= {5, 6} | {
        record.part_number
        for record in emulator.requests[:before]
        if record.call == "part" and record.status != 200
    }


def test_a_killed_command(ufile: Ufile, emulator: Emulator, dump: Path) -> None:
    outcome = ufile(*STREAM, "--", "sh", "-c", f"cat {dump}; kill -KILL $$")
    assert outcome.code == 66 and "sh was killed by SIGKILL" in outcome.err, outcome
    no_object(emulator)


def test_a_command_that_does_not_exist(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    for command in ("no-such-command-here", str(tmp_path)):
        outcome = ufile(*STREAM, "--json", "--", command)
        assert outcome.code == 66 and command in outcome.err, outcome
        assert outcome.json["exit_code"] == 66
    assert emulator.requests == []
    assert not list(ufile.journals.glob("*.json"))


def test_a_command_that_closes_its_output_but_lives_on(
    ufile: Ufile, emulator: Emulator, dump: Path, tmp_path: Path
) -> None:
    """Its end counts, not that of its output: no Finish before."""
    gate, pid = tmp_path / "gate", tmp_path / "pid"
    os.mkfifo(gate)
    script = f"cat {dump}; exec >&-; echo $$ > {pid}; read line < {gate}; exit $line"
    for status, code in (("7", 66), ("0", 0)):
        before = emulator.count("part")
        running = ufile.start(*STREAM, "--", "sh", "-c", script)
        emulator.wait_for("part", before + 6, timeout=30)
        gate.write_text(f"{status}\n")  # waits for somebody who reads
        assert running.wait().code == code
        assert emulator.count("finish") == (code == 0)
    same(emulator, CONTENT)


def test_its_standard_error_passes_through(ufile: Ufile, emulator: Emulator) -> None:
    outcome = ufile(*STREAM, "-q", "--", "sh", "-c", "echo careful >&2; echo data")
    assert (outcome.code, outcome.err, outcome.out) == (0, "careful\n", "")
    same(emulator, b"data\n")


def at_a_gate(tmp_path: Path, dump: Path) -> tuple[str, Path]:
    """A script that sends six parts, waits at the gate, says something and fails."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    says = r"printf 'dump: table lost\n  \033[2Jin shop\nthe end' >&2"
    return f"cat {dump}; read line < {gate}; {says}; exit 3", gate


@pytest.mark.parametrize("resumed", [False, True])
def test_what_it_says_stays_above_the_bars(
    ufile: Ufile, emulator: Emulator, dump: Path, tmp_path: Path, resumed: bool
) -> None:
    script, gate = at_a_gate(tmp_path, dump)
    words: tuple[str, ...] = STREAM
    if resumed:
        assert ufile(*STREAM, "--", "sh", "-c", f"head -c {5 * MIB} {dump}; exit 3").code == 66
        words = ("resume", ufile.only_journal())
    running = ufile.start_on_terminal(*words, "--", "sh", "-c", script)
    emulator.wait_for("part", 6, timeout=30)
    gate.write_text("\n")  # waits for somebody who reads
    outcome = running.wait()
    assert outcome.code == 66
    # Each ends as lines of a picture do; what comes after them is drawn below.
    said = ("dump: table lost\x1b[K", "  \\x1b[2Jin shop\x1b[K", "the end\x1b[K")
    places = [outcome.err.find(each) for each in (*said, "sh ended with exit code 3")]
    assert places == sorted(places) and places[0] > 0, outcome.err


@pytest.mark.parametrize("mode", ["plain", "json", "none"])
def test_what_it_says_goes_to_the_terminal_itself_without_bars(
    ufile: Ufile, emulator: Emulator, dump: Path, tmp_path: Path, mode: str
) -> None:
    script, gate = at_a_gate(tmp_path, dump)
    running = ufile.start_on_terminal(*STREAM, "--progress", mode, "--", "sh", "-c", script)
    emulator.wait_for("part", 6, timeout=30)
    gate.write_text("\n")
    assert "dump: table lost\r\n  \x1b[2Jin shop\r\nthe end" in running.wait().err


def test_the_private_key_is_not_in_its_environment(ufile: Ufile, emulator: Emulator) -> None:
    assert ufile(*STREAM, "--", "env").code == 0
    environment = read_all(emulator)
    assert SECRET.encode() not in environment and b"UFILE_PRIVATE_KEY" not in environment
    assert b"UFILE_PUBLIC_KEY" in environment


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["first block", "parts"])
def test_a_signal_ends_the_command_too(
    ufile: Ufile, emulator: Emulator, dump: Path, tmp_path: Path, signum: int, when: str
) -> None:
    """Sent to ufile alone; the command is silent then, and would be for ever."""
    pid, gate = tmp_path / "pid", tmp_path / "gate"
    os.mkfifo(gate)
    head = f"head -c 1000 {dump}" if when == "first block" else f"cat {dump}"
    script = f"{head}; echo $$ > {pid}; echo ready >&2; exec cat {gate}"
    running = ufile.start(*STREAM, "--progress", "json", "--", "sh", "-c", script)
    running.wait_to_say("ready")
    if when == "parts":
        acknowledged(running, range(6))
    running.send(signum)
    assert running.wait(timeout=8).code == 128 + signum
    wait_until_reaped(pid, timeout=2)
    no_object(emulator)
    if when == "parts":
        journal = ufile.only_journal()
        assert ufile.status(journal)["state"] == "paused"
        before = len(emulator.requests)
        assert ufile("resume", journal, "--", "cat", str(dump)).code == 0
        same(emulator, CONTENT)
        assert sent_again(emulator, before) == {6}


def test_a_command_that_ignores_the_signal(
    ufile: Ufile, emulator: Emulator, dump: Path, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; cat {dump}; echo $$ > {pid}; echo ready >&2; while :; do read x; done"
    stdin, hold = os.pipe()
    running = ufile.start(*STREAM, "--", "sh", "-c", script, stdin=stdin)
    os.close(stdin)
    running.wait_to_say("ready")
    running.send(signal.SIGTERM)
    assert running.wait(timeout=10).code == 143
    wait_until_reaped(pid, timeout=2)
    os.close(hold)


def test_without_dashes_nothing_is_run(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    """`ufile upload-stream b k ./file`, typed for `upload`."""
    trap = tmp_path / "file"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    outcome = ufile(*STREAM, str(trap))
    assert outcome.code == 2, outcome
    assert ufile(*STREAM, "--").code == 2
    assert not (tmp_path / "ran").exists() and emulator.requests == []


@pytest.mark.parametrize("size", [1000, 5 * MIB, 5 * MIB + 1])
def test_abort_on_failure(ufile: Ufile, emulator: Emulator, dump: Path, size: int) -> None:
    """Nothing stays, neither on the server nor here."""
    outcome = ufile(
        *STREAM, "--abort-on-failure", "--", "sh", "-c", f"head -c {size} {dump}; exit 1"
    )  # fmt: skip
    assert outcome.code == 66, outcome
    assert emulator.count("abort") == (size > 4 * MIB)
    assert emulator.store.uploads("demo", "") == []
    assert not list(ufile.journals.glob("*.json"))
    assert "ufile resume" not in outcome.err
    no_object(emulator)


def test_abort_on_failure_by_a_signal(ufile: Ufile, emulator: Emulator, dump: Path) -> None:
    script = f"cat {dump}; echo ready >&2; exec sleep 60"
    running = ufile.start(
        *STREAM, "--abort-on-failure", "--progress", "json", "--", "sh", "-c", script
    )  # fmt: skip
    acknowledged(running, range(6))
    running.send(signal.SIGTERM)
    outcome = running.wait(timeout=10)
    assert outcome.code == 143, outcome
    assert emulator.count("abort") == 1, outcome
    assert not list(ufile.journals.glob("*.json"))


def test_abort_on_failure_keeps_what_succeeds(ufile: Ufile, emulator: Emulator, dump: Path) -> None:
    assert ufile(*STREAM, "--abort-on-failure", "--", "cat", str(dump)).code == 0
    same(emulator, CONTENT)
    assert emulator.count("abort") == 0 and ufile.status("--all")[0]["state"] == "finished"
