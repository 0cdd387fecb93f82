"""`ufile doctor`: each thing that can lie around is found, and its command mends it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from testbed import AT_ONCE, MIB, Outcome, Ufile, make_file

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "备份 1.bin", 9 * MIB)


def paused(ufile: Ufile, emulator: Emulator, path: Path, key: str = "big") -> str:
    fault = emulator.faults.add(call="part", part=2, status=503)
    outcome = ufile("upload", "demo", key, str(path), "--json", *AT_ONCE)
    emulator.faults.remove(fault)
    return str(outcome.json["journal_id"])


def doctor(ufile: Ufile, *arguments: str) -> tuple[Outcome, list[Any], list[Any]]:
    outcome = ufile("doctor", "--json", *arguments)
    assert outcome.json["exit_code"] == outcome.code
    return outcome, outcome.json["findings"], outcome.json["notes"]


def mend(ufile: Ufile, finding: Any, which: int = 0, **words: str) -> None:
    command = shlex.split(finding["commands"][which])
    assert command[0] == "ufile"
    outcome = ufile(*(words.get(word, word) for word in command[1:]))
    assert outcome.code == 0, outcome


def test_all_is_well(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    assert ufile("doctor").err == "nothing is amiss\n"
    assert not emulator.requests
    ufile.upload(path)
    waiting = paused(ufile, emulator, path)
    outcome, findings, notes = doctor(ufile)
    assert outcome.code == 0 and findings == []
    assert [note["kind"] for note in notes] == ["unfinished", "receipts"]
    assert notes[0]["journal_id"] == waiting and notes[0]["bytes"] == 8 * MIB
    outcome = ufile("doctor", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    for note in notes:
        mend(ufile, note)
    assert ufile("doctor").err == "nothing is amiss\n" or doctor(ufile)[2]


def test_an_orphan(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    upload = ufile.document(paused(ufile, emulator, path, "a b/备份"))["uploadid"]
    for file in ufile.journals.iterdir():
        file.unlink()
    assert doctor(ufile)[0].code == 0  # nothing here names the bucket
    outcome, findings, _ = doctor(ufile, "--bucket", "demo")
    assert outcome.code == 1
    assert [(f["kind"], f["uploadid"], f["key"], f["bytes"]) for f in findings] == [
        ("orphan", upload, "a b/备份", 8 * MIB)
    ]
    assert findings[0]["age"] >= 0 and "--file PATH" in findings[0]["commands"][0]
    mend(ufile, findings[0], which=1)
    assert doctor(ufile, "--bucket", "demo")[0].code == 0
    assert not emulator.store.uploads("demo", "")


def test_a_dead_id(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path)
    emulator.store.abort("demo", ufile.document(journal)["uploadid"])
    fault = emulator.faults.add(call="list_parts", status=405, at="head")
    assert doctor(ufile)[0].code == 0  # a server that cannot list proves nothing
    emulator.faults.remove(fault)
    outcome, findings, notes = doctor(ufile)
    assert outcome.code == 1 and [f["kind"] for f in findings] == ["dead"] and notes == []
    mend(ufile, findings[0])
    assert doctor(ufile)[0].code == 0


def test_sources(ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path) -> None:
    journal = paused(ufile, emulator, path)
    moved = path.rename(tmp_path / "elsewhere")
    outcome, findings, _ = doctor(ufile, "--offline")
    assert outcome.code == 1 and [f["kind"] for f in findings] == ["source-gone"]
    assert findings[0]["path"] == str(path)
    with moved.open("ab") as file:
        file.write(b"more")
    moved.rename(path)
    _, findings, _ = doctor(ufile, "--offline")
    assert [f["kind"] for f in findings] == ["source-changed"]
    assert "has 9,437,188 bytes now and had 9,437,184" in findings[0]["what"]
    mend(ufile, findings[0], which=1)
    assert ufile.status(journal)["state"] == "finished"


def test_damage_and_leftovers(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path)
    (ufile.journals / f"{journal}.json").write_text("{")
    for name in ("aaaaaaaa.lock", "bbbbbbbb.parts.jsonl"):
        (ufile.journals / name).touch()
    outcome, findings, _ = doctor(ufile, "--bucket", "demo")
    assert outcome.code == 1
    assert [f["kind"] for f in findings] == ["damaged", "leftovers", "orphan"]
    for finding, which in zip(findings, (0, 0, 1), strict=True):
        mend(ufile, finding, which)
    assert doctor(ufile, "--bucket", "demo")[0].code == 0


def test_a_server_that_does_not_answer(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    paused(ufile, emulator, path)
    emulator.faults.add(call="list_uploads", status=403)
    outcome, findings, _ = doctor(ufile)
    assert outcome.code == 77 and [f["kind"] for f in findings] == ["not-asked"]
    assert "demo" in ufile("doctor").out


def test_one_that_runs_is_no_finding(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=2, hang="body")
    running = ufile.start("upload", "demo", "runs", str(path))
    emulator.wait_for("part", 1, stage="hanging")
    assert doctor(ufile)[1:] == ([], [])
    emulator.faults.clear()
    assert running.wait().code == 0
