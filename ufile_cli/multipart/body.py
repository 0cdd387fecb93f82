"""A part's body: a file-like that hashes inside read(), so that the bytes are touched once.

The network asks for a block at a time; each is read into one buffer per thread, hashed while it is
hot, and handed on as a view. So no part is ever whole in memory, and the digest is that of the
bytes that were sent, whatever happens to the file meanwhile.

Blocks are small, so that progress shows and pacing is even, and large where the line takes them so
fast that nobody could see the difference: each block costs three rounds of the interpreter's lock.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from ufile_cli.errors import NetworkError, SourceError
from ufile_cli.etag import BlockHasher
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.sources import FileSource

__all__ = ["BufferBody", "FileBody", "PartBody", "hash_file_part"]

BLOCK_READ = 256 * 1024
"""Bytes of a block."""

BLOCK_FAST = 1024 * 1024
"""Bytes of a block on a fast line."""

_FAST = 0.02
"""Seconds within which a block has to be gone for the line to be a fast one."""

_FEW = 24
"""Threads of the process up to which each may have a large block: memory stays bounded."""

_scratch = threading.local()


def _buffer() -> memoryview:
    """This thread's block, made once: a new one for every block costs page faults."""
    view: memoryview | None = getattr(_scratch, "view", None)
    if view is None:
        size = BLOCK_FAST if threading.active_count() <= _FEW else BLOCK_READ
        view = _scratch.view = memoryview(bytearray(size))
    return view


class PartBody(ABC):
    """What a request sends as its body: a length, and bytes in order, once.

    Args:
        length: bytes of the part.
        limit: paces the bytes.
        sent: told how many bytes of this attempt have been handed to the network.
    """

    def __init__(self, length: int, limit: RateLimit, sent: Callable[[int], None]) -> None:
        self._length = length
        self._limit = limit
        self._sent = sent
        self._block = BLOCK_READ
        self._handed_out = 0.0
        self.position = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[memoryview]:
        # requests takes for a stream what can be iterated; it calls read all the same.
        while block := self.read(BLOCK_READ):
            yield block

    def read(self, size: int = -1) -> memoryview:
        """The next bytes; valid until the next call. Empty at the end."""
        # What was handed out before is in the kernel's hands by now, or we would not be asked.
        if self.position:
            self._sent(self.position)
            fast = time.monotonic() - self._handed_out < _FAST
            self._block = len(_buffer()) if fast else BLOCK_READ
        left = self._length - self.position
        wanted = min(left, self._block if size is None or size < 0 else min(size, self._block))
        if wanted <= 0:
            return memoryview(b"")
        wanted = self._limit.grain(wanted)
        self._limit.take(wanted)
        block = self._take(wanted)
        self.position += len(block)
        self._handed_out = time.monotonic()
        return block

    def digests(self) -> bytes:
        """SHA-1 digests of the part's 4 MiB blocks.

        Raises:
            NetworkError: the server answered before it had all of the part.
        """
        if self.position != self._length:
            raise NetworkError("the server answered before it had the whole part")
        return self._digests()

    @abstractmethod
    def _take(self, size: int) -> memoryview:
        """The next `size` bytes, hashed or known to have been."""

    @abstractmethod
    def _digests(self) -> bytes:
        """The digests, once everything was taken."""


class FileBody(PartBody):
    """`length` bytes of a file from an offset on, hashed as they pass.

    Raises (from read):
        SourceError: the file ends before the part does.
    """

    def __init__(
        self,
        source: FileSource,
        number: int,
        offset: int,
        length: int,
        limit: RateLimit,
        sent: Callable[[int], None],
    ) -> None:
        super().__init__(length, limit, sent)
        self._source = source
        self._number = number
        self._offset = offset
        self._hasher = BlockHasher()

    def _take(self, size: int) -> memoryview:
        block = _buffer()[:size]
        _fill(self._source, block, self._offset + self.position, self._number)
        self._hasher.update(block)
        return block

    def _digests(self) -> bytes:
        return self._hasher.digests()


class BufferBody(PartBody):
    """A part of a stream, which is in memory and was hashed when it was read."""

    def __init__(
        self,
        content: memoryview,
        digests: bytes,
        limit: RateLimit,
        sent: Callable[[int], None],
    ) -> None:
        super().__init__(len(content), limit, sent)
        self._content = content
        self._known = digests

    def _take(self, size: int) -> memoryview:
        return self._content[self.position : self.position + size]

    def _digests(self) -> bytes:
        return self._known


def hash_file_part(
    source: FileSource,
    offset: int,
    length: int,
    hasher: BlockHasher,
    *,
    number: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Feed `length` bytes of a file to the hasher.

    Raises:
        SourceError: the file ends before.
        InterruptedError: `stopped` said so.
    """
    position = 0
    while position < length:
        if stopped():
            raise InterruptedError("hashing was stopped")
        block = _buffer()[: length - position]
        _fill(source, block, offset + position, number)
        hasher.update(block)
        position += len(block)


def _fill(source: FileSource, block: memoryview, offset: int, number: int | None) -> None:
    got = source.read_into(block, offset)
    if got < len(block):
        raise SourceError(
            f"{source.name} ends at byte {offset + got}: it has become shorter", part=number
        )
