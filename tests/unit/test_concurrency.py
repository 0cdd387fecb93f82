"""`-j auto` on simulated lines: where it ends, and how fast beside the best fixed number."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from ufile_cli.multipart.concurrency import FEWEST, MOST, Concurrency

PART = 4 * 1024 * 1024
MIB = 1024 * 1024

Line = Callable[[int], float]
"""Seconds that a part takes while so many are in flight."""


def wan(connections: int) -> float:
    return 0.05 + PART / (8 * MIB)


def shared(rate: float, *, each: float = 8 * MIB) -> Line:
    """A line that all share, each connection with a limit of its own."""
    return lambda flying: 0.05 + PART / min(each, rate / flying)


def crowded(flying: int) -> float:
    """Best with eight; beyond that each one more slows all down."""
    return 0.02 + 0.004 * flying + 0.0015 * max(0, flying - 8) ** 2


def send(
    line: Line, parts: int, threads: int | None, *, refused_above: int = 0
) -> tuple[float, int]:
    """Seconds until so many parts are through, and the threads at the end."""
    now, left = 0.0, parts
    auto = Concurrency(now=0.0)
    flying: list[tuple[float, int]] = []
    while left or flying:
        number = threads if threads is not None else auto.threads
        while left and len(flying) < number:
            left -= 1
            heapq.heappush(flying, (now + line(len(flying) + 1), len(flying) + 1))
        now, began_with = heapq.heappop(flying)
        if refused_above and began_with > refused_above:
            left += 1
            auto.trouble(now)
        else:
            auto.sent(PART, now)
    return now, auto.settled


@pytest.mark.parametrize(
    ("line", "parts", "fixed"),
    [
        (wan, 4096, (4, 16, 64)),
        (shared(100 * MIB), 4096, (4, 8, 16, 64)),
        (shared(20 * MIB), 2048, (1, 2, 4, 16)),
        (crowded, 8192, (4, 8, 16, 64)),
    ],
    ids=["wan", "shared", "narrow", "crowded"],
)
def test_within_a_tenth_of_the_best(line: Line, parts: int, fixed: tuple[int, ...]) -> None:
    best = min(send(line, parts, threads)[0] for threads in fixed)
    assert send(line, parts, None)[0] < 1.1 * best


def test_climbs_to_the_most_where_that_helps() -> None:
    assert send(wan, 2048, None)[1] == MOST


def test_few_threads_where_more_bring_nothing() -> None:
    assert send(shared(20 * MIB), 4096, None)[1] <= 2 * FEWEST


def test_backs_off_where_the_server_is_busy() -> None:
    assert send(wan, 2048, None, refused_above=16)[1] <= 24


def test_one_trouble_halves_once() -> None:
    auto = Concurrency(now=0.0)
    auto.threads = auto.settled = 32
    for step in range(10):
        auto.trouble(step / 100)
    assert auto.threads == 16
    auto.trouble(5.0)
    assert auto.threads == 8


def test_never_less_than_one_never_more_than_the_most() -> None:
    auto = Concurrency(6, now=0.0)
    now = 0.0
    for _ in range(2000):
        now += 0.1
        auto.sent(PART * auto.threads, now)
        assert 1 <= auto.threads <= 6
    for step in range(20):
        auto.trouble(now + 10.0 * step)
    assert auto.threads == 1
    auto.limit(3)
    assert auto.threads == 1
