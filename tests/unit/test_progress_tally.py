"""The arithmetic of progress: never over 100 %, never backwards, honest speeds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli.progress.events import (
    Checked,
    Checking,
    CheckingDone,
    Event,
    Failed,
    FileFailed,
    FileFinished,
    FileSkipped,
    Finished,
    Finishing,
    OutageBegan,
    OutageEnded,
    PartAdopted,
    PartFailed,
    PartLost,
    PartProgress,
    PartSent,
    PartStarted,
    Paused,
    SizeKnown,
    Started,
    TreeStarted,
    labelled,
)
from ufile_cli.progress.tally import Limiter, Meter, Picture, Row, Tally

MIB = 1 << 20
PART = 4 * MIB


def started(size: int | None = 10 * PART, **values: object) -> Started:
    parts = None if size is None else -(-size // PART)
    return Started("id", "b", "k", "dump", size, PART, parts, **values)  # type: ignore[arg-type]


class Run:
    """A tally and a clock."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.now = 100.0

    def tell(self, *events: Event, after: float = 0.0) -> Run:
        self.now += after
        for event in events:
            self.tally.fold(event, self.now)
        return self

    @property
    def picture(self) -> Picture:
        return self.tally.picture(self.now)

    @property
    def row(self) -> Row:
        row = self.picture.overall
        assert row is not None
        return row


def test_nothing_is_shown_before_anything_began() -> None:
    assert Run().picture.overall is None


def test_a_resumed_upload_starts_at_its_true_percentage() -> None:
    run = Run().tell(started(bytes_done=4 * PART, parts_done=4, resumed=True))
    assert (run.row.percent, run.row.done, run.row.rate) == (40, 4 * PART, None)
    assert run.picture.bytes_sent == 0


def test_bytes_of_earlier_runs_are_no_speed() -> None:
    run = Run().tell(started(bytes_done=8 * PART), PartStarted(8, PART, 1))
    for step in range(1, 5):
        run.tell(PartProgress(8, step * MIB, PART), after=1.0).picture  # noqa: B018
    assert run.row.rate == MIB
    assert run.row.left == 4.0
    assert run.picture.bytes_sent == PART


def test_adopted_parts_are_done_but_no_speed() -> None:
    run = Run().tell(started(), PartAdopted(0, PART), PartAdopted(1, PART), after=1.0)
    run.now += 5
    assert (run.row.percent, run.picture.bytes_sent) == (20, 0)
    assert run.row.rate is None


def test_a_part_that_the_server_lost_is_to_be_done_again() -> None:
    run = Run().tell(started(bytes_done=8 * PART, parts_done=8))
    assert run.row.percent == 80
    run.tell(PartLost(3, PART))
    assert (run.row.percent, run.picture.parts_done) == (80, 7)  # held, not taken back
    run.tell(PartSent(3, PART, "e"))
    assert (run.row.percent, run.picture.parts_done) == (80, 8)


def test_a_failed_attempt_does_not_run_the_bar_backwards() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartProgress(0, 3 * MIB, PART))
    before = run.row
    run.tell(PartFailed(0, 1, 3, "reset", 5.0), after=1.0)
    assert run.row.done == before.done == 3 * MIB
    run.tell(PartStarted(0, PART, 2), PartProgress(0, MIB, PART), after=5.0)
    assert run.row.done == 3 * MIB
    run.tell(PartProgress(0, 4 * MIB, PART))
    assert run.row.done == 4 * MIB
    assert run.picture.bytes_sent == 7 * MIB


def test_a_part_waiting_for_its_next_attempt_says_so() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartProgress(0, MIB, PART))
    run.tell(PartFailed(0, 1, 3, "reset", 5.0)).tell(after=2.0)
    (lane,) = run.picture.lanes
    assert (lane.retry_in, lane.attempt, lane.attempts, lane.reason) == (3.0, 1, 3, "reset")
    assert run.picture.in_flight == 0
    run.tell(after=10.0)
    assert run.picture.lanes[0].retry_in == 0.0


def test_a_part_that_is_not_tried_again_leaves() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartProgress(0, MIB, PART))
    run.tell(PartFailed(0, 3, 3, "reset", None))
    assert run.picture.lanes == ()
    assert run.picture.bytes_sent == MIB


def test_a_hundred_only_when_everything_is_acknowledged() -> None:
    run = Run().tell(started(PART), PartStarted(0, PART, 1), PartProgress(0, PART, PART))
    assert run.row.percent == 99
    assert run.tell(PartSent(0, PART, "e")).row.percent == 100


def test_never_over_a_hundred_even_if_parts_are_counted_twice() -> None:
    run = Run().tell(started(2 * PART, bytes_done=2 * PART), PartAdopted(0, PART))
    assert (run.row.percent, run.row.done) == (100, 2 * PART)


def test_more_bytes_in_flight_than_the_part_has_do_not_count() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartProgress(0, 9 * PART, PART))
    assert run.row.done == PART


def test_progress_of_a_part_that_is_not_in_flight_is_ignored() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartSent(0, PART, "e"))
    run.tell(PartProgress(0, PART, PART), PartProgress(7, PART, PART))
    assert run.row.done == PART


def test_a_size_that_was_a_guess_is_dropped_when_it_proves_too_small() -> None:
    run = Run().tell(started(PART, size_exact=False), PartSent(0, PART, "e"))
    assert run.row.percent == 100
    run.tell(PartSent(1, PART, "e"))
    row = run.row
    assert row.size is None
    assert row.percent is None
    assert row.done == 2 * PART
    run.tell(SizeKnown(2 * PART + 5, 3))
    assert (run.row.size, run.row.percent) == (2 * PART + 5, 99)


def test_an_unknown_size_has_no_percentage_and_no_end() -> None:
    run = Run().tell(started(None), PartStarted(0, PART, 1), PartProgress(0, MIB, PART))
    run.tell(PartProgress(0, 2 * MIB, PART), after=3.0)
    row = run.row
    assert row.percent is None
    assert row.left is None
    assert row.done == 2 * MIB
    assert run.row.elapsed == 3.0


def test_an_empty_file() -> None:
    run = Run().tell(started(0))
    assert run.row.percent == 0
    run.tell(Finished("id", "b", "k", 0, "e", "etag", 0, 0.1))
    assert run.row.percent == 100


def test_after_an_outage_parts_take_the_lines_that_are_free() -> None:
    run = Run().tell(started(), *(PartStarted(number, PART, 1) for number in range(4)))
    run.tell(PartSent(1, PART, "e"), PartFailed(2, 3, 3, "reset", 5.0))
    run.tell(OutageBegan("reset", 0.0, None))
    assert [lane.number for lane in run.picture.lanes] == [] and run.picture.stuck == 3
    run.tell(OutageEnded(9.0))
    assert [lane.number for lane in run.picture.lanes] == [0, 1, 3] and run.picture.stuck == 0
    run.tell(PartStarted(2, PART, 1), PartStarted(4, PART, 1))
    assert [lane.number for lane in run.picture.lanes] == [0, 2, 3, 4]


def test_parts_keep_their_line_when_others_end() -> None:
    run = Run().tell(started(), *(PartStarted(number, PART, 1) for number in range(3)))
    run.tell(PartSent(1, PART, "e"))
    assert [lane.number for lane in run.picture.lanes] == [0, 1, 2]
    run.tell(PartStarted(3, PART, 1))
    assert [lane.number for lane in run.picture.lanes] == [0, 3, 2]
    run.tell(PartSent(0, PART, "e")).tell(after=1.0)
    assert [lane.number for lane in run.picture.lanes] == [3, 2]


def test_checks_and_finish() -> None:
    run = Run().tell(started(), Checking("hashing", 200), after=1.0)
    run.tell(Checked("hashing", 50), Checked("unheard of", 1), after=2.0)
    (check,) = run.picture.checks
    assert (check.percent, check.done, check.elapsed) == (25, 50, 2.0)
    run.tell(CheckingDone("hashing"), CheckingDone("unheard of"), Finishing(7), after=1.0)
    assert run.picture.checks == ()
    run.tell(after=4.0)
    assert [(each.parts, each.elapsed) for each in run.picture.finishes] == [(7, 4.0)]
    assert run.tell(Finished("id", "b", "k", 1, "e", "etag", 1, 1.0)).picture.finishes == ()


def test_an_outage_has_no_time_left() -> None:
    run = Run().tell(started(), PartStarted(0, PART, 1), PartProgress(0, MIB, PART))
    run.tell(PartProgress(0, 2 * MIB, PART), after=1.0)
    assert run.row.left is not None
    run.tell(OutageBegan("refused", 5.0, 10.0))
    assert run.row.left is None
    assert run.picture.outage == OutageBegan("refused", 5.0, 10.0)
    run.tell(OutageEnded(3.0))
    assert run.picture.outage is None
    assert run.row.left is not None


def test_what_is_shown_at_the_end_is_what_the_server_has() -> None:
    for end in (Paused("no network", "id"), Failed("refused", "id", 1)):
        run = Run().tell(started(), PartSent(0, PART, "e"), PartStarted(1, PART, 1))
        run.tell(PartProgress(1, 3 * MIB, PART), after=2.0)
        assert run.row.percent == 17
        run.tell(end)
        assert (run.row.percent, run.row.done, run.picture.lanes) == (10, PART, ())
        assert run.row.state == type(end).__name__.lower()
        assert run.row.rate == (PART + 3 * MIB) / 2.0


def test_a_new_beginning_starts_from_its_own_bytes() -> None:
    run = Run().tell(started(bytes_done=5 * PART), started())
    assert run.row.percent == 0


def test_events_before_started_do_no_harm() -> None:
    run = Run().tell(PartStarted(0, PART, 1), PartProgress(0, MIB, PART), Checking("x", 5))
    assert run.row.size is None
    Run().tell(PartSent(0, PART, "e"), PartFailed(1, 1, 3, "x", 1.0), Paused("x", None))


def test_a_directory_is_one_row() -> None:
    run = Run().tell(TreeStarted(4, 100, "photos"))
    assert (run.row.name, run.row.percent, run.row.size) == ("files 0/4", 0, 100)
    events: list[Event] = []
    for name in ("a", "b"):
        emit = labelled(events.append, name)
        emit(started(30))
        emit(PartStarted(0, 30, 1))
        emit(PartProgress(0, 10, 30))
    run.tell(*events)
    assert run.row.percent == 20
    assert [(lane.upload, lane.number) for lane in run.picture.lanes] == [("a", 0), ("b", 0)]
    run.tell(PartSent(0, 30, "e", upload="a"), FileFinished("a", 30))
    assert (run.row.name, run.row.percent) == ("files 1/4", 40)
    run.tell(FileSkipped("c", 20, "same"), FileFailed("b", 30, "denied"), after=1.0)
    assert (run.row.name, run.row.percent) == ("2/4, 1 failed", 50)
    run.tell(FileFinished("d", 20), after=1.0)
    assert (run.row.state, run.row.percent, run.row.elapsed) == ("failed", 70, 2.0)
    assert run.picture.parts is None


def test_labelled_writes_the_upload_into_every_event() -> None:
    seen: list[Event] = []
    emit = labelled(seen.append, "x")
    emit(PartProgress(1, 2, 3))
    emit(OutageEnded(1.0))
    emit(TreeStarted(1, 1))
    assert seen == [PartProgress(1, 2, 3, "x"), OutageEnded(1.0, "x"), TreeStarted(1, 1)]


# Speeds


def test_a_speed_is_not_known_at_once() -> None:
    meter = Meter()
    assert meter.rate(0.0, 0) is None
    assert meter.rate(0.4, 100) is None
    assert meter.rate(1.0, 250) == 250


def test_a_speed_follows_a_change_within_the_window() -> None:
    meter = Meter()
    total = 0
    for second in range(60):
        total += 100 if second < 30 else 1000
        meter.note(float(second), total)
    assert meter.rate(60.0, total + 1000) == 1000


def test_a_slow_line_has_a_speed() -> None:
    """A block of 256 KiB every 64 s is 4 KiB/s, not zero with a peak now and then."""
    meter = Meter()
    meter.note(0.0, 0)
    for block in range(1, 6):
        meter.note(block * 64.0, block << 18)
    for late in (0.0, 20.0, 50.0):
        rate = meter.rate(320.0 + late, 5 << 18)
        assert rate is not None
        assert 3000 < rate < 4200


def test_a_line_that_stalls_falls_to_zero() -> None:
    meter = Meter()
    for tenth in range(100):
        meter.note(tenth / 10, tenth * 1000)
    assert meter.rate(12.0, 99000) not in (None, 0.0)
    assert meter.rate(30.0, 99000) == 0.0


def test_the_limiter_counts_what_it_holds_back() -> None:
    limiter = Limiter(2, 10.0)
    assert [limiter.take(now) for now in (0.0, 1.0, 2.0, 3.0, 10.5, 11.5)] == [
        0,
        0,
        None,
        None,
        2,
        0,
    ]


# Whatever happens


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    choices: list[Event]
    for _ in range(draw(st.integers(0, 60))):
        number = draw(st.integers(0, 9))
        choices = [
            PartStarted(number, PART, draw(st.integers(1, 3))),
            PartProgress(number, draw(st.integers(0, PART)), PART),
            PartSent(number, PART, "e"),
            PartAdopted(number, PART),
            PartFailed(number, 1, 3, "x", draw(st.sampled_from([None, 0.0, 5.0]))),
        ]
        events.append(draw(st.sampled_from(choices)))
    return events


@settings(max_examples=200, deadline=None)
@given(histories(), st.integers(0, 10))
def test_whatever_happens_it_stays_below_a_hundred_and_never_runs_back(
    events: list[Event], before: int
) -> None:
    run = Run().tell(started(bytes_done=before * PART))
    percent = done = sent = 0
    for event in events:
        picture = run.tell(event, after=0.1).picture
        row = run.row
        assert row.percent is not None
        assert percent <= row.percent <= 100
        assert done <= row.done <= 10 * PART
        assert sent <= picture.bytes_sent
        percent, done, sent = row.percent, row.done, picture.bytes_sent


@pytest.mark.parametrize(("block_size", "lanes"), [(None, 0), (PART, 1)])
def test_what_goes_up_in_one_request_has_one_line(block_size: int | None, lanes: int) -> None:
    run = Run().tell(
        Started(None, "b", "k", "small", PART, block_size, 1),
        PartStarted(0, PART, 1),
        PartProgress(0, PART // 2, PART),
    )
    assert run.tally.in_parts("") is (block_size is not None)
    assert len(run.picture.lanes) == lanes
    assert run.row.done == PART // 2
    run.tell(PartFailed(0, 1, 3, "reset", 5.0))
    assert len(run.picture.lanes) == 1, "what waits says for what"
