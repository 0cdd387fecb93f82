"""ETag arithmetic against vectors made with other tools, and against itself."""

from __future__ import annotations

import base64
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli import etag
from ufile_cli.etag import BLOCK, BlockHasher

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "etags.json").read_text())["cases"]


def content(size: int) -> bytes:
    pattern = bytes(range(251))
    return (pattern * (size // 251 + 1))[:size]


def hasher_of(data: bytes, step: int) -> BlockHasher:
    hasher = BlockHasher()
    for start in range(0, len(data), step):
        hasher.update(data[start : start + step])
    return hasher


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("step", [1 << 18, 1_000_003, BLOCK, 3 * BLOCK + 1])
def test_vectors(case: dict[str, Any], step: int) -> None:
    hasher = hasher_of(content(case["size"]), step)
    digests = hasher.digests()
    assert hasher.size == case["size"]
    assert len(digests) == 20 * case["blocks"]
    assert hasher.etag() == case["object_etag"]
    assert etag.object_etag(digests) == case["object_etag"]
    assert etag.blocks_of(case["size"]) == case["blocks"]
    if "part_etag" in case:
        assert etag.part_etag(digests) == case["part_etag"]
        assert etag.decode_part_etag(case["part_etag"]) == digests
        assert etag.matches_part(case["part_etag"], digests) is True
    # The 32-character form, which the reference shows for parts as well.
    assert etag.matches_part(case["object_etag"], digests) is True
    assert len(case["object_etag"]) == 32


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=8))
def test_pieces_make_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = BlockHasher()
    whole.update(data)
    pieces = BlockHasher()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(bounds):
        pieces.update(memoryview(data)[start:end])
    assert pieces.etag() == whole.etag()
    assert whole.digests() == hashlib.sha1(data).digest()


@given(st.integers(1, 60).flatmap(lambda n: st.binary(min_size=20 * n, max_size=20 * n)))
def test_object_etag_names_the_block_count(digests: bytes) -> None:
    raw = base64.urlsafe_b64decode(etag.object_etag(digests))
    assert int.from_bytes(raw[:4], "little") == len(digests) // 20
    assert len(raw) == 24


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20))
def test_part_etags_of_other_bytes_differ(ours: bytes, theirs: bytes) -> None:
    assert etag.matches_part(etag.part_etag(theirs), ours) is (ours == theirs)
    assert etag.matches_part(etag.object_etag(theirs), ours) is (ours == theirs)


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_an_etag_or_opaque(text: str) -> None:
    digest = etag.decode_part_etag(text)
    assert digest is None or len(digest) == 20
    assert etag.matches_part(text, b"\0" * 20) in (True, False, None)
    assert etag.matches_part(text, b"\0" * 40) in (True, None)


def test_opaque_forms_say_nothing() -> None:
    digests = b"\1" * 40
    assert etag.matches_part("whatever", b"\1" * 20) is None
    assert etag.matches_part("A" * 28, digests) is None
    assert etag.matches_part(etag.object_etag(digests), digests) is True


@pytest.mark.parametrize("length", [0, 1, 19, 21, 39])
def test_torn_digests_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        etag.object_etag(b"\0" * length)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        ('W/"abc"', "abc"),
        (' "abc" ', "abc"),
        ('"', '"'),
        ('""', ""),
        ("", ""),
        ('"abc', '"abc'),
    ],
)
def test_unquote(given_text: str, expected: str) -> None:
    assert etag.unquote(given_text) == expected
