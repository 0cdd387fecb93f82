"""`ufile status --remote BUCKET`: what the server has unfinished, beside what the journals know."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from ufile_cli.cli.asking import Asking
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Server
from ufile_cli.cli.report import print_json
from ufile_cli.cli.stores import Damaged, age, command_line, looks, open_store, way_on
from ufile_cli.cli.transfer import connector_for
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.store import Store, View
from ufile_cli.progress import text
from ufile_cli.us3.response import RemoteUpload

__all__ = [
    "Known",
    "abort_command",
    "adopt_command",
    "known_uploads",
    "place_of",
    "rfc3339",
    "show_remote",
]

Known = dict[tuple[str, str], View]
"""Unfinished journals by bucket and upload id."""


def known_uploads(store: Store) -> Known:
    """The unfinished journals that have an upload id."""
    unfinished = [listed for listed in store.listing() if not listed.receipt]
    found: Known = {}
    for view in looks(store, unfinished):
        if isinstance(view, Damaged) or view.document.uploadid is None:
            continue
        if view.document.state != "finished":
            found[view.document.bucket, view.document.uploadid] = view
    return found


def show_remote(bucket: str, server: Server, log: Log, as_json: bool) -> int:
    """Print the bucket's unfinished uploads; 0."""
    connector = connector_for(server, log)
    try:
        with Asking(connector, bucket, log) as asking:
            uploads = list(asking.uploads())
    finally:
        connector.close()
    # Journals after the server: an upload that has just begun is then found in both.
    known = known_uploads(open_store())
    if as_json:
        print_json([_brief(bucket, upload, known) for upload in uploads])
        return 0
    if not uploads:
        click.echo(f"the server has no unfinished uploads in {bucket}", err=True)
        return 0
    options = place_of(server)
    for upload in uploads:
        for line in _lines(bucket, upload, known, options):
            click.echo(line)
    return 0


def _brief(bucket: str, upload: RemoteUpload, known: Known) -> dict[str, object]:
    view = known.get((bucket, upload.upload_id))
    return {
        "uploadid": upload.upload_id,
        "key": upload.key,
        "started_at": rfc3339(upload.started_at),
        "journal_id": view.document.journal_id if view else None,
    }


def rfc3339(seconds: float | None) -> str | None:
    """A Unix time as the journals write times."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _lines(
    bucket: str, upload: RemoteUpload, known: Known, options: tuple[str, ...]
) -> Iterable[str]:
    view = known.get((bucket, upload.upload_id))
    begun = f"begun {age(time.time() - upload.started_at)} ago" if upload.started_at else ""
    yield click.style(text.printable(f"{bucket}/{upload.key}"), bold=True)
    yield f"  upload id {text.printable(upload.upload_id)}"
    known_as = f"journal {view.document.journal_id}, {view.state}" if view else "no journal here"
    yield "  " + "; ".join(word for word in (begun, known_as) if word)
    if view is not None:
        if not view.held:
            yield f"  go on with:    {way_on(view.document)}"
            yield f"  give up with:  ufile abort {view.document.journal_id}"
        return
    yield "  adopt with:    " + adopt_command(bucket, upload, options)
    yield "  give up with:  " + abort_command(bucket, upload, options)


def place_of(server: Server, document: JournalDocument | None = None) -> tuple[str, ...]:
    """The options that say where to, for a command that somebody is to type.

    Args:
        document: a journal whose endpoint and profile hold where no option was given.
    """
    options: list[str] = []
    profile = server.profile or (document.profile if document else None)
    if profile is not None:
        options += ["--profile", profile]
    if server.endpoint is not None:
        options += ["--endpoint", server.endpoint]
    elif document is not None:
        options += ["--endpoint", document.endpoint]
    if server.internal and server.endpoint is not None:
        options.append("--internal")
    if server.custom_domain or (
        server.endpoint is None and document is not None and document.custom_domain
    ):
        options.append("--custom-domain")
    return tuple(options)


def adopt_command(bucket: str, upload: RemoteUpload, options: tuple[str, ...]) -> str:
    """What makes an upload without a journal one of ours; PATH is for the person to fill in."""
    words = ("--bucket", bucket, "--key", upload.key, "--upload-id", upload.upload_id)
    return text.printable(command_line("ufile", "resume", *options, *words, "--file", "PATH"))


def abort_command(bucket: str, upload: RemoteUpload, options: tuple[str, ...]) -> str:
    """What frees the parts of an upload without a journal."""
    words = ("--bucket", bucket, "--key", upload.key, "--upload-id", upload.upload_id)
    return text.printable(command_line("ufile", "abort", *options, *words))
