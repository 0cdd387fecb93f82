"""The emulator's store: parts in their places, several processes, kills at any moment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ufile_cli.emulator.content import PartTable, StoredPart, Upload
from ufile_cli.emulator.objects import IncomingPart, NoSuchUpload, ObjectStore, StoredObject
from ufile_cli.emulator.protocol import ETAG_BLOCK, ContentHash, Refusal

BUCKET = "demo"


def upload_of(key: str, block_size: int = 10) -> Upload:
    return Upload("", key, block_size, "text/plain", "STANDARD", {}, time.time())


def object_of(key: str) -> StoredObject:
    return StoredObject(key, 0, "", "text/plain", "STANDARD", {"a": "b"}, 1.0, 2.0, "")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path)


def put(store: ObjectStore, key: str, content: bytes) -> StoredObject:
    incoming, hashed = store.begin_object(BUCKET), ContentHash()
    incoming.write(memoryview(content))
    hashed.update(memoryview(content))
    return store.publish(
        BUCKET, incoming, object_of(key), size=len(content), etag=hashed.object_etag()
    )


def start_part(store: ObjectStore, upload: Upload, number: int, content: bytes) -> IncomingPart:
    incoming = store.begin_part(BUCKET, upload, number, len(content))
    incoming.write(memoryview(content))
    return incoming


def send(store: ObjectStore, upload: Upload, number: int, content: bytes) -> str:
    incoming, hashed = start_part(store, upload, number, content), ContentHash()
    hashed.update(memoryview(content))
    incoming.commit(hashed.part_etag(), hashed)
    return hashed.part_etag()


def read(store: ObjectStore, key: str, start: int = 0, stop: int | None = None) -> bytes:
    found, content = store.open(BUCKET, key)
    try:
        pieces = content.pieces(start, found.size if stop is None else stop)
        return b"".join(os.pread(one.fd, one.length, one.offset) for one in pieces)
    finally:
        content.close()


def finish(store: ObjectStore, upload: Upload, *etags: str) -> StoredObject:
    return store.finish(BUCKET, upload, (one.encode() for one in etags), object_of(upload.key))


def all_parts(store: ObjectStore, upload: Upload) -> list[StoredPart]:
    return store.parts(BUCKET, upload, -1, 10_000)


def test_objects_come_and_go(store: ObjectStore, tmp_path: Path) -> None:
    for key in ("../../etc/passwd", "/", "a" * 900, "\0", "中", ".."):
        put(store, key, key.encode())
        assert read(store, key) == key.encode()
        assert store.find(BUCKET, key).metadata == {"a": "b"}
    assert len(store.objects(BUCKET, "")) == 6
    assert all(path.is_relative_to(tmp_path / BUCKET) for path in tmp_path.rglob("*.json"))
    store.delete(BUCKET, "..")
    with pytest.raises(Refusal):
        store.find(BUCKET, "..")
    with pytest.raises(Refusal):
        store.delete(BUCKET, "..")


def test_an_object_replaced_leaves_nothing_and_stays_readable(
    store: ObjectStore, tmp_path: Path
) -> None:
    put(store, "key", b"old")
    _, content = store.open(BUCKET, "key")
    put(store, "key", b"new")
    (piece,) = content.pieces(0, 3)
    assert os.pread(piece.fd, 3, 0) == b"old"
    content.close()
    assert read(store, "key") == b"new"
    assert len(list((tmp_path / BUCKET / "content").iterdir())) == 1


def test_parts_in_any_order_make_the_object(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    last = send(store, upload, 2, b"333")
    first = send(store, upload, 0, b"1" * 10)
    middle = send(store, upload, 1, b"2" * 10)
    assert [part.number for part in all_parts(store, upload)] == [0, 1, 2]
    done = finish(store, upload, first, middle, last)
    assert (done.size, done.key) == (23, "key")
    content = b"1" * 10 + b"2" * 10 + b"333"
    hashed = ContentHash()
    hashed.update(memoryview(content))
    assert done.etag == hashed.object_etag()
    assert read(store, "key") == content
    with pytest.raises(NoSuchUpload):
        store.upload(BUCKET, upload.upload_id)
    with pytest.raises(NoSuchUpload):
        all_parts(store, upload)
    assert store.uploads(BUCKET, "") == []


def test_a_part_sent_again_replaces_the_old_one(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    etags = [send(store, upload, number, bytes([65 + number]) * 10) for number in range(4)]
    etags[1] = send(store, upload, 1, b"x" * 10)
    etags[2] = send(store, upload, 2, b"y" * 10)
    etags[1] = send(store, upload, 1, b"z" * 10)
    finish(store, upload, *etags)
    whole = b"A" * 10 + b"z" * 10 + b"y" * 10 + b"D" * 10
    assert read(store, "key") == whole
    for start in range(40):
        for stop in (start + 1, start + 7, 40):
            assert read(store, "key", start, min(stop, 40)) == whole[start:stop]


def test_a_broken_transfer_leaves_the_old_part(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    etag = send(store, upload, 0, b"good" * 2)
    start_part(store, upload, 0, b"bad" * 3).abandon()
    left_by_a_kill = start_part(store, upload, 0, b"bad")
    assert [part.etag for part in all_parts(store, upload)] == [etag]
    finish(store, upload, etag)
    assert read(store, "key") == b"good" * 2
    left_by_a_kill.abandon()


def test_a_place_given_back_is_used_again(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    start_part(store, upload, 0, b"x").abandon()
    send(store, upload, 0, b"abc")
    assert all_parts(store, upload)[0].in_slot


def test_the_place_given_back_late_does_not_harm_a_part(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    slow = start_part(store, upload, 0, b"slow")
    etag = send(store, upload, 0, b"fast")
    slow.abandon()
    again = start_part(store, upload, 0, b"again")
    assert [part.etag for part in all_parts(store, upload)] == [etag]
    again.abandon()
    finish(store, upload, etag)
    assert read(store, "key") == b"fast"


@pytest.mark.parametrize("block_size", [ETAG_BLOCK, 2 * ETAG_BLOCK, 3_000_000])
def test_the_etag_of_the_object_is_that_of_its_content(store: ObjectStore, block_size: int) -> None:
    content = os.urandom(2 * block_size + 12345)
    upload = store.initiate(BUCKET, upload_of("key", block_size))
    pieces = [content[at : at + block_size] for at in range(0, len(content), block_size)]
    etags = [send(store, upload, number, piece) for number, piece in enumerate(pieces)]
    etags[1] = send(store, upload, 1, pieces[1])
    hashed = ContentHash()
    hashed.update(memoryview(content))
    assert finish(store, upload, *etags).etag == hashed.object_etag()


def test_what_finish_refuses(store: ObjectStore) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    with pytest.raises(Refusal, match="no parts"):
        finish(store, upload)
    with pytest.raises(Refusal, match="part 0 is not there"):
        finish(store, upload, "x")
    first, second = send(store, upload, 0, b"1" * 10), send(store, upload, 1, b"2" * 10)
    with pytest.raises(Refusal, match="part 1 is stored but not in the list"):
        finish(store, upload, first)
    with pytest.raises(Refusal, match="etag of part 0"):
        finish(store, upload, second, first)
    with pytest.raises(Refusal, match="part 2 is not there"):
        finish(store, upload, first, second, first)
    short = send(store, upload, 0, b"short")
    with pytest.raises(Refusal, match="part 0 is not 10 bytes long"):
        finish(store, upload, short, second)
    long = send(store, upload, 1, b"2" * 11)
    first = send(store, upload, 0, b"1" * 10)
    with pytest.raises(Refusal, match="part 1 exceeds 10 bytes"):
        finish(store, upload, first, long)
    second = send(store, upload, 1, b"2")
    assert finish(store, upload, first, second).size == 11


def test_abort_ends_an_upload(store: ObjectStore, tmp_path: Path) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    send(store, upload, 0, b"abc")
    under_way = start_part(store, upload, 1, b"abc")
    store.abort(BUCKET, upload.upload_id)
    with pytest.raises(NoSuchUpload):
        under_way.commit("etag", ContentHash())
    under_way.abandon()
    with pytest.raises(NoSuchUpload):
        store.begin_part(BUCKET, upload, 2, 3)
    with pytest.raises(NoSuchUpload):
        store.abort(BUCKET, upload.upload_id)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("upload_id", ["", "..", "../../x", "0" * 36, "/etc", "a\0b"])
def test_unknown_upload_ids(store: ObjectStore, upload_id: str) -> None:
    with pytest.raises(NoSuchUpload):
        store.upload(BUCKET, upload_id)
    with pytest.raises(NoSuchUpload):
        store.abort(BUCKET, upload_id)


def test_a_record_of_the_table_lies_within_one_page() -> None:
    for blocks in (1, 2, 8, 64, 128):
        table = PartTable(blocks * ETAG_BLOCK)
        assert 4096 % table.record == 0
        part = StoredPart(7, 5, "x" * 40, 1.5, True, 9, bytes(20))
        assert table.unpack(7, table.pack(True, part)) == part


def test_a_finish_killed_before_it_counted_has_not_happened(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    etag = send(store, upload, 0, b"abc")
    with monkeypatch.context() as killed:
        killed.setattr(ObjectStore, "_point", _stop)
        with pytest.raises(InterruptedError):
            finish(store, upload, etag)
    etag = send(store, upload, 0, b"another")
    assert finish(store, upload, etag).size == 7
    assert read(store, "key") == b"another"


def test_a_finish_killed_right_after_it_counted_has_happened(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    etag = send(store, upload, 0, b"abc")
    with monkeypatch.context() as killed:
        killed.setattr(ObjectStore, "_content", _stop)
        with pytest.raises(InterruptedError):
            finish(store, upload, etag)
    assert read(store, "key") == b"abc"
    with pytest.raises(NoSuchUpload):
        store.abort(BUCKET, upload.upload_id)
    with pytest.raises(NoSuchUpload):
        finish(store, upload, etag)
    assert read(store, "key") == b"abc"


def _stop(*_: object) -> Path:
    raise InterruptedError


SENDER = """
import sys
from pathlib import Path
from ufile_cli.emulator.objects import ObjectStore
from ufile_cli.emulator.protocol import ContentHash
store = ObjectStore(Path(sys.argv[1]))
upload = store.upload("demo", sys.argv[2])
for number in range(*map(int, sys.argv[3:])):
    content = memoryview(number.to_bytes(10, "little"))
    for again in range(2):
        incoming, hashed = store.begin_part("demo", upload, number, 10), ContentHash()
        incoming.write(content)
        hashed.update(content)
        incoming.commit(hashed.part_etag(), hashed)
    print(number, flush=True)
"""


def sender(directory: Path, upload: Upload, *numbers: int) -> subprocess.Popen[str]:
    """Another process that sends each part of a range twice, and says which it has sent."""
    arguments = [str(directory), upload.upload_id, *map(str, numbers)]
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_processes_share_a_directory(store: ObjectStore, tmp_path: Path) -> None:
    upload = store.initiate(BUCKET, upload_of("key"))
    senders = [sender(tmp_path, upload, *numbers) for numbers in ((0, 90, 2), (1, 90, 2), (0, 90))]
    for one in senders:
        one.communicate(timeout=30)
        assert one.returncode == 0
    parts = all_parts(store, upload)
    assert [part.number for part in parts] == list(range(90))
    finish(store, upload, *(part.etag for part in parts))
    assert read(store, "key") == b"".join(number.to_bytes(10, "little") for number in range(90))


@pytest.fixture
def killed_sender(store: ObjectStore, tmp_path: Path) -> Iterator[tuple[Upload, int]]:
    """An upload whose server was killed, and the last part that it acknowledged."""
    upload = store.initiate(BUCKET, upload_of("key"))
    with sender(tmp_path, upload, 0, 10**6) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 50:
                process.kill()
                break
        last = max([50, *(int(line) for line in process.stdout if line.endswith("\n"))])
    yield upload, last


def test_what_was_acknowledged_survives_a_kill(
    store: ObjectStore, killed_sender: tuple[Upload, int]
) -> None:
    upload, last = killed_sender
    parts = all_parts(store, upload)
    assert [part.number for part in parts[: last + 1]] == list(range(last + 1))
    etags = [part.etag for part in parts]
    etags[last] = send(store, upload, last, last.to_bytes(10, "little"))
    finish(store, upload, *etags)
    content = b"".join(number.to_bytes(10, "little") for number in range(len(parts)))
    assert read(store, "key") == content


def test_old_leavings_are_swept_and_young_ones_are_not(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    old, young = store.begin_object(BUCKET), store.begin_object(BUCKET)
    for path in (old.directory, old.directory / "data", young.directory):
        os.utime(path, (0, 0))
    ObjectStore(tmp_path)
    assert not old.directory.exists()
    assert young.directory.exists()
    old.close()
    young.abandon()


def test_two_writers_of_one_key_leave_one_object(store: ObjectStore, tmp_path: Path) -> None:
    def write(mark: int) -> None:
        for _ in range(20):
            put(store, "key", bytes([mark]) * 100)

    threads = [threading.Thread(target=write, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(Refusal):
            assert len(set(read(store, "key"))) == 1
    assert len(list((tmp_path / BUCKET / "content").iterdir())) == 1


def test_bytes_can_be_discarded(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path, discard=True)
    upload = store.initiate(BUCKET, upload_of("key", ETAG_BLOCK))
    etag = send(store, upload, 0, b"abc")
    assert finish(store, upload, etag).size == 3
    assert (tmp_path / BUCKET / "content" / upload.upload_id / "data").stat().st_size == 0
