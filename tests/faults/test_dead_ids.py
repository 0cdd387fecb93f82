"""When an upload id counts as dead, and when it does not: a wrong guess costs all parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faultbed import Engine, Run
from testbed import Ufile, assert_same, calls_of, stored_parts

from ufile_cli.emulator.server import Emulator

ANEW = "a new upload begins"


def interrupted(engine: Engine, emulator: Emulator, path: Path, up: int = 4) -> str:
    """An upload of which the first parts are up; its journal's id."""
    emulator.faults.add(call="part", part=f"{up}-", status=500)
    run = engine.upload(path, attempts=1, threads=1)
    assert run.code == 75 and engine.up(run.journal_id) == set(range(up))
    emulator.faults.clear()
    return run.journal_id


def begun_anew(run: Run) -> bool:
    return any(ANEW in text for text in run.notices)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_dead_by_list_and_part(engine: Engine, emulator: Emulator, ten: Path, status: int) -> None:
    emulator.faults.dead_status = status
    journal = interrupted(engine, emulator, ten)
    first = engine.view(journal).document.uploadid
    assert first is not None
    emulator.store.abort("demo", first)
    before = len(emulator.requests)
    run = engine.resume(journal)
    assert run.done.verified == "etag"
    assert run.done.parts_sent == 10 and run.done.parts_reused == 0
    [notice] = [text for text in run.notices if ANEW in text]
    assert "4 parts" in notice and "1 MiB" in notice
    assert_same(emulator, ten)
    now = emulator.requests[before:]
    assert [record.call for record in now if record.call == "initiate"] == ["initiate"]
    refused = [record for record in now if record.call == "part" and record.status == status]
    assert refused and {record.upload_id for record in refused} == {first}
    assert engine.view(journal).document.uploadid not in (None, first)


def test_dead_by_list_and_finish(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="finish", status=503)
    journal = engine.upload(ten, attempts=1).journal_id
    emulator.faults.clear()
    first = engine.view(journal).document.uploadid
    assert first is not None and engine.up(journal) == set(range(10))
    emulator.store.abort("demo", first)
    run = engine.resume(journal)
    assert run.done.parts_sent == 10 and begun_anew(run)
    assert_same(emulator, ten)


def test_it_dies_in_the_middle(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The id vanishes while parts are being sent; the same run begins anew, once."""
    emulator.faults.add(call="part", nth=6, forget="upload")
    run = engine.upload(ten)
    assert begun_anew(run) and emulator.count("initiate") == 2
    assert run.done.verified == "etag"
    assert_same(emulator, ten)


def test_it_dies_before_finish(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="finish", nth=1, forget="upload")
    run = engine.upload(ten)
    assert begun_anew(run) and emulator.count("initiate") == 2
    assert_same(emulator, ten)


def test_it_starts_over_once_at_most(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", part=5, forget="upload")
    run = engine.upload(ten)
    assert run.code == 1
    assert emulator.count("initiate") == 2
    assert sum(ANEW in text for text in run.notices) == 1
    assert engine.view(run.journal_id).state == "failed"
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done
    assert_same(emulator, ten)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 501])
def test_never_by_the_list_alone(
    engine: Engine, emulator: Emulator, ten: Path, status: int
) -> None:
    journal = interrupted(engine, emulator, ten)
    emulator.faults.add(call="list_parts", status=status)
    run = engine.resume(journal)
    assert run.done.parts_sent == 6 and run.done.parts_reused == 4
    assert emulator.count("initiate") == 1
    assert not begun_anew(run)
    assert_same(emulator, ten)


@pytest.mark.parametrize("status", [400, 404, 413])
def test_never_by_a_part_alone(engine: Engine, emulator: Emulator, ten: Path, status: int) -> None:
    """The list is fine: the part was refused for another reason."""
    journal = interrupted(engine, emulator, ten)
    emulator.faults.add(call="part", part=6, status=status, message="not this one")
    run = engine.resume(journal)
    assert run.code == 1 and getattr(run.error, "part", None) == 6
    assert "HTTP" in run.said or str(status) in run.said
    assert emulator.count("initiate") == 1
    assert engine.up(journal) >= set(range(4))
    emulator.faults.clear()
    assert engine.resume(journal).done
    assert stored_parts(emulator.requests) == dict.fromkeys(range(10), 1)


@pytest.mark.parametrize("call", ["part", "finish"])
@pytest.mark.parametrize("status", [405, 501])
def test_never_where_the_server_cannot_list(
    engine: Engine, emulator: Emulator, ten: Path, status: int, call: str
) -> None:
    journal = interrupted(engine, emulator, ten)
    up = engine.up(journal)
    emulator.faults.add(call="list_parts", status=status)
    emulator.faults.add(call=call, status=404)
    run = engine.resume(journal)
    assert run.code == 1
    assert emulator.count("initiate") == 1 and not begun_anew(run)
    assert engine.view(journal).state == "failed"
    assert engine.up(journal) >= up
    emulator.faults.clear()
    assert engine.resume(journal).done
    assert emulator.count("initiate") == 1
    assert_same(emulator, ten)


ELSEWHERE: dict[str, dict[str, Any]] = {
    "a captive portal": {"status": 302, "headers": {"Location": "http://portal.invalid/"}},
    "a proxy": {"status": 407},
    "no such method": {"status": 405},
    "overloaded": {"status": 503},
    "too many": {"status": 429},
    "too slow": {"status": 408},
    "too early": {"status": 425},
    "keys": {"status": 403},
    "no keys": {"status": 401},
    "a gateway's page": {"status": 200, "body": "<html></html>", "content_type": "text/html"},
}


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_never_by_what_is_not_about_the_request(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    """Everything is refused, by somebody on the way or for another reason: no part is given up."""
    journal = interrupted(engine, emulator, ten)
    first = engine.view(journal).document.uploadid
    emulator.faults.add(**{"at": "head", **ELSEWHERE[fault]})
    run = engine.resume(journal, attempts=1)
    assert run.code != 0 and not begun_anew(run)
    assert engine.view(journal).document.uploadid == first
    assert engine.up(journal) == set(range(4))
    emulator.faults.clear()
    assert engine.resume(journal).done.parts_reused == 4
    assert stored_parts(emulator.requests) == dict.fromkeys(range(10), 1)


@pytest.mark.parametrize("fault", ["a captive portal", "a proxy", "no such method"])
def test_never_by_a_list_and_a_part_that_somebody_else_refused(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    """Initiate would go through by now, so a wrong guess would cost the parts."""
    journal = interrupted(engine, emulator, ten)
    emulator.faults.add(call=["list_parts", "part"], at="head", **ELSEWHERE[fault])
    run = engine.resume(journal, attempts=1)
    assert run.code == 1 and not begun_anew(run)
    assert emulator.count("initiate") == 1
    assert engine.up(journal) == set(range(4))
    emulator.faults.clear()
    assert engine.resume(journal).done.parts_reused == 4


def test_a_wrong_address_costs_nothing(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """A server that knows neither the id nor the bucket: the old parts stay in the journal."""
    journal = interrupted(engine, emulator, ten)
    first = engine.view(journal).document.uploadid
    emulator.faults.add(status=404)
    run = engine.resume(journal)
    assert run.code == 1
    assert engine.view(journal).document.uploadid == first
    assert engine.up(journal) == set(range(4))
    emulator.faults.clear()
    assert engine.resume(journal).done.parts_reused == 4


def test_one_dead_id_costs_one_journal(engine: Engine, emulator: Emulator, ten: Path) -> None:
    dead, alive = interrupted(engine, emulator, ten), ""
    emulator.faults.add(call="part", part="4-", status=500)
    alive = engine.upload(ten, key="other", attempts=1, threads=1).journal_id
    emulator.faults.clear()
    upload_id = engine.view(dead).document.uploadid
    assert upload_id is not None
    emulator.store.abort("demo", upload_id)
    kept = (engine.view(alive).path.read_bytes(), engine.view(alive).path.stat().st_mtime_ns)
    assert begun_anew(engine.resume(dead))
    assert (
        engine.view(alive).path.read_bytes(),
        engine.view(alive).path.stat().st_mtime_ns,
    ) == kept
    run = engine.resume(alive)
    assert run.done.parts_reused == 4 and not begun_anew(run)
    assert_same(emulator, ten, key="other")


def test_the_object_is_there_already(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Finish went through and nobody heard: the id is dead, and nothing is sent again."""
    emulator.faults.add(call="finish", reset="stored")
    emulator.faults.add(call="head", reset="head")
    journal = engine.upload(ten, attempts=1).journal_id
    assert engine.view(journal).state == "paused"
    emulator.faults.clear()
    run = engine.resume(journal)
    assert run.done.parts_sent == 0 and run.done.verified == "etag"
    assert not begun_anew(run) and emulator.count("initiate") == 1


def test_keys_that_may_not_look(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The id is dead and HEAD is forbidden: a new upload, instead of none for ever."""
    journal = interrupted(engine, emulator, ten)
    upload_id = engine.view(journal).document.uploadid
    assert upload_id is not None
    emulator.store.abort("demo", upload_id)
    emulator.faults.add(call="head", status=403)
    assert begun_anew(engine.resume(journal))
    assert_same(emulator, ten)


def test_the_command_tells(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", part=9, status=500)
    first = ufile(
        "upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1"
    )
    assert first.code == 75
    journal = ufile.only_journal()
    emulator.faults.clear()
    emulator.store.abort("demo", ufile.status(journal)["uploadid"])
    outcome = ufile("resume", journal, "--json", "--progress", "json")
    assert outcome.code == 0, outcome
    notices = [event["text"] for event in outcome.events if event["event"] == "notice"]
    [notice] = [text for text in notices if ANEW in text]
    assert "9 parts" in notice
    assert outcome.json["parts_sent"] == 20 and outcome.json["journal_id"] == journal
    assert len(calls_of(emulator, "initiate")) == 2
    assert_same(emulator, large)
