"""`-j auto` on simulated lines: where it ends, and how fast beside the best fixed number.

The lines share as real ones do: at every moment, whatever moves has the same rate. Times and noise
come from a seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from math import exp, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.multipart.concurrency import FEWEST, MOST, START, Concurrency

MIB = 1024 * 1024
PART = 4 * MIB
FIXED = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Line:
    """A way to a server.

    Attributes:
        each: bytes a second that one connection brings at most.
        total: those that all bring together at most.
        latency: seconds before an answer, and to open a connection.
        noise: how much parts differ, and the line from one moment to the next.
        moment: the seconds of that.
        busy_above: parts in flight above which a new one will be refused; it comes again a second
            after that.
        crowd: what is left of the rate with so many.
        later: from that second on the line is another one.
    """

    each: float = inf
    total: float = inf
    latency: float = 0.05
    noise: float = 0.15
    moment: float = 0.05
    busy_above: int = MOST
    crowd: Callable[[int], float] = lambda flying: 1.0
    later: tuple[float, Line] | None = None

    def rate(self, moving: int, now: float) -> float:
        if self.later is not None and now >= self.later[0]:
            return self.later[1].rate(moving, now)
        return min(self.each, self.total / moving) * self.crowd(moving)


WAN = Line(8 * MIB)
SHARED = Line(8 * MIB, 100 * MIB)
NARROW = Line(8 * MIB, 20 * MIB)
SLOW = Line(8 * MIB, 1 * MIB, moment=5.0)
BUSY = Line(8 * MIB, busy_above=16)
CPU = Line(500 * MIB, 1000 * MIB, latency=0.0005)
CROWDED = Line(100 * MIB, 800 * MIB, latency=0.02, crowd=lambda n: 1 / (1 + max(0, n - 8) / 50))
NAMES = {
    "wan": WAN,
    "shared": SHARED,
    "narrow": NARROW,
    "slow": SLOW,
    "busy": BUSY,
    "cpu": CPU,
    "crowded": CROWDED,
}


@dataclass(frozen=True, order=True)
class Flying:
    """One part in flight; what it waits for first, the bytes that everybody moved or a time."""

    until: float
    order: int
    began: float = field(compare=False)
    work: float = field(compare=False)
    refused: bool = field(compare=False)


@dataclass
class Sent:
    """What came of an upload.

    Attributes:
        numbers: the threads that there were, with the second from which on.
    """

    seconds: float = 0.0
    settled: int = 0
    refused: int = 0
    numbers: list[tuple[float, int]] = field(default_factory=list)

    def most(self, since: float = 0.0) -> int:
        return max(number for second, number in self.numbers if second >= since)


def send(line: Line, parts: int, threads: int | None, *, seed: int = 1) -> Sent:
    """An upload with so many threads, or with `-j auto`."""
    weather, chance = random.Random(seed), random.Random(seed + 1000)
    auto = Concurrency(now=0.0)
    sent, now, moved, factor, factor_until = Sent(), 0.0, 0.0, 1.0, 0.0
    opening: list[Flying] = []
    moving: list[Flying] = []
    answered: list[Flying] = []
    again: list[float] = []
    left, done, opened, order = parts, 0, 0, 0
    while done < parts:
        number = auto.threads if threads is None else threads
        if not sent.numbers or sent.numbers[-1][1] != number:
            sent.numbers.append((now, number))
        while (flying := len(opening) + len(moving) + len(answered)) < number:
            if again and again[0] <= now:
                heapq.heappop(again)
            elif left:
                left -= 1
            else:
                break
            order += 1
            work = PART * exp(chance.gauss(0, line.noise))
            part = Flying(moved + work, order, now, work, flying >= line.busy_above)
            if flying >= opened:
                opened += 1
                heapq.heappush(opening, replace(part, until=now + line.latency))
            else:
                heapq.heappush(moving, part)
        rate = line.rate(len(moving), now) * factor if moving else 0.0
        times = [factor_until, *(queue[0].until for queue in (opening, answered) if queue)]
        if moving:
            times.append(now + max(0.0, moving[0].until - moved) / rate)
        if again and flying < number:
            times.append(max(now, again[0]))
        if line.later is not None and now < line.later[0]:
            times.append(line.later[0])
        moved, now = moved + rate * (min(times) - now), min(times)
        if now >= factor_until:
            factor, factor_until = exp(weather.gauss(0, line.noise)), now + line.moment
        while moving and moving[0].until <= moved + 0.001:
            part = heapq.heappop(moving)
            wait = line.latency * (1 + chance.random() / 10)
            heapq.heappush(answered, replace(part, until=now + wait))
        while opening and opening[0].until <= now:
            part = heapq.heappop(opening)
            heapq.heappush(moving, replace(part, until=moved + part.work))
        if answered and answered[0].until <= now:
            part = heapq.heappop(answered)
            if part.refused:
                sent.refused += 1
                heapq.heappush(again, now + 1.0)
                auto.trouble(part.began, now)
            else:
                done += 1
                auto.sent(PART, part.began, now, flying)
    sent.seconds, sent.settled = now, auto.settled
    return sent


@cache
def best(name: str, parts: int, seed: int) -> float:
    """Seconds with the best fixed number; of those that a server refuses no parts of."""
    line = NAMES[name]
    fixed = [threads for threads in FIXED if threads <= line.busy_above]
    return min(send(line, parts, threads, seed=seed).seconds for threads in fixed)


# -- how fast -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "seed"), [(1024, 1), (1024, 2), (1024, 3), (4096, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_within_a_tenth_of_the_best(name: str, parts: int, seed: int) -> None:
    assert send(NAMES[name], parts, None, seed=seed).seconds < 1.1 * best(name, parts, seed)


@pytest.mark.parametrize(
    ("name", "most"),
    [("cpu", 1.1), ("narrow", 1.1), ("slow", 1.1), ("shared", 1.15), ("busy", 1.2), ("wan", 1.3)],
)
def test_a_gibibyte_is_short_for_what_has_to_be_found_out(name: str, most: float) -> None:
    # Of 256 parts, 64 threads send four each: not to begin with 64 is a round of five.
    assert send(NAMES[name], 256, None).seconds < most * best(name, 256, 1)


# -- where it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    [
        ("wan", MOST, MOST),
        ("shared", 13, 24),
        ("narrow", FEWEST, 8),
        ("slow", FEWEST, 8),
        ("busy", 12, 16),
        ("cpu", FEWEST, 8),
        ("crowded", 8, 20),
    ],
)
def test_the_number_it_comes_to(name: str, fewest: int, most: int, seed: int) -> None:
    assert fewest <= send(NAMES[name], 1024, None, seed=seed).settled <= most


def test_a_full_cpu_needs_no_more_than_it_begins_with() -> None:
    assert send(CPU, 512, None).most() == START


def test_few_parts_are_sent_with_what_it_begins_with() -> None:
    assert send(WAN, START, None).settled == START


def test_a_slow_line_is_not_filled_with_parts() -> None:
    # Each of them is 4 s of it, and lost with a kill -9.
    assert send(SLOW, 256, None).most() == 2 * START


def test_a_server_that_said_503_is_seldom_tried_again() -> None:
    sent = send(BUSY, 4096, None)
    assert sent.refused < 4096 / 20
    assert sent.most(since=5.0) <= 24


# -- lines that change ----------------------------------------------------------------------------


def ends_with(line: Line, parts: int = 4096) -> int:
    return send(line, parts, None).settled


def test_others_leave_the_line() -> None:
    assert ends_with(replace(SHARED, later=(20.0, WAN)), 8192) >= 50


def test_others_come_to_the_line() -> None:
    assert ends_with(replace(WAN, later=(10.0, SHARED)), 8192) <= 32


def test_a_line_that_gets_slower_for_each_is_not_held_for_a_full_one() -> None:
    assert ends_with(replace(WAN, later=(10.0, Line(2 * MIB)))) == MOST


# -- what holds whatever happens ------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "sent", "sent", "trouble", "anew"]),
        st.floats(0.001, 30.0),  # seconds that it took
        st.integers(1, PART),
        st.integers(1, 70),  # how often
    ),
    max_size=60,
)


@given(st.integers(1, MOST), st.integers(1, MOST), EVENTS)
def test_never_less_than_one_never_more_than_the_most(
    most: int, later: int, events: list[tuple[str, float, int, int]]
) -> None:
    auto, now, halved_at = Concurrency(most, now=0.0), 0.0, -1.0
    for step, (what, seconds, size, times) in enumerate(events):
        if step == 30:
            most = later
            auto.limit(later)
        for _ in range(times):
            began, now = now, now + seconds
            if what == "sent":
                auto.sent(size, began, now, auto.threads)
            elif what == "trouble":
                before, settled = auto.threads, auto.settled
                auto.trouble(began, now)
                if began > halved_at:
                    halved_at = now
                    assert auto.threads in {max(1, before // 2), min(settled, before - 1)}
                else:
                    assert auto.threads == before
            else:
                auto.anew(now)
            assert 1 <= auto.threads <= most
            assert 1 <= auto.settled <= most


def test_trouble_of_what_was_in_flight_halves_once() -> None:
    auto = Concurrency(now=0.0)
    auto.threads = auto.settled = 32
    for step in range(32):
        auto.trouble(1.0, 2.0 + step / 100)
    assert auto.threads == 16
    auto.trouble(2.5, 3.0)
    assert auto.threads == 8


def test_trouble_while_more_are_tried_goes_back_to_what_was_good() -> None:
    sent = send(replace(BUSY, busy_above=20), 1024, None)
    numbers = [number for second, number in sent.numbers if second > 5.0]
    assert min(numbers) >= 16


def test_after_an_outage_it_begins_anew() -> None:
    auto = Concurrency(now=0.0)
    for second in range(1, 10):
        auto.trouble(second - 0.5, float(second))
    assert auto.threads == 1
    auto.anew(60.0)
    assert auto.threads == START


def test_threads_that_were_not_used_say_nothing() -> None:
    auto, now = Concurrency(now=0.0), 0.0
    for _ in range(1000):
        now += 0.5
        auto.sent(PART, now - 0.5, now, 2)
    assert auto.threads == START
