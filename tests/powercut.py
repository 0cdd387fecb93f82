"""A double of the journal's file layer: it counts calls, stops the world, and loses what it may.

Every call is done for real in a directory of its own, and followed in a model of the disk that
knows what a power cut may take away:

- bytes of a file that were not flushed: all of them, a part, or their first pages alone (a hole
  of NULs stays);
- names whose directory was not flushed since: each of them may be what it was at any moment since
  the last flush, independently of the others;
- after a failed flush: the bytes it was about, for good, whatever a later flush says.

`materialise` puts one such disk into another directory, to be read by a fresh `Store`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from ufile_cli.journal.durable import FileLayer

__all__ = ["Call", "Disk", "PowerCut", "ShortWrite", "WatchedLayer", "fail_from", "fail_once"]

CONTENTS = ("flushed", "all", "torn", "hole")
"""What may become of unflushed bytes."""


NEEDS_ROOM = {"open", "write", "fsync", "mkdir", "rename", "fsync_directory"}
"""Calls that fail on a full disk."""


class PowerCut(BaseException):
    """The world stops here. No handler of errors may take it for one."""


class ShortWrite(OSError):
    """A fault: half of the bytes are written, and the next call finds the disk full."""


@dataclass(frozen=True)
class Call:
    """One call to the layer, counted from 0."""

    number: int
    name: str
    path: Path
    size: int = 0


@dataclass(eq=False)
class Inode:
    """A file's content: as the kernel has it, and as the platter has it."""

    live: bytes = b""
    flushed: bytes = b""
    cursed: bool = False

    def after(self, content: str) -> bytes:
        """What is read after the power cut."""
        if content == "all":
            return self.live
        if content == "flushed":
            return self.flushed
        pairs = zip(self.live, self.flushed, strict=False)
        same = (index for index, (a, b) in enumerate(pairs) if a != b)
        common = next(same, min(len(self.live), len(self.flushed)))
        middle = (common + len(self.live) + 1) // 2
        if content == "torn":
            return self.live[:middle]
        return self.live[:common] + bytes(middle - common) + self.live[middle:]


@dataclass
class Disk:
    """One disk as it may be after the power cut: names with their contents."""

    files: dict[Path, bytes]
    directories: set[Path]
    how: str

    def materialise(self, target: Path) -> None:
        """Put it into a directory."""
        for directory in sorted(self.directories):
            (target / directory).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (target / name).write_bytes(content)


Fault = Callable[[Call], OSError | None]


def fail_once(number: int, code: int) -> Fault:
    """The call of this number fails, those after it work."""
    return lambda call: OSError(code, os.strerror(code)) if call.number == number else None


def fail_from(number: int, code: int, *, short: bool = False) -> Fault:
    """From this number on everything that needs room fails; frees and reads still work."""

    def fault(call: Call) -> OSError | None:
        if call.number < number or call.name not in NEEDS_ROOM:
            return None
        if short and call.number == number and call.name == "write":
            return ShortWrite(code, os.strerror(code))
        return OSError(code, os.strerror(code))

    return fault


@dataclass(eq=False)
class WatchedLayer(FileLayer):
    """The layer, watched.

    Attributes:
        root: everything happens under it.
        stop_at: the number of the call before which the world stops.
        fault: asked before each call; what it returns is raised.
        during: told of each call just before it is done, to do something meanwhile.
    """

    root: Path
    stop_at: int | None = None
    fault: Fault = lambda _call: None
    during: Callable[[Call], None] = lambda _call: None
    calls: list[Call] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self._files: dict[int, tuple[Path, Inode, bool]] = {}
        self._live: dict[Path, Inode] = {}
        self._history: dict[Path, list[Inode | None]] = {}
        self._directories: dict[Path, bool] = {}
        self._failed_fsync: set[int] = set()
        self._guard = threading.Lock()
        self.retried_fsync = False
        for path in sorted(self.root.rglob("*")):
            # What is there at the beginning has been there for long.
            name = path.relative_to(self.root)
            if path.is_dir():
                self._directories[name] = True
            elif path.is_file():
                content = path.read_bytes()
                self._live[name] = Inode(content, content)
                self._history[name] = [self._live[name]]

    # -- the world ---------------------------------------------------------------------------

    def _step(self, name: str, path: Path, size: int = 0) -> OSError | None:
        with self._guard:
            if self.stopped:
                raise PowerCut
            call = Call(len(self.calls), name, path, size)
            if call.number == self.stop_at:
                self.stopped = True
                raise PowerCut
            self.calls.append(call)
        self.during(call)
        return self.fault(call)

    def bury(self) -> None:
        """The process is gone: its files are closed and its locks free."""
        self.stopped = True
        for fd in self._files:
            os.close(fd)
        self._files.clear()

    def named(self, name: str) -> list[Call]:
        """The calls of this name."""
        return [call for call in self.calls if call.name == name]

    def written(self) -> int:
        """Bytes handed to write in all."""
        return sum(call.size for call in self.calls if call.name == "write")

    def _name(self, path: Path) -> Path:
        return path.relative_to(self.root)

    def _bind(self, name: Path, inode: Inode | None) -> None:
        self._history.setdefault(name, [None]).append(inode)
        if inode is None:
            self._live.pop(name, None)
        else:
            self._live[name] = inode

    # -- the calls ---------------------------------------------------------------------------

    def open(self, path: Path, flags: int) -> int:
        if fault := self._step("open", path):
            raise fault
        fd = super().open(path, flags)
        name = self._name(path)
        inode = self._live.get(name)
        if inode is None:
            inode = Inode()
            self._bind(name, inode)
        if flags & os.O_TRUNC:
            inode.live = b""
        self._files[fd] = name, inode, bool(flags & os.O_APPEND)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        name, inode, _ = self._files[fd]
        fault = self._step("write", self.root / name, len(data))
        if isinstance(fault, ShortWrite) and len(data) > 1:
            data = data[: len(data) // 2]
        elif fault:
            raise fault
        written = super().write(fd, data)
        inode.live += data[:written]
        return written

    def truncate(self, fd: int, size: int) -> None:
        name, inode, _ = self._files[fd]
        if fault := self._step("truncate", self.root / name, size):
            raise fault
        super().truncate(fd, size)
        inode.live = inode.live[:size]

    def fsync(self, fd: int) -> None:
        name, inode, _ = self._files[fd]
        will_be = inode.live
        if fd in self._failed_fsync:
            self.retried_fsync = True
        if fault := self._step("fsync", self.root / name):
            inode.cursed = True
            self._failed_fsync.add(fd)
            raise fault
        if fd not in self._files or self._files[fd][1] is not inode:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # closed meanwhile
        if not inode.cursed:
            inode.flushed = will_be

    def close(self, fd: int) -> None:
        name = self._files[fd][0]
        fault = self._step("close", self.root / name)
        # The number is free again at once, for other threads too; Linux lets go of it whatever
        # close says.
        del self._files[fd]
        self._failed_fsync.discard(fd)
        super().close(fd)
        if fault:
            raise fault

    def rename(self, old: Path, new: Path) -> None:
        if fault := self._step("rename", new):
            raise fault
        super().rename(old, new)
        inode = self._live[self._name(old)]
        self._bind(self._name(old), None)
        self._bind(self._name(new), inode)

    def unlink(self, path: Path) -> None:
        if fault := self._step("unlink", path):
            raise fault
        super().unlink(path)
        if self._name(path) in self._live:
            self._bind(self._name(path), None)

    def mkdir(self, path: Path) -> None:
        if fault := self._step("mkdir", path):
            raise fault
        super().mkdir(path)
        self._directories[self._name(path)] = False

    def fsync_directory(self, path: Path) -> None:
        if fault := self._step("fsync_directory", path):
            raise fault
        directory = self._name(path)
        for name in self._directories:
            if name.parent == directory:
                self._directories[name] = True
        for name, history in self._history.items():
            if name.parent == directory:
                del history[:-1]

    def try_lock(self, fd: int, *, shared: bool = False) -> bool:
        name = self._files[fd][0]
        if fault := self._step("try_lock", self.root / name):
            raise fault
        return super().try_lock(fd, shared=shared)

    # -- afterwards --------------------------------------------------------------------------

    def as_killed(self) -> Disk:
        """The disk after a kill of the process: everything the kernel was given is there."""
        files = {name: inode.live for name, inode in self._live.items()}
        return Disk(files, set(self._directories), "killed")

    def after_power_cut(self) -> Iterator[Disk]:
        """Every disk that there may be: each combination of names with each fate of contents."""
        lost = {name for name, flushed in self._directories.items() if not flushed}
        for keep_directories in (True, False) if lost else (True,):
            directories = set(self._directories)
            if not keep_directories:
                directories = {
                    name
                    for name in directories
                    if not any(name.is_relative_to(gone) for gone in lost)
                }
            names = [
                name
                for name in self._history
                if name.parent in directories or name.parent == Path()
            ]
            choices = [list(dict.fromkeys(self._history[name])) for name in names]
            for bound in product(*choices):
                there = {name: inode for name, inode in zip(names, bound, strict=True) if inode}
                unflushed = any(inode.live != inode.flushed for inode in there.values())
                for content in CONTENTS if unflushed else ("flushed",):
                    files = {name: inode.after(content) for name, inode in there.items()}
                    shown = ", ".join(sorted(str(name) for name in files))
                    yield Disk(files, directories, f"{content}: {shown}")


def out_of_space(number: int) -> Fault:
    """The disk is full from this call on, which writes half of what it was given."""
    return fail_from(number, errno.ENOSPC, short=True)
