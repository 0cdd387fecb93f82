"""One upload's memory while it runs: what counts, what is written, what if it can't be.

The same questions are put to a record without a journal and to one with, which is looked at through
a second store, as another process would.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ufile_cli.errors import JournalBusy, JournalWriteError, UFileError
from ufile_cli.etag import BLOCK, object_etag, part_etag
from ufile_cli.journal.document import Identity, JournalDocument
from ufile_cli.journal.durable import FileLayer, Lock
from ufile_cli.journal.parts import PartTable
from ufile_cli.journal.record import JournalRecord, Record
from ufile_cli.journal.store import Store, View

ONE, TWO = bytes(range(20)), bytes(range(40))
ETAG = part_etag(ONE)
MOMENT = "2024-05-06T07:08:09.000Z"


def new_document() -> JournalDocument:
    return JournalDocument(
        journal_id="",
        kind="stream",
        bucket="bucket",
        key="key",
        endpoint="local",
        created_at=MOMENT,
        updated_at=MOMENT,
    )


class Switched(FileLayer):
    """Fails where it is told to, from then on; knows what is open."""

    def __init__(self) -> None:
        self.fails: str | None = None
        self.opened: set[int] = set()
        self.flushes = 0
        self.replaced: list[str] = []
        self.during_fsync: Callable[[], None] = lambda: None

    def _call(self, name: str) -> None:
        if self.fails == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        self.opened.add(fd)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._call("write")
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._call("fsync")
        self.flushes += 1
        self.during_fsync()
        super().fsync(fd)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.replaced.append(new.name.split(".", 1)[1])

    def unlink(self, path: Path) -> None:
        self._call("unlink")
        super().unlink(path)

    def close(self, fd: int) -> None:
        self.opened.discard(fd)
        super().close(fd)


def begun(root: Path, layer: FileLayer | None = None, upload_id: str = "U") -> JournalRecord:
    record = Store(root, layer=layer, now=lambda: MOMENT).create(new_document())
    record.begin(upload_id, 2 * BLOCK)
    return record


def look(record: Record, root: Path) -> View:
    journal_id = record.journal_id
    assert journal_id is not None
    return Store(root).peek(journal_id)


def up(view: View) -> dict[int, tuple[str | None, bytes | None]]:
    assert view.parts is not None
    return {number: (view.parts.etag(number), view.parts.digests(number)) for number in view.parts}


def files(root: Path) -> list[str]:
    return sorted(path.name.split(".", 1)[1] for path in (root / "journals").iterdir())


# -- with a journal or without ---------------------------------------------------------------


@pytest.fixture(params=["in memory", "on disk"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    """A record of an upload that has not begun."""
    if request.param == "on disk":
        return Store(tmp_path).create(new_document())
    return Record(new_document(), None)


def counted(record: Record) -> list[int]:
    assert record.parts is not None
    return list(record.parts)


def test_before_there_is_an_upload_id_no_part_can_be_up(record: Record) -> None:
    assert not record.held_back
    record.acknowledge("U", 0, ETAG, ONE)
    record.confirm()
    record.forget([0])
    assert record.parts is None and not record.accounted_for(0)
    record.flush()
    record.close()


def test_parts_count_under_their_own_upload_id_alone(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    assert (record.document.uploadid, record.document.blocksize) == ("U", 2 * BLOCK)
    record.acknowledge("U", 0, ETAG, ONE)
    record.acknowledge("another", 1, ETAG, ONE)
    assert counted(record) == [0]
    assert record.accounted_for(0) and not record.accounted_for(1)
    record.begin("V", BLOCK)
    assert counted(record) == []
    record.acknowledge("U", 2, ETAG, ONE)
    assert counted(record) == []
    record.close()


def test_parts_that_are_held_back_count_when_they_are_confirmed(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    record.acknowledge("U", 0, "old", ONE)
    record.hold_back()
    assert record.held_back
    record.acknowledge("U", 0, "new", ONE)
    record.acknowledge("U", 1, "held", TWO)
    assert record.parts is not None
    assert (counted(record), record.parts.etag(0)) == ([0], "old")
    assert [record.accounted_for(n) for n in range(3)] == [True, True, False]
    record.confirm()
    assert not record.held_back
    assert (counted(record), record.parts.etag(0), record.parts.digests(1)) == ([0, 1], "new", TWO)
    record.acknowledge("U", 2, "plain", ONE)
    assert counted(record) == [0, 1, 2]
    record.close()


def test_what_was_confirmed_once_is_not_confirmed_again(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    record.hold_back()
    record.acknowledge("U", 0, ETAG, ONE)
    record.confirm()
    record.forget([0])
    record.confirm()
    assert counted(record) == []
    record.close()


def test_a_new_upload_id_ends_what_was_held_back(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    record.hold_back()
    record.acknowledge("U", 0, ETAG, ONE)
    record.begin("V", 2 * BLOCK)
    assert not record.held_back and not record.accounted_for(0)
    record.confirm()
    assert counted(record) == []
    record.close()


def test_an_attempt_takes_over_what_the_last_one_held_back(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    record.hold_back()
    record.acknowledge("U", 3, ETAG, ONE)
    same, other = (Record(new_document(), PartTable(2 * BLOCK)) for _ in range(2))
    same.document.uploadid, other.document.uploadid = "U", "V"
    for later in (same, other):
        later.carry_on(record)
    assert same.held_back and same.accounted_for(3)
    assert not other.held_back and not other.accounted_for(3)
    record.acknowledge("U", 4, ETAG, ONE)
    assert not same.accounted_for(4), "it has its own memory"
    record.close()


def test_a_receipt_and_a_state(record: Record) -> None:
    record.begin("U", 2 * BLOCK)
    record.save("failed", {"message": "the line is dead"})
    assert record.document.state == "failed"
    record.save()
    assert (record.document.state, record.document.error) == (
        "failed",
        {"message": "the line is dead"},
    )
    record.save("paused")
    assert (record.document.state, record.document.error) == ("paused", None)
    record.set_source("/file", Identity(5, 1, 2, 3))
    assert (record.document.localfile, record.document.size) == ("/file", 5)
    assert record.document.source == Identity(5, 1, 2, 3)
    record.finish({"size": 5, "parts": 1})
    assert (record.document.state, record.document.result) == ("finished", {"size": 5, "parts": 1})
    record.close()


# -- written down ----------------------------------------------------------------------------


def test_what_is_written_is_what_counts(tmp_path: Path) -> None:
    record = begun(tmp_path)
    two = object_etag(TWO)
    for number, etag, digests in [(0, ETAG, ONE), (1, two, TWO), (2, "x", ONE), (3, "y", None)]:
        record.acknowledge("U", number, etag, digests)
        assert up(look(record, tmp_path)) == up_in(record)
    assert up(look(record, tmp_path)) == {
        0: (ETAG, ONE), 1: (two, TWO), 2: ("x", ONE), 3: ("y", None),
    }  # fmt: skip
    record.forget([1])
    assert sorted(up(look(record, tmp_path))) == [0, 2, 3]
    view = look(record, tmp_path)
    assert (view.held, view.document.pid, view.document.host) == (
        True,
        os.getpid(),
        os.uname().nodename,
    )
    record.save("paused", {"message": "later"})
    view = look(record, tmp_path)
    assert (view.document.state, view.document.error) == ("paused", {"message": "later"})
    record.close()
    assert not look(record, tmp_path).held
    assert files(tmp_path) == ["json", "lock", "parts.jsonl"]


def up_in(record: Record) -> dict[int, tuple[str | None, bytes | None]]:
    parts = record.parts
    assert parts is not None
    return {number: (parts.etag(number), parts.digests(number)) for number in parts}


def test_digests_stand_in_the_log_where_the_etag_does_not_say_them(tmp_path: Path) -> None:
    record = begun(tmp_path)
    for number in range(8):  # so many that those below stay in the log
        record.acknowledge("U", number, ETAG, ONE)
    record.acknowledge("U", 8, ETAG, ONE)
    record.acknowledge("U", 9, "opaque", ONE)
    record.acknowledge("U", 10, "b" * 28, ONE)
    record.acknowledge("U", 11, object_etag(TWO), TWO)
    lines = record.log_path.read_bytes().splitlines()[-4:]
    # With parts of several blocks an ETag that looks like a SHA-1 may be something else.
    assert record.document.blocksize == 2 * BLOCK
    assert [b"sha1" in line for line in lines] == [True, True, True, True]
    assert up(look(record, tmp_path)) == up_in(record)
    record.begin("V", BLOCK)
    for number in range(8):
        record.acknowledge("V", number, ETAG, ONE)
    record.acknowledge("V", 8, ETAG, ONE)
    record.acknowledge("V", 9, "opaque", ONE)
    record.acknowledge("V", 10, object_etag(ONE), ONE)
    record.acknowledge("V", 11, ETAG, None)
    lines = record.log_path.read_bytes().splitlines()[-4:]
    assert [b"sha1" in line for line in lines] == [False, True, True, False]
    record.close()


def test_parts_held_back_are_read_as_such_until_they_are_confirmed(tmp_path: Path) -> None:
    record = begun(tmp_path)
    for number in range(4):
        record.acknowledge("U", number, ETAG, ONE)
    record.hold_back()
    record.acknowledge("U", 4, "opaque", TWO)
    record.acknowledge("U", 5, ETAG, ONE)
    assert sorted(up(look(record, tmp_path))) == [0, 1, 2, 3]
    record.save()  # the new log has them too
    assert sorted(up(look(record, tmp_path))) == [0, 1, 2, 3]
    assert record.log_path.read_bytes().count(b"provisional") == 2
    record.acknowledge("U", 6, ETAG, ONE)
    record.confirm()
    assert up(look(record, tmp_path)) == up_in(record)
    assert up_in(record)[4] == ("opaque", TWO)
    before = record.log_path.read_bytes()
    record.confirm()
    assert record.log_path.read_bytes() == before, "there is nothing more to confirm"
    record.close()


def test_rewrites_are_ever_further_apart(tmp_path: Path) -> None:
    """Geometric: n parts cost O(n) bytes in all."""
    record = begun(tmp_path)
    rewritten, lines = [0], []
    for number in range(3000):
        before = record.document.rewrites
        record.acknowledge("U", number, ETAG, ONE)
        if record.document.rewrites != before:
            rewritten.append(number + 1)
        lines.append(record.log_path.read_bytes().count(b"\n") - 1)
    gaps = [later - earlier for earlier, later in pairwise(rewritten)]
    assert gaps == sorted(gaps) and len(gaps) <= 13
    assert lines == [
        number + 1 - max(at for at in rewritten if at <= number + 1) for number in range(3000)
    ], "what the document has is no longer in the log"
    record.close()


def test_the_order_in_which_document_and_log_are_replaced(tmp_path: Path) -> None:
    """The old log is needed until the document is durable; only a receipt is without a log."""
    layer = Switched()
    record = Store(tmp_path, layer=layer).create(new_document())
    assert layer.replaced == ["parts.jsonl", "json"]
    layer.replaced.clear()
    record.begin("U", BLOCK)
    assert layer.replaced == ["json", "parts.jsonl"]
    layer.replaced.clear()
    record.finish({"size": 0, "parts": 0})
    assert layer.replaced == ["json"]
    record.close()


def test_the_document_is_written_with_the_given_time(tmp_path: Path) -> None:
    moments = iter(f"moment {n}" for n in range(9))
    record = Store(tmp_path, now=lambda: next(moments)).create(new_document())
    record.begin("U", BLOCK)
    view = look(record, tmp_path)
    assert (view.document.updated_at, view.document.rewrites) == ("moment 1", 2)
    record.close()


def test_a_newborn_that_is_finished_at_once_is_a_receipt(tmp_path: Path) -> None:
    """A receipt is a document alone: its first writing makes no log."""
    store = Store(tmp_path)
    store.directory.mkdir(mode=0o700)
    lock = Lock.acquire(store.directory / "0a1b2c3d.lock", FileLayer())
    assert lock is not None
    document = new_document()
    document.journal_id = "0a1b2c3d"
    path = store.directory / "0a1b2c3d.json"
    record = JournalRecord(document, None, path, lock, FileLayer(), lambda: MOMENT)
    record.finish({"size": 0, "parts": 0})
    assert files(tmp_path) == ["json"]
    record.close()
    assert store.peek("0a1b2c3d").document.state == "finished"


# -- letting go ------------------------------------------------------------------------------


def test_a_closed_record_writes_nothing_and_holds_nothing(tmp_path: Path) -> None:
    layer = Switched()
    record = begun(tmp_path, layer)
    record.acknowledge("U", 0, ETAG, ONE)
    record.close()
    assert not layer.opened
    before = {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()}
    record.acknowledge("U", 1, ETAG, ONE)
    record.hold_back()
    record.acknowledge("U", 2, ETAG, ONE)
    record.confirm()
    record.forget([0])
    record.save("failed")
    record.flush()
    record.close()
    assert {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()} == before


def test_a_finished_record_leaves_the_document_alone(tmp_path: Path) -> None:
    layer = Switched()
    record = begun(tmp_path, layer)
    record.acknowledge("U", 0, ETAG, ONE)
    record.finish({"size": 1, "parts": 1, "etag": "x", "verified": "etag", "url": "u"})
    assert files(tmp_path) == ["json"]
    record.acknowledge("U", 1, ETAG, ONE)
    record.flush()
    record.close()
    assert files(tmp_path) == ["json"] and not layer.opened


def test_dropping_removes_everything_the_document_first(tmp_path: Path) -> None:
    removed: list[str] = []

    class Watching(Switched):
        def unlink(self, path: Path) -> None:
            if path.exists():
                removed.append(path.name.split(".", 1)[1])
            super().unlink(path)

        def fsync_directory(self, path: Path) -> None:
            removed.append("flush")
            super().fsync_directory(path)

    layer = Watching()
    record = begun(tmp_path, layer)
    record.acknowledge("U", 0, ETAG, ONE)
    removed.clear()
    record.drop()
    assert removed == ["json", "flush", "parts.jsonl", "lock"]
    assert files(tmp_path) == [] and not layer.opened
    record.save("failed")
    assert files(tmp_path) == [], "a late word does not bring it back"
    record.close()


def test_a_closed_record_drops_nothing(tmp_path: Path) -> None:
    """It has no lock any more: the journal may be another process's."""
    record = begun(tmp_path)
    record.close()
    other = Store(tmp_path).open(str(record.journal_id))
    record.drop()
    assert files(tmp_path) == ["json", "lock", "parts.jsonl"]
    other.drop()
    assert files(tmp_path) == []
    other.drop()


def test_a_journal_that_cannot_be_dropped_is_said_and_let_go_of(tmp_path: Path) -> None:
    layer = Switched()
    record = begun(tmp_path, layer)
    layer.fails = "unlink"
    with pytest.raises(JournalWriteError):
        record.drop()
    layer.fails = None
    with pytest.raises(JournalWriteError):
        record.save("failed")
    record.close()
    assert not layer.opened
    Store(tmp_path).open(str(record.journal_id)).close()


# -- errors ----------------------------------------------------------------------------------


ACTS: dict[str, tuple[str, Callable[[Record], None]]] = {
    "an acknowledgement": ("write", lambda record: record.acknowledge("U", 6, ETAG, ONE)),
    "a confirmation": ("write", lambda record: record.confirm()),
    "a flush": ("fsync", lambda record: record.flush()),
    "a rewrite": ("write", lambda record: record.save("paused")),
}


@pytest.mark.parametrize("name", sorted(ACTS))
def test_after_an_error_nothing_is_written_any_more(name: str, tmp_path: Path) -> None:
    """What is on disk then is good, and nobody knows what is not; though there is room again."""
    layer = Switched()
    record = begun(tmp_path, layer)
    for number in range(4):
        record.acknowledge("U", number, ETAG, ONE)
    record.hold_back()
    record.acknowledge("U", 4, ETAG, ONE)
    call, act = ACTS[name]
    layer.fails = call
    with pytest.raises(JournalWriteError) as first:
        act(record)
    layer.fails = None
    before = {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()}
    flushes = layer.flushes
    late_words: list[Callable[[], None]] = [
        lambda: record.acknowledge("U", 7, ETAG, ONE),
        record.flush,
        lambda: record.save("failed"),
        lambda: record.forget([1]),
        lambda: record.begin("V", BLOCK),
        lambda: record.finish({}),
    ]
    for late in late_words:
        with pytest.raises(JournalWriteError) as caught:
            late()
        assert caught.value is first.value
    assert {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()} == before
    assert layer.flushes == flushes
    record.close()
    assert not layer.opened
    record.acknowledge("V", 8, ETAG, ONE)  # a worker that comes home late is not told


@pytest.mark.parametrize("name", ["a flush", "a rewrite", "a lock that is gone"])
def test_nothing_is_confirmed_after_an_error(name: str, tmp_path: Path) -> None:
    """Least of all in the log of a journal that may be another process's now."""
    layer = Switched()
    record = begun(tmp_path, layer)
    for number in range(4):
        record.acknowledge("U", number, ETAG, ONE)
    record.hold_back()
    record.acknowledge("U", 4, ETAG, ONE)
    if name in ACTS:
        layer.fails, act = ACTS[name]
    else:
        record.path.with_suffix(".lock").unlink()
        act = ACTS["a rewrite"][1]
    with pytest.raises(UFileError) as first:
        act(record)
    layer.fails = None
    before = record.log_path.read_bytes()
    with pytest.raises(UFileError) as caught:
        record.confirm()
    assert caught.value is first.value
    assert record.log_path.read_bytes() == before
    record.close()


def test_a_rewrite_does_not_wait_for_a_flush(tmp_path: Path) -> None:
    """A log that is replaced under a flush is closed by it, not under its hands."""
    layer = Switched()
    record = begun(tmp_path, layer)
    for number in range(3):
        record.acknowledge("U", number, ETAG, ONE)
    meanwhile: list[set[int]] = []

    def during() -> None:
        layer.during_fsync = lambda: None
        worker = threading.Thread(target=record.save, args=("paused",))
        worker.start()
        worker.join(30)
        assert not worker.is_alive(), "it waits for the flush"
        meanwhile.append(set(layer.opened))

    layer.during_fsync = during
    record.flush()
    assert [len(opened) for opened in meanwhile] == [3], "lock, log, and the log under the flush"
    assert len(layer.opened) == 2
    record.save("running")
    assert len(layer.opened) == 2, "no flush is under way: the old log is closed at once"
    record.close()
    assert not layer.opened


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_replaced_log_is_closed_at_the_end_at_the_latest(how: str, tmp_path: Path) -> None:
    layer = Switched()
    record = begun(tmp_path, layer)
    with record._flushing:  # as a flush that is under way
        record.save("paused")
    assert len(layer.opened) == 3
    getattr(record, how)()
    assert not layer.opened


def test_a_lock_that_is_somebody_elses_now(tmp_path: Path) -> None:
    """Whoever's lock file was removed writes nothing, and removes nothing of the other's."""
    record = begun(tmp_path)
    record.acknowledge("U", 0, ETAG, ONE)
    lock = record.path.with_suffix(".lock")
    lock.unlink()
    lock.touch()
    before = {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()}
    for act in (record.flush, record.drop, lambda: record.save("paused"), record.flush):
        with pytest.raises(JournalBusy, match=str(record.journal_id)):
            act()
    record.close()
    assert {path: path.read_bytes() for path in (tmp_path / "journals").iterdir()} == before
