"""Scripted faults: what the emulator does wrong, when, and how often.

A script is a list of faults. Each names the requests that it is for and what happens to them; all
faults that apply to a request are merged, the first one that sets an effect wins it. The file
format, one JSON object a fault with these very field names, is described in docs/faults.md.

This module decides and counts. It never sleeps, sends or stores: the server does what it says.
Invariant: with one seed and one order of requests, the same faults apply.
"""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ufile_cli.emulator.protocol import Call

PLACES = ("head", "body", "stored", "answer")
"""Where a fault strikes: before the body is read, when all of it is in and nothing is stored,
after storing and before the answer, in the middle of the answer."""


@dataclass(frozen=True)
class Occasion:
    """What a fault is matched against: one request, known by its head."""

    call: Call
    bucket: str | None
    key: str
    part: int | None
    upload_id: str | None
    reused: bool
    """Whether the connection carried a request before this one."""


@dataclass(frozen=True)
class Effects:
    """What happens to one request. Everything None or False means: answer as US3 would."""

    status: int | None = None
    ret_code: int | None = None
    message: str | None = None
    headers: Mapping[str, str] | None = None
    body: str | None = None
    content_type: str | None = None
    body_size: int | None = None
    """Pad the answer's body with spaces to so many bytes."""
    truncate: int | None = None
    """Cut the answer's body to so many bytes; Content-Length says what is sent."""
    at: str | None = None
    """Where `status` is answered: head, body (unless told) or stored."""
    drain: bool | None = None
    """False: after an early answer, do not read on but reset the connection."""

    reset: str | None = None
    """Where the connection is reset, one of PLACES."""
    after_bytes: int | None = None
    """With reset or hang at "body": strike when so many bytes of the body have come."""
    hang: str | None = None
    """Where the server falls silent, one of PLACES."""
    seconds: float | None = None
    """How long it hangs; None: until FaultScript.release or Emulator.close."""

    receive_rate: float | None = None
    """Bytes a second at which the body is read, through a small receive buffer."""
    answer_rate: float | None = None
    """Bytes a second at which the answer is sent."""

    etag: str | None = None
    """none, wrong, unquoted, or a form of part ETag: object, hex, opaque, content, blocks."""
    list_etags: str | None = None
    """quoted or unquoted, in ListParts."""
    finish_key: str | None = None
    """Another Key in the answer to Finish."""
    corrupt: bool | None = None
    """Store the first byte of the body flipped; the ETag is that of what is stored."""
    forget: str | None = None
    """part: lose the part after its acknowledgement. upload: its id dies before the request."""
    page_size: int | None = None
    """Entries on a page of a list, at most."""
    stuck_page: bool | None = None
    """ListParts says that there is more and gives the same page again."""
    close_after: float | None = None
    """Seconds after the answer at which the idle connection is closed, unannounced."""
    rotate_keys: tuple[str, str] | None = None
    """The key pair, public and private, that counts from this request on."""

    @property
    def described(self) -> str | None:
        """The effects as one line for the request log; None where there are none."""
        given = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if getattr(self, one.name) is not None and one.name != "rotate_keys"
        }
        if self.rotate_keys is not None:
            given["rotate_keys"] = self.rotate_keys[0]
        if not given:
            return None
        return ", ".join(f"{name}={str(value)[:60]}" for name, value in given.items())


@dataclass(frozen=True)
class Fault(Effects):
    """One fault: which requests, how often, and (from Effects) what happens.

    Everything given must hold. A fault without any of these fields is for every request.
    """

    call: str | Sequence[str] | None = None
    part: int | str | Sequence[int] | None = None
    """A part number, several, or a range as text: "3-7", "3-"."""
    key: str | None = None
    bucket: str | None = None
    upload_id: str | None = None
    reused: bool | None = None

    after: int | None = None
    """Let the first so many matching requests pass."""
    nth: int | Sequence[int] | None = None
    """Only the n-th matching request (from 1), behind `after`."""
    first: int | None = None
    """Only the first so many, behind `after`."""
    every: int | None = None
    """Only each so-many-th."""
    per_part: bool | None = None
    """Count for each part of each upload of its own, not all matching requests together."""
    probability: float | None = None
    """Between 0 and 1, drawn from the script's seed for each request that the above lets in."""

    def __post_init__(self) -> None:
        _check(self)

    def meant_for(self, occasion: Occasion) -> bool:
        """Whether the request is of the kind that this fault is for, counts aside."""
        if self.call is not None and occasion.call not in _several(self.call):
            return False
        for name in ("key", "bucket", "upload_id", "reused"):
            wanted = getattr(self, name)
            if wanted is not None and wanted != getattr(occasion, name):
                return False
        return self.part is None or _part_in(self.part, occasion.part)

    def due(self, count: int) -> bool:
        """Whether the `count`-th matching request, from 1, is struck; probability aside."""
        behind = count - (self.after or 0)
        if behind < 1 or (self.first is not None and behind > self.first):
            return False
        if self.nth is not None and behind not in _several(self.nth):
            return False
        return self.every is None or behind % self.every == 0


def _several(value: Any) -> Sequence[Any]:
    return (value,) if isinstance(value, str | int) else value


def _part_in(wanted: int | str | Sequence[int], number: int | None) -> bool:
    if number is None:
        return False
    if not isinstance(wanted, str):
        return number in _several(wanted)
    first, dash, last = wanted.partition("-")
    if not dash:
        return number == int(first)
    return int(first or 0) <= number and (last == "" or number <= int(last))


_LONGEST = 16 * 1024 * 1024
"""Bytes of a script, at most: what is larger is no script, but /dev/zero or the like."""


class FaultScriptError(ValueError):
    """A script that does not mean anything; the message names the fault and its field."""


@dataclass
class _Counts:
    total: int = 0
    by_part: dict[tuple[str | None, int | None], int] = field(default_factory=dict)

    def next(self, occasion: Occasion, per_part: bool) -> int:
        if not per_part:
            self.total += 1
            return self.total
        key = occasion.upload_id, occasion.part
        self.by_part[key] = self.by_part.get(key, 0) + 1
        return self.by_part[key]


class FaultScript:
    """The faults of a running emulator; they may be changed at any time, from any thread."""

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        dead_status: int = 404,
        dead_ret_code: int = -30030,
    ) -> None:
        """`dead_status` and `dead_ret_code` answer an upload id that is not alive."""
        self.dead_status = dead_status
        self.dead_ret_code = dead_ret_code
        self._random = random.Random(seed)  # noqa: S311  # nosec B311
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, _Counts]] = [(fault, _Counts()) for fault in faults]
        self._released = threading.Event()

    @classmethod
    def load(cls, path: Path) -> FaultScript:
        """Read a script. Raises FaultScriptError, or OSError."""
        try:
            with path.open("rb") as file:
                text = file.read(_LONGEST + 1)
            if len(text) > _LONGEST:
                raise FaultScriptError(f"{path}: larger than {_LONGEST >> 20} MiB")
            document = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FaultScriptError(f"{path}: not JSON: {error}") from None
        return cls.parse(document)

    @classmethod
    def parse(cls, document: object) -> FaultScript:
        """A script from its JSON document: a list of faults, or an object that has one."""
        top: dict[str, Any] = document if isinstance(document, dict) else {"faults": document}
        unknown = set(top) - {"faults", "seed", "dead_status", "dead_ret_code"}
        if unknown:
            raise FaultScriptError(f"unknown field {sorted(unknown)[0]!r} of the script")
        entries = top.pop("faults", [])
        if not isinstance(entries, list):
            raise FaultScriptError("the faults are not a list")
        for name, value in top.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise FaultScriptError(f"{name} is not a whole number")
        return cls([_parse_fault(entry, number) for number, entry in enumerate(entries)], **top)

    def add(self, fault: Fault | None = None, **fields: Any) -> Fault:
        """Add a fault, given as such or by its fields; it counts from now."""
        added = Fault(**fields) if fault is None else fault
        with self._lock:
            self._faults.append((added, _Counts()))
        return added

    def remove(self, fault: Fault) -> None:
        """Take a fault out again."""
        with self._lock:
            self._faults = [entry for entry in self._faults if entry[0] is not fault]

    def clear(self) -> None:
        """Take all faults out and let go of what hangs."""
        with self._lock:
            self._faults = []
        self.release()

    def release(self) -> None:
        """Let every request that hangs now go on."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def released(self) -> threading.Event:
        """Set when `release` is called after this; what hangs waits for it."""
        with self._lock:
            return self._released

    def effects(self, occasion: Occasion) -> Effects:
        """What happens to this request; counts it."""
        merged: dict[str, Any] = {}
        with self._lock:
            for fault, counts in self._faults:
                if self._strikes(fault, counts, occasion):
                    for one in dataclasses.fields(Effects):
                        value = getattr(fault, one.name)
                        if value is not None and one.name not in merged:
                            merged[one.name] = value
        return Effects(**merged) if merged else NO_EFFECTS

    def _strikes(self, fault: Fault, counts: _Counts, occasion: Occasion) -> bool:
        if not fault.meant_for(occasion):
            return False
        if not fault.due(counts.next(occasion, bool(fault.per_part))):
            return False
        return fault.probability is None or self._random.random() < fault.probability


NO_EFFECTS = Effects()


def _parse_fault(entry: object, number: int) -> Fault:
    if not isinstance(entry, dict):
        raise FaultScriptError(f"fault {number} is not an object")
    known = {one.name for one in dataclasses.fields(Fault)}
    for name in entry:
        if name not in known:
            raise FaultScriptError(f"fault {number}: unknown field {name!r}")
    try:
        return Fault(**entry)
    except FaultScriptError as error:
        raise FaultScriptError(f"fault {number}: {error}") from None


_CHOICES = {
    "at": ("head", "body", "stored"),
    "reset": PLACES,
    "hang": PLACES,
    "etag": ("none", "wrong", "unquoted", "object", "hex", "opaque", "content", "blocks"),
    "list_etags": ("quoted", "unquoted"),
    "forget": ("part", "upload"),
}
_TEXTS = ("message", "body", "content_type", "finish_key", "key", "bucket", "upload_id")
_COUNTS = ("body_size", "truncate", "after_bytes", "page_size", "after", "first", "every")
_NUMBERS = ("seconds", "receive_rate", "answer_rate", "close_after", "probability")
_FLAGS = ("drain", "corrupt", "stuck_page", "reused", "per_part")


def _check(fault: Fault) -> None:
    for name in (one.name for one in dataclasses.fields(fault)):
        value = getattr(fault, name)
        if value is not None and not _sound(name, value):
            raise FaultScriptError(f"{name} cannot be {value!r}")


def _sound(name: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _FLAGS:
        return isinstance(value, bool)
    if name in _COUNTS:
        return whole and value >= (1 if name in ("page_size", "every") else 0)
    if name in _NUMBERS:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        return number and (name != "probability" or value <= 1) and (
            not name.endswith("rate") or value > 0
        )  # fmt: skip
    return _SPECIAL[name](value, whole)


def _sound_call(value: Any, _: bool) -> bool:
    calls = [str(call) for call in Call]
    return isinstance(value, str | Sequence) and all(one in calls for one in _several(value))


def _sound_part(value: Any, whole: bool) -> bool:
    if isinstance(value, str):
        first, _, last = value.partition("-")
        return bool(first + last) and all(text.isdecimal() for text in (first, last) if text)
    return whole or _whole_numbers(value)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(one, int) for one in value)


def _sound_headers(value: Any, _: bool) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) and "\r" not in text and "\n" not in text
        for pair in value.items()
        for text in pair
    )


def _sound_keys(value: Any, _: bool) -> bool:
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return pair and all(isinstance(one, str) for one in value)


_SPECIAL: dict[str, Callable[[Any, bool], bool]] = {
    "call": _sound_call,
    "part": _sound_part,
    "nth": lambda value, whole: whole or (not isinstance(value, str) and _whole_numbers(value)),
    "headers": _sound_headers,
    "rotate_keys": _sound_keys,
    "status": lambda value, whole: whole and 200 <= value <= 599,
    "ret_code": lambda _, whole: whole,
}
