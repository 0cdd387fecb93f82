"""A token bucket that all threads of an upload share: bytes a second over all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["RateLimit"]


class RateLimit:
    """Lets `rate` bytes a second pass, whoever asks.

    Debts are allowed: a caller takes what it needs at once and sleeps off what that was too much,
    so that a block larger than a second's worth passes and the average still holds.

    Args:
        rate: bytes a second, None for no limit.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()
        # A tenth of a second may be caught up: pauses between parts must not cost throughput,
        # a long idle time must not become a burst.
        self._burst = 0.1

    def grain(self, wanted: int) -> int:
        """How many bytes to ask for at a time, so that a slow rate still flows evenly."""
        if self.rate is None:
            return wanted
        return max(1, min(wanted, max(4096, int(self.rate / 10))))

    def take(self, size: int) -> None:
        """Wait until `size` bytes may pass."""
        if self.rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - self._burst) + size / self.rate
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)
