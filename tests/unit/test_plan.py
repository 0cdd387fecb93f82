"""The parts tile the source exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.errors import UsageError
from ufile_cli.multipart.plan import MAX_OBJECT_SIZE, Plan, check_size

MIB = 1024 * 1024


@given(st.integers(0, 5000), st.integers(1, 300))
def test_parts_tile_the_source(size: int, block_size: int) -> None:
    plan = Plan(size, block_size)
    position = 0
    for number in range(plan.count):
        assert plan.offset(number) == position
        length = plan.length(number)
        assert 1 <= length <= block_size
        assert length == block_size or number == plan.count - 1
        position += length
    assert position == size


@given(st.integers(1, MAX_OBJECT_SIZE), st.sampled_from([MIB, 4 * MIB, 8 * MIB, 5 * MIB + 1]))
def test_large_sources(size: int, block_size: int) -> None:
    plan = Plan(size, block_size)
    last = plan.count - 1
    assert plan.offset(last) + plan.length(last) == size
    assert plan.count == 1 or plan.length(0) == block_size


@pytest.mark.parametrize("number", [-1, 3, 4, 10**9])
def test_there_is_no_such_part(number: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        Plan(21, 10).length(number)
    assert Plan(0, 10).count == 0


@pytest.mark.parametrize(("size", "block_size"), [(-1, 4), (1, 0), (1, -4)])
def test_nonsense(size: int, block_size: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        Plan(size, block_size)


def test_parts_of_one_byte() -> None:
    plan = Plan(3, 1)
    assert (plan.count, plan.offset(2), plan.length(2)) == (3, 2, 1)


def test_the_largest_object() -> None:
    check_size(MAX_OBJECT_SIZE)
    with pytest.raises(UsageError, match="5 TB"):
        check_size(MAX_OBJECT_SIZE + 1)
