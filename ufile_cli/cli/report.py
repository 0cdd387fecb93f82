"""Results and errors, as text for a person and as JSON for a program; no decision is made here.

An error is one paragraph: what happened and to which part, what the server said, what to type
next. Names and the server's words are shown with control characters escaped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ufile_cli.errors import OutputLost, ServerError, UFileError
from ufile_cli.progress import text

if TYPE_CHECKING:
    from ufile_cli.multipart.request import Progress, Result

__all__ = [
    "explain",
    "failure_json",
    "print_json",
    "success_json",
    "summary",
    "tell_result",
    "tell_unbegun",
]


def explain(error: UFileError, *, ways_on: tuple[str, ...] = ()) -> None:
    """Write the paragraph about an error to standard error.

    Args:
        ways_on: commands to type next, besides the error's own hint.
    """
    what = error.message
    if error.part is not None and f"part {error.part}" not in what:
        what = f"part {error.part}: {what}"
    lines = [f"ufile: {text.printable(what)}"]
    if isinstance(error, ServerError):
        said = [f"HTTP {error.status}"]
        if error.ret_code is not None:
            said.append(f"RetCode {error.ret_code}")
        if error.err_msg:
            said.append(f"ErrMsg {json.dumps(error.err_msg, ensure_ascii=False)}")
        lines.append(text.printable("  the server said: " + ", ".join(said)))
        if error.session_id:  # long: on a line of its own it can be copied from any terminal
            lines.append(text.printable(f"  X-SessionId {error.session_id}"))
    if error.hint and error.hint not in ways_on:
        lines.append(f"  {text.printable(error.hint)}")
    lines += [f"  {text.printable(way)}" for way in ways_on]
    from ufile_cli.cli.logs import redact, say

    say(redact("\n".join(lines)))


def summary(result: Result, *, source: str) -> None:
    """Write what a finished upload came to, to standard error."""
    speed = ""
    if result.bytes_sent and result.seconds > 0.05:
        speed = f", {text.rate(result.bytes_sent / result.seconds)}"
    took = f" in {text.took(result.seconds)}" if result.seconds > 0.05 else ""
    what = []
    if result.journal_id is not None:
        what.append(text.counted(result.parts, "part"))
    what.append("verified by its ETag" if result.verified == "etag" else "every part verified")
    if result.auto:
        what.append(text.counted(result.threads, "thread"))
    where = f"{result.bucket}/{result.key}"
    lines = [
        f"uploaded {'standard input' if source == '-' else source} to {where}",
        f"  {text.size(result.size)}{took}{speed}; " + ", ".join(what),
    ]
    if result.journal_id is not None and result.parts_reused:
        counts = [
            f"{text.counted(result.parts_sent, 'part')} sent now",
            f"{text.count(result.parts_reused)} {'was' if result.parts_reused == 1 else 'were'} "
            "up already",
        ]
        if result.parts_changed:
            counts.append(f"{text.count(result.parts_changed)} had changed")
        lines.append("  " + ", ".join(counts))
    lines.append(f"  {result.url}")
    from ufile_cli.cli.logs import say

    say("\n".join(map(text.printable, lines)))


def failure_json(
    error: UFileError,
    *,
    journal_id: str | None,
    bucket: str | None,
    key: str | None,
    size: int | None,
    progress: Progress,
    seconds: float,
) -> dict[str, Any]:
    """The result document of an upload that failed: the same fields as of one that did not."""
    return {
        "journal_id": journal_id,
        "bucket": bucket,
        "key": key,
        "url": None,
        "size": size,
        "etag": None,
        "verified": None,
        "parts": progress.parts,
        "parts_sent": progress.parts_sent,
        "parts_reused": progress.parts_reused,
        "parts_changed": progress.parts_changed,
        "bytes_sent": progress.bytes_sent,
        "seconds": round(seconds, 3),
        "threads": progress.threads,
        "exit_code": error.code,
        "error": error.as_json(),
    }


def tell_unbegun(error: UFileError, bucket: str | None = None, key: str | None = None) -> int:
    """Hand over the document of an upload that failed before it began; the exit code."""
    from ufile_cli.multipart.request import Progress

    document = failure_json(
        error,
        journal_id=None,
        bucket=bucket,
        key=key,
        size=None,
        progress=Progress(),
        seconds=0.0,
    )
    return tell_result(document, error.code)


def success_json(result: Result) -> dict[str, Any]:
    """The result document of an upload."""
    return result.as_json() | {"exit_code": 0, "error": None}


def tell_result(document: object, code: int, tell: Callable[[object], None] | None = None) -> int:
    """Hand the result document over, to standard output unless told otherwise; the exit code.

    A result that can't be written is a failure, but a lesser one than any before it.
    """
    try:
        (tell or print_json)(document)
    except OutputLost as lost:
        explain(lost)
        return code or lost.code
    return code


def print_json(document: object) -> None:
    """One JSON document, alone, on standard output.

    Raises:
        OutputLost: it can't be written.
    """
    from ufile_cli.cli.logs import redact

    if sys.stdout is None:
        return  # closed before we began
    try:
        sys.stdout.write(redact(json.dumps(document, indent=2)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads it any more: no reason to end with another exit code than otherwise.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
    except OSError as error:
        raise OutputLost(f"standard output can't be written: {error.strerror}") from error
