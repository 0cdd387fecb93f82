"""`ufile upload BUCKET KEY FILE`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ufile_cli.cli.beginning import begin, file_document
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
    json_on_failure,
    merged,
)
from ufile_cli.connect import Connector
from ufile_cli.errors import SourceError, UFileError, UsageError
from ufile_cli.journal.record import Record
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.plan import check_size
from ufile_cli.multipart.request import Context, Result
from ufile_cli.multipart.small import put, read_whole, refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.progress import text
from ufile_cli.us3.endpoints import check_bucket, check_key

__all__ = ["command"]


_RULES = "ufile_cli.rules"


class _OrderedRules(click.Command):
    """Keeps --include and --exclude in the order they were given in: the last match wins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rules = []
        for index, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            if name in ("--include", "--exclude") and (equals or index + 1 < len(args)):
                rules.append((name == "--include", value if equals else args[index + 1]))
        ctx.meta[_RULES] = tuple(rules)
        return super().parse_args(ctx, args)


@click.command(
    "upload",
    cls=_OrderedRules,
    epilog="""\b
Examples:
  ufile upload backups 2026/big.iso ./big.iso
  ufile upload backups 2026/ ./big.iso       # becomes 2026/big.iso
  ufile upload backups big.iso ./big.iso -j 16 --limit-rate 20M
  ufile upload try-out hello ./hello.txt --endpoint local
  ufile upload -r backups photos/ ./photos --include '*.jpg' --skip-existing
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
@click.option("-r", "--recursive", is_flag=True, help="FILE is a directory, KEY a key prefix.")
@click.option(
    "--include",
    multiple=True,
    metavar="GLOB",
    help="With -r: only such files; repeatable, the last match wins.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="With -r: no such files; repeatable, the last match wins.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="With -r: leave out what the bucket has with the same ETag.",
)
@click.option("--dry-run", is_flag=True, help="With -r: say what would be sent, send nothing.")
@sending_options
@server_options
@verbosity_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bucket: str,
    key: str,
    file: str,
    restart: bool,
    resend_changed: bool,
    recursive: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    skip_existing: bool,
    dry_run: bool,
    **values: Any,
) -> int:
    """Upload FILE to BUCKET as the object KEY.

    Run the same command again after a failure: it goes on where it stopped.
    """
    log, server, sending = Log(Verbosity.of(values)), Server.of(values), Sending.of(values)
    with json_on_failure(sending, bucket=bucket, key=key):
        stream_command = f"ufile upload-stream {shlex.quote(bucket)} {shlex.quote(key)}"
        if file == "-":
            raise SourceError(
                "standard input has no size beforehand; it is uploaded as a stream",
                hint=f"… | {stream_command}",
            )
        if not recursive and (include or exclude or skip_existing or dry_run):
            raise UsageError("--include, --exclude, --skip-existing and --dry-run go with -r")
        if recursive and resend_changed:
            raise UsageError("--resend-changed goes with one file")
        connector = connector_for(server, log)
        if not connector.endpoint.custom_domain:
            check_bucket(bucket)
        try:
            if recursive:
                from ufile_cli.cli.directories import upload_directory

                return upload_directory(
                    bucket,
                    key,
                    file,
                    patterns=ctx.meta[_RULES],
                    skip_existing=skip_existing,
                    dry_run=dry_run,
                    restart=restart,
                    sending=sending,
                    connector=connector,
                    log=log,
                )
            if file and Path(file).is_dir():
                raise SourceError(
                    f"{text.printable(file)} is a directory",
                    hint=f"what lies below it: ufile upload -r {shlex.quote(bucket)} "
                    f"{shlex.quote(key)} {shlex.quote(file)}",
                )
            source = FileSource.open(file, stream_hint=f"{stream_command} < {shlex.quote(file)}")
            if key.endswith("/"):
                key += source.name
            check_key(key)
            check_size(source.identity().size)
            undertaking = Undertaking(
                sending,
                log,
                bucket=bucket,
                key=key,
                source=source.name,
                size=source.identity().size,
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
    document = file_document(
        sending,
        connector,
        source,
        bucket=undertaking.bucket,
        key=undertaking.key,
        options=merged(sending, {}),
    )
    try:
        record = begin(open_store(), connector, sending, document, undertaking.log, restart=restart)
    except UFileError as error:
        return undertaking.failed(error)
    if record is None:
        return _put(undertaking, connector, source, Record(document, None))
    undertaking.journal_id = record.journal_id
    chosen = merged(sending, record.document.options)
    options = as_options(chosen, resend_changed=resend_changed)
    with undertaking.connect(connector, chosen) as connection:

        def act(context: Context) -> Result:
            refuse_empty(source.name, source.identity().size)
            return FileUpload(record, source, connection.client, options, context).run()

        try:
            return undertaking.run(connection, act)
        finally:
            record.close()


def _put(undertaking: Undertaking, connector: Connector, source: FileSource, record: Record) -> int:
    chosen = merged(undertaking.sending, {})
    with undertaking.connect(connector, chosen) as connection:

        def act(context: Context) -> Result:
            content = read_whole(source)
            return put(record, source.name, content, connection.client, as_options(chosen), context)

        return undertaking.run(connection, act)
