"""How many parts are in flight with `-j auto`. Pure: no clock, no thread, no I/O of its own.

It is told of each part that got through, how long that took, and of trouble; it says a number.

- What one connection brings while the line is not full is `alone`; what all together bring is
  `best`. **`best / alone` threads are enough**, with a few to spare.
- **Climb**: start with 8. While a connection brings about what it did with fewer, the line is not
  full: many more at once where parts take long, for waiting is what costs. Where they are short,
  double, after a **glance** at 4, which may do.
- **Look**: where it is full, down to what is enough, and to half of that while half brings as much.
- **Hold**: stay there; now and then, ever more rarely, **try** half as many more. Where it brings
  much less than it did, look again.
- **Trouble** (no connection, 5xx, 429) halves it, once for what was in flight; from then on only
  half the way to where trouble came, until that many got through in peace.
"""

from __future__ import annotations

from math import ceil

__all__ = ["FEWEST", "MOST", "START", "Concurrency"]

FEWEST = 4
"""It goes below that only where there is trouble: what everybody gets who does not ask for it."""

START = 8
"""Threads to begin with."""

MOST = 64
"""Threads at most: what the memory of a whole command is bounded for."""

_FURTHEST = 8  # times as many threads in one step
_LONG = 8.0  # seconds that a round of a full line may take after a step
_SHORT = 0.25  # seconds of a part so short that nothing is lost by small steps
_SLOWED = 0.75  # a connection that brings less than this of what it did has to share
_AS_MUCH = 0.93  # what half as many threads have to bring to be enough
_SPARE = 1.2  # threads beyond those that are enough
_MORE = 1.1  # what half as many more have to bring
_FALLEN = 0.6  # of the best: look again
_USED = 0.7  # of the threads that were in flight; with fewer, nothing is learnt
_ROUNDS = {"climb": 3, "glance": 4, "look": 2, "hold": 2, "try": 2}
_WINDOW = 0.5  # seconds that are looked at, at least, once it has climbed
_PAUSE = 5.0  # seconds before the first try
_PAUSE_AFTER_TROUBLE = 10.0
_LONGEST_PAUSE = 120.0


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
        self._pause = _PAUSE
        self._ceiling = 0  # trouble came with so many; 0: with none so far
        self._halved_at = float("-inf")
        self.anew(now)

    def anew(self, now: float) -> None:
        """Nothing is known any more of what the line can do: an outage has ended, say."""
        self.threads = self.settled = min(START, self.most)
        self._phase = "climb"
        self._alone = self._best = 0.0  # bytes a second
        self._try_at = 0.0
        self._unproven = False
        self._change(self.threads, now)

    def limit(self, most: int) -> None:
        """Never more than this from now on."""
        self.most = max(1, most)
        self.threads, self.settled = min(self.threads, self.most), min(self.settled, self.most)

    def sent(self, size: int, began: float, now: float, flying: int) -> None:
        """A part got through.

        Args:
            began: when it was handed out.
            flying: parts that were in flight when it came home, with this one.
        """
        if began < self._since:
            return  # it was under way before the number changed
        self._parts += 1
        self._bytes += size
        self._seconds += now - began
        self._flying += flying
        hasty = self._phase == "climb" and self._seconds >= _SHORT * self._parts
        if self._parts < self.threads * (0.5 if hasty else _ROUNDS[self._phase]):
            return
        if self._phase not in ("climb", "glance") and now - self._begun < _WINDOW:
            return
        each = self._bytes / max(self._seconds, 1e-9)
        part = self._seconds / self._parts
        used = self._flying >= _USED * self.threads * self._parts
        self._begin(now)
        if used:
            getattr(self, f"_{self._phase}")(each, part, now)

    def trouble(self, began: float, now: float) -> None:
        """A part failed by the network's or the server's fault."""
        if began <= self._halved_at:
            return
        self._halved_at, self._ceiling = now, self.threads
        half = max(1, self.threads // 2)
        self.settled = half if self.threads <= self.settled else max(self.settled, half)
        self._best = 0.0  # that of a number which will not come again soon
        again = 2 if self._phase == "try" else 1
        self._rest(now, max(_PAUSE_AFTER_TROUBLE, again * self._pause))

    # -- what a round of parts says -------------------------------------------------------------

    def _climb(self, each: float, part: float, now: float) -> None:
        first = not self._best
        self._learn(each)
        if first and part < _SHORT and self.threads > FEWEST:
            # A glance at fewer costs nothing here, and often says that more would bring nothing.
            self._phase = "glance"
            self._change(FEWEST, now)
        elif each >= _SLOWED * self._alone:
            self.settled = self.threads
            more = self._up(2.0 if part < _SHORT else min(_FURTHEST, max(2.0, _LONG / part)))
            if more > self.threads:
                self._change(more, now)
            else:
                self._rest(now)
        else:
            self.settled = min(self.threads, self._enough())
            self._rest(now)
            self._unproven = True

    def _glance(self, each: float, _part: float, now: float) -> None:
        self._learn(each)
        if self._enough() <= self.settled:
            do = each * self.threads >= _AS_MUCH * self._best
            self.settled = self.threads if do else self._enough()
            self._rest(now)
        else:
            self._phase = "climb"
            self._change(min(self.most, 2 * self.settled), now)

    def _look(self, each: float, _part: float, now: float) -> None:
        self._learn(each)
        if each * self.threads >= _AS_MUCH * self._best:
            self.settled = self.threads
            self._halve(now)
        else:
            self.settled = min(self.settled, self._enough())
            self._rest(now)

    def _hold(self, each: float, _part: float, now: float) -> None:
        brought = each * self.threads
        if self._unproven:
            # The climb's own numbers come from parts that did not all run side by side.
            self._unproven = False
            self._alone, self._best = max(self._alone, each), brought
            self._halve(now)
        elif brought < _FALLEN * self._best:
            # Slower connections, or a line that is full with fewer: after a round that has nothing
            # of better times any more, half of them will tell.
            self._unproven, self._alone, self._pause = True, 0.0, _PAUSE
        else:
            self._best = self._best + 0.2 * (brought - self._best) if self._best else brought
            if now >= self._try_at and self._up(1.5) > self.threads:
                self._phase = "try"
                self._change(self._up(1.5), now)

    def _try(self, each: float, part: float, now: float) -> None:
        if each * self.threads < _MORE * self._best:
            self._rest(now, 2 * self._pause)
            return
        self._pause, self._alone, self._phase = _PAUSE, each, "climb"
        self._climb(each, part, now)

    # -- small steps ----------------------------------------------------------------------------

    def _learn(self, each: float) -> None:
        self._alone = max(self._alone, each)
        self._best = max(self._best, each * self.threads)
        if self.threads >= self._ceiling:
            self._ceiling = 0

    def _enough(self) -> int:
        return max(1, ceil(_SPARE * self._best / self._alone))

    def _up(self, times: float) -> int:
        """So many times more, but towards the ceiling only half of what is left."""
        more = min(self.most, ceil(self.threads * times))
        if self._ceiling > self.threads:
            more = min(more, (self.threads + self._ceiling + 1) // 2)
        return more

    def _halve(self, now: float) -> None:
        if self.settled <= FEWEST:
            self._rest(now)
            return
        self._phase = "look"
        self._change(max(FEWEST, self.settled // 2), now)

    def _rest(self, now: float, pause: float = 0.0) -> None:
        """Stay with the number that was best; a pause that is given counts from now on."""
        self._pause = min(_LONGEST_PAUSE, pause or self._pause)
        self._phase, self._try_at = "hold", now + self._pause
        if self.threads != self.settled:
            self._change(self.settled, now)

    def _change(self, threads: int, now: float) -> None:
        self.threads, self._since = threads, now
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._begun = now
        self._parts = self._bytes = self._flying = 0
        self._seconds = 0.0
