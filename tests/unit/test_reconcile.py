"""Journal x the server's part list x our own bytes: nothing counts as up that is not."""

from __future__ import annotations

import hashlib
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.etag import BLOCK, matches_part, object_etag, part_etag
from ufile_cli.multipart.reconcile import Found, Listing, NoAdvance, Verdict, can_be_checked, judge

SIZE = 1000
OURS = hashlib.sha1(b"ours").digest()
THEIRS = hashlib.sha1(b"theirs").digest()
ETAGS = {
    "ours": part_etag(OURS),
    "ours in the long form": object_etag(OURS),
    "theirs": part_etag(THEIRS),
    "theirs in the long form": object_etag(THEIRS),
    "opaque": "d41d8cd98f00b204e9800998ecf8427e-1",
    "opaque of 32": "d41d8cd98f00b204e9800998ecf8427e",
    "none": None,
}
SIZES = [SIZE, SIZE - 1, SIZE + 1, 0, None]


def one_dress(etag: str | None) -> str | None:
    """An ETag's short form, where it has one."""
    long = {ETAGS["ours in the long form"]: "ours", ETAGS["theirs in the long form"]: "theirs"}
    return ETAGS[long[etag]] if etag in long else etag


def test_a_list_may_show_the_other_form_of_an_etag() -> None:
    for one, other in (("ours", "ours in the long form"), ("ours in the long form", "ours")):
        found = Found(0, SIZE, ETAGS[other])
        assert judge(ETAGS[one], found, listed=True, size=SIZE) is Verdict.KEEP
        assert judge(ETAGS["theirs"], found, listed=True, size=SIZE) is Verdict.CHECK


@pytest.mark.parametrize("size", [SIZE, 2 * BLOCK])
@pytest.mark.parametrize("listed", [True, False])
def test_every_combination(listed: bool, size: int) -> None:
    """The rule, said a second time and in other words."""
    for journalled, found_etag, offset in product(ETAGS.values(), ETAGS.values(), SIZES):
        found_size = None if offset is None else offset - SIZE + size
        for found in (Found(7, found_size, found_etag), None):
            verdict = judge(journalled, found, listed=listed, size=size)
            if not listed:
                assert verdict is (Verdict.SEND if journalled is None else Verdict.KEEP)
                continue
            right_size = found is not None and found.size in (size, None)
            if found is None or not right_size:
                assert verdict is Verdict.SEND
            elif verdict is Verdict.KEEP:
                assert journalled is not None
                # A server that names no ETag must at least name the size.
                assert one_dress(found.etag) == one_dress(journalled) or (
                    found.etag is None and found.size == size
                )
            elif verdict is Verdict.CHECK:
                assert found.etag is not None
                assert can_be_checked(found.etag, size)
            if found is not None and right_size and found.etag == journalled is not None:
                assert verdict is Verdict.KEEP


def test_what_was_lost_on_the_way_is_adopted_only_after_hashing() -> None:
    found = Found(0, SIZE, ETAGS["ours"])
    assert judge(None, found, listed=True, size=SIZE) is Verdict.CHECK
    assert matches_part(str(ETAGS["ours"]), OURS) is True
    assert matches_part(str(ETAGS["theirs"]), OURS) is False


def test_what_hashing_can_tell_nothing_about_is_sent() -> None:
    found = Found(0, SIZE, ETAGS["opaque"])
    assert judge(None, found, listed=True, size=SIZE) is Verdict.SEND
    assert judge(ETAGS["ours"], found, listed=True, size=SIZE) is Verdict.SEND
    assert judge(ETAGS["opaque"], found, listed=True, size=SIZE) is Verdict.KEEP


@given(
    st.dictionaries(
        st.integers(0, 200),
        st.tuples(st.integers(0, 9), st.text("ab", max_size=3)),
        max_size=60,
    ),
    st.integers(1, 20),
    st.booleans(),
)
def test_pages_make_no_difference(
    held: dict[int, tuple[int, str]], page_size: int, markers: bool
) -> None:
    listing, numbers = Listing(), sorted(held)
    pages = [numbers[i : i + page_size] for i in range(0, len(numbers), page_size)] or [[]]
    seen: dict[int, Found | None] = {}
    asked = 0
    for index, page in enumerate(pages):
        last = index == len(pages) - 1
        listing.page(
            (Found(n, *held[n]) for n in page),
            truncated=not last,
            next_marker=page[-1] if markers and not last else None,
        )
        while asked < 210 and listing.knows(asked):
            peeked = listing.peek(asked)
            seen[asked] = listing.take(asked)
            assert seen[asked] == peeked
            asked += 1
        if not last:
            assert asked == page[-1] + 1 == (listing.covered or 0)
    assert listing.covered is None
    assert asked == 210
    assert seen == {n: Found(n, *held[n]) if n in held else None for n in range(210)}


def test_a_list_that_does_not_go_on() -> None:
    listing = Listing()
    listing.page([Found(n, 1, "e") for n in range(10)], truncated=True, next_marker=9)
    for found in ([], [Found(n, 1, "e") for n in range(10)], [Found(3, 1, "e")]):
        for marker in (None, 9, 3, -1):
            with pytest.raises(NoAdvance):
                listing.page(found, truncated=True, next_marker=marker)
    listing.page([], truncated=True, next_marker=10)
    assert listing.covered == 11
    for marker in (None, -1, -2):
        with pytest.raises(NoAdvance):
            Listing().page([], truncated=True, next_marker=marker)
    first = Listing()
    first.page([], truncated=True, next_marker=0)
    assert (first.marker, first.covered) == (0, 1)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 30), max_size=5), st.none() | st.integers(-2, 30)),
        max_size=80,
    )
)
def test_no_list_goes_on_for_ever(pages: list[tuple[list[int], int | None]]) -> None:
    listing, markers = Listing(), [-1]
    try:
        for numbers, marker in pages:
            listing.page((Found(n, 1, "e") for n in numbers), truncated=True, next_marker=marker)
            assert listing.marker is not None
            markers.append(listing.marker)
    except NoAdvance:
        pass
    assert all(before < after for before, after in pairwise(markers))


def test_a_server_that_cannot_list() -> None:
    listing = Listing()
    listing.page([Found(0, 1, "e")], truncated=True, next_marker=0)
    listing.unavailable()
    assert not listing.available
    assert listing.knows(10**9)
    assert listing.take(0) is None


def test_before_the_first_page_nothing_is_known() -> None:
    assert not Listing().knows(0)
    assert Listing().available and Listing().marker is None


def test_a_part_of_one_block_has_a_known_form() -> None:
    """Up to a whole block; of a longer part an ETag of that length may be a form of its own."""
    opaque = "*" * 28
    for size, known in ((BLOCK - 1, False), (BLOCK, False), (BLOCK + 1, True)):
        assert can_be_checked(opaque, size) is known
        assert can_be_checked(part_etag(OURS), size)
        found = Found(0, size, opaque)
        expected = Verdict.CHECK if known else Verdict.SEND
        assert judge(None, found, listed=True, size=size) is expected


def test_parts_beyond_the_source() -> None:
    listing = Listing()
    listing.page([Found(n, 1, "e") for n in (0, 2, 5, 9)], truncated=False, next_marker=None)
    assert list(listing.beyond(5)) == [5, 9]
    assert list(listing.beyond(10)) == []
