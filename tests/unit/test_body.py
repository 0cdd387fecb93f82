"""Bodies of parts: the right bytes, hashed as they pass, paced, and cut short loudly."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli.errors import NetworkError, SourceError
from ufile_cli.etag import BLOCK, BlockHasher
from ufile_cli.multipart.body import (
    BLOCK_FAST,
    BLOCK_READ,
    BufferBody,
    FileBody,
    PartBody,
    hash_file_part,
)
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.sources import FileSource

FREE = RateLimit(None)
CONTENT = bytes(range(256)) * 5000 + b"and the rest"


def memory(content: bytes) -> FileSource:
    fd, name = tempfile.mkstemp()
    Path(name).unlink()
    os.write(fd, content)
    return FileSource(Path("/memory"), fd, "memory")


def drained(body: PartBody, step: int) -> bytes:
    read = bytearray()
    while block := body.read(step):
        assert len(block) <= BLOCK_FAST
        read += block
    return bytes(read)


@settings(max_examples=60)
@given(st.integers(0, len(CONTENT)), st.integers(1, len(CONTENT)), st.integers(1, 10**6))
def test_a_file_body_is_the_bytes_of_its_part(offset: int, length: int, step: int) -> None:
    length = min(length, len(CONTENT) - offset)
    source = memory(CONTENT)
    told: list[int] = []
    body = FileBody(source, 3, offset, length, FREE, told.append)
    step = max(step, length // 200 + 1)
    expected = CONTENT[offset : offset + length]
    assert len(body) == length
    assert drained(body, step) == expected
    assert body.digests() == hashlib.sha1(expected).digest()
    assert told == sorted(told) and (not length or told[-1] == length)
    source.close()
    buffer = BufferBody(memoryview(expected), b"d" * 20, FREE, lambda _: None)
    assert drained(buffer, step) == expected
    assert buffer.digests() == b"d" * 20


def test_several_blocks() -> None:
    content = b"ab" * (BLOCK + 5)
    source = memory(content)
    body = FileBody(source, 0, 0, len(content), FREE, lambda _: None)
    assert b"".join(bytes(block) for block in body) == content
    hasher = BlockHasher()
    hash_file_part(source, 0, len(content), hasher)
    assert body.digests() == hasher.digests() and len(hasher.digests()) == 60
    source.close()


def test_the_digest_is_that_of_the_bytes_sent(tmp_path: Path) -> None:
    """Whatever becomes of the file behind them."""
    path = tmp_path / "file"
    path.write_bytes(b"1" * BLOCK_READ + b"2" * BLOCK_READ)
    source = FileSource.open(path)
    body = FileBody(source, 0, 0, 2 * BLOCK_READ, FREE, lambda _: None)
    sent = bytes(body.read(BLOCK_READ))
    path.write_bytes(b"3" * 2 * BLOCK_READ)
    sent += bytes(body.read(BLOCK_READ))
    assert body.digests() == hashlib.sha1(sent).digest()
    assert sent == b"1" * BLOCK_READ + b"3" * BLOCK_READ
    source.close()


def test_a_file_that_became_shorter() -> None:
    source = memory(b"x" * 1000)
    body = FileBody(source, 7, 500, 600, FREE, lambda _: None)
    with pytest.raises(SourceError, match="ends at byte 1000: it has become shorter") as caught:
        body.read()
    assert caught.value.part == 7
    with pytest.raises(SourceError, match="ends at byte 1000"):
        hash_file_part(source, 500, 600, BlockHasher(), number=7)
    source.close()


def test_an_early_answer_speaks_for_no_part() -> None:
    source = memory(CONTENT)
    body = FileBody(source, 0, 0, len(CONTENT), FREE, lambda _: None)
    body.read(100)
    with pytest.raises(NetworkError, match="before it had the whole part"):
        body.digests()
    source.close()


def test_bytes_are_told_when_the_next_ones_are_asked_for() -> None:
    source = memory(b"x" * 300)
    told: list[int] = []
    body = FileBody(source, 0, 0, 300, FREE, told.append)
    body.read(100)
    assert told == []
    body.read(100)
    assert told == [100]
    body.read(100)
    assert len(body.read(100)) == 0
    assert told == [100, 200, 300]
    source.close()


def test_a_limit_paces_in_small_pieces() -> None:
    waits: list[float] = []
    limit = RateLimit(50_000, clock=lambda: 0.0, sleep=waits.append)
    source = memory(CONTENT[:100_000])
    body = FileBody(source, 0, 0, 100_000, limit, lambda _: None)
    assert drained(body, 1 << 20) == CONTENT[:100_000]
    assert len(waits) == 20
    assert waits[-1] == pytest.approx(1.95, abs=0.06)
    source.close()


def test_hashing_can_be_stopped() -> None:
    source, asked = memory(CONTENT), iter([False, True])
    with pytest.raises(InterruptedError):
        hash_file_part(source, 0, len(CONTENT), BlockHasher(), stopped=lambda: next(asked))
    source.close()
