"""Journals that are no journals: said, shown, never trusted, never deleted, and nothing hangs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ufile_cli.errors import JournalDamaged, UsageError
from ufile_cli.journal.store import Store

VECTORS = Path(__file__).parent.parent / "vectors" / "journals"
ID = "1pa5sed0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.directory.mkdir(mode=0o700)
    for path in VECTORS.iterdir():
        if path.suffix != ".expected":
            shutil.copy(path, store.directory)
    return store


def document(store: Store) -> Path:
    return store.directory / f"{ID}.json"


def log(store: Store) -> Path:
    return store.directory / f"{ID}.parts.jsonl"


def snapshot(store: Store) -> dict[str, object]:
    return {
        path.name: path.read_bytes() if small_file(path.lstat()) else path.lstat()[:7]
        for path in store.directory.iterdir()
        if path.suffix != ".lock"
    }


def small_file(status: os.stat_result) -> bool:
    """One that can be read; of the others (a gigabyte, a FIFO) the status has to do."""
    return stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20


def replace_by(make: Callable[[Path], object], which: Callable[[Store], Path]) -> object:
    def damage(store: Store) -> None:
        path = which(store)
        path.unlink()
        make(path)

    return damage


def link_to_itself_moved(path: Path) -> None:
    target = path.parent / "moved"
    shutil.copy(VECTORS / path.name, target)
    path.symlink_to(target)


def too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, (1 << 30) + 1)


DAMAGE = {
    "empty": lambda store: document(store).write_bytes(b""),
    "binary": lambda store: document(store).write_bytes(bytes(range(256)) * 20),
    "NULs of the same length": lambda store: document(store).write_bytes(
        b"\0" * document(store).stat().st_size
    ),
    "cut in half": lambda store: os.truncate(document(store), 600),
    "HTML": lambda store: document(store).write_text("<html>"),
    "deep": lambda store: document(store).write_bytes(b"[" * 200_000),
    "another one's name": lambda store: shutil.copy(VECTORS / "3rece1pt.json", document(store)),
    "of version 9": lambda store: document(store).write_text('{"version": 9}'),
    "a directory": replace_by(Path.mkdir, document),
    "a FIFO": replace_by(os.mkfifo, document),
    "a link": replace_by(link_to_itself_moved, document),
    "a device": replace_by(lambda path: path.symlink_to("/dev/zero"), document),
    "too large": replace_by(too_large, document),
    "log: a FIFO": replace_by(os.mkfifo, log),
    "log: a directory": replace_by(Path.mkdir, log),
    "log: a link": replace_by(link_to_itself_moved, log),
    "log: too large": replace_by(too_large, log),
    "log: garbage in the middle": lambda store: log(store).write_bytes(
        log(store).read_bytes().replace(b'"n":7', b'"n";7')
    ),
    "log: no first line": lambda store: log(store).write_bytes(
        log(store).read_bytes().split(b"\n", 1)[1]
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_damage(name: str, store: Store) -> None:
    DAMAGE[name](store)  # type: ignore[operator]
    before = snapshot(store)
    for act in (store.peek, store.open, store.open_quietly):
        with pytest.raises(JournalDamaged) as caught:
            act(ID)
        error = caught.value
        assert error.code == 1
        assert error.path in (str(document(store)), str(log(store)))
        assert error.path in error.message
        assert error.hint is not None and "ufile abort" in error.hint and ID in error.hint
        assert len(error.message) < 400 and "\n" not in error.message
    if "version" in name:
        assert "version 9" in error.message and "newer ufile" in error.message
    assert store.find(ID[:3]) == ID
    assert ID in [listed.journal_id for listed in store.listing()]
    # The others are none the worse.
    assert store.peek("2stream0").parts_done == 5
    assert (
        store.find_unfinished(
            endpoint="https://cn-bj.ufileos.com",
            bucket="backup",
            key="名字/ключ",
            localfile="/srv/\udcff\udc80.bin",
        )
        == "4ag0ne00"
    )
    store.remove_leftovers()
    assert snapshot(store) == before, "nothing is deleted or changed unasked"
    assert not list(store.directory.glob("*.new"))


def test_it_is_let_go_of_after_damage(store: Store) -> None:
    document(store).write_bytes(b"")
    for _ in range(3):
        with pytest.raises(JournalDamaged):
            store.open(ID)


def test_what_is_no_damage(store: Store) -> None:
    """A torn tail, a log that is gone, others' permissions: read, and put right when opened."""
    document(store).chmod(0o666)
    view = store.peek(ID)
    assert view.parts is not None and list(view.parts) == [0, 1, 2, 3, 5, 7, 8]
    assert view.bytes_done == 7 * (4 << 20)
    assert view.pause_offset == 4 * (4 << 20)
    record = store.open(ID)
    record.close()
    assert stat.S_IMODE(document(store).stat().st_mode) == 0o600
    assert stat.S_IMODE(log(store).stat().st_mode) == 0o600
    assert log(store).read_bytes().endswith(b"\n"), "the torn tail is cut"
    again = store.peek(ID)
    assert again.parts is not None and list(again.parts) == list(view.parts)
    log(store).unlink()
    assert store.peek(ID).parts_done == 7


def test_a_receipt(store: Store) -> None:
    view = store.peek("3rece1pt")
    assert (view.state, view.parts_done, view.bytes_done) == ("finished", 23, 90 << 20)
    receipts = [listed.journal_id for listed in store.listing() if listed.receipt]
    assert receipts == ["3rece1pt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_of_another_user(store: Store) -> None:
    os.chown(document(store), 12345, 12345)
    with pytest.raises(JournalDamaged, match="belongs to another user"):
        store.peek(ID)


def test_prefixes(store: Store) -> None:
    shutil.copy(document(store), store.directory / "1pa5s000.json")
    assert store.find("1PA5SED0") == ID
    with pytest.raises(UsageError, match="short for 2 journals: 1pa5s000, 1pa5sed0"):
        store.find("1p")
    with pytest.raises(UsageError, match="there is no journal zz"):
        store.find("zz")
    with pytest.raises(UsageError, match="no journal"):
        store.peek("zzzzzzzz")
    with pytest.raises(UsageError, match="no journal"):
        store.open("zzzzzzzz")


def test_an_empty_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "nothing")
    assert store.listing() == []
    assert store.remove_leftovers() == 0
    assert not (tmp_path / "nothing").exists(), "looking makes nothing"
