"""The exit codes of the command, as numbers with names. sysexits.h where it has a word for it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode", "worst"]


class ExitCode(IntEnum):
    """What the command ends with; `docs/exit-codes.md` is compared with this table by a test."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOURCE = 66
    INTERNAL = 70
    JOURNAL = 74
    TEMPORARY = 75
    CREDENTIALS = 77
    NOT_CONFIGURED = 78
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


# Of several uploads the worst counts: what trying again cannot mend stands before what it can.
_WORST_FIRST = (
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.SIGHUP,
    ExitCode.INTERNAL,
    ExitCode.NOT_CONFIGURED,
    ExitCode.USAGE,
    ExitCode.FAILED,
    ExitCode.CREDENTIALS,
    ExitCode.SOURCE,
    ExitCode.JOURNAL,
    ExitCode.TEMPORARY,
)


def worst(codes: list[int]) -> int:
    """The exit code of several uploads together: the worst in the order 1, 77, 66, 74, 75."""
    for code in _WORST_FIRST:
        if code in codes:
            return int(code)
    return next((code for code in codes if code), 0)
