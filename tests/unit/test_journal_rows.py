"""A document's etags go in and out row by row: the same as as a whole, at the rows' edges too."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ufile_cli.etag import BLOCK, object_etag, part_etag
from ufile_cli.journal import document as document_module
from ufile_cli.journal.document import Damage, JournalDocument
from ufile_cli.journal.parts import PartTable


def document(size: int, block_size: int) -> JournalDocument:
    return JournalDocument(
        "abcdefgh",
        "file",
        "b",
        "k",
        "e",
        "c",
        "u",
        uploadid="U",
        blocksize=block_size,
        localfile="f",
        size=size,
    )


def table(chance: random.Random, count: int, block_size: int, *, mixed: bool) -> PartTable:
    parts = PartTable(block_size)
    for number in range(count):
        if mixed and chance.random() < 0.2:
            continue
        digests = chance.randbytes(20 * (chance.choice([1, 2]) if block_size > BLOCK else 1))
        etag = part_etag(digests)
        if mixed and chance.random() < 0.3:
            odd = [object_etag(digests), f"opaque{number}", "a" * 27 + "=", "+" * 27 + "="]
            etag = chance.choice(odd)
        parts.record(number, etag, digests)
    return parts


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 8192])
@pytest.mark.parametrize("block_size", [1000, BLOCK, 8 * BLOCK])
@pytest.mark.parametrize("mixed", [False, True])
def test_rows(count: int, block_size: int, mixed: bool) -> None:
    parts = table(random.Random(count), count, block_size, mixed=mixed)
    text = b"".join(document(max(1, count) * block_size, block_size).chunks(parts))
    whole = json.loads(text)
    assert whole["etaglist"] == list(parts.etags())
    for laid_out in (text, json.dumps(whole).encode()):
        _, read = JournalDocument.parse(laid_out, "abcdefgh")
        assert read is not None
        assert list(read.etags()) == list(parts.etags())
        assert [read.digests(n) for n in range(count)] == [parts.digests(n) for n in range(count)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b',\n"', b',\n,"'),
        (b',\n"', b',\n\n,\n"'),
        (b'"]\n}\n', b'",\n]\n}\n'),
        (b'"]\n}\n', b'"\n}\n'),
        (b'","', b'"x,"'),
    ],
)
def test_torn_rows_are_damage(old: bytes, new: bytes) -> None:
    parts = table(random.Random(1), 4100, BLOCK, mixed=False)
    text = b"".join(document(4100 * BLOCK, BLOCK).chunks(parts))
    assert old in text
    with pytest.raises(Damage):
        JournalDocument.parse(text.replace(old, new, 1), "abcdefgh")


def test_neither_written_nor_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million etags must not stand in memory twice: rows of 4096, in pieces of that size."""
    longest = 0
    loads = json.loads

    def watched(text: bytes, **more: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(text))
        return loads(text, **more)

    count = 3 * 4096 + 1
    parts = table(random.Random(1), count, BLOCK, mixed=False)
    pieces = list(document(count * BLOCK, BLOCK).chunks(parts))
    monkeypatch.setattr(json, "loads", watched)
    JournalDocument.parse(b"".join(pieces), "abcdefgh")
    assert longest == 4096 * len('"",') + 4096 * 28 + len("[]") - 1
    assert max(map(len, pieces)) == longest - len("[]")
    opaque = PartTable(BLOCK)
    for number in range(count):
        opaque.record(number, "opaque", bytes(20))
    pieces = list(document(count * BLOCK, BLOCK).chunks(opaque))
    assert len(pieces) < 20
    assert max(map(len, pieces)) <= 4096 * 32


def test_a_row_of_plain_etags_is_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one takes ten times as long."""

    def one_by_one(*_: object) -> None:
        pytest.fail("a part was read on its own")

    monkeypatch.setattr(document_module, "record_part", one_by_one)
    for count in (1, 4095, 4097):
        parts = table(random.Random(1), count, BLOCK, mixed=False)
        text = b"".join(document(count * BLOCK, BLOCK).chunks(parts))
        _, read = JournalDocument.parse(text, "abcdefgh")
        assert read is not None and list(read.etags()) == list(parts.etags())


@pytest.mark.parametrize("name", ["etaglist", "sha1list"])
def test_a_document_without_one_of_its_lists(name: str) -> None:
    raw = json.loads(b"".join(document(BLOCK, BLOCK).chunks(PartTable(BLOCK))))
    del raw[name]
    for text in (
        json.dumps(raw),
        json.dumps(raw, indent=1) + "\n",
        json.dumps(raw)[:-2] + "]\n}\n",
    ):
        _, read = JournalDocument.parse(text.encode(), "abcdefgh")
        assert read is not None and len(read) == 0


@pytest.mark.parametrize("last", ["sha1list", "etaglist", "novelty"])
def test_fields_in_another_order(last: str) -> None:
    """An object of JSON has none; somebody's editor may have written it."""
    parts = table(random.Random(1), 10, 8 * BLOCK, mixed=True)
    parts.record(3, "opaque]", None)
    raw = {"novelty": ["x"], **json.loads(b"".join(document(80 * BLOCK, 8 * BLOCK).chunks(parts)))}
    raw[last] = raw.pop(last)
    for indent in (None, 0, 1, 2):
        text = json.dumps(raw, indent=indent) + "\n"
        _, read = JournalDocument.parse(text.encode(), "abcdefgh")
        assert read is not None
        assert list(read.etags()) == list(parts.etags())
        assert [read.digests(n) for n in range(10)] == [parts.digests(n) for n in range(10)]


def test_more_rows_than_there_can_be_parts() -> None:
    parts = table(random.Random(1), 4097, BLOCK, mixed=False)
    text = b"".join(document(4096 * BLOCK, BLOCK).chunks(parts))
    with pytest.raises(Damage, match="it lists 4097 parts where at most 4096 can be"):
        JournalDocument.parse(text, "abcdefgh")
    whole = b"".join(document(4097 * BLOCK, BLOCK).chunks(parts))
    _, read = JournalDocument.parse(whole, "abcdefgh")
    assert read is not None and len(read) == 4097


def test_a_row_of_nothing_that_is_up() -> None:
    parts = PartTable(BLOCK)
    for number in (4095, 4096 * 2, 4096 * 2 + 1):
        parts.record(number, part_etag(bytes([7]) * 20), bytes([7]) * 20)
    text = b"".join(document(10_000 * BLOCK, BLOCK).chunks(parts))
    _, read = JournalDocument.parse(text, "abcdefgh")
    assert read is not None and list(read) == list(parts)


@pytest.mark.parametrize(
    "odd",
    [
        "b" * 28,
        "=" * 28,
        "a" * 27 + "=",
        "A" * 26 + "B=",
        "+" + "A" * 26 + "=",
        "/" + "A" * 26 + "=",
        "A=" + "A" * 25 + "=",
        "A" * 28,
        "A" * 26 + "==",
        "****" + "A" * 23 + "=",
        "A" * 23 + "=",
        "A" * 31 + "=",
        "opaque",
    ],
)
@pytest.mark.parametrize("block_size", [BLOCK, 8 * BLOCK])
def test_an_etag_among_plain_ones_that_is_none(odd: str, block_size: int) -> None:
    """It comes back to the letter: a wrong one among them would make Finish fail."""
    plain = part_etag(bytes(20))
    for row in ([plain, odd, plain], [odd], [odd] * 4, [plain] * 3 + [odd]):
        parts = PartTable(block_size)
        for number, etag in enumerate(row):
            parts.record(number, etag, bytes(20) if etag == plain else None)
        text = b"".join(document(len(row) * block_size, block_size).chunks(parts))
        for laid_out in (text, json.dumps(json.loads(text)).encode()):
            _, read = JournalDocument.parse(laid_out, "abcdefgh")
            assert read is not None
            assert list(read.etags()) == row
            assert all(
                read.digests(number) == bytes(20)
                for number, etag in enumerate(row)
                if etag == plain
            )


@pytest.mark.parametrize("opaque", [False, True])
def test_etags_of_parts_of_several_blocks_are_no_digests(opaque: bool) -> None:
    """They may look like one SHA-1 and be something else."""
    for block_size, known in ((BLOCK, bytes(20)), (BLOCK + 1, None)):
        parts = PartTable(block_size)
        parts.record(0, part_etag(bytes(20)), None)
        parts.record(1, "opaque" if opaque else part_etag(bytes(20)), None)
        text = b"".join(document(2 * block_size, block_size).chunks(parts))
        _, read = JournalDocument.parse(text, "abcdefgh")
        assert read is not None and list(read.etags()) == list(parts.etags())
        assert read.digests(0) == known
