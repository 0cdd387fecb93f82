"""Words and numbers for people: sizes, rates, durations, and names that cannot hurt a terminal.

A file name is somebody else's data: it may hold escape sequences, line breaks, right-to-left
overrides, bytes that are no text. `printable` makes each of them visible; everything that a
renderer shows and did not write itself goes through it. Widths are terminal columns, and where a
character's width is a matter of opinion the larger one is taken: a gap does no harm, an
overlong line breaks the picture.

Pure: no terminal, no clock; times of day are those of the local time zone.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

__all__ = [
    "amount",
    "clip",
    "clock",
    "columns",
    "count",
    "counted",
    "fit",
    "outage",
    "pad",
    "part_failed",
    "printable",
    "rate",
    "retry",
    "seconds",
    "size",
    "span",
    "time_of_day",
    "took",
    "wrap",
]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Format characters are invisible or turn the line around, except for the two joiners, which
# Persian, Indic scripts and emoji are written with.
_JOINERS = frozenset("\u200c\u200d")
_UNSHOWABLE = frozenset(("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"))
_VARIATION_EMOJI = "\ufe0f"


def _digits(value: float) -> int:
    """Decimals that make three significant digits."""
    return 2 if value < 9.995 else 1 if value < 99.95 else 0


def _scale(size: int) -> tuple[int, str]:
    """The unit that leaves at most three digits before the point."""
    divisor, unit = 1, "B"
    for name in _UNITS:
        if size / divisor < 999.5:
            break
        divisor, unit = divisor * 1024, name
    return divisor, unit


def size(number: float) -> str:
    """Bytes in three digits: `0 B`, `999 B`, `0.98 KiB`, `4.00 MiB`, `12.5 GiB`; 8 columns."""
    divisor, unit = _scale(int(number))
    if divisor == 1:
        return f"{int(number)} B"
    value = number / divisor
    return f"{value:.{_digits(value)}f} {unit}"


def rate(bytes_per_second: float | None) -> str:
    """`45.2 MiB/s`, at most 10 columns; a dash where it is not known yet."""
    return "-" if bytes_per_second is None else f"{size(bytes_per_second)}/s"


def amount(done: int, total: int | None, unit: str = "bytes", between: str = "/") -> str:
    """`3.41/8.00 GiB`: both in the unit of the total; `3.41 GiB` where no total is known.

    What is done is rounded down, so that it equals the total only at the end.
    """
    if unit != "bytes":
        return count(done) if total is None else f"{count(done)}{between}{count(total)}"
    if total is None:
        return size(done)
    divisor, name = _scale(total)
    if divisor == 1:
        return f"{done}{between}{total} B"
    places = _digits(total / divisor)
    down = math.floor(done / divisor * 10**places) / 10**places
    return f"{down:.{places}f}{between}{total / divisor:.{places}f} {name}"


def count(number: int) -> str:
    """`100,000`."""
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """`1 part`, `2,048 parts`."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """`0:07`, `2:11`, `1:02:11`, and from a day on `4d 3h`; rounded down, at most 8 columns."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days > 999:
        return ">999d"
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}:{minutes:02}:{left:02}"
    return f"{minutes}:{left:02}"


def seconds(number: float) -> str:
    """A wait in words: `5 s`, `0.4 s`, from two minutes on `2:30`."""
    if number >= 120:
        return clock(math.ceil(number))
    return f"{number:.1f} s" if 0 < number < 0.95 else f"{math.ceil(number - 0.05)} s"


def took(number: float) -> str:
    """How long a finished thing took: `0.4 s`, `5 s`, from two minutes on `2:30`.

    Rounded down, so that it agrees with the `clock` in a line above it.
    """
    if number >= 120:
        return clock(number)
    return f"{math.floor(number * 10) / 10:.1f} s" if number < 1 else f"{int(number)} s"


def span(number: float) -> str:
    """How long something took, in words: `45 s`, `5 min`, `2 h 10 min`; rounded down."""
    whole = max(0, int(number))
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def time_of_day(epoch: float, now: float) -> str:
    """`12:08:10`, with the date where that is not today's (`now`, both seconds of the epoch)."""
    moment = datetime.fromtimestamp(epoch)
    pattern = "%H:%M:%S" if moment.date() == datetime.fromtimestamp(now).date() else "%F %H:%M:%S"
    return moment.strftime(pattern)


def retry(attempt: int, attempts: int, wait: float, reason: str) -> str:
    """`retry 2/3 in 5 s: connection reset`, of the attempt to come."""
    when = f"in {seconds(wait)}" if wait > 0 else "now"
    if attempt > attempts:  # patience, not a number, is what this part lives on
        return f"trying again {when}: {reason}"
    return f"retry {attempt}/{attempts} {when}: {reason}"


def part_failed(
    number: int | None, attempt: int, attempts: int, reason: str, retry_in: float | None
) -> str:
    """The line about a failed attempt: `part 7, attempt 1 of 3: connection reset; again in 5 s`.

    Attempts are counted as long as they are what the part lives on. What goes up in one request
    has no parts (None).
    """
    about = [] if number is None else [f"part {number}"]
    if attempt < attempts or (attempt == attempts and retry_in is None):
        about.append(f"attempt {attempt} of {attempts}")
    words = ": ".join([", ".join(about), reason] if about else [reason])
    if retry_in is None:
        return words
    return f"{words}; again {f'in {seconds(retry_in)}' if retry_in > 0 else 'at once'}"


def outage(reason: str, since: float, until: float | None, now: float) -> str:
    """The sentence about an outage; all times seconds of the epoch."""
    end = "" if until is None else f", pausing at {time_of_day(until, now)}"
    return (
        f"nothing gets through since {time_of_day(since, now)} ({reason}); "
        f"trying again one part at a time{end}"
    )


def _shown(char: str) -> str:
    """One character as it may go to a terminal."""
    category = unicodedata.category(char)
    code = ord(char)
    if category not in _UNSHOWABLE or char in _JOINERS:
        return char
    if category == "Cn" and 0x1F000 <= code <= 0x3FFFF:
        return char  # an emoji or ideograph younger than this Python's tables
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte of the name that is no text (PEP 383)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: str, encoding: str = "utf-8") -> str:
    """`text` with whatever could move a cursor, hide, or not be encoded, as a backslash escape."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
        if not encoding.lower().startswith("utf"):
            try:
                text = text.encode(encoding, "backslashreplace").decode(encoding)
            except LookupError:
                text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text


def _cells(char: str) -> int:
    """Columns of one character; never fewer than a terminal takes."""
    if char < "\u0300":
        return 1
    if char in _JOINERS or unicodedata.category(char) in ("Mn", "Me"):
        # A variation selector makes a narrow sign (a heart) an emoji of two columns.
        return 1 if char == _VARIATION_EMOJI else 0
    if unicodedata.east_asian_width(char) in ("W", "F"):
        return 2
    return 2 if ord(char) >= 0x1F000 and unicodedata.category(char) == "Cn" else 1


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _head(text: str, room: int) -> str:
    for index, char in enumerate(text):
        room -= _cells(char)
        if room < 0:
            return text[:index]
    return text


def _tail(text: str, room: int) -> str:
    for index in range(len(text) - 1, -1, -1):
        room -= _cells(text[index])
        if room < 0:
            return text[index + 1 :].lstrip("\u200c\u200d\ufe0f")
    return text


def fit(text: str, room: int, ellipsis: str = "…") -> str:
    """`text` in at most `room` columns: both ends stay, since names differ at either."""
    if columns(text) <= room:
        return text
    inner = room - columns(ellipsis)
    if inner < 4:
        return _head(text, room)
    tail = _tail(text, inner // 2)
    return _head(text, inner - columns(tail)) + ellipsis + tail


def clip(text: str, room: int, ellipsis: str = "…") -> str:
    """`text` in at most `room` columns, cut at its end: for sentences, whose beginning counts."""
    if columns(text) <= room:
        return text
    inner = room - columns(ellipsis)
    return _head(text, inner).rstrip() + ellipsis if inner > 0 else _head(text, room)


def pad(text: str, room: int, *, right: bool = False) -> str:
    """`text` filled up with spaces to `room` columns; `right` puts them before it."""
    gap = " " * max(0, room - columns(text))
    return gap + text if right else text + gap


def wrap(text: str, room: int, *, cut: bool = True) -> list[str]:
    """Lines of at most `room` columns, broken at spaces, each indented as the first.

    A longer word is cut, or left whole without `cut`: a terminal breaks it so that it can still
    be copied.
    """
    if columns(text) <= room:
        return [text]
    indent = text[: min(len(text) - len(text.lstrip(" ")), room // 2)]
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else indent + word
        if columns(longer) <= room or not line:
            line = longer
        else:
            lines.append(line)
            line = indent + word
    return [_head(each, room) if cut else each for each in (*lines, line)]
