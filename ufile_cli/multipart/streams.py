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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from ufile_cli.errors import CommandFailed, SourceError, UsageError
from ufile_cli.etag import BLOCK, BlockHasher
from ufile_cli.multipart.workers import start_thread

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

_LONGEST_LINE = 4096
"""Bytes of a line that a command says at once; a longer one is told in pieces."""

_LAST_WORDS = 3.0
"""Seconds for the rest of what a command said; a child that outlives it may keep the pipe open."""


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

    def can_rewind(self) -> bool:
        """Whether `rewind` can be tried."""
        return False

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

    def can_rewind(self) -> bool:
        return self._start is not None

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
        if content is None:  # a non-blocking one that has nothing now: not its end
            raise SourceError("the stream does not wait for its data; open it in blocking mode")
        if isinstance(content, str):
            raise SourceError("the stream yields text; open it in binary mode")
        if not content:
            return 0
        if len(content) > len(view):
            raise SourceError("the stream yields more than was asked for")
        view[: len(content)] = content
        return len(content)

    def can_rewind(self) -> bool:
        return self._start is not None

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

    The private key is not in its environment. It stays in our process group, so that Ctrl-C
    reaches it as a terminal means it to.

    Args:
        told: takes each line of its standard error, on a thread of its own; None where that goes
            where ours goes.
    """

    def __init__(self, command: Sequence[str], told: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.name = command[0]
        environment = {
            name: value for name, value in os.environ.items() if name != "UFILE_PRIVATE_KEY"
        }
        try:
            self._process = subprocess.Popen(
                list(command),
                stdout=subprocess.PIPE,
                stderr=None if told is None else subprocess.PIPE,
                bufsize=0,
                env=environment,
            )
        except OSError as error:
            raise CommandFailed(f"{command[0]} can't be run: {error.strerror or error}") from error
        if self._process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        self._fd = self._process.stdout.fileno()
        self._teller: threading.Thread | None = None
        if told is not None and self._process.stderr is not None:
            teller = threading.Thread(
                target=_tell_lines, args=(self._process.stderr, told), name="stderr", daemon=True
            )
            try:
                start_thread(teller)
            except UsageError:
                self.close()
                raise
            self._teller = teller

    def _read(self, view: memoryview) -> int:
        try:
            return os.readv(self._fd, [view])
        except OSError as error:
            raise SourceError(
                f"the output of {self.name} can't be read: {error.strerror or error}"
            ) from error

    def ended_well(self) -> None:
        status = self._process.wait()
        self._hear_out()
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
        self._hear_out()

    def _hear_out(self) -> None:
        """Wait until all that it said was told; once, since a child of its own may be silent."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.join(_LAST_WORDS)


def _tell_lines(pipe: IO[bytes], told: Callable[[str], None]) -> None:
    """Tell each line that comes through the pipe, as it stands on a terminal in the end.

    What a carriage return takes back (a progress display) is not told.
    """
    held = b""
    with pipe:
        while piece := pipe.read(_LONGEST_LINE):
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                _tell_line(line, told)
            held = held[held.rfind(b"\r", 0, -1) + 1 :]  # the last one may be half a line's end
            if len(held) >= _LONGEST_LINE:
                _tell_line(held, told)
                held = b""
    if held:
        _tell_line(held, told)


def _tell_line(line: bytes, told: Callable[[str], None]) -> None:
    line = line.rstrip(b"\r")
    line = line[line.rfind(b"\r") + 1 :]
    for start in range(0, max(1, len(line)), _LONGEST_LINE):
        piece = line[start : start + _LONGEST_LINE].decode("utf-8", "surrogateescape")
        told(piece.expandtabs())


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


class StreamEnded(NamedTuple):
    """The end was seen, and may be taken for the end.

    Attributes:
        size: bytes of the whole stream.
    """

    size: int


class ReaderFailed(NamedTuple):
    """The stream could not be read to its end."""

    error: BaseException


class StreamReader:
    """The one thread that reads a stream, and the buffers it reads into.

    It owns what it has read: a part is held until it is released, and whoever attaches is told of
    all that is held, in order, then of the end. So an upload that was given up can be taken up
    again in the same process without losing a byte, whatever messages were under way. While
    nobody is attached the stream is not read, and no thread waits.

    A stream that failed is not read any further: many objects say "end" after an error, and the
    object would be cut short.

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
        self._held: dict[int, PartRead] = {}
        self._lent: set[int] = set()
        self._next = first
        self._size = first * block_size
        self._end: StreamEnded | ReaderFailed | None = None
        self._told: Callable[[object], None] | None = None
        self._gate = threading.Condition()
        self._closed = False
        self._whole = BlockHasher() if first == 0 and block_size % BLOCK else None
        self._thread: threading.Thread | None = None
        self._running = False

    def whole_etag(self) -> str | None:
        """The object ETag of all that passed, where parts don't give it; None where unknown."""
        return self._whole.etag() if self._whole is not None else None

    def attach(self, told: Callable[[object], None]) -> None:
        """Tell this one from now on (`PartRead`, at last `StreamEnded` or `ReaderFailed`).

        First of all comes what is held.
        """
        with self._gate:
            for number in sorted(self._held):
                told(self._held[number])
            if self._end is not None:
                told(self._end)
            self._told = told
            if self._end is None and not self._running and not self._closed:
                thread = threading.Thread(target=self._run, name="stream", daemon=True)
                start_thread(thread)
                self._running, self._thread = True, thread

    def detach(self, flying: Iterable[int]) -> None:
        """Nobody listens any more, and nothing more is read.

        Args:
            flying: parts that a worker may still be sending. Their buffers are never filled
                again: what that worker sends has to stay what it is.
        """
        with self._gate:
            self._told = None
            self._lent.update(number for number in flying if number in self._held)
            self._gate.notify_all()

    def release(self, part: PartRead) -> None:
        """The part is up (or need not be sent): its buffer may be filled again."""
        with self._gate:
            if self._held.pop(part.number, None) is None:
                return
            if part.number in self._lent:
                self._lent.discard(part.number)
                self._made -= 1
            else:
                self._free.append(part.buffer)
            self._gate.notify_all()

    def has(self, number: int) -> bool:
        """Whether the part is held or still to come."""
        with self._gate:
            return number in self._held or number >= self._next

    def passed(self, first: int) -> list[int]:
        """The parts from `first` on that are neither held nor still to come."""
        with self._gate:
            return [number for number in range(first, self._next) if number not in self._held]

    def holds_all(self) -> bool:
        """Whether every byte of the stream that was read is still held."""
        with self._gate:
            return self.first == 0 and len(self._held) == self._next

    def last_before(self, end: int) -> int | None:
        """The highest part below `end` that is held or still to come; None where all passed."""
        with self._gate:
            if end > self._next:
                return end - 1
            return max((number for number in self._held if number < end), default=None)

    def rest(self, timeout: float | None) -> bool:
        """Wait for the thread of one that is detached, ended or closed; whether it is gone."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def stop(self) -> None:
        """Detach, and wait for the reading under way: nobody else reads the source then."""
        self.detach(())
        self.rest(None)

    def close(self) -> None:
        """Read no further."""
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        self.source.close()

    def _ended(self, end: StreamEnded | ReaderFailed) -> None:
        with self._gate:
            self._end = end
            if self._told is not None:
                self._told(end)

    def _read(self, part: PartRead) -> None:
        with self._gate:
            self._held[part.number] = part
            self._next = part.number + 1
            self._size += len(part)
            if self._told is not None:
                self._told(part)

    def _buffer(self) -> bytearray | None:
        """A buffer to fill; None where the thread has to end."""
        with self._gate:
            while not self._closed and self._told is not None:
                if self._free:
                    return self._free.popleft()
                if self._made < self._most:
                    self._made += 1
                    try:
                        return bytearray(self.block_size)
                    except MemoryError:
                        raise UsageError(
                            f"there is no memory for {self._most} parts of the "
                            f"{self.block_size:,} bytes that the server wants",
                            hint="with fewer --threads it takes less",
                        ) from None
                self._gate.wait()
            self._running = False  # under the gate: whoever attaches now starts another one
        return None

    def _run(self) -> None:
        try:
            while (buffer := self._buffer()) is not None:
                length, digests = self._fill(memoryview(buffer))
                if length < self.block_size:
                    # Asked before the short part goes out: where a producer died in its middle,
                    # the next one, whose part is a whole one, must not be refused for it.
                    self.source.ended_well()
                if length:
                    content = memoryview(buffer)[:length]
                    self._read(PartRead(self._next, content, digests, buffer))
                if length < self.block_size:
                    self._ended(StreamEnded(self._size))
                    return
        except BaseException as error:  # a stream object's own exception, or a bug: not lost
            self._ended(ReaderFailed(error))

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
