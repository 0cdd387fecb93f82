"""Clients that keep the server waiting, and for how long it bears them: on a clock of the tests."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ufile_cli.emulator.connection import Body, Connection, Disconnected, Patience
from ufile_cli.emulator.server import Emulator

IDLE = 60.0
HEAD = b"PUT /k HTTP/1.1\r\nHost: demo.127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"


class Slow:
    """A socket whose every byte takes time, on a clock that nobody waits for."""

    def __init__(self, pieces: Iterator[tuple[float, bytes]], takes: int = 1) -> None:
        self.now = 1000.0
        self.timeout = IDLE
        self.taken = 0
        self._pieces = pieces
        self._takes = takes

    def clock(self) -> float:
        return self.now

    def setsockopt(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self.timeout = seconds

    def recv(self, count: int) -> bytes:
        seconds, piece = next(self._pieces, (0.0, b""))
        assert len(piece) <= count
        if seconds >= self.timeout:
            self.now += self.timeout
            raise TimeoutError("timed out")
        self.now += seconds
        return piece

    def recv_into(self, view: memoryview) -> int:
        piece = self.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def send(self, data: memoryview) -> int:
        self.now += 1
        count = min(len(data), self._takes)
        self.taken += count
        return count


def connection(slow: Slow) -> Connection:
    made: Any = slow
    return Connection(made, 1, IDLE, slow.clock)


def trickle(data: bytes, seconds: float) -> Iterator[tuple[float, bytes]]:
    return ((seconds, data[at : at + 1]) for at in range(len(data)))


def test_a_head_has_an_end() -> None:
    slow = Slow(trickle(HEAD, 5))
    with pytest.raises(Disconnected):
        connection(slow).read_head()
    assert slow.now - 1000 <= 5 + IDLE  # from its first byte on
    quick = Slow(trickle(HEAD, 0.5))
    assert connection(quick).read_head() == HEAD[:-4]
    assert quick.timeout == IDLE  # as before, for the body


def test_empty_lines_do_not_put_it_off() -> None:
    slow = Slow(trickle(b"\r\n" * 1000, 5))
    with pytest.raises(Disconnected):
        connection(slow).read_head()
    assert slow.now - 1000 <= 5 + IDLE


def test_a_connection_that_waited_for_long_gets_its_whole_time() -> None:
    slow = Slow(iter([(IDLE - 1, HEAD[:20]), (IDLE - 1, HEAD[20:])]))
    assert connection(slow).read_head() == HEAD[:-4]


def test_a_second_head_that_came_with_the_first_has_an_end_too() -> None:
    slow = Slow(iter([(0, HEAD + HEAD[:9]), *trickle(HEAD[9:], 5)]))
    talking = connection(slow)
    talking.read_head()
    with pytest.raises(Disconnected):
        talking.read_head()
    assert slow.now - 1000 <= IDLE


def read_all(slow: Slow, length: int | None) -> int:
    """Read a body to its end, and say how much it was."""
    body = Body(connection(slow), length)
    view = memoryview(bytearray(65536))
    while not body.ended:
        body.read_into(view)
    return body.received


@pytest.mark.parametrize("seconds", [0.011, 1, 59])
def test_a_body_that_trickles_has_an_end(seconds: float) -> None:
    slow = Slow(trickle(b"x" * 1_000_000, seconds))
    with pytest.raises(Disconnected, match="slow"):
        read_all(slow, 1_000_000)
    assert slow.now - 1000 <= IDLE * 12


def test_what_was_quick_before_is_no_excuse() -> None:
    pieces = [(0.0, bytes(65536))] * 1000
    slow = Slow(iter([*pieces, *trickle(b"x" * 1000, 10)]))
    with pytest.raises(Disconnected, match="slow"):
        read_all(slow, 65536 * 1001)
    assert slow.now - 1000 <= 2 * IDLE


def test_chunks_that_trickle_have_an_end() -> None:
    for text in (b"1\r\nx\r\n" * 5000, b"5;" + b"x" * 4000, b"0\r\n" + b"A: b\r\n" * 5000):
        slow = Slow(trickle(text, 0.5))
        with pytest.raises(Disconnected, match="slow"):
            read_all(slow, None)
        assert slow.now - 1000 <= 2 * IDLE


@pytest.mark.parametrize(
    "piece", [(1.0, bytes(4096)), (16.0, bytes(65536)), (0.25, bytes(25)), (50.0, bytes(5000))]
)
def test_slow_lines_are_no_slow_clients(piece: tuple[float, bytes]) -> None:
    """4 KB a second, in whatever portions; and what is left of that to each of forty parts."""
    slow = Slow(iter([piece] * 1000))
    assert read_all(slow, 1000 * len(piece[1])) == 1000 * len(piece[1])


def test_a_client_that_takes_next_to_nothing() -> None:
    slow = Slow(iter(()), takes=50)
    with pytest.raises(Disconnected, match="slow"):
        connection(slow).send(bytes(1_000_000))
    assert slow.now - 1000 <= 3 * IDLE
    fair = Slow(iter(()), takes=4096)
    connection(fair).send(b"head", bytes(10_000_000))
    assert fair.taken == 10_000_004  # 40 minutes, of which no 60 seconds were wasted


def test_each_request_begins_anew() -> None:
    again: list[tuple[float, bytes]] = [(0, HEAD.replace(b"1000000", b"2")), (45, b"x"), (0, b"y")]
    slow = Slow(iter(again * 20))
    talking = connection(slow)
    for _ in range(20):
        assert talking.read_head()
        body = Body(talking, 2)
        while not body.ended:
            body.read_into(memoryview(bytearray(10)))


@pytest.mark.parametrize(
    "waits", [lambda: iter([61.0]), lambda: iter([59.0, 1.5]), lambda: iter([1.0] * 62)]
)
def test_patience_is_one_account(waits: Callable[[], Iterator[float]]) -> None:
    patience = Patience(60, slowest=100)
    patience.waited(0, 10**9)  # no more than it began with
    with pytest.raises(Disconnected):
        for seconds in waits():
            patience.waited(seconds, 1)


def test_the_server_goes_by_it(tmp_path: Path) -> None:
    """On a clock by which each wait for a client takes 100 seconds, one byte is too late."""
    ticks = itertools.count(step=100)
    with Emulator(tmp_path, clock=lambda: float(next(ticks))) as emulator:
        with socket.create_connection(("127.0.0.1", emulator.port), timeout=20) as sock:
            sock.sendall(HEAD)
            emulator.wait_for("put", stage="arrived")
            sock.sendall(b"x")
            assert sock.recv(1) == b""
        emulator.wait_for("put")
        assert [record.status for record in emulator.requests] == [None]
        assert emulator.errors == []
