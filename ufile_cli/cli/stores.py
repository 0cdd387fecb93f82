"""This user's journals; apart from `transfer`, so that `ufile status` imports no client."""

from __future__ import annotations

import os

from ufile_cli.journal.store import Store
from ufile_cli.settings import state_directory

__all__ = ["open_store"]


def open_store() -> Store:
    """The journals in UFILE_STATE_DIR, else in the user state directory."""
    return Store(state_directory(os.environ))
