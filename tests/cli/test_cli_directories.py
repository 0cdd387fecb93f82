"""`upload -r`: which files go up, under which keys, and what happens to the rest."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from testbed import AT_ONCE, KIB, MIB, Ufile, make_file

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Small files, one of two parts, one large one, a link to it, and an empty directory."""
    root = tmp_path / "photos"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    make_file(root / "a.jpg", 3 * KIB)
    make_file(root / "b.txt", 10)
    make_file(root / "sub" / "c.jpg", 5 * MIB)
    make_file(root / "sub" / "deep" / "图片.png", 1 * KIB)
    (root / "sub" / "zero").touch()
    return root


def keys_of(emulator: Emulator) -> set[str]:
    """The keys that the server has stored something under."""
    return {
        record.key or ""
        for record in emulator.requests
        if record.call in ("put", "finish") and record.status == 200
    }


ALL = {"p/a.jpg", "p/b.txt", "p/sub/c.jpg", "p/sub/deep/图片.png", "p/sub/zero"}


def test_every_file_under_its_key(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["sent"] == 5 and outcome.json["failed"] == 0
    assert keys_of(emulator) == ALL
    assert emulator.count("initiate") == 1  # the one of 5 MiB; the others are one request each
    receipts = ufile.status()
    assert [receipt["state"] for receipt in receipts] == ["finished"]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["--include", "*.jpg"], {"p/a.jpg", "p/sub/c.jpg"}),
        (["--exclude", "*.jpg"], ALL - {"p/a.jpg", "p/sub/c.jpg"}),
        (["--exclude", "*", "--include", "*.jpg"], {"p/a.jpg", "p/sub/c.jpg"}),
        (["--include", "*.jpg", "--exclude", "sub/*"], {"p/a.jpg"}),
        (["--exclude", "sub/*", "--include", "sub/deep/*"], ALL - {"p/sub/c.jpg", "p/sub/zero"}),
        (["--exclude=*.jpg", "--include=a.jpg"], ALL - {"p/sub/c.jpg"}),
    ],
)
def test_the_last_rule_that_matches_wins(
    ufile: Ufile, emulator: Emulator, tree: Path, rules: list[str], expected: set[str]
) -> None:
    assert ufile("upload", "-r", "demo", "p/", str(tree), "-q", *rules).code == 0
    assert keys_of(emulator) == expected


def test_skip_existing_sends_what_differs_alone(
    ufile: Ufile, emulator: Emulator, tree: Path
) -> None:
    assert ufile("upload", "-r", "demo", "p", str(tree), "-q").code == 0
    (tree / "b.txt").write_bytes(b"otherwise!")  # the same size, other content
    before = len(emulator.requests)
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--skip-existing", "--json")
    assert outcome.code == 0
    assert outcome.json["skipped"] == 4 and outcome.json["sent"] == 1
    sent = [record for record in emulator.requests[before:] if record.call not in ("head",)]
    assert [(record.call, record.key) for record in sent] == [("put", "p/b.txt")]


def test_dry_run_sends_nothing(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--dry-run")
    assert outcome.code == 0
    assert emulator.requests == []
    assert len(outcome.out.splitlines()) == 5 and "demo/p/sub/c.jpg" in outcome.out
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--dry-run", "--json")
    assert outcome.code == 0 and emulator.requests == []
    files = outcome.json["files"]
    assert len(files) == 5 and outcome.json["bytes"] == sum(file["size"] for file in files)
    assert "p/sub/c.jpg" in {file["key"] for file in files}


def test_dry_run_ends_as_the_run_will(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff")).write_bytes(b"x")
    assert ufile("upload", "-r", "demo", "p", str(tree), "--dry-run").code == 66
    assert emulator.requests == []


def test_links_are_followed_and_loops_are_not(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    (tree / "link").symlink_to(tree / "b.txt")
    (tree / "sub" / "up").symlink_to("..")
    (tree / "dangling").symlink_to("nowhere")
    outcome = ufile("upload", "-r", "demo", "p", str(tree))
    assert outcome.code == 66, outcome
    assert keys_of(emulator) == ALL | {"p/link"}
    assert "sub/up/ leads back" in outcome.err
    assert "dangling" in outcome.err
    assert "6 files sent" in outcome.err and "1 failed" in outcome.err


def test_one_file_is_no_plural(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    words = ["upload", "-r", "demo", "p", str(tree / "sub")]
    words += ["--exclude", "*", "--include", "c.jpg"]
    assert "1 file, " in ufile(*words, "--dry-run").err
    outcome = ufile(*words, "--progress", "plain")
    assert outcome.code == 0, outcome
    assert "sub: 1 file, " in outcome.err and ": 1 file sent (" in outcome.err


def test_names_that_are_not_utf8_fail_alone(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff")).write_bytes(b"x")
    os.mkfifo(tree / "fifo")
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--json")
    assert outcome.code == 66
    assert outcome.json["failed"] == 1 and outcome.json["sent"] == 5
    assert keys_of(emulator) == ALL
    assert "Traceback" not in outcome.err


def test_one_that_fails_does_not_stop_the_rest(
    ufile: Ufile, emulator: Emulator, tree: Path
) -> None:
    emulator.faults.add(call="put", key="p/a.jpg", status=413, message="too much")
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--json", *AT_ONCE)
    assert outcome.code == 1
    assert outcome.json["sent"] == 4
    assert [failure["path"] for failure in outcome.json["failures"]] == ["a.jpg"]
    assert keys_of(emulator) == ALL - {"p/a.jpg"}


@pytest.mark.parametrize("mode", ["plain", "json", "none"])
def test_what_fails_is_told_once(ufile: Ufile, emulator: Emulator, tree: Path, mode: str) -> None:
    emulator.faults.add(call="put", key="p/a.jpg", status=413)
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--progress", mode, *AT_ONCE)
    assert outcome.code == 1
    told = ("a.jpg: failed", '"event":"file_failed"', "ufile: a.jpg: ")
    assert sum(map(outcome.err.count, told)) == 1, outcome


def test_what_was_up_already_is_told(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    emulator.block_size = MIB
    fault = emulator.faults.add(call="part", part=3, status=413)
    words = ("upload", "-r", "demo", "p", str(tree), "-j", "1")
    failed = ufile(*words)
    assert failed.code == 1 and "were up already" not in failed.err, failed
    emulator.faults.remove(fault)
    assert "0 failed; 3 parts were up already" in ufile(*words).err


def test_a_dead_server_ends_it_with_75(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    emulator.close()
    outcome = ufile("upload", "-r", "demo", "p", str(tree), *AT_ONCE)
    assert outcome.code == 75
    assert "--skip-existing" in outcome.err


def test_killed_in_the_middle_it_goes_on(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    make_file(tree / "sub" / "large", 9 * MIB)
    emulator.faults.add(call="part", key="p/sub/large", part=2, hang="stored")
    running = ufile.start("upload", "-r", "demo", "p", str(tree), "-q")
    emulator.wait_until(
        lambda records: any(r.key == "p/sub/large" and r.part_number == 1 for r in records)
    )
    running.kill()
    emulator.faults.clear()
    emulator.faults.release()
    before = len(emulator.requests)
    outcome = ufile("upload", "-r", "demo", "p", str(tree), "--skip-existing", "-q")
    assert outcome.code == 0, outcome
    assert keys_of(emulator) == ALL | {"p/sub/large"}
    again = [
        record.part_number
        for record in emulator.requests[before:]
        if record.call == "part" and record.key == "p/sub/large"
    ]
    assert set(again) <= {2}  # what was acknowledged is not sent again


def test_ctrl_c_stops_well(ufile: Ufile, emulator: Emulator, tree: Path) -> None:
    emulator.faults.add(call="part", key="p/sub/c.jpg", hang="body")
    running = ufile.start("upload", "-r", "demo", "p", str(tree), "--progress", "none")
    emulator.wait_for("part", stage="arrived")
    running.send(signal.SIGINT)
    outcome = running.wait(timeout=20)
    assert outcome.code == 130, outcome
    assert "--skip-existing" in outcome.err
    assert [journal["state"] for journal in ufile.status()] == ["paused"]


@pytest.mark.parametrize("prefix", ["", "/"])
def test_no_prefix(ufile: Ufile, emulator: Emulator, tree: Path, prefix: str) -> None:
    assert ufile("upload", "-r", "demo", prefix, str(tree / "sub" / "deep"), "-q").code == 0
    assert keys_of(emulator) == {"图片.png"}


def test_usage(ufile: Ufile, tree: Path) -> None:
    assert ufile("upload", "demo", "p", str(tree)).code == 66  # a directory without -r
    assert ufile("upload", "-r", "demo", "p", str(tree / "b.txt")).code == 2
    assert ufile("upload", "-r", "demo", "p", str(tree / "nowhere")).code == 66
    assert ufile("upload", "demo", "p", str(tree / "b.txt"), "--include", "*").code == 2


def test_many_small_files_share_threads_and_connections(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    for directory in range(10):
        (root / str(directory)).mkdir(parents=True)
        for number in range(50):
            (root / str(directory) / str(number)).write_bytes(b"%d" % number)
    outcome = ufile("upload", "-r", "demo", "m", str(root), "-q", "--json")
    assert outcome.code == 0 and outcome.json["sent"] == 500
    assert emulator.count("put") == 500
    assert emulator.connections_opened <= 6
