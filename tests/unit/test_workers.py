"""Threads that run jobs: how many, what they report, and how they end."""

from __future__ import annotations

import signal
import threading

import pytest

from ufile_cli.errors import UsageError
from ufile_cli.multipart.workers import Crew, Inbox, Outcome, Stop, StopAsked


def outcome(inbox: Inbox) -> Outcome:
    message = inbox.get(timeout=20)
    assert isinstance(message, Outcome)
    return message


def test_outcomes_carry_values_and_errors() -> None:
    inbox = Inbox()
    crew = Crew(inbox)
    crew.submit("good", lambda: 42)
    assert outcome(inbox) == Outcome("good", 42, None)
    crew.home()

    def bad() -> None:
        raise KeyboardInterrupt  # even that: the coordinator decides

    crew.submit("bad", bad)
    found = outcome(inbox)
    assert found.token == "bad" and isinstance(found.error, KeyboardInterrupt)
    crew.home()
    assert crew.busy == 0
    crew.dismiss()


def test_no_more_threads_than_jobs_at_once() -> None:
    inbox, gate, names = Inbox(), threading.Semaphore(0), []
    crew = Crew(inbox)

    def job() -> None:
        names.append(threading.current_thread())
        gate.acquire()

    for number in range(30):
        crew.submit(number, job)
        if crew.busy == 3:
            gate.release()
            outcome(inbox)
            crew.home()
    while crew.busy:
        gate.release()
        outcome(inbox)
        crew.home()
    assert len(names) == 30
    assert len(set(names)) <= 3
    assert all(thread.daemon for thread in names), "nothing waits for a socket at exit"
    crew.dismiss()
    for thread in set(names):
        thread.join(20)
        assert not thread.is_alive()


def test_a_finished_job_holds_nothing() -> None:
    """A part's bytes must not live on in an idle thread."""
    import gc
    import weakref

    class Bytes:
        pass

    inbox, held = Inbox(), Bytes()
    gone = weakref.ref(held)
    crew = Crew(inbox)

    def job(kept: Bytes = held) -> Bytes:
        return kept

    crew.submit("token", job)
    outcome(inbox)
    crew.home()
    crew.submit("another", lambda: None)  # its thread is idle again
    outcome(inbox)
    del held, job
    gc.collect()
    assert gone() is None
    crew.dismiss()


def test_stop_tells_every_inbox() -> None:
    stop, first, second, later = Stop(), Inbox(), Inbox(), Inbox()
    stop.watch(first)
    stop.watch(second)
    stop.unwatch(second)
    stop.unwatch(second)
    assert not stop.asked()
    stop.ask(signal.SIGHUP)
    assert stop.asked() and stop.signum == signal.SIGHUP
    assert first.get_nowait() == StopAsked(signal.SIGHUP)
    assert second.empty()
    stop.watch(later)
    assert later.get_nowait() == StopAsked(signal.SIGHUP)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_stop_may_be_asked_in_a_signal_handler(signum: int) -> None:
    stop, inbox = Stop(), Inbox()
    stop.watch(inbox)
    before = signal.signal(signum, lambda number, _frame: stop.ask(number))
    try:
        signal.raise_signal(signum)
    finally:
        signal.signal(signum, before)
    assert inbox.get(timeout=20) == StopAsked(signum)


@pytest.mark.parametrize("limit", [0, 2])
def test_a_system_without_more_threads(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Those there are do the work; with none at all there is a sentence."""
    start = threading.Thread.start
    started = 0

    def bounded(thread: threading.Thread) -> None:
        nonlocal started
        if started == limit:
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", bounded)
    inbox = Inbox()
    crew = Crew(inbox)
    if not limit:
        with pytest.raises(UsageError, match="no more threads"):
            crew.submit(1, lambda: None)
        assert crew.busy == 0
        return
    for number in range(5):
        crew.submit(number, lambda: None)
    for _ in range(5):
        outcome(inbox)
        crew.home()
    assert (crew.busy, started) == (0, limit)
    crew.dismiss()
