"""Sources and journals that are not what they seem, through the command."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hostilebed import nothing_raw
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.emulator.server import Emulator

TERABYTE = 10**12


def test_sources_that_are_too_large_or_no_files(ufile: Ufile, emulator: Emulator) -> None:
    large = ufile.home / "large"
    with large.open("wb") as file:
        try:
            file.truncate(5 * TERABYTE + 1)
        except OSError:
            pytest.skip("no file of this size can be here")
    outcome = ufile("upload", "demo", "k", str(large))
    assert outcome.code in (2, 66) and "5 TB" in outcome.err, outcome
    unix = socket.socket(socket.AF_UNIX)
    os.chdir(ufile.home)
    unix.bind("socket")
    outcome = ufile("upload", "demo", "k", "socket")
    unix.close()
    assert outcome.code == 66 and "Traceback" not in outcome.err, outcome
    assert not emulator.requests


def test_names_are_shown_escaped(ufile: Ufile, emulator: Emulator) -> None:
    name = "a\nufile: all is well\x1b[2J\u202egnp"
    make_file(ufile.home / name, 5 * MIB)
    emulator.faults.add(call="part", status=503)
    for arguments in (("upload", "demo", "d/", name, *AT_ONCE), ("status",)):
        outcome = ufile(*arguments, "-v", "-v", "--log-file", "log")
        nothing_raw(outcome.err + outcome.out + (ufile.home / "log").read_text())
        assert "\nufile: all is well" not in outcome.err + outcome.out


def interrupted(ufile: Ufile, emulator: Emulator) -> Path:
    """The journal of an upload that stopped; the server is well again."""
    make_file(ufile.home / "big", 9 * MIB)
    fault = emulator.faults.add(call="part", part=1, status=503)
    assert ufile("upload", "demo", "k", "big", *AT_ONCE).code == 75
    emulator.faults.remove(fault)
    return ufile.journals / f"{ufile.only_journal()}.json"


def test_a_journal_that_everybody_can_write_is_not_believed(
    ufile: Ufile, emulator: Emulator
) -> None:
    path = interrupted(ufile, emulator)
    before = len(emulator.requests)
    path.chmod(0o666)
    path.parent.chmod(0o777)
    outcome = ufile("resume", path.stem)
    assert outcome.code == 1 and "can write to it" in outcome.err, outcome
    assert [entry["state"] for entry in ufile.status()] == ["damaged"]
    assert len(emulator.requests) == before
    path.chmod(0o600)
    assert ufile("resume", path.stem).code == 0


def test_rights_that_reach_nobody_do_no_harm(ufile: Ufile, emulator: Emulator) -> None:
    path = interrupted(ufile, emulator)
    path.chmod(0o666)  # in a directory that lets nobody in
    assert ufile("resume", path.stem).code == 0


def test_a_journal_that_is_a_link(ufile: Ufile, emulator: Emulator) -> None:
    path = interrupted(ufile, emulator)
    elsewhere = ufile.home / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    outcome = ufile("resume", path.stem)
    assert outcome.code == 1 and "symbolic link" in outcome.err, outcome
    assert elsewhere.read_bytes() == before
