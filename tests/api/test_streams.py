"""Streams: read once, never lost, whatever fails and how often."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, read_object, stored_parts

from ufile_cli import MultipartUploadUFile, SourceError
from ufile_cli.emulator.server import Emulator
from ufile_cli.etag import BlockHasher
from ufile_cli.journal.store import Store
from ufile_cli.progress.events import Finishing, PartFailed, PartSent

Maker = Callable[..., MultipartUploadUFile]
PARTS = 7
CONTENT = random.Random(7).randbytes(6 * MIB + 4321)


@pytest.fixture
def block_size() -> int:
    """A few MiB are several parts."""
    return MIB


class Pipe:
    """What a socket or a pipe is like: no seek, no tell, no length, and short reads."""

    def __init__(self, content: bytes, seed: int = 1) -> None:
        self._content = io.BytesIO(content)
        self._random = random.Random(seed)
        self.given = 0

    def read(self, size: int) -> bytes:
        some = self._content.read(self._random.randint(1, min(size, 300_000)))
        self.given += len(some)
        return some


def same(emulator: Emulator, content: bytes = CONTENT, key: str = "key") -> bool:
    got = hashlib.sha1(b"".join(read_object(emulator, "demo", key))).digest()
    return got == hashlib.sha1(content).digest()


def etag_of(content: bytes) -> str:
    hasher = BlockHasher()
    hasher.update(content)
    return hasher.etag()


def go_on(handler: MultipartUploadUFile, resp: Any, at_most: int) -> int:
    """Go on until it is done; how often that took."""
    for times in range(at_most + 1):
        if resp.ok():
            return times
        assert resp.status_code in (-1, 500), resp
        blanks = [number for number, etag in enumerate(handler.etaglist) if not etag]
        expected = min(blanks, default=len(handler.etaglist))
        assert handler.pausepartnumber == expected
        _, resp = handler.resumeuploadstream(retrycount=1, retryinterval=0)
    raise AssertionError(f"still failing after {at_most} resumes: {resp}")


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": "body"}, {"reset": "stored"}])
@pytest.mark.parametrize("part", range(PARTS))
def test_a_failure_at_every_part(
    emulator: Emulator, make: Maker, part: int, fault: dict[str, Any]
) -> None:
    emulator.faults.add(call="part", part=part, first=1, **fault)
    handler, pipe = make(), Pipe(CONTENT, part)
    ret, resp = handler.uploadstream("demo", "key", pipe, 3, 1, 0)
    assert ret is not None and not resp.ok()
    assert handler.uploadid
    assert handler.blocksize == MIB
    assert handler.pausepartnumber <= part
    assert part >= len(handler.etaglist) or handler.etaglist[part] == ""
    assert go_on(handler, resp, 1) == 1
    assert same(emulator)
    assert pipe.given == len(CONTENT)
    assert emulator.count("initiate") == 1
    # What was stored although its acknowledgement was lost is adopted, not sent again.
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)
    assert len(handler.etaglist) == handler.pausepartnumber == PARTS


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_part_fails_twice(emulator: Emulator, make: Maker, threads: int) -> None:
    emulator.faults.add(call="part", per_part=True, first=2, status=500)
    handler, pipe = make(), Pipe(CONTENT)
    _, resp = handler.uploadstream("demo", "key", pipe, threads, 1, 0)
    go_on(handler, resp, 2 * PARTS)
    assert same(emulator)
    assert pipe.given == len(CONTENT)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


@pytest.mark.parametrize("seed", range(6))
def test_failures_here_and_there(emulator: Emulator, make: Maker, seed: int) -> None:
    rng = random.Random(seed)
    for call in ("initiate", "part", "part", "finish", "list_parts"):
        what: dict[str, Any] = rng.choice([{"status": 500}, {"reset": "head"}, {"reset": "body"}])
        emulator.faults.add(call=call, nth=sorted({rng.randint(1, 9) for _ in range(4)}), **what)
    handler, pipe = make(), Pipe(CONTENT, seed)
    _, resp = handler.uploadstream("demo", "key", pipe, rng.choice([1, 3, 5]), 1, 0)
    go_on(handler, resp, 25)
    assert same(emulator)
    assert pipe.given == len(CONTENT)
    assert resp.etag in (None, etag_of(CONTENT))


def test_the_end_was_seen_and_finish_fails(emulator: Emulator, make: Maker) -> None:
    emulator.faults.add(call="finish", first=2, status=500)
    handler, pipe = make(), Pipe(CONTENT)
    _, resp = handler.uploadstream("demo", "key", pipe, 2, 1, 0)
    assert len(handler.etaglist) == handler.pausepartnumber == PARTS
    assert go_on(handler, resp, 2) == 2
    assert emulator.count("part") == PARTS
    assert same(emulator)


def test_an_acknowledgement_of_finish_that_is_lost(emulator: Emulator, make: Maker) -> None:
    emulator.faults.add(call="finish", first=1, reset="stored")
    emulator.faults.add(call="head", first=1, reset="head")
    handler = make()
    _, resp = handler.uploadstream("demo", "key", Pipe(CONTENT), 2, 1, 0)
    assert resp.status_code == -1
    assert go_on(handler, resp, 1) == 1
    assert same(emulator)
    assert emulator.count("initiate") == 1


def test_resuming_goes_in_parallel(emulator: Emulator, make: Maker) -> None:
    emulator.faults.add(call="part", part=0, first=1, status=500)
    content = CONTENT + CONTENT
    handler = make()
    assert not handler.uploadstream("demo", "key", Pipe(content), 3, 1, 0)[1].ok()
    emulator.faults.add(call="part", first=3, hang="body")
    result: list[Any] = []
    worker = threading.Thread(target=lambda: result.append(handler.resumeuploadstream(1, 0)))
    worker.start()
    emulator.wait_for("part", 3, stage="hanging")
    emulator.faults.clear()
    worker.join(30)
    assert result[0][1].status_code == 200
    assert same(emulator, content)


def test_a_worker_that_comes_home_late_spoils_nothing(emulator: Emulator, make: Maker) -> None:
    # Part 1 is on its way still when the upload has been given up, most of it not sent yet.
    emulator.faults.add(call="part", part=1, first=1, hang="body", after_bytes=100_000)
    emulator.faults.add(call="part", part=2, first=1, status=400)

    def late(event: object) -> None:
        """Between the last part and Finish the late one comes home."""
        if isinstance(event, Finishing):
            arrived = emulator.count("part")
            emulator.faults.release()
            emulator.wait_for("part", arrived + 1)

    content = CONTENT + CONTENT  # buffers are filled anew many times
    handler, pipe = make(progress=late), Pipe(content)
    _, resp = handler.uploadstream("demo", "key", pipe, 3, 1, 0)
    assert resp.status_code == 400
    assert not resp.need_retry()
    assert emulator.count("part", "hanging") == 1
    assert handler.resumeuploadstream(1, 0)[1].status_code == 200
    assert same(emulator, content)
    etags = [one.etag for one in emulator.requests if one.part_number == 1]
    assert len(etags) == 2
    assert etags[0] == etags[1]


def test_a_part_that_the_server_lost_after_it_passed(emulator: Emulator, make: Maker) -> None:
    for stream in (Pipe(CONTENT), io.BytesIO(CONTENT)):
        emulator.faults.clear()
        emulator.faults.add(call="part", part=0, first=1, forget="part")
        emulator.faults.add(call="part", part=6, first=1, status=500)
        handler = make()
        _, resp = handler.uploadstream("demo", "key", stream, 1, 1, 0)
        assert resp.status_code == 500
        if isinstance(stream, Pipe):
            with pytest.raises(SourceError, match="part 0 is not up"):
                handler.resumeuploadstream(1, 0)
            with pytest.raises(SourceError, match="part 0 is not up"):
                handler.resumeuploadstream(1, 0)  # and never a wrong object
        else:  # what can be read again is
            assert handler.resumeuploadstream(1, 0)[1].status_code == 200
            assert same(emulator)


def test_a_dead_upload_id(emulator: Emulator, make: Maker) -> None:
    for stream in (Pipe(CONTENT), io.BytesIO(CONTENT)):
        emulator.faults.clear()
        emulator.faults.add(call="part", part=3, first=1, status=500)
        handler = make()
        _, resp = handler.uploadstream("demo", "key", stream, 1, 1, 0)
        assert resp.status_code == 500
        emulator.store.abort("demo", handler.uploadid or "")
        if isinstance(stream, Pipe):
            ret, resp = handler.resumeuploadstream(1, 0)
            assert resp.status_code == 404
            assert resp.error and "can't be read again" in resp.error
            assert ret and ret["RetCode"] == resp.ret_code
            with pytest.raises(SourceError):
                handler.resumeuploadstream(1, 0)
        else:
            assert handler.resumeuploadstream(1, 0)[1].status_code == 200
            assert same(emulator)


class Breaking(io.RawIOBase):
    """Fails in the middle, and then says that it is over, as many streams do."""

    def __init__(self, good: int, error: Exception) -> None:
        self._left = good
        self._error: Exception | None = error

    def read(self, size: int = -1) -> bytes:
        if self._left:
            given = min(size, self._left)
            self._left -= given
            return bytes(given)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return b""


@pytest.mark.parametrize("good", [MIB, 6 * MIB])
def test_a_stream_that_fails_is_never_taken_for_a_shorter_one(
    emulator: Emulator, make: Maker, good: int
) -> None:
    handler = make()
    with pytest.raises(KeyError):
        handler.uploadstream("demo", "key", Breaking(good, KeyError("own")), 2, 1, 0)
    with pytest.raises((KeyError, SourceError)):
        handler.resumeuploadstream(1, 0)
    handler = make()
    with pytest.raises(SourceError, match="can't be read"):
        handler.uploadstream("demo", "key", Breaking(good, OSError("disk")), 2, 1, 0)
    with pytest.raises(SourceError):
        handler.resumeuploadstream(1, 0)
    assert emulator.count("finish") == emulator.count("put") == 0


class Strange:
    """A stream that gives what no stream may give."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def read(self, size: int) -> Any:
        return self._thing


@pytest.mark.parametrize("thing", [None, "text", "", bytes(64 * MIB)])
def test_what_is_no_stream_of_bytes(emulator: Emulator, make: Maker, thing: Any) -> None:
    with pytest.raises(SourceError):
        make().uploadstream("demo", "key", Strange(thing))
    assert emulator.requests == []


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1, 5 * MIB, 5 * MIB - 1])
@pytest.mark.parametrize("seekable", [True, False])
def test_sizes(emulator: Emulator, make: Maker, size: int, seekable: bool) -> None:
    content = CONTENT[:size]
    stream: Any = io.BytesIO(content) if seekable else Pipe(content)
    ret, resp = make().uploadstream("demo", "key", stream, retryinterval=0)
    assert (ret, resp.status_code, resp.error) == (None, 200, None)
    assert same(emulator, content)
    assert emulator.count("part") == (-(-size // MIB) if size > 4 * MIB else 0)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_a_stream(emulator: Emulator, make: Maker, kind: Any) -> None:
    assert make().uploadstream("demo", "key", kind(CONTENT))[1].ok()
    assert same(emulator)


def test_a_seekable_stream_begins_where_it_stands(emulator: Emulator, make: Maker) -> None:
    stream = io.BytesIO(CONTENT)
    stream.seek(100)
    assert make().uploadstream("demo", "key", stream)[1].ok()
    assert same(emulator, CONTENT[100:])


@pytest.mark.parametrize("size", [0, 10])
def test_a_small_stream_goes_on_as_well(emulator: Emulator, make: Maker, size: int) -> None:
    emulator.faults.add(call="put", first=2, reset="head")
    handler, pipe = make(), Pipe(CONTENT[:size])
    ret, resp = handler.uploadstream("demo", "key", pipe, retrycount=1)
    assert (ret, resp.status_code) == ({}, -1)
    assert (handler.uploadid, handler.etaglist, handler.pausepartnumber) == (None, [], 0)
    assert go_on(handler, resp, 2) == 2
    assert same(emulator, CONTENT[:size])


def test_type_and_headers(emulator: Emulator, make: Maker) -> None:
    handler = make()
    given = {"User-Agent": "Google Chrome", "X-Ufile-Meta-a": "b"}
    kept = dict(given)
    emulator.faults.add(call="part", part=2, first=1, status=500)
    handler.uploadstream("demo", "a.mp4", Pipe(CONTENT), 2, 1, 0, header=given)
    assert handler.resumeuploadstream(1, 0)[1].ok()
    assert given == kept  # the SDK writes its own headers into the caller's dict
    seen = [one for one in emulator.requests if one.call in ("initiate", "part", "finish")]
    assert {one.content_type for one in seen} == {"video/mp4"}
    handler.uploadstream("demo", "a.mp4", Pipe(CONTENT), mime_type="a/b")
    assert emulator.requests[-1].content_type == "a/b"


class Unwilling(io.BytesIO):
    """Says that it can seek, and can't."""

    def seek(self, *_: Any) -> int:
        raise OSError("no")


@pytest.mark.parametrize("kind", [Pipe, Unwilling, io.BytesIO])
def test_an_id_that_dies_before_anything_was_acknowledged(
    emulator: Emulator, make: Maker, kind: Callable[[bytes], Any]
) -> None:
    """All that was read is still held: it goes up under the next upload id at once."""
    emulator.faults.add(call="part", first=1, forget="upload")
    handler = make()
    assert handler.uploadstream("demo", "key", kind(CONTENT), 1, 1, 0)[1].ok()
    assert same(emulator)
    assert emulator.count("initiate") == 2


@pytest.mark.parametrize("kind", [Pipe, io.BytesIO])
def test_an_id_that_dies_when_a_later_part_was_up_and_the_first_is_still_held(
    emulator: Emulator, make: Maker, kind: Callable[[bytes], Any]
) -> None:
    """The first part being there again says nothing about those behind it."""

    def let_go(event: object) -> None:
        if isinstance(event, PartSent) and event.number == 1:
            emulator.faults.release()

    emulator.faults.add(call="part", part=0, first=1, hang="head", status=500)
    handler = make(progress=let_go)
    _, resp = handler.uploadstream("demo", "key", kind(CONTENT), 2, 1, 0)
    assert resp.status_code == 500
    assert handler.pausepartnumber == 0 and handler.etaglist[1]
    emulator.store.abort("demo", handler.uploadid or "")
    _, resp = handler.resumeuploadstream(1, 0)
    if kind is Pipe:
        assert resp.status_code == 404
        for _ in range(2):
            with pytest.raises(SourceError):
                handler.resumeuploadstream(1, 0)
        assert emulator.count("finish") == 0
    else:
        assert resp.ok()
        assert same(emulator)


@pytest.mark.parametrize("kind", [Unwilling, io.BytesIO])
def test_an_id_that_dies_later_and_a_stream_that_will_not_seek(
    emulator: Emulator, make: Maker, kind: Callable[[bytes], Any]
) -> None:
    emulator.faults.add(call="part", part=3, first=1, forget="upload")
    handler = make()
    _, resp = handler.uploadstream("demo", "key", kind(CONTENT), 2, 1, 0)
    if kind is io.BytesIO:
        assert resp.ok() and emulator.count("initiate") == 2
        assert same(emulator)
        return
    assert resp.status_code == 404
    for _ in range(2):  # and never hangs
        try:
            assert not handler.resumeuploadstream(1, 0)[1].ok()
        except SourceError:
            pass
    assert emulator.count("finish") == 0


@pytest.mark.parametrize("kind", [Pipe, io.BytesIO])
def test_the_next_upload_id_comes_with_another_block_size(
    emulator: Emulator, make: Maker, kind: Callable[[bytes], Any]
) -> None:
    def grow(event: object) -> None:
        if isinstance(event, PartFailed):
            emulator.block_size = 2 * MIB

    emulator.faults.add(call="part", first=1, forget="upload")
    handler = make(progress=grow)
    _, resp = handler.uploadstream("demo", "key", kind(CONTENT), 2, 1, 0)
    if kind is Pipe:  # what was read was cut for parts of another size, and can't be read again
        assert not resp.ok()
        with pytest.raises(SourceError, match="can't be read again"):
            handler.resumeuploadstream(1, 0)
        assert emulator.count("finish") == 0
    else:
        assert resp.ok() and handler.blocksize == 2 * MIB
        assert same(emulator)


def test_adopted_parts_of_two_blocks_whose_etags_look_like_one_digest(
    emulator: Emulator, make: Maker, tmp_path: Path
) -> None:
    """What such an ETag stands for nobody knows, and it must not be taken for a SHA-1."""
    emulator.block_size = 8 * MIB
    emulator.faults.add(call="part", etag="content")
    busy = emulator.faults.add(call="part", part="2-", status=503)
    content = random.Random(1).randbytes(20 * MIB)
    begun = make()
    assert begun.uploadstream("demo", "key", Pipe(content), 1, 1, 0)[1].status_code == 503
    assert [len(etag) for etag in begun.etaglist] == [28, 28]
    known = ("demo", "key", begun.uploadid, 8 * MIB, begun.etaglist)
    handler = make(journal=tmp_path)
    rest = Pipe(content[16 * MIB :])
    assert not handler.resumeuploadstream(1, 0, *known, rest, 2)[1].ok()
    emulator.faults.remove(busy)
    store = Store(tmp_path)
    record = store.open(handler.journal_id or "")
    try:
        assert record.parts is not None and record.parts.digests(0) is None
        assert list(record.parts.etags()) == begun.etaglist
    finally:
        record.close()
