"""The parts of a source: how many, and where each one begins and ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ufile_cli.errors import UsageError

__all__ = ["MAX_OBJECT_SIZE", "Plan"]

MAX_OBJECT_SIZE = 5 * 10**12
"""Bytes of an object at most: 5 TB by the product's manual."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A source of `size` bytes cut into parts of `block_size` bytes, the last one shorter."""

    size: int
    block_size: int

    def __post_init__(self) -> None:
        if self.size < 0 or self.block_size < 1:
            raise ValueError("a size of at least 0 and a block size of at least 1 are needed")

    @property
    def count(self) -> int:
        """How many parts there are; an empty source has none."""
        return -(-self.size // self.block_size)

    def offset(self, number: int) -> int:
        """Where the part begins, in bytes from the source's beginning."""
        return number * self.block_size

    def length(self, number: int) -> int:
        """Bytes of the part: the block size, or what is left of it for the last one.

        Raises:
            IndexError: there is no such part.
        """
        if not 0 <= number < self.count:
            raise IndexError(f"there is no part {number} of {self.count}")
        return min(self.block_size, self.size - number * self.block_size)


def check_size(size: int) -> None:
    """Refuse a source that no object can hold.

    Raises:
        UsageError: with the limit.
    """
    if size > MAX_OBJECT_SIZE:
        raise UsageError(
            f"the source has {size:,} bytes; an object holds 5 TB ({MAX_OBJECT_SIZE:,} bytes)"
        )
