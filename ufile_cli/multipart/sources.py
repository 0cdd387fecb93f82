"""Where the bytes come from: files here, streams in `streams`.

A file is read with pread, never through a mapping: a file that is truncated under a mapping kills
the process, here it is a short read and exit 66. The identity of the open file tells versions
apart; whether its content is another one only hashing can tell.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ufile_cli.errors import SourceError
from ufile_cli.journal.document import Identity

__all__ = ["FileSource"]


class FileSource:
    """An open regular file. Reading is thread-safe; no position is kept.

    Attributes:
        path: the real path, absolute.
        name: what a person calls it.
    """

    def __init__(self, path: Path, fd: int, name: str) -> None:
        self.path = path
        self.name = name
        self._fd = fd

    @classmethod
    def open(cls, path: str | Path, *, stream_hint: str | None = None) -> FileSource:
        """Open a file for uploading.

        Args:
            stream_hint: the command to type where the path names something without a size.

        Raises:
            SourceError: missing, unreadable, or no regular file.
        """
        shown = _printable(str(path)) or "''"
        try:
            # Without O_NONBLOCK a FIFO that nobody writes to would hang right here.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENODEV):
                raise SourceError(f"{shown} is no file", hint=stream_hint) from error
            reason = {
                errno.ENOENT: "there is no such file",
                errno.EACCES: "it may not be read",
                errno.ENOTDIR: "there is no such file",
            }.get(error.errno or 0, error.strerror or "it can't be opened")
            raise SourceError(f"{shown}: {reason}") from error
        except ValueError as error:
            raise SourceError(f"{shown}: there can be no such file") from error
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise SourceError(f"{shown} is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(
                    f"{shown} is no regular file, so its end is not known beforehand",
                    hint=stream_hint,
                )
            if status.st_size == 0 and os.pread(fd, 1, 0):
                raise SourceError(
                    f"{shown} says that it is empty but yields data", hint=stream_hint
                )
            os.set_blocking(fd, True)
        except OSError as error:
            os.close(fd)
            raise SourceError(f"{shown}: {error.strerror or error}") from error
        except BaseException:
            os.close(fd)
            raise
        return cls(Path(os.path.realpath(path)), fd, Path(path).name or str(path))

    def identity(self) -> Identity:
        """Size, times and inode of the open file, as they are now.

        Raises:
            SourceError: the file system of the network has lost it.
        """
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise SourceError(
                f"{_printable(self.name)} can't be looked at any more: {error.strerror or error}"
            ) from error
        return Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from the offset on; fewer bytes only at the end of the file.

        Raises:
            SourceError: the disk could not read it.
        """
        filled = 0
        while filled < len(buffer):
            try:
                got = _pread_into(self._fd, buffer[filled:], offset + filled)
            except OSError as error:
                raise SourceError(
                    f"{_printable(self.name)} can't be read at byte {offset + filled}: "
                    f"{error.strerror or error}"
                ) from error
            if got == 0:
                break
            filled += got
        return filled

    def __del__(self) -> None:
        # A worker that comes home late may still read: closed under it, the descriptor's number
        # could be another file's.
        self.close()

    def close(self) -> None:
        """Let go of the file; nobody may be reading it any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _pread_into(fd: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    content = os.pread(fd, len(buffer), offset)  # systems without preadv: one copy more
    buffer[: len(content)] = content
    return len(content)


def _printable(text: str) -> str:
    """A name as it may stand in a message: control characters and broken bytes escaped."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )
