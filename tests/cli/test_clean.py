"""`ufile clean`: receipts and stray files go, everything unfinished stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "big", 5 * MIB)


def grow_old(ufile: Ufile, journal: str, moment: str) -> None:
    file = ufile.journals / f"{journal}.json"
    document = json.loads(file.read_text())
    document["updated_at"] = moment
    file.write_text(json.dumps(document))


def test_drops_receipts_and_stray_files(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    for number in range(3):
        ufile.upload(path, key=f"备份/{number}")
    emulator.faults.add(call="part", status=503)
    outcome = ufile("upload", "demo", "unfinished", str(path), "--json", *AT_ONCE)
    unfinished = outcome.json["journal_id"]
    (ufile.journals / "aaaaaaaa.lock").touch()
    (ufile.journals / "aaaaaaaa.parts.jsonl").touch()
    (ufile.journals / "notes.txt").touch()
    before = sorted(ufile.journals.iterdir())

    outcome = ufile("clean", "--dry-run")
    assert outcome.code == 0
    assert [line.split()[2] for line in outcome.out.splitlines()] == [
        f"demo/备份/{number}" for number in range(3)
    ]
    assert outcome.err == ("would drop 3 receipts and 2 stray files; 1 unfinished upload stays\n")
    assert sorted(ufile.journals.iterdir()) == before

    outcome = ufile("clean")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "dropped 3 receipts and 2 stray files; 1 unfinished upload stays\n"
    assert [document["journal_id"] for document in ufile.status("--all")] == [unfinished]
    left = {name.name for name in ufile.journals.iterdir() if name.name[0] != "."}
    assert left - {f"{unfinished}.lock"} == {
        f"{unfinished}.json", f"{unfinished}.parts.jsonl", "notes.txt"
    }  # fmt: skip
    assert ufile("clean", "-q").err == ""
    emulator.faults.clear()
    assert ufile("resume", unfinished).code == 0


def test_older_than(ufile: Ufile, path: Path) -> None:
    old = ufile.upload(path, key="old").json["journal_id"]
    young = ufile.upload(path, key="young").json["journal_id"]
    grow_old(ufile, old, "2020-01-01T00:00:00.000Z")
    assert ufile("clean", "--older-than", "30d").err == "dropped 1 receipt\n"
    assert [document["journal_id"] for document in ufile.status("--all")] == [young]


def test_takes_no_lock_from_anybody(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="finish", hang="head")
    running = ufile.start("upload", "demo", "big", str(path), "--json")
    emulator.wait_for("finish", 1, stage="hanging")
    names = sorted(ufile.journals.iterdir())
    assert ufile("clean").err == "dropped 0 receipts; 1 unfinished upload stays\n"
    assert sorted(ufile.journals.iterdir()) == names
    emulator.faults.clear()
    assert running.wait().code == 0


def test_with_no_journals_at_all(alone: Ufile) -> None:
    outcome = alone("clean")
    assert (outcome.code, outcome.err) == (0, "dropped 0 receipts\n")
    assert not alone.journals.exists()
