"""One JSON object a line, and `docs/progress-events.md` says exactly what is in it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from ufile_cli.progress import events
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
    Notice,
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
)
from ufile_cli.progress.jsonlines import JsonLines, event_name, rfc3339

NOON = 1714564800.0
MIB = 1 << 20
GIB = 1 << 30
PART = 4 * MIB
PAGE = Path(__file__).parents[2] / "docs" / "progress-events.md"

STARTED = Started(
    "3f9c", "backups", "dump.tar", "dump.tar", 8 * GIB, PART, 2048, 850 * PART, 850, 4, True
)


class Lines(io.StringIO):
    """What was written, and in how many calls."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, words: str) -> int:
        self.writes.append(words)
        return super().write(words)


class Feed:
    def __init__(self) -> None:
        self.now = 0.0
        self.stream = Lines()
        self.sink = JsonLines(self.stream, monotonic=lambda: self.now, wall=lambda: NOON)

    def tell(self, *happened: Event, after: float = 0.0) -> Feed:
        self.now += after
        for event in happened:
            self.sink(event)
        return self

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def names(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def take(self) -> list[dict[str, Any]]:
        lines = self.lines
        self.stream.seek(0)
        self.stream.truncate()
        return lines


def test_each_line_is_one_write_and_carries_what_every_line_has() -> None:
    feed = Feed().tell(STARTED, Notice("数\udce9\n"), PartStarted(850, PART, 1))
    assert len(feed.stream.writes) == 3
    for written, line in zip(feed.stream.writes, feed.lines, strict=True):
        assert written.isascii()
        assert written.endswith("\n")
        assert list(line)[:3] == ["event", "time", "journal_id"]
        assert line["journal_id"] == "3f9c"
        assert line["time"] == "2024-05-01T12:00:00.000Z"
    assert feed.lines[0]["event"] == "started"
    assert feed.lines[1]["text"] == "数\udce9\n"


def test_the_first_line_has_the_journal_id_whatever_was_told_before() -> None:
    feed = Feed().tell(Notice("early"), Checking("listing parts", None, "parts"))
    assert feed.lines == []
    feed.tell(STARTED, Notice("late"))
    assert feed.names == ["started", "notice", "checking", "notice"]
    assert {line["journal_id"] for line in feed.lines} == {"3f9c"}


def test_what_was_told_is_not_lost_where_nothing_starts() -> None:
    feed = Feed().tell(Notice("early"))
    with feed.sink:
        pass
    assert feed.names == ["notice"]
    feed = Feed().tell(Notice("early"), Paused("no network", "3f9c"))
    assert feed.names == ["notice", "paused"]
    assert {line["journal_id"] for line in feed.lines} == {"3f9c"}


def test_times() -> None:
    assert rfc3339(0.9996) == "1970-01-01T00:00:00.999Z"
    assert rfc3339(NOON + 0.5) == "2024-05-01T12:00:00.500Z"


def test_progress_comes_once_a_second() -> None:
    feed = Feed().tell(STARTED, PartStarted(850, 400 * MIB, 1))
    feed.take()
    for tenth in range(1, 41):
        feed.tell(PartProgress(850, tenth * MIB, 400 * MIB), after=0.1)
    lines = feed.take()
    assert [line["event"] for line in lines] == ["progress"] * len(lines)
    assert 3 <= len(lines) <= 4
    assert lines[-1]["bytes_sent"] in range(28 * MIB, 41 * MIB)
    assert lines[-1]["bytes_done"] == 850 * PART + lines[-1]["bytes_sent"]
    assert 9 * MIB < lines[-1]["rate"] < 11 * MIB


def test_progress_comes_where_parts_are_all_that_comes() -> None:
    feed = Feed().tell(STARTED)
    for number in range(850, 900):
        feed.tell(PartStarted(number, PART, 1), PartSent(number, PART, "e"), after=0.2)
    assert feed.names.count("part_sent") == 50
    assert 8 <= feed.names.count("progress") <= 10


def test_bytes_done_never_run_backwards() -> None:
    feed = Feed().tell(STARTED, PartStarted(850, PART, 1))
    feed.tell(PartProgress(850, 3 * MIB, PART), after=2.0)
    feed.tell(PartFailed(850, 1, 3, "reset", 1.0), PartStarted(850, PART, 2))
    feed.tell(PartProgress(850, MIB, PART), after=2.0)
    feed.tell(PartProgress(850, 2 * MIB, PART), after=2.0)
    done = [line["bytes_done"] for line in feed.lines if line["event"] == "progress"]
    assert done == [850 * PART + 3 * MIB] * len(done)
    assert len(done) == 3


def test_checks_come_once_a_second() -> None:
    feed = Feed().tell(STARTED, Checking("hashing", 1000))
    for done in range(40):
        feed.tell(Checked("hashing", done), after=0.1)
    feed.tell(CheckingDone("hashing"))
    assert 3 <= feed.names.count("checked") <= 5
    assert feed.names[-1] == "checking_done"


def test_the_last_progress_is_whole() -> None:
    feed = Feed().tell(Started("x", "b", "k", "n", PART, PART, 1), PartStarted(0, PART, 1))
    feed.tell(PartProgress(0, PART, PART), PartSent(0, PART, "e"), Finishing(1), after=0.1)
    feed.tell(Finished("x", "b", "k", PART, "e", "etag", PART, 0.1))
    assert feed.names == [
        "started",
        "part_started",
        "part_sent",
        "progress",
        "finishing",
        "finished",
    ]
    assert feed.lines[3]["percent"] == 100


def test_uploads_of_a_directory_bear_their_names_and_journals() -> None:
    feed = Feed().tell(TreeStarted(2, 2 * PART, "photos"))
    feed.tell(Started("j1", "b", "a", "a", PART, PART, 1, upload="a"))
    feed.tell(Started("j2", "b", "b", "b", PART, PART, 1, upload="b"))
    feed.tell(PartStarted(0, PART, 1, "a"), PartStarted(0, PART, 1, "b"), FileFinished("a", PART))
    assert [(line["journal_id"], line.get("upload")) for line in feed.lines] == [
        (None, None), ("j1", "a"), ("j2", "b"), ("j1", "a"), ("j2", "b"), ("j1", "a"),
    ]  # fmt: skip


# The page

EXAMPLES: list[Event] = [
    SizeKnown(8 * GIB, 2048),
    Finishing(2048),
    Finished("3f9c", "backups", "dump.tar", 8 * GIB, "AAgAAKb3", "etag", 1198 * PART, 184.2),
    Paused("nothing got through for 5 min: paused (part 850: connection refused)", "3f9c"),
    Failed("the bucket does not exist", "3f9c", 1),
    Notice("The upload id had expired: beginning again"),
    PartStarted(850, PART, 1),
    PartSent(850, PART, "AAAAAAz1"),
    PartAdopted(850, PART),
    PartLost(850, PART),
    PartFailed(850, 1, 3, "connection reset", 5.0),
    OutageBegan("connection refused", NOON - 10, NOON + 290),
    OutageEnded(120.5),
    Checking("hashing what was sent", 850 * PART),
    Checked("hashing what was sent", 250 * PART),
    CheckingDone("hashing what was sent"),
]
TREE: list[Event] = [
    TreeStarted(340, 8 * GIB, "photos"),
    FileFinished("2024/05/a.jpg", MIB),
    FileSkipped("2024/05/b.jpg", MIB, "the bucket has it with the same ETag"),
    FileFailed("2024/05/c.jpg", MIB, "permission denied"),
]


def documented() -> dict[str, str]:
    """Heading -> the example line under it."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^### `(\w+)`\n(?:.*\n)*?```json\n(.*)\n```$", page, re.MULTILINE)
    assert len(found) == page.count("\n### ")
    return dict(found)


def written() -> dict[str, str]:
    """Event -> the line that the code writes for the example."""
    lines = {}
    for example in EXAMPLES:
        feed = Feed().tell(STARTED)
        feed.tell(example, after=5.0)
        lines[event_name(type(example))] = feed.stream.writes[-1].rstrip("\n")
        lines["started"] = feed.stream.writes[0].rstrip("\n")
    for example in TREE:
        feed = Feed().tell(TreeStarted(1, 1), example)
        lines[event_name(type(example))] = feed.stream.writes[-1].rstrip("\n")
    feed = Feed().tell(STARTED, PartStarted(850, PART, 1))
    feed.take()
    feed.tell(PartProgress(850, PART, PART), after=1.0)
    lines["progress"] = feed.stream.getvalue().rstrip("\n")
    return lines


def test_the_page_has_every_event_and_no_other() -> None:
    assert set(documented()) == {event_name(kind) for kind in get_args(Event)}


@pytest.mark.parametrize("name", [event_name(kind) for kind in get_args(Event)])
def test_the_examples_on_the_page_are_what_is_written(name: str) -> None:
    assert documented()[name] == written()[name]


def test_the_page_names_every_field_that_is_no_plain_word() -> None:
    page = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    fields = {field for line in written().values() for field in json.loads(line) if "_" in field}
    assert {field for field in fields if f"`{field}`" not in page} == set()


def test_every_event_is_exported() -> None:
    assert {kind.__name__ for kind in get_args(Event)} <= set(events.__all__)
