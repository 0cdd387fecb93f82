"""The token bucket, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.multipart.ratelimit import RateLimit


class Clock:
    """Time that passes only where somebody sleeps or says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


@given(st.floats(1, 1e9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_one_thread_never_exceeds_the_rate(rate: float, sizes: list[int]) -> None:
    clock = Clock()
    limit = RateLimit(rate, clock=clock, sleep=clock.sleep)
    for size in sizes:
        limit.take(size)
        passed = clock.now - 100.0
    # A tenth of a second's worth may be caught up, no more.
    assert sum(sizes) <= rate * (passed + 0.1) * 1.000001 + 1
    assert passed <= sum(sizes) / rate + 1e-6


def test_threads_share_the_rate() -> None:
    """Sleepers that sleep side by side: each one's debt is behind those before it."""
    clock = Clock()
    waits: list[float] = []
    limit = RateLimit(1000, clock=clock, sleep=waits.append)
    for _ in range(4):
        limit.take(1000)
    assert waits == pytest.approx([0.9, 1.9, 2.9, 3.9], abs=0.11)


def test_idleness_is_no_burst() -> None:
    clock = Clock()
    limit = RateLimit(1000, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    limit.take(2000)
    assert clock.slept == [pytest.approx(1.9)]


def test_no_limit() -> None:
    limit = RateLimit(None, sleep=lambda _: pytest.fail("slept"))
    limit.take(10**12)
    assert limit.grain(12345) == 12345


@given(st.floats(1, 1e10), st.integers(1, 1 << 20))
def test_grain(rate: float, wanted: int) -> None:
    grain = RateLimit(rate).grain(wanted)
    assert 1 <= grain <= wanted
    assert grain <= max(4096, rate / 10)
