"""Sources and journals that are not what they seem, through the command."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest
from hostilebed import nothing_raw
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.emulator.server import Emulator

TERABYTE = 10**12


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1024 * MIB, 1024 * MIB))


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


TERMINAL = [
    ("upload", "demo", "k\x1b]0;x\x07", "NAME", *AT_ONCE, "--progress", "bars"),
    ("status",),
    ("resume", "--last", *AT_ONCE, "--progress", "plain"),
    ("upload", "-r", "demo", "p\x07", "tree", "--dry-run"),
    ("upload", "-r", "demo", "p\x07", "tree", *AT_ONCE),
    ("verify", "demo", "k\x1b]0;x\x07", "NAME"),
    ("etag", "NAME"),
    ("status", "--remote", "demo"),
    ("doctor",),
    ("clean", "--dry-run"),
    ("abort", "--all"),
]


def test_names_are_escaped_on_a_terminal(ufile: Ufile, emulator: Emulator) -> None:
    """Where colours and bars are drawn, so that escapes alone say nothing: these are the names'."""
    name = "a\nb\x1b]0;x\x07\x9b31m\u202egnp"
    make_file(ufile.home / name, 5 * MIB)
    (ufile.home / "tree").mkdir()
    make_file(ufile.home / "tree" / name, 10)
    said = "\x1b]0;x\x07\x9b31m\u202egnp"
    emulator.faults.add(call="part", part=1, status=503, message=said)
    for arguments in TERMINAL:
        words = (name if word == "NAME" else word for word in arguments)
        running = ufile.start_on_terminal(*words, columns=200)
        outcome = running.wait()
        assert outcome.code != 70, outcome
        for raw in ("\x1b]", "\x07", "\x9b", "\u202e"):
            assert raw not in outcome.err, (arguments, raw, outcome.err)


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


@pytest.mark.parametrize("kind", ["directory", "device", "fifo", "file", "loop"])
def test_places_that_are_none(ufile: Ufile, emulator: Emulator, kind: str) -> None:
    """What is named in the environment: a sentence, whatever lies there, and no bug of ours."""
    make_file(ufile.home / "big", 5 * MIB)
    place = ufile.home / kind
    if kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "file":
        place.write_bytes(b"\x00[[[")
    elif kind == "loop":
        place.symlink_to(place)
    else:
        place = Path("/dev/zero")
    upload = ("upload", "demo", "k", "big", *AT_ONCE)
    tries: list[tuple[dict[str, str], tuple[str, ...], int]] = [
        ({"UFILE_STATE_DIR": str(place)}, upload, 0 if kind == "directory" else 74),
        ({"UFILE_LOCAL_DIR": str(place), "UFILE_ENDPOINT": "local"}, upload,
         0 if kind == "directory" else 2),
    ]  # fmt: skip
    if kind != "fifo":  # who names a FIFO here means to write into it: `UFILE_CONFIG=<(decrypt)`
        tries += [
            ({"UFILE_CONFIG": str(place)}, upload, 2),
            ({}, ("serve", "--port", "0", "--faults", str(place)), 2),
        ]
    for env, arguments, code in tries:
        outcome = ufile(*arguments, env=env, preexec=limited)
        assert outcome.code == code, (env, arguments, outcome)
        assert "Traceback" not in outcome.err and "bug of ufile" not in outcome.err, outcome


def test_a_configuration_that_is_too_deep(ufile: Ufile) -> None:
    (ufile.home / "config.toml").write_text("a = " + "[" * 100_000)
    (ufile.home / "config.toml").chmod(0o600)
    (ufile.home / "faults").write_text("[" * 100_000)
    outcome = ufile("configure", "--list")
    assert outcome.code == 2 and "too deeply" in outcome.err, outcome
    outcome = ufile("serve", "--port", "0", "--faults", "faults", env={"UFILE_CONFIG": "/dev/null"})
    assert outcome.code == 2 and "not JSON" in outcome.err, outcome


def test_no_configuration_is_no_danger(alone: Ufile) -> None:
    """UFILE_CONFIG=/dev/null means none; nobody is told to chmod a device."""
    make_file(alone.home / "f", 10)
    outcome = alone(
        "upload", "demo", "k", "f", "--endpoint", "local", env={"UFILE_CONFIG": "/dev/null"}
    )
    assert outcome.code == 0 and "chmod" not in outcome.err, outcome
