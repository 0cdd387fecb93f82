"""A document's etags go in and out row by row: the same as as a whole, at the rows' edges too."""

from __future__ import annotations

import json
import random

import pytest

from ufile_cli.etag import BLOCK, object_etag, part_etag
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
