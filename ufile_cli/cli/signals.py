"""Ctrl-C, SIGTERM and SIGHUP: the first one stops an upload well, the second leaves at once.

Signals that were ignored when the program started stay ignored (nohup, `&`). Before an upload
has begun, a signal ends the command where it stands, as an exception in the main thread. From
then on the upload is asked to stop; one that is done is reported as done.

A signal that follows the first one within moments is the same one: `timeout` sends it to the
process and then to its group, and so do shells and supervisors that pass signals on.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from ufile_cli.errors import Stopped
from ufile_cli.multipart.workers import Stop

__all__ = ["SIGNALS", "Signals"]

_ECHO = 0.3
"""Seconds within which a further signal is the same one; a person is slower."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Signals:
    """The process's signals.

    Attributes:
        stop: told by the first signal once an upload has begun.
        uploading: whether an upload has begun that takes care of stopping itself. It stays so
            to the end: a signal after the upload must not take its report away.
        verbose: how often -v was given; the error boundary wants to know.
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self.uploading = False
        self.verbose = 0
        self._asked_at: float | None = None

    def install(self) -> None:
        """Take the signals over, apart from those that are ignored."""
        for name in _NAMES:
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._handle)

    def ignore(self) -> None:
        """All is done and said: from here on there is nothing to stop."""
        for name in _NAMES:
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_IGN)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at < _ECHO:
                return
            os._exit(128 + signum)
        self._asked_at = now
        # In any case: a library's own `except Exception` may swallow what is raised below, and
        # then the upload stops as soon as it begins.
        self.stop.ask(signum)
        if not self.uploading:
            raise Stopped("stopped by a signal", signum=signum)


SIGNALS = Signals()
"""The one instance: a process has one set of signals."""
