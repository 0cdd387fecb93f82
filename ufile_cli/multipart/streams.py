"""Where a stream's bytes come from: a descriptor, a file-like object, a command.

A stream is read once, in order, by one thread, into buffers of one part each that are used again
and again: `threads` of them on the wire and one being filled. While none is free the reader does
not read, and the producer waits; that is how an outage reaches it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ufile_cli.errors import CommandFailed, SourceError, UFileError
from ufile_cli.etag import BLOCK, BlockHasher

__all__ = [
    "CommandSource",
    "DescriptorSource",
    "ObjectSource",
    "PartRead",
    "ReaderFailed",
    "StreamEnded",
    "StreamReader",
    "StreamSource",
]

_CHUNK = 256 * 1024
"""Bytes read and hashed at a time, so that they are hashed while they are in the cache."""


class StreamSource(ABC):
    """A stream of bytes that is read once from its beginning to its end.

    Attributes:
        name: what a person calls it.
    """

    name = "-"

    def __init__(self) -> None:
        self._unread = b""

    def unread(self, content: bytes) -> None:
        """Put back what was read to see how long the stream is."""
        self._unread = content + self._unread

    def read_into(self, view: memoryview) -> int:
        """Read some bytes, at least one; 0 at the end.

        Raises:
            SourceError: it can't be read.
        """
        if self._unread:
            taken = min(len(view), len(self._unread))
            view[:taken] = self._unread[:taken]
            self._unread = self._unread[taken:]
            return taken
        return self._read(view)

    @abstractmethod
    def _read(self, view: memoryview) -> int:
        """Read some bytes from where they come from; 0 at the end."""

    def ended_well(self) -> None:  # noqa: B027  most streams have no more to say
        """Called at the end of the stream: whether it may be taken for whole.

        Raises:
            CommandFailed: it may not.
        """

    def rewind(self) -> bool:
        """Go back to where the first byte was read; False where that can't be."""
        return False

    def close(self) -> None:  # noqa: B027  standard input is not ours to close
        """Let go of it."""


class DescriptorSource(StreamSource):
    """An open descriptor: standard input, be it a pipe, a FIFO or a redirected file."""

    def __init__(self, fd: int, name: str = "-") -> None:
        super().__init__()
        self.name = name
        self._fd = fd
        try:
            self._start: int | None = os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            self._start = None

    def _read(self, view: memoryview) -> int:
        while True:
            try:
                return os.readv(self._fd, [view])
            except BlockingIOError:
                # Somebody shares the pipe with us and has made it non-blocking.
                os.set_blocking(self._fd, True)
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise SourceError("standard input is closed") from error
                raise SourceError(
                    f"standard input can't be read: {error.strerror or error}"
                ) from error

    def rewind(self) -> bool:
        if self._start is None:
            return False
        try:
            os.lseek(self._fd, self._start, os.SEEK_SET)
        except OSError:
            return False
        self._unread = b""
        return True


class ObjectSource(StreamSource):
    """A file-like object with read(n), or bytes."""

    def __init__(self, stream: Any, name: str = "stream") -> None:
        super().__init__()
        self.name = name
        if isinstance(stream, bytes | bytearray | memoryview):
            import io

            stream = io.BytesIO(bytes(stream))
        self._stream = stream
        self._start: int | None = None
        try:
            if stream.seekable():
                self._start = stream.tell()
        except (AttributeError, OSError, ValueError):
            pass

    def _read(self, view: memoryview) -> int:
        try:
            content = self._stream.read(len(view))
        except (OSError, ValueError) as error:
            raise SourceError(f"the stream can't be read: {error}") from error
        if not content:
            return 0
        if isinstance(content, str):
            raise SourceError("the stream yields text; open it in binary mode")
        if len(content) > len(view):
            raise SourceError("the stream yields more than was asked for")
        view[: len(content)] = content
        return len(content)

    def rewind(self) -> bool:
        if self._start is None:
            return False
        try:
            self._stream.seek(self._start)
        except (OSError, ValueError):
            return False
        self._unread = b""
        return True


class CommandSource(StreamSource):
    """The output of a command, whole only when the command ends with 0.

    Its standard error is passed through; the private key is not in its environment. It stays in
    our process group, so that Ctrl-C reaches it as a terminal means it to.
    """

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self.name = command[0]
        environment = {
            name: value for name, value in os.environ.items() if name != "UFILE_PRIVATE_KEY"
        }
        try:
            self._process = subprocess.Popen(
                list(command), stdout=subprocess.PIPE, bufsize=0, env=environment
            )
        except OSError as error:
            raise CommandFailed(f"{command[0]} can't be run: {error.strerror or error}") from error
        if self._process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        self._fd = self._process.stdout.fileno()

    def _read(self, view: memoryview) -> int:
        try:
            return os.readv(self._fd, [view])
        except OSError as error:
            raise SourceError(
                f"the output of {self.name} can't be read: {error.strerror or error}"
            ) from error

    def ended_well(self) -> None:
        status = self._process.wait()
        if status == 0:
            return
        if status > 0:
            raise CommandFailed(f"{self.name} ended with exit code {status}: no object was made")
        try:
            killer = signal.Signals(-status).name
        except ValueError:
            killer = f"signal {-status}"
        raise CommandFailed(f"{self.name} was killed by {killer}: no object was made")

    def close(self) -> None:
        """End the command, where it still runs: nobody reads its output any more."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass(frozen=True, slots=True, eq=False)
class PartRead:
    """A part of the stream in memory.

    Attributes:
        content: exactly the part's bytes; the buffer behind goes back with `release`.
        digests: SHA-1 digests of its 4 MiB blocks.
    """

    number: int
    content: memoryview
    digests: bytes
    buffer: bytearray

    def __len__(self) -> int:
        return len(self.content)

    def copy(self) -> PartRead:
        """The same part in a buffer of its own."""
        buffer = bytearray(len(self.buffer))
        buffer[: len(self)] = self.content
        return PartRead(self.number, memoryview(buffer)[: len(self)], self.digests, buffer)


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The end was seen, and may be taken for the end.

    Attributes:
        size: bytes of the whole stream.
    """

    size: int


@dataclass(frozen=True, slots=True)
class ReaderFailed:
    """The stream could not be read to its end."""

    error: BaseException


class StreamReader:
    """The one thread that reads a stream, and the buffers it reads into.

    Messages (`PartRead` in order, then `StreamEnded` or `ReaderFailed`) go to whoever is attached;
    while nobody is, they wait. So an upload that was given up can be taken up again in the same
    process without losing a byte that had been read.

    Args:
        buffers: how many parts are in memory at most.
        first: the number of the first part that the stream yields.
    """

    def __init__(
        self, source: StreamSource, block_size: int, buffers: int, *, first: int = 0
    ) -> None:
        self.source = source
        self.block_size = block_size
        self.first = first
        self._most = buffers
        self._made = 0
        self._free: deque[bytearray] = deque()
        self._backlog: list[object] = []
        self._told: Callable[[object], None] | None = None
        self._gate = threading.Condition()
        self._over = False
        self._whole = BlockHasher() if first == 0 and block_size % BLOCK else None
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def whole_etag(self) -> str | None:
        """The object ETag of all that passed, where parts don't give it; None where unknown."""
        return self._whole.etag() if self._whole is not None else None

    def attach(self, told: Callable[[object], None]) -> None:
        """Tell this one from now on, and first what was kept meanwhile."""
        with self._gate:
            self._backlog.sort(key=lambda m: m.number if isinstance(m, PartRead) else 1 << 62)
            for message in self._backlog:
                told(message)
            self._backlog.clear()
            self._told = told
        if not self._thread.is_alive() and not self._over:
            self._thread.start()

    def detach(self, kept: Sequence[PartRead]) -> None:
        """Nobody listens any more; parts that are not up yet are kept for the next one."""
        with self._gate:
            self._told = None
            self._backlog.extend(kept)

    def keep(self, message: object) -> None:
        """A message that nobody could deal with before the end: for the next one."""
        with self._gate:
            self._backlog.append(message)

    def release(self, part: PartRead) -> None:
        """The part is up (or need not be sent): its buffer may be filled again."""
        with self._gate:
            self._free.append(part.buffer)
            self._gate.notify()

    def close(self) -> None:
        """Read no further."""
        with self._gate:
            self._over = True
            self._gate.notify()
        self.source.close()

    def _tell(self, message: object) -> None:
        with self._gate:
            if self._told is not None:
                self._told(message)
            else:
                self._backlog.append(message)

    def _buffer(self) -> bytearray | None:
        with self._gate:
            while not self._over:
                if self._free:
                    return self._free.popleft()
                if self._made < self._most:
                    self._made += 1
                    return bytearray(self.block_size)
                self._gate.wait()
        return None

    def _run(self) -> None:
        try:
            number, size = self.first, self.first * self.block_size
            while (buffer := self._buffer()) is not None:
                length, digests = self._fill(memoryview(buffer))
                size += length
                if length:
                    content = memoryview(buffer)[:length]
                    self._tell(PartRead(number, content, digests, buffer))
                    number += 1
                if length < self.block_size:
                    self.source.ended_well()
                    self._over = True
                    self._tell(StreamEnded(size))
                    return
        except UFileError as error:
            self._over = True
            self._tell(ReaderFailed(error))
        except BaseException as error:  # a stream object's own exception, or a bug: not lost
            self._over = True
            self._tell(ReaderFailed(error))

    def _fill(self, view: memoryview) -> tuple[int, bytes]:
        """Exactly a part, unless the stream ends: a short read in between ruins the plan."""
        hasher = BlockHasher()
        filled = 0
        while filled < len(view):
            got = self.source.read_into(view[filled : filled + _CHUNK])
            if got == 0:
                break
            piece = view[filled : filled + got]
            hasher.update(piece)
            if self._whole is not None:
                self._whole.update(piece)
            filled += got
        return filled, hasher.digests()
