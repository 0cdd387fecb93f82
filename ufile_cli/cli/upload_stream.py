"""`… | ufile upload-stream BUCKET KEY` and `ufile upload-stream BUCKET KEY -- COMMAND`."""

from __future__ import annotations

from typing import Any

import click

from ufile_cli.cli.abort import give_up
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import (
    SIZE,
    Sending,
    Server,
    Verbosity,
    sending_options,
    server_options,
    verbosity_options,
)
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.cli.stores import open_store
from ufile_cli.cli.streamed import AfterDashes, command_of, open_stream, replay_words
from ufile_cli.cli.transfer import (
    Undertaking,
    as_options,
    connector_for,
    json_on_failure,
    merged,
    new_document,
)
from ufile_cli.connect import Connector
from ufile_cli.errors import UFileError, UsageError
from ufile_cli.journal.record import Record
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.mime import guess_type
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.multipart.small import put
from ufile_cli.multipart.streaming import StreamUpload, StreamWishes, check_exact, first_block
from ufile_cli.multipart.streams import StreamSource
from ufile_cli.us3.endpoints import check_bucket, check_key

__all__ = ["command"]


@click.command(
    "upload-stream",
    cls=AfterDashes,
    epilog="""\b
Examples:
  ufile upload-stream backups db.dump -- pg_dump -Fc shop
  tar c photos | zstd | ufile upload-stream backups photos.tar.zst --size 80G
A pipe ends in the same way whether its producer finished or died. With
-- COMMAND an object is made only if COMMAND ends with 0: use that in cron.
""",
)
@click.argument("bucket")
@click.argument("key")
@click.option("--size", type=SIZE, metavar="BYTES", help="Expected size, for the bar.")
@click.option(
    "--exact-size",
    type=SIZE,
    metavar="BYTES",
    help="Make no object unless the stream has just this length.",
)
@click.option("--abort-on-failure", is_flag=True, help="Free the parts unless the upload succeeds.")
@sending_options
@server_options
@verbosity_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bucket: str,
    key: str,
    size: int | None,
    exact_size: int | None,
    abort_on_failure: bool,
    **values: Any,
) -> int:
    """Upload standard input, or the output of COMMAND, to BUCKET as the object KEY.

    After a failure pipe the same stream into "ufile resume": what was sent is compared, not
    sent again.
    """
    log, server, sending = Log(Verbosity.of(values)), Server.of(values), Sending.of(values)
    with json_on_failure(sending, bucket=bucket, key=key):
        produce = command_of(ctx)
        if key.endswith("/"):
            raise UsageError("a stream has no name to put behind a KEY that ends in /")
        check_key(key)
        connector = connector_for(server, log)
        if not connector.endpoint.custom_domain:
            check_bucket(bucket)
        source = open_stream(
            produce, f"cat FILE | ufile upload-stream {bucket} {key}", sending, log
        )
        undertaking = Undertaking(
            sending, log, bucket=bucket, key=key, source=source.name, size=exact_size
        )
        undertaking.replay = replay_words(produce)
        wishes = StreamWishes(size=size, exact_size=exact_size)
        try:
            return _upload(undertaking, connector, source, wishes, abort_on_failure)
        finally:
            source.close()
            connector.close()


def _upload(
    undertaking: Undertaking,
    connector: Connector,
    source: StreamSource,
    wishes: StreamWishes,
    abort_on_failure: bool,
) -> int:
    sending = undertaking.sending
    chosen = merged(sending, {})
    options = as_options(chosen)
    store = open_store()
    document = new_document(
        sending,
        connector,
        kind="stream",
        bucket=undertaking.bucket,
        key=undertaking.key,
        mime_type=guess_type(undertaking.key),
        options=chosen,
    )
    document.options |= {"size": wishes.size, "exact_size": wishes.exact_size}
    with undertaking.connect(connector, chosen) as connection:

        def act(context: Context) -> Result:
            content, whole = _begin(source, options, context)
            if whole:
                check_exact(len(content), wishes.exact_size)
                return put(
                    Record(document, None),
                    source.name,
                    content,
                    connection.client,
                    options,
                    context,
                )
            record = store.create(document)
            undertaking.journal_id = record.journal_id
            upload = StreamUpload(record, source, connection.client, options, context, wishes)
            try:
                return upload.run()
            except UFileError:
                if abort_on_failure:
                    _free(undertaking, connector)
                raise
            finally:
                upload.close()

        return undertaking.run(connection, act)


def _begin(source: StreamSource, options: Options, context: Context) -> tuple[bytes, bool]:
    """The first block, read in a worker, so that a signal is heard while the producer is slow."""
    drive = Drive(
        threads=1,
        policy=options.policy,
        stop=context.stop,
        emit=context.emit,
        grace=0.0,  # reading is no request: nobody waits for a silent producer
    )
    try:
        return drive.call("the stream", lambda: first_block(source), remote=False)
    finally:
        drive.close()


def _free(undertaking: Undertaking, connector: Connector) -> None:
    """Give the failed upload up, as --abort-on-failure asks for."""
    journal_id = undertaking.journal_id
    if journal_id is None:
        return
    # A signal that ended the upload was heard; a second one leaves at once, also from here.
    heard, SIGNALS.stop.signum = SIGNALS.stop.signum, None
    try:
        give_up(open_store(), journal_id, connector, undertaking.log)
    except UFileError as error:
        undertaking.log.shown(f"ufile: its parts could not be freed: {error.message}")
        return
    finally:
        SIGNALS.stop.signum = heard
    undertaking.journal_id = None
    undertaking.log.shown("ufile: its parts were freed on the server (--abort-on-failure)")
