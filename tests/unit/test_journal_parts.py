"""The part table against a plain dict."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ufile_cli.etag import BLOCK, object_etag, part_etag
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.parts import PartTable

MIB = 1024 * 1024
SIZES = st.sampled_from([MIB, 4 * MIB, 8 * MIB, 9 * MIB])
FORMS = st.sampled_from(
    ["part", "object", "opaque", "opaque of 28", "opaque of 32", "base64 of 28"]
)


def digests_of(seed: int, blocks: int) -> bytes:
    return b"".join(hashlib.sha1(f"{seed}/{block}".encode()).digest() for block in range(blocks))


def etag_in(form: str, digests: bytes, seed: int) -> str:
    if form == "part":
        return part_etag(digests)
    if form == "object":
        return object_etag(digests)
    if form == "base64 of 28":
        return part_etag(digests_of(seed + 1, 1))
    return {"opaque": f"x-{seed}", "opaque of 28": "o" * 28, "opaque of 32": "o" * 32}[form]


class Table(RuleBasedStateMachine):
    """Whatever is done to it, it says what the dict says."""

    @initialize(size=SIZES)
    def begin(self, size: int) -> None:
        self.table = PartTable(size)
        self.slots = -(-size // BLOCK)
        self.known: dict[int, tuple[str, bytes | None]] = {}

    @rule(
        number=st.integers(0, 30),
        form=FORMS,
        seed=st.integers(0, 5),
        short=st.booleans(),
        told=st.booleans(),
    )
    def record(self, number: int, form: str, seed: int, short: bool, told: bool) -> None:
        digests = digests_of(seed, 1 if short else self.slots)
        etag = etag_in(form, digests, seed)
        self.table.record(number, etag, digests if told else None)
        self.known[number] = etag, digests if told else None

    @rule(number=st.integers(-2, 40))
    def drop(self, number: int) -> None:
        self.table.drop(number)
        self.known.pop(number, None)

    @invariant()
    def says_what_the_dict_says(self) -> None:
        table, known = self.table, self.known
        assert len(table) == len(known)
        assert list(table) == sorted(known)
        assert table.end == max(known, default=-1) + 1
        assert table.pause == next(n for n in range(100) if n not in known)
        assert list(table.etags()) == [
            known[n][0] if n in known else None for n in range(table.end)
        ]
        for number in range(-1, 42):
            etag, digests = known.get(number, (None, None))
            assert (number in table) == (etag is not None)
            assert table.etag(number) == etag
            assert table.digests(number) == digests
            extra = table.extra_digests(number)
            assert extra is None or extra == digests
            if digests is not None and extra is None:
                assert etag == part_etag(digests) and len(digests) == 20

    @invariant()
    def joins_digests_of_whole_parts_alone(self) -> None:
        for parts in (1, self.table.end, self.table.end + 1):
            if parts < 1:
                continue
            pieces = [self.known.get(n, ("", None))[1] for n in range(parts)]
            whole = all(
                piece is not None and (len(piece) == 20 * self.slots or n == parts - 1)
                for n, piece in enumerate(pieces)
            )
            expected = b"".join(piece or b"" for piece in pieces) if whole else None
            assert self.table.all_digests(parts) == expected

    @invariant()
    def survives_being_written(self) -> None:
        document = JournalDocument(
            journal_id="01234567",
            kind="stream",
            bucket="b",
            key="k",
            endpoint="local",
            created_at="",
            updated_at="",
            uploadid="id",
            blocksize=self.table.block_size,
            state="paused",
        )
        text = b"".join(document.chunks(self.table))
        read, parts = JournalDocument.parse(text, "01234567")
        assert read == document
        assert parts is not None
        assert list(parts.etags()) == list(self.table.etags())
        for number, (etag, digests) in self.known.items():
            if digests is not None:
                assert parts.digests(number) == digests
            else:  # only what the ETag itself says can be known again
                found = parts.digests(number)
                assert found is None or part_etag(found) == etag


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_nonsense() -> None:
    table = PartTable(4 * MIB)
    with pytest.raises(ValueError, match="start at 0"):
        table.record(-1, "e", None)
    for wrong in (b"", b"x", bytes(40)):
        with pytest.raises(ValueError, match="as many digests"):
            table.record(0, "e", wrong)
    assert len(table) == 0 and table.pause == 0 and table.end == 0
    strange: Any = "0"
    assert strange not in table


def test_it_is_small() -> None:
    """23 bytes a part where the ETag is the digest: a million parts are 23 MB."""
    table = PartTable(4 * MIB)
    etags = [part_etag(digests_of(seed, 1)) for seed in range(16)]
    digests = [digests_of(seed, 1) for seed in range(16)]
    for number in range(20_000):
        table.record(number, etags[number % 16], digests[number % 16])
    held = len(table._form) + 2 * len(table._count) + len(table._digests)
    assert held == 23 * 20_000
    for number in range(16):
        table.record(number, object_etag(digests[number]), digests[number])
    assert not table._other, "nor does the long form of the ETag take a string"


def test_a_short_part_in_the_middle_speaks_for_nothing() -> None:
    """An opaque ETag may look like a digest: then the object's ETag can't be told from it."""
    table = PartTable(8 * MIB)
    table.record(0, "x", digests_of(0, 2))
    table.record(1, part_etag(digests_of(1, 1)), digests_of(1, 1))
    assert table.all_digests(2) == digests_of(0, 2) + digests_of(1, 1)
    table.record(2, "y", digests_of(2, 2))
    assert table.all_digests(3) is None


def test_what_is_told_anew_takes_no_room_twice() -> None:
    table = PartTable(4 * MIB)
    for number in range(3):
        table.record(number, "opaque", None)
    table.record(0, part_etag(digests_of(0, 1)), digests_of(0, 1))
    table.drop(1)
    assert list(table._other) == [2]
    assert (len(table), table.etag(1), table.etag(2)) == (2, None, "opaque")


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("block_size", [MIB, 4 * MIB, 8 * MIB])
def test_many_plain_parts_at_once_are_as_one_by_one(first: int, block_size: int) -> None:
    """Behind the others, among them, and with a gap; whatever the size of a part."""
    at_once, singly = PartTable(block_size), PartTable(block_size)
    for table in (at_once, singly):
        for number in range(3):
            table.record(number, f"opaque-{number}", None)
    digests = digests_of(1, 3)
    at_once.record_plain(first, digests)
    for number in range(3):
        digest = digests[number * 20 : (number + 1) * 20]
        singly.record(first + number, part_etag(digest), digest)
    assert list(at_once.etags()) == list(singly.etags())
    assert (len(at_once), at_once.pause, at_once.end) == (len(singly), singly.pause, singly.end)
    assert [at_once.digests(n) for n in range(8)] == [singly.digests(n) for n in range(8)]


def test_plain_parts_come_out_at_once_where_all_are_plain() -> None:
    table = PartTable(4 * MIB)
    digests = digests_of(1, 6)
    table.record_plain(0, digests)
    assert table.plain(0, 6) == digests
    assert table.plain(2, 5) == digests[40:100]
    assert table.plain(0, 7) is None
    table.record(3, "opaque", digests[60:80])
    assert table.plain(2, 5) is None and table.plain(4, 6) == digests[80:]
    assert table.plain(3, 4) is None
    table.drop(0)
    assert table.plain(0, 2) is None
    long = PartTable(8 * MIB)
    long.record_plain(0, digests)
    assert long.plain(0, 6) is None, "a part of several blocks has other digests as well"


def test_how_far_digests_are_written_beside_the_etags() -> None:
    table = PartTable(4 * MIB)
    assert table.last_extra == -1
    table.record(0, "opaque", None)
    table.record(1, part_etag(digests_of(1, 1)), digests_of(1, 1))
    assert table.last_extra == -1, "the ETag says it, or nobody does"
    table.record(0, "opaque", digests_of(0, 1))
    assert table.last_extra == 0
    table.record(3, object_etag(digests_of(3, 1)), digests_of(3, 1))
    table.record(5, "opaque", None)
    assert table.last_extra == 3


def test_the_first_part_that_is_not_up() -> None:
    table = PartTable(4 * MIB)
    table.record(1, "e", None)
    assert table.pause == 0
    table.record(0, "e", None)
    assert table.pause == 2
    table.drop(1)
    assert table.pause == 1


@pytest.mark.parametrize("block_size", [MIB, 4 * MIB, 8 * MIB])
def test_the_digests_of_all_parts(block_size: int) -> None:
    """What the object's ETag is reckoned from; nothing where one is missing."""
    table, slots = PartTable(block_size), -(-block_size // BLOCK)
    known = [digests_of(number, slots) for number in range(4)]
    for number in (0, 1, 3):
        table.record(number, "e", known[number])
    assert table.all_digests(1) == known[0]
    assert table.all_digests(2) == known[0] + known[1]
    assert table.all_digests(3) is table.all_digests(4) is None
    table.record(2, "e", None)
    assert table.all_digests(4) is None
    table.record(2, "e", known[2])
    assert table.all_digests(4) == b"".join(known)
    assert table.all_digests(5) is None
    table.drop(0)
    assert table.all_digests(4) is None
