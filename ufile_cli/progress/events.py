"""What happens during an upload, as plain values: the engine emits them, renderers show them.

A sink is a callable that takes one event. Events come from the coordinator's thread, apart from
`PartProgress`, which workers emit for every block they hand to the network; a sink is therefore
thread-safe, quick, and never raises: a progress display must not end an upload.

Bytes are numbers of bytes, times are seconds of a monotonic clock unless a name says otherwise.

Several uploads may share one display (a directory, `resume --all`). Then `TreeStarted` comes first,
each event says in `upload` which of them it belongs to (`labelled` sees to that), and each of them
ends with `FileFinished`, `FileSkipped` or `FileFailed`. Where there is one upload, `upload` is
empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = [
    "Checked",
    "Checking",
    "CheckingDone",
    "Event",
    "Failed",
    "FileFailed",
    "FileFinished",
    "FileSkipped",
    "Finished",
    "Finishing",
    "Notice",
    "OutageBegan",
    "OutageEnded",
    "PartAdopted",
    "PartFailed",
    "PartLost",
    "PartProgress",
    "PartSent",
    "PartStarted",
    "Paused",
    "Sink",
    "SizeKnown",
    "Started",
    "TreeStarted",
    "fan_out",
    "ignore",
    "labelled",
]


class Started(NamedTuple):
    """The upload begins, or goes on; the first event.

    Attributes:
        journal_id: None for a small file, which has no journal.
        name: what a person calls the source: a file's base name, `-` for standard input.
        size: bytes in all, None while unknown (a stream without `--size`).
        block_size: bytes of a part, None where it is one request.
        parts: number of parts, None while unknown.
        bytes_done: bytes that the server has from earlier runs.
        parts_done: the same in parts.
        threads: parts in flight at once, at most.
        resumed: whether an earlier run began it.
        size_exact: False where `size` is what somebody expects (`--size`) and may be wrong.
    """

    journal_id: str | None
    bucket: str
    key: str
    name: str
    size: int | None
    block_size: int | None
    parts: int | None
    bytes_done: int = 0
    parts_done: int = 0
    threads: int = 1
    resumed: bool = False
    size_exact: bool = True
    upload: str = ""


class SizeKnown(NamedTuple):
    """The end of a stream was seen: now its size is known."""

    size: int
    parts: int
    upload: str = ""


class PartStarted(NamedTuple):
    """A part goes on the wire (again, where attempt > 1)."""

    number: int
    size: int
    attempt: int
    upload: str = ""


class PartProgress(NamedTuple):
    """`sent` bytes of the part were handed to the network in this attempt so far."""

    number: int
    sent: int
    size: int
    upload: str = ""


class PartSent(NamedTuple):
    """The server has acknowledged the part."""

    number: int
    size: int
    etag: str
    upload: str = ""


class PartAdopted(NamedTuple):
    """The part needs no sending: the server has it already, with our content."""

    number: int
    size: int
    upload: str = ""


class PartLost(NamedTuple):
    """A part that counted as up is not up after all: the server has lost it, or has other bytes."""

    number: int
    size: int
    upload: str = ""


class PartFailed(NamedTuple):
    """An attempt failed.

    Attributes:
        retry_in: seconds until the part is tried again, None where it is not.
        reason: one short phrase for a person.
    """

    number: int
    attempt: int
    attempts: int
    reason: str
    retry_in: float | None
    upload: str = ""


class OutageBegan(NamedTuple):
    """Nothing gets through: one probe at a time from now on.

    Attributes:
        since: when the first failure with no success after it came, seconds since the epoch.
        until: when patience ends, seconds since the epoch; None for for ever.
    """

    reason: str
    since: float
    until: float | None
    upload: str = ""


class OutageEnded(NamedTuple):
    """Something got through again.

    Attributes:
        seconds: how long nothing did.
    """

    seconds: float
    upload: str = ""


class Checking(NamedTuple):
    """A long step that sends nothing begins: hashing again, comparing a replay, listing parts.

    Attributes:
        what: a phrase such as `hashing what was sent`.
        total: bytes (or parts, where `unit` says so) in all, None where unknown.
        unit: `bytes` or `parts`.
    """

    what: str
    total: int | None
    unit: str = "bytes"
    upload: str = ""


class Checked(NamedTuple):
    """How far the step that `Checking` began has come, in its unit."""

    what: str
    done: int
    upload: str = ""


class CheckingDone(NamedTuple):
    """The step that `Checking` began is over."""

    what: str
    upload: str = ""


class Finishing(NamedTuple):
    """All parts are up; the server is asked to put the object together (may take minutes)."""

    parts: int
    upload: str = ""


class Notice(NamedTuple):
    """Something a person should know that is no failure; one sentence."""

    text: str
    upload: str = ""


class Paused(NamedTuple):
    """The upload stops here and can go on.

    Attributes:
        reason: why, one sentence.
        journal_id: with what `ufile resume` goes on; None for a small file.
    """

    reason: str
    journal_id: str | None
    upload: str = ""


class Failed(NamedTuple):
    """The upload ends without an object."""

    reason: str
    journal_id: str | None
    exit_code: int
    upload: str = ""


class Finished(NamedTuple):
    """The object is there and was compared."""

    journal_id: str | None
    bucket: str
    key: str
    size: int
    etag: str
    verified: str
    bytes_sent: int
    seconds: float
    upload: str = ""


class TreeStarted(NamedTuple):
    """Several uploads begin that share one display; comes before the first `Started`.

    Attributes:
        files: how many, those to be skipped included.
        size: bytes of all of them.
        name: what a person calls them: the directory's name.
    """

    files: int
    size: int
    name: str = ""


class FileFinished(NamedTuple):
    """One upload of several is done: its object is there and was compared."""

    upload: str
    size: int


class FileSkipped(NamedTuple):
    """One upload of several is not needed, `reason` says why; counts as done."""

    upload: str
    size: int
    reason: str


class FileFailed(NamedTuple):
    """One upload of several ended without an object; the others go on."""

    upload: str
    size: int
    reason: str


Event = (
    Started
    | SizeKnown
    | PartStarted
    | PartProgress
    | PartSent
    | PartAdopted
    | PartFailed
    | PartLost
    | OutageBegan
    | OutageEnded
    | Checking
    | Checked
    | CheckingDone
    | Finishing
    | Notice
    | Paused
    | Failed
    | Finished
    | TreeStarted
    | FileFinished
    | FileSkipped
    | FileFailed
)

Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The sink of those who want no progress."""


def fan_out(*sinks: Sink) -> Sink:
    """One sink that hands each event to several."""

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit


def labelled(sink: Sink, upload: str) -> Sink:
    """A sink for one upload of several: writes `upload` into each event and hands it on."""

    def emit(event: Event) -> None:
        if type(event) is PartProgress:  # the one that comes often: four times as quick as _replace
            sink(PartProgress(event.number, event.sent, event.size, upload))
        elif isinstance(event, TreeStarted):
            sink(event)
        else:
            sink(event._replace(upload=upload))

    return emit
