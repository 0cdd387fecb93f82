"""`ufile resume --bucket B --key K --upload-id U --file F`: an upload without a journal.

Another tool may have begun it. What is not given comes from the server's part list; no part
counts as up before our own bytes of it were hashed and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ufile_cli.cli.beginning import file_document
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Sending, Server
from ufile_cli.cli.stores import open_store
from ufile_cli.cli.transfer import Undertaking, as_options, connector_for, merged
from ufile_cli.errors import JournalBusy, JournalDamaged, UsageError
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.record import JournalRecord, Record
from ufile_cli.journal.store import Store
from ufile_cli.multipart.adopt import Parameters, adopt
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.plan import check_size
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.multipart.small import refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.us3.endpoints import check_bucket, check_key

if TYPE_CHECKING:
    from ufile_cli.us3.client import Client

__all__ = ["Named", "adopt_file", "journal_of"]


@dataclass(frozen=True, slots=True)
class Named:
    """What was said of the upload in the place of a journal id."""

    bucket: str | None = None
    key: str | None = None
    upload_id: str | None = None
    file: str | None = None
    block_size: int | None = None
    pause_part: int | None = None
    etags: str | None = None

    def given(self) -> bool:
        """Whether anything of it was said but the file, which other resumes take too."""
        return any(
            value is not None
            for value in (
                self.bucket,
                self.key,
                self.upload_id,
                self.block_size,
                self.pause_part,
                self.etags,
            )
        )


def journal_of(store: Store, upload_id: str) -> str | None:
    """The unfinished journal of this upload id, where there is one already."""
    for listed in reversed(store.listing()):
        if listed.receipt:
            continue
        try:
            document = store.peek(listed.journal_id).document
        except (JournalDamaged, UsageError):
            continue
        if document.uploadid == upload_id and document.state != "finished":
            return listed.journal_id
    return None


def adopt_file(named: Named, server: Server, sending: Sending, log: Log) -> int:
    """Make the upload one of ours, with a journal, and go on with it; the exit code."""
    bucket, key, upload_id, file = named.bucket, named.key, named.upload_id, named.file
    if bucket is None or key is None or upload_id is None or file is None:
        raise UsageError("--bucket, --key, --upload-id and --file go together")
    check_key(key)
    connector = connector_for(server, log)
    try:
        if not connector.endpoint.custom_domain:
            check_bucket(bucket)
        source = FileSource.open(file)
        check_size(source.identity().size)
        chosen = merged(sending, {})
        document = file_document(sending, connector, source, bucket=bucket, key=key, options=chosen)
        undertaking = Undertaking(
            sending, log, bucket=bucket, key=key, source=source.name, size=document.size
        )
        undertaking.again = "run the same command again"
        given = Parameters(
            upload_id=upload_id,
            block_size=named.block_size,
            etags=None if named.etags is None else named.etags.split(","),
            pause=named.pause_part,
        )
        with connector.connect(
            bucket, threads=chosen["threads"], timeout=chosen["timeout"], log=log.request
        ) as connection:

            def act(context: Context) -> Result:
                # Nobody knows which version of the file is up: parts that differ are sent again.
                options = as_options(chosen, resend_changed=True)
                refuse_empty(source.name, source.identity().size)
                known = _known(document, given, connection.client, options, context)
                record = _create(open_store(), document, known, upload_id)
                undertaking.journal_id = record.journal_id
                return FileUpload(record, source, connection.client, options, context).run()

            return undertaking.run(connection, act)
    finally:
        connector.close()


def _create(
    store: Store, document: JournalDocument, known: Record, upload_id: str
) -> JournalRecord:
    """A new journal; of two processes that adopt the same upload at once the first has it.

    Raises:
        JournalBusy: it is the other one.
    """
    with store.beginning():
        theirs = journal_of(store, upload_id)
        if theirs is None:
            return store.create(document, known)
    store.open_quietly(theirs).close()  # says which process has it
    raise JournalBusy(
        f"another process has just begun with upload {theirs}", hint=f"ufile resume {theirs}"
    )


def _known(
    document: JournalDocument,
    given: Parameters,
    client: Client,
    options: Options,
    context: Context,
) -> Record:
    """What parameters and server say, before there is a journal that could be left behind."""
    known = Record(document, None)
    drive = Drive(
        threads=1,
        policy=options.policy,
        stop=context.stop,
        emit=context.emit,
        rotated=context.rotated,
    )
    try:
        adopt(known, given, client, drive)
    except UsageError as error:
        if error.hint is not None and "block size" in error.message:
            error.hint = "give it: --block-size N, as Initiate answered"
        raise
    finally:
        drive.close()
    if len(known.parts or ()):
        document.source = None  # so that what is said to be up is hashed and compared first
    return known
