"""The journals in their directory: what a looker sees, what is found, what is cleared away.

Damaged journals are in `tests/crash/test_damage.py`, locks between processes in
`test_journal_locks.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ufile_cli.errors import JournalBusy, JournalDamaged, JournalWriteError, UsageError
from ufile_cli.etag import part_etag
from ufile_cli.journal import store as store_module
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.durable import FileLayer, Lock
from ufile_cli.journal.partlog import head_line, part_line
from ufile_cli.journal.parts import PartTable
from ufile_cli.journal.record import Record
from ufile_cli.journal.store import Listed, Store, View

MIB = 1 << 20
ID, OTHER = "0a1b2c3d", "0a1b2c3e"
MOMENT = "2024-05-06T07:08:09.000Z"
RESULT = {"size": 10 * MIB, "parts": 3, "etag": "x", "verified": "etag", "url": "u"}
WHERE = {"endpoint": "local", "bucket": "bucket", "key": "key", "localfile": "/file"}


class Counting(FileLayer):
    """Knows what is open, what was flushed; may do something before a lock is tried."""

    def __init__(self) -> None:
        self.opened: set[int] = set()
        self.calls: list[str] = []
        self.before_lock: Callable[[], None] = lambda: None
        self.fails: str | None = None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path: Path, flags: int) -> int:
        self._call("open")
        fd = super().open(path, flags)
        self.opened.add(fd)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._call("write")
        return super().write(fd, data)

    def close(self, fd: int) -> None:
        self.opened.discard(fd)
        super().close(fd)

    def unlink(self, path: Path) -> None:
        self._call("unlink")
        super().unlink(path)

    def fsync_directory(self, path: Path) -> None:
        self._call("fsync_directory")
        super().fsync_directory(path)

    def try_lock(self, fd: int, *, shared: bool = False) -> bool:
        self.before_lock()
        return super().try_lock(fd, shared=shared)


@pytest.fixture
def layer() -> Counting:
    return Counting()


@pytest.fixture
def store(tmp_path: Path, layer: Counting) -> Store:
    store = Store(tmp_path, layer=layer, now=lambda: MOMENT)
    store.directory.mkdir(mode=0o700)
    return store


def a_document(**changes: Any) -> JournalDocument:
    document = JournalDocument(
        journal_id=ID,
        kind="file",
        bucket="bucket",
        key="key",
        endpoint="local",
        created_at=MOMENT,
        updated_at=MOMENT,
        state="paused",
        uploadid="U",
        blocksize=4 * MIB,
        localfile="/file",
        size=10 * MIB,
        rewrites=1,
    )
    return replace(document, **changes)


def written(
    store: Store, *lines: bytes, log: bool = True, touched: float | None = None, **changes: Any
) -> Path:
    """A journal as it lies there when nobody is at work."""
    document = a_document(**changes)
    path = store.directory / f"{document.journal_id}.json"
    blocksize = document.blocksize
    parts = PartTable(blocksize) if blocksize is not None else None
    path.write_bytes(b"".join(document.chunks(parts)))
    path.with_suffix(".lock").touch()
    if log:
        head = head_line(document.uploadid, document.rewrites)
        path.with_suffix(".parts.jsonl").write_bytes(head + b"".join(lines))
    for one in store.directory.glob(f"{document.journal_id}.*"):
        one.chmod(0o600)
        if touched is not None:
            os.utime(one, (touched, touched))
    return path


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def part(number: int) -> bytes:
    return part_line(number, part_etag(bytes([number]) * 20), None)


# -- what a looker sees ----------------------------------------------------------------------


def view_of(up: list[int], *, held: bool = False, **changes: Any) -> View:
    document = a_document(**changes)
    parts = None
    if document.blocksize is not None:
        parts = PartTable(document.blocksize)
        for number in up:
            parts.record(number, f"e{number}", None)
    return View(document, parts, held, Path("x"), 0.0)


@pytest.mark.parametrize(
    ("up", "size", "done", "pause"),
    [
        ([], 10, 0, 0),
        ([0], 10, 4, 4),
        ([0, 1], 10, 8, 8),
        ([0, 1, 2], 10, 10, 10),
        ([2], 10, 2, 0),
        ([1, 2], 12, 8, 0),
        ([0, 1, 2], 12, 12, 12),
        ([0], 1, 1, 1),
        ([0], 0, 0, 0),
        ([0, 2], None, 8, 4),
    ],
)
def test_how_far_it_is(up: list[int], size: int | None, done: int, pause: int) -> None:
    """In MiB, with parts of 4 MiB; the last part of a source is as long as what is left."""
    view = view_of(up, size=None if size is None else size * MIB)
    assert (view.bytes_done, view.parts_done) == (done * MIB, len(up))
    assert view.pause_offset == pause * MIB


def test_how_far_it_is_before_it_began_and_after_it_ended() -> None:
    view = view_of([], uploadid=None, blocksize=None)
    assert (view.bytes_done, view.parts_done, view.pause_offset) == (0, 0, 0)
    view = view_of([], uploadid=None, blocksize=None, state="finished", result=RESULT)
    assert (view.bytes_done, view.parts_done) == (10 * MIB, 3)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("state", ["running", "paused", "failed", "finished"])
def test_running_is_what_somebody_works_on(state: str, held: bool) -> None:
    interrupted = state == "running" and not held
    assert view_of([], held=held, state=state).state == ("interrupted" if interrupted else state)


def test_a_journal_is_as_young_as_the_younger_of_its_files(store: Store) -> None:
    path = written(store, touched=1000)
    log = path.with_suffix(".parts.jsonl")
    assert store.peek(ID).touched == 1000
    os.utime(log, (3000, 3000))
    assert store.peek(ID).touched == 3000
    os.utime(path, (5000, 5000))
    assert store.peek(ID).touched == 5000
    log.unlink()
    assert store.peek(ID).touched == 5000


def test_a_receipt_is_looked_at_without_its_lock(store: Store, layer: Counting) -> None:
    written(store, log=False, touched=1000, state="finished", result=RESULT)
    (listed,) = store.listing()
    assert listed.receipt
    seen = store.look(listed)
    assert seen._replace(parts=None) == store.peek(ID)._replace(parts=None)
    layer.calls.clear()
    assert not store.look(listed).held
    assert not layer.calls


def test_what_only_looks_like_a_receipt_is_looked_at_as_a_whole(store: Store) -> None:
    """Its log is gone, or was not there yet when the directory was read."""
    path = written(store, part(1), state="running")
    with_log = store.listing()[0]
    assert not with_log.receipt
    listed = with_log._replace(receipt=True)
    assert store.look(listed).parts_done == store.look(with_log).parts_done == 1
    held = Lock.acquire(path.with_suffix(".lock"), FileLayer())
    assert held is not None
    assert store.look(listed).held and store.look(with_log).held
    held.release()
    path.write_bytes(b"")
    with pytest.raises(JournalDamaged):
        store.look(listed)
    path.unlink()
    with pytest.raises(UsageError, match="there is no journal"):
        store.look(listed)


def test_looking_leaves_no_file_open(store: Store) -> None:
    written(store, part(1))
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        store.peek(ID)
        store.listing()
    assert len(os.listdir("/dev/fd")) == before


# -- the list --------------------------------------------------------------------------------


def test_the_list_is_of_journals_the_oldest_first(store: Store) -> None:
    written(store, journal_id="00000003", touched=300, log=False)
    written(store, journal_id="00000001", touched=500)
    written(store, journal_id="00000002", touched=100)
    for name in (
        ".hidden.json",
        "notes.txt",
        "00000004.lock",
        "00000005.parts.jsonl",
        "x.json.new",
    ):
        (store.directory / name).touch()
    assert store.listing() == [
        Listed(journal_id, str(store.directory / f"{journal_id}.json"), receipt, touched)
        for journal_id, receipt, touched in (
            ("00000002", False, 100.0),
            ("00000003", True, 300.0),
            ("00000001", False, 500.0),
        )
    ]


def test_a_link_that_leads_nowhere_is_listed(store: Store) -> None:
    """So that it is shown, as damaged, and can be forgotten."""
    (store.directory / f"{ID}.json").symlink_to("nowhere")
    assert [listed.journal_id for listed in store.listing()] == [ID]
    with pytest.raises(JournalDamaged, match="it is a symbolic link"):
        store.peek(ID)
    store.forget(ID)
    assert names(store) == []


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "journals").touch()
    with pytest.raises(JournalWriteError, match="can't be read: Not a directory") as caught:
        Store(tmp_path).listing()
    assert caught.value.hint is not None and "UFILE_STATE_DIR" in caught.value.hint
    assert Store(tmp_path).leftovers() == {}


# -- finding ---------------------------------------------------------------------------------


def test_a_whole_name_is_meant_though_others_begin_with_it(store: Store) -> None:
    for name in (f"{ID}.json", f"{ID}x.json", "1a000000.json"):
        (store.directory / name).touch()
    assert store.find(ID) == ID
    assert store.find(ID.upper()) == ID
    assert store.find("1") == "1a000000"
    with pytest.raises(UsageError, match=f"0a is short for 2 journals: {ID}, {ID}x"):
        store.find("0a")


def test_of_many_that_fit_five_are_named(store: Store) -> None:
    for number in range(7):
        (store.directory / f"0000000{number}.json").touch()
    with pytest.raises(UsageError) as caught:
        store.find("0")
    shown = ", ".join(f"0000000{number}" for number in range(5))
    assert caught.value.message == f"0 is short for 7 journals: {shown}"


@pytest.mark.parametrize("name", ["", "a b", "../x", "0a1b*", "ö"])
def test_what_can_be_no_id(name: str, store: Store) -> None:
    written(store)
    with pytest.raises(UsageError, match="is no journal id"):
        store.find(name)


@pytest.mark.parametrize("name", ["../x", "a/b", "x\0y"])
def test_an_id_is_no_way_out_of_the_directory(name: str, store: Store) -> None:
    for act in (store.open, store.open_quietly, store.peek, store.forget, store.drop_receipt):
        with pytest.raises(UsageError, match="is no journal id"):
            act(name)


def test_a_journal_that_is_not_there_leaves_nothing_behind(store: Store, layer: Counting) -> None:
    for act in (store.open, store.open_quietly, store.peek, store.forget):
        with pytest.raises(UsageError, match=f"there is no journal {ID}"):
            act(ID)
    assert store.drop_receipt(ID) is False
    assert names(store) == [] and not layer.opened


def test_the_unfinished_journal_of_a_file(store: Store) -> None:
    assert store.find_unfinished(**WHERE) is None
    written(store, journal_id="00000001", touched=100)
    written(store, journal_id="00000002", touched=300)
    written(store, journal_id="00000003", touched=200)
    assert store.find_unfinished(**WHERE) == "00000002", "the latest of several"
    for name in WHERE:
        assert store.find_unfinished(**{**WHERE, name: "another"}) is None
    (store.directory / "00000002.json").write_bytes(b"")
    assert store.find_unfinished(**WHERE) == "00000003", "a damaged one is passed over"


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("a stream", {"kind": "stream"}),
        ("finished, though its log is still there", {"state": "finished", "result": RESULT}),
        ("a copy under another name", {"journal_id": "copy"}),
        ("without a log", {"log": False}),
    ],
)
def test_what_is_no_unfinished_journal_of_a_file(
    why: str, changes: dict[str, Any], store: Store
) -> None:
    written(store, **changes)
    assert store.find_unfinished(**WHERE) is None, why


# -- beginning and opening -------------------------------------------------------------------


def test_of_two_who_begin_one_waits_and_gives_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "new")
    path = store.directory / ".beginning.lock"
    with pytest.raises(KeyError), store.beginning():
        assert Lock.is_held(path, FileLayer())
        raise KeyError
    assert not Lock.is_held(path, FileLayer())
    waited: list[float] = []

    def busy(path: Path, layer: FileLayer, *, patience: float) -> None:
        waited.append(patience)

    monkeypatch.setattr(Lock, "acquire", busy)
    with pytest.raises(JournalBusy, match="30 s"), store.beginning():
        pytest.fail("it began")
    assert waited == [30.0]


def test_an_id_that_is_taken_is_not_chosen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written(store)
    before = (store.directory / f"{ID}.json").read_bytes()
    chosen = iter(ID + OTHER)
    monkeypatch.setattr("secrets.choice", lambda _alphabet: next(chosen))
    record = store.create(a_document(journal_id="", rewrites=0))
    assert record.journal_id == OTHER
    record.close()
    assert (store.directory / f"{ID}.json").read_bytes() == before


def test_what_is_up_already_is_taken_over(store: Store) -> None:
    known = Record(a_document(journal_id="", rewrites=0, uploadid=None, blocksize=None), None)
    known.begin("U", 4 * MIB)
    known.acknowledge("U", 0, part_etag(bytes(20)), bytes(20))
    known.acknowledge("U", 2, "opaque", None)
    store.create(known.document, known).close()
    view = store.peek(known.document.journal_id)
    assert (view.document.uploadid, view.document.blocksize) == ("U", 4 * MIB)
    assert view.parts is not None
    assert list(view.parts.etags()) == [part_etag(bytes(20)), None, "opaque"]
    assert (view.parts.digests(0), view.parts.digests(2)) == (bytes(20), None)


def test_nothing_is_taken_over_where_nothing_was_begun(store: Store) -> None:
    """Parts without an upload id, or the other way round, are nothing that was begun."""
    for upload_id, parts in ((None, None), (None, PartTable(4 * MIB)), ("U", None)):
        document = a_document(journal_id="", rewrites=0, uploadid=upload_id)
        store.create(document, Record(document, parts)).close()
        view = store.peek(document.journal_id)
        assert (view.parts_done, view.document.uploadid) == (0, upload_id)
        assert (view.document.state, view.document.pid) == ("running", os.getpid())


def test_a_journal_that_cannot_be_written_is_let_go_of(store: Store, layer: Counting) -> None:
    layer.fails = "write"
    with pytest.raises(JournalWriteError):
        store.create(a_document(journal_id="", rewrites=0))
    assert not layer.opened
    written(store)
    with pytest.raises(JournalWriteError):
        store.open(ID)
    assert not layer.opened


def test_opening_writes_down_who_works_on_it(store: Store) -> None:
    path = written(store)
    record = store.open_quietly(ID)
    assert (record.document.state, record.document.pid) == ("paused", 0)
    before = path.read_bytes()
    record.close()
    assert path.read_bytes() == before, "quietly: nothing is written"
    record = store.open(ID)
    view = store.peek(ID)
    assert (view.state, view.held, view.document.pid) == ("running", True, os.getpid())
    record.close()


def test_a_finished_journal_stays_finished_when_it_is_opened(store: Store) -> None:
    path = written(store, log=False, state="finished", result=RESULT)
    before = path.read_bytes()
    store.open(ID).close()
    assert path.read_bytes() == before


def test_somebody_holds_a_journal_that_cannot_be_read(store: Store) -> None:
    path = written(store)
    path.write_bytes(b"")
    held = Lock.acquire(path.with_suffix(".lock"), FileLayer())
    assert held is not None
    with pytest.raises(JournalBusy) as caught:
        store.open(ID)
    assert caught.value.message == f"another process is working on upload {ID}"
    held.release()


# -- files that are no journals of ours ------------------------------------------------------


def test_a_log_names_no_part_that_the_source_has_not(store: Store) -> None:
    written(store, part(2))
    assert store.peek(ID).parts_done == 1
    written(store, part(3))
    with pytest.raises(JournalDamaged, match="a part that can't be"):
        store.peek(ID)
    for size in (0, 4 * MIB):
        written(store, part(0), size=size)
        assert store.peek(ID).parts_done == 1
        written(store, part(1), size=size)
        with pytest.raises(JournalDamaged, match="a part that can't be"):
            store.peek(ID)
    written(store, part(100), kind="stream", size=None)
    assert store.peek(ID).parts_done == 1, "of a stream nobody knows"


def test_who_may_have_written_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a journal could have any file sent anywhere."""
    path = written(store)
    path.chmod(0o666)
    store.peek(ID)  # nobody else gets into the directory
    store.directory.chmod(0o755)
    with pytest.raises(JournalDamaged, match="every user of this host can write to it"):
        store.peek(ID)
    path.chmod(0o644)
    store.peek(ID)
    path.with_suffix(".parts.jsonl").chmod(0o606)
    with pytest.raises(JournalDamaged, match="every user of this host can write to it"):
        store.peek(ID)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_journals_are_ours_or_roots(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(store)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    store.peek(ID)
    for user in (1, 12346):
        os.chown(path, user, 0)
        with pytest.raises(JournalDamaged, match="it belongs to another user"):
            store.peek(ID)
    os.chown(path, 12345, 0)
    store.peek(ID)


@pytest.mark.parametrize("which", [".json", ".parts.jsonl"])
def test_a_file_too_large_is_not_read(
    which: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(store, *[part(2)] * 30).with_suffix(which)
    other = max(one.stat().st_size for one in store.directory.iterdir() if one != path)
    monkeypatch.setattr(store_module, "MAX_DOCUMENT", max(other, path.stat().st_size))
    store.peek(ID)
    monkeypatch.undo()
    os.truncate(path, (1 << 30) + 1)
    fdopen = os.fdopen

    def watched(fd: int, *arguments: Any, **more: Any) -> Any:
        assert os.fstat(fd).st_size < 1 << 20
        return fdopen(fd, *arguments, **more)

    monkeypatch.setattr(os, "fdopen", watched)
    with pytest.raises(JournalDamaged, match="it is too large for a journal"):
        store.peek(ID)


def test_a_file_of_the_greatest_size_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(store, log=False)
    monkeypatch.setattr(store_module, "MAX_DOCUMENT", path.stat().st_size)
    store.peek(ID)
    monkeypatch.setattr(store_module, "MAX_DOCUMENT", path.stat().st_size - 1)
    with pytest.raises(JournalDamaged, match="too large"):
        store.peek(ID)


# -- clearing away ---------------------------------------------------------------------------


def test_what_is_left_over(store: Store, layer: Counting) -> None:
    written(store)
    kept = [
        "notes.txt", ".beginning.lock", "0dead000.copy.json", "short.lock", *names(store),
    ]  # fmt: skip
    dead = ["0dead001.parts.jsonl", "0dead002.lock", "0dead002.parts.jsonl", "0dead003.json.new"]
    for name in {*kept, *dead} - set(names(store)):
        (store.directory / name).touch()
    assert store.leftovers() == {
        stem: [store.directory / name for name in dead if name.startswith(stem)]
        for stem in ("0dead001", "0dead002", "0dead003")
    }
    assert store.remove_leftovers() == 4
    assert names(store) == sorted(kept)
    assert store.remove_leftovers() == 0
    assert not layer.opened


def test_what_somebody_begins_meanwhile_is_not_left_over(store: Store, layer: Counting) -> None:
    """Its log is there before its document, and somebody holds its lock; or did so just now."""
    (store.directory / f"{ID}.parts.jsonl").touch()
    (store.directory / f"{OTHER}.parts.jsonl").touch()
    held = Lock.acquire(store.directory / f"{ID}.lock", FileLayer())
    assert held is not None
    layer.before_lock = lambda: (store.directory / f"{OTHER}.json").touch()
    assert store.remove_leftovers() == 0
    assert {f"{ID}.parts.jsonl", f"{OTHER}.parts.jsonl"} <= set(names(store))
    held.release()
    assert not layer.opened


def test_a_receipt_is_dropped_with_everything_beside_it(store: Store, layer: Counting) -> None:
    """Not flushed: a loss of power may bring receipts back, and that harms nobody."""
    written(store, state="finished", result=RESULT)
    for name in (f"{ID}.json.new", f"{ID}.parts.jsonl.new", f"{OTHER}.lock"):
        (store.directory / name).touch()
    assert store.drop_receipt(ID) is True
    assert names(store) == [f"{OTHER}.lock"]
    assert not layer.opened and "fsync_directory" not in layer.calls


def test_an_unfinished_journal_is_no_receipt(store: Store, layer: Counting) -> None:
    written(store)
    before = names(store)
    assert store.drop_receipt(ID) is False
    assert names(store) == before and not layer.opened


def test_a_receipt_that_somebody_has_stays(store: Store, layer: Counting) -> None:
    path = written(store, log=False, state="finished", result=RESULT)
    held = Lock.acquire(path.with_suffix(".lock"), FileLayer())
    assert held is not None
    assert store.drop_receipt(ID) is False
    assert names(store) == [f"{ID}.json", f"{ID}.lock"]
    held.release()
    assert not layer.opened


def test_a_receipt_that_somebody_else_dropped_just_now(store: Store, layer: Counting) -> None:
    path = written(store, log=False, state="finished", result=RESULT)
    layer.before_lock = lambda: path.unlink(missing_ok=True)
    assert store.drop_receipt(ID) is False
    assert names(store) == [], "not even our lock file is left"
    assert not layer.opened


def test_a_damaged_receipt_stays(store: Store, layer: Counting) -> None:
    written(store, log=False).write_bytes(b"")
    before = names(store)
    with pytest.raises(JournalDamaged):
        store.drop_receipt(ID)
    assert names(store) == before and not layer.opened


def test_forgetting_is_for_good(store: Store, layer: Counting) -> None:
    written(store, part(1)).write_bytes(b"damaged")
    for name in (f"{ID}.json.new", f"{ID}.parts.jsonl.new"):
        (store.directory / name).touch()
    store.forget(ID)
    assert names(store) == []
    assert layer.calls[-1] == "fsync_directory", "a loss of power does not bring it back"
    assert not layer.opened


def test_a_journal_that_somebody_works_on_is_not_forgotten(store: Store) -> None:
    written(store)
    held = store.open(ID)
    before = names(store)
    with pytest.raises(JournalBusy):
        store.forget(ID)
    assert names(store) == before
    held.close()
