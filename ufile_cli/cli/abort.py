"""`ufile abort JOURNAL_ID…`: free the parts on the server, then drop the journal."""

from __future__ import annotations

from typing import Any

import click

from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Server, Verbosity, server_options, verbosity_options
from ufile_cli.cli.stores import open_store
from ufile_cli.cli.transfer import connector_for
from ufile_cli.connect import Connector
from ufile_cli.errors import JournalDamaged, Refused, UFileError
from ufile_cli.exitcodes import worst
from ufile_cli.journal.store import Store
from ufile_cli.progress import text

__all__ = ["command", "give_up"]


@click.command(
    "abort",
    epilog="""\b
Examples:
  ufile abort 7k2m9xqa
""",
)
@click.argument("journal_ids", metavar="JOURNAL_ID...", nargs=-1, required=True)
@server_options
@verbosity_options
def command(journal_ids: tuple[str, ...], **values: Any) -> int:
    """Give uploads up: free their parts on the server, then drop their journals."""
    log, server = Log(Verbosity.of(values)), Server.of(values)
    store = open_store()
    codes = []
    for prefix in journal_ids:
        try:
            journal_id = store.find(prefix)
            try:
                document = store.peek(journal_id).document
            except JournalDamaged:
                if prefix.lower() != journal_id:
                    raise  # too little was typed to throw away what nobody can read
                store.drop_damaged(journal_id)
                _say(
                    log,
                    f"dropped the damaged journal {journal_id}; its parts, where the server "
                    "has any, are not freed",
                )
                codes.append(0)
                continue
            connector = connector_for(server, log, document=document)
            try:
                give_up(store, journal_id, connector, log)
            finally:
                connector.close()
            done = document.state == "finished"
            words = "the object stays, its journal is dropped:" if done else "gave up"
            _say(log, f"{words} {journal_id} ({document.bucket}/{document.key})")
            codes.append(0)
        except UFileError as error:
            from ufile_cli.cli.report import explain

            explain(error)
            codes.append(error.code)
    return worst(codes)


def _say(log: Log, words: str) -> None:
    if not log.verbosity.quiet:
        click.echo(text.printable(words), err=True)


def give_up(store: Store, journal_id: str, connector: Connector, log: Log) -> None:
    """Abort the upload on the server, then drop its journal.

    Raises:
        JournalBusy: a process works on it.
        UFileError: the server could not be told; the journal stays.
    """
    record = store.open_quietly(journal_id)
    try:
        document = record.document
        if document.state != "finished" and document.uploadid is not None:
            with connector.connect(document.bucket, threads=1, log=log.request) as connection:
                try:
                    connection.client.abort(document.key, document.uploadid)
                except Refused as refusal:
                    # A 4xx about an id that is gone: nothing is left to free.
                    log.write(f"the server no longer knows the upload id: HTTP {refusal.status}")
        record.drop()
    finally:
        record.close()
