"""One connection to a client: HTTP/1.1 heads and bodies as they come, answers as they go.

Written on bare sockets, because the standard library's server rewrites targets (`//` at the
front), cannot be cut off at a given byte, and costs tens of milliseconds to import. It knows
nothing of US3. Whatever goes wrong with the peer is Disconnected, so that an OSError elsewhere
stays what it is: trouble of this machine.

Invariants: a connection needs one buffer of 256 KiB, never a whole body; every wait for the peer
ends after the idle timeout, and so does the sum of many short waits in which next to nothing came.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from ufile_cli.emulator.protocol import Refusal, malformed

BUFFER_SIZE = 256 * 1024
HEAD_LIMIT = 64 * 1024
"""Bytes of a request head, at most."""
SLOWEST = 100
"""Bytes a second below which a client is let go after a while. A line of 4 KB a second that
dozens of uploads in parts share is still quicker."""

_DRAIN_SECONDS = 2.0
_DRAIN_LIMIT = 16 * 1024 * 1024
_RESET = struct.pack("ii", 1, 0)


class Disconnected(Exception):
    """The peer is gone, silent for too long, or was cut off."""


class Patience:
    """For how long a client may keep the server waiting: an account of seconds, in all.

    Waiting takes from it, bytes pay in, and it never holds more than it began with. So a client
    that was quick for an hour is let go as soon as one that was slow from the start.
    """

    def __init__(self, seconds: float, slowest: float = SLOWEST) -> None:
        """`slowest` in bytes a second: what keeps the account as it is."""
        self._most = self._left = seconds
        self._slowest = slowest

    def waited(self, seconds: float, count: int) -> None:
        """Note a wait and the bytes that it brought. Raises Disconnected for the last straw."""
        left = self._left - seconds + count / self._slowest
        if left < 0:
            raise Disconnected("the client is too slow")
        self._left = min(left, self._most)


class Connection:
    """A socket with what was read too much from it."""

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        idle_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.requests = 0
        self._sock = sock
        self._idle_timeout = idle_timeout
        self._clock = clock
        self._patience = Patience(idle_timeout)
        self._ahead = bytearray()
        self._buffer: memoryview | None = None
        sock.settimeout(idle_timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def buffer(self) -> memoryview:
        """The one buffer for bodies, made when it is first needed."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BUFFER_SIZE))
        return self._buffer

    def read_head(self) -> bytes | None:
        """The next request head without its empty line; None where the peer is done.

        Raises Disconnected, and Refusal (431) for a head that is too long. From its first byte on
        a head has the idle timeout to be complete, however it trickles.
        """
        try:
            return self._read_head()
        finally:
            self._patience = Patience(self._idle_timeout)
            with contextlib.suppress(OSError):
                self._sock.settimeout(self._idle_timeout)

    def _read_head(self) -> bytes | None:
        deadline = self._clock() + self._idle_timeout if self._ahead else None
        searched = 0
        while True:
            while self._ahead[:2] == b"\r\n":  # RFC 9112: empty lines before a request are skipped
                del self._ahead[:2]
            end = self._ahead.find(b"\r\n\r\n", max(0, searched - 3))
            if 0 <= end <= HEAD_LIMIT:
                head = bytes(self._ahead[:end])
                del self._ahead[: end + 4]
                return head
            if len(self._ahead) > HEAD_LIMIT:
                raise Refusal(431, -30003, "the request head is too long")
            searched = len(self._ahead)
            if deadline is not None:
                left = deadline - self._clock()
                if left <= 0:
                    raise Disconnected("the head took too long")
                with contextlib.suppress(OSError):
                    self._sock.settimeout(left)
            data = self._recv(64 * 1024)
            if not data:
                return None
            if deadline is None:  # empty lines before a head count too
                deadline = self._clock() + self._idle_timeout
            self._ahead += data

    def read_into(self, view: memoryview) -> int:
        """Some bytes of a body, at least one. Raises Disconnected."""
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count] = self._ahead[:count]
            del self._ahead[:count]
            return count
        began = self._clock()
        try:
            count = self._sock.recv_into(view)
        except OSError as error:
            raise Disconnected(str(error)) from None
        if count == 0:
            raise Disconnected("the body was cut short")
        self._patience.waited(self._clock() - began, count)
        return count

    def read_line(self, limit: int) -> bytes:
        """A line of chunked coding, without its end. Raises Disconnected or Refusal (400)."""
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > limit:
                raise malformed("a line of chunked coding is too long")
            began = self._clock()
            data = self._recv(4096)
            if not data:
                raise Disconnected("the body was cut short")
            self._patience.waited(self._clock() - began, len(data))
            self._ahead += data
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return line.rstrip(b"\r")

    def _recv(self, count: int) -> bytes:
        try:
            return self._sock.recv(count)
        except OSError as error:
            raise Disconnected(str(error)) from None

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all. Raises Disconnected.

        Not by sendall, whose timeout is for all of it: a slow reader would never get a whole
        buffer within it.
        """
        for part in parts:
            left = memoryview(part)
            while left:
                began = self._clock()
                try:
                    count = self._sock.send(left)
                except OSError as error:
                    raise Disconnected(str(error)) from None
                self._patience.waited(self._clock() - began, count)
                left = left[count:]

    def shrink_receive_buffer(self) -> None:
        """Let the kernel take in little ahead, so that a slow reader is felt by the sender."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def drain(self) -> None:
        """After an early answer: read on a little, so that the answer is not lost to a reset."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        taken = 0
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while taken < _DRAIN_LIMIT and (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                count = self._sock.recv_into(self.buffer)
                if count == 0:
                    break
                taken += count

    def interrupt(self) -> None:
        """Wake whoever waits on this socket in another thread; its wait ends in Disconnected."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Body:
    """The body of one request, read forward."""

    def __init__(self, connection: Connection, length: int | None) -> None:
        """`length` in bytes; None for chunked coding."""
        self.received = 0
        self.chunked = length is None
        self._connection = connection
        self._left = length or 0
        self._ended = length == 0

    @property
    def ended(self) -> bool:
        """Whether all of it has been read."""
        return self._ended

    @property
    def left(self) -> int:
        """Bytes still to come, as far as is known."""
        return self._left

    def read_into(self, view: memoryview) -> int:
        """Some of the next bytes; 0 at the end. Raises Disconnected or Refusal (400)."""
        if self._ended:
            return 0
        if self.chunked and self._left == 0 and not self._next_chunk():
            return 0
        count = self._connection.read_into(view[: min(len(view), self._left)])
        self._left -= count
        self.received += count
        if self._left == 0:
            if self.chunked:
                if self._connection.read_line(16):
                    raise malformed("a chunk is longer than announced")
            else:
                self._ended = True
        return count

    def _next_chunk(self) -> bool:
        size = self._connection.read_line(4096).partition(b";")[0].strip()
        if not size or len(size) > 15 or size.strip(b"0123456789abcdefABCDEF"):
            raise malformed("malformed chunk size")
        self._left = int(size, 16)
        if self._left == 0:
            trailers = 0
            while line := self._connection.read_line(4096):
                trailers += len(line)
                if trailers > HEAD_LIMIT:
                    raise malformed("too many trailers")
            self._ended = True
        return not self._ended


class Pace:
    """Waits so that bytes pass at a rate; stops waiting when told to."""

    def __init__(self, rate: float | None, stop: threading.Event) -> None:
        """`rate` in bytes a second; None for no limit."""
        self._rate = rate
        self._stop = stop

    def portion(self, view: memoryview) -> memoryview:
        """As much of a buffer as passes in a tenth of a second, at least one byte."""
        if self._rate is None:
            return view
        return view[: max(1, int(self._rate / 10))]

    def passed(self, count: int) -> None:
        """Wait as long as `count` bytes take."""
        if self._rate is not None:
            self._stop.wait(count / self._rate)


def format_head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Status line and headers of an answer, with the empty line."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


_REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
