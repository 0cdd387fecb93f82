"""The coordinator: hands tasks to workers, takes what comes back, and decides what follows.

Everything that happens reaches one inbox, and one thread decides: what to start, what to try
again and when, whether it is an outage, when to flush, when to stop. It never touches the network
or a source itself, so a signal is always heard at once.

`run` works through a feed of tasks, `call` through a single one. Both raise the first fatal
error, after the requests in flight had their grace.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from queue import Empty
from typing import Protocol, TypeVar, cast

from ufile_cli.errors import (
    CredentialsRefused,
    NetworkError,
    Stopped,
    UFileError,
)
from ufile_cli.multipart.concurrency import Concurrency
from ufile_cli.multipart.retry import Outage, RetryPolicy, Trial, decide
from ufile_cli.multipart.workers import Crew, Inbox, Outcome, Stop, StopAsked
from ufile_cli.progress import text
from ufile_cli.progress.events import (
    Notice,
    OutageBegan,
    OutageEnded,
    PartFailed,
    Sink,
)

__all__ = ["GRACE", "Drive", "Feed", "Task"]

GRACE = 3.0
"""Seconds that requests in flight get when the upload stops."""

_TICK = 1.0
_WAITING = 8
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Task:
    """Something a worker does, with what follows in the coordinator.

    Attributes:
        job: runs in a worker; raises the error tree.
        done: takes the job's value, in the coordinator.
        what: what a person calls it: `part 17`, `the part list`.
        number: the part number, None where it is none.
        begun: told the attempt's number, in the coordinator, before the job is handed out.
        remote: whether the server had to answer for the job to succeed.
        size: bytes that it sends; tells `-j auto` how much gets through, 0 where it says nothing.
        handed_out: when the last attempt began, by the drive's clock.
    """

    job: Callable[[], object]
    done: Callable[[object], None]
    what: str
    number: int | None = None
    begun: Callable[[int], None] | None = None
    remote: bool = True
    size: int = 0
    trial: Trial = field(default_factory=Trial)
    handed_out: float = 0.0


class Feed(Protocol):
    """Where tasks come from."""

    def next(self) -> Task | None:
        """A task that can start now, None where there is none at the moment."""

    def exhausted(self) -> bool:
        """Whether `next` will never give a task again."""

    def message(self, message: object) -> None:
        """Something reached the inbox that is not the drive's: a stream's reader, say."""


class _One:
    """The feed of a single task."""

    def __init__(self, task: Task) -> None:
        self._task: Task | None = task

    def next(self) -> Task | None:
        task, self._task = self._task, None
        return task

    def exhausted(self) -> bool:
        return self._task is None

    def message(self, message: object) -> None:
        raise RuntimeError(f"nobody waits for {message!r}")


class Drive:
    """One upload's coordinator.

    Args:
        threads: tasks in flight at most.
        auto: find a number up to that.
        rotated: reads the credentials anew; True where they are others than those refused, which
            it gets the tag of.
        tick: called about once a second; flushes the journal.
        clock, wall, jitter: time and chance, so that tests own them.
        grace: seconds that requests in flight get when it stops.
    """

    def __init__(
        self,
        *,
        threads: int,
        auto: bool = False,
        policy: RetryPolicy,
        stop: Stop,
        emit: Sink,
        rotated: Callable[[str | None], bool] = lambda _tag: False,
        tick: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        grace: float = GRACE,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.inbox: Inbox = Inbox()
        self.concurrency = Concurrency(threads, now=clock()) if auto else None
        self._fixed = threads
        self._crew = Crew(self.inbox)
        self._policy = policy
        self._patient = policy
        self._stop = stop
        self._emit = emit
        self._rotated = rotated
        self._tick = tick
        self._clock = clock
        self._wall = wall
        self._grace = grace
        self._jitter = jitter
        self._outage = Outage()
        self._waiting: list[tuple[float, int, Task]] = []
        self._order = count()
        self._probe_at = 0.0
        self._probing: Task | None = None
        self._tick_at = clock() + _TICK
        self._flying: set[Task] = set()
        stop.watch(self.inbox)

    @property
    def threads(self) -> int:
        """Tasks in flight at most, as of now."""
        return self._fixed if self.concurrency is None else self.concurrency.threads

    @property
    def settled(self) -> int:
        """The number of threads that it came to."""
        return self._fixed if self.concurrency is None else self.concurrency.settled

    def close(self) -> None:
        """No more tasks; the threads end."""
        self._stop.unwatch(self.inbox)
        self._crew.dismiss()

    def call(self, what: str, job: Callable[[], T], *, remote: bool = True) -> T:
        """Do one thing, with attempts and waits as a part has them.

        Patience only counts once something has got through in this run: where nothing ever did,
        a wrong address is likelier than an outage.
        """
        result: list[T] = []
        self.one(Task(job, lambda value: result.append(cast(T, value)), what, remote=remote))
        return result[0]

    def one(self, task: Task) -> None:
        """Do a single task, as `call` does."""
        self.run(_One(task), patient=self._outage.last_success is not None)

    def run(self, feed: Feed, *, patient: bool = True) -> None:
        """Work through the feed's tasks.

        Raises:
            Stopped: a signal asked to.
            UFileError: the first fatal error, or the last one when attempts or patience ended.
        """
        self._patient = self._policy if patient else self._policy._replace(patience=0)
        if self._stop.signum is not None:  # its message may have come while something was drained
            raise Stopped("stopped by a signal", signum=self._stop.signum)
        try:
            while True:
                self._dispatch(feed)
                # Those of an earlier run that never came home are nobody's concern any more.
                if not self._flying and not self._waiting and feed.exhausted():
                    return
                self._handle(self._await(), feed)
        except BaseException:
            self._drain()
            raise

    # -- one step ----------------------------------------------------------------------------

    def _dispatch(self, feed: Feed) -> None:
        now = self._clock()
        if self._outage.active:
            if not self._crew.busy and self._waiting and now >= self._probe_at:
                self._probing = heapq.heappop(self._waiting)[2]
                self._start(self._probing)
            return
        while self._crew.busy < self.threads:
            if self._waiting and self._waiting[0][0] <= now:
                task: Task | None = heapq.heappop(self._waiting)[2]
            elif self._outage.since is not None and len(self._waiting) >= self._enough():
                return  # nothing got through since: the next ones would only fail as well
            else:
                task = feed.next()
            if task is None:
                return
            self._start(task)

    def _enough(self) -> int:
        """Tasks that may wait for another attempt before others are tried as well."""
        return max(_WAITING, 2 * self.threads)

    def _start(self, task: Task) -> None:
        task.trial.attempt += 1
        if task.begun is not None:
            task.begun(task.trial.attempt)
        task.handed_out = self._clock()
        self._flying.add(task)
        self._crew.submit(task, task.job)

    def _await(self) -> object:
        """The next message, or None when it is time for something else."""
        now = self._clock()
        if now >= self._tick_at:
            self._tick()
            self._tick_at = now + _TICK
        until = self._tick_at
        if self._outage.active:
            # With one under way there is nothing to be up for: it would be a loop without rest.
            if not self._crew.busy:
                until = min(until, self._probe_at)
        elif self._waiting and self._crew.busy < self.threads:
            until = min(until, self._waiting[0][0])
        try:
            return self.inbox.get(timeout=max(0.0, until - now))
        except Empty:
            return None

    def _handle(self, message: object, feed: Feed) -> None:
        if message is None:
            return
        if isinstance(message, StopAsked):
            raise Stopped("stopped by a signal", signum=message.signum)
        if not isinstance(message, Outcome):
            feed.message(message)
            return
        self._crew.home()
        task = cast(Task, message.token)
        if task not in self._flying:
            return  # of an earlier run that did not wait for it any longer
        self._flying.discard(task)
        if message.error is None:
            self._succeeded(task)
            task.done(message.value)
        elif isinstance(message.error, UFileError):
            if message.error.part is None:
                message.error.part = task.number
            self._failed(task, message.error)
        elif not isinstance(message.error, InterruptedError):  # that one only says: stopping
            raise message.error

    def _succeeded(self, task: Task) -> None:
        now = self._clock()
        if self.concurrency is not None and task.size:
            self.concurrency.sent(task.size, task.handed_out, now, self._crew.busy + 1)
        if not task.remote:
            return
        seconds = self._outage.succeeded(now)
        if seconds is None:
            return
        self._emit(OutageEnded(seconds))
        if self.concurrency is not None:
            self.concurrency.anew(now)
        waiting, self._waiting = self._waiting, []
        for _, _, other in waiting:
            other.trial.anew()
            self._wait(other, now)

    def _failed(self, task: Task, error: UFileError) -> None:
        trial = task.trial
        now = self._clock()
        if isinstance(error, NetworkError) and error.stale and trial.stale <= self._fixed:
            # A kept-alive connection that had died unnoticed: this was no attempt.
            trial.stale += 1
            trial.attempt -= 1
            self._wait(task, now)
            return
        if isinstance(error, CredentialsRefused) and self._rotated(error.credentials_tag):
            trial.attempt -= 1
            self._emit(Notice("the credentials were refused; others are there now: trying those"))
            self._wait(task, now)
            return
        trial.stale = 0
        if trial.failed_first is None:
            trial.failed_first = now
        if error.transient:
            if self.concurrency is not None and not self._outage.active:
                self.concurrency.trouble(task.handed_out, now)
            self._outage.failed(now)
            if self._outage.active and task is self._probing:
                self._outage.probes += 1  # what was in flight when it began was none
        decision = decide(error, trial, self._outage, self._patient, now, self._jitter())
        if decision.action == "give_up":
            self._tell(task, error, None)
            if self._outage.active and self._outage.since is not None and error.transient:
                self._name_outage(error, task, now - self._outage.since)
            raise error
        self._tell(task, error, decision.wait)
        if decision.action == "back":
            trial.rounds += 1
            trial.anew()
        elif decision.action == "probe":
            self._probe_at = now + decision.wait
            if not self._outage.active:
                self._begin_outage(error, now)
        self._wait(task, now + decision.wait)

    def _begin_outage(self, error: UFileError, now: float) -> None:
        self._outage.active = True
        wall = self._wall()
        since = wall - (now - (self._outage.since or now))
        patience = self._patient.patience
        self._emit(
            OutageBegan(error.message, since, None if patience is None else since + patience)
        )

    def _name_outage(self, error: UFileError, task: Task, seconds: float) -> None:
        """Patience has ended: that is what happened, and not what its last probe met."""
        what = f"{task.what}: " if task.number is not None else ""
        error.message = (
            f"nothing got through for {text.span(seconds)}: paused ({what}{error.message})"
        )
        error.args = (error.message,)

    def _tell(self, task: Task, error: UFileError, wait: float | None) -> None:
        if task.number is not None:
            self._emit(
                PartFailed(
                    task.number, task.trial.attempt, self._policy.attempts, error.message, wait
                )
            )
        elif wait is not None and not self._outage.active:  # that was told, and counts for all
            # The client's messages begin with the call they are about.
            again = f"in {wait:.0f} s" if wait >= 0.5 else "at once"
            self._emit(Notice(f"{error.message}; trying again {again}"))

    def _wait(self, task: Task, ready_at: float) -> None:
        heapq.heappush(self._waiting, (ready_at, next(self._order), task))

    # -- the end -------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Give requests in flight their grace; what they bring home still counts."""
        self._waiting.clear()
        deadline = self._clock() + self._grace
        while self._crew.busy and (left := deadline - self._clock()) > 0:
            try:
                message = self.inbox.get(timeout=left)
            except Empty:
                break
            if isinstance(message, Outcome):
                self._crew.home()
                task = cast(Task, message.token)
                if message.error is None and task in self._flying:
                    try:
                        task.done(message.value)
                    except UFileError:
                        pass  # the first error is the one to tell
                self._flying.discard(task)
        self._flying.clear()
        self._outage = Outage(last_success=self._outage.last_success)
