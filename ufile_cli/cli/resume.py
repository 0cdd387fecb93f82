"""`ufile resume JOURNAL_ID`: go on with an upload that a crash, a signal or the network ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from ufile_cli.cli.adopting import Named, adopt_file, journal_of
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import (
    SIZE,
    Sending,
    Server,
    Verbosity,
    complete_journals,
    sending_options,
    server_options,
    verbosity_options,
)
from ufile_cli.cli.report import explain, print_json, tell_result
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.cli.stores import open_store
from ufile_cli.cli.streamed import AfterDashes, command_of, open_stream, replay_words
from ufile_cli.cli.transfer import (
    Undertaking,
    as_journalled,
    as_options,
    connector_for,
    headers_given,
    json_on_failure,
    merged,
    refuse_differences,
)
from ufile_cli.connect import Connector
from ufile_cli.errors import JournalDamaged, UFileError, UsageError
from ufile_cli.exitcodes import worst
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.request import Context, Result
from ufile_cli.multipart.small import refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.multipart.streaming import StreamUpload, StreamWishes

__all__ = ["command"]


@click.command(
    "resume",
    cls=AfterDashes,
    epilog="""\b
Examples:
  ufile resume 7k2m9xqa
  ufile resume 7k                       # any unambiguous beginning of the id
  ufile resume --last
  ufile resume --all -q                 # for cron
  ufile resume 7k2m9xqa --file /mnt/new/big.iso
  cat dump | ufile resume 7k2m9xqa      # a stream is piped again
  ufile resume 7k2m9xqa -- pg_dump -Fc shop
  ufile resume --bucket b --key big.iso --upload-id 9ab5c3f2 --file big.iso
""",
)
@click.argument("journal_id", required=False, shell_complete=complete_journals)
@click.option(
    "--last", is_flag=True, help="The one touched last that is unfinished and nobody works on."
)
@click.option(
    "--all", "every", is_flag=True, help="Every such upload of a file, one after the other."
)
@click.option("--file", "moved", metavar="PATH", help="Where the file is now, if it has moved.")
@click.option("--bucket", metavar="BUCKET", help="Without a journal: the bucket,")
@click.option("--key", metavar="KEY", help="the key,")
@click.option("--upload-id", metavar="ID", help="and the upload id (ufile status --remote).")
@click.option("--block-size", type=SIZE, help="Part size, where the server's list can't tell it.")
@click.option(
    "--pause-part", type=click.IntRange(0), metavar="N", help="The first part that is not up."
)
@click.option(
    "--etags", metavar="E0,,E2,...", help="ETags by part number; blank where a part is not up."
)
@click.option(
    "--resend-changed",
    is_flag=True,
    help="Send parts again whose content has changed, instead of refusing.",
)
@click.option("--from-pause", is_flag=True, help="The stream begins at the pause offset, not at 0.")
@sending_options
@server_options
@verbosity_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    journal_id: str | None,
    last: bool,
    every: bool,
    moved: str | None,
    resend_changed: bool,
    from_pause: bool,
    bucket: str | None,
    key: str | None,
    upload_id: str | None,
    block_size: int | None,
    pause_part: int | None,
    etags: str | None,
    **values: Any,
) -> int:
    """Go on with an upload of a file, or of a stream that is piped again.

    Options of the first run (threads, rate, ...) hold unless given again.
    """
    log, server, sending = Log(Verbosity.of(values)), Server.of(values), Sending.of(values)
    named = Named(bucket, key, upload_id, moved, block_size, pause_part, etags)
    if named.given():
        if journal_id is not None or last or every or from_pause or command_of(ctx):
            raise UsageError(
                "either a journal is named, or --bucket, --key, --upload-id and --file are"
            )
        with json_on_failure(sending, bucket=bucket, key=key):
            return _resume_named(named, server, sending, log, resend_changed=resend_changed)
    if sum((journal_id is not None, last, every)) != 1:
        raise UsageError(
            "name one journal id, or --last, or --all, or an upload by --bucket, --key, "
            "--upload-id and --file",
            hint="ufile status shows the journals",
        )
    if every and moved is not None:
        raise UsageError("--file goes with one upload, not with --all")
    produce = command_of(ctx)
    if every and (from_pause or produce):
        raise UsageError("--all goes on with files alone; a stream is resumed by its id")
    wishes = Wishes(
        moved=moved, resend_changed=resend_changed, from_pause=from_pause, produce=produce
    )
    store = open_store()
    if every:
        server.check()
        return _resume_all(store, server, sending, log, wishes)
    with json_on_failure(sending, bucket=None, key=None):
        chosen = store.find(journal_id) if journal_id is not None else _last(store)
        return resume_one(store, chosen, server, sending, log, wishes)


def _resume_named(
    named: Named, server: Server, sending: Sending, log: Log, *, resend_changed: bool
) -> int:
    store = open_store()
    known = journal_of(store, named.upload_id) if named.upload_id is not None else None
    if known is None:
        return adopt_file(named, server, sending, log)
    wishes = Wishes(moved=named.file, resend_changed=resend_changed)
    return resume_one(store, known, server, sending, log, wishes)


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that only a resume has.

    Attributes:
        moved: where the file is now, None for where it was.
        produce: the COMMAND behind `--`.
    """

    moved: str | None = None
    resend_changed: bool = False
    from_pause: bool = False
    produce: list[str] | None = None


def _resumable(store: Store, *, streams: bool = True) -> list[str]:
    """Journals that are neither finished nor held nor damaged, the one touched last first."""
    found = []
    for listed in store.listing():
        if listed.receipt:
            continue
        try:
            view = store.peek(listed.journal_id)
        except (JournalDamaged, UsageError):
            continue
        if view.document.kind == "stream" and not streams:
            continue
        if view.document.state != "finished" and not view.held:
            found.append((view.touched, listed.journal_id))
    found.sort(reverse=True)
    return [journal_id for _, journal_id in found]


def _last(store: Store) -> str:
    found = _resumable(store)
    if not found:
        raise UsageError("there is no upload to go on with", hint="ufile status --all shows all")
    return found[0]


def _resume_all(store: Store, server: Server, sending: Sending, log: Log, wishes: Wishes) -> int:
    """Every resumable file upload, one after another; with --json one list of results."""
    codes, documents = [0], list[object]()
    SIGNALS.uploading = True  # what is done so far is reported also when a signal ends it
    for journal_id in reversed(_resumable(store, streams=False)):
        try:
            codes.append(
                resume_one(store, journal_id, server, sending, log, wishes, tell=documents.append)
            )
        except UsageError:
            continue  # the journal is gone: given up, or finished and cleaned, meanwhile
        except UFileError as error:
            explain(error)
            documents.append({"journal_id": journal_id, "error": error.as_json()})
            codes.append(error.code)
        if codes[-1] > 128:
            break
    if sending.as_json:
        return tell_result(documents, worst(codes))
    return worst(codes)


def resume_one(
    store: Store,
    journal_id: str,
    server: Server,
    sending: Sending,
    log: Log,
    wishes: Wishes,
    *,
    tell: Callable[[object], None] = print_json,
) -> int:
    """Go on with one upload; its exit code.

    Args:
        tell: takes the result document, where --json asks for one.
    """
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
        undertaking.tell = tell
        if document.state == "finished":
            return _finished_already(undertaking, record)
        try:
            connector = connector_for(server, log, document=document)
        except UFileError as error:
            return undertaking.failed(error)
        try:
            if document.kind == "stream":
                return _go_on_with_stream(undertaking, record, connector, wishes)
            return _go_on(undertaking, record, connector, wishes)
        except UFileError as error:
            return undertaking.failed(error)
        finally:
            connector.close()
    finally:
        record.close()


def _go_on(
    undertaking: Undertaking, record: JournalRecord, connector: Connector, wishes: Wishes
) -> int:
    document = record.document
    if wishes.from_pause or wishes.produce:
        raise UsageError(
            f"upload {document.journal_id} is of the file {document.localfile}, not of a stream"
        )
    if wishes.moved is None:
        undertaking.replay = "{} --file PATH"  # unless it is where it was
    source = _source(record, wishes.moved)
    undertaking.source, undertaking.replay = source.name, "{}"
    chosen = _take_over(undertaking, record, connector)
    options = as_options(chosen, resend_changed=wishes.resend_changed)
    with undertaking.connect(connector, chosen) as connection:

        def act(context: Context) -> Result:
            refuse_empty(source.name, source.identity().size)
            return FileUpload(record, source, connection.client, options, context).run()

        return undertaking.run(connection, act)


def _go_on_with_stream(
    undertaking: Undertaking, record: JournalRecord, connector: Connector, wishes: Wishes
) -> int:
    document = record.document
    if wishes.moved is not None or wishes.resend_changed:
        raise UsageError(
            f"upload {document.journal_id} is of a stream: --file and --resend-changed are for "
            "files",
            hint=f"the same stream again | ufile resume {document.journal_id}",
        )
    source = open_stream(
        wishes.produce,
        f"pipe the same stream again: … | ufile resume {document.journal_id}",
        undertaking.sending,
        undertaking.log,
    )
    undertaking.source = source.name
    undertaking.replay = replay_words(wishes.produce)
    try:
        chosen = _take_over(undertaking, record, connector)
        stream_wishes = StreamWishes(
            size=_whole(document.options.get("size")),
            exact_size=_whole(document.options.get("exact_size")),
            from_pause=wishes.from_pause,
        )
        with undertaking.connect(connector, chosen) as connection:

            def act(context: Context) -> Result:
                upload = StreamUpload(
                    record, source, connection.client, as_options(chosen), context, stream_wishes
                )
                try:
                    return upload.run()
                finally:
                    upload.close()

            return undertaking.run(connection, act)
    finally:
        source.close()


def _whole(value: object) -> int | None:
    """A number of bytes from a journal's options, which may hold anything."""
    return value if isinstance(value, int) and value > 0 else None


def _take_over(
    undertaking: Undertaking, record: JournalRecord, connector: Connector
) -> dict[str, Any]:
    """Make the journal ours, with the options of this run; the options."""
    document, sending = record.document, undertaking.sending
    refuse_differences(sending, document, "go on without these options, or abort and begin anew")
    chosen = merged(sending, document.options)
    document.options = document.options | as_journalled(chosen)
    document.header = document.header | headers_given(sending)
    document.endpoint = connector.endpoint.canonical
    document.custom_domain = connector.endpoint.custom_domain
    document.profile = connector.settings.profile
    SIGNALS.uploading = True
    record.claim()
    return chosen


def _source(record: JournalRecord, moved: str | None) -> FileSource:
    document = record.document
    path = moved or document.localfile
    if path is None:
        raise UsageError("this upload is of no file")
    return FileSource.open(path)


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
        return tell_result(
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
                "threads": 0,
                "exit_code": 0,
                "error": None,
            },
            0,
            undertaking.tell,
        )
    return 0
