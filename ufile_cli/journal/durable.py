"""The only place that flushes, renames and locks: bytes handed in here survive.

`FileLayer` is the thin floor below: one method for each call to the kernel, so that a test can
stop the world at any of them and lose what was not flushed. The functions above it spell out the
order that makes a change durable: write beside, flush, rename over, flush the directory.

Invariants: files get mode 0600 and directories 0700 whatever the umask; a failed flush is an
error for good and is never tried again (after it the page cache can't be trusted); a lock is the
kernel's, on a file that is never renamed over, and dies with its process.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from ufile_cli.errors import JournalWriteError

__all__ = ["AppendFile", "FileLayer", "Lock", "make_directory", "remove", "replace"]

_LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock: `status` looks at one for an instant, a working process keeps it."""


class FileLayer:
    """The kernel's calls, one method each. Errors are OSError, as the kernel gives them."""

    def open(self, path: Path, flags: int) -> int:
        # O_NONBLOCK: a FIFO in the place of a file must not hang us. (Close-on-exec is Python's.)
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
        if flags & os.O_CREAT:
            os.fchmod(fd, 0o600)  # a hostile umask must not lock us out of our own file
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        path.chmod(0o700)

    def fsync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            # Some network file systems can't flush a directory and say so; there the rename
            # itself is as durable as it gets.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(fd)

    def try_lock(self, fd: int, *, shared: bool = False) -> bool:
        """Take the kernel's lock without waiting; False where another process has it."""
        import fcntl

        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True


def _cannot_write(path: Path, error: OSError) -> JournalWriteError:
    reason = error.strerror or str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "something else is in the place of a directory"
    room = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return JournalWriteError(
        f"the journal can't be written: {reason} ({path})",
        hint=f"{room}name another directory in UFILE_STATE_DIR",
    )


def make_directory(path: Path, layer: FileLayer) -> None:
    """Make the directory and its parents, each flushed into its own parent.

    Raises:
        JournalWriteError: with a word about UFILE_STATE_DIR.
    """
    missing = []
    current = path
    try:
        while not current.is_dir():
            missing.append(current)
            if current == current.parent:
                break
            current = current.parent
        for directory in reversed(missing):
            try:
                layer.mkdir(directory)
            except FileExistsError:
                if not directory.is_dir():
                    raise
                continue  # another process was faster
            layer.fsync_directory(directory.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def replace(path: Path, chunks: Iterable[bytes], layer: FileLayer) -> None:
    """Make `path` hold these bytes, whole or not at all, durably.

    Raises:
        JournalWriteError: the old content is still there, or the new one, whole.
    """
    beside = path.with_name(path.name + ".new")
    try:
        fd = layer.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for chunk in chunks:
                _write_all(fd, chunk, layer)
            layer.fsync(fd)
        finally:
            layer.close(fd)
        layer.rename(beside, path)
        layer.fsync_directory(path.parent)
    except OSError as error:
        try:
            layer.unlink(beside)  # on a full disk half a document is in everybody's way
        except OSError:
            pass
        raise _cannot_write(path, error) from error


def remove(path: Path, layer: FileLayer, *, durably: bool = False) -> None:
    """Remove the file, if it is there, and what an interrupted `replace` left beside it.

    Args:
        durably: so that a loss of power does not bring it back.

    Raises:
        JournalWriteError: it could not be removed.
    """
    try:
        layer.unlink(path)
        layer.unlink(path.with_name(path.name + ".new"))
        if durably:
            layer.fsync_directory(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _write_all(fd: int, data: bytes, layer: FileLayer) -> None:
    view = memoryview(data)
    while view:
        view = view[layer.write(fd, view) :]


class AppendFile:
    """A file that only grows, a whole line at a time.

    A line that does not fit (disk full) is taken back, so that what is there stays readable.
    One thread at a time may append; another one may flush meanwhile.
    """

    def __init__(self, path: Path, size: int, layer: FileLayer) -> None:
        self.path = path
        self._layer = layer
        self._size = size
        self._dirty = False
        self._broken: JournalWriteError | None = None
        try:
            self._fd = layer.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def append(self, line: bytes) -> None:
        """Hand one line to the kernel; after a kill of the process it is there.

        Raises:
            JournalWriteError: the line is not there, and no later one will be taken.
        """
        if self._broken is not None:
            raise self._broken
        try:
            _write_all(self._fd, line, self._layer)
        except OSError as error:
            self._broken = _cannot_write(self.path, error)
            try:
                self._layer.truncate(self._fd, self._size)
            except OSError:
                pass  # a torn tail is cut at the next reading
            raise self._broken from error
        self._size += len(line)
        self._dirty = True

    def flush(self) -> None:
        """Make all lines so far survive a loss of power.

        Raises:
            JournalWriteError: for good; nothing is promised of the lines since the last flush.
        """
        if self._broken is not None:
            raise self._broken
        if self._dirty:
            # Before the call: a line that arrives while it is under way may not be part of it,
            # and makes the file dirty again.
            self._dirty = False
            try:
                self._layer.fsync(self._fd)
            except OSError as error:
                self._broken = _cannot_write(self.path, error)
                raise self._broken from error

    def close(self) -> None:
        """Let go of the file; flush first if it matters."""
        _let_go(self._fd, self._layer)


class Lock:
    """A kernel lock on `<journal id>.lock`, held until `release` or the end of the process.

    A child that the process forks does not share it: it would keep the lock after its parent died.
    """

    _held: ClassVar[set[Lock]] = set()

    def __init__(self, path: Path, fd: int, layer: FileLayer) -> None:
        self.path = path
        self._fd: int | None = fd
        self._layer = layer
        self._held.add(self)

    @classmethod
    def forked(cls) -> None:
        """In a child, just forked: have nothing to do with the parent's locks."""
        for lock in cls._held:
            lock._close()

    @classmethod
    def acquire(
        cls,
        path: Path,
        layer: FileLayer,
        *,
        patience: float = _LOCK_PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Lock | None:
        """Take the lock; None where another process keeps it.

        Raises:
            JournalWriteError: the file can't be made, or the file system has no locks.
        """
        deadline = clock() + patience
        while True:
            try:
                fd = layer.open(path, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                raise _cannot_write(path, error) from error
            try:
                taken = layer.try_lock(fd)
            except OSError as error:
                _let_go(fd, layer)
                raise JournalWriteError(
                    f"the file system of {path.parent} has no locks: {error.strerror}",
                    hint="name a directory on a local disk in UFILE_STATE_DIR",
                ) from error
            if taken and _is_still(path, fd):
                return cls(path, fd, layer)
            _let_go(fd, layer)
            # Taken but on a file that was removed meanwhile: open the new one and try again.
            if not taken:
                if clock() >= deadline:
                    return None
                sleep(0.01)

    @staticmethod
    def is_held(path: Path, layer: FileLayer) -> bool:
        """Whether some process holds the lock; looks for an instant and changes nothing."""
        try:
            fd = layer.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not layer.try_lock(fd, shared=True)
        except OSError:
            return False
        finally:
            _let_go(fd, layer)

    def still_ours(self) -> bool:
        """Whether the lock file is still the one that was locked (nobody removed it)."""
        return self._fd is not None and _is_still(self.path, self._fd)

    def release(self) -> None:
        """Give the lock back; the file stays."""
        self._held.discard(self)
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            _let_go(self._fd, self._layer)
            self._fd = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Lock.forked)


def _let_go(fd: int, layer: FileLayer) -> None:
    try:
        layer.close(fd)
    except OSError:
        pass  # nothing is promised of what was not flushed, and a lock is gone all the same


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
