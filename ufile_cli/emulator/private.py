"""Files and directories that are their owner's alone, whatever the umask.

A umask takes rights away: 0 would leave the objects of the embedded server to every user of the
host where its directory was there before, and 0777 would lock the server out of its own files. So
what is made here gets its mode said once more, right after it was made. What was there already is
left as it is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["make_directory", "make_new_directory", "open_private", "write_text"]

_RACES = 10


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """A file, made where it is not there, with mode 0600."""
    flags |= os.O_CLOEXEC
    for _ in range(_RACES):
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if path.is_symlink():
                break  # one that leads nowhere: what it names is made below
            continue
        os.fchmod(fd, 0o600)
        return fd
    return os.open(path, flags | os.O_CREAT, 0o600)


def write_text(path: Path, text: str) -> None:
    """A file's whole content, as UTF-8."""
    fd = open_private(path, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def make_new_directory(path: Path) -> None:
    """A directory of mode 0700, and those above it. Raises FileExistsError."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        make_directory(path.parent)
        path.mkdir(mode=0o700)
    path.chmod(0o700)


def make_directory(path: Path) -> None:
    """A directory of mode 0700, and those above it; one that is there already will do."""
    try:
        make_new_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
