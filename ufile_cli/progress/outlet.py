"""The one place where progress meets a file descriptor that may go away.

A terminal is closed, `| head` ends, a log disk fills up: none of it may end an upload. So a write
here never raises; after the first failure the outlet is `gone` and everything later is dropped.

Nor may it hold one up: a terminal is stopped with Ctrl-S, a reader sleeps while its pipe is full.
A write waits a moment for room, once; then texts are dropped until there is room again.

It writes straight to the descriptor, one call for each text: nothing stays behind in a buffer of
Python's that would fail once more, and change the exit code, when the interpreter ends; and lines
of several processes in one log do not mix.
"""

from __future__ import annotations

import os
import select
from typing import IO

__all__ = ["Outlet"]


_MOMENT = 1.0
"""Seconds that a write waits for room."""

_PIECE: int = getattr(select, "PIPE_BUF", 4096)
"""Bytes that a pipe which has room takes without waiting."""


class Outlet:
    """Text out to `stream` (None, as `sys.stderr` is when closed, or a stand-in without fileno).

    Args:
        patience: seconds that a write waits for room, unless the one before waited in vain.
    """

    def __init__(self, stream: IO[str] | None, *, patience: float = _MOMENT) -> None:
        self._stream = stream
        self._patience = patience
        self._stuck = False
        self._rest = b""  # of a text that went out in part: its line is finished first
        self.gone = stream is None
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self._fd: int | None = None
        try:
            self._fd = stream.fileno() if stream is not None else None
        except (OSError, ValueError, AttributeError):
            pass

    @property
    def fd(self) -> int | None:
        """The descriptor, None where there is none."""
        return self._fd

    def ready(self, patience: float = 0.0) -> bool:
        """Whether there is room to write, now or within so many seconds."""
        if self._fd is None:
            return True
        try:
            return bool(select.select((), (self._fd,), (), patience)[1])
        except (OSError, ValueError):
            return True  # not to be asked, as on Windows: writing will tell

    def write(self, text: str) -> bool:
        """Write all of it; False if it did not get out. Never raises."""
        if self.gone or self._stream is None:
            return False
        try:
            self._stream.flush()  # what others printed comes first
            if self._fd is None:
                self._stream.write(text)
                self._stream.flush()
                return True
            self._rest = self._push(self._fd, self._rest)
            if self._rest:
                return False
            whole = text.encode(self.encoding, "backslashreplace")
            rest = self._push(self._fd, whole)
            self._rest = rest if len(rest) < len(whole) else b""
            return not rest
        except BlockingIOError:  # a stand-in, or what others printed: drop this one
            return False
        except (OSError, ValueError, LookupError):
            self.gone = True
            return False

    def _push(self, fd: int, content: bytes) -> bytes:
        """Write it, as far as there is room; what is left."""
        rest = memoryview(content)
        while rest:
            self._stuck = not self.ready(0.0 if self._stuck else self._patience)
            if self._stuck:
                break
            try:
                rest = rest[os.write(fd, rest[:_PIECE]) :]
            except BlockingIOError:  # a terminal set to non-blocking by another program
                break
        return bytes(rest)
