"""Killed with SIGKILL at every place, gone on with in every way: the whole object, little sent
twice. The server holds the request still, the test kills; nothing depends on timing."""

from __future__ import annotations

import os
import random
import re
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, Ufile, assert_same, make_file, stored_parts

from ufile_cli.emulator.server import Emulator

THREADS = 4
SIZE = 12 * MIB + 345
PARTS = 13

PLACES: dict[str, dict[str, Any]] = {
    "initiate, not done": {"call": "initiate", "hang": "head"},
    "initiate, answer lost": {"call": "initiate", "hang": "stored"},
    "first part, half way": {"call": "part", "part": 0, "hang": "body", "after_bytes": 300_000},
    "first parts, all of them": {"call": "part", "hang": "body"},
    "first part, stored": {"call": "part", "part": 0, "hang": "stored"},
    "middle part": {"call": "part", "part": 6, "hang": "body", "after_bytes": 1},
    "middle parts, stored": {"call": "part", "part": "5-8", "hang": "stored"},
    "last part": {"call": "part", "part": 12, "hang": "stored"},
    "finish, not done": {"call": "finish", "hang": "head"},
    "finish, done": {"call": "finish", "hang": "stored"},
    "finish, answer half out": {"call": "finish", "hang": "answer"},
}

WAYS: dict[str, Callable[[str, Path], tuple[str, ...]]] = {
    "id": lambda journal, _: ("resume", journal),
    "prefix": lambda journal, _: ("resume", journal[:2]),
    "last": lambda _, __: ("resume", "--last"),
    "all": lambda _, __: ("resume", "--all"),
    "again": lambda _, path: ("upload", "demo", "big", str(path)),
}

# The two ways that people type everywhere, the others in turn.
PAIRS = [
    (place, way)
    for turn, place in enumerate(PLACES)
    for way in ("id", "again", ("last", "all", "prefix")[turn % 3])
]


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", SIZE)


def killed(ufile: Ufile, emulator: Emulator, path: Path, fault: dict[str, Any]) -> str:
    """Upload until the fault holds a request, and kill; the journal's id."""
    emulator.faults.add(**fault)
    held = emulator.count(fault["call"], "hanging")
    running = ufile.start("upload", "demo", "big", str(path))
    wanted = THREADS if fault == PLACES["first parts, all of them"] else 1
    emulator.wait_for(fault["call"], held + wanted, stage="hanging")
    assert running.kill().code == -9
    emulator.faults.clear()
    return ufile.only_journal()


@pytest.mark.parametrize(("place", "way"), PAIRS)
def test_goes_on(ufile: Ufile, emulator: Emulator, path: Path, place: str, way: str) -> None:
    journal = killed(ufile, emulator, path, PLACES[place])
    [brief] = ufile.status()
    assert (brief["state"], brief["pid"]) == ("interrupted", None)
    known = {
        number
        for number, etag in enumerate(ufile.status(journal)["etaglist"])
        if etag is not None
    }  # fmt: skip
    before = len(emulator.requests)
    outcome = ufile(*WAYS[way](journal, path), "--json")
    assert outcome.code == 0, outcome
    result = outcome.json[0] if way == "all" else outcome.json
    assert result["journal_id"] == journal and result["verified"] == "etag"
    assert_same(emulator, path, key="big")
    assert ufile.status(journal)["state"] == "finished"
    again = stored_parts(emulator.requests[before:])
    assert not known & set(again), "an acknowledged part was sent again"
    everything = stored_parts(emulator.requests)
    assert sum(count - 1 for count in everything.values()) <= THREADS
    assert result["parts_sent"] == sum(again.values())
    assert result["parts_sent"] + result["parts_reused"] == result["parts"] == PARTS
    # What hung at Finish is done or not; a done one is not done again.
    finished = [record for record in emulator.requests if record.call == "finish" and record.etag]
    assert len(finished) == 1


@pytest.mark.parametrize("seed", range(4))
def test_random_moments(ufile: Ufile, emulator: Emulator, path: Path, seed: int) -> None:
    """Killed again and again, at whatever the server has just seen, until it is through."""
    chance = random.Random(seed)
    kills = 0
    arguments: tuple[str, ...] = ("upload", "demo", "big", str(path), "-j", str(THREADS))
    while True:
        stage = chance.choice(["arrived", "received", "answered"])
        so_far = emulator.count(None, stage)
        running = ufile.start(*arguments)
        more = chance.randrange(1, 12)
        try:
            emulator.wait_until(
                lambda _: (
                    emulator.count(None, stage) >= so_far + more  # noqa: B023
                    or running.process.poll() is not None  # noqa: B023
                ),
                timeout=1.0,
            )
        except TimeoutError:
            pass
        code = running.kill().code
        if code == 0:
            break
        kills += 1
        journals = ufile.status()
        if not journals:
            continue  # killed before it had begun
        [brief] = journals
        if brief["state"] == "finished":
            break
        assert brief["state"] == "interrupted"
        if kills >= 12:
            outcome = ufile("resume", "--last")
            assert outcome.code == 0, outcome
            break
        if chance.random() < 0.5:
            arguments = ("resume", ufile.only_journal())
    assert_same(emulator, path)
    parts = stored_parts(emulator.requests)
    assert sum(count - 1 for count in parts.values()) <= THREADS * kills


def test_two_kills_of_one_upload(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = killed(ufile, emulator, path, {"call": "part", "part": 4, "hang": "body"})
    emulator.faults.add(call="part", part=9, hang="body")
    held = emulator.count("part", "hanging")
    running = ufile.start("resume", journal)
    emulator.wait_for("part", held + 1, stage="hanging")
    assert ufile.status()[0]["state"] == "running"
    assert ufile.status()[0]["pid"] == running.pid
    running.kill()
    emulator.faults.clear()
    assert ufile("resume", journal).code == 0
    assert_same(emulator, path)
    assert sum(count - 1 for count in stored_parts(emulator.requests).values()) <= 2 * THREADS


@pytest.mark.parametrize("umask", [0o777, 0o000], ids=["0777", "0000"])
def test_the_journal_on_disk(ufile: Ufile, emulator: Emulator, path: Path, umask: int) -> None:
    def hostile() -> None:
        os.umask(umask)

    emulator.faults.add(call="part", part=8, hang="body")
    running = ufile.start(
        "upload", "demo", "big", str(path), "-H", "X-A: b", "--meta", "x=y", "-j", "2",
        preexec=hostile,
    )  # fmt: skip
    emulator.wait_until(lambda records: len(stored_parts(records)) == 12)
    running.kill()
    emulator.faults.clear()
    journal = ufile.only_journal()
    assert re.fullmatch(r"[0-9a-z]{8}", journal)
    for directory in (ufile.journals, ufile.journals.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, directory
    for file in ufile.journals.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    document = ufile.document(journal)
    assert document["version"] == 1
    assert document["journal_id"] == journal
    assert document["state"] == "running"
    assert document["kind"] == "file"
    assert (document["bucket"], document["key"]) == ("demo", "big")
    assert document["endpoint"] == emulator.url
    assert document["profile"] is None
    assert document["uploadid"] == next(r.upload_id for r in emulator.requests if r.upload_id)
    assert document["blocksize"] == MIB
    etags = document["etaglist"]
    stored = {r.part_number: r.etag for r in emulator.requests if r.call == "part" and r.etag}
    assert all(etag == stored[number] for number, etag in enumerate(etags) if etag is not None)
    assert etags and etags[-1] is not None
    up = [number for number, etag in enumerate(etags) if etag is not None]
    assert document["pausepartnumber"] == min(set(range(14)) - set(up))
    assert document["localfile"] == str(path) and document["size"] == SIZE
    assert document["source"]["inode"] == path.stat().st_ino
    assert document["source"]["mtime_ns"] == path.stat().st_mtime_ns
    assert document["mime_type"] == "application/octet-stream"
    assert document["header"] == {"X-A": "b"} and document["meta"] == {"x": "y"}
    assert document["storage_class"] is None and document["error"] is None
    assert document["options"]["threads"] == 2
    assert document["pid"] == running.pid and document["host"] == os.uname().nodename
    for name in ("created_at", "updated_at"):
        moment = datetime.fromisoformat(document[name])
        assert moment.utcoffset() is not None and not moment.utcoffset()
    # What was acknowledged since lies in the log; both together are what the server has.
    together = ufile.status(journal)["etaglist"]
    up = [number for number, etag in enumerate(together) if etag is not None]
    assert set(up) <= set(stored) and len(up) >= len(stored) - 2  # two answers may be on their way
    assert ufile("resume", journal).code == 0
