"""Streams that were cut off and are piped again: what is up is compared, what is missing is sent.

Parts have 1 MiB. The holes of a first run are made by the server, which holds those parts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from streambed import (
    STREAM,
    acknowledged,
    begin,
    content_of,
    cut,
    flipped,
    piped,
    refused_finish,
    replay,
    same,
    sent_again,
    stdin_of,
    wait_until_reaped,
)
from testbed import MIB, Ufile, calls_of

from ufile_cli.emulator.server import Emulator

PARTS = 9
CONTENT = content_of(8 * MIB + 4321)
HOLES = (0, 1, 3, 4, 6)
"""Up after the first run: the pause is at 2, parts 3, 4 and 6 lie beyond it."""


@pytest.fixture(autouse=True)
def _small_parts(emulator: Emulator) -> None:
    emulator.block_size = MIB


def refused(ufile: Ufile, journal: str, content: bytes, part: int) -> None:
    outcome = replay(ufile, journal, content)
    assert outcome.code == 66, outcome
    assert outcome.json["error"]["part"] == part
    assert f"part {part}" in outcome.err and f"{part * MIB:,}" in outcome.err, outcome.err
    assert f"ufile resume {journal}" in outcome.err and f"ufile abort {journal}" in outcome.err
    assert ufile.status(journal)["state"] == "failed"


@pytest.mark.parametrize("lists", [None, 501])
def test_killed_and_replayed(ufile: Ufile, emulator: Emulator, lists: int | None) -> None:
    """Nothing that was up is sent again, also beyond the pause."""
    journal = cut(ufile, emulator, CONTENT, HOLES)
    status = ufile.status(journal)
    assert (status["state"], status["kind"]) == ("interrupted", "stream")
    assert status["pausepartnumber"] == 2 and status["pause_offset"] == 2 * MIB
    assert status["size"] is None
    if lists is not None:
        emulator.faults.add(call="list_parts", status=lists)
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT).json
    assert result["exit_code"] == 0 and result["verified"] == "etag"
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == set(range(PARTS)) - set(HOLES)
    assert result["parts"] == PARTS
    assert result["parts_sent"] == PARTS - len(HOLES)
    assert result["parts_reused"] == len(HOLES)
    assert ufile.status(journal)["state"] == "finished"
    assert emulator.count("initiate") == 1


@pytest.mark.parametrize("up", [(), (8,)], ids=["nothing", "the short last part"])
def test_little_was_up(ufile: Ufile, emulator: Emulator, up: tuple[int, ...]) -> None:
    """Killed with nothing acknowledged; or with the last part alone, of a stream that had ended."""
    if up:
        emulator.faults.add(call="part", part="0-7", status=500)
        running, _ = begin(
            ufile, *STREAM, "--progress", "json", "-j", "9", "--retry-interval", "60",
            content=CONTENT,
        )  # fmt: skip
        acknowledged(running, up)
        running.kill()
        emulator.faults.clear()
        journal = ufile.only_journal()
    else:
        journal = cut(ufile, emulator, CONTENT, up)
    before = len(emulator.requests)
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == set(range(PARTS)) - set(up)


def test_killed_twice(ufile: Ufile, emulator: Emulator) -> None:
    """A replay that is killed as well; what it sent is adopted by the next one."""
    journal = cut(ufile, emulator, CONTENT, HOLES)
    emulator.faults.add(call="part", part="7-", hang="body", reset="body")
    held = emulator.count("part", "hanging")
    running, producer = begin(
        ufile, "resume", journal, "--progress", "json", "-j", "4", content=CONTENT, end=False
    )
    acknowledged(running, [2, 5])
    emulator.wait_for(
        "part", held + 1, stage="hanging", timeout=30
    )  # the short one comes with the end
    assert running.kill().code == -9
    producer.close()
    emulator.faults.clear()
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT).json
    assert result["exit_code"] == 0
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {7, 8}


def test_a_lost_acknowledgement_is_adopted(ufile: Ufile, emulator: Emulator) -> None:
    journal = cut(ufile, emulator, CONTENT, (0, 1, 4), stored=(2, 5))
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT).json
    assert result["exit_code"] == 0
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {3, 6, 7, 8}
    assert (result["parts_sent"], result["parts_reused"]) == (4, 5)


def test_what_the_server_lost_is_sent_again(ufile: Ufile, emulator: Emulator) -> None:
    emulator.faults.add(call="part", part=3, forget="part")
    journal = cut(ufile, emulator, CONTENT, HOLES)
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT).json
    assert result["exit_code"] == 0
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {2, 3, 5, 7, 8}
    assert (result["parts_sent"], result["parts_reused"]) == (5, 4)


@pytest.mark.parametrize("part", [1, 6])
def test_another_stream_is_refused(ufile: Ufile, emulator: Emulator, part: int) -> None:
    """One bit in a part that was up; and the right stream succeeds all the same."""
    journal = cut(ufile, emulator, CONTENT, HOLES)
    refused(ufile, journal, flipped(CONTENT, part * MIB + 777), part)
    assert emulator.count("finish") == 0
    assert replay(ufile, journal, CONTENT).code == 0
    same(emulator, CONTENT)


@pytest.mark.parametrize("lists", [None, 405])
@pytest.mark.parametrize("how", ["refused", "killed"])
def test_a_wrong_replay_does_not_poison(
    ufile: Ufile, emulator: Emulator, lists: int | None, how: str
) -> None:
    """It sends a wrong part into the hole before it is found out, or before it is killed."""
    journal = cut(ufile, emulator, CONTENT, (0, 1, 3))
    if lists is not None:
        emulator.faults.add(call="list_parts", status=lists)
    wrong = flipped(flipped(CONTENT, 2 * MIB + 5), 3 * MIB + 5)
    # Part 3 does not come through the pipe before the server has acknowledged part 2.
    running, producer = begin(
        ufile, "resume", journal, "--progress", "json",
        content=wrong[: 3 * MIB + MIB // 2], end=False,
    )  # fmt: skip
    acknowledged(running, [2])
    if how == "killed":
        running.kill()
        producer.close()
    else:
        producer.join()
        producer.go_on(wrong[producer.written :])
        outcome = running.wait()
        assert outcome.code == 66 and "part 3" in outcome.err, outcome
    status = ufile.status(journal)
    assert [number for number, etag in enumerate(status["etaglist"]) if etag] == [0, 1, 3]
    assert status["pausepartnumber"] == 2
    before = len(emulator.requests)
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {2, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("size", [0, 6 * MIB, 6 * MIB + 99])
def test_a_shorter_replay_is_refused(ufile: Ufile, emulator: Emulator, size: int) -> None:
    journal = cut(ufile, emulator, CONTENT, HOLES)
    outcome = replay(ufile, journal, CONTENT[:size])
    assert outcome.code == 66, outcome
    assert size or "the stream is empty, but parts of it were up already" in outcome.err
    assert emulator.count("finish") == 0
    assert replay(ufile, journal, CONTENT).code == 0
    same(emulator, CONTENT)


def test_an_empty_replay_with_nothing_up(ufile: Ufile, emulator: Emulator) -> None:
    """Standard input of a cron job is empty: that is not the stream that was begun."""
    journal = cut(ufile, emulator, CONTENT, ())
    outcome = ufile("resume", journal)
    assert outcome.code == 66, outcome
    assert emulator.count("finish") == 0
    assert replay(ufile, journal, CONTENT).code == 0
    same(emulator, CONTENT)


def test_a_wrong_replay_that_ends_does_not_say_how_long_the_stream_is(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    """Its end is seen while the server is still asked for its list, before it is found out."""
    journal = cut(ufile, emulator, CONTENT, (0, 1))
    wrong, pid = tmp_path / "wrong", tmp_path / "pid"
    wrong.write_bytes(flipped(CONTENT[: 2 * MIB], MIB + 5))
    emulator.faults.add(call="list_parts", hang="body")
    running = ufile.start(
        "resume", journal, "--", "sh", "-c", f"echo $$ > {pid}; exec cat {wrong}"
    )  # fmt: skip
    emulator.wait_for("list_parts", stage="hanging", timeout=30)
    wait_until_reaped(pid)
    emulator.faults.clear()
    assert running.wait().code == 66
    assert ufile.document(journal)["end_seen"] is False
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


@pytest.mark.parametrize("more", [1, MIB - 4321, 2 * MIB])
def test_longer_than_a_stream_whose_end_was_seen(
    ufile: Ufile, emulator: Emulator, more: int
) -> None:
    journal = refused_finish(ufile, emulator, CONTENT)
    before = len(emulator.requests)
    outcome = replay(ufile, journal, CONTENT + content_of(more, seed=2))
    assert outcome.code == 66 and f"{len(CONTENT):,}" in outcome.err, outcome
    assert emulator.count("finish") == 1
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == set()


def test_longer_than_a_stream_whose_end_was_not_seen(ufile: Ufile, emulator: Emulator) -> None:
    """What is behind the parts that were up is whatever comes now."""
    journal = cut(ufile, emulator, CONTENT[: 5 * MIB + 1], (0, 1, 2, 3, 4))
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_opaque_etags(ufile: Ufile, emulator: Emulator) -> None:
    """The journal's own digests tell whose bytes the parts are."""
    emulator.faults.add(call="part", etag="opaque")
    journal = _cut_opaque(ufile, emulator)
    refused(ufile, journal, flipped(CONTENT, 4 * MIB), 4)
    emulator.faults.add(call="part", etag="opaque")
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT).json
    assert result["exit_code"] == 0
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {5, 6, 7, 8}  # 2 was right, and is adopted


def _cut_opaque(ufile: Ufile, emulator: Emulator) -> str:
    return cut(ufile, emulator, CONTENT, (0, 1, 3, 4))


@pytest.mark.parametrize("form", ["object", "content", "blocks", "hex"])
def test_other_forms_of_etags(ufile: Ufile, emulator: Emulator, form: str) -> None:
    emulator.block_size = 5 * MIB
    content = content_of(20 * MIB)
    emulator.faults.add(call="part", etag=form)
    journal = cut(ufile, emulator, content, (0, 2), stored=(1,))
    emulator.faults.add(call="part", etag=form)
    before = len(emulator.requests)
    outcome = replay(ufile, journal, content)
    assert outcome.code == 0, outcome
    same(emulator, content)
    again = sent_again(emulator, before)
    assert again in ({1, 3}, {3}) and not again & {0, 2}


def test_redirected_file(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    """`ufile resume ID < dump` is the same as a pipe."""
    path = tmp_path / "dump"
    path.write_bytes(CONTENT)
    journal = cut(ufile, emulator, CONTENT, HOLES)
    before = len(emulator.requests)
    with stdin_of(path) as stdin:
        outcome = ufile.start("resume", journal, "--json", stdin=stdin).wait()
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {2, 5, 7, 8}


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("offset", [0, MIB + 17])
def test_dead_upload_id_under_a_redirected_file(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, status: int, offset: int
) -> None:
    """The file is read anew, from where standard input stood, and one command is enough."""
    emulator.faults.dead_status = status
    path = tmp_path / "dump"
    path.write_bytes(content_of(offset, seed=9) + CONTENT)
    emulator.faults.add(call="part", part=5, first=1, forget="upload")
    with stdin_of(path, offset) as stdin:
        outcome = ufile.start(*STREAM, "--json", stdin=stdin).wait()
    assert outcome.code == 0, outcome
    assert "a new upload begins" in outcome.err
    same(emulator, CONTENT)
    assert emulator.count("initiate") == 2
    assert outcome.json["parts_sent"] == PARTS


def test_dead_upload_id_when_a_redirected_file_is_replayed(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(CONTENT)
    journal = cut(ufile, emulator, CONTENT, HOLES)
    emulator.faults.add(call="list_parts", nth=1, forget="upload")
    with stdin_of(path) as stdin:
        outcome = ufile.start("resume", journal, stdin=stdin).wait()
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


@pytest.mark.parametrize("known_end", [False, True], ids=["end not seen", "end seen"])
def test_dead_upload_id_under_a_pipe(ufile: Ufile, emulator: Emulator, known_end: bool) -> None:
    """What has passed is gone: 66, with the command that goes on; and that one succeeds."""
    if known_end:
        emulator.faults.add(call="finish", forget="upload")
    else:
        emulator.faults.add(call="part", part=5, forget="upload")
    running, producer = begin(ufile, *STREAM, "--json", content=CONTENT, end=known_end)
    outcome = running.wait()
    producer.close()
    assert outcome.code == 66, outcome
    journal = ufile.only_journal()
    assert f"ufile resume {journal}" in outcome.err
    emulator.faults.clear()
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_finish_went_through_but_its_answer_was_lost(ufile: Ufile, emulator: Emulator) -> None:
    """The replay compares equal, and finds the object there already."""
    emulator.faults.add(call="finish", hang="stored")
    running, producer = begin(ufile, *STREAM, content=CONTENT)
    emulator.wait_for("finish", stage="hanging", timeout=30)
    running.kill()
    producer.join()
    emulator.faults.clear()
    before = len(emulator.requests)
    outcome = replay(ufile, ufile.only_journal(), CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == set() and emulator.count("initiate") == 1


def test_a_stream_that_never_got_an_upload_id(ufile: Ufile, emulator: Emulator) -> None:
    emulator.faults.add(call="initiate", hang="head")
    running, producer = begin(ufile, *STREAM, content=CONTENT)
    emulator.wait_for("initiate", stage="hanging", timeout=30)
    running.kill()
    producer.join()
    emulator.faults.clear()
    journal = ufile.only_journal()
    assert ufile.status(journal)["uploadid"] is None
    outcome = replay(ufile, journal, CONTENT)
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_resume_on_a_finished_stream(ufile: Ufile, emulator: Emulator) -> None:
    assert piped(ufile, *STREAM, content=CONTENT).code == 0
    outcome = replay(ufile, ufile.only_journal(), CONTENT[:MIB])
    assert outcome.code == 0 and "finished already" in outcome.err


def test_a_stream_is_no_file(ufile: Ufile, emulator: Emulator) -> None:
    journal = cut(ufile, emulator, CONTENT, HOLES)
    assert ufile("resume", "--all").code == 0  # files alone
    assert ufile.status(journal)["state"] == "interrupted"
    for option in (("--file", "x"), ("--resend-changed",)):
        assert ufile("resume", journal, *option).code == 2
    assert calls_of(emulator, "finish") == []


# --from-pause


def test_from_pause(ufile: Ufile, emulator: Emulator) -> None:
    """`tail -c +$((OFFSET + 1)) dump | ufile resume ID --from-pause`, parts beyond it up or not."""
    journal = cut(ufile, emulator, CONTENT, HOLES)
    offset = ufile.status(journal)["pause_offset"]
    assert offset == 2 * MIB
    before = len(emulator.requests)
    result = replay(ufile, journal, CONTENT[offset:], "--from-pause").json
    assert result["exit_code"] == 0 and result["verified"] == "parts"  # of 1 MiB, from the middle
    same(emulator, CONTENT)
    assert sent_again(emulator, before) == {2, 5, 7, 8}


def test_from_pause_with_nothing_beyond_it(ufile: Ufile, emulator: Emulator) -> None:
    journal = cut(ufile, emulator, CONTENT, (0, 1, 2, 3))
    offset = ufile.status(journal)["pause_offset"]
    outcome = replay(ufile, journal, CONTENT[offset:], "--from-pause")
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_from_pause_at_the_beginning(ufile: Ufile, emulator: Emulator) -> None:
    journal = cut(ufile, emulator, CONTENT, (2, 3))
    assert ufile.status(journal)["pause_offset"] == 0
    outcome = replay(ufile, journal, CONTENT, "--from-pause")
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_from_pause_compares_what_lies_beyond(ufile: Ufile, emulator: Emulator) -> None:
    journal = cut(ufile, emulator, CONTENT, HOLES)
    outcome = replay(ufile, journal, flipped(CONTENT, 4 * MIB + 1)[2 * MIB :], "--from-pause")
    assert outcome.code == 66 and outcome.json["error"]["part"] == 4, outcome
    assert replay(ufile, journal, CONTENT[2 * MIB :], "--from-pause").code == 0
    same(emulator, CONTENT)


@pytest.mark.parametrize("exact", [False, True])
def test_from_pause_with_everything_up(ufile: Ufile, emulator: Emulator, exact: bool) -> None:
    """tail gives nothing then, and the last part is a short one."""
    options = ("--exact-size", str(len(CONTENT))) if exact else ()
    journal = refused_finish(ufile, emulator, CONTENT, *options)
    assert ufile.status(journal)["pause_offset"] == len(CONTENT)
    outcome = replay(ufile, journal, b"", "--from-pause")
    assert outcome.code == 0, outcome
    same(emulator, CONTENT)


def test_from_pause_with_an_earlier_part_lost(ufile: Ufile, emulator: Emulator) -> None:
    """66 as often as it is tried; the whole stream succeeds."""
    emulator.faults.add(call="part", part=1, forget="part")
    journal = cut(ufile, emulator, CONTENT, HOLES)
    for _ in range(2):
        outcome = replay(ufile, journal, CONTENT[2 * MIB :], "--from-pause")
        assert outcome.code == 66 and "part 1" in outcome.err, outcome
        assert f"| ufile resume {journal}" in outcome.err
    assert replay(ufile, journal, CONTENT).code == 0
    same(emulator, CONTENT)


def test_from_pause_under_a_dead_upload_id(ufile: Ufile, emulator: Emulator) -> None:
    """Tried again with the same bytes it must not make an object of the stream's second half."""
    journal = cut(ufile, emulator, CONTENT, HOLES)
    emulator.faults.add(call="list_parts", nth=1, forget="upload")
    for _ in range(2):
        outcome = replay(ufile, journal, CONTENT[2 * MIB :], "--from-pause")
        assert outcome.code == 66, outcome
    assert replay(ufile, journal, CONTENT).code == 0
    same(emulator, CONTENT)
