"""How the bytes of parts and objects lie in files: regions, the table of parts, extents.

One flat directory holds an upload, and later the object that it became: `data`, where part n has
its own place at n x block size; `over`, where parts that were sent again lie in the order in which
they came; `parts`, a table with one record a part number; `extents`, which tells an object that is
not simply `data` from its start. This module knows no bucket, no key and no lock.

Invariant: a record of the table lies within one page and is written by one pwrite, which a kill
does not tear.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ufile_cli.emulator.private import open_private
from ufile_cli.emulator.protocol import ETAG_BLOCK, ContentHash, Refusal

_FIXED = struct.Struct("<BBB5xQQd40s")
_EXTENT = struct.Struct("<QQQ")
SCAN_BYTES = 1 << 20
"""Files are gone through in steps of this size."""


@dataclass(frozen=True)
class Upload:
    """An unfinished upload as it was initiated."""

    upload_id: str
    key: str
    block_size: int
    content_type: str
    storage_class: str
    metadata: dict[str, str]
    started: float


@dataclass(frozen=True)
class StoredPart:
    """A part in the table of its upload. `etag` is unquoted, `digests` those of its blocks."""

    number: int
    size: int
    etag: str
    modified: float
    in_slot: bool
    offset: int
    digests: bytes


class PartTable:
    """Layout of the table of parts: `_FIXED` and the block digests, padded to a power of two."""

    def __init__(self, block_size: int) -> None:
        self.blocks = max(1, -(-block_size // ETAG_BLOCK))
        used = _FIXED.size + 20 * self.blocks
        self.record = 1 << (used - 1).bit_length()
        self._layout = struct.Struct(f"<BBB5xQQd40s{20 * self.blocks}s{self.record - used}x")

    def pack(self, claimed: bool, part: StoredPart | None) -> bytes:
        """The record of a part; None for a part that is not stored."""
        if part is None:
            return self._layout.pack(claimed, 0, 0, 0, 0, 0.0, b"", b"")
        return self._layout.pack(
            claimed, 1, part.in_slot, part.offset, part.size, part.modified,
            part.etag.encode("ascii"), part.digests[: 20 * self.blocks],
        )  # fmt: skip

    def unpack(self, number: int, record: bytes) -> StoredPart | None:
        """A part from its record; None where none is stored."""
        _, stored, in_slot, offset, size, modified, etag, digests = self._layout.unpack(record)
        if not stored:
            return None
        kept = min(self.blocks, max(1, -(-size // ETAG_BLOCK)))
        name = etag.rstrip(b"\0").decode("ascii")
        return StoredPart(number, size, name, modified, bool(in_slot), offset, digests[: 20 * kept])

    def scan(self, fd: int, first: int) -> Iterator[StoredPart]:
        """Stored parts numbered `first` and above, in order."""
        step = max(1, SCAN_BYTES // self.record)
        number = first
        while chunk := os.pread(fd, step * self.record, number * self.record):
            if any(chunk):
                for at in range(0, len(chunk) - self.record + 1, self.record):
                    if chunk[at + 1]:
                        part = self.unpack(number + at // self.record, chunk[at : at + self.record])
                        if part is not None:
                            yield part
            number += step


class Region:
    """A place that incoming bytes are written to, forward only."""

    def __init__(self, fd: int, offset: int, *, in_slot: bool, room: int) -> None:
        self.offset = offset
        self.in_slot = in_slot
        self._fd = fd
        self._next = offset
        self._end = offset + room

    def write(self, data: memoryview) -> None:
        """Append. Raises ValueError past the end of the region, which no caller may reach."""
        if self._next + len(data) > self._end:
            raise ValueError("more bytes than the region has room for")
        while data:
            written = os.pwrite(self._fd, data, self._next)
            self._next += written
            data = data[written:]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


@dataclass(frozen=True)
class Piece:
    """Contiguous bytes in an open file."""

    fd: int
    offset: int
    length: int


class Content:
    """The bytes of an object, opened: readable though the object be replaced meanwhile."""

    def __init__(self, directory: Path, size: int) -> None:
        self._size = size
        self._files: list[int] = []
        try:
            self._files.append(os.open(directory / "data", os.O_RDONLY | os.O_CLOEXEC))
            if (directory / "extents").exists():
                for name in ("over", "extents"):
                    self._files.append(os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Where the bytes from `start` up to `stop` lie, in order."""
        if len(self._files) == 1:
            if start < stop:
                yield Piece(self._files[0], start, stop - start)
            return
        table = self._files[2]
        count = os.fstat(table).st_size // _EXTENT.size
        index = self._extent_holding(table, count, start)
        while start < stop:
            logical, where, physical = self._extent(table, index)
            end = self._extent(table, index + 1)[0] if index + 1 < count else self._size
            length = min(end, stop) - start
            yield Piece(self._files[where], physical + start - logical, length)
            start += length
            index += 1

    def _extent(self, table: int, index: int) -> tuple[int, int, int]:
        logical, where, physical = _EXTENT.unpack(
            os.pread(table, _EXTENT.size, index * _EXTENT.size)
        )
        return logical, where, physical

    def _extent_holding(self, table: int, count: int, position: int) -> int:
        low, high = 0, count - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._extent(table, middle)[0] <= position:
                low = middle
            else:
                high = middle - 1
        return low

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop())


class Layout:
    """Where the parts of an object lie, one behind the other."""

    def __init__(self, table: PartTable) -> None:
        self.size = 0
        self.count = 0
        self._table = table
        self._extents = bytearray()
        self._expected: tuple[int, int] = (-1, -1)

    def add(self, part: StoredPart) -> None:
        where = 0 if part.in_slot else 1
        if (where, part.offset) != self._expected and part.size:
            self._extents += _EXTENT.pack(self.size, where, part.offset)
        if part.size:
            self._expected = (where, part.offset + part.size)
        self.size += part.size
        self.count += 1

    def write(self, directory: Path) -> None:
        """Leave the extents beside the bytes, unless `data` as it is holds the object."""
        _touch(directory / "data")
        (directory / "extents").unlink(missing_ok=True)
        if self._extents and self._extents != _EXTENT.pack(0, 0, 0):
            _touch(directory / "over")
            (directory / "extents").write_bytes(self._extents)

    def digests(self, parts: int) -> Iterator[bytes]:
        for part in self._table.scan(parts, 0):
            yield part.digests


def check_parts(table: PartTable, fd: int, upload: Upload, etags: Iterable[bytes]) -> Layout:
    layout = Layout(table)
    last_size = upload.block_size
    stored = table.scan(fd, 0)
    for number, etag in enumerate(etags):
        part = next(stored, None)
        if part is None or part.number != number:
            raise Refusal(400, -30031, f"part {number} is not there")
        if part.etag.encode("ascii") != etag:
            raise Refusal(400, -30032, f"the etag of part {number} is not that of the stored part")
        if last_size != upload.block_size:
            raise Refusal(400, -30033, f"part {number - 1} is not {upload.block_size} bytes long")
        last_size = part.size
        layout.add(part)
    if layout.count == 0:
        raise Refusal(400, -30034, "no parts")
    if last_size > upload.block_size:
        raise Refusal(400, -30033, f"part {layout.count - 1} exceeds {upload.block_size} bytes")
    beyond = next(stored, None)
    if beyond is not None:
        raise Refusal(400, -30035, f"part {beyond.number} is stored but not in the list")
    return layout


def reread_etag(directory: Path, size: int) -> str:
    """Object ETag of parts that do not end where blocks do."""
    content, hashed = Content(directory, size), ContentHash()
    buffer = memoryview(bytearray(SCAN_BYTES))
    try:
        for piece in content.pieces(0, size):
            done = 0
            while done < piece.length:
                room = buffer[: min(len(buffer), piece.length - done)]
                count = os.preadv(piece.fd, [room], piece.offset + done)
                if count == 0:
                    raise OSError("a stored part is shorter than its record says")
                hashed.update(room[:count])
                done += count
    finally:
        content.close()
    return hashed.object_etag()


def open_data(path: Path) -> int:
    """A file of bytes, made where it is not there."""
    return open_private(path)


def _touch(path: Path) -> None:
    os.close(open_data(path))
