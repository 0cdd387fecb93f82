"""Signals and outputs that go away: an upload pauses well, and never ends for a lost terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed import (
    COMMAND,
    MIB,
    Outcome,
    Running,
    Ufile,
    assert_same,
    ignore,
    make_file,
    stored_parts,
)

from ufile_cli.cli.signals import Signals
from ufile_cli.emulator.server import Emulator
from ufile_cli.multipart.workers import Inbox, StopAsked

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
PATIENCE = 20.0
"""Seconds to wait for an end that comes after the grace of 3 s. The server hangs for ever and
`--timeout` is a minute, so an end within this time did not wait for either."""


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", 10 * MIB)


def held(ufile: Ufile, emulator: Emulator, path: Path, *options: str) -> Running:
    """An upload of which the server holds parts 3 to 5, all that came before being up."""
    emulator.faults.add(call="part", part="3-5", hang="head")
    running = ufile.start("upload", "demo", "big", str(path), "-j", "3", *options)
    emulator.wait_for("part", 3, stage="hanging")
    emulator.wait_until(lambda records: len(stored_parts(records)) == 3)
    return running


@pytest.mark.parametrize("name", SIGNALS)
def test_pauses_though_the_server_hangs(
    ufile: Ufile, emulator: Emulator, path: Path, name: str
) -> None:
    running = held(ufile, emulator, path, "--json", "--progress", "plain")
    journal = ufile.only_journal()
    running.send(getattr(signal, name))
    outcome = running.wait(PATIENCE)
    assert outcome.code == SIGNALS[name], outcome
    assert "Traceback" not in outcome.err
    assert f"ufile resume {journal}" in outcome.err
    assert outcome.json["exit_code"] == SIGNALS[name]
    document = ufile.document(journal)
    assert document["state"] == "paused" and document["error"]["exit_code"] == SIGNALS[name]
    assert document["pausepartnumber"] == 3 and len(document["etaglist"]) == 3
    assert ufile.status()[0]["state"] == "paused"
    emulator.faults.clear()
    before = len(emulator.requests)
    outcome = ufile("resume", journal)
    assert outcome.code == 0, outcome
    assert not {0, 1, 2} & set(stored_parts(emulator.requests[before:]))
    assert_same(emulator, path)


def test_what_comes_home_in_the_grace_counts(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    running = held(ufile, emulator, path, "--progress", "json")
    running.send(signal.SIGTERM)
    emulator.faults.clear()
    assert running.wait(PATIENCE).code == 143
    document = ufile.document(ufile.only_journal())
    known = {number for number, etag in enumerate(document["etaglist"]) if etag is not None}
    assert known == set(stored_parts(emulator.requests)) >= set(range(6))
    assert emulator.count("finish") == 0


@pytest.mark.parametrize("stage", ["initiate", "finish", "list_parts", "put"])
def test_at_every_stage(ufile: Ufile, emulator: Emulator, path: Path, stage: str) -> None:
    arguments = ["upload", "demo", "big", str(path)]
    if stage == "put":
        arguments = ["upload", "demo", "big", str(make_file(path, 1000))]
    if stage == "list_parts":
        first = held(ufile, emulator, path)
        first.kill()
        emulator.faults.clear()
        arguments = ["resume", "--last"]
    emulator.faults.add(call=stage, hang="head")
    running = ufile.start(*arguments)
    emulator.wait_for(stage, 1, stage="hanging")
    running.send(signal.SIGINT)
    outcome = running.wait(PATIENCE)
    assert outcome.code == 130 and "Traceback" not in outcome.err, outcome
    if stage == "put":
        assert "run the same command again" in outcome.err
    else:
        assert f"ufile resume {ufile.only_journal()}" in outcome.err
        assert ufile.status()[0]["state"] == "paused"
    emulator.faults.clear()
    again = ["resume", "--last"] if stage != "put" else arguments
    assert ufile(*again).code == 0
    assert_same(emulator, path)


def test_the_second_one_leaves_at_once(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    running = held(ufile, emulator, path, "--progress", "json")
    running.send(signal.SIGINT)
    running.wait_to_say('"event":"')  # it lives; the first signal gives requests their grace
    while running.process.poll() is None:
        running.send(signal.SIGINT)  # whichever is the second one
        try:
            running.process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    outcome = running.wait(1)
    assert outcome.code == 130
    assert '"event":"paused"' not in outcome.err, "it went through its farewell all the same"
    journal = ufile.only_journal()
    assert ufile.status()[0]["state"] == "interrupted"
    emulator.faults.clear()
    assert ufile("resume", journal).code == 0
    assert_same(emulator, path)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_ignored_stays_ignored(ufile: Ufile, emulator: Emulator, path: Path, name: str) -> None:
    """Under nohup, or in the background of a script."""
    signum = getattr(signal, name)
    emulator.faults.add(call="part", part="3-5", hang="head")
    running = ufile.start("upload", "demo", "big", str(path), preexec=ignore(signum))
    emulator.wait_for("part", 3, stage="hanging")
    for _ in range(3):
        running.send(signum)
    emulator.faults.clear()
    assert running.wait().code == 0
    assert_same(emulator, path)


def test_ctrl_c_from_the_terminal(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part="3-5", hang="head")
    running = ufile.start_on_terminal("upload", "demo", "big", str(path), "--progress", "bars")
    emulator.wait_for("part", 3, stage="hanging")
    running.send(signal.SIGINT)
    outcome = running.wait(PATIENCE)
    assert outcome.code == 130
    assert f"ufile resume {ufile.only_journal()}" in outcome.err
    assert outcome.err.rfind("\x1b[?25h") >= outcome.err.rfind("\x1b[?25l"), "the cursor is hidden"


def test_a_signal_to_resume_all_stops_it_all(
    ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path
) -> None:
    for key in ("one", "two"):
        fault = emulator.faults.add(call="part", part=3, status=400)
        assert ufile("upload", "demo", key, str(path)).code == 1
        emulator.faults.remove(fault)
    emulator.faults.add(call="part", hang="head")
    running = ufile.start("resume", "--all")
    emulator.wait_for("part", 1, stage="hanging")
    running.send(signal.SIGTERM)
    assert running.wait(PATIENCE).code == 143
    assert emulator.count("finish") == 0


# At moments that no server sees

AT = """
import functools, importlib, os, signal, sys

module, path, when = sys.argv.pop(1).split(":")
*owner, name = path.split(".")
owner = functools.reduce(getattr, owner, importlib.import_module(f"ufile_cli.cli.{module}"))
real = getattr(owner, name)

def act(*arguments, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGINT)
    result = real(*arguments, **named)
    if when == "after":
        os.kill(os.getpid(), signal.SIGINT)
    return result

setattr(owner, name, act)
from ufile_cli.__main__ import main
main()
"""
"""The command, with a Ctrl-C just before or after one of its functions."""


def interrupted_at(ufile: Ufile, moment: str, *arguments: str) -> Outcome:
    return ufile.start(*arguments, command=(sys.executable, "-c", AT, moment)).wait()


@pytest.mark.parametrize("moment", ["transfer:Undertaking._finished:before", "main:_run:after"])
def test_what_is_done_is_done(ufile: Ufile, emulator: Emulator, path: Path, moment: str) -> None:
    outcome = interrupted_at(ufile, moment, "upload", "demo", "big", str(path), "--json")
    assert outcome.code == 0 and outcome.json["exit_code"] == 0, outcome
    assert "uploaded" in outcome.err and "Traceback" not in outcome.err
    assert ufile.status()[0]["state"] == "finished"
    assert_same(emulator, path)


def test_a_directory_that_is_done_is_done(ufile: Ufile, path: Path) -> None:
    path = path.rename(ufile.home / path.name)
    words = ("upload", "-r", "demo", "p", str(ufile.home), "--include", path.name, "--json")
    outcome = interrupted_at(ufile, "directories:print_json:before", *words)
    assert outcome.code == 0 and outcome.json["sent"] == 1, outcome


def test_a_command_that_is_no_upload(ufile: Ufile) -> None:
    outcome = interrupted_at(ufile, "main:_run:after", "status")
    assert outcome.code == 130 and "Traceback" not in outcome.err, outcome


def test_between_the_journal_and_its_upload(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    moment = "transfer:Undertaking.connect:before"
    outcome = interrupted_at(ufile, moment, "upload", "demo", "big", str(path), "--json")
    journal = ufile.only_journal()
    assert outcome.code == 130 and outcome.json["journal_id"] == journal, outcome
    assert f"ufile resume {journal}" in outcome.err
    again = interrupted_at(ufile, moment, "resume", journal, "--json")
    assert again.code == 130 and f"ufile resume {journal}" in again.err, again
    every = interrupted_at(ufile, moment, "resume", "--all", "--json")
    assert every.code == 130 and [one["exit_code"] for one in every.json] == [130], every
    assert ufile.status()[0]["state"] == "paused"
    assert ufile("resume", journal).code == 0
    assert_same(emulator, path)


# Outputs that go away


@pytest.mark.parametrize("mode", ["plain", "json", "bars"])
@pytest.mark.parametrize("which", ["stderr", "both"])
def test_a_reader_that_leaves(
    ufile: Ufile, emulator: Emulator, path: Path, mode: str, which: str
) -> None:
    reading, writing = os.pipe()
    emulator.faults.add(call="part", part=5, hang="head")
    with (ufile.home / "other").open("wb") as other:
        process = subprocess.Popen(
            [*COMMAND, "upload", "demo", "big", str(path), "--json", "--progress", mode, "-v"],
            stdin=subprocess.DEVNULL,
            stdout=writing if which == "both" else other,
            stderr=writing,
            env=ufile.env,
        )
    try:
        os.close(writing)
        emulator.wait_for("part", 1, stage="hanging")
        os.close(reading)
        emulator.faults.clear()
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert_same(emulator, path)
    assert ufile.status()[0]["state"] == "finished"


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """A pipe into which nothing more goes, and which nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, bytes(512)):
            pass
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("options", [("json",), ("plain",), ("none", "-v")], ids=" ".join)
def test_a_reader_that_stops_reading(
    ufile: Ufile, emulator: Emulator, path: Path, full_pipe: int, options: tuple[str, ...]
) -> None:
    """Nothing waits for it but, for a moment, the last words; also a signal is heard."""
    emulator.faults.add(call="part", part="3-5", hang="head")
    process = subprocess.Popen(
        [*COMMAND, "upload", "demo", "big", str(path), "-j", "3", "--progress", *options],
        stdin=subprocess.DEVNULL, stderr=full_pipe, env=ufile.env,
    )  # fmt: skip
    try:
        emulator.wait_until(lambda records: len(stored_parts(records)) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
    finally:
        process.kill()
    emulator.faults.clear()
    again = subprocess.run(
        [*COMMAND, "resume", "--last", "--progress", *options],
        stdin=subprocess.DEVNULL, stderr=full_pipe, env=ufile.env, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert again.returncode == 0
    assert_same(emulator, path)


def test_a_failure_without_a_reader_is_one(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=2, status=400)
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [*COMMAND, "upload", "demo", "big", str(path), "--json"],
        stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=ufile.env,
    )  # fmt: skip
    os.close(writing)
    assert process.wait(30) == 1


def onto_a_full_disk() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_result_that_cannot_be_written(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """It was asked for, so that no script may go on without it; the upload is what it is."""
    outcome = ufile("upload", "demo", "big", str(path), "--json", preexec=onto_a_full_disk)
    assert outcome.code == 1, outcome
    assert outcome.err.endswith(
        "ufile: standard output can't be written: No space left on device\n"
    )
    assert ufile.status()[0]["state"] == "finished"
    empty = path.parent / "empty"
    empty.mkdir()
    for arguments, code in (
        (("resume", ufile.only_journal(), "--json"), 1),
        (("resume", "--all", "--json"), 1),
        (("upload", "-r", "demo", "p", str(empty), "--json"), 1),
        (("status",), 1),
        (("status", "--json"), 1),
        (("etag", str(path)), 1),
        (("upload", "demo", "big", "/nowhere", "--json"), 66),
    ):
        outcome = ufile(*arguments, preexec=onto_a_full_disk)
        assert outcome.code == code, outcome
        assert outcome.err.count("standard output can't be written") == 1, outcome


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_from_the_start(
    ufile: Ufile,
    emulator: Emulator,
    path: Path,
    closed: tuple[int, ...],
) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    outcome = ufile("upload", "demo", "big", str(path), "--json", "-v", preexec=close)
    assert outcome.code == 0, outcome
    assert_same(emulator, path)
    assert ufile("status", preexec=close).code == 0
    assert ufile("status", ufile.only_journal(), preexec=close).code == 0
    assert ufile("status", "--json", preexec=close).code == 0
    assert ufile("upload", "demo", "k", "/nowhere", preexec=close).code == 66


def test_a_terminal_that_goes_away(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """Its owner ignores SIGHUP, as under nohup; writing to it fails from then on."""
    emulator.faults.add(call="part", part=5, hang="head")
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "upload", "demo", "big", str(path), "--progress", "bars"],
        stdin=slave, stdout=slave, stderr=slave, env=ufile.env, start_new_session=True,
        preexec_fn=ignore(signal.SIGHUP),
    )  # fmt: skip
    try:
        os.close(slave)
        emulator.wait_for("part", 1, stage="hanging")
        os.close(master)
        emulator.faults.clear()
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert_same(emulator, path)


def test_a_signal_that_a_library_swallows_is_heard_all_the_same() -> None:
    """Its exception comes out of whatever runs just then, an import or somebody's `except`."""
    signals = Signals()
    swallowed = False
    try:
        signals._handle(signal.SIGINT, None)
    except Exception:
        swallowed = True
    assert swallowed
    inbox = Inbox()
    signals.stop.watch(inbox)  # as an upload does when it begins
    assert inbox.get(timeout=5) == StopAsked(signal.SIGINT)
