"""`ufile resume JOURNAL_ID`: go on with an upload that a crash, a signal or the network ended."""

from __future__ import annotations

from typing import Any

import click

from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import (
    Sending,
    Server,
    Verbosity,
    sending_options,
    server_options,
    verbosity_options,
)
from ufile_cli.cli.stores import open_store
from ufile_cli.cli.transfer import (
    Undertaking,
    as_journalled,
    as_options,
    connector_for,
    headers_given,
    merged,
    refuse_differences,
)
from ufile_cli.errors import JournalDamaged, Stopped, UFileError, UsageError
from ufile_cli.exitcodes import worst
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.request import Context, Result
from ufile_cli.multipart.sources import FileSource

__all__ = ["command"]


@click.command(
    "resume",
    epilog="""\b
Examples:
  ufile resume 7k2m9xqa
  ufile resume 7k                       # any unambiguous beginning of the id
  ufile resume --last
  ufile resume --all -q                 # for cron
  ufile resume 7k2m9xqa --file /mnt/new/big.iso
""",
)
@click.argument("journal_id", required=False)
@click.option("--last", is_flag=True, help="The upload touched last that nobody works on.")
@click.option("--all", "every", is_flag=True, help="Every such upload of a file.")
@click.option("--file", "moved", metavar="PATH", help="The file has moved here.")
@sending_options
@server_options
@verbosity_options
def command(
    journal_id: str | None, last: bool, every: bool, moved: str | None, **values: Any
) -> int:
    """Go on with an upload.

    Options of the first run (threads, rate, ...) hold unless given again.
    """
    log, server, sending = Log(Verbosity.of(values)), Server.of(values), Sending.of(values)
    if sum((journal_id is not None, last, every)) != 1:
        raise UsageError(
            "name one journal id, or --last, or --all", hint="ufile status shows the journals"
        )
    if every and moved is not None:
        raise UsageError("--file goes with one upload, not with --all")
    store = open_store()
    if every:
        return _resume_all(store, server, sending, log)
    chosen = store.find(journal_id) if journal_id is not None else _last(store)
    return resume_one(store, chosen, server, sending, log, moved=moved)


def _resumable(store: Store) -> list[str]:
    """Journals that are neither finished nor held nor damaged, the one touched last first."""
    found = []
    for listed in store.listing():
        if listed.receipt:
            continue
        try:
            view = store.peek(listed.journal_id)
        except (JournalDamaged, UsageError):
            continue
        if view.document.state != "finished" and not view.held:
            found.append((view.touched, listed.journal_id, view.document.kind))
    found.sort(reverse=True)
    return [journal_id for _, journal_id, _ in found]


def _last(store: Store) -> str:
    found = _resumable(store)
    if not found:
        raise UsageError("there is no upload to go on with", hint="ufile status --all shows all")
    return found[0]


def _resume_all(store: Store, server: Server, sending: Sending, log: Log) -> int:
    codes = [0]
    for journal_id in reversed(_resumable(store)):
        if store.peek(journal_id).document.kind != "file":
            continue
        try:
            codes.append(resume_one(store, journal_id, server, sending, log))
        except Stopped:
            raise
        except UFileError as error:
            from ufile_cli.cli.report import explain

            explain(error)
            codes.append(error.code)
        if codes[-1] > 128:
            break
    return worst(codes)


def resume_one(
    store: Store,
    journal_id: str,
    server: Server,
    sending: Sending,
    log: Log,
    *,
    moved: str | None = None,
) -> int:
    """Go on with one upload; its exit code."""
    record = store.open_quietly(journal_id)
    try:
        document = record.document
        undertaking = Undertaking(
            sending,
            log,
            bucket=document.bucket,
            key=document.key,
            source=document.localfile or "-",
            size=document.size,
        )
        undertaking.journal_id = journal_id
        if document.state == "finished":
            return _finished_already(undertaking, record)
        try:
            connector = connector_for(server, log, document=document)
        except UFileError as error:
            return undertaking.failed(error)
        try:
            return _go_on(undertaking, record, connector, moved)
        except UFileError as error:
            return undertaking.failed(error)
        finally:
            connector.close()
    finally:
        record.close()


def _go_on(
    undertaking: Undertaking, record: JournalRecord, connector: Any, moved: str | None
) -> int:
    document, sending = record.document, undertaking.sending
    refuse_differences(
        sending, document, "go on without these options, or begin anew with ufile upload --restart"
    )
    if document.kind == "stream":
        raise UsageError("this is a stream: pipe it again")
    source = _source(record, moved)
    undertaking.source = source.name
    chosen = merged(sending, document.options)
    document.options = document.options | as_journalled(chosen)
    document.header = document.header | headers_given(sending)
    document.endpoint = connector.endpoint.canonical
    document.custom_domain = connector.endpoint.custom_domain
    document.profile = connector.settings.profile
    record.claim()
    with connector.connect(
        document.bucket,
        threads=chosen["threads"],
        timeout=chosen["timeout"],
        log=undertaking.log.request,
    ) as connection:

        def act(context: Context) -> Result:
            options = as_options(chosen)
            return FileUpload(record, source, connection.client, options, context).run()

        return undertaking.run(connection, act)


def _source(record: JournalRecord, moved: str | None) -> FileSource:
    document = record.document
    path = moved or document.localfile
    if path is None:
        raise UsageError("this upload is of no file")
    try:
        source = FileSource.open(path)
    except UFileError as error:
        if moved is None:
            error.hint = f"if it has moved: ufile resume {document.journal_id} --file PATH"
        raise
    if moved is not None:
        document.localfile = str(source.path)
    return source


def _finished_already(undertaking: Undertaking, record: JournalRecord) -> int:
    """A notice, and the result once more for those who read JSON."""
    document = record.document
    result = document.result or {}
    if not undertaking.log.verbosity.quiet:
        click.echo(
            f"upload {document.journal_id} was finished already "
            f"({document.bucket}/{document.key}, {document.updated_at})",
            err=True,
        )
    if undertaking.sending.as_json:
        from ufile_cli.cli.report import print_json

        print_json(
            {
                "journal_id": document.journal_id,
                "bucket": document.bucket,
                "key": document.key,
                "url": result.get("url"),
                "size": result.get("size"),
                "etag": result.get("etag"),
                "verified": result.get("verified"),
                "parts": result.get("parts"),
                "parts_sent": 0,
                "parts_reused": result.get("parts"),
                "parts_changed": 0,
                "bytes_sent": 0,
                "seconds": 0.0,
                "exit_code": 0,
                "error": None,
            }
        )
    return 0
