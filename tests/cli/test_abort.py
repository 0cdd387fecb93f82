"""`ufile abort` in all its forms; that of one journal id is in test_cli_usage."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, Ufile, calls_of, make_file

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_file(tmp_path / "备份.bin", 9 * MIB)


def paused(ufile: Ufile, emulator: Emulator, path: Path, key: str = "big") -> str:
    """An upload that stopped with its parts 0 and 1 up; its journal id."""
    fault = emulator.faults.add(call="part", part=2, status=503)
    outcome = ufile("upload", "demo", key, str(path), "--json", *AT_ONCE)
    assert outcome.code == 75, outcome
    emulator.faults.remove(fault)
    return str(outcome.json["journal_id"])


def test_says_what_it_freed(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path)
    outcome = ufile("abort", journal)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"gave up {journal} (demo/big); 2 parts, 8.00 MiB freed on the server\n"
    assert not emulator.store.uploads("demo", "")


def test_quiet(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    outcome = ufile("abort", "-q", paused(ufile, emulator, path))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_of_a_finished_one_drops_the_receipt(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = ufile.upload(path).json["journal_id"]
    before = len(emulator.requests)
    outcome = ufile("abort", journal, env={"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None})
    assert outcome.code == 0 and "the object stays" in outcome.err
    assert len(emulator.requests) == before
    assert ufile.status("--all") == []


def test_a_refusal_about_an_upload_that_lives_is_told(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    """A 4xx is taken for a dead id only where the part list is refused as well."""
    journal = paused(ufile, emulator, path)
    emulator.faults.add(call="abort", status=409, message="not now")
    outcome = ufile("abort", journal)
    assert outcome.code == 1 and "not now" in outcome.err
    assert ufile.status(journal)["state"] == "paused"


def test_all_older_than(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    old, young = paused(ufile, emulator, path, "old"), paused(ufile, emulator, path, "young")
    finished = ufile.upload(path, key="finished").json["journal_id"]
    for name in ufile.journals.glob(f"{old}.*"):
        os.utime(name, (time.time() - 8 * 86400,) * 2)
    outcome = ufile("abort", "--all", "--older-than", "7d")
    assert outcome.code == 0 and old in outcome.err and young not in outcome.err
    assert {document["journal_id"] for document in ufile.status()} == {young, finished}
    assert [upload.key for upload in emulator.store.uploads("demo", "")] == ["young"]
    assert ufile("abort", "--all").code == 0
    assert [document["journal_id"] for document in ufile.status()] == [finished]
    assert "nothing to give up" in ufile("abort", "--all").err


def test_all_leaves_those_that_run(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=2, hang="body")
    running = ufile.start("upload", "demo", "runs", str(path))
    emulator.wait_for("part", 1, stage="hanging")
    outcome = ufile("abort", "--all")
    assert outcome.code == 0 and "nothing to give up" in outcome.err
    assert not calls_of(emulator, "abort")
    emulator.faults.clear()
    assert running.wait().code == 0


def test_an_upload_without_a_journal(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path, "备份/a b")
    upload_id = ufile.document(journal)["uploadid"]
    for name in ufile.journals.glob(f"{journal}.*"):
        name.unlink()
    arguments = ("abort", "--bucket", "demo", "--key", "备份/a b", "--upload-id", upload_id)
    outcome = ufile(*arguments)
    assert outcome.code == 0 and "are freed" in outcome.err
    assert not emulator.store.uploads("demo", "")
    outcome = ufile(*arguments)
    assert outcome.code == 0 and "nothing was to be freed" in outcome.err


def test_an_upload_id_with_a_journal_takes_the_journal_too(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    journal = paused(ufile, emulator, path)
    upload_id = ufile.document(journal)["uploadid"]
    outcome = ufile("abort", "--bucket", "demo", "--key", "big", "--upload-id", upload_id)
    assert outcome.code == 0 and journal in outcome.err
    assert ufile.status() == []


def test_a_damaged_one_goes_only_on_demand(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path)
    file = ufile.journals / f"{journal}.json"
    file.write_bytes(file.read_bytes()[:100])
    for arguments in (("abort", journal), ("abort", "--all"), ("clean",)):
        ufile(*arguments)
        assert file.exists()
    outcome = ufile("abort", journal)
    assert outcome.code == 1 and f"ufile abort --forget {journal}" in outcome.err
    assert ufile("abort", "--forget", journal).code == 0
    assert [name.name for name in ufile.journals.iterdir() if name.name[0] != "."] == []
    assert len(emulator.store.uploads("demo", "")) == 1  # nobody could say which it was


def test_forget_a_server_that_is_gone(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = paused(ufile, emulator, path)
    emulator.faults.add(call="abort", status=502)
    outcome = ufile("abort", journal)
    assert outcome.code == 75 and f"ufile abort --forget {journal}" in outcome.err
    before = len(emulator.requests)
    assert ufile("abort", "--forget", journal).code == 0
    assert len(emulator.requests) == before and ufile.status() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("abort",),
        ("abort", "--all", "abcdefgh"),
        ("abort", "--older-than", "7d", "abcdefgh"),
        ("abort", "--bucket", "demo"),
        ("abort", "--bucket", "demo", "--key", "k", "--upload-id", "u", "--forget"),
        ("abort", "--all", "--older-than", "soon"),
    ],
    ids=" ".join,
)
def test_wrong_usage(ufile: Ufile, emulator: Emulator, arguments: tuple[str, ...]) -> None:
    outcome = ufile(*arguments)
    assert outcome.code == 2 and not emulator.requests, outcome
