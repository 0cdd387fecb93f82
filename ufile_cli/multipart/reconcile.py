"""The journal, the server's part list and our own bytes: what is to be done about each part. Pure.

The journal is a hint, the server's list the truth. A part counts as sent only where the server
has it with the right size, and with the ETag of our bytes or the one that the journal has for it.
A part of the server's that the journal does not know is no use before our own bytes were hashed:
it may be ours (its acknowledgement was lost) or a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from ufile_cli.etag import BLOCK, decode_part_etag

__all__ = ["Found", "Listing", "NoAdvance", "Verdict", "can_be_checked", "judge"]


class Verdict(Enum):
    """What to do about one part."""

    KEEP = "the server has it"
    CHECK = "the server has something: hash our bytes, adopt it if it is them, else send"
    SEND = "the server does not have it"


class Found(NamedTuple):
    """A part as the server lists it.

    Attributes:
        size: bytes, None where the server does not say.
        etag: unquoted; None where the server does not say.
    """

    number: int
    size: int | None
    etag: str | None


class NoAdvance(ValueError):
    """A page of the part list that does not go on from the last one."""


def judge(journalled: str | None, found: Found | None, *, listed: bool, size: int) -> Verdict:
    """What to do about a part.

    Args:
        journalled: its ETag by the journal, None where the journal does not have it as up.
        found: the part by the server's list, None where it is not in it.
        listed: whether the server's list could be had; without one the journal is believed.
        size: bytes that the part has to have.
    """
    if not listed:
        return Verdict.KEEP if journalled is not None else Verdict.SEND
    if found is None or (found.size is not None and found.size != size):
        return Verdict.SEND
    if found.etag is None:
        # Not even an ETag: the journal's word and the right size, or nothing.
        known = journalled is not None and found.size == size
        return Verdict.KEEP if known else Verdict.SEND
    if journalled == found.etag or (journalled is not None and _same_sha1(journalled, found.etag)):
        return Verdict.KEEP
    return Verdict.CHECK if can_be_checked(found.etag, size) else Verdict.SEND


def _same_sha1(one: str, other: str) -> bool:
    """Whether two ETags say one SHA-1: a list may dress it otherwise than UploadPart did."""
    digest = decode_part_etag(one)
    return digest is not None and digest == decode_part_etag(other)


def can_be_checked(etag: str, size: int) -> bool:
    """Whether hashing our own bytes can tell if they are what this part ETag stands for."""
    if size <= BLOCK:
        return decode_part_etag(etag) is not None
    return len(etag) in (28, 32)  # may be a known form; if it isn't, the part is sent again


class Listing:
    """The server's part list as its pages come in, ascending.

    Attributes:
        covered: part numbers below this are known, one way or the other; None for all.
        available: whether there is a list at all.
        marker: what the next page has to be asked for, None for the first one.
    """

    def __init__(self) -> None:
        self.covered: int | None = 0
        self.available = True
        self.marker: int | None = None
        self._found: dict[int, Found] = {}

    def unavailable(self) -> None:
        """The server can't list, or refuses to: the journal alone has to do."""
        self.available = False
        self.covered = None
        self._found.clear()

    def page(self, found: Iterable[Found], *, truncated: bool, next_marker: int | None) -> None:
        """Take one page.

        Raises:
            NoAdvance: it would be asked for for ever.
        """
        before = -1 if self.marker is None else self.marker
        highest = before
        for part in found:
            self._found[part.number] = part
            highest = max(highest, part.number)
        if not truncated:
            self.covered = None
            return
        if next_marker is not None:
            highest = max(highest, next_marker)
        if highest <= before:
            raise NoAdvance(f"the part list does not go on after part {highest}")
        self.marker = highest
        self.covered = highest + 1

    def knows(self, number: int) -> bool:
        """Whether it is known whether the server has this part."""
        return self.covered is None or number < self.covered

    def take(self, number: int) -> Found | None:
        """What the server has of this part; asked once for each, then forgotten."""
        return self._found.pop(number, None)

    def peek(self, number: int) -> Found | None:
        """What the server has of this part, without forgetting it."""
        return self._found.get(number)

    def beyond(self, count: int) -> Iterator[int]:
        """Part numbers that the server has but a source of `count` parts does not."""
        return (number for number in self._found if number >= count)
