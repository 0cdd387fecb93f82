"""Progress for programs: one JSON object a line, as `docs/progress-events.md` describes.

Every event goes out as it comes, but for those that come thousands of times a second: bytes on
their way become one `progress` event a second, and a long check reports once a second. A line is
one write, pure ASCII, so that any reader can take it whatever the locale. Nothing else is ever
written to the stream. Lines are never dropped while somebody reads; a reader that goes away does
not end the upload.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any

from ufile_cli.progress.events import (
    Checked,
    CheckingDone,
    Event,
    Failed,
    Finished,
    Finishing,
    OutageBegan,
    PartProgress,
    Paused,
    Started,
    TreeStarted,
)
from ufile_cli.progress.outlet import Outlet
from ufile_cli.progress.tally import Picture, Tally

__all__ = ["JsonLines", "event_name", "rfc3339"]

_PERIOD = 1.0
_MOST_EARLY = 1000


def event_name(kind: type) -> str:
    """`PartSent` is `part_sent`; `PartProgress` goes out as `progress`, added up."""
    if kind is PartProgress:
        return "progress"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def rfc3339(epoch: float) -> str:
    """UTC, with milliseconds: `2024-05-01T12:03:10.123Z`."""
    moment = datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


class JsonLines:
    """A sink that writes JSON Lines to `stream`; a context manager too, as the bars are."""

    def __init__(
        self,
        stream: IO[str] | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._outlet = Outlet(stream)
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.RLock()  # re-entrant: a signal handler may bring an event
        self._tally = Tally()
        self._journals: dict[str, str | None] = {}
        self._due = 0.0  # before that moment progress costs a worker no lock
        self._told: tuple[int, int] = (-1, -1)
        self._checked = 0.0
        self._begun = False
        self._early: list[tuple[Event, float]] = []  # told before `started`, which comes first

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._lock:
                self._begin()
        except Exception:  # as below
            return

    def __call__(self, event: Event) -> None:
        try:
            now = self._monotonic()
            if type(event) is PartProgress:
                self._tally.progress(event)
                if now >= self._due and self._lock.acquire(blocking=False):
                    try:
                        self._progress(now)
                    finally:
                        self._lock.release()
                return
            with self._lock:
                self._tell(event, now)
        except Exception:  # a display never ends an upload, not even by a bug of its own
            return

    def _begin(self) -> None:
        """From here on nothing is held back."""
        self._begun = True
        early, self._early = self._early, []
        for event, epoch in early:
            self._say(event, epoch)

    def _tell(self, event: Event, now: float) -> None:
        if isinstance(event, Started | Finished | Paused | Failed):
            self._journals[event.upload] = event.journal_id
        if not self._begun and not isinstance(event, Started | TreeStarted):
            if not isinstance(event, Finished | Paused | Failed) and len(self._early) < _MOST_EARLY:
                self._tally.fold(event, now)
                self._early.append((event, self._wall()))
                return
            self._begin()  # it will not start any more
        if isinstance(event, Started | TreeStarted):
            self._due = max(self._due, now + _PERIOD)
        if isinstance(event, Checked) and now - self._checked < _PERIOD:
            self._tally.fold(event, now)
            return
        if isinstance(event, Checked | CheckingDone):
            self._checked = now
        if isinstance(event, Paused | Failed):
            self._progress(now)  # as far as it came, before what was in flight is dropped
        self._tally.fold(event, now)
        if now >= self._due or isinstance(event, Finishing | Finished):
            self._progress(now)
        self._say(event, self._wall())
        if not self._begun:
            self._begin()

    def _say(self, event: Event, epoch: float) -> None:
        values: dict[str, Any] = {
            name: value
            for name, value in zip(event._fields, event, strict=True)
            if name not in ("upload", "journal_id")
        }
        if isinstance(event, OutageBegan):
            values["since"] = rfc3339(event.since)
            values["until"] = None if event.until is None else rfc3339(event.until)
        self._write(event_name(type(event)), getattr(event, "upload", ""), values, epoch)

    def _progress(self, now: float) -> None:
        self._due = now + _PERIOD
        picture = self._tally.picture(now)
        if picture.overall is None or self._told == (picture.overall.done, picture.bytes_sent):
            return  # nothing new since the last one
        self._told = (picture.overall.done, picture.bytes_sent)
        self._write("progress", "", _numbers(picture), self._wall())

    def _write(self, name: str, upload: str, values: dict[str, Any], epoch: float) -> None:
        journal = self._journals.get(upload)
        if name == "progress" and len(self._journals) == 1:
            journal = next(iter(self._journals.values()))
        line: dict[str, Any] = {
            "event": name,
            "time": rfc3339(epoch),
            "journal_id": journal,
        }
        if upload:
            line["upload"] = upload
        self._outlet.write(json.dumps({**line, **values}, separators=(",", ":")) + "\n")


def _numbers(picture: Picture) -> dict[str, Any]:
    row = picture.overall
    if row is None:
        return {}
    return {
        "bytes_done": row.done,
        "size": row.size,
        "percent": row.percent,
        "bytes_sent": picture.bytes_sent,
        "rate": None if row.rate is None else round(row.rate),
        "seconds_left": None if row.left is None else round(row.left, 1),
        "parts_done": picture.parts_done,
        "parts": picture.parts,
        "parts_in_flight": picture.in_flight,
    }
