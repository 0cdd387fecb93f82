"""This user's journals, and how a person reads them; apart from `transfer`, so that `ufile status`
imports no client."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ufile_cli.errors import JournalDamaged, UsageError
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.store import Listed, Store, View
from ufile_cli.settings import state_directory

__all__ = ["Damaged", "age", "command_line", "looks", "open_store", "seconds_of", "way_on"]


def open_store() -> Store:
    """The journals in UFILE_STATE_DIR, else in the user state directory."""
    return Store(state_directory(os.environ))


class Damaged(NamedTuple):
    """A journal that can't be trusted, and why."""

    journal_id: str
    path: str
    error: str
    touched: float


def looks(store: Store, listing: list[Listed] | None = None) -> Iterator[View | Damaged]:
    """Each journal, as far as it can be read, oldest first; nothing is locked."""
    for listed in store.listing() if listing is None else listing:
        try:
            yield store.look(listed)
        except JournalDamaged as error:
            yield Damaged(listed.journal_id, error.path, error.message, listed.touched)
        except UsageError:
            continue  # removed meanwhile


def seconds_of(moment: str) -> float:
    """RFC 3339 to seconds since the epoch; now for what can't be read."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return time.time()


def age(seconds: float) -> str:
    """How long ago, in one unit: `3d`, `2h`, `5m`, `0s`."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def way_on(document: JournalDocument) -> str:
    """What to type to go on with an unfinished upload: the command that can work as things are."""
    resume = f"ufile resume {document.journal_id}"
    if document.kind == "stream":
        return f"the same stream again | {resume}"
    try:
        Path(document.localfile or "").stat()
    except (OSError, ValueError):  # gone, or in a directory that this user may not enter
        return f"{resume} --file PATH"
    if document.error is not None and document.error.get("kind") == "SourceChanged":
        return f"{resume} --resend-changed"
    return resume


def command_line(*words: str) -> str:
    """A command to type, its words quoted where a shell wants it."""
    return shlex.join(words)
