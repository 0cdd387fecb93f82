"""What to do after a failure: wait, go to the back of the queue, probe, or give up. Pure.

No clock, no sleep, no random source of its own: times are arguments, in seconds of one monotonic
clock. The states:

- A part has `attempts` attempts, with growing waits between them.
- When they are used up while other parts get through, the part goes to the back of the queue,
  at most ten times: the trouble is that part's.
- When they are used up and nothing has got through since its first failure, it is an outage: one
  probe at a time, until something gets through or patience ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ufile_cli.errors import IntegrityError, ServerError, UFileError

__all__ = ["BACK_AT_MOST", "Decision", "Outage", "RetryPolicy", "Trial", "decide"]

BACK_AT_MOST = 10
"""How often a part goes to the back of the queue."""

_LONGEST_WAIT = 60.0


class RetryPolicy(NamedTuple):
    """How stubborn an upload is.

    Attributes:
        attempts: attempts in all for each part and call, at least 1.
        interval: seconds before the second attempt.
        patience: seconds to go on although nothing gets through; None for ever, 0 not at all.
    """

    attempts: int = 3
    interval: float = 5.0
    patience: float | None = 300.0

    def wait(self, failures: int, jitter: float) -> float:
        """Seconds to wait after the n-th failure in a row.

        Args:
            jitter: a random number from 0 to 1; the first wait is exact, later ones spread, so
                that a thousand clients don't come back at the same moment.
        """
        if failures <= 1:
            return min(self.interval, _LONGEST_WAIT)
        doubled = min(self.interval * 2.0 ** min(failures - 1, 20), _LONGEST_WAIT)
        return float(doubled * (0.5 + 0.5 * jitter))


@dataclass(slots=True)
class Trial:
    """How often one part or call was tried.

    Attributes:
        attempt: attempts begun in this round.
        rounds: how often it went to the back of the queue.
        failed_first: when the first failure of this round came.
        stale: failures on stale connections since the last real attempt; those don't count.
    """

    attempt: int = 0
    rounds: int = 0
    failed_first: float | None = None
    stale: int = 0

    def anew(self) -> None:
        """A new round begins."""
        self.attempt = 0
        self.failed_first = None


@dataclass(slots=True)
class Outage:
    """Whether anything gets through.

    Attributes:
        since: when the first failure came that no success has followed; None while all is well.
        active: one probe at a time.
        probes: failed probes in a row.
        last_success: when something got through last.
    """

    since: float | None = None
    active: bool = False
    probes: int = 0
    last_success: float | None = None

    def succeeded(self, now: float) -> float | None:
        """Something got through; how long nothing did, where that was an outage."""
        ended = now - self.since if self.active and self.since is not None else None
        self.since, self.active, self.probes, self.last_success = None, False, 0, now
        return ended

    def failed(self, now: float) -> None:
        """Something did not get through."""
        if self.since is None:
            self.since = now


class Decision(NamedTuple):
    """What follows a failure.

    Attributes:
        action: `retry` (the same part, after the wait), `back` (to the back of the queue),
            `probe` (an outage: one at a time, after the wait) or `give_up`.
        wait: seconds.
    """

    action: str
    wait: float = 0.0


def decide(
    error: UFileError,
    trial: Trial,
    outage: Outage,
    policy: RetryPolicy,
    now: float,
    jitter: float,
) -> Decision:
    """What to do after `error`; `trial` and `outage` know of it already."""
    if not error.transient:
        return Decision("give_up")
    asked = error.retry_after if isinstance(error, ServerError) else None
    left = _patience_left(outage, policy, now)
    if trial.attempt < policy.attempts and not outage.active:
        wait = policy.wait(trial.attempt, jitter)
        if asked is not None:
            # What the server asks for counts instead, up to the patience.
            wait = asked if left is None else min(asked, max(left, wait))
        return Decision("retry", wait)
    spent = trial.attempt >= policy.attempts
    if policy.patience == 0 or (isinstance(error, IntegrityError) and spent):
        return Decision("give_up")
    others_get_through = (
        outage.last_success is not None
        and trial.failed_first is not None
        and outage.last_success > trial.failed_first
    )
    if others_get_through and not outage.active:
        if trial.rounds >= BACK_AT_MOST:
            return Decision("give_up")
        wait = policy.wait(1, jitter) if asked is None else asked
        return Decision("back", wait if left is None else min(wait, max(left, 0.0)))
    if left is not None and left <= 0:
        return Decision("give_up")
    wait = asked if asked is not None else policy.wait(outage.probes + 1, jitter)
    return Decision("probe", wait if left is None else min(wait, left))


def _patience_left(outage: Outage, policy: RetryPolicy, now: float) -> float | None:
    if policy.patience is None:
        return None
    since = outage.since if outage.since is not None else now
    return since + policy.patience - now
