"""Going on in a new process, from parameters: all of them, or as few as there are."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, assert_same, make_file, stored_parts

from ufile_cli import MultipartUploadUFile, SourceError
from ufile_cli.emulator.server import Emulator
from ufile_cli.multipart.adopt import block_size_of
from ufile_cli.multipart.reconcile import Found

Maker = Callable[..., MultipartUploadUFile]
SIZE = 6 * MIB + 77
PARTS = 7
AT_ONCE: dict[str, Any] = {"retrycount": 1, "retryinterval": 0}


@pytest.fixture
def block_size() -> int:
    """A few MiB are several parts."""
    return MIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "film", SIZE)


@pytest.fixture
def begun(emulator: Emulator, make: Maker, source: Path) -> MultipartUploadUFile:
    """An upload of which parts 2 and 5 are not up; its handler is only looked at."""
    emulator.faults.add(call="part", part=[2, 5], first=9, status=500)
    handler = make()
    assert not handler.uploadfile("demo", "big", source, 7, 1, 0)[1].ok()
    emulator.faults.clear()
    assert [number for number, etag in enumerate(handler.etaglist) if not etag] == [2, 5]
    assert handler.pausepartnumber == 2
    return handler


def quoted(etags: Sequence[str]) -> list[str]:
    """As UCloud's SDK keeps them."""
    return [f'"{etag}"' if etag else "" for etag in etags]


def cut(etags: Sequence[str]) -> list[str | None]:
    """Ending at the pause."""
    return [*etags[:2]]


def nones(etags: Sequence[str]) -> list[str | None]:
    return [etag or None for etag in etags]


@pytest.mark.parametrize("form", [list, quoted, cut, nones, None])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("pause", [True, False])
def test_a_file(
    emulator: Emulator,
    make: Maker,
    source: Path,
    begun: MultipartUploadUFile,
    form: Any,
    told: bool,
    pause: bool,
) -> None:
    handler = make()
    ret, resp = handler.resumeuploadfile(
        **AT_ONCE,
        bucket="demo",
        key="big",
        uploadid=begun.uploadid,
        blocksize=MIB if told else None,
        etaglist=form(begun.etaglist) if form else None,
        localfile=source,
        pausepartnumber=2 if pause else None,
    )
    assert (ret, resp.status_code) == (None, 200)
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)
    assert emulator.count("initiate") == 1


@pytest.mark.parametrize("form", [list, quoted, cut, None])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("pause", [True, False])
def test_a_stream(
    emulator: Emulator,
    make: Maker,
    source: Path,
    begun: MultipartUploadUFile,
    form: Any,
    told: bool,
    pause: bool,
) -> None:
    handler = make()
    stream = io.BytesIO(source.read_bytes()[2 * MIB :])
    emulator.faults.add(call="part", part=[2, 5], per_part=True, first=1, status=500)
    _, resp = handler.resumeuploadstream(
        **AT_ONCE,
        bucket="demo",
        key="big",
        uploadid=begun.uploadid,
        blocksize=MIB if told else None,
        etaglist=form(begun.etaglist) if form else None,
        stream=stream,
        pausepartnumber=2 if pause else None,
    )
    assert resp.status_code == 500
    for _ in range(2):
        if not resp.ok():
            _, resp = handler.resumeuploadstream(**AT_ONCE)
    assert resp.ok()
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_a_stream_that_begins_before_the_first_gap(
    emulator: Emulator, make: Maker, source: Path, begun: MultipartUploadUFile
) -> None:
    stream = io.BytesIO(source.read_bytes()[MIB:])
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    _, resp = make().resumeuploadstream(
        **AT_ONCE, **named, etaglist=begun.etaglist, stream=stream, pausepartnumber=1
    )
    assert resp.ok()
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_a_stream_given_anew_to_the_same_handler(
    emulator: Emulator, source: Path, begun: MultipartUploadUFile, make: Maker
) -> None:
    emulator.faults.add(call="part", part=3, first=1, reset="stored")
    handler = make()
    content = source.read_bytes()
    assert not handler.uploadstream("demo", "two", content, 2, 1, 0)[1].ok()
    # The server has part 3, the handler does not know; the stream begins where *it* paused.
    rest = content[handler.pausepartnumber * MIB :]
    assert handler.resumeuploadstream(**AT_ONCE, stream=rest)[1].ok()
    assert_same(emulator, source, key="two")


def test_the_end_was_up_already(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="finish", first=1, status=500)
    begun = make()
    assert not begun.uploadfile("demo", "big", source, 2, 1, 0)[1].ok()
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    _, resp = make().resumeuploadstream(
        **AT_ONCE, **named, etaglist=begun.etaglist, stream=b"", pausepartnumber=PARTS
    )
    assert resp.ok()
    assert_same(emulator, source)
    assert emulator.count("part") == PARTS


def test_a_stream_whose_beginning_is_not_up(
    emulator: Emulator, make: Maker, begun: MultipartUploadUFile
) -> None:
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    with pytest.raises(ValueError, match="part 2 is not up"):
        make().resumeuploadstream(**named, stream=b"abc", pausepartnumber=4)
    with pytest.raises(SourceError, match="part 1 is not up"):
        # The caller's word against the server's list.
        wrong = [begun.etaglist[0], begun.etaglist[0]]
        make().resumeuploadstream(**named, stream=b"abc", etaglist=wrong, blocksize=MIB)
    assert emulator.count("finish") == 0


def test_a_file_with_other_content_makes_the_object_of_that_file(
    emulator: Emulator, make: Maker, source: Path, begun: MultipartUploadUFile
) -> None:
    with source.open("r+b") as file:
        file.write(b"other")
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    _, resp = make().resumeuploadfile(**AT_ONCE, **named, etaglist=begun.etaglist, localfile=source)
    assert resp.ok()
    assert_same(emulator, source)
    assert stored_parts(emulator.requests)[0] == 2


def test_an_etag_list_that_is_wrong_makes_no_wrong_object(
    emulator: Emulator, make: Maker, source: Path, begun: MultipartUploadUFile
) -> None:
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    wrong = [etag for etag in begun.etaglist if etag]  # as the SDK's resume closes the gaps
    _, resp = make().resumeuploadfile(**AT_ONCE, **named, etaglist=wrong, localfile=source)
    assert resp.ok()
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_without_an_upload_id_it_begins_anew(emulator: Emulator, make: Maker, source: Path) -> None:
    assert make().resumeuploadfile(**AT_ONCE, bucket="demo", key="big", localfile=source)[1].ok()
    assert_same(emulator, source)
    content = source.read_bytes()
    assert make().resumeuploadstream(**AT_ONCE, bucket="demo", key="two", stream=content)[1].ok()
    assert_same(emulator, source, key="two")
    with pytest.raises(ValueError, match="uploadid"):
        make().resumeuploadstream(bucket="demo", key="two", stream=content, pausepartnumber=3)


def test_too_few_parameters(make: Maker, source: Path) -> None:
    some: list[dict[str, Any]] = [{}, {"bucket": "demo", "key": "a"}]
    for arguments in (*some, {"bucket": "demo", "uploadid": "x"}):
        with pytest.raises(ValueError, match="are needed"):
            make().resumeuploadfile(**arguments)
        with pytest.raises(ValueError, match="are needed"):
            make().resumeuploadstream(**arguments)


def test_a_dead_upload_id_begins_anew_for_a_file(
    emulator: Emulator, make: Maker, source: Path, begun: MultipartUploadUFile
) -> None:
    emulator.store.abort("demo", begun.uploadid or "")
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    _, resp = make().resumeuploadfile(**AT_ONCE, **named, blocksize=MIB, localfile=source)
    assert resp.ok()
    assert_same(emulator, source)
    ret, resp = make().resumeuploadfile(**AT_ONCE, **named, localfile=source)
    assert resp.status_code == 404
    assert ret and ret["RetCode"] == resp.ret_code


def test_a_server_that_cannot_list(
    emulator: Emulator, make: Maker, source: Path, begun: MultipartUploadUFile
) -> None:
    emulator.faults.add(call="list_parts", status=405)
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    with pytest.raises(ValueError, match="does not list"):
        make().resumeuploadfile(**AT_ONCE, **named, localfile=source)
    _, resp = make().resumeuploadfile(
        **AT_ONCE, **named, localfile=source, blocksize=MIB, etaglist=begun.etaglist
    )
    assert resp.ok()
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_no_part_is_up(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="part", first=9, reset="head")
    begun = make()
    assert not begun.uploadfile("demo", "big", source, 1, 1, 0)[1].ok()
    emulator.faults.clear()
    named: dict[str, Any] = {"bucket": "demo", "key": "big", "uploadid": begun.uploadid}
    with pytest.raises(ValueError, match="block size"):
        make().resumeuploadfile(**AT_ONCE, **named, localfile=source)
    with pytest.raises(ValueError, match="block size"):
        make().resumeuploadstream(**AT_ONCE, **named, stream=source.read_bytes())
    _, resp = make().resumeuploadstream(
        **AT_ONCE, **named, stream=source.read_bytes(), blocksize=MIB
    )
    assert resp.ok()
    assert_same(emulator, source)


@pytest.mark.parametrize(
    ("parts", "size", "pause", "told"),
    [
        ({}, 100, None, None),
        ({0: 10}, 100, None, 10),
        ({3: 10}, 100, None, None),  # the last part of blocks of 30, too
        ({3: 10}, 45, None, 10),
        ({3: 5}, 35, None, None),
        ({3: 5}, 36, None, 5),
        ({1: 5}, 11, None, None),
        ({1: 6}, 11, None, None),
        ({1: 5}, 9, None, None),
        ({0: 10}, 10, None, 10),
        ({0: 10, 1: 5}, 15, None, 10),
        ({4: 10, 9: 3}, None, None, 10),
        ({0: 10}, None, None, 10),
        ({0: 10}, None, 1, 10),
        ({0: 10}, None, 0, None),
        ({5: 10}, None, 3, None),
        ({5: 10}, None, 6, 10),
    ],
)
def test_block_size_from_the_list(
    parts: dict[int, int], size: int | None, pause: int | None, told: int | None
) -> None:
    found = [Found(number, length, None) for number, length in parts.items()]
    assert block_size_of(found, size, pause) == told
