"""Reading a stream: exact parts, buffers that come back, ends that are none."""

from __future__ import annotations

import hashlib
import io
import os
import queue
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from ufile_cli.errors import CommandFailed, SourceError
from ufile_cli.etag import BlockHasher
from ufile_cli.multipart import streams
from ufile_cli.multipart.streams import (
    CommandSource,
    DescriptorSource,
    ObjectSource,
    PartRead,
    ReaderFailed,
    StreamEnded,
    StreamReader,
    StreamSource,
)

BLOCK_SIZE = 1000


class Pieces(StreamSource):
    """Yields pieces as they are, however much is asked for."""

    def __init__(self, pieces: Iterable[bytes], *, well: bool = True) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._well = well
        self.reads = threading.Semaphore(0)

    def _read(self, view: memoryview) -> int:
        self.reads.release()
        piece = next(self._pieces, b"")
        self.unread(piece[len(view) :])
        piece = piece[: len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def ended_well(self) -> None:
        if not self._well:
            raise CommandFailed("it ended with exit code 1")


def take(inbox: queue.SimpleQueue[object]) -> object:
    return inbox.get(timeout=10)


def read_all(
    source: StreamSource, *, buffers: int = 3
) -> tuple[list[tuple[int, bytes, bytes]], object]:
    """Parts (number, content, digests) as they come, each released at once; and the end."""
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    reader = StreamReader(source, BLOCK_SIZE, buffers)
    reader.attach(inbox.put)
    parts = []
    while isinstance(message := take(inbox), PartRead):
        parts.append((message.number, bytes(message.content), message.digests))
        reader.release(message)
    assert reader.rest(10)
    return parts, message


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 2001, 7654])
@pytest.mark.parametrize("piece", [1, 7, 999, 1000, 1001, 5000])
def test_parts_are_exact(size: int, piece: int) -> None:
    content = random.Random(1).randbytes(size)
    source = Pieces(content[at : at + piece] for at in range(0, size, piece))
    parts, end = read_all(source)
    assert end == StreamEnded(size)
    assert b"".join(part for _, part, _ in parts) == content
    assert [number for number, _, _ in parts] == list(range(-(-size // BLOCK_SIZE)))
    assert all(len(part) == BLOCK_SIZE for _, part, _ in parts[:-1])
    for _, part, digests in parts:
        assert digests == hashlib.sha1(part).digest()


def test_what_was_put_back_comes_first() -> None:
    source = Pieces([b"cd" * 700])
    source.unread(b"ab" * 900)
    parts, end = read_all(source)
    assert b"".join(part for _, part, _ in parts) == b"ab" * 900 + b"cd" * 700
    assert end == StreamEnded(3200)


def test_no_more_is_read_than_there_are_buffers() -> None:
    """While nothing is released the producer waits; a released buffer is filled again."""
    source = Pieces([bytes([number]) * BLOCK_SIZE for number in range(10)])
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    reader = StreamReader(source, BLOCK_SIZE, 3)
    reader.attach(inbox.put)
    first = [take(inbox) for _ in range(3)]
    for _ in range(3):
        assert source.reads.acquire(timeout=10)
    assert not source.reads.acquire(blocking=False) and inbox.empty()
    part = first[0]
    assert isinstance(part, PartRead)
    reader.release(part)
    fourth = take(inbox)
    assert isinstance(fourth, PartRead) and fourth.number == 3
    assert fourth.buffer is part.buffer
    assert bytes(fourth.content) == b"\3" * BLOCK_SIZE
    second = first[1]
    assert isinstance(second, PartRead) and bytes(second.content) == b"\1" * BLOCK_SIZE
    reader.close()
    assert reader.rest(10)


@pytest.mark.parametrize("size", [0, 500, 1000, 1500, 2000])
def test_an_end_that_is_none(size: int) -> None:
    """A producer that failed: its last, short part is not told of; nor is an end."""
    parts, end = read_all(Pieces([bytes(size)] if size else [], well=False))
    assert isinstance(end, ReaderFailed) and isinstance(end.error, CommandFailed)
    assert [len(part) for _, part, _ in parts] == [BLOCK_SIZE] * (size // BLOCK_SIZE)


def test_whoever_attaches_again_is_told_all_that_is_held() -> None:
    content = random.Random(2).randbytes(5 * BLOCK_SIZE + 1)
    reader = StreamReader(Pieces([content]), BLOCK_SIZE, 3)
    first: queue.SimpleQueue[object] = queue.SimpleQueue()
    reader.attach(first.put)
    held = [take(first) for _ in range(3)]
    done = held[1]
    assert isinstance(done, PartRead)
    reader.detach([0])
    reader.release(done)
    assert reader.rest(10) and first.empty()
    second: queue.SimpleQueue[object] = queue.SimpleQueue()
    reader.attach(second.put)
    numbers = []
    while isinstance(message := take(second), PartRead):
        start = message.number * BLOCK_SIZE
        assert bytes(message.content) == content[start : start + BLOCK_SIZE]
        numbers.append(message.number)
        reader.release(message)
    assert numbers == [0, 2, 3, 4, 5] and message == StreamEnded(len(content))


def test_an_error_is_told() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("out of luck")

    _, end = read_all(ObjectSource(Broken()))
    assert isinstance(end, ReaderFailed) and "out of luck" in str(end.error)


@pytest.mark.parametrize("yields", ["text", None, b"more than was asked for" * 100_000])
def test_what_a_stream_must_not_yield(yields: object) -> None:
    class Odd:
        def read(self, size: int) -> object:
            return yields

    with pytest.raises(SourceError):
        ObjectSource(Odd()).read_into(memoryview(bytearray(100)))


def test_an_object_goes_back_to_where_it_stood() -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(3)
    source = ObjectSource(stream)
    view = memoryview(bytearray(4))
    assert source.read_into(view) == 4 and bytes(view) == b"3456"
    source.unread(b"6")
    assert source.can_rewind() and source.rewind()
    assert source.read_into(view) == 4 and bytes(view) == b"3456"


def test_a_pipe_does_not_go_back() -> None:
    read, write = os.pipe()
    os.write(write, b"abc")
    os.close(write)
    source = DescriptorSource(read)
    assert not source.can_rewind() and not source.rewind()
    os.set_blocking(read, False)
    view = memoryview(bytearray(10))
    assert source.read_into(view) == 3 and source.read_into(view) == 0
    os.close(read)
    with pytest.raises(SourceError, match="closed"):
        source.read_into(view)


def test_an_empty_pipe_that_does_not_block_is_waited_for() -> None:
    """Somebody shares it with us and made it so: no data is no end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    source = DescriptorSource(read)
    view = memoryview(bytearray(10))
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(source.read_into(view)), daemon=True)
    thread.start()
    while not os.get_blocking(read):
        pass
    os.write(write, b"ab")
    thread.join(10)
    assert got == [2]
    os.close(read)
    os.close(write)


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UFILE_PRIVATE_KEY", "secret")
    parts, end = read_all(CommandSource(["sh", "-c", "echo ${UFILE_PRIVATE_KEY-none}"]))
    assert [part for _, part, _ in parts] == [b"none\n"] and end == StreamEnded(5)
    _, end = read_all(CommandSource(["sh", "-c", "exit 5"]))
    assert isinstance(end, ReaderFailed) and "sh ended with exit code 5" in str(end.error)
    _, end = read_all(CommandSource(["sh", "-c", "kill -9 $$"]))
    assert isinstance(end, ReaderFailed) and "SIGKILL" in str(end.error)
    with pytest.raises(CommandFailed, match="no-such"):
        CommandSource(["no-such-command"])


def said_by(script: str) -> list[str]:
    """What a command says to its standard error, line by line."""
    lines: list[str] = []
    read_all(CommandSource(["sh", "-c", script], lines.append))
    return lines


def test_what_a_command_says_is_told_by_the_line() -> None:
    assert said_by("echo one >&2; echo >&2; printf ' two\\tx\\r\\nlast' >&2; exit 3") == [
        "one", "", " two    x", "last",
    ]  # fmt: skip
    assert said_by(r"printf '\351\033[2J\n' >&2") == ["\udce9\x1b[2J"]
    assert said_by(":") == []


def test_of_a_line_that_is_drawn_again_and_again_its_last_state_is_told() -> None:
    assert said_by(r"printf '1%%\r' >&2; printf '2%%\r3%%' >&2; printf '\rdone\n' >&2") == ["done"]
    assert said_by(r"printf '1%%\r2%%\r' >&2") == ["2%"]


def test_a_line_without_end_is_told_in_pieces() -> None:
    lines = said_by("head -c 100000 /dev/zero | tr '\\0' x >&2")
    assert "".join(lines) == "x" * 100000
    assert max(map(len, lines)) <= 4096


def test_a_child_of_the_command_that_lives_on_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_LAST_WORDS", 0.1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    lines: list[str] = []
    source = CommandSource(["sh", "-c", f"cat {gate} >/dev/null & exit 5"], lines.append)
    _, end = read_all(source)
    assert isinstance(end, ReaderFailed) and "exit code 5" in str(end.error)
    source.close()
    gate.write_text("")


def test_the_etag_of_all_that_passed() -> None:
    content = random.Random(3).randbytes(3 * BLOCK_SIZE + 7)
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    reader = StreamReader(ObjectSource(content), BLOCK_SIZE, 9)
    reader.attach(inbox.put)
    while isinstance(take(inbox), PartRead):
        pass
    hasher = BlockHasher()
    hasher.update(content)
    assert reader.whole_etag() == hasher.etag()
    assert StreamReader(ObjectSource(b""), BLOCK_SIZE, 2, first=1).whole_etag() is None
