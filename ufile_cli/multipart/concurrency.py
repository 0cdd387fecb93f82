"""How many parts are in flight with `-j auto`: climbs while more threads bring more. Pure.

It is told what got through and what failed, and says a number. No clock, no thread of its own.

- **Climb**: start small; each time as many parts as threads got through, look whether that was at
  least a tenth faster than with half as many. While it is, double.
- **Hold**: else go back to the number that was best, and stay there.
- **Probe**: now and then try a few more, and a few fewer; keep what is better, and of two that are
  equal the smaller number, which costs the server less.
- **Trouble** (no connection, 5xx, 429): half of it, and a long hold.
"""

from __future__ import annotations

__all__ = ["FEWEST", "MOST", "Concurrency"]

FEWEST = 4
"""Threads to begin with."""

MOST = 64
"""Threads at most: what the memory of a whole command is bounded for."""

_GAIN = 1.1  # what twice as many threads have to bring
_PROBE_GAIN = 1.05  # what half as many more have to bring
_WINDOW = 0.25  # seconds that are measured at least
_HOLD = 5.0  # seconds between probes
_HOLD_AFTER_TROUBLE = 30.0


class Concurrency:
    """The number of threads of one upload.

    Args:
        most: never more than this.
        now: seconds of a monotonic clock, as everywhere here.

    Attributes:
        threads: parts that may be in flight now.
        settled: the number that was best so far.
    """

    def __init__(self, most: int = MOST, *, now: float) -> None:
        self.most = most
        self.threads = self.settled = min(FEWEST, most)
        self._phase = "climb"
        self._best = 0.0  # bytes a second with `settled` threads
        self._hold_until = 0.0
        self._up = True
        self._skip = 0
        self._begin(now)

    def limit(self, most: int) -> None:
        """Never more than this from now on."""
        self.most = max(1, most)
        self.threads, self.settled = min(self.threads, most), min(self.settled, most)

    def sent(self, size: int, now: float) -> None:
        """A part got through."""
        if self._skip > 0:
            # It was under way before the number changed.
            self._skip -= 1
            if self._skip == 0:
                self._begin(now)
            return
        self._bytes += size
        self._parts += 1
        seconds = now - self._begun
        if self._parts < self.threads or seconds < _WINDOW:
            return
        rate = self._bytes / seconds
        getattr(self, f"_{self._phase}")(rate, now)
        self._begin(now)

    def trouble(self, now: float) -> None:
        """A part failed by the network's or the server's fault."""
        if self._phase != "hold" or now > self._halved_at + 1.0:
            self.threads = self.settled = max(1, self.threads // 2)
            self._halved_at = now
        self._phase, self._best = "hold", 0.0
        self._hold_until = now + _HOLD_AFTER_TROUBLE
        self._begin(now)

    _halved_at = float("-inf")

    def _begin(self, now: float) -> None:
        self._begun, self._bytes, self._parts = now, 0, 0

    def _climb(self, rate: float, now: float) -> None:
        if rate > self._best * _GAIN:
            self._best, self.settled = rate, self.threads
            if self.threads < self.most:
                self.threads = min(self.most, self.threads * 2)
                return
        self._settle(now)

    def _hold(self, rate: float, now: float) -> None:
        self._best = rate if not self._best else 0.7 * self._best + 0.3 * rate
        if now < self._hold_until:
            return
        step = max(1, self.settled // 2 if self._up else self.settled // 4)
        tried = self.settled + step if self._up else self.settled - step
        tried = max(1, min(self.most, tried))
        self._up = not self._up
        if tried == self.settled:
            self._hold_until = now + _HOLD
            return
        self._phase, self.threads, self._skip = "probe", tried, self.settled

    def _probe(self, rate: float, now: float) -> None:
        more = self.threads > self.settled
        if rate > self._best * (_PROBE_GAIN if more else 0.99):
            self._best, self.settled = rate, self.threads
            if more:
                self._phase = "climb"
                self.threads = min(self.most, self.threads * 2)
                return
        self._settle(now)

    def _settle(self, now: float) -> None:
        self._phase, self._hold_until = "hold", now + _HOLD
        if self.threads != self.settled:
            self._skip = self.threads
            self.threads = self.settled
