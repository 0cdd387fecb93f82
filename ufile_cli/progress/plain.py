"""Progress for log files and pipes: a line now and then, each with its date and time.

No carriage returns, no escapes, nothing that a later reader of the log has to strip. It brings no
thread: lines are due when events come, and while bytes move those come often. Its lines go out on
the thread that brought the event; a reader that stops reading misses lines, and stops nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import IO

from ufile_cli.progress import text
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
    Paused,
    Started,
    TreeStarted,
)
from ufile_cli.progress.outlet import Outlet
from ufile_cli.progress.tally import Limiter, Row, Tally

__all__ = ["Plain"]

_OFTEN = 10.0  # seconds between two lines about the same thing, at least
_SELDOM = 60.0  # and at most, while bytes move
_STEP = 10  # per cent that are worth a line before that


class Plain:
    """A sink that writes lines to `stream`; also a context manager, for symmetry with the bars."""

    def __init__(
        self,
        stream: IO[str] | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        name: str = "",
        size: int | None = None,
    ) -> None:
        self._outlet = Outlet(stream)
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.RLock()  # re-entrant: a signal handler may bring an event
        self._tally = Tally(name, size)
        self._due = 0.0  # before that moment progress costs a worker no lock
        self._last = 0.0
        self._percent = 0
        self._failures = Limiter()
        self._skipped = Limiter()
        self._several = False
        self._outage_told = 0.0
        self._checked: dict[tuple[str, str], float] = {}
        self._checking: dict[tuple[str, str], Checking] = {}

    def __enter__(self) -> Plain:
        self._tally.expect(self._monotonic())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        try:
            now = self._monotonic()
            if type(event) is PartProgress:
                self._tally.progress(event)
                if now >= self._due and self._lock.acquire(blocking=False):
                    try:
                        self._now_and_then(now)
                    finally:
                        self._lock.release()
                return
            with self._lock:
                self._tally.fold(event, now)
                self._tell(event, now)
        except Exception:  # a display never ends an upload, not even by a bug of its own
            return

    # Lines

    def _line(self, words: str, upload: str = "") -> None:
        about = f"{text.printable(upload, self._outlet.encoding)}: " if upload else ""
        moment = datetime.fromtimestamp(self._wall()).strftime("%Y-%m-%d %H:%M:%S")
        self._outlet.write(f"{moment} {about}{words}\n")

    def _clean(self, words: str) -> str:
        return text.printable(words, self._outlet.encoding)

    def _now_and_then(self, now: float) -> None:
        self._due = now + 0.5  # speeds want samples more often than lines are due
        picture = self._tally.picture(now)
        row = picture.overall
        if row is None or row.state != "running" or now - self._last < _OFTEN:
            return
        if picture.outage is not None and not self._several:
            return  # it stands still, and that is told
        advanced = (row.percent or 0) - self._percent
        if advanced >= _STEP or now - self._last >= _SELDOM:
            self._line(f"{self._name(row)}: {_how_far(row)}")
            self._last, self._percent = now, row.percent or 0

    def _name(self, row: Row) -> str:
        return "standard input" if row.name == "-" else self._clean(row.name)

    def _tell(self, event: Event, now: float) -> None:
        match event:
            case Started():
                self._started(event, now)
            case TreeStarted(files=files, size=size, name=name):
                self._several = True
                self._last = now
                what = f"{self._clean(name)}: " if name else ""
                self._line(f"{what}{text.counted(files, 'file')}, {text.size(size)}")
            case PartFailed():
                self._part_failed(event, now)
            case OutageBegan(reason=reason, since=since, until=until, upload=upload):
                self._outage_told = now
                words = text.outage(self._clean(reason), since, until, self._wall())
                self._line(words, upload)
            case OutageEnded(seconds=seconds, upload=upload):
                self._line(f"something gets through again, after {text.clock(seconds)}", upload)
            case Checking(what=what, total=total, unit=unit, upload=upload):
                self._checked[upload, what] = now
                self._checking[upload, what] = event
                words = ""
                if total is not None:
                    words = ": "
                    words += text.size(total) if unit == "bytes" else text.counted(total, "part")
                self._line(f"{self._clean(what)}{words}", upload)
            case Checked(what=what, done=done, upload=upload):
                self._check_goes_on(upload, what, done, now)
            case CheckingDone(what=what, upload=upload):
                self._checked.pop((upload, what), None)
                if self._checking.pop((upload, what), None) is not None:
                    self._line(f"{self._clean(what)}: done", upload)
            case Finishing(parts=parts, upload=upload):
                if parts > 1:
                    self._line(f"finishing: putting {text.count(parts)} parts together", upload)
            case Notice(text=words, upload=upload):
                self._line(self._clean(words), upload)
            case Finished() | Paused() | Failed():
                self._ended(event, now)
            case FileSkipped(upload=upload, reason=reason):
                held = self._skipped.take(now)
                if held is not None:
                    self._line(f"skipped: {self._clean(reason)}{_left_out(held)}", upload)
            case FileFailed(upload=upload, reason=reason):
                self._line(f"failed: {self._clean(reason)}", upload)
                self._now_and_then(now)
            case FileFinished():
                self._now_and_then(now)
            case _:
                if now >= self._due:
                    self._now_and_then(now)

    def _started(self, event: Started, now: float) -> None:
        if self._several:
            return  # thousands of small files: the overall line is enough
        self._last = now
        row = self._tally.picture(now).overall
        if row is None:
            return
        self._percent = row.percent or 0
        place = self._clean(f"{event.bucket}/{event.key}")
        words = f"{self._name(row)} to {place}"
        if event.size is not None:
            words += f", {text.size(event.size)}"
        if event.parts is not None and event.parts > 1:
            words += f" in {text.count(event.parts)} parts"
        if event.resumed:
            words += f"; going on after {_so_far(row)}"
        self._line(words)

    def _part_failed(self, event: PartFailed, now: float) -> None:
        outage = self._tally.outage(event.upload)
        if outage is not None:
            # Which part is tried says nothing then; that it goes on is worth a line now and then.
            if now - self._outage_told >= _SELDOM:
                self._outage_told = now
                spent = text.clock(self._wall() - outage.since)
                words = f"still nothing gets through, for {spent}: {self._clean(event.reason)}"
                self._line(words, event.upload)
            return
        held = self._failures.take(now)
        if held is None:
            return
        number = event.number if self._tally.in_parts(event.upload) else None
        words = text.part_failed(
            number, event.attempt, event.attempts, event.reason, event.retry_in
        )
        self._line(self._clean(words) + _left_out(held), event.upload)

    def _check_goes_on(self, upload: str, what: str, done: int, now: float) -> None:
        last = self._checked.get((upload, what))
        check = self._checking.get((upload, what))
        if last is None or check is None or now - last < _OFTEN:
            return
        self._checked[upload, what] = now
        far = text.amount(done, check.total, check.unit, " of ")
        percent = f"{min(100, done * 100 // check.total)}%, " if check.total else ""
        self._line(f"{self._clean(what)}: {percent}{far}", upload)

    def _ended(self, event: Finished | Paused | Failed, now: float) -> None:
        row = self._tally.picture(now).overall
        if self._several or row is None:
            return  # FileFinished and the like tell about these
        spent = f" in {text.clock(row.elapsed)}"
        if row.rate is not None:
            spent += f", {text.rate(row.rate)}"
        if isinstance(event, Finished):
            self._line(f"{self._name(row)}: done, {text.size(event.size)}{spent}")
        elif row.name:  # why is for the command to say, in its own words on the same stream
            self._line(f"{self._name(row)}: {row.state} after {_so_far(row)}{spent}")


def _so_far(row: Row) -> str:
    percent = "" if row.percent is None else f"{row.percent}%, "
    return f"{percent}{text.amount(row.done, row.size, between=' of ')}"


def _how_far(row: Row) -> str:
    words = _so_far(row)
    if row.rate is not None:
        words += f", {text.rate(row.rate)}"
    return words if row.left is None else f"{words}, {text.clock(row.left)} left"


def _left_out(held: int) -> str:
    return f" ({text.count(held)} more like this left out)" if held else ""
