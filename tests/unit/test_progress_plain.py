"""What a log file gets: few lines, dated, without anything a terminal would need."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import cast

import pytest

from ufile_cli.progress.choose import MODES, Mode, Silent, open_renderer
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
    PartFailed,
    PartProgress,
    PartSent,
    PartStarted,
    Paused,
    Started,
    TreeStarted,
)
from ufile_cli.progress.jsonlines import JsonLines
from ufile_cli.progress.outlet import Outlet
from ufile_cli.progress.plain import Plain

MIB = 1 << 20
PART = 4 * MIB
NOON = 1714564800.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Log:
    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.plain = Plain(self.stream, monotonic=lambda: self.now, wall=lambda: NOON + self.now)

    def tell(self, *events: Event, after: float = 0.0) -> Log:
        self.now += after
        for event in events:
            self.plain(event)
        return self

    @property
    def lines(self) -> list[str]:
        assert not re.search(r"[\r\x1b]", self.stream.getvalue())
        lines = self.stream.getvalue().splitlines()
        assert all(re.match(r"2024-05-01 1\d:\d\d:\d\d ", line) for line in lines)
        return [line[11:] for line in lines]


def started(name: str = "dump.tar", parts: int = 100, done: int = 0) -> Started:
    return Started(
        "id", "bucket", "key", name, parts * PART, PART, parts, done * PART, done, 4, done > 0
    )


def test_a_whole_upload() -> None:
    log = Log().tell(started(done=40))
    for number in range(40, 100):
        log.tell(PartStarted(number, PART, 1), PartProgress(number, 2 * MIB, PART), after=0.5)
        log.tell(PartProgress(number, PART, PART), PartSent(number, PART, "e"), after=0.5)
    log.tell(Finishing(100))
    log.tell(Finished("id", "bucket", "key", 100 * PART, "e", "etag", 60 * PART, 62.5), after=2.0)
    assert log.lines == [
        "12:00:00 dump.tar to bucket/key, 400 MiB in 100 parts; going on after 40%, 160 of 400 MiB",
        "12:00:10 dump.tar: 50%, 200 of 400 MiB, 4.00 MiB/s, 0:50 left",
        "12:00:20 dump.tar: 60%, 240 of 400 MiB, 4.00 MiB/s, 0:40 left",
        "12:00:30 dump.tar: 70%, 280 of 400 MiB, 4.00 MiB/s, 0:30 left",
        "12:00:40 dump.tar: 80%, 320 of 400 MiB, 4.00 MiB/s, 0:20 left",
        "12:00:50 dump.tar: 90%, 360 of 400 MiB, 4.00 MiB/s, 0:10 left",
        "12:01:00 finishing: putting 100 parts together",
        "12:01:02 dump.tar: done, 400 MiB in 1:02, 3.84 MiB/s",
    ]


def test_a_long_upload_says_something_once_a_minute() -> None:
    log = Log().tell(started(parts=100000), PartStarted(0, PART, 1))
    for second in range(1, 601):
        log.tell(PartProgress(0, second * 1000, PART), after=1.0)
    assert len(log.lines) == 11


def test_a_quick_upload_is_two_lines() -> None:
    log = Log().tell(started(parts=1), PartStarted(0, PART, 1), PartProgress(0, PART, PART))
    log.tell(PartSent(0, PART, "e"), Finishing(1))
    log.tell(Finished("id", "bucket", "key", PART, "e", "etag", PART, 1.0), after=1.0)
    assert log.lines == [
        "12:00:00 dump.tar to bucket/key, 4.00 MiB",
        "12:00:01 dump.tar: done, 4.00 MiB in 0:01, 4.00 MiB/s",
    ]


def test_trouble() -> None:
    log = Log().tell(started(), PartStarted(7, PART, 1))
    log.tell(*(PartFailed(7, 1, 3, "connection reset", 5.0) for _ in range(10)))
    log.tell(OutageBegan("connection refused", NOON - 5, NOON + 295), after=1.0)
    log.tell(OutageEnded(66.0), after=60.0)
    log.tell(PartFailed(7, 3, 3, "connection reset", None), Notice("a\x1b[2Jb"))
    log.tell(Paused("no network", "id"), after=1.0)
    assert log.lines[1:] == [
        *["12:00:00 part 7, attempt 1 of 3: connection reset; again in 5 s"] * 4,
        "12:00:01 nothing gets through since 11:59:55 (connection refused); "
        "trying again one part at a time, pausing at 12:04:55",
        "12:01:01 something gets through again, after 1:06",
        "12:01:01 part 7, attempt 3 of 3: connection reset (6 more like this left out)",
        "12:01:01 a\\x1b[2Jb",
        "12:01:02 dump.tar: paused after 0%, 0 of 400 MiB in 1:02",
    ]


def test_an_outage_is_told_once_and_then_now_and_then() -> None:
    log = Log().tell(started(), *(PartStarted(number, PART, 1) for number in range(8)))
    log.tell(OutageBegan("refused", NOON, None))
    for second in range(150):
        log.tell(PartStarted(second % 8, PART, 4), after=1.0)
        log.tell(PartFailed(second % 8, 4, 3, "refused", 7.0))
    log.tell(PartFailed(7, 5, 3, "refused", None), OutageEnded(150.0))
    assert log.lines[1:] == [
        "12:00:00 nothing gets through since 12:00:00 (refused); trying again one part at a time",
        "12:01:00 still nothing gets through, for 1:00: refused",
        "12:02:00 still nothing gets through, for 2:00: refused",
        "12:02:30 something gets through again, after 2:30",
    ]


def test_long_steps() -> None:
    log = Log().tell(started(), Checking("hashing what was sent", 1000 * MIB))
    for second in range(25):
        log.tell(Checked("hashing what was sent", second * 40 * MIB), after=1.0)
    log.tell(CheckingDone("hashing what was sent"), CheckingDone("unheard of"))
    log.tell(Checking("listing parts", 5000, "parts"), Checking("comparing", None))
    assert log.lines[1:] == [
        "12:00:00 hashing what was sent: 0.98 GiB",
        "12:00:10 hashing what was sent: 36%, 0.35 of 0.98 GiB",
        "12:00:20 hashing what was sent: 76%, 0.74 of 0.98 GiB",
        "12:00:25 hashing what was sent: done",
        "12:00:25 listing parts: 5,000 parts",
        "12:00:25 comparing",
    ]


def test_a_directory() -> None:
    log = Log().tell(TreeStarted(40, 40 * MIB, "photos"))
    for number in range(20):
        log.tell(
            Started("j", "b", "k", f"{number}.jpg", MIB, None, 1, upload=f"{number}.jpg"),
            Finished("j", "b", "k", MIB, "e", "etag", MIB, 1.0, upload=f"{number}.jpg"),
            FileFinished(f"{number}.jpg", MIB),
            after=1.0,
        )
    log.tell(*(FileSkipped(f"s{number}", MIB, "same ETag") for number in range(10)))
    log.tell(FileFailed("x\n", MIB, "permission denied"))
    assert log.lines == [
        "12:00:00 photos: 40 files, 40.0 MiB",
        "12:00:10 files 10/40: 25%, 10.0 of 40.0 MiB",
        "12:00:20 files 20/40: 50%, 20.0 of 40.0 MiB",
        *[f"12:00:20 s{number}: skipped: same ETag" for number in range(4)],
        "12:00:20 x\\n: failed: permission denied",
    ]


def test_names_that_the_stream_cannot_encode_are_escaped() -> None:
    raw = io.BytesIO()
    plain = Plain(io.TextIOWrapper(raw, "ascii", write_through=True), wall=lambda: NOON)
    plain(started("数据.tar"))
    plain(Notice("café"))
    assert b"\\u6570\\u636e.tar to" in raw.getvalue()
    assert b"caf\\xe9" in raw.getvalue()


def test_what_the_server_never_answered_has_a_name_too() -> None:
    stream, now = io.StringIO(), 0.0
    with Plain(stream, monotonic=lambda: now, wall=lambda: NOON, name="a.tar", size=MIB) as plain:
        now = 15.0
        plain(Paused("connection refused", "id"))
    assert stream.getvalue().endswith("a.tar: paused after 0%, 0.00 of 1.00 MiB in 0:15\n")


def test_standard_input_has_a_name() -> None:
    log = Log().tell(Started("id", "b", "k", "-", None, PART, None))
    log.tell(Failed("x", "id", 1), after=3.0)
    assert log.lines == [
        "12:00:00 standard input to b/k",
        "12:00:03 standard input: failed after 0 B in 0:03",
    ]


@pytest.mark.parametrize("kind", [Plain, JsonLines])
def test_a_closed_pipe_does_not_stop_anything(kind: type[Plain] | type[JsonLines]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with kind(stream) as sink:
        sink(started())
        sink(Notice("x"))
        assert sink._outlet.gone
    stream.close()


@pytest.mark.parametrize("kind", [Plain, JsonLines])
def test_nothing_an_event_holds_can_raise(kind: type[Plain] | type[JsonLines]) -> None:
    with kind(io.StringIO()) as sink:
        sink(cast(Event, object()))
        sink(Started(None, "b", "k", cast(str, 5), cast(int, "x"), None, None))


def test_writes_of_a_line_are_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        outlet = Outlet(stream)
        assert outlet.write("数\udce9\n")
    with os.fdopen(reading, "rb") as back:
        assert back.read() == "数".encode() + b"\\udce9\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes can't be asked there")
def test_a_reader_that_stops_reading_misses_what_has_no_room() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        outlet = Outlet(stream, patience=0)
        said = [f"{number}\n" * 5000 for number in range(100)]
        out = list(map(outlet.write, said))
        assert True in out and False in out and not outlet.gone
        begun = out.index(False)
        got = b""
        while outlet.ready() is False or not outlet.write("the end\n"):
            got += os.read(reading, 4096)
    with os.fdopen(reading, "rb") as back:
        got += back.read()
    # What had gone out in part is whole, unless nothing of it had; what came later is missing.
    whole = "".join(said[:begun])
    assert got.decode() in (f"{whole}the end\n", f"{whole}{said[begun]}the end\n")


def test_a_closed_stream_is_gone() -> None:
    stream = io.StringIO()
    stream.close()
    outlet = Outlet(stream)
    assert not outlet.write("x")
    assert outlet.gone
    assert Outlet(None).gone


# The choice


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("mode", "stream", "term", "name"),
    [
        ("auto", Terminal(), "xterm", "Bars"),
        ("auto", io.StringIO(), "xterm", "Plain"),
        ("auto", Terminal(), "dumb", "Plain"),
        ("bars", Terminal(), "xterm", "Bars"),
        ("bars", io.StringIO(), "xterm", "Plain"),
        ("plain", Terminal(), "xterm", "Plain"),
        ("json", Terminal(), "xterm", "JsonLines"),
        ("none", Terminal(), "xterm", "Silent"),
        ("json", None, "xterm", "Silent"),
    ],
)
def test_which_renderer(
    mode: Mode,
    stream: io.StringIO | None,
    term: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(open_renderer(mode, stream=stream)).__name__ == name


@pytest.mark.parametrize("mode", MODES)
def test_quiet_is_stronger_than_any_mode(mode: Mode) -> None:
    with open_renderer(mode, stream=Terminal(), quiet=True) as sink:
        sink(started())
    assert isinstance(sink, Silent)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="colourful"):
        open_renderer(cast(Mode, "colourful"), stream=None)


def test_nobody_pays_for_rich_without_bars() -> None:
    program = (
        "import io, sys\n"
        "from ufile_cli.progress.choose import open_renderer\n"
        "for mode in ('plain', 'json', 'none', 'auto'):\n"
        "    open_renderer(mode, stream=io.StringIO())\n"
        "print(any(name.split('.')[0] == 'rich' for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("mode", ["plain", "json"])
def test_a_reader_that_leaves_does_not_change_the_exit_code(mode: str) -> None:
    """What stays in a buffer of Python's would fail once more at exit, and make it 120."""
    program = (
        "import sys\n"
        "from ufile_cli.progress.choose import open_renderer\n"
        "from ufile_cli.progress.events import Notice\n"
        f"with open_renderer({mode!r}, stream=sys.stderr) as sink:\n"
        "    for _ in range(1000): sink(Notice('x' * 1000))\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stderr=writing)
    os.close(writing)
    assert done.returncode == 0
