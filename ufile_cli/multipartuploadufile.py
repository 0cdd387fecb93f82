"""Multipart upload as a library: the functions of UCloud's own SDK, on the engine of `ufile`.

    from ufile_cli import multipartuploadufile

    handler = multipartuploadufile.MultipartUploadUFile(public_key, private_key, suffix)
    ret, resp = handler.uploadfile(bucket, key, path)
    while resp.status_code == -1:
        ret, resp = handler.resumeuploadfile()

Parameters, their order and their defaults are those of UCloud's page "multipart upload and
resuming"; what is ours are keyword arguments of the constructor. This is the one place where
exceptions become `(ret, ResponseInfo)`: those of the network and of the server do, everything
else is raised. `docs/python-api.md` says more.

It installs no signal handler, prints nothing, and leaves no thread behind that does not end by
itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufile_cli.connect import Connector
from ufile_cli.continuable import Continuable, ContinuableFile, ContinuableStream
from ufile_cli.credentials import Credentials
from ufile_cli.errors import NetworkError, Refused, ServerError, SourceError, UsageError
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.store import Store, utc_now
from ufile_cli.multipart.adopt import Parameters
from ufile_cli.multipart.mime import guess_type
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.streams import ObjectSource
from ufile_cli.progress.events import Event, Sink, ignore
from ufile_cli.responseinfo import ResponseInfo
from ufile_cli.settings import Settings, state_directory
from ufile_cli.us3.client import RequestRecord
from ufile_cli.us3.endpoints import LOCAL, REGIONS, check_bucket, check_key

__all__ = ["DEFAULT_SUFFIX", "MultipartUploadUFile", "ResponseInfo"]

DEFAULT_SUFFIX = ".cn-bj.ufileos.com"
"""The public suffix of Beijing, as in UCloud's SDK."""

Answer = tuple[dict[str, Any] | None, ResponseInfo]
PathText = str | os.PathLike[str]


class MultipartUploadUFile:
    """Uploads in parts, one at a time, and goes on with the one that failed last.

    Args:
        public_key: the public key of an account or token.
        private_key: its private key; never shown.
        upload_suffix: where the bucket is: a suffix (`.cn-bj.ufileos.com`, plain HTTP as in the
            SDK), a URL (`https://cn-bj.ufileos.com`), a region (`cn-bj`, HTTPS) or `local`, the
            embedded server; Beijing's suffix unless told.
        timeout: seconds without a moving byte after which a connection is given up.
        journal: keep a journal of each upload in parts, which `ufile status` and `ufile resume`
            know: a directory, or True for that of the command. `uploadfile` then goes on with an
            unfinished upload of the same file to the same place.
        limit_rate: bytes a second over all threads.
        custom_domain: the URL's host is the bucket's own.
        progress: is told what happens, with the events of `ufile_cli.progress.events`; what it
            raises ends the upload, and comes out as it is.

    Attributes:
        uploadid: of the last upload; None before Initiate, and for content of at most 4 MiB,
            which one PutFile stores.
        blocksize: bytes of each part but the last.
        etaglist: ETags by part number, without quotes, "" for parts that are not up; it ends at
            the highest part that is up.
        pausepartnumber: the first part that is not up.
        journal_id: what `ufile resume` calls the last upload, None without a journal.

    One handler does one upload at a time: calls from several threads come one after the other.

    Raises:
        ValueError: an empty key, or a suffix that can't be understood.
    """

    def __init__(
        self,
        public_key: str,
        private_key: str,
        upload_suffix: str | None = None,
        *,
        timeout: float = 60.0,
        journal: bool | PathText = False,
        limit_rate: float | None = None,
        custom_domain: bool = False,
        progress: Sink | None = None,
    ) -> None:
        self.set_keys(public_key, private_key)
        self._settings = Settings(
            endpoint=_endpoint(upload_suffix),
            internal=False,
            custom_domain=custom_domain,
            profile=None,
            keys=lambda: self._credentials,
            origin={},
        )
        try:
            self._endpoint = Connector(self._settings).endpoint
        except UsageError as error:
            raise ValueError(error.message) from error
        if timeout <= 0 or (limit_rate is not None and limit_rate <= 0):
            raise ValueError("timeout and limit_rate must be above 0")
        self._timeout = float(timeout)
        self._limit_rate = limit_rate
        self._emit = ignore if progress is None else _handing_on(progress)
        self._store: Store | None = None
        if journal is True:
            self._store = Store(state_directory(os.environ))
        elif journal is not False:
            self._store = Store(_directory(journal))
        self._current: Continuable | None = None
        self._threads = 4
        self._busy = threading.Lock()
        self.uploadid: str | None = None
        self.blocksize: int | None = None
        self.etaglist: list[str] = []
        self.pausepartnumber = 0
        self.journal_id: str | None = None

    def __repr__(self) -> str:
        return (
            f"MultipartUploadUFile({self._credentials.public_key!r}, {self._settings.endpoint!r})"
        )

    def set_keys(self, public_key: str, private_key: str) -> None:
        """Use another key pair from the next request on.

        Raises:
            ValueError: one is empty, or holds characters that no key has.
        """
        for name, key in (("public", public_key), ("private", private_key)):
            if not isinstance(key, str) or not key:
                raise ValueError(f"the {name} key is empty")
            if not key.isascii() or not key.isprintable() or key != key.strip():
                raise ValueError(f"the {name} key holds characters that no key has")
        self._credentials = Credentials(public_key, private_key)

    # -- the four functions ----------------------------------------------------------------------

    def uploadfile(
        self,
        bucket: str,
        key: str,
        localfile: PathText,
        maxthread: int = 4,
        retrycount: int = 3,
        retryinterval: float = 5,
        header: Mapping[str, str] | None = None,
    ) -> Answer:
        """Upload a file, in parts where it is larger than 4 MiB.

        Args:
            bucket: the bucket's name.
            key: the object's key.
            localfile: the file's name.
            maxthread: parts in flight at once.
            retrycount: attempts in all for each part and call.
            retryinterval: seconds before the second attempt; later ones wait longer.
            header: headers of all requests; a Content-Type in it is the object's.

        Returns:
            `(None, resp)` with status 200 when the object is stored and was compared, else the
            server's JSON (or `{}`) and why not; `resumeuploadfile()` then goes on.

        Raises:
            ValueError: a parameter can't be right.
            SourceError: the file is missing, unreadable, or changed while it was uploaded.
            UFileError: its other kinds, as docs/python-api.md lists them.
        """
        with self._busy:
            document = self._document("file", bucket, key, header, None)
            name = os.fspath(localfile)
            document.localfile = name
            if document.mime_type is None:
                document.mime_type = guess_type(Path(name).name)
            self._threads = _at_least_one("maxthread", maxthread)
            policy = _policy(retrycount, retryinterval)
            self._current = ContinuableFile(document, self._store)
            return self._go(self._current, policy)

    def resumeuploadfile(
        self,
        retrycount: int = 3,
        retryinterval: float = 5,
        bucket: str | None = None,
        key: str | None = None,
        uploadid: str | None = None,
        blocksize: int | None = None,
        etaglist: Sequence[str | None] | None = None,
        localfile: PathText | None = None,
        pausepartnumber: int | None = None,
        mime_type: str | None = None,
        header: Mapping[str, str] | None = None,
    ) -> Answer:
        """Go on with the upload of a file.

        Without arguments with the one that failed; otherwise with the one that they name, which
        may be another process's or tool's. What is not given comes from the server's part list;
        parts that are up are compared with the file, and sent again where they differ.

        Args:
            retrycount, retryinterval, header: as for `uploadfile`.
            bucket, key, uploadid: name the upload.
            blocksize: bytes of each part but the last.
            etaglist: ETags of the parts that are up, by number; blanks for those that are not.
            localfile: the file's name.
            pausepartnumber: the first part that is not up; parts behind it may be.
            mime_type: the object's Content-Type; by the file's name unless told.

        Returns, raises: as `uploadfile`; ValueError also where there is nothing to go on with, or
            where the block size can't be told.
        """
        with self._busy:
            policy = _policy(retrycount, retryinterval)
            named = (bucket, key, uploadid)
            current = self._current
            if isinstance(current, ContinuableFile) and self._is_current(current, *named):
                if localfile is not None:
                    current.moved(os.fspath(localfile))
                _change(current.document, header, mime_type)
                return self._go(current, policy)
            if bucket is None or key is None or localfile is None:
                raise ValueError(
                    "there is no upload of a file to go on with: bucket, key, uploadid and "
                    "localfile are needed"
                )
            document = self._document("file", bucket, key, header, mime_type)
            document.localfile = os.fspath(localfile)
            if document.mime_type is None:
                document.mime_type = guess_type(Path(document.localfile).name)
            given = _parameters(uploadid, blocksize, etaglist, pausepartnumber)
            self._current = ContinuableFile(document, self._store, given)
            return self._go(self._current, policy)

    def uploadstream(
        self,
        bucket: str,
        key: str,
        stream: Any,
        maxthread: int = 4,
        retrycount: int = 3,
        retryinterval: float = 5,
        mime_type: str | None = None,
        header: Mapping[str, str] | None = None,
    ) -> Answer:
        """Upload a stream from where it stands to its end, in memory of `maxthread` + 1 parts.

        Args:
            stream: anything with `read(size)` that yields bytes, or bytes themselves. It need not
                be seekable, and may give fewer bytes than it was asked for.
            mime_type: the object's Content-Type; by the key's ending unless told.
            bucket, key, maxthread, retrycount, retryinterval, header: as for `uploadfile`.

        Returns, raises: as `uploadfile`; what `stream.read` raises comes out as it is, OSError
            and ValueError as SourceError.
        """
        with self._busy:
            document = self._document("stream", bucket, key, header, mime_type)
            if document.mime_type is None:
                document.mime_type = guess_type(key)
            self._threads = _at_least_one("maxthread", maxthread)
            policy = _policy(retrycount, retryinterval)
            self._current = ContinuableStream(document, _source(stream), self._store)
            return self._go(self._current, policy)

    def resumeuploadstream(
        self,
        retrycount: int = 3,
        retryinterval: float = 5,
        bucket: str | None = None,
        key: str | None = None,
        uploadid: str | None = None,
        blocksize: int | None = None,
        etaglist: Sequence[str | None] | None = None,
        stream: Any = None,
        pausepartnumber: int | None = None,
        mime_type: str | None = None,
        header: Mapping[str, str] | None = None,
    ) -> Answer:
        """Go on with the upload of a stream.

        Without arguments with the one that failed: what was read of it and not acknowledged is
        still held. Otherwise with the one that they name; `stream` then begins at the first byte
        of part `pausepartnumber`, and the parts before it are taken on trust.

        Args:
            etaglist: ETags of the parts that are up, by number; the server's unless told.
            stream: what is left of the stream.
            pausepartnumber: the part at which `stream` begins; the first one that is not up
                unless told.
            mime_type: the object's Content-Type; by the key's ending unless told.
            retrycount, retryinterval, bucket, key, uploadid, blocksize, header: as for
                `resumeuploadfile`.

        Returns, raises: as `resumeuploadfile`.
        """
        with self._busy:
            policy = _policy(retrycount, retryinterval)
            named = (bucket, key, uploadid)
            current = self._current
            ours = isinstance(current, ContinuableStream) and self._is_current(current, *named)
            if ours and current is not None and stream is None:
                _change(current.document, header, mime_type)
                return self._go(current, policy)
            if ours and current is not None:
                # The same upload, its stream given anew.
                bucket, key = current.document.bucket, current.document.key
                uploadid = uploadid or current.document.uploadid
                mime_type = mime_type or current.document.mime_type
                header = current.document.header if header is None else header
                if uploadid is not None and uploadid == current.document.uploadid:
                    blocksize = blocksize or current.document.blocksize
                    if etaglist is None:
                        etaglist = self.etaglist
                    if pausepartnumber is None:
                        pausepartnumber = self.pausepartnumber
            if bucket is None or key is None or stream is None:
                raise ValueError(
                    "there is no upload of a stream to go on with: bucket, key, uploadid and "
                    "stream are needed"
                )
            document = self._document("stream", bucket, key, header, mime_type)
            if document.mime_type is None:
                document.mime_type = guess_type(key)
            given = _parameters(uploadid, blocksize, etaglist, pausepartnumber)
            self._current = ContinuableStream(document, _source(stream), self._store, given)
            return self._go(self._current, policy)

    # -- what they have in common ----------------------------------------------------------------

    def _document(
        self,
        kind: str,
        bucket: str,
        key: str,
        header: Mapping[str, str] | None,
        mime_type: str | None,
    ) -> JournalDocument:
        try:
            check_key(key)
            if not self._endpoint.custom_domain:
                check_bucket(bucket)
        except UsageError as error:
            raise ValueError(error.message) from error
        now = utc_now()
        document = JournalDocument(
            journal_id="",
            kind="stream" if kind == "stream" else "file",
            bucket=bucket,
            key=key,
            endpoint=self._endpoint.canonical,
            custom_domain=self._endpoint.custom_domain,
            created_at=now,
            updated_at=now,
            end_seen=kind == "file",
        )
        _change(document, header, mime_type)
        return document

    @staticmethod
    def _is_current(
        current: Continuable, bucket: str | None, key: str | None, uploadid: str | None
    ) -> bool:
        """Whether the arguments name the upload that failed last, or none at all."""
        document = current.document
        return (
            document.state != "finished"
            and bucket in (None, document.bucket)
            and key in (None, document.key)
            and uploadid in (None, document.uploadid)
        )

    def _go(self, upload: Continuable, policy: RetryPolicy) -> Answer:
        """One attempt at it, and what came of it."""
        sessions: dict[str, str | None] = {}
        try:
            result = self._attempt(upload, policy, sessions)
        except NetworkError as error:
            return _failed(error)
        except ServerError as error:
            return _failed(error)
        except UsageError as error:
            raise ValueError(error.message) from error
        except _CallbackFailed as failure:
            raise failure.error from None
        except SourceError as error:
            # A stream that would be needed once more because of a refusal: the refusal tells.
            refusal = error.__context__
            if isinstance(upload, ContinuableStream) and isinstance(refusal, Refused):
                return _failed(refusal, f"{refusal.message}; {error.message}")
            raise
        finally:
            self._reflect(upload)
        upload.document.state = "finished"
        session = sessions.get("FinishMultipartUpload", sessions.get("PutFile"))
        return None, ResponseInfo.stored(result.etag, session)

    def _attempt(
        self, upload: Continuable, policy: RetryPolicy, sessions: dict[str, str | None]
    ) -> Result:
        threads = self._threads
        options = Options(
            threads=threads,
            policy=policy,
            limit_rate=self._limit_rate,
            resend_changed=upload.adopted,
        )
        upload.document.options |= {
            "threads": threads,
            "retries": policy.attempts,
            "retry_interval": policy.interval,
            "timeout": self._timeout,
            "limit_rate": self._limit_rate,
        }

        def log(request: RequestRecord) -> None:
            sessions[request.call] = request.session_id

        connector = Connector(self._settings)
        try:
            connection = connector.connect(
                upload.document.bucket, threads=threads, timeout=self._timeout, log=log
            )
            with connection:
                context = Context(emit=self._emit, rotated=connection.rotated)
                return upload.attempt(connection.client, options, context)
        finally:
            connector.close()

    def _reflect(self, upload: Continuable) -> None:
        """Have the attributes say where the upload stands."""
        document, parts = upload.document, upload.record.parts
        self.uploadid, self.blocksize = document.uploadid, document.blocksize
        self.journal_id = upload.record.journal_id
        self.etaglist = [] if parts is None else [etag or "" for etag in parts.etags()]
        self.pausepartnumber = 0 if parts is None else parts.pause


class _CallbackFailed(Exception):
    """A progress callback raised: below, an OSError of its would be taken for ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"the progress callback raised {type(error).__name__}: {error}")
        self.error = error


def _handing_on(progress: Sink) -> Sink:
    def emit(event: Event) -> None:
        try:
            progress(event)
        except Exception as error:
            raise _CallbackFailed(error) from error

    return emit


def _failed(error: NetworkError | ServerError, sentence: str | None = None) -> Answer:
    resp = ResponseInfo.of(error, sentence)
    return resp.said(), resp


def _endpoint(suffix: str | None) -> str:
    """A suffix as the SDK has it means plain HTTP; everything else is an endpoint of ours."""
    if not suffix:
        suffix = DEFAULT_SUFFIX
    if "://" in suffix or suffix.lower() == LOCAL or suffix.lower() in REGIONS:
        return suffix
    return "http://" + suffix.removeprefix(".")


def _directory(journal: object) -> Path:
    if not isinstance(journal, str | os.PathLike):
        raise ValueError("journal is a directory, True or False")
    return Path(journal).absolute()


def _source(stream: Any) -> ObjectSource:
    if isinstance(stream, str) or not (
        isinstance(stream, bytes | bytearray | memoryview) or hasattr(stream, "read")
    ):
        raise ValueError("stream is bytes, or something with read(size)")
    return ObjectSource(stream)


def _policy(retrycount: int, retryinterval: float) -> RetryPolicy:
    if retryinterval < 0:
        raise ValueError("retryinterval must not be negative")
    return RetryPolicy(
        attempts=_at_least_one("retrycount", retrycount), interval=retryinterval, patience=0
    )


def _at_least_one(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1 on")
    return value


def _parameters(
    uploadid: str | None,
    blocksize: int | None,
    etaglist: Sequence[str | None] | None,
    pausepartnumber: int | None,
) -> Parameters | None:
    """What is known of an upload that was begun; None where none was."""
    if uploadid:
        return Parameters(uploadid, blocksize, etaglist, pausepartnumber)
    if pausepartnumber or any(etaglist or ()):
        raise ValueError("parts are up under an uploadid only: it is missing")
    return None


def _change(
    document: JournalDocument, header: Mapping[str, str] | None, mime_type: str | None
) -> None:
    """Headers and type from the arguments into the document."""
    if header is not None:
        if not isinstance(header, Mapping) or not all(
            isinstance(text, str) for item in header.items() for text in item
        ):
            raise ValueError("header is a dict of texts")
        document.header = {}
        for name, value in header.items():
            if name.lower() == "content-type":
                mime_type = mime_type or value
            else:
                document.header[name] = value
    if mime_type is not None:
        document.mime_type = mime_type
