"""What is asked of an upload and what comes of it: plain values between the layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ufile_cli.multipart.drive import GRACE
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.workers import Stop
from ufile_cli.progress.events import Sink, ignore

__all__ = ["Context", "Options", "Progress", "Result"]


@dataclass(frozen=True, slots=True)
class Options:
    """How an upload is done; its journal keeps these for a resume.

    Attributes:
        threads: parts in flight at once.
        auto: find the number, up to `threads`.
        policy: attempts, waits and patience.
        limit_rate: bytes a second over all threads, None for no limit.
        resend_changed: send parts again whose content has changed, instead of refusing.
    """

    threads: int = 4
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    limit_rate: float | None = None
    resend_changed: bool = False
    auto: bool = False


@dataclass(slots=True)
class Progress:
    """What this run has done so far; also there when it fails.

    Attributes:
        parts: parts of the whole upload, 0 while unknown.
        parts_sent: parts that this run sent.
        parts_reused: parts that were up before, or were found to be.
        parts_changed: of those sent, how many replaced a part whose content had changed.
        bytes_sent: bytes of the parts sent.
        threads: parts in flight at once; with `-j auto` what it came to. 0 before that is known.
    """

    parts: int = 0
    parts_sent: int = 0
    parts_reused: int = 0
    parts_changed: int = 0
    bytes_sent: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What surrounds an upload.

    Attributes:
        emit: takes the events.
        stop: tells when to stop.
        rotated: reads the credentials anew; True where they are not those with this tag.
        progress: counts what this run does.
        grace: seconds that requests in flight get when the upload stops.
        limit: paces several uploads together; None where the upload has its own limit.
    """

    emit: Sink = ignore
    stop: Stop = field(default_factory=Stop)
    rotated: Callable[[str | None], bool] = lambda _tag: False
    progress: Progress = field(default_factory=Progress)
    limit: RateLimit | None = None
    grace: float = GRACE


class Result(NamedTuple):
    """An object that is there and was compared.

    Attributes:
        verified: `etag` (the object's ETag is that of our bytes) or `parts` (size and every
            part's ETag are; the object's ETag is of an undocumented form or could not be computed).
        seconds: wall time of this run.
        threads: parts in flight at once; with `-j auto` what it came to.
        auto: whether that number was found.
    """

    journal_id: str | None
    bucket: str
    key: str
    url: str
    size: int
    etag: str
    verified: str
    parts: int
    parts_sent: int
    parts_reused: int
    parts_changed: int
    bytes_sent: int
    seconds: float
    threads: int = 1
    auto: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON types, every field."""
        return {
            "journal_id": self.journal_id,
            "bucket": self.bucket,
            "key": self.key,
            "url": self.url,
            "size": self.size,
            "etag": self.etag,
            "verified": self.verified,
            "parts": self.parts,
            "parts_sent": self.parts_sent,
            "parts_reused": self.parts_reused,
            "parts_changed": self.parts_changed,
            "bytes_sent": self.bytes_sent,
            "seconds": round(self.seconds, 3),
            "threads": self.threads,
        }
