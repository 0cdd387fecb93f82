"""Locks between real processes: nobody works on what another one works on, nobody is stuck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ufile_cli.errors import JournalBusy, UsageError
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.durable import FileLayer, Lock
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store

HOLDER = """
import sys
from pathlib import Path
from ufile_cli.journal.store import Store
record = Store(Path(sys.argv[1])).open(sys.argv[2])
print("open", flush=True)
sys.stdin.readline()
record.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def begun(root: Path) -> str:
    document = JournalDocument(
        journal_id="",
        kind="stream",
        bucket="bucket",
        key="key",
        endpoint="local",
        created_at="2024-01-01T00:00:00Z",
        updated_at="2024-01-01T00:00:00Z",
    )
    record = Store(root).create(document)
    record.begin("upload", 1 << 22)
    record.close()
    return document.journal_id


@contextmanager
def holder(root: Path, journal_id: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), journal_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    journal_id, store = begun(tmp_path), Store(tmp_path)
    with holder(tmp_path, journal_id) as process:
        before = store.peek(journal_id).document
        with pytest.raises(JournalBusy) as caught:
            store.open(journal_id)
        assert caught.value.code == 75
        assert f"process {process.pid} on {os.uname().nodename}" in caught.value.message
        assert f"since {before.updated_at}" in caught.value.message
        view = store.peek(journal_id)
        assert view.held and view.state == "running"
        assert view.document == before, "a look or a refusal writes nothing"
        assert store.remove_leftovers() == 0
        # It lets go, and is still alive.
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        store.open(journal_id).close()


def test_after_a_kill_there_is_nothing_to_clean_up(tmp_path: Path) -> None:
    journal_id, store = begun(tmp_path), Store(tmp_path)
    with holder(tmp_path, journal_id) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        view = store.peek(journal_id)
        assert (view.held, view.state) == (False, "interrupted")
        record = store.open(journal_id)
        assert record.document.pid == os.getpid()
        record.close()


def test_looking_takes_no_lock_away(tmp_path: Path) -> None:
    """Somebody looks without pause while a journal is opened again and again."""
    journal_id, store = begun(tmp_path), Store(tmp_path)
    over, looked = threading.Event(), []
    path = store.directory / f"{journal_id}.lock"

    def look() -> None:
        while not over.is_set():
            looked.append(Lock.is_held(path, FileLayer()))

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(60):
            store.open(journal_id).close()
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    assert True in looked and False in looked
    record = store.open(journal_id)
    assert all(Lock.is_held(path, FileLayer()) for _ in range(20))
    record.close()
    assert not Lock.is_held(path, FileLayer())


def test_of_many_at_once_one_works(tmp_path: Path) -> None:
    journal_id = begun(tmp_path)
    start = threading.Barrier(6)
    results: list[JournalRecord | None] = []

    def work() -> None:
        start.wait()
        try:
            results.append(Store(tmp_path).open(journal_id))
        except JournalBusy:
            results.append(None)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    records = [record for record in results if record is not None]
    assert len(records) == 1
    records[0].close()


def test_a_lock_on_a_file_that_was_replaced_meanwhile(tmp_path: Path) -> None:
    """After locking, the file is still the one that others would lock."""
    path = tmp_path / "x.lock"

    class Raced(FileLayer):
        races = 3

        def try_lock(self, fd: int, *, shared: bool = False) -> bool:
            if self.races:
                self.races -= 1
                path.unlink()
                path.write_bytes(b"")
            return super().try_lock(fd, shared=shared)

    layer = Raced()
    lock = Lock.acquire(path, layer)
    assert lock is not None and layer.races == 0
    assert lock.still_ours()
    assert Lock.acquire(path, FileLayer(), patience=0) is None
    path.unlink()
    assert not lock.still_ours()
    lock.release()
    lock.release()
    assert not lock.still_ours()


def test_patience_is_on_the_given_clock(tmp_path: Path) -> None:
    path, times = tmp_path / "x.lock", iter(range(100))
    slept: list[float] = []
    held = Lock.acquire(path, FileLayer())
    assert held is not None
    clock = lambda: float(next(times))  # noqa: E731
    assert Lock.acquire(path, FileLayer(), patience=5, clock=clock, sleep=slept.append) is None
    assert len(slept) == 4
    held.release()


def test_a_fifo_in_the_place_of_a_lock_hangs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    os.mkfifo(path)
    Lock.is_held(path, FileLayer())


def test_beginnings_wait_for_each_other(tmp_path: Path) -> None:
    store, order = Store(tmp_path), []

    def second() -> None:
        with Store(tmp_path).beginning():
            order.append("second")

    worker = threading.Thread(target=second)
    with store.beginning():
        worker.start()
        order.append("first")
    worker.join()
    assert order == ["first", "second"]


def test_leftovers_are_removed_but_not_what_is_being_begun(tmp_path: Path) -> None:
    journal_id, store = begun(tmp_path), Store(tmp_path)
    directory = store.directory
    for name in ("0dead000.lock", "0dead000.parts.jsonl", "0dead000.json.new", "0a11ve00.lock"):
        (directory / name).touch()
    (directory / "notes.txt").touch()
    kept = Lock.acquire(directory / "0a11ve00.lock", FileLayer())
    assert kept is not None
    assert store.remove_leftovers() == 3
    assert {path.name.split(".")[0] for path in directory.iterdir()} == {
        journal_id, "0a11ve00", "notes", "",
    } - {""}  # fmt: skip
    kept.release()
    store.open(journal_id).drop()
    with pytest.raises(UsageError, match="no journal"):
        store.open(journal_id)
    assert not [path for path in directory.iterdir() if path.name.startswith(journal_id)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker process of an application that uploads must not outlive it as the lock's holder."""
    journal_id = begun(tmp_path)
    script = """
import os, sys
from pathlib import Path
from ufile_cli.journal.store import Store
record = Store(Path(sys.argv[1])).open(sys.argv[2])
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
print("forked", flush=True)
sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), journal_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "forked\n"
        assert Store(tmp_path).peek(journal_id).held
        process.kill()
        process.wait()
        Store(tmp_path).open(journal_id).close()  # while the child lives on
    finally:
        process.kill()
        process.stdin.close()  # the child ends
        process.wait()
        process.stdout.close()
