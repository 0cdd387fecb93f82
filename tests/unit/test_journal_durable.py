"""The floor under the journals: modes, order, errors, locks.

`tests/crash/test_file_layer.py` holds whole lives of journals against power cuts, on a double of
the layer; here is the layer itself, on the real kernel, and the functions above it one at a time.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ufile_cli.errors import JournalWriteError
from ufile_cli.journal.durable import (
    AppendFile,
    FileLayer,
    Lock,
    make_directory,
    remove,
    replace,
)

LAYER = FileLayer()


class Recorded(FileLayer):
    """Says what was called, in order, and fails where it is told to."""

    def __init__(self, fail: Callable[[str, Path | None], OSError | None] | None = None) -> None:
        self.calls: list[str] = []
        self.open_files: set[int] = set()
        self._fail = fail or (lambda _name, _path: None)

    def _called(self, name: str, path: Path | None = None) -> None:
        self.calls.append(name if path is None else f"{name} {path.name}")
        if error := self._fail(name, path):
            raise error

    def open(self, path: Path, flags: int) -> int:
        self._called("open", path)
        fd = super().open(path, flags)
        self.open_files.add(fd)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._called("write")
        return super().write(fd, data[:3])  # as a disk that fills up, or a signal, may do

    def truncate(self, fd: int, size: int) -> None:
        self._called("truncate")
        super().truncate(fd, size)

    def fsync(self, fd: int) -> None:
        self._called("fsync")
        super().fsync(fd)

    def close(self, fd: int) -> None:
        self._called("close")
        self.open_files.discard(fd)
        super().close(fd)

    def unlink(self, path: Path) -> None:
        self._called("unlink", path)
        super().unlink(path)

    def rename(self, old: Path, new: Path) -> None:
        self._called("rename", new)
        super().rename(old, new)

    def mkdir(self, path: Path) -> None:
        self._called("mkdir", path)
        super().mkdir(path)

    def fsync_directory(self, path: Path) -> None:
        self._called("fsync_directory", path)
        super().fsync_directory(path)

    def try_lock(self, fd: int, *, shared: bool = False) -> bool:
        self._called("try_lock")
        return super().try_lock(fd, shared=shared)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o777], ids=["umask 000", "umask 777"])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


# -- modes -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_umask")
def test_modes_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0600 and 0700, and nothing wider even for the moment between making and setting."""
    seen: list[int] = []
    fchmod, chmod = os.fchmod, Path.chmod

    def watched_fchmod(fd: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        fchmod(fd, mode)

    def watched_chmod(path: Path, mode: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(os, "fchmod", watched_fchmod)
    monkeypatch.setattr(Path, "chmod", watched_chmod)
    make_directory(tmp_path / "a" / "b", LAYER)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]
    assert all(before in (0o700, 0) for before in seen)
    seen.clear()
    replace(tmp_path / "a" / "file", [b"x"], LAYER)
    assert mode(tmp_path / "a" / "file") == 0o600
    lock = Lock.acquire(tmp_path / "a" / "x.lock", LAYER)
    assert lock is not None
    lock.release()
    assert mode(tmp_path / "a" / "x.lock") == 0o600
    assert all(before in (0o600, 0) for before in seen)


def test_what_makes_no_file_changes_no_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    assert not Lock.is_held(path, LAYER)
    AppendFile(path, 0, LAYER).close()
    assert mode(path) == 0o640


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of a lock or log would have us lock or write somebody else's file."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    with pytest.raises(JournalWriteError):
        Lock.acquire(link, LAYER)
    with pytest.raises(JournalWriteError):
        AppendFile(link, 0, LAYER)
    link.with_name("file.new").symlink_to(target)
    with pytest.raises(JournalWriteError):
        replace(tmp_path / "file", [b"x"], LAYER)
    assert target.read_bytes() == b"precious"


# -- order -----------------------------------------------------------------------------------


def test_the_order_of_a_replacement(tmp_path: Path) -> None:
    path, layer = tmp_path / "file", Recorded()
    path.write_bytes(b"old, and longer than the new one")
    path.with_name("file.new").write_bytes(b"left by an earlier one, and longer as well")
    replace(path, [b"abcd", b"", b"ef"], layer)
    assert path.read_bytes() == b"abcdef"
    assert layer.calls == [
        "open file.new",
        *["write"] * 3,
        "fsync",
        "close",
        "rename file",
        f"fsync_directory {tmp_path.name}",
    ]
    assert not path.with_name("file.new").exists() and not layer.open_files


def test_a_flush_is_one_of_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file and then of its directory, which is opened for it and closed again."""
    flushed: list[tuple[int, int]] = []
    closed: list[int] = []
    fsync, close = os.fsync, os.close

    def watched(fd: int) -> None:
        flushed.append((fd, os.fstat(fd).st_ino))
        fsync(fd)

    def watched_close(fd: int) -> None:
        closed.append(fd)
        close(fd)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(os, "close", watched_close)
    replace(tmp_path / "file", [b"x"], LAYER)
    inodes = [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    assert [inode for _, inode in flushed] == inodes
    assert closed == [fd for fd, _ in flushed]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_directories_that_cannot_be_flushed(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems don't have it, which is no error; a broken disk is."""
    fsync = os.fsync

    def refused(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refused)
    if code == errno.EIO:
        with pytest.raises(JournalWriteError):
            replace(tmp_path / "file", [b"x"], LAYER)
        with pytest.raises(JournalWriteError):
            make_directory(tmp_path / "directory", LAYER)
    else:
        replace(tmp_path / "file", [b"x"], LAYER)
        make_directory(tmp_path / "directory", LAYER)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_directories_are_made_from_the_top_and_flushed(tmp_path: Path) -> None:
    layer = Recorded()
    make_directory(tmp_path / "a" / "b", layer)
    assert layer.calls == [
        "mkdir a", f"fsync_directory {tmp_path.name}", "mkdir b", "fsync_directory a",
    ]  # fmt: skip
    layer.calls.clear()
    make_directory(tmp_path / "a" / "b", layer)
    assert not layer.calls, "what is there already costs nothing"


def test_a_directory_that_another_process_made_first(tmp_path: Path) -> None:
    class Raced(FileLayer):
        def mkdir(self, path: Path) -> None:
            path.mkdir()
            super().mkdir(path)

    make_directory(tmp_path / "a" / "b", Raced())
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalWriteError, match="in the place of a directory"):
        make_directory(tmp_path / "file", LAYER)


# -- errors ----------------------------------------------------------------------------------


def failing(name: str, error: OSError) -> Callable[[str, Path | None], OSError | None]:
    return lambda called, _path: error if called == name else None


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "reason"), [(FULL, "No space left on device"), (OSError("the disk is odd"),) * 2]
)
def test_what_an_error_says(error: OSError, reason: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(JournalWriteError) as caught:
        replace(path, [b"x"], Recorded(failing("write", error)))
    assert caught.value.message == f"the journal can't be written: {reason} ({path})"


@pytest.mark.parametrize("name", ["open", "write", "fsync", "close", "rename"])
def test_after_an_error_the_old_content_is_there_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    path, layer = tmp_path / "file", Recorded(failing(name, FULL))
    path.write_bytes(b"old")
    with pytest.raises(JournalWriteError):
        replace(path, [b"new"], layer)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert "close" in layer.calls or name == "open"


def test_the_first_error_is_told_where_clearing_up_fails_as_well(tmp_path: Path) -> None:
    def fail(name: str, _path: Path | None) -> OSError | None:
        return {"write": FULL, "unlink": OSError(errno.EROFS, "read-only")}.get(name)

    with pytest.raises(JournalWriteError, match="No space left"):
        replace(tmp_path / "file", [b"x"], Recorded(fail))


# -- removing --------------------------------------------------------------------------------


def test_a_file_goes_with_what_an_interrupted_replacement_left_beside_it(tmp_path: Path) -> None:
    path, layer = tmp_path / "file", Recorded()
    for name in ("file", "file.new", "file.other"):
        (tmp_path / name).touch()
    remove(path, layer)
    assert [one.name for one in tmp_path.iterdir()] == ["file.other"]
    assert layer.calls == ["unlink file", "unlink file.new"], "the cheap removal flushes nothing"
    remove(path, layer, durably=True)
    assert layer.calls[-1] == f"fsync_directory {tmp_path.name}"


def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(JournalWriteError):
        remove(tmp_path / "directory", LAYER)


# -- appending -------------------------------------------------------------------------------


def test_lines_are_appended_whole_and_flushed_once(tmp_path: Path) -> None:
    path, layer = tmp_path / "log", Recorded()
    path.write_bytes(b"head\n")
    log = AppendFile(path, 5, layer)
    log.flush()
    assert "fsync" not in layer.calls, "there is nothing to flush yet"
    log.append(b"a longer line\n")
    log.append(b"two\n")
    for _ in range(2):
        log.flush()
        assert layer.calls.count("fsync") == 1
    log.append(b"three\n")
    log.flush()
    assert layer.calls.count("fsync") == 2
    log.close()
    assert not layer.open_files
    assert path.read_bytes() == b"head\na longer line\ntwo\nthree\n"


def test_a_line_that_does_not_fit_is_taken_back_and_none_follows(tmp_path: Path) -> None:
    path, full = tmp_path / "log", False

    def fail(name: str, _path: Path | None) -> OSError | None:
        return FULL if full and name == "write" and layer.calls.count("write") > before else None

    path.write_bytes(b"head\n")
    layer = Recorded(fail)
    log = AppendFile(path, 5, layer)
    log.append(b"first\n")
    full, before = True, layer.calls.count("write") + 1
    with pytest.raises(JournalWriteError, match="No space left"):
        log.append(b"second\n")
    assert path.read_bytes() == b"head\nfirst\n"
    full = False
    layer.calls.clear()
    with pytest.raises(JournalWriteError, match="No space left"):
        log.append(b"third\n")
    with pytest.raises(JournalWriteError, match="No space left"):
        log.flush()
    assert not layer.calls, "what is broken is left alone, though there is room again"
    log.close()


def test_a_line_that_cannot_be_taken_back_is_still_an_error(tmp_path: Path) -> None:
    def fail(name: str, _path: Path | None) -> OSError | None:
        return {"write": FULL, "truncate": OSError(errno.EIO, "broken")}.get(name)

    (tmp_path / "log").touch()
    log = AppendFile(tmp_path / "log", 0, Recorded(fail))
    with pytest.raises(JournalWriteError, match="No space left"):
        log.append(b"line\n")
    log.close()


def test_a_failed_flush_is_never_tried_again(tmp_path: Path) -> None:
    """After it the page cache can't be trusted: a second one would succeed and mean nothing."""
    layer = Recorded(failing("fsync", OSError(errno.EIO, "broken")))
    (tmp_path / "log").touch()
    log = AppendFile(tmp_path / "log", 0, layer)
    log.append(b"line\n")
    for _ in range(2):
        with pytest.raises(JournalWriteError, match="broken"):
            log.flush()
    with pytest.raises(JournalWriteError, match="broken"):
        log.append(b"line\n")
    assert layer.calls.count("fsync") == 1
    assert (tmp_path / "log").read_bytes() == b"line\n"
    log.close()


def test_a_log_that_is_gone(tmp_path: Path) -> None:
    """It is never made here: its first line would be missing."""
    with pytest.raises(JournalWriteError, match="No such file"):
        AppendFile(tmp_path / "log", 0, LAYER)
    assert not (tmp_path / "log").exists()


def test_an_error_at_closing_is_of_no_account(tmp_path: Path) -> None:
    layer = Recorded(failing("close", OSError(errno.EIO, "broken")))
    (tmp_path / "log").touch()
    AppendFile(tmp_path / "log", 0, layer).close()


# -- locks -----------------------------------------------------------------------------------


def test_somebody_who_looks_is_no_holder(tmp_path: Path) -> None:
    path, layer = tmp_path / "x.lock", Recorded()
    assert not Lock.is_held(path, layer), "no file, no holder"
    assert not path.exists(), "looking makes nothing"
    path.touch()
    looking = LAYER.open(path, os.O_RDONLY)
    assert LAYER.try_lock(looking, shared=True)
    assert not Lock.is_held(path, layer), "another one who looks holds nothing"
    LAYER.close(looking)
    lock = Lock.acquire(path, layer)
    assert lock is not None and Lock.is_held(path, layer)
    lock.release()
    assert not Lock.is_held(path, layer)
    assert not layer.open_files


def test_a_file_system_without_locks_has_no_holders(tmp_path: Path) -> None:
    (tmp_path / "x.lock").touch()
    layer = Recorded(failing("try_lock", OSError(errno.ENOLCK, "no locks")))
    assert not Lock.is_held(tmp_path / "x.lock", layer)
    assert not layer.open_files


def test_who_does_not_get_the_lock_lets_go_of_the_file(tmp_path: Path) -> None:
    path, layer = tmp_path / "x.lock", Recorded()
    held = Lock.acquire(path, LAYER)
    assert held is not None
    assert Lock.acquire(path, layer, patience=0) is None
    assert not layer.open_files
    held.release()
    assert path.exists(), "the file stays: another process may have it open"


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EINTR])
def test_what_the_kernel_says_of_a_lock(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_fd: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refused)
    if code == errno.EINTR:
        with pytest.raises(OSError, match="Interrupted"):
            LAYER.try_lock(0)
    else:
        assert LAYER.try_lock(0) is False


@pytest.mark.parametrize(
    ("number", "room"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False), (errno.EACCES, False)],
)
def test_only_a_full_disk_wants_room(number: int, room: bool, tmp_path: Path) -> None:
    layer = Recorded(failing("write", OSError(number, os.strerror(number))))
    with pytest.raises(JournalWriteError) as caught:
        replace(tmp_path / "file", [b"text"], layer)
    assert caught.value.hint is not None
    assert ("make room" in caught.value.hint) is room
    assert "UFILE_STATE_DIR" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_has_no_part_in_the_lock(tmp_path: Path) -> None:
    lock = Lock.acquire(tmp_path / "lock", LAYER)
    assert lock is not None and lock.still_ours() and lock in Lock._held
    fd = lock._fd
    assert fd is not None
    child = os.fork()
    if child == 0:
        try:
            os.fstat(fd)
            os._exit(1)  # open still
        except OSError:
            os._exit(2 if lock.still_ours() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.still_ours()
    lock.release()
    assert lock not in Lock._held
