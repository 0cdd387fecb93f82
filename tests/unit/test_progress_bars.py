"""What a person sees: the picture on a terminal of a given size, and what happens when it goes."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest
from rich.console import Console

from ufile_cli.progress import text
from ufile_cli.progress.bars import Bars, Canvas, Rows
from ufile_cli.progress.events import (
    Checked,
    Checking,
    Event,
    FileFailed,
    FileFinished,
    FileSkipped,
    Finished,
    Finishing,
    Notice,
    OutageBegan,
    OutageEnded,
    PartFailed,
    PartProgress,
    PartSent,
    PartStarted,
    Paused,
    Started,
    TreeStarted,
)
from ufile_cli.progress.tally import Row

MIB = 1 << 20
PART = 4 * MIB
NOON = 1714564800.0


class Screen(io.StringIO):
    """A terminal that understands what the bars send, and refuses everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self.row = self.column = self.writes = 0

    def write(self, words: str) -> int:
        self.writes += 1
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", words):
            if token == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif token == "\r":
                self.column = 0
            elif token == "\x1b[K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif token == "\x1b[J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
                self.row -= int(up[1])
                assert self.row >= 0
            elif not token.endswith("m") or not token.startswith("\x1b"):
                assert not token.startswith("\x1b"), token
                line = self.lines[self.row]
                self.lines[self.row] = (
                    line[: self.column] + token + line[self.column + len(token) :]
                )
                self.column += len(token)
        return len(words)

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


class Show:
    """Bars on a screen, with clocks that a test moves."""

    def __init__(
        self, width: int = 80, height: int = 24, *, name: str = "", **options: object
    ) -> None:
        self.now = 0.0
        self.screen = Screen()
        self.console = Console(
            file=self.screen,
            force_terminal=True,
            width=width,
            height=height,
            color_system=None,
            _environ={"TERM": "xterm"},
            **options,  # type: ignore[arg-type]
        )
        self.bars = Bars(
            self.console,
            name=name,
            size=None if not name else 8 * 1024 * MIB,
            monotonic=lambda: self.now,
            wall=lambda: NOON + self.now,
            auto_refresh=False,
        )

    def tell(self, *events: Event, after: float = 0.0) -> Show:
        self.now += after
        for event in events:
            self.bars(event)
        return self

    @property
    def lines(self) -> list[str]:
        self.bars.draw()
        return self.screen.shown


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def started(name: str = "dump.tar", size: int | None = 2048 * PART, done: int = 850) -> Started:
    parts = None if size is None else size // PART
    return Started("id", "b", "k", name, size, PART, parts, done * PART, done, 4, done > 0)


def under_way(show: Show, name: str = "dump.tar", threads: int = 4) -> Show:
    """A second after a resume, each part at a different place."""
    show.tell(started(name), *(PartStarted(850 + index, PART, 1) for index in range(threads)))
    show.lines  # noqa: B018
    return show.tell(
        *(PartProgress(850 + i, min(i + 1, 4) * MIB, PART) for i in range(threads)), after=1.0
    )


def test_a_resumed_upload_at_80_columns() -> None:
    assert under_way(Show()).lines == [
        "dump.tar    41% ━━━━━━━━╸────────────  3.33/8.00 GiB  10.0 MiB/s      7:58 left",
        "  part 850  25% ━━━━━────────────────  1.00/4.00 MiB  1.00 MiB/s",
        "  part 851  50% ━━━━━━━━━━╸──────────  2.00/4.00 MiB  2.00 MiB/s",
        "  part 852  75% ━━━━━━━━━━━━━━━╸─────  3.00/4.00 MiB  3.00 MiB/s",
        "  part 853 100% ━━━━━━━━━━━━━━━━━━━━━  4.00/4.00 MiB  4.00 MiB/s",
    ]


def test_at_40_columns_the_numbers_have_a_line_of_their_own() -> None:
    assert under_way(Show(40)).lines == [
        "dump.tar    41% ━━━━━━━━━╸─────────────",
        "  3.33/8.00 GiB  10.0 MiB/s  7:58 left",
        "  part 850  25% ━━╸────────  1.00 MiB/s",
        "  part 851  50% ━━━━━╸─────  2.00 MiB/s",
        "  part 852  75% ━━━━━━━━───  3.00 MiB/s",
        "  part 853 100% ━━━━━━━━━━━  4.00 MiB/s",
    ]


def test_at_160_columns_a_long_name_is_whole_and_the_bar_no_longer_than_useful() -> None:
    name = "数据库备份-2024年05月-😀完整.tar.gz"
    lines = under_way(Show(160), name).lines
    assert lines[0].startswith(name + "  41% ━")
    assert max(map(text.columns, lines)) <= 130


@pytest.mark.parametrize("width", [5, 12, 20, 30, 40, 50, 60, 66, 70, 79, 80, 100, 132, 200])
@pytest.mark.parametrize(
    "name", ["d", "数据库备份-2024年05月-😀完整.tar.gz", "x" * 300, "a\x1b[2J\n"]
)
@pytest.mark.parametrize("height", [2, 5, 24])
def test_never_wider_or_taller_than_the_terminal(width: int, name: str, height: int) -> None:
    show = under_way(Show(width, height), name, threads=20)
    show.tell(PartFailed(851, 1, 3, "connection reset by peer", 5.0))
    show.tell(OutageBegan("connection refused", NOON - 10, NOON + 290))
    show.tell(Checking("hashing what was sent", 1000), Checked("hashing what was sent", 500))
    show.tell(Checking("listing", 100000, "parts"), Finishing(100000))
    show.bars._above.clear()
    lines = show.lines
    assert lines
    assert len(lines) < height or height == 2
    assert all(text.columns(line) < width for line in lines), lines


@pytest.mark.parametrize("width", [40, 80, 160])
def test_columns_line_up_under_wide_names(width: int) -> None:
    lines = under_way(Show(width), "数据库备份-😀.tar.gz").lines
    parts = lines[1:] if width > 40 else lines[2:]
    ends = {text.columns(line[: line.index("%")]) for line in (lines[0], *parts)}
    assert len(ends) == 1


def test_many_parts_are_summed_up() -> None:
    show = under_way(Show(80, 24), threads=64)
    show.tell(PartFailed(910, 1, 3, "reset", 5.0))
    lines = show.lines
    assert lines[-1] == "  … and 54 more, 1 of them waiting to try again"
    assert len(lines) == 1 + 1 + 11  # the notice above, the whole, and half the height
    assert under_way(Show(80, 60), threads=64).lines[-1] == "  … and 49 more"


def test_a_part_that_waits_counts_down() -> None:
    show = under_way(Show())
    show.tell(PartFailed(851, 1, 3, "connection reset", 5.0))
    assert "  part 851  retry 2/3 in 5 s: connection reset" in show.lines
    show.tell(after=2.0)
    assert "  part 851  retry 2/3 in 3 s: connection reset" in show.lines
    assert show.lines[0] == "part 851, attempt 1 of 3: connection reset; again in 5 s"
    show.tell(PartStarted(851, PART, 2), after=3.0)
    assert any(line.startswith("  part 851   0% ─") for line in show.lines)


def test_failures_above_the_bars_are_few() -> None:
    show = under_way(Show(80, 60))
    for number in range(850, 854):
        for _ in range(10):
            show.tell(PartFailed(number, 1, 3, "reset", 0.0))
    assert sum("attempt 1 of 3" in line for line in show.lines) == 4
    show.tell(PartFailed(850, 2, 3, "reset", 0.0), after=11.0)
    assert any("(36 more like this left out)" in line for line in show.lines)


def test_the_percentage_does_not_run_backwards_on_a_retry() -> None:
    show = Show().tell(started(size=10 * PART, done=0), PartStarted(0, PART, 1))
    show.tell(PartProgress(0, PART, PART))
    before = show.lines[0]
    assert " 10% " in before
    show.tell(PartFailed(0, 1, 3, "reset", 1.0))
    assert " 10% " in show.lines[1]


def test_an_outage() -> None:
    show = under_way(Show())
    show.tell(OutageBegan("connection refused", NOON - 50, NOON + 250))
    assert show.lines[1:3] == [
        "nothing gets through since 11:59:10 (connection refused); trying again one part",
        "at a time, pausing at 12:04:10",
    ]
    assert show.lines[0].endswith("-:-- left")
    show.tell(OutageEnded(120.0))
    assert show.lines[0] == "something gets through again, after 2:00"
    assert not any("nothing gets" in line for line in show.lines)


def test_in_an_outage_nothing_is_said_of_single_parts() -> None:
    show = under_way(Show(80, 40), threads=30)
    show.tell(*(PartFailed(850 + number, 3, 3, "refused", 5.0) for number in range(29)))
    show.tell(OutageBegan("connection refused", NOON - 50, NOON + 250))
    before = len(show.lines)
    for number in range(12):
        show.tell(PartStarted(850 + number, PART, 4), after=30.0)
        show.tell(PartFailed(850 + number, 4, 3, "refused", 30.0))
        assert len(show.lines) == before
    assert show.lines[-3:] == [
        "nothing gets through since 11:59:10 (connection refused); trying again one part",
        "at a time, pausing at 12:04:10",
        "  30 parts wait",
    ]
    show.tell(OutageEnded(400.0), PartStarted(851, PART, 1))
    assert show.lines[-1].startswith("  part 851   0% ")
    assert sum("part 8" in line.split("%")[0] for line in show.lines[-3:]) == 2  # the probe, and it


def test_many_parts_that_wait_take_one_line() -> None:
    show = under_way(Show(80, 40), threads=10)
    show.tell(*(PartFailed(850 + number, 1, 3, "refused", 5.0) for number in range(8)))
    show.bars._above.clear()
    lines = show.tell(after=2.0).lines
    assert lines[1] == "  8 parts try again, the first in 3 s: refused"
    assert [line.split()[:2] for line in lines[2:]] == [["part", "858"], ["part", "859"]]
    assert show.tell(after=5.0).lines[1] == "  8 parts try again now: refused"


def test_an_outage_of_one_file_leaves_the_parts_of_the_others_alone() -> None:
    show = Show().tell(TreeStarted(2, 200 * MIB, "photos"))
    for name in ("a.jpg", "b.jpg"):
        show.tell(Started("j", "b", "k", name, 100 * MIB, PART, 25, upload=name))
        show.tell(PartStarted(0, PART, 1, name))
    show.tell(OutageBegan("refused", NOON, None, "a.jpg"))
    assert [line.split()[0] for line in show.lines] == ["files", "nothing", "1", "b.jpg"]
    assert "  1 part waits" in show.lines


def test_a_server_that_takes_nothing_is_told_after_a_while() -> None:
    show = under_way(Show())
    assert show.lines[0].endswith("7:58 left")
    show.tell(after=9.0)
    assert show.lines[0].endswith(" left")
    show.tell(after=3.0)
    assert show.lines[0].endswith("  no byte for 0:12") and text.columns(show.lines[0]) == 79
    show.tell(PartProgress(850, 2 * MIB, PART))
    assert show.lines[0].endswith(" left")


def test_waiting_parts_and_slow_lines_are_no_stall() -> None:
    show = under_way(Show(), threads=1)
    show.tell(PartFailed(850, 1, 3, "reset", 60.0))
    show.bars._above.clear()
    assert show.tell(after=30.0).lines[0].endswith(" left")
    slow = under_way(Show(), threads=1)
    for block in range(2, 5):
        slow.tell(PartProgress(850, block * MIB, PART), after=20.0).bars.draw()
    assert slow.tell(after=50.0).lines[0].endswith(" left")
    assert slow.tell(after=15.0).lines[0].endswith("no byte for 1:05")


def test_long_steps() -> None:
    show = Show().tell(started(), Checking("hashing what was sent", 1000 * MIB))
    show.tell(Checked("hashing what was sent", 250 * MIB), after=65.0)
    show.tell(Checking("listing parts", 100000, "parts"), Checked("listing parts", 41234))
    show.tell(Checking("comparing", None), Checked("comparing", 5 * MIB), after=1.0)
    assert show.lines[1:] == [
        "hashing what was sent  25% ━━━━━━━╸───────────────────────  0.24/0.98 GiB  1:06",
        "listing parts  41% ━━━━━━━━━━━━━───────────────────  41,234/100,000 parts  0:01",
        "comparing  5.00 MiB  0:00",
    ]


def test_finishing_turns_and_tells_the_time() -> None:
    show = Show().tell(started(done=2048), Finishing(100000))
    first = show.lines[1]
    assert first == "⠋ Finishing: putting 100,000 parts together  0:00"
    show.tell(after=42.1)
    assert show.lines[1].endswith("100,000 parts together  0:42")
    assert show.lines[1][0] != first[0]


def test_a_stream_of_unknown_length() -> None:
    show = Show().tell(started("-", None, 0), PartStarted(0, PART, 1))
    show.lines  # noqa: B018
    show.tell(PartProgress(0, 2 * MIB, PART), after=2.0)
    line = show.lines[0]
    assert line.split() == ["standard", "input", "2.00", "MiB", "1.00", "MiB/s", "for", "0:02"]


def test_until_the_server_answers_the_name_and_the_size_are_there() -> None:
    show = Show(name="dump.tar")
    assert show.lines[0].split() == [
        "dump.tar", "0%", "─" * 23, "0.00/8.00", "GiB", "-", "starting", "0:00",
    ]  # fmt: skip
    show.tell(Notice("Initiate: connection refused; trying again in 5 s"), after=10.0)
    show.tell(Paused("Initiate: connection refused", "id"), after=5.0)
    show.bars.__exit__(None, None, None)
    _, line = show.screen.shown
    assert line.split()[:2] == ["dump.tar", "0%"] and line.endswith("paused 0:15")


def test_what_never_started_leaves_no_bar() -> None:
    show = Show(name="dump.tar")
    assert len(show.lines) == 1
    show.bars.__exit__(None, None, None)
    assert show.screen.shown == []
    assert under_way(Show(name="dump.tar")).lines == under_way(Show()).lines


def test_at_the_end_one_line_stays() -> None:
    show = under_way(Show())
    show.lines  # noqa: B018
    show.tell(Finished("id", "b", "k", 2048 * PART, "e", "etag", 1198 * PART, 99.0), after=99.0)
    show.bars.__exit__(None, None, None)
    (line,) = show.screen.shown
    assert line.split() == [
        "dump.tar", "100%", "━" * 23, "8.00", "GiB", "48.4", "MiB/s", "in", "1:39",
    ]  # fmt: skip


def test_a_pause_says_how_far_it_came() -> None:
    show = under_way(Show())
    show.tell(Paused("no network", "id"), after=1.0)
    show.bars.__exit__(None, None, None)
    (line,) = show.screen.shown
    assert " 41% " in line
    assert line.endswith("paused 0:02")


def test_an_end_without_a_word_is_shown_as_stopped() -> None:
    show = under_way(Show())
    show.bars.__exit__(None, None, None)
    (line,) = show.screen.shown
    assert line.endswith("stopped 0:01")


def test_notices_go_above_and_stay() -> None:
    show = under_way(Show())
    show.lines  # noqa: B018
    show.tell(Notice("first"), Notice("second \x1b[31m [red]x[/red]"))
    assert show.lines[:3] == ["first", "second \\x1b[31m [red]x[/red]", show.lines[2]]
    assert show.lines[2].startswith("dump.tar")
    assert show.lines[:2] == ["first", "second \\x1b[31m [red]x[/red]"]


def test_notices_are_broken_between_words_and_addresses_nowhere() -> None:
    show = under_way(Show(40))
    show.tell(
        Notice(
            "  an upload that is resumed goes on from its last part: https://example.com/x/y/z/w"
        )
    )
    assert show.lines[:3] == [
        "  an upload that is resumed goes on",
        "  from its last part:",
        "  https://example.com/x/y/z/w",
    ]


def test_lines_that_a_terminal_had_no_time_for_are_counted() -> None:
    show = under_way(Show())
    for number in range(1500):
        show.tell(Notice(f"line {number}"))
    lines = show.lines
    assert lines[:2] == ["(500 lines left out)", "line 500"]
    assert "line 1499" in lines


def test_the_next_upload_leaves_the_line_of_the_one_before_above() -> None:
    show = under_way(Show())
    show.tell(Finished("id", "b", "k", 2048 * PART, "e", "etag", 1, 99.0))
    show.tell(started("next.tar", done=0))
    assert [line.split()[0] for line in show.lines] == ["dump.tar", "next.tar"]


def test_a_directory() -> None:
    show = Show().tell(TreeStarted(340, 1000 * MIB, "photos"))
    show.tell(*(FileFinished(f"{number}.jpg", 20 * MIB) for number in range(9)))
    show.tell(FileSkipped("b/1.jpg", 20 * MIB, "same"), FileFailed("b/2.jpg", MIB, "denied"))
    for name in ("照片/夏天/海边.jpg", "big.iso"):
        show.tell(Started("j", "b", "k", name, 100 * MIB, PART, 25, upload=name))
        show.tell(PartStarted(0, PART, 1, name))
    show.tell(PartStarted(17, PART, 1, "big.iso"), PartProgress(17, MIB, PART, "big.iso"))
    lines = show.lines
    assert lines[:2] == ["b/1.jpg: skipped: same", "b/2.jpg: failed: denied"]
    assert lines[2:] == [
        "10/340, 1 failed    20% ━━╸──────────  0.19/0.98 GiB           -      -:-- left",
        "  照片/夏…海边.jpg   0% ─────────────  0.00/4.00 MiB",
        "  big.iso            0% ─────────────  0.00/4.00 MiB",
        "  big.iso part 17   25% ━━━──────────  1.00/4.00 MiB",
    ]


def test_poor_encodings_get_plain_signs() -> None:
    show = Show()
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    bars = Bars(console, monotonic=lambda: 0.0, wall=lambda: NOON, auto_refresh=False)
    bars(started("数据.tar"))
    bars(Finishing(3))
    bars.draw()
    assert not stream.buffer.closed
    words = stream.buffer.getvalue().decode("ascii")
    assert "\\u6570\\u636e.tar" in words
    assert "=====---" in words
    assert show.lines == []


def test_colours_only_where_they_are_wanted() -> None:
    def drawn(**environ: str) -> str:
        screen = io.StringIO()
        console = Console(
            file=screen,
            force_terminal=True,
            width=80,
            _environ={"TERM": "xterm-256color", **environ},
        )
        bars = Bars(console, auto_refresh=False)
        bars(started())
        bars.draw()
        return screen.getvalue()

    assert "\x1b[36m" in drawn()
    assert not re.search(r"\x1b\[3\dm", drawn(NO_COLOR="1"))


def test_a_dumb_terminal_gets_no_escapes() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, _environ={"TERM": "dumb"})
    bars = Bars(console, auto_refresh=False)
    bars(started())
    bars(Notice("hello"))
    bars.draw()
    bars.draw()
    bars.__exit__(None, None, None)
    assert "\x1b" not in screen.getvalue()
    assert "\r" not in screen.getvalue()
    assert [line.split()[0] for line in screen.getvalue().splitlines()] == ["hello", "dump.tar"]


def test_a_frame_is_one_write_drawn_over_the_last() -> None:
    show = under_way(Show())
    show.bars.draw()
    before = show.screen.writes
    show.tell(PartProgress(850, 2 * MIB, PART))
    show.bars.draw()
    assert show.screen.writes == before + 1
    assert len(show.screen.shown) == 5


def test_a_terminal_made_narrower_is_repaired() -> None:
    """Terminals break the lines of the old picture in two: the new one begins above both."""
    show = under_way(Show(80))
    show.bars.draw()
    show.console.width = 40
    show.screen.truncate(0)
    show.screen.row = 99  # it has scrolled
    show.bars.draw()
    assert show.screen.row < 99 - 5


class Broken(io.StringIO):
    """A terminal that has gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.tries = 0

    def write(self, words: str) -> int:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError(5, "EIO"), BrokenPipeError(32, "EPIPE"), ValueError("closed file")]
)
def test_a_terminal_that_goes_away_is_left_alone(error: Exception) -> None:
    screen = Broken(error)
    bars = Bars(Console(file=screen, force_terminal=True, width=80), auto_refresh=False)
    with bars:
        bars(started())
        bars.draw()
        bars(Notice("x"))
        bars.draw()
        bars(PartStarted(0, PART, 1))
    assert screen.tries == 1


def test_a_frame_that_a_busy_terminal_refuses_is_not_the_end() -> None:
    screen = Broken(BlockingIOError(11, "EAGAIN"))
    canvas = Canvas(Console(file=screen, force_terminal=True, width=80))
    bars = Bars(Console(file=screen, force_terminal=True, width=80), auto_refresh=False)
    bars(started())
    bars.draw()
    bars.draw()
    assert screen.tries == 2
    assert not canvas.gone


def test_a_closed_pipe_does_not_stop_anything() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with Bars(Console(file=stream, force_terminal=True, width=80), auto_refresh=False) as bars:
        bars(started())
        bars.draw()
        assert bars._canvas.gone
    stream.close()  # nothing was left in its buffer to fail now


def test_a_stopped_terminal_holds_up_neither_events_nor_the_end() -> None:
    """Ctrl-S: the drawing thread hangs in its write, the upload does not notice."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writing, True)
    stream = os.fdopen(writing, "w")
    bars = Bars(Console(file=stream, force_terminal=True, width=80))
    drawing = bars._thread
    assert drawing is not None
    bars.__enter__()
    time.sleep(0.25)
    begun = time.monotonic()
    bars(started())
    for number in range(1000):
        bars(PartStarted(number, PART, 1))
        bars(PartSent(number, PART, "e"))
        bars(Notice("x"))
    assert time.monotonic() - begun < 1.0
    os.close(reading)
    bars.__exit__(None, None, None)
    drawing.join(5.0)
    assert not drawing.is_alive()
    stream.close()


def test_a_worker_pays_no_lock() -> None:
    bars = Bars(Console(file=io.StringIO(), width=80), auto_refresh=False)
    bars(started())
    bars(PartStarted(0, PART, 1))
    with bars._lock:
        worker = threading.Thread(target=bars, args=(PartProgress(0, MIB, PART),), daemon=True)
        worker.start()
        worker.join(5.0)
        assert not worker.is_alive()


def test_nothing_an_event_holds_can_raise() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=80), auto_refresh=False)
    bars(PartFailed(0, 1, 3, cast(str, None), 5.0))
    bars(cast(Event, object()))
    bars(Started(None, "b", "k", cast(str, 5), cast(int, "x"), None, None))
    bars.draw()


def test_the_thread_draws_by_itself() -> None:
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with Bars(console) as bars:
        bars(started())
        until = time.monotonic() + 5.0
        while not screen.shown and time.monotonic() < until:
            time.sleep(0.01)
        assert screen.shown
    assert screen.shown[0].startswith("dump.tar")


def test_rows_for_several_uploads() -> None:
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    console.print(
        Rows(
            [
                Row("dump.tar", 3 * MIB, 8 * MIB, 37, 1.0 * MIB, 5.0, 3.0),
                Row("数据.tar", 8 * MIB, 8 * MIB, 100, 2.0 * MIB, None, 4.0, "finished"),
                Row("old.tar", 2 * MIB, 8 * MIB, 25, None, None, 3731.0, "interrupted"),
            ]
        )
    )
    assert screen.shown == [
        "dump.tar  37% ━━━━━━━━╸──────────────  3.00/8.00 MiB  1.00 MiB/s      0:05 left",
        "数据.tar 100% ━━━━━━━━━━━━━━━━━━━━━━━       8.00 MiB  2.00 MiB/s        in 0:04",
        "old.tar   25% ━━━━─────────────  2.00/8.00 MiB           -  interrupted 1:02:11",
    ]


def test_bars_on_a_stream() -> None:
    assert isinstance(Bars.on(io.StringIO()), Bars)
