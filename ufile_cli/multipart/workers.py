"""A bounded set of threads that run jobs and report to an inbox. Knows no US3.

Threads are daemons: nothing waits for a socket at exit. A thread is started when a job finds
none idle, so an upload of two parts starts two threads. The coordinator owns a crew and reads the
inbox; it never submits more jobs than it wants in flight, so no queue builds up in here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

from ufile_cli.errors import UsageError

__all__ = ["Crew", "Inbox", "Outcome", "Stop", "StopAsked", "start_thread"]


class Outcome(NamedTuple):
    """A job came to its end.

    Attributes:
        token: what the job was submitted with.
        value: what it returned.
        error: what it raised, or None.
    """

    token: object
    value: object
    error: BaseException | None


class StopAsked(NamedTuple):
    """A signal asked to stop."""

    signum: int


Inbox = SimpleQueue[object]
"""Where everything that happens reaches the coordinator. put() is safe in a signal handler."""


class Stop:
    """Asks uploads to stop; made once for a command, told by its signal handler.

    Attributes:
        signum: the signal that asked, None while none did.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._inboxes: list[Inbox] = []

    def ask(self, signum: int) -> None:
        """Stop; may be called from a signal handler or from any thread."""
        self.signum = signum
        for inbox in self._inboxes:
            inbox.put(StopAsked(signum))

    def asked(self) -> bool:
        """Whether to stop."""
        return self.signum is not None

    def watch(self, inbox: Inbox) -> None:
        """Tell this inbox, at once where it was asked already."""
        self._inboxes.append(inbox)
        if self.signum is not None:
            inbox.put(StopAsked(self.signum))

    def unwatch(self, inbox: Inbox) -> None:
        """Tell this inbox no more."""
        if inbox in self._inboxes:
            self._inboxes.remove(inbox)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        UsageError: the system has none left (a container's limit of processes, `ulimit -u`).
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise UsageError(
            "the system has no more threads to give",
            hint="raise the limit of processes (ulimit -u, or the container's)",
        ) from error


_Box = SimpleQueue[tuple[object, Callable[[], object]] | None]
"""What one thread is to do next; None to end."""


class Crew:
    """Threads that run jobs; each outcome goes to the inbox.

    Attributes:
        busy: jobs submitted whose outcome the coordinator has not counted with `home` yet.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.busy = 0
        self._threads: list[threading.Thread] = []
        self._boxes: list[_Box] = []
        # The last one to come home goes out first: its buffer is the one that is still in the
        # cache, and with fewer jobs than threads the others sleep on.
        self._idle: list[_Box] = []

    def submit(self, token: object, job: Callable[[], object]) -> None:
        """Run the job in a thread of its own or an idle one.

        Where the system has no more threads to give, those there are do it one after the other.

        Raises:
            UsageError: there is not a single one.
        """
        box = self._idle.pop() if self._idle else self._another()
        self.busy += 1
        box.put((token, job))

    def home(self) -> None:
        """The coordinator has taken an outcome from the inbox."""
        self.busy -= 1

    def dismiss(self) -> None:
        """No more jobs: idle threads end, busy ones after their job."""
        threads, self._threads = self._threads, []
        for box in self._boxes:
            box.put(None)
        self._boxes, self._idle = [], []
        if self.busy == 0:  # all of them idle: they are gone in no time
            for thread in threads:
                thread.join()

    def _another(self) -> _Box:
        """The box of a new thread, or of a busy one where there can be no other."""
        box: _Box = SimpleQueue()
        name = f"part-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, args=(box,), name=name, daemon=True)
        try:
            start_thread(thread)
        except UsageError:
            if not self._boxes:
                raise
            return self._boxes[self.busy % len(self._boxes)]
        self._threads.append(thread)
        self._boxes.append(box)
        return box

    def _work(self, box: _Box) -> None:
        while (order := box.get()) is not None:
            token, job = order
            value: object = None
            failure: BaseException | None = None
            try:
                value = job()
            except BaseException as error:  # whatever it is, the coordinator decides
                failure = error
            del order, job
            self._idle.append(box)
            self.inbox.put(Outcome(token, value, failure))
            del token, value, failure
