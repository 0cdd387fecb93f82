"""Which parts of an upload are up, with ETag and digests, in about 23 bytes a part.

Pure and not thread-safe: its owner holds a lock. A list of ETag strings would take four times
the memory, which matters at a million parts; so an ETag that is just the digest in another dress
is stored as the digest alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from ufile_cli.etag import BLOCK, DIGEST_SIZE, object_etag, part_etag

__all__ = ["PartTable"]

_ABSENT, _PART_FORM, _OBJECT_FORM, _OTHER = 0, 1, 2, 3


class PartTable:
    """ETags and block digests by part number, from 0.

    Args:
        block_size: bytes of each part but the last.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._slots = -(-block_size // BLOCK)
        self._extra_forms = [_OBJECT_FORM, _OTHER] + [_PART_FORM] * (self._slots > 1)
        self._form = bytearray()
        self._count = array("H")
        self._digests = bytearray()
        self._other: dict[int, str] = {}
        self._up = 0
        self._pause = 0

    def record(self, number: int, etag: str, digests: bytes | None) -> None:
        """The part is up: its ETag, and the SHA-1 digests of its blocks where they are known."""
        if number < 0:
            raise ValueError("part numbers start at 0")
        if digests is not None and not DIGEST_SIZE <= len(digests) <= self._slots * DIGEST_SIZE:
            raise ValueError("as many digests as the part has blocks are needed")
        missing = number + 1 - len(self._form)
        if missing > 0:
            self._form.extend(bytes(missing))
            self._count.extend([0] * missing)
            self._digests.extend(bytes(missing * self._slots * DIGEST_SIZE))
        if not self._form[number]:
            self._up += 1
        self._other.pop(number, None)
        form = _OTHER
        if digests:
            if len(digests) == DIGEST_SIZE and etag == part_etag(digests):
                form = _PART_FORM
            elif etag == object_etag(digests):
                form = _OBJECT_FORM
            start = number * self._slots * DIGEST_SIZE
            self._digests[start : start + len(digests)] = digests
        self._count[number] = len(digests) // DIGEST_SIZE if digests else 0
        if form == _OTHER:
            self._other[number] = etag
        self._form[number] = form

    def record_plain(self, first: int, digests: bytes) -> None:
        """Many parts at once, of one block each, whose ETags say just these digests."""
        count = len(digests) // DIGEST_SIZE
        if self._slots == 1 and first == len(self._form):
            self._form.extend(bytes([_PART_FORM]) * count)
            self._count.extend(array("H", [1]) * count)
            self._digests.extend(digests)
            self._up += count
            return
        for index in range(count):
            digest = digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
            self.record(first + index, part_etag(digest), digest)

    def drop(self, number: int) -> None:
        """The part is not up (any more)."""
        if number in self:
            self._form[number] = _ABSENT
            self._count[number] = 0
            self._other.pop(number, None)
            self._up -= 1
            self._pause = min(self._pause, number)

    def __contains__(self, number: object) -> bool:
        return (
            isinstance(number, int)
            and 0 <= number < len(self._form)
            and self._form[number] != _ABSENT
        )

    def __len__(self) -> int:
        """How many parts are up."""
        return self._up

    def __iter__(self) -> Iterator[int]:
        """The numbers of the parts that are up, ascending."""
        return (number for number, form in enumerate(self._form) if form)

    @property
    def end(self) -> int:
        """One above the highest part that is up; 0 when none is."""
        return (
            len(self._form.rstrip(b"\0")) if self._form and not self._form[-1] else len(self._form)
        )

    @property
    def pause(self) -> int:
        """The first part that is not up."""
        found = self._form.find(0, self._pause)
        self._pause = len(self._form) if found < 0 else found
        return self._pause

    def etag(self, number: int) -> str | None:
        """The part's ETag, None where it is not up."""
        if number not in self:
            return None
        form = self._form[number]
        if form == _OTHER:
            return self._other[number]
        digests = self._stored(number)
        return part_etag(digests) if form == _PART_FORM else object_etag(digests)

    def digests(self, number: int) -> bytes | None:
        """The SHA-1 digests of the part's blocks, concatenated; None where they are unknown."""
        if number not in self or not self._count[number]:
            return None
        return self._stored(number)

    def extra_digests(self, number: int) -> bytes | None:
        """The digests where the ETag does not already say them; what a journal writes besides.

        In parts of several blocks an ETag that looks like one SHA-1 may be something else.
        """
        if number not in self or (self._slots == 1 and self._form[number] == _PART_FORM):
            return None
        return self.digests(number)

    @property
    def last_extra(self) -> int:
        """The highest part that has extra digests, -1 where none has."""
        number = len(self._form)
        while True:
            number = max(self._form.rfind(form, 0, number) for form in self._extra_forms)
            if number < 0 or self._count[number]:
                return number

    def plain(self, first: int, stop: int) -> bytes | None:
        """The digests of these parts where each is up, of one block, and has them as its ETag."""
        if self._slots != 1 or self._form.count(_PART_FORM, first, stop) != stop - first:
            return None
        return bytes(memoryview(self._digests)[first * DIGEST_SIZE : stop * DIGEST_SIZE])

    def all_digests(self, parts: int) -> bytes | None:
        """The digests of parts 0 to parts - 1, concatenated; None where one is unknown."""
        if self._slots == 1:
            if len(self._form) < parts or 0 in self._count[:parts]:
                return None
            return bytes(memoryview(self._digests)[: parts * DIGEST_SIZE])
        joined = bytearray()
        for number in range(parts):
            digests = self.digests(number)
            if digests is None:
                return None
            if number < parts - 1 and self._count[number] != self._slots:
                # Only the last part may have fewer blocks: what was taken for a digest is an
                # opaque ETag that happens to look like one.
                return None
            joined += digests
        return bytes(joined)

    def etags(self) -> Iterator[str | None]:
        """The ETags by part number, None for parts that aren't up; ends at the highest that is."""
        return (self.etag(number) for number in range(self.end))

    def _stored(self, number: int) -> bytes:
        start = number * self._slots * DIGEST_SIZE
        return bytes(self._digests[start : start + self._count[number] * DIGEST_SIZE])
