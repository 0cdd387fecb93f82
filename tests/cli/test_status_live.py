"""`ufile status --watch` and `--remote`, and what looking costs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.cli import watch
from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "备份.bin", 9 * MIB)


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_until_interrupted(
    ufile: Ufile, emulator: Emulator, path: Path, terminal: bool
) -> None:
    start = ufile.start_on_terminal if terminal else ufile.start
    name = "err" if terminal else "out"
    watching = start("status", "--watch")
    watching.wait_to_say("nothing is running", name)
    emulator.faults.add(call="part", part=2, hang="body")
    running = ufile.start("upload", "demo", "big", str(path))
    watching.wait_to_say("备份.bin", name)
    watching.wait_to_say("1 running", name)
    emulator.faults.clear()
    assert running.wait().code == 0
    watching.wait_to_say("100%", name)
    watching.send(signal.SIGINT)
    outcome = watching.wait()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err and "stopped by" not in outcome.err
    if not terminal:
        assert "\x1b" not in outcome.out and outcome.err == ""


def test_an_upload_that_was_killed_is_watched_as_interrupted(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    emulator.faults.add(call="part", part=2, hang="body")
    running = ufile.start("upload", "demo", "big", str(path))
    emulator.wait_for("part", 1, stage="hanging")
    watching = ufile.start_on_terminal("status", "--watch")
    watching.wait_to_say("1 running")
    running.kill()
    watching.wait_to_say("nothing is running")
    assert "interrupted 0:" in watching.said() and "paused" not in watching.said()
    watching.kill()
    emulator.faults.clear()


@pytest.mark.parametrize(("stopped", "away"), [(0.0, False), (0.4, False), (3.0, True)])
def test_a_watch_that_was_stopped_draws_anew_below(
    monkeypatch: pytest.MonkeyPatch, stopped: float, away: bool
) -> None:
    """Ctrl-Z and fg: the shell has printed where the picture was."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + stopped

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(watch, "time", clock)
    assert watch._rest(0.5) is away


def test_watch_of_one_ends_with_it(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=2, hang="body")
    running = ufile.start("upload", "demo", "big", str(path))
    emulator.wait_for("part", 1, stage="hanging")
    journal = ufile.only_journal()
    watching = ufile.start("status", "--watch", journal[:4])
    watching.wait_to_say(f"{journal} 备份.bin: running", "out")
    running.kill()
    outcome = watching.wait()
    assert outcome.code == 0 and f"{journal} 备份.bin: interrupted" in outcome.out
    outcome = ufile("status", "--watch", journal)
    assert outcome.code == 0 and f"nobody works on upload {journal}" in outcome.err
    emulator.faults.clear()


def test_remote(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    ids = {}
    for key in ("mine", "a b/备份"):
        fault = emulator.faults.add(call="part", part=2, status=503)
        ids[key] = ufile("upload", "demo", key, str(path), "--json", *AT_ONCE).json["journal_id"]
        emulator.faults.remove(fault)
    uploads = {key: ufile.document(journal)["uploadid"] for key, journal in ids.items()}
    for file in ufile.journals.glob(f"{ids['a b/备份']}.*"):
        file.unlink()
    emulator.faults.add(call="list_uploads", page_size=1)
    outcome = ufile("status", "--remote", "demo", "--json")
    assert outcome.code == 0
    listed = sorted(outcome.json, key=lambda upload: str(upload["key"]))
    assert all(upload.pop("started_at").endswith("Z") for upload in listed)
    assert listed == [
        {"uploadid": uploads["a b/备份"], "key": "a b/备份", "journal_id": None},
        {"uploadid": uploads["mine"], "key": "mine", "journal_id": ids["mine"]},
    ]
    out = ufile("status", "--remote", "demo").out
    assert f"ufile resume {ids['mine']}" in out
    line = next(line for line in out.splitlines() if "adopt with:" in line)
    command = shlex.split(line.partition("adopt with:")[2])
    assert command == [
        "ufile", "resume", "--bucket", "demo", "--key", "a b/备份", "--upload-id",
        uploads["a b/备份"], "--file", "PATH",
    ]  # fmt: skip
    assert "no unfinished uploads" in ufile("status", "--remote", "other").err
    assert ufile("status", "--remote", "other", "--json").json == []


@pytest.mark.parametrize(
    "arguments", [("--watch", "--json"), ("--watch", "--remote", "b"), ("--remote", "b", "abcd")]
)
def test_wrong_usage(ufile: Ufile, emulator: Emulator, arguments: tuple[str, ...]) -> None:
    assert ufile("status", *arguments).code == 2
    assert not emulator.requests


def imported_by(ufile: Ufile, *arguments: str, **env: str) -> set[str]:
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
        "from ufile_cli.cli.main import run\n"
        f"run({list(arguments)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=ufile.env | env, capture_output=True, check=False
    )
    return set(done.stderr.decode().split())


def test_looking_imports_no_client(ufile: Ufile, path: Path) -> None:
    ufile.upload(path)
    heavy = {"requests", "rich", "urllib3", "ufile_cli.us3.client", "ufile_cli.emulator.server"}
    for arguments in (
        ("status",),
        ("status", "--json"),
        ("clean", "--dry-run"),
        ("etag", "/dev/null"),
    ):
        imported = imported_by(ufile, *arguments)
        assert "ufile_cli.cli.main" in imported and not imported & heavy
    asked = {"_UFILE_COMPLETE": "zsh_complete", "COMP_WORDS": "ufile resume ", "COMP_CWORD": "2"}
    imported = imported_by(ufile, **asked)
    assert "click.shell_completion" in imported and not imported & heavy


def test_old_receipts_are_not_even_read(ufile: Ufile, path: Path) -> None:
    """An unreadable document from long ago, without a part log, is passed over by its date."""
    ufile.upload(path)
    old = ufile.journals / "00000000.json"
    old.write_text("{")
    assert [d["state"] for d in ufile.status()] == ["finished", "damaged"]
    os.utime(old, (10**9, 10**9))
    assert [d["state"] for d in ufile.status()] == ["finished"]
    assert [d["state"] for d in ufile.status("--all")] == ["damaged", "finished"]
