"""One upload behind the Python API: it begins, fails, and goes on in the same process.

Raises the error tree; what callers see of it is decided in `multipartuploadufile`. What is kept
between two attempts is the record (upload id, ETags), and of a stream the reader, which still
holds what was read and not acknowledged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from ufile_cli.errors import SourceError, UsageError
from ufile_cli.etag import BLOCK
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.record import JournalRecord, Record
from ufile_cli.journal.store import Store
from ufile_cli.multipart.adopt import Parameters, adopt
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.plan import check_size
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.multipart.small import put, read_whole, refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.multipart.streaming import StreamUpload, StreamWishes, first_block
from ufile_cli.multipart.streams import StreamReader, StreamSource
from ufile_cli.us3.client import Client

__all__ = ["Continuable", "ContinuableFile", "ContinuableStream"]

_REST = 1.0
"""Seconds to wait for a thread that reads a stream which may be slow."""


class Continuable(ABC):
    """One upload.

    Args:
        document: where to, and how.
        store: where its journal is to be; None for none.
        given: what is known of an upload that was begun elsewhere.

    Attributes:
        record: what is known of it.
        adopted: it was begun elsewhere, so that nobody knows which version of a file is up.
    """

    def __init__(
        self, document: JournalDocument, store: Store | None, given: Parameters | None = None
    ) -> None:
        self.record = Record(document, None)
        self._store = store
        self._given = given
        self.adopted = given is not None

    @property
    def document(self) -> JournalDocument:
        """Where to, and how; may be changed between two attempts."""
        return self.record.document

    @abstractmethod
    def attempt(self, client: Client, options: Options, context: Context) -> Result:
        """Begin it, or go on with it.

        Raises:
            UFileError: another attempt goes on from there.
        """

    def _ready(self, client: Client, options: Options, context: Context) -> None:
        """Have a record that can be written, and in it what the parameters say."""
        if self._given is not None:
            drive = Drive(threads=1, policy=options.policy, stop=context.stop, emit=context.emit)
            try:
                adopt(self.record, self._given, client, drive)
            finally:
                drive.close()
            self._given = None
        if self._store is None:
            return
        known = self.record
        if isinstance(known, JournalRecord):
            self.record = self._reopened(self._store, known)
        else:
            self.record = self._begun(self._store, known)

    def _reopened(self, store: Store, known: JournalRecord) -> JournalRecord:
        """The journal that the last attempt closed."""
        record = store.open_quietly(known.document.journal_id)
        try:
            if record.document.state == "finished":
                raise UsageError("another process has finished this upload meanwhile")
            for name in ("mime_type", "header", "localfile", "options"):
                setattr(record.document, name, getattr(known.document, name))
            record.carry_on(known)
            record.claim()
        except BaseException:
            record.close()
            raise
        return record

    def _begun(self, store: Store, known: Record) -> JournalRecord:
        """A new journal; of what was done without one, or adopted, nothing is forgotten."""
        return store.create(known.document, known)


class ContinuableFile(Continuable):
    """The upload of a file; it is opened for each attempt."""

    def attempt(self, client: Client, options: Options, context: Context) -> Result:
        path = self.document.localfile
        if path is None:
            raise RuntimeError("a file has a name")
        source = FileSource.open(path)
        identity = source.identity()
        check_size(identity.size)
        self.document.localfile = str(source.path)
        if self.document.size is None:
            self.document.size = identity.size
            self.document.source = None if self._given is not None else identity
        begun = self._given is not None or self.record.parts is not None
        if not begun and self._unfinished() is None and identity.size <= BLOCK:
            content = read_whole(source)
            source.close()
            return put(self.record, source.name, content, client, options, context)
        refuse_empty(source.name, source.identity().size)
        self._ready(client, options, context)
        result = FileUpload(self.record, source, client, options, context).run()
        # Not closed after a failure: a worker may still be reading; the last one closes it.
        source.close()
        return result

    def _begun(self, store: Store, known: Record) -> JournalRecord:
        """As with the command: the unfinished journal of the same upload is gone on with."""
        document = known.document
        with store.beginning():
            found = self._unfinished()
            if found is not None and known.parts is None:
                record = store.open_quietly(found)
                theirs = record.document
                if (theirs.mime_type, theirs.header) == (document.mime_type, document.header):
                    try:
                        record.claim()
                    except BaseException:
                        record.close()
                        raise
                    return record
                record.close()
            return super()._begun(store, known)

    def _unfinished(self) -> str | None:
        """The journal of an upload of this file that did not finish."""
        document = self.document
        if self._store is None:
            return None
        return self._store.find_unfinished(
            endpoint=document.endpoint,
            bucket=document.bucket,
            key=document.key,
            localfile=document.localfile or "",
        )

    def moved(self, path: str) -> None:
        """The file lies somewhere else now."""
        self.document.localfile = str(Path(path).absolute())


class ContinuableStream(Continuable):
    """The upload of a stream, which is read once; what was read and is not up is kept.

    Args:
        source: from its beginning, or, where parameters are given, from the pause part on.
    """

    def __init__(
        self,
        document: JournalDocument,
        source: StreamSource,
        store: Store | None,
        given: Parameters | None = None,
    ) -> None:
        super().__init__(document, store, given)
        self.source = source
        self._wishes = StreamWishes(from_pause=given is not None)
        self._looked = given is not None
        self._small: bytes | None = None
        self._reader: StreamReader | None = None
        self._lost: str | None = None

    def attempt(self, client: Client, options: Options, context: Context) -> Result:
        if not self._looked:
            self._look()
        if self._small is not None:
            return put(self.record, self.source.name, self._small, client, options, context)
        self._ready(client, options, context)
        upload = StreamUpload(
            self.record,
            self.source,
            client,
            options,
            context,
            self._wishes,
            reader=self._reader,
        )
        try:
            result = upload.run()
        except BaseException:
            self._reader = upload.reader
            raise
        finally:
            if upload.reader is not None:
                upload.reader.rest(_REST)
        upload.close()
        self._reader = None
        return result

    def _look(self) -> None:
        """Whether the stream is a small one.

        Raises:
            SourceError: what was read of it is lost, as an earlier reading was interrupted.
        """
        if self._lost is not None and not self.source.rewind():
            raise SourceError(f"the stream has to be given again: {self._lost}")
        self._lost = "reading its beginning was interrupted"
        content, whole = first_block(self.source)
        self._lost, self._looked = None, True
        if whole:
            self._small = content
