"""What the server stored is what was sent, or the command fails loudly; early refusals; stale
connections."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from faultbed import BLOCK, Engine
from testbed import MIB, Ufile, assert_same, make_file, stored_parts

from ufile_cli.emulator.server import Emulator
from ufile_cli.progress.events import PartFailed, PartLost, PartSent, Started
from ufile_cli.us3.transport import _Patient

TEN = dict.fromkeys(range(10), 1)


# The object


def test_stored_under_another_key(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="finish", finish_key="big(1)")
    outcome = ufile("upload", "demo", "big", str(large), "--json")
    assert outcome.code == 1, outcome
    assert "another key" in outcome.err and "big(1)" in outcome.err
    assert outcome.json["error"]["kind"] == "IntegrityError"
    assert ufile.status(outcome.json["journal_id"])["state"] == "failed"


@pytest.mark.parametrize("block", [BLOCK, 1 * MIB, 4 * MIB, 8 * MIB, 3 * MIB + 1])
def test_a_wrong_etag_of_the_object(
    engine: Engine, emulator: Emulator, tmp_path: Path, block: int
) -> None:
    emulator.block_size = block
    path = make_file(tmp_path / "some.bin", 9 * MIB + 5)
    of_other_bytes = base64.urlsafe_b64encode(b"\3\0\0\0" + bytes(range(20))).decode()
    emulator.faults.add(call="finish", headers={"ETag": f'"{of_other_bytes}"'})
    run = engine.upload(path)
    assert run.code == 1 and "stored something else" in run.said
    assert "--restart" in str(getattr(run.error, "hint", ""))
    assert engine.view(run.journal_id).state == "failed"
    assert emulator.count("finish") == 1
    emulator.faults.clear()
    # What lies there is ours after all, so going on with it ends well, and sends nothing.
    again = engine.resume(run.journal_id)
    assert again.done.verified == "etag" and again.done.parts_sent == 0


@pytest.mark.parametrize("etag", ["none", "unquoted"])
def test_an_etag_that_has_to_be_asked_for(
    engine: Engine, emulator: Emulator, ten: Path, etag: str
) -> None:
    emulator.faults.add(call="finish", etag=etag)
    assert engine.upload(ten).done.verified == "etag"
    assert emulator.count("head") == (1 if etag == "none" else 0)


OPAQUE = (
    "0123456789abcdef0123456789abcdef-10",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    base64.urlsafe_b64encode(b"\4\0\0\0" + bytes(range(20))).decode(),  # counts other blocks
)


@pytest.mark.parametrize("etag", OPAQUE)
def test_an_object_of_an_opaque_form(
    engine: Engine, emulator: Emulator, ten: Path, etag: str
) -> None:
    """Not one of the known forms, at another block size: every part was compared instead."""
    emulator.faults.add(call="finish", headers={"ETag": f'"{etag}"'})
    assert engine.upload(ten).done.verified == "parts"


@pytest.mark.parametrize("etag", OPAQUE)
def test_an_opaque_form_at_4_mib_is_refused(
    engine: Engine, emulator: Emulator, tmp_path: Path, etag: str
) -> None:
    """There the form is certain, so another one is another object."""
    emulator.block_size = 4 * MIB
    path = make_file(tmp_path / "some.bin", 9 * MIB)
    emulator.faults.add(call="finish", headers={"ETag": f'"{etag}"'})
    assert engine.upload(path).code == 1


def test_a_wrong_size(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(
        call="finish", body=f'{{"Bucket":"demo","Key":"big","FileSize":{ten.stat().st_size - 1}}}'
    )
    run = engine.upload(ten)
    assert run.code == 1 and "bytes" in run.said


# Parts


def test_a_corrupted_part_is_sent_again(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", per_part=True, first=1, corrupt=True)
    run = engine.upload(ten, attempts=2)
    assert run.done.verified == "etag"
    assert stored_parts(emulator.requests) == dict.fromkeys(range(10), 2)
    assert_same(emulator, ten)


@pytest.mark.parametrize("fault", ["corrupt", "etag"])
@pytest.mark.parametrize("patience", [0.0, None])
def test_a_part_that_is_always_corrupted(
    engine: Engine, emulator: Emulator, ten: Path, fault: str, patience: float | None
) -> None:
    """No patience helps: something on the way changes bytes."""
    emulator.faults.add(
        call="part", part=4, **({"corrupt": True} if fault == "corrupt" else {"etag": "wrong"})
    )
    run = engine.upload(ten, attempts=3, patience=patience, threads=1)
    assert run.code == 1
    assert getattr(run.error, "part", None) == 4 and "damaged" in run.said
    assert stored_parts(emulator.requests)[4] == 3
    assert 4 not in engine.up(run.journal_id)
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done.verified == "etag"
    assert_same(emulator, ten)


def test_a_corrupted_part_whose_answer_was_lost(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    """The server has something under that number: not our bytes, so it is not adopted."""
    emulator.faults.add(call="part", part=3, corrupt=True, reset="stored")
    run = engine.upload(ten, attempts=1, threads=1)
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN | {3: 2}
    assert_same(emulator, ten)


def test_a_lost_part_is_sent_again_on_resume(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", part=[1, 3], forget="part")
    emulator.faults.add(call="part", part="5-", status=500)
    run = engine.upload(ten, attempts=1, threads=1)
    emulator.faults.clear()
    assert engine.up(run.journal_id) == set(range(5))
    again = engine.resume(run.journal_id)
    assert sorted(event.number for event in again.of(PartLost)) == [1, 3]
    assert again.done.parts_sent == 7 and again.done.parts_reused == 3
    assert stored_parts(emulator.requests) == TEN | {1: 2, 3: 2}
    assert_same(emulator, ten)


@pytest.mark.parametrize("lost", [[0], [4, 7], [9], list(range(10))])
def test_a_lost_part_is_sent_again_when_finish_is_refused_for_it(
    engine: Engine, emulator: Emulator, ten: Path, lost: list[int]
) -> None:
    emulator.faults.add(call="part", part=lost, per_part=True, first=1, forget="part")
    run = engine.upload(ten, attempts=1)
    assert run.done.verified == "etag"
    assert stored_parts(emulator.requests) == TEN | dict.fromkeys(lost, 2)
    assert emulator.count("initiate") == 1
    assert_same(emulator, ten)
    assert run.done.parts_sent + run.done.parts_reused >= 10


def test_a_part_that_is_lost_again_and_again(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", part=4, forget="part")
    run = engine.upload(ten, attempts=1)
    assert run.code == 1
    assert emulator.count("finish") == 2
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done


# Refused early


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize(("status", "code"), [(401, 77), (403, 77), (413, 1)])
def test_refused_before_the_body_was_sent(
    engine: Engine, emulator: Emulator, tmp_path: Path, status: int, code: int, drain: bool
) -> None:
    emulator.block_size = 16 * MIB  # more than the kernels take while nobody reads
    path = make_file(tmp_path / "some.bin", 33 * MIB)
    emulator.faults.add(call="part", status=status, at="head", drain=drain)
    if status != 413:
        emulator.faults.add(call="list_parts", status=status)
    elif not drain:
        # Whether the answer is read before the reset is up to the kernel; where it is not,
        # nothing tells a 413 from a broken line, and that is what it is then.
        run = engine.upload(path, attempts=2)
        assert run.code in (1, 75)
        assert not stored_parts(emulator.requests)
        return
    run = engine.upload(path, attempts=2)
    assert run.code == code, run.said
    assert not stored_parts(emulator.requests)
    assert engine.view(run.journal_id).state == ("paused" if code == 77 else "failed")


def test_refused_keys_behind_a_reset(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The refusal itself is lost for certain: one cheap call tells what it was."""
    emulator.faults.add(call="part", reset="head")
    emulator.faults.add(call="list_parts", status=401)
    run = engine.upload(ten, attempts=3, threads=1)
    assert run.code == 77
    assert [event.attempt for event in run.of(PartFailed)] == [1]
    assert engine.view(run.journal_id).state == "paused"


def test_a_reset_alone_is_the_network(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", reset="head")
    run = engine.upload(ten, attempts=3, threads=1)
    assert run.code == 75
    assert [event.attempt for event in run.of(PartFailed)] == [1, 2, 3]
    # Each attempt may meet a kept connection first (Initiate's, then that of the cheap call that
    # looks behind a reset), and that counts for nothing.
    assert emulator.count("part") <= 6


# Stale connections


def closed_by_now(emulator: Emulator) -> None:
    """Wait until the server has closed every connection whose request is answered."""
    for _, thread in list(emulator._open.values()):
        thread.join(10)
        assert not thread.is_alive()


def test_connections_closed_while_idle(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The server closes behind each answer; one attempt for each part is enough."""
    emulator.faults.add(call=["initiate", "part"], close_after=0.0)
    engine.on_event = lambda _, event: (
        closed_by_now(emulator) if isinstance(event, Started | PartSent) else None
    )
    run = engine.upload(ten, attempts=1, threads=1)
    assert run.done.verified == "etag"
    assert not run.of(PartFailed)
    assert stored_parts(emulator.requests) == TEN
    assert emulator.connections_opened >= 11


def test_a_stale_connection_is_no_attempt(
    engine: Engine, emulator: Emulator, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed after it was found to be open, and before the request arrives."""
    emulator.faults.add(close_after=0.05)
    put = _Patient.putrequest
    reused = []

    def late(connection: Any, *arguments: Any, **more: Any) -> None:
        if connection._answers:
            reused.append(connection)
            closed_by_now(emulator)
        put(connection, *arguments, **more)

    monkeypatch.setattr(_Patient, "putrequest", late)
    run = engine.upload(ten, attempts=1, threads=1)
    assert run.done.verified == "etag"
    assert len(reused) >= 5, "not one connection was stale"
    assert not run.of(PartFailed)
    assert stored_parts(emulator.requests) == TEN
