"""Edges of the core that `make mutation` found no test at."""

from __future__ import annotations

import base64

import pytest

from ufile_cli.errors import UsageError
from ufile_cli.etag import BLOCK, decode_part_etag, matches_part, object_etag, same_form
from ufile_cli.journal.document import Damage, decode_digests
from ufile_cli.multipart.plan import check_size
from ufile_cli.multipart.reconcile import can_be_checked


def etag_of(count: int, fill: int = 7, size: int = 20) -> str:
    return base64.urlsafe_b64encode(count.to_bytes(4, "little") + bytes([fill]) * size).decode()


def test_five_terabytes_and_not_a_byte_more() -> None:
    check_size(5_000_000_000_000)
    with pytest.raises(UsageError, match="5 TB"):
        check_size(5_000_000_000_001)


def test_etags_of_one_form_count_the_same_blocks() -> None:
    ours = etag_of(3)
    assert same_form(etag_of(3, fill=9), ours)
    assert not same_form(etag_of(2), ours)
    for size in (12, 15, 18, 21, 24):
        assert not same_form(etag_of(3, size=size), ours)
    for text in ("", "opaque", "é" * 32, "*" + ours, ours[:-1] + "\n", ours + "****"):
        assert not same_form(text, ours)


def test_which_etags_can_be_checked() -> None:
    for length, can in ((27, False), (28, True), (29, False), (31, False), (32, True), (33, False)):
        assert can_be_checked("a" * length, BLOCK + 1) is can


def test_digests_have_whole_lengths_and_an_end() -> None:
    def text(size: int) -> str:
        return base64.b64encode(bytes(size)).decode()

    most = 20 * (5 * 1024**3 // BLOCK)
    for size in (20, 40, most):
        assert decode_digests(text(size)) == bytes(size)
    for size in (0, 1, 19, 21, most + 20):
        with pytest.raises(Damage):
            decode_digests(text(size))
    for broken in (
        "\u00e9",
        text(20)[:-1],
        text(20)[:-2] + "*=",
        text(20) + "*",
        text(20) + "\n",
        7,
        None,
    ):
        with pytest.raises(Damage):
            decode_digests(broken)


def test_part_etags_of_one_block_and_of_several() -> None:
    assert decode_part_etag(etag_of(1)) == bytes([7]) * 20
    assert decode_part_etag(etag_of(2)) is None
    assert decode_part_etag(etag_of(1, size=19)) is None
    assert decode_part_etag(etag_of(1, size=21)) is None
    assert decode_part_etag("*" + etag_of(1)) is None
    short = base64.urlsafe_b64encode(bytes([7]) * 20).decode()
    assert decode_part_etag(short) == bytes([7]) * 20
    assert decode_part_etag(short + "****") is decode_part_etag("****" + short) is None
    digests = bytes(range(40))
    known = object_etag(digests)
    bare = base64.urlsafe_b64encode(base64.urlsafe_b64decode(known)[4:]).decode()
    assert matches_part(known, digests) is True and matches_part(bare, digests) is True
    assert matches_part(etag_of(2), digests) is None
