"""What the emulator saw: one record a request, appended before the answer goes out.

A log that is written before the answer can be believed by tests and by people: what a client was
told is in it. Lines of several processes on one file never mix, since each is one write to a file
opened for appending. The log never holds an Authorization header or a signature.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ufile_cli.emulator.private import open_private

LOGGED_HEADERS = (
    "host", "content-length", "content-md5", "transfer-encoding", "expect", "range", "date",
    "user-agent", "x-ufile-storage-class", "x-ufile-metadata-directive", "connection",
)  # fmt: skip


@dataclass(frozen=True)
class RequestRecord:
    """One request. `status` is None where the answer did not go out; `etag` is what was stored."""

    time: float
    call: str
    method: str
    target: str
    bucket: str | None
    key: str
    query: Mapping[str, str]
    upload_id: str | None
    part_number: int | None
    status: int | None
    bytes_received: int
    etag: str | None
    connection: int
    content_type: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    signature: str = "absent"
    """ok, absent, refused, or unchecked where the emulator has no keys."""
    fault: str | None = None
    seconds: float = 0.0
    """From the arrival of the head to this record."""

    def line(self) -> bytes:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


class RequestLog:
    """Records, counters and the waiting for them. Safe for threads."""

    def __init__(self, path: Path | None, remember: int) -> None:
        """`remember`: how many of the latest records stay in memory."""
        self._records: deque[RequestRecord] = deque(maxlen=remember)
        self._changed = threading.Condition()
        self._counts: Counter[tuple[str, str]] = Counter()
        flags = os.O_WRONLY | os.O_APPEND
        self._fd = None if path is None else open_private(path, flags)
        self.connections = 0
        self.parts_in_flight = 0
        self.parts_in_flight_max = 0

    def records(self) -> list[RequestRecord]:
        """The remembered records, oldest first."""
        with self._changed:
            return list(self._records)

    def append(self, record: RequestRecord) -> None:
        """Write and remember a record, and tell who waits."""
        line = record.line()
        with self._changed:
            if self._fd is not None:
                os.write(self._fd, line)
            self._records.append(record)
            self._counts["answered", record.call] += 1
            self._changed.notify_all()

    def note(self, stage: str, call: str) -> None:
        """Count that a request got somewhere."""
        with self._changed:
            self._counts[stage, call] += 1
            self._changed.notify_all()

    def connection_opened(self) -> int:
        """Count a connection; its number, from 1."""
        with self._changed:
            self.connections += 1
            self._changed.notify_all()
            return self.connections

    def part_in_flight(self, step: int) -> None:
        """A part's head came (+1), or its answer is on the way (-1)."""
        with self._changed:
            self.parts_in_flight += step
            self.parts_in_flight_max = max(self.parts_in_flight_max, self.parts_in_flight)

    def count(self, call: str | None, stage: str) -> int:
        """How many requests of a call (None: of any) got to that stage."""
        with self._changed:
            return self._count(call, stage)

    def _count(self, call: str | None, stage: str) -> int:
        return sum(
            number
            for (at, name), number in self._counts.items()
            if at == stage and call in (None, name)
        )

    def wait(self, call: str | None, stage: str, count: int, timeout: float) -> bool:
        """Wait until that many requests got to a stage; False where time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count(call, stage) >= count, timeout)

    def wait_until(self, condition: Callable[[list[RequestRecord]], bool], timeout: float) -> bool:
        """Wait until `condition` holds for the remembered records."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(list(self._records)), timeout)

    def close(self) -> None:
        """Close the file; later records are remembered only."""
        with self._changed:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
