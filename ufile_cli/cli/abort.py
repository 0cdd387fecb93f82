"""`ufile abort`: free the parts of uploads on the server, then drop their journals.

Asks nothing; says what it freed. Without `--forget` a journal is dropped only when the server has
been told, so that no parts stay behind that nobody knows of. A damaged journal can't say which
upload it was: `--forget` drops it, and `ufile doctor` finds what it left on the server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click

from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import (
    AGE,
    Server,
    Verbosity,
    complete_journals,
    server_options,
    verbosity_options,
)
from ufile_cli.cli.stores import Damaged, looks, open_store
from ufile_cli.cli.transfer import connector_for
from ufile_cli.connect import Connector
from ufile_cli.errors import JournalDamaged, Refused, Stopped, UFileError, UsageError
from ufile_cli.exitcodes import worst
from ufile_cli.journal.store import Store, View
from ufile_cli.progress import text

__all__ = ["command", "give_up"]


@click.command(
    "abort",
    epilog="""\b
Examples:
  ufile abort 7k2m9xqa
  ufile abort --all --older-than 7d
  ufile abort --bucket backups --key big.iso --upload-id 9ab5c3f2-71fa
  ufile abort --forget 7k2m9xqa      # damaged, or its server is gone
""",
)
@click.argument(
    "journal_ids", metavar="[JOURNAL_ID]...", nargs=-1, shell_complete=complete_journals
)
@click.option("--all", "every", is_flag=True, help="Every unfinished upload nobody works on.")
@click.option("--older-than", type=AGE, help="With --all: untouched for so long, such as 7d.")
@click.option("--bucket", metavar="NAME", help="The bucket of an upload without a journal,")
@click.option("--key", metavar="KEY", help="its key,")
@click.option("--upload-id", metavar="ID", help="and the upload id (ufile status --remote).")
@click.option(
    "--forget",
    is_flag=True,
    help="Drop the journal alone: a damaged one, or one whose server is gone.",
)
@server_options
@verbosity_options
def command(
    journal_ids: tuple[str, ...],
    every: bool,
    older_than: float | None,
    bucket: str | None,
    key: str | None,
    upload_id: str | None,
    forget: bool,
    **values: Any,
) -> int:
    """Give uploads up: free their parts on the server, then drop their journals."""
    log, server = Log(Verbosity.of(values)), Server.of(values)
    server.check()
    remote = [value for value in (bucket, key, upload_id) if value is not None]
    if sum((bool(journal_ids), every, bool(remote))) != 1:
        raise UsageError(
            "Missing argument: journal ids, or --all, or --bucket, --key and --upload-id",
            hint="ufile status shows the journals",
        )
    if older_than is not None and not every:
        raise UsageError("--older-than goes with --all")
    if remote:
        if bucket is None or key is None or upload_id is None:
            raise UsageError("--bucket, --key and --upload-id go together")
        if forget:
            raise UsageError("--forget is for journals")
        from ufile_cli.us3.endpoints import check_key
        from ufile_cli.us3.response import check_upload_id

        check_key(key)
        check_upload_id(upload_id)
        return _abort_remote(server, log, bucket, key, upload_id)
    store = open_store()
    chosen = list(journal_ids)
    if every:
        chosen = _all(store, older_than, log, damaged=forget)
        if not chosen:
            _say(log, "there is nothing to give up")
    return _abort_each(store, chosen, server, log, forget=forget, exact=every)


def _abort_each(
    store: Store, chosen: list[str], server: Server, log: Log, *, forget: bool, exact: bool
) -> int:
    codes = [0]
    for prefix in chosen:
        try:
            journal_id = prefix if exact else _find(store, prefix)
            if forget:
                store.forget(journal_id)
                _say(log, f"forgot {journal_id}; the server was not told")
            else:
                _say(log, _abort(store, journal_id, server, log))
        except Stopped:
            raise
        except UFileError as error:
            from ufile_cli.cli.report import explain

            explain(error)
            codes.append(error.code)
    return worst(codes)


def _find(store: Store, prefix: str) -> str:
    """A journal by its beginning; one whose name is no journal id by its whole name."""
    if any(listed.journal_id == prefix for listed in store.listing()):
        return prefix
    return store.find(prefix)


def _all(store: Store, older_than: float | None, log: Log, *, damaged: bool) -> list[str]:
    """The unfinished journals that nobody works on, those untouched for so long."""
    now = time.time()
    found: list[str] = []
    for view in looks(store, [listed for listed in store.listing() if not listed.receipt]):
        if older_than is not None and now - view.touched < older_than:
            continue
        if isinstance(view, Damaged):
            if damaged:
                found.append(view.journal_id)
            else:
                _say(log, f"{view.journal_id} is damaged: ufile abort --forget {view.journal_id}")
        elif view.document.state != "finished" and not view.held:
            found.append(view.document.journal_id)
    return found


@dataclass(frozen=True, slots=True)
class _Freed:
    """What giving up came to."""

    told: bool
    known: bool

    def words(self, view: View) -> str:
        """The sentence about one journal."""
        document = view.document
        what = f"{document.journal_id} ({document.bucket}/{document.key})"
        if document.state == "finished":
            return f"dropped the receipt of {what}; the object stays"
        if not self.told:
            return f"gave up {what}; nothing had been begun on the server"
        if not self.known:
            return f"gave up {what}; the server no longer had the upload, nothing was to be freed"
        parts = text.counted(view.parts_done, "part")
        return f"gave up {what}; {parts}, {text.size(view.bytes_done)} freed on the server"


def _abort(store: Store, journal_id: str, server: Server, log: Log) -> str:
    """Give one journal up; what to say of it."""
    try:
        view = store.peek(journal_id)
    except JournalDamaged as error:
        error.hint = f"to drop it unread: ufile abort --forget {journal_id}"
        raise
    if view.document.state == "finished" or view.document.uploadid is None:
        # The server knows nothing of it: no keys are needed.
        freed = give_up(store, journal_id, None, log)
        return freed.words(view)
    try:
        connector = connector_for(server, log, document=view.document)
        try:
            return give_up(store, journal_id, connector, log).words(view)
        finally:
            connector.close()
    except (Refused, UsageError):
        raise
    except UFileError as error:
        if error.hint is None:
            error.hint = (
                f"the journal stays; to drop it all the same: ufile abort --forget {journal_id}"
            )
        raise


def _abort_remote(server: Server, log: Log, bucket: str, key: str, upload_id: str) -> int:
    """Free the parts of an upload id; a journal of it is given up as a whole."""
    store = open_store()
    for view in looks(store, [listed for listed in store.listing() if not listed.receipt]):
        if isinstance(view, Damaged):
            continue
        document = view.document
        if (document.bucket, document.key, document.uploadid) == (bucket, key, upload_id):
            return _abort_each(store, [document.journal_id], server, log, forget=False, exact=True)
    connector = connector_for(server, log)
    try:
        known = _free(connector, bucket, key, upload_id, log)
    finally:
        connector.close()
    where = f"{bucket}/{key}"
    if known:
        _say(log, f"gave up the upload {upload_id} of {where}; its parts are freed on the server")
    else:
        _say(log, f"the server has no upload {upload_id} of {where}; nothing was to be freed")
    return 0


def give_up(store: Store, journal_id: str, connector: Connector | None, log: Log) -> _Freed:
    """Abort the upload on the server, then drop its journal.

    Raises:
        JournalBusy: a process works on it.
        UFileError: the server could not be told; the journal stays.
    """
    record = store.open_quietly(journal_id)
    try:
        document = record.document
        told, known = False, False
        if document.state != "finished" and document.uploadid is not None:
            if connector is None:
                raise UsageError(f"upload {journal_id} has just been begun on the server")
            told = True
            known = _free(connector, document.bucket, document.key, document.uploadid, log)
        record.drop()
        return _Freed(told, known)
    finally:
        record.close()


def _free(connector: Connector, bucket: str, key: str, upload_id: str, log: Log) -> bool:
    """Abort an upload id; False where the server did not know it any more.

    Raises:
        Refused: the server refuses, but has the upload all the same.
        UFileError: the server could not be told.
    """
    from ufile_cli.cli.asking import Asking

    with Asking(connector, bucket, log) as asking:
        client = asking.client
        try:
            asking.ask("Abort", lambda: client.abort(key, upload_id))
            return True
        except Refused as refusal:
            # About an id that is gone, most likely; but parts that stay would be paid for.
            try:
                asking.ask("the part list", lambda: client.list_parts(upload_id, limit=1))
            except Refused:
                log.write(f"the server no longer knows the upload id: HTTP {refusal.status}")
                return False
            raise


def _say(log: Log, words: str) -> None:
    if not log.verbosity.quiet:
        click.echo(text.printable(words), err=True)
