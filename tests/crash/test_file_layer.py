"""The journal against power cuts, kills and full disks, at every call it makes to the kernel.

The lives below go through everything a journal lives through. Each is cut off before its n-th
call, for every n; then every disk that there may be is read by a fresh `Store` and held against a
ledger of what had been promised by then.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from powercut import (
    NEEDS_ROOM,
    Call,
    Disk,
    Fault,
    PowerCut,
    WatchedLayer,
    fail_from,
    fail_once,
    out_of_space,
)

from ufile_cli.errors import JournalBusy, JournalWriteError, UFileError, UsageError
from ufile_cli.etag import BLOCK, object_etag, part_etag
from ufile_cli.journal.document import Identity, JournalDocument
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store, View
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.request import Context, Options
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.sources import FileSource
from ufile_cli.us3.client import Body, Client
from ufile_cli.us3.response import Answer, Initiated, ObjectHead, PartsPage, Stored

UPLOAD_ID = "3f9c0b2e-one"
MOMENT = "2024-05-06T07:08:09.000Z"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: thousands of disks are written here."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="ufile-crash-") as directory:
        yield Path(directory)


def digest_of(number: int, version: int) -> bytes:
    return hashlib.sha1(f"{number}/{version}".encode()).digest()


def etag_of(number: int, version: int = 0) -> tuple[str, bytes]:
    """An ETag and digests: the plain form, the object form, or an opaque one with two blocks."""
    digests = digest_of(number, version)
    if number % 3 == 1:
        return object_etag(digests), digests
    if number % 3 == 2:
        return f"opaque-{number}-{version}", digests + digest_of(number + 1000, version)
    return part_etag(digests), digests


def new_document(kind: str = "file") -> JournalDocument:
    return JournalDocument(
        journal_id="",
        kind="stream" if kind == "stream" else "file",
        bucket="bucket",
        key="a/key",
        endpoint="https://cn-bj.ufileos.com",
        created_at=MOMENT,
        updated_at=MOMENT,
        localfile="/data/file" if kind == "file" else None,
        size=40 * 2 * BLOCK if kind == "file" else None,
        source=Identity(40 * 2 * BLOCK, 1, 2, 3) if kind == "file" else None,
        end_seen=kind == "file",
        options={"threads": 4, "patience": None},
    )


@dataclass
class Ledger:
    """What was promised so far, and what may be there besides.

    Attributes:
        acknowledged: parts whose acknowledgement returned, by number; for a process killed.
        flushed: those of them that were there when the last flush returned; for a power cut.
        possible: for each part the ETags that may be read, None for none.
    """

    created: bool = False
    begun: bool = False
    id_possible: bool = False
    finishing: bool = False
    finished: bool = False
    dropping: bool = False
    dropped: bool = False
    forgetting: set[int] = field(default_factory=set)
    acknowledged: dict[int, str] = field(default_factory=dict)
    flushed: dict[int, str] = field(default_factory=dict)
    possible: dict[int, set[str | None]] = field(default_factory=dict)

    def flush(self) -> None:
        self.flushed = dict(self.acknowledged)
        # What was dropped for good is no longer possible.
        for number, etags in self.possible.items():
            etags &= {self.acknowledged.get(number)}


@dataclass
class Life:
    """A journal's life, kept in step with its ledger."""

    store: Store
    ledger: Ledger
    record: JournalRecord | None = None

    @property
    def at_work(self) -> JournalRecord:
        assert self.record is not None
        return self.record

    def create(self, kind: str = "file") -> None:
        self.record = self.store.create(new_document(kind))
        self.ledger.created = True

    def begin(self) -> None:
        self.ledger.id_possible = True
        self.at_work.begin(UPLOAD_ID, 2 * BLOCK)
        self.ledger.begun = True

    def acknowledge(self, number: int, version: int = 0) -> None:
        etag, digests = etag_of(number, version)
        self.ledger.possible.setdefault(number, {None}).add(etag)
        self.at_work.acknowledge(UPLOAD_ID, number, etag, digests)
        self.ledger.acknowledged[number] = etag

    def provisional(self, number: int) -> None:
        etag, digests = etag_of(number)
        self.at_work.acknowledge(UPLOAD_ID, number, etag, digests)

    def confirm(self, numbers: list[int]) -> None:
        for number in numbers:
            self.ledger.possible.setdefault(number, {None}).add(etag_of(number)[0])
        self.at_work.confirm()
        for number in numbers:
            self.ledger.acknowledged[number] = etag_of(number)[0]

    def flush(self) -> None:
        self.at_work.flush()
        self.ledger.flush()

    def forget(self, numbers: list[int]) -> None:
        for number in numbers:
            self.ledger.acknowledged.pop(number, None)
            self.ledger.flushed.pop(number, None)
            self.ledger.possible.setdefault(number, set()).add(None)
        self.ledger.forgetting = set(numbers)
        self.at_work.forget(numbers)
        self.ledger.forgetting = set()
        self.ledger.flush()

    def save(self, state: Any) -> None:
        self.at_work.save(state, {"kind": "NetworkError", "message": "the line is dead"})
        self.ledger.flush()

    def close(self) -> None:
        self.at_work.close()

    def reopen(self) -> None:
        (listed,) = self.store.listing()
        self.record = self.store.open(listed.journal_id)
        self.ledger.flush()

    def finish(self) -> None:
        self.ledger.finishing = True
        self.at_work.finish({"size": 1, "etag": "x", "verified": "etag", "parts": 13, "url": "u"})
        self.ledger.finished = True
        self.at_work.close()

    def drop(self) -> None:
        self.ledger.dropping = True
        self.at_work.drop()
        self.ledger.dropped = True


def whole_life(life: Life) -> None:
    """Everything, to the receipt."""
    life.create()
    life.begin()
    for number in range(9):
        life.acknowledge(number)
        if number % 3 == 2:
            life.flush()
    life.save("paused")
    life.close()
    life.reopen()
    for number in (9, 11, 10):
        life.acknowledge(number)
    life.flush()
    life.forget([2, 10, 4])
    life.acknowledge(12)
    life.acknowledge(4, version=1)
    life.flush()
    life.acknowledge(2)
    life.finish()


def given_up_life(life: Life) -> None:
    """Dropped in the middle."""
    life.create()
    life.begin()
    for number in range(4):
        life.acknowledge(number)
    life.flush()
    life.drop()


def replayed_life(life: Life) -> None:
    """A stream that is replayed: parts that do not count before they are confirmed."""
    life.create("stream")
    life.begin()
    for number in range(3):
        life.acknowledge(number)
    life.flush()
    life.close()
    life.reopen()
    life.at_work.hold_back()
    for number in (3, 4, 5, 6):
        life.provisional(number)
        life.flush()
    life.confirm([3, 4, 5, 6])
    life.flush()
    life.acknowledge(7)
    life.finish()


LIVES: list[Callable[[Life], None]] = [whole_life, given_up_life, replayed_life]


def count_calls(life: Callable[[Life], None], root: Path) -> WatchedLayer:
    root.mkdir()
    layer = WatchedLayer(root)
    ledger = Ledger()
    life(Life(store_in(root, layer), ledger))
    assert ledger.finished or ledger.dropped
    layer.bury()
    return layer


def store_in(root: Path, layer: WatchedLayer | None = None) -> Store:
    return Store(root / "state" / "ufile", layer=layer, now=lambda: MOMENT)


def look(store: Store) -> View | None:
    """The one journal there is; damage comes out as it is."""
    listed = store.listing()
    assert len(listed) <= 1
    return store.peek(listed[0].journal_id) if listed else None


def check(disk: Disk, ledger: Ledger, target: Path, *, promised: dict[int, str]) -> None:
    """Hold one disk against the ledger."""
    disk.materialise(target)
    store = store_in(target)
    view = look(store)
    if view is None:
        assert ledger.dropping or not ledger.created, "the journal is gone"
        return
    assert not ledger.dropped, "a dropped journal is back"
    if ledger.finished:
        assert view.document.state == "finished"
    elif not ledger.finishing:
        assert view.document.state in ("running", "paused")
    if view.document.state == "finished":
        assert view.document.result is not None
        assert view.document.rewrites > 1
        return
    if not ledger.dropping:
        assert not store.listing()[0].receipt, "an unfinished journal looks like a receipt"
    if ledger.begun:
        assert view.document.uploadid == UPLOAD_ID, "the upload id is gone"
    elif not ledger.id_possible:
        assert view.document.uploadid is None
    parts = {number: view.parts.etag(number) for number in view.parts} if view.parts else {}
    for number, etag in promised.items():
        if not ledger.dropping:
            assert number in parts, f"part {number} was promised and is gone"
            assert parts[number] in {etag, *(ledger.possible[number] - {None})}
    half = ledger.forgetting & parts.keys()
    assert half in (set(), ledger.forgetting), f"of {ledger.forgetting}, {half} are still there"
    for number, found in parts.items():
        assert found in ledger.possible.get(number, ()), f"part {number}, {found}: never that"
        assert view.parts is not None
        digests = next(d for v in (0, 1) for e, d in [etag_of(number, v)] if e == found)
        assert view.parts.digests(number) == digests


def go_on(target: Path) -> None:
    """A resume after the crash: opens, writes, and is read again."""
    store = store_in(target)
    view = look(store)
    if view is None:
        return
    record = store.open(view.document.journal_id)
    try:
        if record.document.state == "finished":
            return
        if record.document.uploadid is None:
            record.begin(UPLOAD_ID, 2 * BLOCK)
        record.acknowledge(UPLOAD_ID, 39, *etag_of(39))
        record.flush()
    finally:
        record.close()
    again = look(store)
    assert again is not None and again.parts is not None and 39 in again.parts
    before = set(view.parts) if view.parts is not None else set()
    assert set(again.parts) == before | {39}


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_power_cut_before_every_call(life: Callable[[Life], None], tmp_path: Path) -> None:
    total = len(count_calls(life, tmp_path / "count").calls)
    disks = 0
    for n in range(total + 1):
        root = tmp_path / f"cut-{n}"
        root.mkdir()
        layer, ledger = WatchedLayer(root, stop_at=n), Ledger()
        try:
            life(Life(store_in(root, layer), ledger))
        except PowerCut:
            pass
        layer.bury()
        for index, disk in enumerate(layer.after_power_cut()):
            target = tmp_path / f"disk-{n}-{index}"
            target.mkdir()
            try:
                check(disk, ledger, target, promised=ledger.flushed)
                if index % 5 == 0:
                    go_on(target)
            except Exception as error:
                last = layer.calls[-1] if layer.calls else None
                raise AssertionError(f"cut before call {n}, after {last}: {disk.how}") from error
            disks += 1
    assert disks > 2 * total


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
def test_kill_before_every_call(life: Callable[[Life], None], tmp_path: Path) -> None:
    total = len(count_calls(life, tmp_path / "count").calls)
    for n in range(total + 1):
        root = tmp_path / f"kill-{n}"
        root.mkdir()
        layer, ledger = WatchedLayer(root, stop_at=n), Ledger()
        try:
            life(Life(store_in(root, layer), ledger))
        except PowerCut:
            pass
        layer.bury()
        target = tmp_path / f"disk-{n}"
        target.mkdir()
        check(layer.as_killed(), ledger, target, promised=ledger.acknowledged)
        # The directory itself is the same thing, read without the model.
        view = look(store_in(root))
        if view is not None:
            go_on(root)


# -- full disks and broken ones --------------------------------------------------------------


def broken(kind: str, n: int) -> Fault:
    if kind == "full":
        return fail_from(n, errno.ENOSPC)
    if kind == "full after a short write":
        return out_of_space(n)
    if kind == "one error":
        return fail_once(n, errno.EIO)
    return fail_from(n, errno.EROFS)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
@pytest.mark.parametrize(
    "kind", ["full", "full after a short write", "one error", "becomes read-only"]
)
def test_errors_at_every_call(life: Callable[[Life], None], kind: str, tmp_path: Path) -> None:
    total = len(count_calls(life, tmp_path / "count").calls)
    for n in range(total):
        root = tmp_path / f"error-{n}"
        root.mkdir()
        layer, ledger = WatchedLayer(root, fault=broken(kind, n)), Ledger()
        living = Life(store_in(root, layer), ledger)
        try:
            life(living)
        except JournalWriteError as error:
            assert error.code == 74
            assert str(root) in error.message
            assert error.hint is not None and "UFILE_STATE_DIR" in error.hint
            if living.record is not None:
                after_the_error(living)
        else:
            # A close tells nothing that a flush has not told before.
            failed = layer.calls[n : n + 1] if kind == "one error" else layer.calls[n:]
            assert all(call.name == "close" or call.name not in NEEDS_ROOM for call in failed)
        assert not layer.retried_fsync, "a failed flush was tried again"
        for log in root.rglob("*.parts.jsonl"):
            assert log.read_bytes().endswith(b"\n"), "half a line was left"
        layer.bury()
        target = tmp_path / f"disk-{n}"
        target.mkdir()
        try:
            check(layer.as_killed(), ledger, target, promised=ledger.acknowledged)
            go_on(root)
            for index, disk in enumerate(layer.after_power_cut() if n % 2 else ()):
                target = tmp_path / f"disk-{n}-{index}"
                target.mkdir()
                check(disk, ledger, target, promised=ledger.flushed)
        except Exception as error:
            raise AssertionError(f"{kind} at call {n}, {layer.calls[n]}") from error


def after_the_error(life: Life) -> None:
    """Workers come home late, the coordinator tries to save: nothing more is written or kept."""
    record, written = life.at_work, life.store.directory
    before = {path.name: path.read_bytes() for path in written.iterdir() if path.suffix != ".new"}
    acts: list[Callable[[], None]] = [
        lambda: record.acknowledge(UPLOAD_ID, 30, *etag_of(30)),
        record.flush,
        lambda: record.save("paused"),
    ]
    for act in acts:
        if record.parts is None:
            break
        try:
            act()
        except JournalWriteError:
            pass
    after = {path.name: path.read_bytes() for path in written.iterdir() if path.suffix != ".new"}
    if record._broken is not None:
        assert after == before
    record.close()


def test_a_full_disk_keeps_no_half_document(tmp_path: Path) -> None:
    for n in range(60):
        root = tmp_path / str(n)
        root.mkdir()
        layer = WatchedLayer(root, fault=out_of_space(n))
        with pytest.raises(JournalWriteError):
            whole_life(Life(store_in(root, layer), Ledger()))
        layer.bury()
        assert not list(root.rglob("*.new"))


# -- flushing while workers write ------------------------------------------------------------


def opened(root: Path, layer: WatchedLayer) -> JournalRecord:
    record = store_in(root, layer).create(new_document())
    record.begin(UPLOAD_ID, 2 * BLOCK)
    for number in range(8):
        record.acknowledge(UPLOAD_ID, number, *etag_of(number))
    return record


def test_a_line_that_arrives_during_a_flush_is_flushed_by_the_next(tmp_path: Path) -> None:
    layer = WatchedLayer(tmp_path)
    record = opened(tmp_path, layer)
    record.acknowledge(UPLOAD_ID, 8, *etag_of(8))

    def meanwhile(call: Call) -> None:
        if call.name == "fsync":
            layer.during = lambda _call: None
            record.acknowledge(UPLOAD_ID, 9, *etag_of(9))

    layer.during = meanwhile
    record.flush()
    record.flush()
    disks = list(layer.after_power_cut())
    layer.bury()
    for index, disk in enumerate(disks):
        disk.materialise(tmp_path / f"disk-{index}")
        view = look(store_in(tmp_path / f"disk-{index}"))
        assert view is not None and view.parts is not None and 9 in view.parts


def test_a_flush_survives_that_the_log_is_replaced_under_it(tmp_path: Path) -> None:
    """The coordinator is about to flush when a worker's acknowledgement rewrites the document."""
    layer = WatchedLayer(tmp_path)
    record = opened(tmp_path, layer)
    record.acknowledge(UPLOAD_ID, 8, *etag_of(8))

    def meanwhile(call: Call) -> None:
        if call.name == "fsync":
            layer.during = lambda _call: None
            for number in range(9, 30):
                record.acknowledge(UPLOAD_ID, number, *etag_of(number))

    closed = len(layer.named("close"))
    layer.during = meanwhile
    record.flush()
    assert len(layer.named("close")) > closed
    record.flush()
    record.save("paused")
    assert len(layer._files) == 2, "log and lock alone are open"
    record.close()
    assert not layer._files
    view = look(store_in(tmp_path))
    assert view is not None and view.parts is not None and set(view.parts) == set(range(30))


def test_many_workers_and_a_flushing_coordinator(tmp_path: Path) -> None:
    layer = WatchedLayer(tmp_path)
    record = store_in(tmp_path, layer).create(new_document())
    record.document.size = 4000 * 2 * BLOCK
    record.begin(UPLOAD_ID, 2 * BLOCK)
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, 1200, 4):
                record.acknowledge(UPLOAD_ID, number, *etag_of(number))
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        record.flush()
    for worker in workers:
        worker.join()
    record.flush()
    (disk,) = [disk for disk in layer.after_power_cut() if disk.how.startswith("flushed")]
    record.close()
    layer.bury()
    assert errors == []
    disk.materialise(tmp_path / "after")
    view = look(store_in(tmp_path / "after"))
    assert view is not None and view.parts is not None and set(view.parts) == set(range(1200))


def test_a_worker_that_comes_home_late_speaks_for_its_own_upload_alone(tmp_path: Path) -> None:
    layer = WatchedLayer(tmp_path)
    record = opened(tmp_path, layer)
    record.begin("another", 2 * BLOCK)
    record.acknowledge(UPLOAD_ID, 10, *etag_of(10))
    record.acknowledge("another", 11, *etag_of(11))
    record.close()
    before = layer.written()
    record.acknowledge("another", 12, *etag_of(12))
    record.save("failed")
    assert layer.written() == before, "it is another process's now"
    view = look(store_in(tmp_path))
    assert view is not None and view.parts is not None and list(view.parts) == [11]


# -- sizes -----------------------------------------------------------------------------------


def test_bytes_and_calls_for_a_quarter_of_a_million_parts(tmp_path: Path) -> None:
    parts = 262_144
    layer = WatchedLayer(tmp_path)
    document = new_document()
    document.size = parts * BLOCK
    record = store_in(tmp_path, layer).create(document)
    record.begin(UPLOAD_ID, BLOCK)
    layer.calls.clear()
    etags = [base64.urlsafe_b64encode(os.urandom(20)).decode() for _ in range(64)]
    digests = [base64.urlsafe_b64decode(etag) for etag in etags]

    class Unwatched(WatchedLayer):
        """Counts, without a model of what is on disk."""

        def write(self, fd: int, data: bytes | memoryview) -> int:
            counted.append(len(data))
            return os.write(fd, data)

    counted: list[int] = []
    layer.__class__ = Unwatched
    for number in range(parts):
        record.acknowledge(UPLOAD_ID, number, etags[number % 64], digests[number % 64])
    assert sum(counted) / parts <= 128
    record.save("paused")
    assert sum(counted) / parts <= 128 + 32, "a pause costs the document once more"
    record.close()
    layer.bury()
    assert len(counted) <= 1.1 * parts
    assert len(layer.named("fsync")) <= 2 * 20
    view = look(store_in(tmp_path))
    assert view is not None and view.parts_done == parts
    assert view.path.stat().st_size <= 40 * parts
    assert (tmp_path / "state/ufile/journals").stat().st_mode & 0o777 == 0o700


def test_reading_takes_two_files_and_no_lock(tmp_path: Path) -> None:
    layer = WatchedLayer(tmp_path)
    record = opened(tmp_path, layer)
    (listed,) = store_in(tmp_path, layer).listing()
    before = len(layer.calls)
    assert store_in(tmp_path, layer).peek(listed.journal_id).held
    assert [call.name for call in layer.calls[before:]] == ["open", "try_lock", "close"]
    record.close()


# -- the lock's file -------------------------------------------------------------------------


def test_a_lock_file_removed_under_its_holder(tmp_path: Path) -> None:
    """Two processes may now both hold a lock; but only the later one goes on."""
    layer = WatchedLayer(tmp_path)
    first = opened(tmp_path, layer)
    lock = next(store_in(tmp_path).directory.glob("*.lock"))
    lock.unlink()
    second = store_in(tmp_path).open(first.document.journal_id)
    for act in (
        first.flush,
        lambda: first.save("paused"),
        lambda: first.forget([1]),
        lambda: first.finish({}),
        lambda: first.acknowledge(UPLOAD_ID, 20, *etag_of(20)),
        first.drop,
    ):
        with pytest.raises(JournalBusy) as caught:
            act()
        assert caught.value.code == 75
        assert first.document.journal_id in caught.value.message
    first.close()
    assert lock.exists(), "the other process's lock was removed"
    second.acknowledge(UPLOAD_ID, 21, *etag_of(21))
    second.flush()
    with pytest.raises(JournalBusy, match=f"process {os.getpid()} "):
        store_in(tmp_path).open(second.document.journal_id)
    second.close()
    view = look(store_in(tmp_path))
    assert view is not None and view.parts is not None
    assert set(view.parts) == {*range(8), 21}


def test_a_finished_journal_takes_its_own_lock_file_away_only(tmp_path: Path) -> None:
    record = opened(tmp_path, WatchedLayer(tmp_path))
    record.finish({"size": 1, "etag": "x", "verified": "etag", "parts": 8, "url": "u"})
    directory = store_in(tmp_path).directory
    assert sorted(path.suffix for path in directory.iterdir()) == [".json"]
    other = store_in(tmp_path).open(record.document.journal_id)
    record.close()
    assert len(list(directory.glob("*.lock"))) == 1
    other.close()
    assert sorted(path.suffix for path in directory.iterdir()) == [".json"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path: Path, code: int) -> None:
    def fault(call: Call) -> OSError | None:
        return OSError(code, os.strerror(code)) if call.name == "try_lock" else None

    layer = WatchedLayer(tmp_path, fault=fault)
    with pytest.raises(JournalWriteError, match="has no locks") as caught:
        store_in(tmp_path, layer).create(new_document())
    assert caught.value.code == 74
    assert caught.value.hint is not None and "UFILE_STATE_DIR" in caught.value.hint
    assert not layer._files
    assert look(store_in(tmp_path)) is None


# -- a whole upload under a full disk --------------------------------------------------------


@dataclass
class FakeClient:
    """A server of one upload, without sockets."""

    block_size: int = 64 * 1024
    parts: dict[int, tuple[int, str]] = field(default_factory=dict)
    stored: bytes | None = None
    bodies: dict[int, bytes] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    class address:
        @staticmethod
        def object_url(key: str) -> str:
            return f"http://host/{key}"

    def current_credentials(self) -> None:
        """Requests are not signed."""

    def _answer(self) -> Answer:
        return Answer.of(200, {})

    def initiate(self, key: str, headers: object) -> Initiated:
        return Initiated(UPLOAD_ID, self.block_size, "bucket", key, self._answer())

    def upload_part(self, key: str, upload_id: str, number: int, body: Body, headers: Any) -> str:
        data = bytearray()
        while block := body.read(16384):
            data += block
        body.read(1)
        etag = part_etag(hashlib.sha1(data).digest())
        with self.guard:
            self.parts[number] = len(data), etag
            self.bodies[number] = bytes(data)
        return etag

    def list_parts(self, upload_id: str, **_: Any) -> PartsPage:
        from ufile_cli.us3.response import RemotePart

        with self.guard:
            found = tuple(RemotePart(n, e, s, None) for n, (s, e) in sorted(self.parts.items()))
        return PartsPage(found, False, None, None, self._answer())

    def finish(self, key: str, upload_id: str, etags: Iterator[str], headers: Any) -> Stored:
        listed = list(etags)
        assert listed == [self.parts[n][1] for n in range(len(self.parts))]
        self.stored = b"".join(self.bodies[n] for n in range(len(self.parts)))
        return Stored(None, None, key, "bucket", self._answer())

    def head(self, key: str) -> ObjectHead:
        assert self.stored is not None
        blocks = [self.stored[i : i + BLOCK] for i in range(0, len(self.stored), BLOCK)]
        etag = object_etag(b"".join(hashlib.sha1(block).digest() for block in blocks))
        return ObjectHead(len(self.stored), etag, None, None, None, {}, self._answer())


def upload(path: Path, record: JournalRecord, client: FakeClient) -> Any:
    source = FileSource.open(path)
    options = Options(threads=3, policy=RetryPolicy(attempts=1, interval=0, patience=0))
    try:
        return FileUpload(record, source, cast(Client, client), options, Context()).run()
    finally:
        source.close()


def part_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("part-")]


@pytest.mark.parametrize("kind", ["full", "full after a short write", "one error"])
def test_a_whole_upload_on_a_disk_that_fills_up(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "source"
    content = bytes(range(256)) * 256 * 21 + b"tail"
    path.write_bytes(content)

    def begun(root: Path, layer: WatchedLayer | None) -> JournalRecord:
        document = new_document()
        document.localfile, document.size, document.source = str(path), len(content), None
        return store_in(root, layer).create(document)

    root = tmp_path / "healthy"
    root.mkdir()
    layer = WatchedLayer(root)
    record = begun(root, layer)
    first = len(layer.calls)
    result = upload(path, record, FakeClient())
    assert (result.parts, result.verified) == (22, "etag")
    total = len(layer.calls)
    layer.bury()
    for n in range(first, total, 5):
        root = tmp_path / f"at-{n}"
        root.mkdir()
        layer, client = WatchedLayer(root, fault=broken(kind, n)), FakeClient()
        record = begun(root, layer)
        try:
            upload(path, record, client)
        except UFileError as error:
            assert error.code == 74, error
        for thread in part_threads():
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} is left busy"
        layer.bury()
        view = look(store_in(root))
        assert view is not None
        if view.document.state == "finished":
            assert client.stored == content
            continue
        if view.parts is not None:
            known = {number: view.parts.etag(number) for number in view.parts}
            assert known.items() <= {n: etag for n, (_, etag) in client.parts.items()}.items()
            assert view.state == "interrupted"
        # The disk has room again: the upload goes on, and what is up is not sent again.
        there = len(client.parts)
        healthy = store_in(root).open(view.document.journal_id)
        if healthy.parts is None:
            client.parts.clear()
            there = 0
        if client.stored is None:
            result = upload(path, healthy, client)
            assert client.stored == content
            assert result.parts_sent == 22 - there
        else:
            healthy.close()  # Finish went through, only the receipt did not
            assert view.parts is not None and len(view.parts) == 22


def test_a_state_directory_that_cannot_be_made_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "deeper", tmp_path / ("x" * 300) / "y"):
        with pytest.raises(JournalWriteError) as caught:
            Store(place).create(new_document())
        assert caught.value.hint is not None and "UFILE_STATE_DIR" in caught.value.hint


def test_ids_that_are_paths(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for name in ("../../etc/passwd", "/etc/passwd", "a/b", "..", "", "*", "x\0y"):
        with pytest.raises(UsageError):
            store.find(name)
        with pytest.raises(UsageError):
            store.open(name)
        with pytest.raises(UsageError):
            store.peek(name)
