"""What -v and --log-file write: requests, events and errors, with secrets taken out.

Redaction happens here, where text leaves the process, and not at each call.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from ufile_cli.cli.options import Verbosity
from ufile_cli.errors import UsageError
from ufile_cli.progress.outlet import Outlet
from ufile_cli.progress.text import printable

if TYPE_CHECKING:
    from ufile_cli.us3.client import RequestRecord

__all__ = ["Log", "fit_to_show", "redact", "say"]

_PATIENCE = 3.0
"""Seconds for a reader that has stopped reading, before it misses how a command ended."""

_SHORTEST_SECRET = 8
_SECRETS: set[str] = set()
_PATTERNS = (
    (re.compile(r"(Authorization['\"]?\s*[:=]\s*['\"]?)UCloud [^\s'\"]+"), r"\1UCloud [redacted]"),
    (re.compile(r"(UCloud [^\s'\":]+:)[A-Za-z0-9+/]{27}="), r"\1[redacted]"),
    (re.compile(r"(Signature=)[^&\s]+"), r"\1[redacted]"),
)


def keep_secret(text: str) -> None:
    """From now on this text appears in no output.

    Texts of a few characters, as people set them to try things out, are left alone: they are no
    keys of the service, and taking them out would tear holes into other words.
    """
    if len(text) >= _SHORTEST_SECRET:
        _SECRETS.add(text)


def redact(text: str) -> str:
    """The text without private keys and signatures."""
    for secret in sorted(_SECRETS, key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, "[redacted]")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def fit_to_show(text: str) -> str:
    """Several lines, a traceback for instance, without secrets and without control characters."""
    return "\n".join(printable(line) for line in redact(text).rstrip("\n").split("\n"))


class Log:
    """Where a command's log lines go: standard error with -v, a file with --log-file.

    Attributes:
        shown: shows a line to the person; replaced while bars are drawn, which must not be
            written into.
    """

    def __init__(self, verbosity: Verbosity) -> None:
        from ufile_cli.cli.signals import SIGNALS

        SIGNALS.verbose = verbosity.verbose
        self.verbosity = verbosity
        self._warned: set[str] = set()
        self._stderr = Outlet(sys.stderr)
        self.shown: Callable[[str], None] = self._to_stderr
        self._file: TextIO | None = None
        if verbosity.log_file is not None:
            try:
                fd = _open(verbosity.log_file)
                self._file = os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                raise UsageError(
                    f"the log file {verbosity.log_file} can't be written: {why}"
                ) from error

    def write(self, line: str, *, level: int = 1) -> None:
        """Log one line; shown where -v was given at least `level` times."""
        line = printable(redact(line))
        if self._file is not None:
            moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
            try:
                self._file.write(f"{moment} {line}\n")
                self._file.flush()
            except (OSError, ValueError):
                self._file = None  # a full disk must not end an upload
        if self.verbosity.verbose >= level and not self.verbosity.quiet:
            self.shown(line)

    def warn(self, text: str) -> None:
        """Show a warning, each only once, however many uploads a command is about."""
        if text not in self._warned:
            self._warned.add(text)
            self.shown(f"ufile: warning: {text}")

    def request(self, record: RequestRecord) -> None:
        """Log a request; workers call this from their threads."""
        if not self.verbosity.verbose and self._file is None:
            return
        answer = str(record.status) if record.status is not None else "no answer"
        session = f" session {record.session_id}" if record.session_id else ""
        size = f" {record.body_size} bytes" if record.body_size else ""
        trouble = f": {record.error}" if record.error else ""
        self.write(
            f"{record.method} {record.target} ({record.call}{size}) -> {answer} "
            f"in {record.seconds:.2f} s{session}{trouble}"
        )

    def _to_stderr(self, line: str) -> None:
        self._stderr.write(fit_to_show(line) + "\n")


def say(words: str) -> None:
    """Words that a person has to see, to standard error: there may be a pager to wait for."""
    Outlet(sys.stderr, patience=_PATIENCE).write(words + "\n")


def _open(path: str) -> int:
    """The log file, to append to. A new one is its owner's alone, whatever the umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):
        os.fchmod(fd, 0o600)
    return fd
