"""Progress for a person at a terminal: one bar for the whole, one for each part in flight.

The rules, which everything below obeys:

- Workers pay one look-up and one store for a block (`Tally.progress`); the coordinator pays one
  short lock. Only the drawing thread writes, ten times a second, so that a terminal stopped with
  Ctrl-S, slow, or gone never holds up a byte.
- A frame is one write and is drawn over the last one in place: no flicker, and whoever is killed
  in the middle leaves a whole picture with the cursor below it. The cursor is never hidden and
  no mode of the terminal is ever changed, so there is nothing to put back.
- The picture is never taller or wider than the terminal. Names are shown escaped, never as markup.
- In the background (`bg`, `&`) nothing is drawn; back in the foreground the picture starts anew
  below what was printed meanwhile.
- On the way out the bars of the parts vanish, the overall bar stays as one line.

rich is imported here and nowhere else in `progress`: it knows the terminal's size, colours and
encoding (NO_COLOR, TERM) and turns styled text into escape sequences. `rich.live` and
`rich.progress` are left alone: they write under a lock that the upload would share, and answer a
closed pipe by replacing standard output and raising SystemExit.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from ufile_cli.progress import text
from ufile_cli.progress.events import (
    Event,
    FileFailed,
    FileSkipped,
    Notice,
    OutageEnded,
    PartFailed,
    PartProgress,
    Started,
)
from ufile_cli.progress.outlet import Outlet
from ufile_cli.progress.tally import Check, Finish, Lane, Limiter, Picture, Row, Tally

__all__ = ["Bars", "Canvas", "Rows"]

_PER_SECOND = 10.0
_MOST_LANES = 16
_MOST_WAITING = 4  # of these that wait for another attempt
_MOST_ABOVE = 1000  # lines waiting for a terminal that does not take any
_ASLEEP = 1.5  # a pause between frames that only a stopped process makes

_PERCENT = 4
_RATE = 10
_TIME = 13
_LEAST_BAR = 8
_MOST_BAR = 40
_MOST_NAME = 48
_INDENT = "  "

_GOING_ON = ("starting", "running")
_STATE_STYLES = {
    "starting": "cyan",
    "running": "cyan",
    "interrupted": "yellow",
    "finished": "green",
    "paused": "yellow",
    "failed": "red",
}
_STATE_WORDS = {
    "starting": "stopped",
    "running": "stopped",
    "interrupted": "interrupted",
    "finished": "in",
    "paused": "paused",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class _Signs:
    """What the terminal's encoding can show."""

    full: str = "━"
    half: str = "╸"
    empty: str = "─"
    ellipsis: str = "…"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    encoding: str = "utf-8"

    @classmethod
    def of(cls, encoding: str) -> _Signs:
        if encoding.lower().replace("-", "").startswith("utf"):
            return cls()
        return cls("=", "", "-", "...", "-\\|/", encoding)


@dataclass(frozen=True, slots=True)
class _Columns:
    """How a picture of a width is divided; `narrow` puts the numbers under name and bar."""

    width: int
    name: int
    bar: int
    amount: int
    narrow: bool

    @classmethod
    def of(cls, width: int, names: Sequence[int], amount: int) -> _Columns:
        """For names of such widths, of which the first matters most, and the widest amount."""
        amount = max(amount, len("1023 MiB"))
        room = width - (_PERCENT + amount + _RATE + _TIME + 8)
        narrow = room < 10 + _LEAST_BAR
        if narrow:
            room = width - _PERCENT - 2
        spare = _RATE + 5 if narrow else _LEAST_BAR  # a part has bar and speed beside its name
        fair = max(18, room * 55 // 100, min(20, names[0]))
        name = max(6, min(max(names), _MOST_NAME, room - spare, fair))
        return cls(width, name, max(0, min(_MOST_BAR, room - name)), amount, narrow)


class Rows:
    """A renderable: uploads, each as its overall bar, in columns that line up.

    For `status --watch` and whoever else shows several. Two lines each where the width is below
    about 66 columns.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _row_lines(self._rows, options.max_width - 1, _Signs.of(options.encoding))


class Canvas:
    """The last lines of a terminal, drawn again and again in place, with others above them.

    Not thread-safe: one thread draws. On what is no terminal, or a dumb one, only the lines
    above go out, and the picture once, at the end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._outlet = Outlet(console.file)
        self._widths: list[int] = []
        self._drawn_at = 0

    @property
    def gone(self) -> bool:
        """Whether the terminal went away; drawing does nothing from then on."""
        return self._outlet.gone

    @property
    def moves(self) -> bool:
        """Whether the cursor of this terminal can go up."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    @property
    def signs(self) -> _Signs:
        return _Signs.of(self._console.encoding)

    @property
    def size(self) -> tuple[int, int]:
        """Columns that may be used (the last is left free: some terminals wrap there), and rows."""
        width, height = self._console.size
        return max(1, width - 1), height

    def rows(self, rows: Sequence[Row]) -> list[Text]:
        """The lines to draw for several uploads; see `Rows`."""
        return _row_lines(rows, self.size[0], self.signs)

    def in_front(self) -> bool:
        """Whether this process may draw: it is in the foreground, or there is no job control."""
        if self._outlet.fd is None:
            return True
        try:
            return os.tcgetpgrp(self._outlet.fd) == os.getpgrp()
        except (OSError, AttributeError):
            return True

    def ready(self) -> bool:
        """Whether the terminal takes something; after Ctrl-S it does not."""
        return self._outlet.ready()

    def forget(self) -> None:
        """The picture on the screen is no longer where it was: draw the next one below."""
        self._widths = []

    def draw(
        self, lines: Sequence[Text], above: Sequence[Text] = (), *, last: bool = False
    ) -> None:
        """Replace the picture by `lines`, and put `above` over it for good."""
        if not self.moves:
            lines = lines if last else ()
            if not lines and not above:
                return
        lines = [self._cut(line) for line in lines]
        ansi = self._rendered([*above, *lines])
        if not self.moves:
            self._outlet.write("".join(f"{line}\n" for line in ansi))
            return
        up = self._height()
        start = f"\r\x1b[{up}A" if up else "\r"
        if self._drawn_at != self.size[0]:
            start += "\x1b[J"  # else the terminal goes on taking broken lines for one
            self._drawn_at = self.size[0]
        body = "".join(f"{line}\x1b[K\n" for line in ansi)
        if self._outlet.write(f"{start}{body}\x1b[J"):
            self._widths = [text.columns(line.plain) for line in lines]
        else:
            self.forget()

    def _cut(self, line: Text) -> Text:
        """A line that would wrap breaks the picture: better poorer in a very narrow terminal."""
        width = self.size[0]
        return line if text.columns(line.plain) <= width else Text(text.clip(line.plain, width))

    def _height(self) -> int:
        """Rows the last picture takes now: a terminal made narrower has broken its lines."""
        width = max(1, self._console.size.width)
        return sum(max(1, -(-each // width)) for each in self._widths)

    def _rendered(self, lines: Sequence[Text]) -> list[str]:
        """Each line with its colours as this terminal wants them.

        By hand, since `Console.capture` touches the file, and so meets a closed pipe.
        """
        system = COLOR_SYSTEMS.get(self._console.color_system or "")
        rendered = []
        for line in lines:
            segments: Iterable[Segment] = line.render(self._console)
            if self._console.no_color:
                segments = Segment.remove_color(segments)
            rendered.append(
                "".join(
                    style.render(words, color_system=system) if style and system else words
                    for words, style, _ in segments
                )
            )
        return rendered


class Bars:
    """A sink that draws on `console` (standard error's) from entering to leaving the context.

    Args:
        auto_refresh: False where the caller calls `draw` itself.
        name, size: what is known of the one upload before it starts, as for `Tally`.
    """

    def __init__(
        self,
        console: Console,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        auto_refresh: bool = True,
        name: str = "",
        size: int | None = None,
    ) -> None:
        self._canvas = Canvas(console)
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.RLock()  # re-entrant: a signal handler may bring an event
        self._tally = Tally(name, size)
        self._above: deque[Text] = deque(maxlen=_MOST_ABOVE)
        self._lost = 0  # lines that had no room there
        self._failures = Limiter()
        self._skipped = Limiter()
        self._away = False
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None
        if auto_refresh:
            self._thread = threading.Thread(target=self._run, name="ufile-bars", daemon=True)

    @classmethod
    def on(
        cls,
        stream: IO[str],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        name: str = "",
        size: int | None = None,
    ) -> Bars:
        """Bars on a stream that is known to be a terminal."""
        console = Console(file=stream, force_terminal=True)
        return cls(console, monotonic=monotonic, wall=wall, name=name, size=size)

    # Taking events

    def __call__(self, event: Event) -> None:
        if type(event) is PartProgress:
            self._tally.progress(event)
            return
        try:
            now = self._monotonic()
            with self._lock:
                if isinstance(event, Started):
                    self._keep_ended(now)
                self._tally.fold(event, now)
                self._say(event, now)
        except Exception:  # a display never ends an upload, not even by a bug of its own
            return

    def _keep_ended(self, now: float) -> None:
        """Another upload begins: the line of the one before stays above."""
        row = self._tally.picture(now).overall
        if row is not None and row.state not in _GOING_ON:
            for line in _row_lines([row], self._canvas.size[0], self._canvas.signs):
                self._put_above(line)

    def _say(self, event: Event, now: float) -> None:
        """What stays above the bars."""
        match event:
            case Notice(text=words, upload=upload):
                self._line(words, "", upload)
            case PartFailed(upload=upload) if self._tally.outage(upload) is None:
                held = self._failures.take(now)
                if held is not None:
                    number = event.number if self._tally.in_parts(event.upload) else None
                    words = text.part_failed(
                        number, event.attempt, event.attempts, event.reason, event.retry_in
                    )
                    self._line(words + _left_out(held), "yellow", upload)
            case OutageEnded(seconds=seconds, upload=upload):
                words = f"something gets through again, after {text.clock(seconds)}"
                self._line(words, "green", upload)
            case FileSkipped(reason=reason, upload=upload):
                held = self._skipped.take(now)
                if held is not None:
                    self._line(f"skipped: {reason}{_left_out(held)}", "dim", upload)
            case FileFailed(reason=reason, upload=upload):
                self._line(f"failed: {reason}", "red", upload)
            case _:
                pass

    def _line(self, words: str, style: str, upload: str = "") -> None:
        about = f"{upload}: " if upload else ""
        self._put_above(Text(text.printable(about + words, self._canvas.signs.encoding), style))

    def _put_above(self, line: Text) -> None:
        self._lost += len(self._above) == _MOST_ABOVE
        self._above.append(line)

    def _take_above(self) -> list[Text]:
        """What stays above the bars, its lines broken between words."""
        lost, self._lost = self._lost, 0
        lines = [Text(f"({text.counted(lost, 'line')} left out)", "dim")] if lost else []
        while self._above:
            line = self._above.popleft()
            if text.columns(line.plain) <= self._canvas.size[0]:
                lines.append(line)
                continue
            broken = text.wrap(line.plain, self._canvas.size[0], cut=False)
            lines += [Text(each, line.style) for each in broken]
        return lines

    # Drawing

    def __enter__(self) -> Bars:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave.set()
        if self._thread is None:
            self.draw(last=True)
        else:
            self._thread.join(timeout=2.0)  # a stopped terminal must not hold up the end

    def _run(self) -> None:
        before = self._monotonic()
        while not self._leave.wait(1 / _PER_SECOND):
            if self._monotonic() - before > _ASLEEP:
                self._canvas.forget()  # stopped by Ctrl-Z: the shell has printed since
            self.draw()
            before = self._monotonic()
            if self._canvas.gone:
                return
        self.draw(last=True)

    def draw(self, *, last: bool = False) -> None:
        """Draw one frame now. Never raises."""
        try:
            if not self._canvas.in_front() and not last:
                self._away = True
                return
            if not self._canvas.ready() and not last:
                return  # the picture stays where it is
            if self._away:
                self._away = False
                self._canvas.forget()
            now = self._monotonic()
            with self._lock:
                picture = self._tally.picture(now)
                above = self._take_above()
            self._canvas.draw(self._lines(picture, now, last), above, last=last)
        except Exception:  # a display never ends an upload, not even by a bug of its own
            return

    def _lines(self, picture: Picture, now: float, last: bool) -> list[Text]:
        width, height = self._canvas.size
        signs = self._canvas.signs
        row = picture.overall
        if row is None or (last and row.state == "starting"):
            return []
        if last or row.state not in _GOING_ON:
            return _row_lines([row], width, signs, last=last)
        middle: list[Text] = []
        if picture.outage is not None:
            words = text.outage(
                picture.outage.reason, picture.outage.since, picture.outage.until, self._wall()
            )
            words = text.printable(words, signs.encoding)
            middle += [Text(line, "yellow") for line in text.wrap(words, width)]
            if picture.stuck:
                words = f"{_INDENT}{text.counted(picture.stuck, 'part')} wait"
                words += "s" if picture.stuck == 1 else ""
                middle.append(Text(text.clip(words, width, signs.ellipsis), "yellow"))
        for check in picture.checks:
            middle += _check_lines(check, width, signs)
        for finish in picture.finishes:
            middle.append(_finish_line(finish, now, width, signs))
        return _whole(row, middle, picture.lanes, width, height - 1, signs)


def _left_out(held: int) -> str:
    return f" ({text.count(held)} more like this left out)" if held else ""


def _whole(
    row: Row, middle: list[Text], lanes: Sequence[Lane], width: int, height: int, signs: _Signs
) -> list[Text]:
    """The overall bar, what there is to say, and as many parts as the terminal has room for."""
    waiting = [lane for lane in lanes if lane.retry_in is not None]
    summed_up = len(waiting) > _MOST_WAITING
    if summed_up:
        lanes = [lane for lane in lanes if lane.retry_in is None]
    labels = [_lane_label(lane, signs) for lane in lanes]
    columns = _Columns.of(
        width,
        [text.columns(_name(row, signs)), *map(text.columns, labels)],
        max(
            len(text.amount(*each))
            for each in [(row.done, row.size), *((lane.sent, lane.size) for lane in lanes)]
        ),
    )
    top = _overall(row, columns, signs)
    if summed_up:
        middle = [*middle, _waiting_line(waiting, width, signs)]
    room = min(_MOST_LANES, max(1, height // 2), max(0, height - len(top) - len(middle)))
    shown = len(lanes) if len(lanes) <= room else max(0, room - 1)
    below = [
        _lane_line(lane, label, columns, signs)
        for lane, label in zip(lanes[:shown], labels, strict=False)
    ]
    rest = lanes[shown:]
    if rest and room:
        more = sum(lane.retry_in is not None for lane in rest)
        words = f"{_INDENT}{signs.ellipsis} and {len(rest)} more"
        words += f", {more} of them waiting to try again" if more else ""
        below.append(Text(text.clip(words, width, signs.ellipsis), "dim"))
    return (top + middle + below)[: max(1, height)]


def _waiting_line(waiting: Sequence[Lane], width: int, signs: _Signs) -> Text:
    """The many parts that wait for another attempt, in one line."""
    first = min(waiting, key=lambda lane: lane.retry_in or 0.0)
    when = text.seconds(first.retry_in) if first.retry_in else ""
    words = f"{_INDENT}{text.counted(len(waiting), 'part')} try again"
    words += f", the first in {when}: " if when else " now: "
    words = text.printable(words + first.reason, signs.encoding)
    return Text(text.clip(words, width, signs.ellipsis), "yellow")


def _row_lines(rows: Sequence[Row], width: int, signs: _Signs, *, last: bool = False) -> list[Text]:
    """Overall bars in columns that line up."""
    if not rows:
        return []
    columns = _Columns.of(
        width,
        [text.columns(_name(row, signs)) for row in rows],
        max(len(text.amount(row.done, row.size)) for row in rows),
    )
    return [line for row in rows for line in _overall(row, columns, signs, last=last)]


def _name(row: Row, signs: _Signs) -> str:
    return "standard input" if row.name == "-" else text.printable(row.name, signs.encoding)


def _overall(row: Row, columns: _Columns, signs: _Signs, *, last: bool = False) -> list[Text]:
    """Name, percent, bar, bytes, speed, time: one line, or two where it is narrow."""
    over = last or row.state not in _GOING_ON
    if over:
        word = _STATE_WORDS[row.state]
        when = f"{word} {text.clock(row.elapsed)}"
    elif row.state == "starting":
        when = f"starting {text.clock(row.elapsed)}"
    elif row.still is not None:
        when = f"no byte for {text.clock(row.still)}"
    elif row.size is None:
        when = f"for {text.clock(row.elapsed)}"
    else:
        when = "-:-- left" if row.left is None else f"{text.clock(row.left)} left"
    finished = row.state == "finished" and row.size is not None
    amount = text.size(row.size or 0) if finished else text.amount(row.done, row.size)
    style = _STATE_STYLES["paused" if over and row.state == "running" else row.state]

    line = Text()
    label = text.fit(_name(row, signs), columns.name, signs.ellipsis)
    line.append(text.pad(label, columns.name), "bold")
    # `interrupted 1:02:11` and `no byte for 0:12` have their room from the bar.
    bar = columns.bar if columns.narrow else max(0, columns.bar - max(0, len(when) - _TIME))
    if row.size is None:
        line.append(" " * (_PERCENT + 2 + bar))
    else:
        line.append(f"{row.percent or 0:>{_PERCENT}}% ")
        _bar(line, row.done, row.size, bar, style, signs)
    numbers = Text()
    numbers.append(text.pad(amount, columns.amount, right=True))
    numbers.append(_INDENT + text.pad(text.rate(row.rate), _RATE, right=True))
    numbers.append(_INDENT + text.pad(when, _TIME, right=True), style if over else "")
    if columns.narrow:
        line.rstrip()
        rate = text.rate(row.rate)
        for parts in (
            (amount, rate, when),
            (amount, rate, when.removesuffix(" left")),
            (amount, when.removesuffix(" left")),
            (when,),
        ):
            words = _INDENT.join(["", *(part for part in parts if part != "-")])
            if len(words) <= columns.width:
                break
        return [line, Text(text.clip(words, columns.width, signs.ellipsis))]
    return [line.append(_INDENT).append_text(numbers)]


def _lane_label(lane: Lane, signs: _Signs) -> str:
    """`part 7`; in a directory with the file's name, whose parts bear the same numbers."""
    if not lane.upload:
        return f"{_INDENT}part {lane.number}"
    number = f" part {lane.number}" if lane.number else ""
    return f"{_INDENT}{text.printable(lane.upload, signs.encoding)}{number}"


def _lane_line(lane: Lane, label: str, columns: _Columns, signs: _Signs) -> Text:
    line = Text()
    line.append(text.pad(text.fit(label, columns.name, signs.ellipsis), columns.name))
    if lane.retry_in is not None:
        words = text.retry(lane.attempt + 1, lane.attempts, lane.retry_in, lane.reason)
        words = text.printable(words, signs.encoding)
        room = max(0, columns.width - columns.name - 2)
        return line.append(_INDENT + text.clip(words, room, signs.ellipsis), "yellow")
    percent = lane.sent * 100 // lane.size if lane.size else 0
    line.append(f"{percent:>{_PERCENT}}% ")
    rate = "" if lane.rate is None else text.rate(lane.rate)
    if columns.narrow:
        bar = columns.bar - _RATE - 2
        _bar(line, lane.sent, lane.size, columns.bar if bar < 0 else bar, "cyan", signs)
        if bar >= 0:
            line.append(_INDENT + text.pad(rate, _RATE, right=True), "dim")
        return line
    _bar(line, lane.sent, lane.size, columns.bar, "cyan", signs)
    amount = text.amount(lane.sent, lane.size)
    line.append(_INDENT + text.pad(amount, columns.amount, right=True), "dim")
    if rate:
        line.append(_INDENT + text.pad(rate, _RATE, right=True), "dim")
    return line


def _bar(line: Text, done: int, total: int, width: int, style: str, signs: _Signs) -> None:
    """A bar; thin where nothing is yet, so that it can be read without colours."""
    halves = 2 * width * min(done, total) // total if total else 2 * width
    full, half = divmod(halves, 2)
    filled = signs.full * full + (signs.half if half else "")
    line.append(filled, style)
    line.append(signs.empty * (width - len(filled)), "bright_black")


def _check_lines(check: Check, width: int, signs: _Signs) -> list[Text]:
    about = f"{check.upload}: " if check.upload else ""
    label = text.printable(about + check.what, signs.encoding)
    amount = text.amount(check.done, check.total, check.unit)
    amount += "" if check.unit == "bytes" else f" {check.unit}"
    spent = text.clock(check.elapsed)
    percent = "" if check.percent is None else f"{check.percent}%"
    room = width - len(amount) - len(spent) - len(percent) - 7
    if room >= text.columns(label) + _LEAST_BAR and check.total:
        line = Text(f"{label}  {percent} ")
        bar = min(_MOST_BAR, room - text.columns(label))
        _bar(line, check.done, check.total, bar, "magenta", signs)
        return [line.append(f"  {amount}  {spent}")]
    words = _INDENT.join(part for part in (percent, amount, spent) if part)
    if text.columns(label) + 2 + len(words) <= width:
        return [Text(f"{label}  {words}")]
    return [
        Text(text.clip(label, width, signs.ellipsis)),
        Text(text.clip(_INDENT + words, width, signs.ellipsis)),
    ]


def _finish_line(finish: Finish, now: float, width: int, signs: _Signs) -> Text:
    """The server works, and says nothing while it does: something has to move."""
    turn = signs.spinner[int(now * _PER_SECOND) % len(signs.spinner)]
    about = f"{finish.upload}: " if finish.upload else ""
    label = text.printable(about, signs.encoding)
    parts = text.counted(finish.parts, "part")
    spent = text.clock(finish.elapsed)
    for words in (f"Finishing: putting {parts} together", f"Finishing {parts}", "Finishing"):
        line = f"{turn} {label}{words}  {spent}"
        if text.columns(line) <= width:
            break
    return Text(text.clip(line, width, signs.ellipsis))
