"""Answers that never came, or that make no sense: of Initiate, of parts, of Finish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faultbed import BLOCK, Engine
from testbed import Ufile, assert_same, calls_of, make_file, stored_parts

from ufile_cli.emulator.server import Emulator
from ufile_cli.progress.events import PartAdopted

TEN = dict.fromkeys(range(10), 1)

BROKEN: dict[str, dict[str, Any]] = {
    "reset before the body": {"reset": "head"},
    "reset behind the body": {"reset": "body"},
    "reset when stored": {"reset": "stored"},
    "reset in the answer": {"reset": "answer"},
    "500 when stored": {"status": 500, "at": "stored"},
    "502 of a gateway": {
        "status": 502, "body": "<html>502 Bad Gateway</html>", "content_type": "text/html",
    },
    "502 when stored": {
        "status": 502, "at": "stored", "body": "<html>502</html>", "content_type": "text/html",
    },
    "200 of a gateway": {
        "status": 200, "at": "body", "body": "<html>log in</html>", "content_type": "text/html",
    },
    "200 of a gateway at once": {
        "status": 200, "at": "head", "body": "<html>log in</html>", "content_type": "text/html",
    },
    "200 of a gateway when stored": {
        "status": 200, "at": "stored", "body": "<html>ok</html>", "content_type": "text/html",
    },
    "truncated": {"truncate": 9},
    "empty": {"body": ""},
    "not JSON": {"body": "\x00\xff{"},
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("call", ["initiate", "part", "finish"])
def test_one_answer_is_lost(
    engine: Engine, emulator: Emulator, ten: Path, call: str, fault: str
) -> None:
    """The upload goes on in the same run, and the object is there once."""
    emulator.faults.add(call=call, nth=1, **BROKEN[fault])
    run = engine.upload(ten, attempts=2)
    assert run.done.verified == "etag"
    assert_same(emulator, ten)
    parts = stored_parts(emulator.requests)
    assert set(parts) == set(range(10))
    assert sum(parts.values()) <= 11
    assert len([record for record in calls_of(emulator, "finish") if record.etag]) == 1
    assert len(calls_of(emulator, call)) >= (10 if call == "part" else 1)
    # Which of several Initiates counts is the journal's business; all parts lie under one.
    assert len({record.upload_id for record in calls_of(emulator, "part")}) == 1


@pytest.mark.parametrize("after_bytes", [1, 100_000, BLOCK - 1])
def test_a_part_is_cut_off(engine: Engine, emulator: Emulator, ten: Path, after_bytes: int) -> None:
    emulator.faults.add(call="part", per_part=True, first=1, reset="body", after_bytes=after_bytes)
    assert engine.upload(ten, attempts=2).done.parts_sent == 10
    assert stored_parts(emulator.requests) == TEN
    assert_same(emulator, ten)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("initiate", "head"),
        ("initiate", "stored"),
        ("part", "head"),
        ("part", "stored"),
        ("part", "answer"),
        ("list_parts", "stored"),
        ("list_parts", "answer"),
    ],
)
def test_a_silent_server_is_given_up(
    engine: Engine, emulator: Emulator, ten: Path, call: str, place: str
) -> None:
    journal = None
    if call == "list_parts":
        emulator.faults.add(call="part", part="5-", status=500)
        journal = engine.upload(ten, attempts=1).journal_id
        emulator.faults.clear()
    emulator.faults.add(call=call, nth=1, hang=place)
    engine.timeout = 1.0
    run = engine.upload(ten, attempts=2) if journal is None else engine.resume(journal, attempts=2)
    assert run.done.verified == "etag"
    assert emulator.count(call, "hanging") == 1
    assert_same(emulator, ten)


def test_finish_may_take_longer_than_the_timeout(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    engine.timeout = 0.5
    emulator.faults.add(call="finish", hang="stored", seconds=1.5)
    assert engine.upload(ten, attempts=1).done.verified == "etag"
    assert emulator.count("finish") == 1
    assert emulator.count("head") == 0


def test_finish_is_given_up_in_the_end(engine: Engine, emulator: Emulator, ten: Path) -> None:
    engine.timeout = 0.5
    engine.finish_timeout = 1.0
    emulator.faults.add(call="finish", nth=1, hang="stored")
    assert engine.upload(ten, attempts=1).done.verified == "etag"
    assert emulator.count("finish", "arrived") == 1
    assert_same(emulator, ten)


@pytest.mark.parametrize("place", ["stored", "answer"])
def test_a_lost_acknowledgement_is_adopted(
    engine: Engine, emulator: Emulator, ten: Path, place: str
) -> None:
    emulator.faults.add(call="part", part=3, reset=place)
    run = engine.upload(ten, attempts=1, threads=1)
    assert run.code == 75
    assert engine.up(run.journal_id) == {0, 1, 2}
    emulator.faults.clear()
    again = engine.resume(run.journal_id)
    assert again.done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN, "the part whose answer was lost was sent again"
    assert [event.number for event in again.of(PartAdopted)] == [3]
    assert again.done.parts_sent == 6 and again.done.parts_reused == 4
    assert_same(emulator, ten)


@pytest.mark.parametrize("forms", ["object", "opaque", "hex"])
def test_a_part_of_an_unknown_form_is_never_adopted(
    engine: Engine, emulator: Emulator, ten: Path, forms: str
) -> None:
    """An ETag that our bytes can't be compared with says nothing, unless it was journalled."""
    emulator.faults.add(call="part", etag=forms)
    emulator.faults.add(call="part", part=3, reset="stored")
    run = engine.upload(ten, attempts=1, threads=1)
    assert engine.up(run.journal_id) == {0, 1, 2}
    emulator.faults.clear()
    emulator.faults.add(call="part", etag=forms)
    again = engine.resume(run.journal_id)
    assert again.done.verified == "etag"
    sent = stored_parts(emulator.requests)
    assert sent == TEN | ({} if forms == "object" else {3: 2})
    assert_same(emulator, ten)


def test_a_strangers_part_is_not_adopted(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Another file's bytes under the same number and of the same size."""
    emulator.faults.add(call="part", part="3-", reset="body")
    run = engine.upload(ten, attempts=1, threads=1)
    emulator.faults.clear()
    # The same upload id, other bytes: a run from another file that left no line behind.
    upload_id = engine.view(run.journal_id).document.uploadid
    assert upload_id is not None
    other = make_file(ten.with_name("other"), BLOCK, seed=9)
    from ufile_cli.us3.client import Client
    from ufile_cli.us3.endpoints import Endpoint

    with Client(Endpoint.parse(emulator.url).address("demo"), engine.credentials) as client:
        client.upload_part("big", upload_id, 5, other.read_bytes())
    again = engine.resume(run.journal_id)
    assert again.done.parts_sent == 7
    assert stored_parts(emulator.requests) == TEN | {5: 2}
    assert_same(emulator, ten)


# Finish


@pytest.mark.parametrize("fault", ["reset when stored", "truncated", "502 when stored"])
def test_finish_went_through_and_one_attempt_is_all(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    emulator.faults.add(call="finish", nth=1, **BROKEN[fault])
    run = engine.upload(ten, attempts=1)
    assert run.code == (75 if fault == "502 when stored" else 0), run.said
    if run.code:
        run = engine.resume(run.journal_id, attempts=1)
    assert run.done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN
    assert len([record for record in calls_of(emulator, "finish") if record.etag]) == 1
    assert engine.view(run.journal_id).state == "finished"


@pytest.mark.parametrize("fault", ["reset before the body", "reset behind the body"])
def test_an_identical_object_of_before_is_no_success(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    """The very object was there already: while the upload id lives, ours still has to come."""
    assert engine.upload(ten).done
    emulator.faults.add(call="finish", **BROKEN[fault])
    run = engine.upload(ten, attempts=2)
    assert run.code == 75, run.result
    assert emulator.count("head") >= 1
    assert engine.view(run.journal_id).state == "paused"
    emulator.faults.clear()
    finished = emulator.count("finish")
    assert engine.resume(run.journal_id).done.parts_sent == 0
    assert emulator.count("finish") == finished + 1
    assert len([record for record in calls_of(emulator, "finish") if record.etag]) == 2


LISTS: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "405": {"status": 405},
    "501": {"status": 501},
    "302": {"status": 302, "headers": {"Location": "http://portal.invalid/"}},
    "407": {"status": 407},
    "reset": {"reset": "head"},
    "HTML": {"status": 200, "body": "<html></html>", "content_type": "text/html"},
}


@pytest.mark.parametrize("fault", LISTS)
def test_an_identical_object_and_no_word_on_the_upload_id(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    """What keeps the list from being had is no proof that the upload id is gone."""
    assert engine.upload(ten).done
    emulator.faults.add(call="finish", reset="head")
    emulator.faults.add(call="list_parts", **LISTS[fault])
    run = engine.upload(ten, attempts=1)
    assert run.code == 75, run.result
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done.parts_sent == 0
    assert len([record for record in calls_of(emulator, "finish") if record.etag]) == 2


@pytest.mark.parametrize("fault", LISTS)
def test_finish_went_through_and_no_list_is_to_be_had(
    engine: Engine, emulator: Emulator, ten: Path, fault: str
) -> None:
    """Asked again, Finish itself says that the upload id is gone; HEAD says what became of it."""
    emulator.faults.add(call="finish", nth=1, reset="stored")
    emulator.faults.add(call="list_parts", **LISTS[fault])
    run = engine.upload(ten, attempts=3)
    if run.code:
        assert run.code == 75
        assert fault not in ("405", "501"), "such a server will never say more"
        emulator.faults.clear()
        run = engine.resume(run.journal_id)
    assert run.done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN
    assert len([record for record in calls_of(emulator, "finish") if record.etag]) == 1


def test_another_object_under_the_key_is_no_success(
    engine: Engine, emulator: Emulator, ten: Path, tmp_path: Path
) -> None:
    """Somebody else's object of the same size came in between; our upload is sent anew."""
    other = make_file(tmp_path / "other", ten.stat().st_size, seed=5)
    emulator.faults.add(call="finish", nth=1, reset="stored")
    emulator.faults.add(call="head", status=500)
    run = engine.upload(ten, attempts=1)
    assert run.code == 75
    emulator.faults.clear()
    assert engine.upload(other).done
    again = engine.resume(run.journal_id)
    assert again.done.parts_sent == 10
    assert any("a new upload begins" in text for text in again.notices)
    assert_same(emulator, ten)


def test_keys_that_may_not_look(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Finish answers without an ETag, and HEAD is forbidden: it went through all the same."""
    emulator.faults.add(call="finish", etag="none", body='{"Bucket":"demo","Key":"big"}')
    emulator.faults.add(call="head", status=403)
    run = engine.upload(ten, attempts=1)
    assert run.done.verified == "parts"
    assert_same(emulator, ten)


# By the real command


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("initiate", "502 of a gateway"),
        ("part", "reset when stored"),
        ("part", "200 of a gateway"),
        ("finish", "reset when stored"),
        ("finish", "502 of a gateway"),
    ],
)
def test_the_command_says_what_happened_and_goes_on(
    ufile: Ufile, emulator: Emulator, large: Path, call: str, fault: str
) -> None:
    if (call, fault) == ("finish", "reset when stored"):
        emulator.faults.add(call="head", status=500)  # or the same run would come through
    emulator.faults.add(call=call, part=4 if call == "part" else None, **BROKEN[fault])
    outcome = ufile(
        "upload", "demo", "big", str(large), "--json", "--retries", "2", "--retry-interval", "0",
        "--patience", "0",
    )  # fmt: skip
    assert outcome.code == 75, outcome
    assert "Traceback" not in outcome.err
    journal = outcome.json["journal_id"]
    assert f"ufile resume {journal}" in outcome.err
    error = outcome.json["error"]
    assert error["exit_code"] == 75 and error["part"] == (4 if call == "part" else None)
    if "502" in fault:
        assert error["status"] == 502 and "HTTP 502" in outcome.err
    assert emulator.count(call) >= 2
    assert ufile.status(journal)["state"] == "paused"
    known = {n for n, etag in enumerate(ufile.status(journal)["etaglist"]) if etag is not None}
    before = len(emulator.requests)
    emulator.faults.clear()
    again = ufile("resume", journal, "--json")
    assert again.code == 0, again
    assert not known & set(stored_parts(emulator.requests[before:]))
    assert_same(emulator, large)
    assert ufile.status(journal)["state"] == "finished"


NO_LIST: dict[str, Any] = {"call": "list_parts", "status": 403, "ret_code": -148643}


def test_keys_that_may_write_and_not_list_survive_a_reset(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    """The cheap call behind a reset is refused, which says nothing of keys that wrote before."""
    emulator.faults.add(**NO_LIST)
    emulator.faults.add(call="part", part=6, nth=1, reset="body")
    run = engine.upload(ten, attempts=2, threads=2)
    assert run.done.verified == "etag"
    assert len(calls_of(emulator, "list_parts")) == 1, "the reset was not looked behind"
    assert_same(emulator, ten)


def test_keys_that_may_not_list_where_finish_went_through(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    """Finish is asked again and refused; nobody may list, but the object is there and ours."""
    emulator.faults.add(**NO_LIST)
    emulator.faults.add(call="finish", nth=1, reset="stored")
    run = engine.upload(ten, attempts=2)
    assert run.done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN
    assert_same(emulator, ten)


def test_the_same_where_the_process_died_in_between(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    emulator.faults.add(**NO_LIST)
    emulator.faults.add(call="finish", reset="stored")
    emulator.faults.add(call="head", status=503)
    run = engine.upload(ten, attempts=1)
    assert run.code == 75
    emulator.faults.clear()
    emulator.faults.add(**NO_LIST)
    assert engine.resume(run.journal_id).done.parts_sent == 0
    assert stored_parts(emulator.requests) == TEN
    assert_same(emulator, ten)
