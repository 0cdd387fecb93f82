"""`ufile upload BUCKET KEY FILE`."""

from __future__ import annotations

import shlex
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
    as_options,
    connector_for,
    merged,
    new_document,
    refuse_differences,
)
from ufile_cli.connect import Connection, Connector
from ufile_cli.errors import SourceError, UFileError, UsageError
from ufile_cli.etag import BLOCK
from ufile_cli.journal.record import JournalRecord, Record
from ufile_cli.journal.store import Store
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.mime import guess_type
from ufile_cli.multipart.plan import check_size
from ufile_cli.multipart.request import Context, Result
from ufile_cli.multipart.small import put, read_whole
from ufile_cli.multipart.sources import FileSource
from ufile_cli.us3.endpoints import check_bucket, check_key

__all__ = ["command"]


@click.command(
    "upload",
    epilog="""\b
Examples:
  ufile upload backups 2026/big.iso ./big.iso
  ufile upload backups 2026/ ./big.iso           # a KEY that ends in / gets the name
  ufile upload backups big.iso ./big.iso -j 16 --limit-rate 20M
  ufile upload try-out hello ./hello.txt --endpoint local
""",
)
@click.argument("bucket")
@click.argument("key")
@click.argument("file", type=click.Path(path_type=str))
@click.option(
    "--restart", is_flag=True, help="Give up an unfinished upload of the same file, start anew."
)
@click.option(
    "--resend-changed",
    is_flag=True,
    help="Where the file has changed, send those parts again instead of refusing.",
)
@sending_options
@server_options
@verbosity_options
def command(
    bucket: str, key: str, file: str, restart: bool, resend_changed: bool, **values: Any
) -> int:
    """Upload FILE to BUCKET as the object KEY.

    Run the same command again after a failure: it goes on where it stopped.
    """
    log, server, sending = Log(Verbosity.of(values)), Server.of(values), Sending.of(values)
    stream_command = f"ufile upload-stream {shlex.quote(bucket)} {shlex.quote(key)}"
    if file == "-":
        raise SourceError(
            "standard input has no size beforehand; it is uploaded as a stream",
            hint=f"… | {stream_command}",
        )
    connector = connector_for(server, log)
    try:
        source = FileSource.open(file, stream_hint=f"{stream_command} < {shlex.quote(file)}")
        if key.endswith("/"):
            key += source.name
        check_key(key)
        if not connector.endpoint.custom_domain:
            check_bucket(bucket)
        check_size(source.identity().size)
        undertaking = Undertaking(
            sending, log, bucket=bucket, key=key, source=source.name, size=source.identity().size
        )
        return _upload(
            undertaking, connector, source, restart=restart, resend_changed=resend_changed
        )
    finally:
        connector.close()


def _upload(
    undertaking: Undertaking,
    connector: Connector,
    source: FileSource,
    *,
    restart: bool,
    resend_changed: bool,
) -> int:
    sending = undertaking.sending
    document = new_document(
        sending,
        connector,
        kind="file",
        bucket=undertaking.bucket,
        key=undertaking.key,
        mime_type=guess_type(source.name),
        options=merged(sending, {}),
    )
    identity = source.identity()
    document.localfile, document.size = str(source.path), identity.size
    document.source = identity
    if identity.size <= BLOCK:
        return _put(undertaking, connector, source, Record(document, None))
    store = open_store()
    try:
        record = _begin(store, connector, undertaking, document, restart=restart)
    except UFileError as error:
        return undertaking.failed(error)
    undertaking.journal_id = record.journal_id
    chosen = merged(sending, record.document.options)
    options = as_options(chosen, resend_changed=resend_changed)
    with _connection(connector, undertaking, chosen) as connection:

        def act(context: Context) -> Result:
            return FileUpload(record, source, connection.client, options, context).run()

        try:
            return undertaking.run(connection, act)
        finally:
            record.close()


def _connection(
    connector: Connector, undertaking: Undertaking, chosen: dict[str, Any]
) -> Connection:
    return connector.connect(
        undertaking.bucket,
        threads=chosen["threads"],
        timeout=chosen["timeout"],
        log=undertaking.log.request,
    )


def _put(undertaking: Undertaking, connector: Connector, source: FileSource, record: Record) -> int:
    chosen = merged(undertaking.sending, {})
    with _connection(connector, undertaking, chosen) as connection:

        def act(context: Context) -> Result:
            content = read_whole(source)
            return put(record, source.name, content, connection.client, as_options(chosen), context)

        return undertaking.run(connection, act)


def _begin(
    store: Store,
    connector: Connector,
    undertaking: Undertaking,
    document: Any,
    *,
    restart: bool,
) -> JournalRecord:
    """The unfinished journal of this file and destination, or a new one."""
    found = {
        "endpoint": document.endpoint,
        "bucket": document.bucket,
        "key": document.key,
        "localfile": document.localfile,
    }
    if restart:
        from ufile_cli.cli.abort import give_up

        while (journal_id := store.find_unfinished(**found)) is not None:
            give_up(store, journal_id, connector, undertaking.log)
    with store.beginning():
        journal_id = store.find_unfinished(**found)
        if journal_id is None:
            return store.create(document)
        record = store.open_quietly(journal_id)
    try:
        if record.document.state == "finished":
            raise UsageError(f"upload {journal_id} has just been finished by another process")
        refuse_differences(
            undertaking.sending,
            record.document,
            "go on without these options, or begin anew with --restart",
        )
        record.claim()
    except BaseException:
        record.close()
        raise
    return record
