"""Folds events into what a display shows, once for all renderers.

It exists so that the arithmetic users complain about in such tools is in one place. Invariants:

- Bytes shown never exceed the size and never run backwards while an upload goes on: what a failed
  attempt had sent is taken back inside, the number shown waits until it is overtaken.
- 100 % is shown only when the server has acknowledged everything.
- Speed and time left come from the bytes handed to the network in this run alone, those of failed
  attempts included (that is what the line does); earlier runs and adopted parts are no speed.

It never prints and never reads a clock: `now` is an argument everywhere. It is not thread-safe but
for `progress`, which may be called from any thread at any time; renderers hold a lock for the rest.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Literal, NamedTuple

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

__all__ = ["Check", "Finish", "Lane", "Limiter", "Meter", "Picture", "Row", "State", "Tally"]

State = Literal["starting", "running", "interrupted", "finished", "paused", "failed"]

_WINDOW = 15.0  # seconds that a speed looks back
_SPACING = 0.25  # seconds between its samples
_FEWEST = 4  # samples kept however old: at 4 KB/s a block of 256 KiB comes once a minute
_STILL = 10.0  # seconds without a byte that are worth words
_LINGER = 0.7  # seconds a finished part stays in its line, so that lines do not jump up and down


class Row(NamedTuple):
    """One upload (or a whole directory) in one line.

    Attributes:
        done: bytes that are up or on their way, never more than `size`, never fewer than before.
        percent: None where the size is unknown; 100 only when everything is acknowledged.
        rate: bytes a second of this run, None while unknown; the run's average once it ended.
        left: seconds until everything is up at that rate, None while unknown.
        elapsed: seconds of this run; of a finished upload those that its result tells.
        still: seconds since the network took a byte, None where that is not long for this line.
    """

    name: str
    done: int
    size: int | None
    percent: int | None = None
    rate: float | None = None
    left: float | None = None
    elapsed: float = 0.0
    state: State = "running"
    still: float | None = None


class Lane(NamedTuple):
    """One part in flight, or waiting for its next attempt (`retry_in`, with `reason`)."""

    upload: str
    number: int
    sent: int
    size: int
    rate: float | None
    attempt: int
    attempts: int
    retry_in: float | None
    reason: str


class Check(NamedTuple):
    """A long step that sends nothing, as far as it has come."""

    upload: str
    what: str
    done: int
    total: int | None
    unit: str
    elapsed: float

    @property
    def percent(self) -> int | None:
        return None if not self.total else min(100, self.done * 100 // self.total)


class Finish(NamedTuple):
    """The server puts `parts` parts together since `elapsed` seconds."""

    upload: str
    parts: int
    elapsed: float


class Picture(NamedTuple):
    """All there is to show at one moment.

    Attributes:
        overall: None before anything began.
        lanes: parts on the wire, waiting for another attempt, or up since a moment ago; not those
            of an upload whose bytes don't get through.
        outage: the one that began first, where several uploads have one.
        stuck: parts that wait for an outage to end.
        bytes_sent: bytes handed to the network in this run, failed attempts included.
        in_flight: parts on the wire now.
        parts_done: None before anything began and for a directory; so is `parts`.
    """

    overall: Row | None
    lanes: tuple[Lane, ...]
    checks: tuple[Check, ...]
    finishes: tuple[Finish, ...]
    outage: OutageBegan | None
    bytes_sent: int
    in_flight: int
    parts_done: int | None
    parts: int | None
    stuck: int = 0


class Meter:
    """A windowed average speed that neither jumps with every block nor forgets a slow line."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, total: int) -> None:
        """`total` bytes were sent by now; call it as often as is convenient."""
        samples = self._samples
        if samples and (total <= samples[-1][1] or now - samples[-1][0] < _SPACING):
            return
        samples.append((now, total))
        while len(samples) > _FEWEST and samples[1][0] < now - _WINDOW:
            samples.popleft()

    def rate(self, now: float, total: int) -> float | None:
        """Bytes a second; None until something was sent for half a second; 0 when it stalls."""
        self.note(now, total)
        if len(self._samples) < 2 or now - self._samples[0][0] < 2 * _SPACING:
            return None
        if self.still(now, _WINDOW) is not None:
            return 0.0
        return (total - self._samples[0][1]) / (now - self._samples[0][0])

    def still(self, now: float, least: float) -> float | None:
        """Seconds since the last byte; None below `least`, or where such gaps are usual."""
        if not self._samples:
            return None
        times = [moment for moment, _ in self._samples]
        longest = max((after - before for before, after in pairwise(times)), default=0.0)
        gap = now - times[-1]
        return gap if gap > max(least, 3 * longest) else None


class Limiter:
    """Lets a few lines of a kind through and counts the others: `most` in any `period` seconds."""

    def __init__(self, most: int = 4, period: float = 10.0) -> None:
        self._most = most
        self._period = period
        self._passed: deque[float] = deque()
        self._held = 0

    def take(self, now: float) -> int | None:
        """None: hold this one back. Else it may pass, and so many were held back before it."""
        while self._passed and now - self._passed[0] >= self._period:
            self._passed.popleft()
        if len(self._passed) >= self._most:
            self._held += 1
            return None
        self._passed.append(now)
        held, self._held = self._held, 0
        return held


class _Slot:
    """A part in flight. Workers write `sent`, everything else is the coordinator's."""

    __slots__ = (
        "attempt", "attempts", "began", "ended", "number", "reason", "retry_at", "sent", "size",
        "upload",
    )  # fmt: skip

    def __init__(self, upload: str, number: int) -> None:
        self.upload = upload
        self.number = number
        self.size = 0
        self.sent = 0
        self.attempt = 1
        self.attempts = 1
        self.began = 0.0
        self.ended: float | None = None
        self.retry_at: float | None = None
        self.reason = ""

    def on_the_wire(self) -> int:
        return min(self.sent, self.size)


class _Upload:
    """What one upload has come to, apart from its parts in flight."""

    def __init__(self, event: Started, now: float, wire_before: int) -> None:
        self.name = event.name
        self.in_parts = event.block_size is not None
        self.size = event.size
        self.size_exact = event.size_exact
        self.up = event.bytes_done
        self.parts = event.parts
        self.parts_done = event.parts_done
        self.began = now
        self.wire_before = wire_before
        self.ended: float | None = None
        self.run: tuple[int, float] | None = None
        self.state: State = "running"
        self.checks: dict[str, tuple[Checking, int, float]] = {}
        self.finishing: tuple[int, float] | None = None

    def known_size(self) -> int | None:
        """The size, unless it was a guess that has turned out too small."""
        if self.size is not None and not self.size_exact and self.up > self.size:
            return None
        return self.size


class Tally:
    """The running total. See the module's docstring for what holds.

    Args:
        name: what a person calls the one source, known before the upload has `Started`: until the
            server has answered there is something to show.
        size: its bytes, None where unknown.
    """

    def __init__(self, name: str = "", size: int | None = None) -> None:
        self._expected = Started(None, "", "", name, size, None, None)
        self._slots: dict[tuple[str, int], _Slot] = {}
        self._lanes: list[_Slot] = []
        self._vacant = 0  # lines whose part has ended
        self._uploads: dict[str, _Upload] = {}
        self._latest: _Upload | None = None
        self._outages: dict[str, OutageBegan] = {}
        self._meter = Meter()
        self._wire = 0  # bytes of ended attempts of this run, failed ones included
        self._most_wire = 0
        self._held = 0
        self._tree: TreeStarted | None = None
        self._tree_began = 0.0
        self._tree_ended: float | None = None
        self._settled = 0  # bytes of files of the tree that are done or were skipped
        self._lost = 0  # bytes of files of the tree that failed
        self._files_done = 0
        self._files_failed = 0

    def progress(self, event: PartProgress) -> None:
        """A worker's block: one look-up and one store, safe from any thread."""
        slot = self._slots.get((event.upload, event.number))
        if slot is not None:
            slot.sent = event.sent

    def fold(self, event: Event, now: float) -> None:
        """Take any event in; those without a number in them change nothing."""
        match event:
            case PartProgress():
                self.progress(event)
            case PartStarted():
                self._part_started(event, now)
            case PartSent(number=number, size=size, upload=upload):
                self._part_ended(upload, number, now, size)
                self._wire += size
                self._part_is_up(upload, size)
            case PartAdopted(number=number, size=size, upload=upload):
                self._part_ended(upload, number, now, None)
                self._part_is_up(upload, size)
            case PartLost(size=size, upload=upload):
                self._part_is_up(upload, -size)
            case PartFailed():
                self._part_failed(event, now)
            case Started(upload=upload):
                self._started(upload, event, now)
            case SizeKnown(size=size, parts=parts, upload=upload):
                if known := self._uploads.get(upload):
                    known.size, known.size_exact, known.parts = size, True, parts
            case Checking(what=what, upload=upload):
                self._upload(upload, now).checks[what] = (event, 0, now)
            case Checked(what=what, done=done, upload=upload):
                checks = self._upload(upload, now).checks
                if what in checks:
                    checks[what] = (checks[what][0], done, checks[what][2])
            case CheckingDone(what=what, upload=upload):
                self._upload(upload, now).checks.pop(what, None)
            case Finishing(parts=parts, upload=upload):
                self._upload(upload, now).finishing = (parts, now)
            case OutageBegan(upload=upload):
                self._outages[upload] = event
            case OutageEnded(upload=upload):
                self._outages.pop(upload, None)
                self._drop_waiting(upload)
            case Finished(size=size, upload=upload):
                self._ended(upload, now, "finished")
                ended = self._upload(upload, now)
                ended.up = ended.size = size
                ended.run = (event.bytes_sent, event.seconds)
            case Paused(upload=upload):
                self._ended(upload, now, "paused")
            case Failed(upload=upload):
                self._ended(upload, now, "failed")
            case TreeStarted():
                self._tree, self._tree_began = event, now
                self._meter.note(now, self._wire)
            case FileFinished() | FileSkipped() | FileFailed():
                self._file_ended(event, now)
            case _:
                pass

    # Uploads

    def _upload(self, upload: str, now: float) -> _Upload:
        """The upload of that name; the expected one where the engine has not said `Started` yet."""
        if upload not in self._uploads:
            expected = self._expected
            if upload:
                expected = expected._replace(name=upload, size=None)
            self._started(upload, expected, now)
        return self._uploads[upload]

    def expect(self, now: float) -> None:
        """From now on the upload whose name is known is shown as one that starts."""
        if self._latest is None and self._tree is None and self._expected.name:
            self._upload("", now).state = "starting"

    def _started(self, upload: str, event: Started, now: float) -> None:
        self._drop_slots(upload)
        self._uploads[upload] = self._latest = _Upload(event, now, self._wire)
        if self._tree is None:
            self._held = 0
        self._meter.note(now, self._on_the_wire())

    def _ended(self, upload: str, now: float, state: State) -> None:
        ended = self._upload(upload, now)
        self._drop_slots(upload)
        self._outages.pop(upload, None)
        ended.state, ended.ended = state, now
        ended.checks.clear()
        ended.finishing = None

    def _file_ended(self, event: FileFinished | FileSkipped | FileFailed, now: float) -> None:
        self._drop_slots(event.upload)
        self._outages.pop(event.upload, None)
        self._uploads.pop(event.upload, None)
        if isinstance(event, FileFailed):
            self._files_failed += 1
            self._lost += event.size
        else:
            self._files_done += 1
            self._settled += event.size
        if self._tree and self._files_done + self._files_failed >= self._tree.files:
            self._tree_ended = now

    # Parts

    def _part_started(self, event: PartStarted, now: float) -> None:
        key = (event.upload, event.number)
        slot = self._slots.get(key)
        if slot is None:
            slot = _Slot(*key)
            self._take_lane(slot)
        else:
            self._wire += slot.on_the_wire()
        slot.size, slot.sent, slot.attempt = event.size, 0, event.attempt
        slot.began, slot.retry_at, slot.reason = now, None, ""
        self._slots[key] = slot

    def _part_failed(self, event: PartFailed, now: float) -> None:
        slot = self._slots.get((event.upload, event.number))
        if slot is None:
            return
        if event.retry_in is None:
            self._part_ended(event.upload, event.number, now, None)
            return
        self._wire += slot.on_the_wire()
        slot.sent = 0
        slot.attempt, slot.attempts = event.attempt, event.attempts
        slot.retry_at, slot.reason = now + event.retry_in, event.reason

    def _part_ended(self, upload: str, number: int, now: float, sent: int | None) -> None:
        """Its line shows it for a moment more if it was sent, and goes at once if not."""
        slot = self._slots.pop((upload, number), None)
        if slot is not None:
            if sent is None:
                self._wire += slot.on_the_wire()
            slot.ended = now if sent is not None else now - _LINGER
            slot.sent = slot.size = sent or 0
            self._vacant += 1

    def _part_is_up(self, upload: str, size: int) -> None:
        """One more part, or with a negative size one fewer."""
        known = self._uploads.get(upload)
        if known is not None:
            known.up = max(0, known.up + size)
            known.parts_done = max(0, known.parts_done + (1 if size >= 0 else -1))

    def _take_lane(self, slot: _Slot) -> None:
        """The first line that is free, so that parts stay where they are when others end."""
        if not self._vacant:  # in an outage thousands of parts may wait: no search for each
            self._lanes.append(slot)
            return
        for index, taken in enumerate(self._lanes):
            if taken.ended is not None:
                self._lanes[index] = slot
                self._vacant -= 1
                return

    def _drop_slots(self, upload: str) -> None:
        for key in [key for key in self._slots if key[0] == upload]:
            self._wire += self._slots.pop(key).on_the_wire()
        self._keep_lanes([slot for slot in self._lanes if slot.upload != upload])

    def _drop_waiting(self, upload: str) -> None:
        """They go on the wire one after another now, and come back as they do."""
        for key, slot in list(self._slots.items()):
            if slot.upload == upload and slot.retry_at is not None:
                del self._slots[key]
        self._keep_lanes(
            [slot for slot in self._lanes if slot.upload != upload or slot.retry_at is None]
        )

    def _keep_lanes(self, lanes: list[_Slot]) -> None:
        self._lanes = lanes
        self._vacant = sum(slot.ended is not None for slot in lanes)

    # The picture

    def outage(self, upload: str) -> OutageBegan | None:
        """The outage that this upload has now."""
        return self._outages.get(upload)

    def in_parts(self, upload: str) -> bool:
        """Whether it goes up in parts, as far as is known; small content goes in one request."""
        known = self._uploads.get(upload)
        return known is None or known.in_parts

    def _on_the_wire(self) -> int:
        """All of this run; a body begun anew within an attempt does not make it fewer."""
        wire = self._wire + sum(slot.on_the_wire() for slot in self._slots.values())
        self._most_wire = max(self._most_wire, wire)
        return self._most_wire

    def picture(self, now: float) -> Picture:
        """What to show now."""
        self.expect(now)
        wire = self._on_the_wire()
        rate = self._meter.rate(now, wire)
        tree, latest = self._tree, self._latest
        row = self._tree_row(tree, now, rate) if tree else self._single_row(now, rate)
        if row is not None and self._outages:
            row = row._replace(left=None)  # who knows
        in_flight = sum(slot.retry_at is None for slot in self._slots.values())
        if row is not None and in_flight and not self._outages and row.state == "running":
            row = row._replace(still=self._meter.still(now, _STILL))
        return Picture(
            overall=row,
            lanes=tuple(
                _lane(slot, now)
                for slot in self._lanes
                if (slot.ended is None or now - slot.ended < _LINGER)
                and slot.upload not in self._outages
                # What goes up in one request is its own only part: one line is enough.
                and (tree or slot.retry_at is not None or self.in_parts(slot.upload))
            ),
            checks=tuple(
                Check(name, what, done, check.total, check.unit, now - began)
                for name, upload in self._uploads.items()
                for what, (check, done, began) in upload.checks.items()
            ),
            finishes=tuple(
                Finish(name, upload.finishing[0], now - upload.finishing[1])
                for name, upload in self._uploads.items()
                if upload.finishing is not None
            ),
            outage=min(self._outages.values(), key=lambda each: each.since, default=None),
            bytes_sent=wire,
            in_flight=in_flight,
            parts_done=latest.parts_done if latest and not tree else None,
            parts=latest.parts if latest and not tree else None,
            stuck=sum(slot.upload in self._outages for slot in self._slots.values()),
        )

    def _single_row(self, now: float, rate: float | None) -> Row | None:
        upload = self._latest
        if upload is None:
            return None
        size = upload.known_size()
        raw = upload.up + sum(
            slot.on_the_wire()
            for slot in self._slots.values()
            if self._uploads.get(slot.upload) is upload
        )
        ended = upload.ended
        elapsed = (now if ended is None else ended) - upload.began
        if upload.run is not None:  # as the summary has it, so that two lines don't differ
            sent, elapsed = upload.run
            rate = _average(sent, elapsed)
        elif ended is not None:
            rate = _average(self._wire - upload.wire_before, elapsed)
        return Row(
            name=upload.name,
            done=self._show(raw, size) if ended is None else _at_most(upload.up, size),
            size=size,
            percent=self._percent(size, upload.up, upload.state),
            rate=rate,
            left=_left(size, raw, rate) if ended is None else None,
            elapsed=elapsed,
            state=upload.state,
        )

    def _tree_row(self, tree: TreeStarted, now: float, rate: float | None) -> Row:
        up = self._settled + sum(upload.up for upload in self._uploads.values())
        raw = up + sum(slot.on_the_wire() for slot in self._slots.values())
        ended = self._tree_ended
        elapsed = (now if ended is None else ended) - self._tree_began
        state: State = (
            "running" if ended is None else "failed" if self._files_failed else "finished"
        )
        files = f"{text.count(self._files_done)}/{text.count(tree.files)}"
        failed = text.count(self._files_failed)
        return Row(
            name=f"{files}, {failed} failed" if self._files_failed else f"files {files}",
            done=self._show(raw, tree.size) if ended is None else _at_most(up, tree.size),
            size=tree.size,
            percent=self._percent(tree.size, up, state),
            rate=rate if ended is None else _average(self._wire, elapsed),
            left=_left(tree.size - self._lost, raw, rate) if ended is None else None,
            elapsed=elapsed,
            state=state,
        )

    def _show(self, raw: int, size: int | None) -> int:
        """Hold what was shown until it is overtaken; never more than there is."""
        self._held = max(self._held, _at_most(raw, size))
        return _at_most(self._held, size)

    def _percent(self, size: int | None, up: int, state: State) -> int | None:
        """Of what is shown while it goes on, of what is up once it ended; rounded down."""
        if size is None:
            return None
        if state == "finished" or (size and up >= size):
            return 100
        shown = self._held if state == "running" else up
        return min(99, shown * 100 // size) if size else 0


def _at_most(number: int, limit: int | None) -> int:
    return number if limit is None else min(number, limit)


def _average(total: int, seconds: float) -> float | None:
    return total / seconds if total and seconds > 0 else None


def _left(size: int | None, done: int, rate: float | None) -> float | None:
    return max(0, size - done) / rate if size is not None and rate else None


def _lane(slot: _Slot, now: float) -> Lane:
    """As it is now. Its speed is this attempt's average: a part is short."""
    seconds = (now if slot.ended is None else slot.ended) - slot.began
    waiting = slot.retry_at is not None
    return Lane(
        upload=slot.upload,
        number=slot.number,
        sent=slot.on_the_wire(),
        size=slot.size,
        rate=None if waiting or seconds < _SPACING else slot.on_the_wire() / seconds,
        attempt=slot.attempt,
        attempts=slot.attempts,
        retry_in=None if slot.retry_at is None else max(0.0, slot.retry_at - now),
        reason=slot.reason,
    )
