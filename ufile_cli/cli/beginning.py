"""How the upload of a file begins: its document, and the journal to go on with or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Sending
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.cli.transfer import new_document, refuse_differences
from ufile_cli.connect import Connector
from ufile_cli.etag import BLOCK
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store
from ufile_cli.multipart.mime import guess_type
from ufile_cli.multipart.sources import FileSource

__all__ = ["begin", "file_document"]


def file_document(
    sending: Sending,
    connector: Connector,
    source: FileSource,
    *,
    bucket: str,
    key: str,
    options: Mapping[str, Any],
) -> JournalDocument:
    """The document of a file's upload, as it begins."""
    document = new_document(
        sending,
        connector,
        kind="file",
        bucket=bucket,
        key=key,
        mime_type=guess_type(source.name),
        options=options,
    )
    identity = source.identity()
    document.localfile, document.size = str(source.path), identity.size
    document.source = identity
    return document


def begin(
    store: Store,
    connector: Connector,
    sending: Sending,
    document: JournalDocument,
    log: Log,
    *,
    restart: bool = False,
) -> JournalRecord | None:
    """The unfinished journal of this file and destination, or a new one; locked.

    None for a small file without an unfinished one, which there is if the file was larger: it
    needs no journal.

    Args:
        restart: give the unfinished one up first.

    Raises:
        JournalBusy: another process uploads the same file to the same place.
        UsageError: it was begun with another mime type, storage class or metadata.
    """
    found = {
        "endpoint": document.endpoint,
        "bucket": document.bucket,
        "key": document.key,
        "localfile": document.localfile or "",
    }
    small = document.size is not None and document.size <= BLOCK
    if restart:
        from ufile_cli.cli.abort import give_up

        while (journal_id := store.find_unfinished(**found)) is not None:
            give_up(store, journal_id, connector, log)
    if small and store.find_unfinished(**found) is None:
        return None
    SIGNALS.uploading = True  # a journal that is left behind is to be told of
    with store.beginning():
        while (journal_id := store.find_unfinished(**found)) is not None:
            record = store.open_quietly(journal_id)
            if record.document.state != "finished":
                break
            record.close()  # another process has just finished it
        else:
            return store.create(document)
    try:
        refuse_differences(
            sending,
            record.document,
            "go on without these options, or begin anew with --restart",
        )
        record.claim()
    except BaseException:
        record.close()
        raise
    return record
