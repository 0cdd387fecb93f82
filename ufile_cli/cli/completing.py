"""What a shell offers when a person presses Tab: journal ids, profiles, endpoints.

Whatever goes wrong in here means no suggestions, never a message: it would land in the middle of
the line that is being typed. Imports no client, as Tab has to answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from click.shell_completion import CompletionItem

__all__ = ["endpoints", "journals", "profiles"]

_MOST = 200
"""Suggestions that are made at most; nobody reads more."""


def _quietly(find: Callable[[], list[CompletionItem]]) -> list[CompletionItem]:
    try:
        return find()
    except Exception:
        return []


def journals(incomplete: str, command: str) -> list[CompletionItem]:
    """The journals that begin so: for `resume` those not finished, the latest first."""

    def find() -> list[CompletionItem]:
        from ufile_cli.cli.stores import Damaged, looks, open_store
        from ufile_cli.progress import text

        store = open_store()
        listing = [
            listed
            for listed in reversed(store.listing())
            if listed.journal_id.startswith(incomplete.lower())
            and not (listed.receipt and command in ("resume", "abort"))
        ][:_MOST]
        found = []
        for view in looks(store, listing):
            if isinstance(view, Damaged):
                if command != "resume":
                    found.append(CompletionItem(view.journal_id, help="damaged"))
                continue
            document = view.document
            words = f"{view.state}: {document.localfile or 'a stream'}"
            words += f" -> {document.bucket}/{document.key}"
            found.append(CompletionItem(document.journal_id, help=text.printable(words)))
        return found

    return _quietly(find)


def profiles(incomplete: str) -> list[CompletionItem]:
    """The profiles of the configuration file."""

    def find() -> list[CompletionItem]:
        from ufile_cli.settings import config_path, read_profiles

        return [
            CompletionItem(profile.name, help=profile.endpoint or "no endpoint")
            for profile in read_profiles(config_path(os.environ)).values()
            if profile.name.startswith(incomplete)
        ]

    return _quietly(find)


def endpoints(incomplete: str) -> list[CompletionItem]:
    """The regions, and `local`."""

    def find() -> list[CompletionItem]:
        from ufile_cli.us3.endpoints import LOCAL, REGIONS

        found = [
            CompletionItem(name, help=f"https://{region.public}")
            for name, region in REGIONS.items()
        ]
        found.append(CompletionItem(LOCAL, help="an embedded server, to try things out"))
        return [item for item in found if str(item.value).startswith(incomplete)]

    return _quietly(find)
