"""Files: going on after failures, what comes back, threads and journals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, PUBLIC, SECRET, assert_same, make_file, stored_parts

from ufile_cli import MultipartUploadUFile, ResponseInfo, SourceChanged, SourceError, UFileError
from ufile_cli.emulator.server import Emulator
from ufile_cli.journal.store import Store
from ufile_cli.progress.events import PartProgress

Maker = Callable[..., MultipartUploadUFile]
PARTS = 6
AT_ONCE = (1, 0)
"""retrycount and retryinterval."""


@pytest.fixture
def block_size() -> int:
    """A few MiB are several parts."""
    return MIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "film.mp4", 5 * MIB + 99)


def test_success(emulator: Emulator, make: Maker, source: Path) -> None:
    handler = make()
    ret, resp = handler.uploadfile("demo", "big", source)
    assert ret is None
    assert (resp.status_code, resp.error, resp.ret_code, resp.content) == (200, None, None, b"")
    assert resp.ok()
    assert not resp.need_retry()
    assert resp.x_session_id
    assert emulator.requests[-1].etag == resp.etag
    assert_same(emulator, source)
    assert len(handler.etaglist) == handler.pausepartnumber == PARTS
    assert all(handler.etaglist)
    with pytest.raises(ValueError, match="no upload of a file"):
        handler.resumeuploadfile()
    with pytest.raises(ValueError, match="no upload of a stream"):
        handler.resumeuploadstream()


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": "body"}, {"reset": "stored"}])
@pytest.mark.parametrize("part", [0, 3, 5])
def test_going_on(
    emulator: Emulator, make: Maker, source: Path, part: int, fault: dict[str, Any]
) -> None:
    emulator.faults.add(call="part", part=part, first=1, **fault)
    handler = make()
    ret, resp = handler.uploadfile("demo", "big", str(source), 4, *AT_ONCE)
    assert resp.status_code == fault.get("status", -1)
    assert ret == ({"RetCode": -30599, "ErrMsg": "scripted"} if "status" in fault else {})
    assert resp.need_retry()
    assert handler.pausepartnumber <= part
    assert handler.resumeuploadfile(*AT_ONCE)[1].status_code == 200
    assert_same(emulator, source)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)
    assert emulator.count("initiate") == 1


def test_going_on_after_out_of_order_completion_is_parallel(
    emulator: Emulator, make: Maker, source: Path
) -> None:
    emulator.faults.add(call="part", part=[0, 1, 2], per_part=True, first=1, status=500)
    emulator.faults.add(call="part", part=3, first=1, reset="stored")
    handler = make()
    _, resp = handler.uploadfile("demo", "big", str(source), 4, *AT_ONCE)
    assert not resp.ok()
    emulator.faults.clear()
    emulator.faults.add(call="part", first=3, hang="body")
    result: list[Any] = []
    worker = threading.Thread(target=lambda: result.append(handler.resumeuploadfile(*AT_ONCE)))
    worker.start()
    emulator.wait_for("part", 3, stage="hanging")
    emulator.faults.clear()
    worker.join(30)
    assert result[0][1].ok()
    assert_same(emulator, source)


def test_attempts_are_counted(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="part", part=0, status=503)
    handler = make()
    _, resp = handler.uploadfile("demo", "big", str(source), 1, 4, 0)
    assert resp.status_code == 503
    assert [one.part_number for one in emulator.requests if one.status == 503] == [0] * 4


@pytest.mark.parametrize("size", [0, 1, 4 * MIB])
def test_small_files(emulator: Emulator, make: Maker, tmp_path: Path, size: int) -> None:
    path = make_file(tmp_path / "small", size)
    emulator.faults.add(call="put", first=1, reset="body")
    handler = make()
    assert handler.uploadfile("demo", "big", path, 1, *AT_ONCE)[1].status_code == -1
    assert (handler.uploadid, handler.blocksize, handler.etaglist) == (None, None, [])
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()
    assert_same(emulator, path)
    assert emulator.count("put") == 2


def test_initiate_fails(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="initiate", first=1, reset="head")
    handler = make()
    assert handler.uploadfile("demo", "big", source, 1, *AT_ONCE)[1].status_code == -1
    assert handler.uploadid is None
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()
    assert_same(emulator, source)


def test_nobody_listens(make: Maker, source: Path) -> None:
    handler = make(url="http://127.0.0.1:1")
    ret, resp = handler.uploadfile("demo", "big", source, 1, *AT_ONCE)
    assert (ret, resp.status_code, resp.content, resp.content_length) == ({}, -1, None, None)
    assert resp.error and "connection refused" in resp.error
    assert resp.need_retry()
    assert "status_code=-1" in repr(resp)
    assert "connection refused" in repr(resp)


def test_wrong_keys_and_set_keys(emulator: Emulator, make: Maker, source: Path) -> None:
    handler = make(private="wrong")
    ret, resp = handler.uploadfile("demo", "big", source, 1, *AT_ONCE)
    assert resp.status_code == 401
    assert not resp.need_retry()
    assert ret and ret["RetCode"] == resp.ret_code
    assert resp.x_session_id
    assert resp.content_length == len(resp.content or b"")
    assert "json" in (resp.content_type or "")
    assert SECRET not in repr(handler)
    handler.set_keys(PUBLIC, SECRET)
    assert SECRET not in repr(handler) + repr(vars(handler))
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()


def test_a_page_in_place_of_an_answer_is_no_success(
    emulator: Emulator, make: Maker, source: Path
) -> None:
    emulator.faults.add(call="initiate", body="<html>welcome</html>")
    ret, resp = make().uploadfile("demo", "big", source, 1, *AT_ONCE)
    assert (ret, resp.status_code, resp.ok()) == ({}, 502, False)
    assert resp.content == b"<html>welcome</html>"


@pytest.mark.parametrize(
    ("body", "ret"), [("[1]", {}), ("", {}), ("null", {}), ('{"a": 1}', {"a": 1}), ("{", {})]
)
def test_ret(emulator: Emulator, make: Maker, source: Path, body: str, ret: dict[str, Any]) -> None:
    emulator.faults.add(call="initiate", status=500, body=body, content_type="applicaton/json")
    assert make().uploadfile("demo", "big", source, 1, *AT_ONCE)[0] == ret


@pytest.mark.parametrize("pair", [("", "x"), ("x", ""), ("x", "a b\n"), (None, "x"), ("x", 5)])
def test_keys_that_are_none(make: Maker, pair: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        MultipartUploadUFile(*pair)
    with pytest.raises(ValueError, match="key"):
        make().set_keys(*pair)


def test_arguments_that_cannot_be(make: Maker, source: Path) -> None:
    handler = make()
    for arguments in (
        ("demo", "", source),
        ("de/mo", "key", source),
        ("demo", "key", source, 0),
        ("demo", "key", source, 1, 0),
        ("demo", "key", source, 1, 1, -1),
        ("demo", "key", source, 1, 1, 1, "User-Agent: a"),
        ("demo", "key", source, 1, 1, 1, {"Host": "other"}),
        ("demo", "key", source, 1, 1, 1, {"a": 1}),
        ("demo", "key", source, 1, 1, 1, {"a": "b\r\nc: d"}),
    ):
        with pytest.raises(ValueError):
            handler.uploadfile(*arguments)
    for stream in ("text", None, 5):
        with pytest.raises(ValueError, match="stream is bytes"):
            handler.uploadstream("demo", "key", stream)
    for suffix in ("https://a/path", "ftp://a", "no such place", "https://u:p@host"):
        with pytest.raises(ValueError):
            MultipartUploadUFile("public", "private", suffix)
    with pytest.raises(ValueError):
        MultipartUploadUFile("public", "private", timeout=0)
    with pytest.raises(ValueError):
        MultipartUploadUFile("public", "private", journal=5)  # type: ignore[arg-type]


def test_a_file_that_is_not_there(make: Maker, tmp_path: Path, emulator: Emulator) -> None:
    with pytest.raises(SourceError) as caught:
        make().uploadfile("demo", "key", tmp_path / "nothing")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(SourceError):
        make().uploadfile("demo", "key", tmp_path)
    assert emulator.requests == []


def test_a_changed_file_raises(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="part", part=3, first=1, reset="body")
    handler = make()
    assert handler.uploadfile("demo", "big", source, 1, *AT_ONCE)[1].status_code == -1
    with source.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(SourceChanged) as caught:
        handler.resumeuploadfile(*AT_ONCE)
    assert caught.value.part == 0
    assert emulator.count("finish") == 0
    # The way out is to upload it anew.
    assert handler.uploadfile("demo", "big", source)[1].ok()
    assert_same(emulator, source)


def test_a_touched_and_a_moved_file_go_on(
    emulator: Emulator, make: Maker, source: Path, tmp_path: Path
) -> None:
    emulator.faults.add(call="part", part=3, first=2, status=500)
    handler = make()
    assert not handler.uploadfile("demo", "big", source, 1, *AT_ONCE)[1].ok()
    os.utime(source, (1, 1))
    assert not handler.resumeuploadfile(*AT_ONCE)[1].ok()
    moved = source.rename(tmp_path / "moved")
    assert handler.resumeuploadfile(*AT_ONCE, localfile=moved)[1].ok()
    assert_same(emulator, moved)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_what_is_stored_is_compared(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="part", part=2, first=1, corrupt=True)
    assert make().uploadfile("demo", "big", source, 2, 2, 0)[1].ok()
    assert_same(emulator, source)
    emulator.faults.add(call="part", part=2, corrupt=True)
    with pytest.raises(UFileError, match="damaged"):
        make().uploadfile("demo", "two", source, 2, 2, 0)


def test_headers(emulator: Emulator, make: Maker, source: Path) -> None:
    emulator.faults.add(call="part", part=2, first=1, status=500)
    handler = make()
    handler.uploadfile("demo", "big", source, 4, *AT_ONCE, header={"content-type": "a/b"})
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()
    calls = [one for one in emulator.requests if one.call in ("initiate", "part", "finish")]
    assert {one.content_type for one in calls} == {"a/b"}
    assert make().uploadfile("demo", "big", source)[1].ok()
    assert emulator.requests[-1].content_type == "video/mp4"


# -- threads and signals


def ours() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith(("part-", "stream"))}


def test_no_thread_is_left(emulator: Emulator, make: Maker, source: Path) -> None:
    handler = make()
    before = ours()
    assert handler.uploadfile("demo", "big", source)[1].ok()
    assert ours() == before
    assert handler.uploadstream("demo", "big", source.read_bytes())[1].ok()
    assert ours() == before
    emulator.faults.add(call="part", part=2, first=2, status=500)
    assert not handler.uploadfile("demo", "big", source, 4, *AT_ONCE)[1].ok()
    assert ours() == before
    with source.open("rb") as stream:
        assert not handler.uploadstream("demo", "big", stream, 2, *AT_ONCE)[1].ok()
    assert ours() == before


def test_a_thread_that_hangs_ends_with_its_request(
    emulator: Emulator, make: Maker, source: Path
) -> None:
    emulator.faults.add(call="part", part=1, first=1, hang="body")
    emulator.faults.add(call="part", part=2, first=1, status=400)
    handler = make()
    before = ours()
    assert handler.uploadfile("demo", "big", source, 4, *AT_ONCE)[1].status_code == 400
    emulator.faults.release()
    for thread in ours() - before:
        thread.join(30)
        assert not thread.is_alive()
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()
    assert_same(emulator, source)


def test_many_handlers_in_many_threads(emulator: Emulator, make: Maker, tmp_path: Path) -> None:
    emulator.faults.add(call="part", per_part=True, first=1, reset="body")
    results: dict[int, ResponseInfo] = {}

    def work(number: int) -> None:
        path = make_file(tmp_path / str(number), 4 * MIB + number + 1, seed=number)
        handler = make()
        _, resp = handler.uploadfile("demo", f"key{number}", path, 2, *AT_ONCE)
        for _ in range(20):
            if resp.status_code == -1:
                _, resp = handler.resumeuploadfile(*AT_ONCE)
        results[number] = resp

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [results[number].status_code for number in range(5)] == [200] * 5
    for number in range(5):
        assert_same(emulator, tmp_path / str(number), key=f"key{number}")


def test_no_signal_handler_is_installed(make: Maker, source: Path) -> None:
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(name) for name in names]
    assert make().uploadfile("demo", "big", source)[1].ok()
    assert [signal.getsignal(name) for name in names] == before


def test_an_interrupt_comes_through_and_can_be_gone_on_after(
    emulator: Emulator, make: Maker, source: Path
) -> None:
    def interrupt(event: object) -> None:
        if type(event).__name__ == "PartSent" and not interrupted:
            interrupted.append(event)
            raise KeyboardInterrupt

    interrupted: list[object] = []
    handler = make(progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        handler.uploadfile("demo", "big", source, 2, *AT_ONCE)
    assert handler.uploadid
    assert handler.resumeuploadfile(*AT_ONCE)[1].ok()
    assert_same(emulator, source)


# -- journals


def test_no_journal_unless_asked_for(
    make: Maker, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UFILE_STATE_DIR", str(tmp_path / "state"))
    assert make().uploadfile("demo", "big", source)[1].ok()
    assert not (tmp_path / "state").exists()
    handler = make(journal=True)
    assert handler.uploadfile("demo", "big", source)[1].ok()
    assert (tmp_path / "state" / "journals" / f"{handler.journal_id}.json").exists()


def test_a_journal_goes_on_in_another_process(
    emulator: Emulator, make: Maker, source: Path, tmp_path: Path
) -> None:
    emulator.faults.add(call="part", part=3, first=2, status=500)
    first = make(journal=tmp_path / "state")
    assert not first.uploadfile("demo", "big", source, 1, *AT_ONCE)[1].ok()
    assert not first.resumeuploadfile(*AT_ONCE)[1].ok()
    view = Store(tmp_path / "state").peek(first.journal_id or "")
    assert (view.state, view.parts_done, view.held) == ("paused", 3, False)
    second = make(journal=str(tmp_path / "state"))
    assert second.uploadfile("demo", "big", source)[1].ok()
    assert second.journal_id == first.journal_id
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)
    assert_same(emulator, source)
    with pytest.raises(ValueError, match="finished this upload"):
        first.resumeuploadfile()


@pytest.mark.parametrize("size", [0, 5])
def test_a_journal_of_a_file_that_became_small(
    emulator: Emulator, make: Maker, source: Path, tmp_path: Path, size: int
) -> None:
    """Its parts lie on the server; storing the small file beside them would hide that."""
    emulator.faults.add(call="part", part=4, status=500)
    first = make(journal=tmp_path / "state")
    _, resp = first.uploadfile("demo", "big", source, 1, *AT_ONCE)
    assert resp.status_code == 500
    emulator.faults.clear()
    source.write_bytes(bytes(size))
    with pytest.raises(SourceChanged):
        make(journal=tmp_path / "state").uploadfile("demo", "big", source)
    assert emulator.count("put") == 0


def test_a_journal_of_a_stream(emulator: Emulator, make: Maker, tmp_path: Path) -> None:
    path = make_file(tmp_path / "source", 5 * MIB)
    emulator.faults.add(call="part", part=3, first=3, status=500)
    handler = make(journal=tmp_path / "state")
    with path.open("rb") as stream:
        _, resp = handler.uploadstream("demo", "big", stream, 2, *AT_ONCE)
        journal = handler.journal_id
        for _ in range(5):
            if not resp.ok():
                _, resp = handler.resumeuploadstream(*AT_ONCE)
    assert handler.journal_id == journal
    assert_same(emulator, path)
    assert Store(tmp_path / "state").peek(journal or "").state == "finished"
    assert stored_parts(emulator.requests) == dict.fromkeys(range(5), 1)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("own")])
def test_what_a_progress_callback_raises_comes_out_as_it_is(
    emulator: Emulator, make: Maker, source: Path, error: Exception
) -> None:
    """An OSError of its own is none of reading the file, nor of the network."""

    def broken(event: object) -> None:
        if isinstance(event, PartProgress):
            raise error

    handler = make(progress=broken)
    with pytest.raises(type(error)) as raised:
        handler.uploadfile("demo", "big", source, 2, *AT_ONCE)
    assert raised.value is error
    assert emulator.count("finish") == 0
