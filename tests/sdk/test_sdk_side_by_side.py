"""The faults of UCloud's own SDK (3.2.11), shown: it fails or stores a wrong object, ours does not.

Each test does the same thing with both, against the same server. What the comparison in the
documents says rests on these.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, PUBLIC, SECRET, make_file, read_object, stored_parts
from ufile import config
from ufile import multipartuploadufile as theirs

from ufile_cli import SourceChanged
from ufile_cli import multipartuploadufile as ours
from ufile_cli.emulator.server import Emulator

DOMAIN = ".us3.test"
PARTS = 6
SIZE = 5 * MIB + 99
FAILURES = (OSError, ValueError, AttributeError, TypeError)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below DOMAIN are this machine; all others are none at all, and no proxy is asked."""
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "127.0.0.1" or (isinstance(host, str) and host.endswith(DOMAIN)):
            return real("127.0.0.1", *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "us3", keys=(PUBLIC, SECRET), block_size=MIB) as running:
        yield running
    assert running.errors == []


@pytest.fixture
def suffix(emulator: Emulator) -> str:
    return f"{DOMAIN}:{emulator.port}"


@pytest.fixture
def sdk(suffix: str) -> Any:
    return theirs.MultipartUploadUFile(PUBLIC, SECRET, suffix)


@pytest.fixture
def own(suffix: str) -> ours.MultipartUploadUFile:
    return ours.MultipartUploadUFile(PUBLIC, SECRET, suffix)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "film.mp4", SIZE)


@pytest.fixture
def default_suffix(suffix: str) -> Iterator[None]:
    """The way round the SDK's forgotten suffix, so that its other faults can be seen."""
    before = config.get_default("uploadsuffix")
    config.set_default(uploadsuffix=suffix)
    yield
    config.set_default(uploadsuffix=before)


def stored(emulator: Emulator, key: str) -> bytes | None:
    """The object's content, None where there is none."""
    try:
        return b"".join(read_object(emulator, "demo", key))
    except AssertionError:
        return None


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def fail_in_the_middle(emulator: Emulator, key: str) -> None:
    """Part 2 fails once, behind it parts go up: completion out of order."""
    emulator.faults.clear()
    emulator.faults.add(call="part", key=key, part=2, first=1, status=500)


@pytest.mark.usefixtures("default_suffix")
def test_a_file_after_out_of_order_completion(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    fail_in_the_middle(emulator, "sdk")
    _, resp = sdk.uploadfile("demo", "sdk", str(source), maxthread=4, retrycount=1)
    assert resp.status_code == 500
    assert sdk.pausepartnumber == 2
    _, resp = sdk.resumeuploadfile(retrycount=1)
    # Its list: the blank of part 2, what was up behind it, and then all those sent again.
    assert sdk.etaglist[2] == ""
    assert len(sdk.etaglist) > PARTS
    assert not resp.ok()
    assert stored(emulator, "sdk") is None

    fail_in_the_middle(emulator, "own")
    _, mine = own.uploadfile("demo", "own", str(source), maxthread=4, retrycount=1)
    assert mine.status_code == 500
    assert own.resumeuploadfile(retrycount=1)[1].status_code == 200
    assert stored(emulator, "own") == source.read_bytes()


@pytest.mark.usefixtures("default_suffix")
def test_a_stream_after_out_of_order_completion(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    content = source.read_bytes()
    fail_in_the_middle(emulator, "sdk")
    _, resp = sdk.uploadstream("demo", "sdk", io.BytesIO(content), maxthread=4, retrycount=1)
    assert resp.status_code == 500
    _, resp = sdk.resumeuploadstream(retrycount=1)
    # It goes on reading where the stream stands, behind the bytes of part 2, and appends.
    assert not resp.ok()
    assert stored(emulator, "sdk") is None

    fail_in_the_middle(emulator, "own")
    mine = own.uploadstream("demo", "own", io.BytesIO(content), maxthread=4, retrycount=1)[1]
    assert mine.status_code == 500
    assert own.resumeuploadstream(retrycount=1)[1].status_code == 200
    assert stored(emulator, "own") == content


@pytest.mark.usefixtures("default_suffix")
def test_resuming_in_order_with_a_list_without_its_blank_stores_a_shorter_object(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    """A list cleared of its blanks lets the SDK's Finish through; the part that failed is missing.

    One thread, so that nothing is out of order: only the stream stands behind the failed part.
    """
    content = source.read_bytes()
    fail_in_the_middle(emulator, "sdk")
    sdk.uploadstream("demo", "sdk", io.BytesIO(content), maxthread=1, retrycount=1)
    sdk.etaglist = [etag for etag in sdk.etaglist if etag]
    _, resp = sdk.resumeuploadstream(retrycount=1)
    assert resp.status_code == 200
    wrong = stored(emulator, "sdk")
    assert wrong is not None
    assert len(wrong) < len(content)

    fail_in_the_middle(emulator, "own")
    own.uploadstream("demo", "own", io.BytesIO(content), maxthread=1, retrycount=1)
    assert own.resumeuploadstream(retrycount=1)[1].status_code == 200
    assert stored(emulator, "own") == content


def test_the_suffix_is_forgotten_when_resuming(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    emulator.faults.add(call="part", part=5, first=1, status=500)
    assert sdk.uploadfile("demo", "sdk", str(source), 1, 1)[1].status_code == 500
    before = len(emulator.requests)
    _, resp = sdk.resumeuploadfile(retrycount=1)
    assert resp.status_code == -1  # it asked for a name under its default suffix
    assert len(emulator.requests) == before

    emulator.faults.clear()
    emulator.faults.add(call="part", part=5, first=1, status=500)
    assert own.uploadfile("demo", "own", str(source), 1, 1)[1].status_code == 500
    assert own.resumeuploadfile(retrycount=1)[1].status_code == 200
    assert stored(emulator, "own") == source.read_bytes()


def through_a_pipe(content: bytes) -> Any:
    """A pipe's reading end; a thread writes."""
    import threading

    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            try:
                file.write(content)
            except BrokenPipeError:
                pass

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(reading, "rb")


def test_pipes_cannot_seek(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    content = source.read_bytes()
    with through_a_pipe(content) as pipe, pytest.raises(OSError, match="seek"):
        sdk.uploadstream("demo", "sdk", pipe)
    assert stored(emulator, "sdk") is None

    fail_in_the_middle(emulator, "own")
    with through_a_pipe(content) as pipe:
        assert own.uploadstream("demo", "own", pipe, 4, 1)[1].status_code == 500
        assert own.resumeuploadstream(1)[1].status_code == 200
    assert stored(emulator, "own") == content


class ShortReads(io.RawIOBase):
    """Gives less than it is asked for, as sockets and unbuffered pipes do."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 300_001))


def test_short_reads(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    content = source.read_bytes()
    # With a type, so that it does not seek; each short read becomes a part of its own.
    _, resp = sdk.uploadstream("demo", "sdk", ShortReads(content), mime_type="a/b")
    assert not resp.ok()
    assert stored(emulator, "sdk") is None
    assert own.uploadstream("demo", "own", ShortReads(content))[1].status_code == 200
    assert stored(emulator, "own") == content


@pytest.mark.parametrize("key", ["what?.txt", "a?uploads", "page#1", "50%25", "a%2Fb"])
def test_keys_that_mean_something_in_a_url(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path, key: str
) -> None:
    try:
        sdk.uploadfile("demo", key, str(source), 4, 1)
    except FAILURES:
        pass
    assert stored(emulator, key) is None
    assert own.uploadfile("demo", key, str(source))[1].status_code == 200
    assert stored(emulator, key) == source.read_bytes()


def test_an_empty_file(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    _, resp = sdk.uploadfile("demo", "sdk", str(empty))
    assert not resp.ok()
    assert stored(emulator, "sdk") is None
    assert own.uploadfile("demo", "own", str(empty))[1].status_code == 200
    assert stored(emulator, "own") == b""
    assert own.uploadstream("demo", "two", io.BytesIO())[1].status_code == 200
    assert stored(emulator, "two") == b""


def test_no_etag_is_checked(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    emulator.faults.add(call="part", part=3, per_part=True, first=1, corrupt=True)
    assert sdk.uploadfile("demo", "sdk", str(source))[1].status_code == 200
    wrong = stored(emulator, "sdk")
    assert wrong is not None
    assert digest(wrong) != digest(source.read_bytes())
    assert own.uploadfile("demo", "own", str(source), retryinterval=0)[1].status_code == 200
    assert stored(emulator, "own") == source.read_bytes()


@pytest.mark.usefixtures("default_suffix")
def test_a_file_that_changes_in_between(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    before = source.read_bytes()
    after = bytes(SIZE)
    emulator.faults.add(call="part", part=3, per_part=True, first=1, status=500)
    assert sdk.uploadfile("demo", "sdk", str(source), 1, 1)[1].status_code == 500
    sdk.etaglist = sdk.etaglist[:3]
    source.write_bytes(after)
    assert sdk.resumeuploadfile(1)[1].status_code == 200
    assert stored(emulator, "sdk") not in (before, after)  # half one version, half the other

    source.write_bytes(before)
    assert own.uploadfile("demo", "own", str(source), 1, 1)[1].status_code == 500
    source.write_bytes(after)
    with pytest.raises(SourceChanged):
        own.resumeuploadfile(1)
    assert stored(emulator, "own") is None


@pytest.mark.usefixtures("default_suffix")
def test_resuming_one_part_at_a_time(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    emulator.faults.add(call="part", part=0, per_part=True, first=1, status=500)
    assert sdk.uploadfile("demo", "sdk", str(source), 1, 1)[1].status_code == 500
    sdk.etaglist = []
    connections = emulator.connections_opened
    assert sdk.resumeuploadfile(1)[1].status_code == 200
    assert emulator.parts_in_flight_max == 1
    assert emulator.connections_opened - connections <= 1

    assert not own.uploadfile("demo", "own", str(source), 4, 1)[1].ok()
    assert own.resumeuploadfile(1)[1].status_code == 200
    assert stored_parts([one for one in emulator.requests if one.key == "own"]) == dict.fromkeys(
        range(PARTS), 1
    )


def test_ret_is_what_the_page_says(
    emulator: Emulator, sdk: Any, own: ours.MultipartUploadUFile, source: Path
) -> None:
    ret, resp = sdk.uploadfile("demo", "sdk", str(source))
    assert resp.ok()
    assert ret["Key"] == "sdk"  # the page: None on success
    assert own.uploadfile("demo", "own", str(source))[0] is None
    emulator.faults.add(call="initiate", status=400, message="no", ret_code=-1)
    assert sdk.uploadfile("demo", "sdk", str(source))[0] is None  # the page: the JSON
    assert own.uploadfile("demo", "own", str(source))[0] == {"RetCode": -1, "ErrMsg": "no"}
