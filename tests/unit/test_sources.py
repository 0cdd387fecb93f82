"""Files as sources: what is refused, and that nothing hangs."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli.errors import SourceChanged, SourceError
from ufile_cli.etag import BLOCK
from ufile_cli.multipart.small import read_whole
from ufile_cli.multipart.sources import FileSource

HINT = "ufile upload-stream BUCKET KEY"


def refused(path: str | Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        FileSource.open(path, stream_hint=HINT)
    assert caught.value.code == 66
    return caught.value


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    before = open_files()
    error = refused(path)
    assert error.hint == HINT
    assert "no regular file" in error.message
    writer = os.open(path, os.O_RDWR)
    assert refused(path).hint == HINT
    os.close(writer)
    assert open_files() == before


def test_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refused(tmp_path / "socket").hint == HINT


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/stdin"])
def test_devices(path: str) -> None:
    reader, writer = os.pipe()
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert refused(path).hint == HINT
    finally:
        os.dup2(kept, 0)
        for fd in (reader, writer, kept):
            os.close(fd)


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/self/maps", "/proc/cpuinfo"])
def test_empty_files_that_yield_data(path: str) -> None:
    if not Path(path).exists():
        pytest.skip("there is no /proc")
    before = open_files()
    error = refused(path)
    assert error.hint == HINT
    assert "yields data" in error.message
    assert open_files() == before


def test_a_file_that_can_be_opened_but_not_read() -> None:
    if not Path("/proc/self/mem").exists():
        pytest.skip("there is no /proc")
    assert "/proc/self/mem" in refused("/proc/self/mem").message


def test_a_directory_and_what_is_not_there(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path).message
    assert "no such file" in refused(tmp_path / "missing").message
    (tmp_path / "file").write_text("x")
    assert "no such file" in refused(tmp_path / "file" / "below").message
    assert "can be no such file" in refused("nul\0byte").message
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop")
    refused(tmp_path / ("x" * 300))
    refused("")


def test_a_name_that_would_write_on_the_terminal(tmp_path: Path) -> None:
    message = refused(tmp_path / "a\x1b[31m\nb\udcff").message
    assert message.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0)
    assert "may not be read" in refused(path).message


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    source = FileSource.open(tmp_path / "empty")
    assert source.identity().size == 0
    assert source.read_into(memoryview(bytearray(5)), 0) == 0
    source.close()
    source.close()


def test_links_are_followed_to_the_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    source = FileSource.open(tmp_path / "link")
    assert source.path == (tmp_path / "real").resolve()
    assert source.name == "link"
    source.close()


def test_truncated_while_it_is_read(tmp_path: Path) -> None:
    """A short read, where a mapping would have killed the process."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    source = FileSource.open(path)
    before = source.identity()
    os.truncate(path, 10_000)
    assert source.read_into(memoryview(bytearray(50_000)), 0) == 10_000
    assert source.read_into(memoryview(bytearray(50_000)), 60_000) == 0
    assert source.identity() != before
    source.close()


def test_identity_is_that_of_the_open_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    source = FileSource.open(path)
    before = source.identity()
    (tmp_path / "new").write_bytes(b"new content")
    (tmp_path / "new").replace(path)
    assert source.identity().size == 3
    assert source.identity().inode == before.inode
    buffer = bytearray(3)
    assert source.read_into(memoryview(buffer), 0) == 3
    assert buffer == b"old"
    other = FileSource.open(path)
    assert other.identity() != before
    other.close()
    source.close()


def test_a_disk_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    source = FileSource.open(path)

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(SourceError, match="at byte 40: Input/output error"):
        source.read_into(memoryview(bytearray(10)), 40)
    source.close()


@settings(max_examples=50)
@given(st.binary(max_size=3000), st.integers(0, 4000), st.integers(1, 4000), st.integers(1, 700))
def test_short_reads_are_no_end(content: bytes, offset: int, size: int, most: int) -> None:
    fd, name = tempfile.mkstemp()
    Path(name).unlink()
    os.write(fd, content)
    source = FileSource(Path("/memory"), fd, "memory")
    original = os.preadv
    try:
        os.preadv = lambda fd, buffers, at: original(fd, [buffers[0][:most]], at)  # type: ignore
        buffer = bytearray(size)
        got = source.read_into(memoryview(buffer), offset)
    finally:
        os.preadv = original
        source.close()
    assert buffer[:got] == content[offset : offset + size]
    assert got == len(content[offset : offset + size])


def test_a_small_file_that_has_grown_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 100)
    source = FileSource.open(path)
    assert read_whole(source) == b"x" * 100
    os.truncate(path, BLOCK)
    assert len(read_whole(source)) == BLOCK
    os.truncate(path, 1 << 40)  # a buffer of that size there can't be
    with pytest.raises(SourceChanged, match="has grown to 1,099,511,627,776 bytes"):
        read_whole(source)
    source.close()
