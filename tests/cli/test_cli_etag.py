"""`ufile etag`: the ETag of the server, in the layout of sha1sum."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from hostilebed import nothing_raw
from testbed import COMMAND, MIB, Ufile, make_file

from ufile_cli.emulator.server import Emulator


def run(alone: Ufile, *arguments: str | bytes, given: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [*COMMAND, "etag", *arguments], env=alone.env, cwd=alone.home, input=given,
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_is_what_the_server_says(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    for size in (1, 4 * MIB, 4 * MIB + 1, 9 * MIB):
        path = make_file(tmp_path / "文件", size)
        ufile.upload(path, key=f"k{size}")
        outcome = ufile("etag", str(path))
        etag = emulator.store.find("demo", f"k{size}").etag
        assert (outcome.code, outcome.out, outcome.err) == (0, f"{etag}  {path}\n", "")


def test_standard_input(alone: Ufile) -> None:
    # One block: its count, then the SHA-1 of "abc" that FIPS 180 gives.
    line = b"AQAAAKmZPjZHBoFquj4lcXhQwmyc0Nid"
    assert run(alone, "-", given=b"abc") == (0, line + b"  -\n", b"")
    assert run(alone, "/dev/stdin", given=b"abc") == (0, line + b"  /dev/stdin\n", b"")


def test_names_are_escaped_as_sha1sum_does(alone: Ufile) -> None:
    names = [b"new\nline", b"back\\slash", b"car\rriage", b"b\xff\xfe", "备份".encode(), b"a  b"]
    for name in names:
        with open(os.path.join(os.fsencode(alone.home), name), "wb") as file:
            file.write(b"x")
    code, ours, _ = run(alone, *names)
    theirs = subprocess.run(
        ["sha1sum", *names], cwd=alone.home, capture_output=True, check=True
    ).stdout
    assert code == 0
    # The same but for the digest, which is 32 characters here and 40 there.
    unsummed = [line[:1] * (line[:1] == b"\\") + line.split(b"  ", 1)[1] for line in
                ours.splitlines()]  # fmt: skip
    assert unsummed == [
        line[:1] * (line[:1] == b"\\") + line.split(b"  ", 1)[1] for line in theirs.splitlines()
    ]


def test_nothing_raw_on_a_terminal(alone: Ufile) -> None:
    name = "a\x1b[2J\u202e\x9b\nb"
    (alone.home / name).write_bytes(b"x")
    running = alone.start_on_terminal("etag", name)
    running.wait()
    shown = running.said("err")
    nothing_raw(shown, progress=True)
    assert shown.startswith("\\") and "  a\\x1b[2J\\u202e\\x9b\\nb\r\n" in shown, shown


def test_a_fifo_is_read_to_its_end(alone: Ufile) -> None:
    """As sha1sum does: `ufile etag <(pg_dump shop)` is one. It waits, and can be stopped."""
    os.mkfifo(alone.home / "fifo")
    running = alone.start("etag", "fifo")
    with open(alone.home / "fifo", "wb") as fifo:  # returns when the other side has it open
        fifo.write(b"abc")
    assert running.wait().out == "AQAAAKmZPjZHBoFquj4lcXhQwmyc0Nid  fifo\n"
    waiting = alone.start("etag", "-", "fifo", stdin=subprocess.DEVNULL)
    waiting.wait_to_say("  -\n", "out")  # its next step is the FIFO
    waiting.send(signal.SIGINT)
    assert waiting.wait().code == 130


def test_goes_on_after_a_missing_one(alone: Ufile) -> None:
    (alone.home / "there").write_bytes(b"x")
    code, out, err = run(alone, "gone\x1b[2J", "there", ".")
    assert code == 66
    assert out.endswith(b"  there\n") and out.count(b"\n") == 1
    assert b"gone\\x1b[2J: No such file" in err and b"Is a directory" in err
    assert run(alone)[0] == 2
