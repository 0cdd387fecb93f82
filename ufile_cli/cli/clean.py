"""`ufile clean`: drop the receipts of finished uploads, and what dead processes left lying.

Unfinished uploads stay, whatever their age (`ufile abort` gives those up), and so do damaged
journals. Nothing that a process holds is touched.
"""

from __future__ import annotations

import time
from typing import Any

import click

from ufile_cli.cli.options import AGE, Verbosity, verbosity_options
from ufile_cli.cli.stores import Damaged, age, looks, open_store, seconds_of
from ufile_cli.errors import JournalDamaged
from ufile_cli.journal.store import Store, View
from ufile_cli.progress import text

__all__ = ["command"]


@click.command(
    "clean",
    epilog="""\b
Examples:
  ufile clean
  ufile clean --older-than 30d
  ufile clean --dry-run
""",
)
@click.option("--older-than", type=AGE, help="Only receipts of so long ago, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@verbosity_options
def command(older_than: float | None, dry_run: bool, **values: Any) -> int:
    """Drop the receipts of finished uploads; those not finished stay."""
    verbosity = Verbosity.of(values)
    store = open_store()
    now = time.time()
    found: list[View] = []
    staying = damaged = 0
    for view in looks(store):
        if isinstance(view, Damaged):
            damaged += 1
        elif view.document.state != "finished" or view.held:
            staying += 1
        elif older_than is None or now - seconds_of(view.document.updated_at) >= older_than:
            found.append(view)
    if dry_run:
        for view in found:
            click.echo(_line(view, now))
        receipts, files = len(found), sum(map(len, store.leftovers().values()))
    else:
        receipts, files = sum(_drop(store, view) for view in found), store.remove_leftovers()
    if not verbosity.quiet:
        would = "would drop" if dry_run else "dropped"
        click.echo(_summary(would, receipts, files, staying, damaged), err=True)
    return 0


def _drop(store: Store, view: View) -> bool:
    try:
        return store.drop_receipt(view.document.journal_id)
    except JournalDamaged:
        return False  # damaged in this very moment: it stays, as all damaged ones do


def _line(view: View, now: float) -> str:
    document = view.document
    when = age(now - seconds_of(document.updated_at))
    words = f"{document.journal_id}  {when:>4}  {document.bucket}/{document.key}"
    return text.printable(words)


def _summary(would: str, receipts: int, files: int, staying: int, damaged: int) -> str:
    words = [f"{would} {text.counted(receipts, 'receipt')}"]
    if files:
        words[0] += f" and {text.counted(files, 'stray file')}"
    if staying:
        words.append(
            f"{text.counted(staying, 'unfinished upload')} stay{'s' if staying == 1 else ''}"
        )
    if damaged:
        words.append(
            f"{text.counted(damaged, 'damaged journal')} stay{'s' if damaged == 1 else ''}"
        )
    return "; ".join(words)
