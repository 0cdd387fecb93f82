"""ETag arithmetic of US3: blocks, parts and whole objects.

Pure: bytes in, digests and strings out; no file, no socket. Everything rests on one unit, the
block of 4 MiB, whatever the block size of a multipart upload is (UCloud's API reference, "ETag").

    object ETag = urlsafe base64 of (number of blocks, 4 bytes little-endian, then one SHA-1)
        where the SHA-1 is that of the content up to one block, and beyond that
        that of the blocks' concatenated digests: 24 bytes, 32 characters
    part ETag   = urlsafe base64 of the part's SHA-1 where the part is at most one block
        (28 characters), or the 32-character form with the block count in front

The form of the ETag of a part of several blocks is undocumented: such an ETag is compared with
the object form, since a server may well use it, and is otherwise opaque.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

__all__ = [
    "BLOCK",
    "DIGEST_SIZE",
    "BlockHasher",
    "BytesLike",
    "blocks_of",
    "decode_part_etag",
    "matches_part",
    "object_etag",
    "part_etag",
    "same_form",
    "unquote",
]

BLOCK = 4 * 1024 * 1024
"""Bytes of a block, the unit of every ETag."""

DIGEST_SIZE = 20
"""Bytes of a SHA-1."""

BytesLike = bytes | bytearray | memoryview


def blocks_of(size: int) -> int:
    """How many blocks `size` bytes have; an empty content has one, an empty one."""
    return max(1, -(-size // BLOCK))


class BlockHasher:
    """SHA-1 of each 4 MiB block of a content that passes once, in pieces of any length.

    Attributes:
        size: bytes that passed.
    """

    __slots__ = ("_current", "_digests", "_room", "size")

    def __init__(self) -> None:
        self._digests = bytearray()
        self._current = hashlib.sha1(usedforsecurity=False)
        self._room = BLOCK
        self.size = 0

    def update(self, data: BytesLike) -> None:
        """Take the next bytes of the content."""
        length = len(data)
        self.size += length
        if length < self._room:
            self._current.update(data)
            self._room -= length
            return
        view = memoryview(data)
        while len(view) >= self._room:
            self._current.update(view[: self._room])
            view = view[self._room :]
            self._digests += self._current.digest()
            self._current = hashlib.sha1(usedforsecurity=False)
            self._room = BLOCK
        if view:
            self._current.update(view)
            self._room -= len(view)

    def digests(self) -> bytes:
        """The blocks' digests so far, concatenated; the last block may be a short one."""
        if self._room < BLOCK or not self._digests:
            return bytes(self._digests) + self._current.digest()
        return bytes(self._digests)

    def etag(self) -> str:
        """The object ETag of the content so far."""
        return object_etag(self.digests())


def object_etag(digests: BytesLike) -> str:
    """The 32-character ETag of the content whose blocks have these digests (concatenated)."""
    count = len(digests) // DIGEST_SIZE
    if count < 1 or len(digests) % DIGEST_SIZE:
        raise ValueError("digests of whole blocks are needed, at least one")
    if count == 1:
        final = bytes(digests)
    else:
        final = hashlib.sha1(digests, usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(count.to_bytes(4, "little") + final).decode("ascii")


def part_etag(digests: BytesLike) -> str:
    """The ETag that a part is expected to get: 28 characters for one block, else object form."""
    if len(digests) == DIGEST_SIZE:
        return base64.urlsafe_b64encode(digests).decode("ascii")
    return object_etag(digests)


def decode_part_etag(etag: str) -> bytes | None:
    """The SHA-1 inside a part ETag of one block, in either of its forms; None for other forms."""
    if len(etag) not in (28, 32):
        return None
    try:
        raw = base64.b64decode(etag.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(raw) == DIGEST_SIZE:
        return raw
    if len(raw) == DIGEST_SIZE + 4 and raw[:4] == b"\x01\x00\x00\x00":
        return raw[4:]
    return None


def matches_part(etag: str, digests: BytesLike) -> bool | None:
    """Whether a part ETag is that of the bytes with these block digests.

    Returns:
        True or False where the form of the ETag is known, None where it is opaque: nothing can
        be said, and only an equal ETag on record speaks for the part.
    """
    if len(digests) > DIGEST_SIZE:
        # Several blocks: undocumented. Equal to the object form, or to its SHA-1 alone, is proof
        # enough; anything else may be a form of its own.
        known = object_etag(digests)
        raw = base64.urlsafe_b64decode(known)[4:]
        return True if etag in (known, base64.urlsafe_b64encode(raw).decode("ascii")) else None
    digest = decode_part_etag(etag)
    return None if digest is None else digest == bytes(digests)


def same_form(theirs: str, ours: str) -> bool:
    """Whether an object's ETag is of the form of ours, and counts as many blocks.

    Then a difference means other content; an ETag of another form says nothing.
    """
    try:
        raw = base64.b64decode(theirs.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return False
    return len(raw) == DIGEST_SIZE + 4 and raw[:4] == base64.urlsafe_b64decode(ours)[:4]


def unquote(etag: str) -> str:
    """An ETag without the quotes that headers put around it; a weak mark is dropped as well."""
    etag = etag.strip()
    if etag.startswith("W/"):
        etag = etag[2:]
    if len(etag) >= 2 and etag[0] == etag[-1] == '"':
        return etag[1:-1]
    return etag
