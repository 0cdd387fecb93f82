"""The one place where progress meets a file descriptor that may go away.

A terminal is closed, `| head` ends, a log disk fills up: none of it may end an upload. So a write
here never raises; after the first failure the outlet is `gone` and everything later is dropped.

It writes straight to the descriptor, one call for each text: nothing stays behind in a buffer of
Python's that would fail once more, and change the exit code, when the interpreter ends; and lines
of several processes in one log do not mix.
"""

from __future__ import annotations

import os
from typing import IO

__all__ = ["Outlet"]


class Outlet:
    """Text out to `stream` (None, as `sys.stderr` is when closed, or a stand-in without fileno)."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream
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

    def write(self, text: str) -> bool:
        """Write all of it; False if it did not get out. Never raises."""
        if self.gone or self._stream is None:
            return False
        try:
            self._stream.flush()  # what others printed comes first
            if self._fd is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                rest = memoryview(text.encode(self.encoding, "backslashreplace"))
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except BlockingIOError:  # a terminal set to non-blocking by another program: drop this one
            return False
        except (OSError, ValueError, LookupError):
            self.gone = True
        return not self.gone
