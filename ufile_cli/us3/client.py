"""One method per call of the protocol, bound to one bucket.

Says what it is told to say and gives back what the server answered: a value, or an exception of
`ufile_cli.errors`. It never retries, sleeps, prints, follows a redirect or keeps a cookie; and no
exception of requests, urllib3, http.client or the sockets gets past it.

Methods may be called from any number of threads at once. Credentials are read for each request,
so that they may rotate; the tag of the pair that was used travels with every refusal.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote

import requests
import urllib3

from ufile_cli._version import VERSION
from ufile_cli.credentials import Credentials
from ufile_cli.errors import (
    NetworkError,
    NotConfigured,
    ServerError,
    SourceError,
    UFileError,
    UsageError,
)
from ufile_cli.us3 import response
from ufile_cli.us3.endpoints import Address, check_key
from ufile_cli.us3.response import (
    Answer,
    Initiated,
    ObjectHead,
    PartsPage,
    Stored,
    UploadsPage,
)
from ufile_cli.us3.signing import UCloudAuth
from ufile_cli.us3.transport import LIBRARY_ERRORS, Adapter, Severed, Surroundings

__all__ = ["Body", "Client", "Download", "RequestRecord"]

USER_AGENT = f"ufile-cli/{VERSION}"
DEFAULT_CONTENT_TYPE = "application/octet-stream"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"authorization", "host", "content-length", "transfer-encoding"})
_BATCH = 8192

T = TypeVar("T")


@runtime_checkable
class Body(Protocol):
    """A body of known length: what a part is sent from without being held whole in memory."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes | bytearray | memoryview: ...


class RequestRecord(NamedTuple):
    """One request as a log may show it: no Authorization, no signature, no key pair.

    Attributes:
        call: the protocol's name of the call.
        method: the verb.
        host: the Host header.
        target: path and query.
        status: the HTTP status, or None where no answer came.
        seconds: from the call to the last byte read of the answer.
        session_id: X-SessionId, or None.
        reused: whether the connection had carried an answer before; None if none came.
        body_size: bytes of the request's body.
        error: what went wrong in one sentence, or None.
    """

    call: str
    method: str
    host: str
    target: str
    status: int | None
    seconds: float
    session_id: str | None
    reused: bool | None
    body_size: int
    error: str | None


class _ExactBody:
    """A body that keeps its word: exactly as many bytes as it announced.

    One that ends early would leave the server waiting for the rest until the connection is given
    up, and the fault would look like the network's.
    """

    __slots__ = ("_body", "_left", "_length")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._length = self._left = len(body)

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1, /) -> bytes | bytearray | memoryview:
        if self._left == 0:
            return b""
        try:
            data = self._body.read(size)
        except OSError as error:
            # urllib3 would take it for a fault of the network.
            raise SourceError(f"reading failed: {error.strerror or error}") from error
        self._left -= len(data)
        if not data or self._left < 0:
            raise SourceError(
                f"the body is {'shorter' if not data else 'longer'} than the {self._length} "
                "bytes it announced"
            )
        return data


class Download:
    """The content of an object, to be read once, in order. A context manager.

    Attributes:
        head: what the answer's headers say; `size` is that of the range that was asked for.
    """

    def __init__(self, client: Client, raw: Any, head: ObjectHead) -> None:
        self._client = client
        self._raw = raw
        self.head = head

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most 256 KiB.

        Raises:
            NetworkError: the connection broke, or the content ended early.
        """
        while True:
            try:
                piece = self._raw.read(256 * 1024, decode_content=False)
            except LIBRARY_ERRORS as error:
                self.close()
                raise self._client.network_error(error, "GetFile", has_body=False) from error
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Give the connection up, unless it was read to its end."""
        self._raw.close()


class Client:
    """The calls of the protocol, for one bucket.

    Args:
        address: the bucket's place.
        credentials: a key pair, something that yields the current one, or None to send requests
            unsigned (an emulator without keys takes them).
        connections: how many connections are kept open.
        timeout: seconds without a moving byte after which a connection is given up.
        connect_timeout: seconds that making a connection may take.
        finish_timeout: seconds that the answer to Finish may take.
        proxies_from_env: whether the environment's proxies count.
        user_agent: the User-Agent, unless a call's headers name one.
        log: is told of every request; must not raise.

    Raises:
        NotConfigured: the environment names a CA bundle that is not there.
    """

    def __init__(
        self,
        address: Address,
        credentials: Callable[[], Credentials] | Credentials | None,
        *,
        connections: int = 4,
        timeout: float = 60.0,
        connect_timeout: float = 10.0,
        finish_timeout: float = 600.0,
        proxies_from_env: bool = True,
        user_agent: str = USER_AGENT,
        log: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._credentials = credentials
        self._connect_timeout = connect_timeout
        self._finish_timeout = max(finish_timeout, timeout)
        self._user_agent = user_agent
        self._log = log
        self._surroundings = Surroundings(address.base_url, proxies_from_env=proxies_from_env)
        self._adapter = Adapter(connections=max(1, connections), stall_limit=timeout)

    def __repr__(self) -> str:
        return f"Client({self.address.shown!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.address.bucket

    def close(self) -> None:
        """Close idle connections. The client may be used again; it then connects anew."""
        self._adapter.close()

    # -- multipart --------------------------------------------------------------------------

    def initiate(self, key: str, headers: Mapping[str, str] | None = None) -> Initiated:
        """InitiateMultipartUpload: an upload id, and the block size the server wants.

        Args:
            key: the object's key.
            headers: Content-Type, X-Ufile-Storage-Class, X-Ufile-Meta-*, and the user's own.

        Raises:
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "InitiateMultipartUpload"
        return self._ask(
            call,
            "POST",
            key,
            "uploads",
            headers,
            b"",
            lambda answer: response.parse_initiated(answer, call, self.bucket, key),
        )

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: Body | bytes,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """UploadPart: send one part, and give back the ETag the server made of it, unquoted.

        Args:
            key: the object's key.
            upload_id: of Initiate.
            number: from 0.
            body: the part. Anything with `__len__` and `read`; what its `read` raises comes out
                as it is, an OSError as SourceError.
            headers: Content-Type (application/octet-stream unless given), Content-MD5 (hex).

        Raises:
            SourceError: the body is not as long as it said.
            UsageError, NetworkError, ServerError: as every call here, with `part` set.
        """
        call = "UploadPart"
        query = f"uploadId={_quoted(upload_id)}&partNumber={number}"
        try:
            return self._ask(
                call,
                "PUT",
                key,
                query,
                _with_type(headers),
                body,
                lambda answer: response.parse_part_etag(answer, call),
            )
        except UFileError as error:
            if error.part is None:
                error.part = number
            raise

    def finish(
        self,
        key: str,
        upload_id: str,
        etags: Iterable[str],
        headers: Mapping[str, str] | None = None,
        new_key: str | None = None,
    ) -> Stored:
        """FinishMultipartUpload: make one object of the parts.

        Args:
            key: the object's key.
            upload_id: of Initiate.
            etags: of all parts in their order, unquoted. They are sent quoted, as UCloud's SDK
                does; a million of them are a body of some 33 MB, held once.
            headers: Content-Type (the object's), X-Ufile-Meta-*, X-Ufile-Metadata-Directive.
            new_key: the key to use where `key` has meanwhile been taken.

        Raises:
            ValueError: no ETags, or one that is blank or can't be sent.
            UsageError, NetworkError, ServerError: as every call here. The answer may take
                `finish_timeout` seconds.
        """
        call = "FinishMultipartUpload"
        query = f"uploadId={_quoted(upload_id)}"
        if new_key is not None:
            check_key(new_key)
            query += f"&newKey={_quoted(new_key)}"
        return self._ask(
            call,
            "POST",
            key,
            query,
            _with_type(headers, "text/plain"),
            _etag_list(etags),
            lambda answer: response.parse_stored(answer, call),
            answer_within=self._finish_timeout,
        )

    def abort(self, key: str, upload_id: str) -> None:
        """AbortMultipartUpload: free the parts; the upload id is dead then.

        Raises:
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "AbortMultipartUpload"
        self._ask(
            call,
            "DELETE",
            key,
            f"uploadId={_quoted(upload_id)}",
            None,
            b"",
            lambda answer: response.refuse_page(answer, call),
        )

    def list_parts(
        self,
        upload_id: str,
        key: str | None = None,
        marker: int | None = None,
        limit: int | None = None,
    ) -> PartsPage:
        """GetMultiUploadPart: one page of the parts that the server has.

        Args:
            upload_id: of Initiate.
            key: is not sent; where given, a page of another key is refused.
            marker: only parts numbered above it; None for the first page, since numbers begin
                at 0.
            limit: parts a page, or None for the server's default.

        Raises:
            BadAnswer: also for a page of another key, or one that does not advance.
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "GetMultiUploadPart"
        query = f"muploadpart&uploadId={_quoted(upload_id)}"
        if limit is not None:
            query += f"&max-parts={limit}"
        if marker is not None:
            query += f"&part-number-marker={marker}"
        return self._ask(
            call,
            "GET",
            "",
            query,
            None,
            None,
            lambda answer: response.parse_parts_page(answer, call, upload_id, key, marker),
            limit=response.PAGE_LIMIT,
        )

    def list_uploads(
        self, prefix: str = "", marker: str = "", limit: int | None = None
    ) -> UploadsPage:
        """GetMultiUploadId: one page of the bucket's unfinished uploads.

        Args:
            prefix: only keys that begin with it.
            marker: the last page's `next_marker`, empty for the first.
            limit: uploads a page, or None for the server's default (20).

        Raises:
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "GetMultiUploadId"
        query = f"muploadid&prefix={_quoted(prefix)}&marker={_quoted(marker)}"
        if limit is not None:
            query += f"&limit={limit}"
        return self._ask(
            call,
            "GET",
            "",
            query,
            None,
            None,
            lambda answer: response.parse_uploads_page(answer, call, marker),
            limit=response.PAGE_LIMIT,
        )

    # -- whole objects ----------------------------------------------------------------------

    def put(
        self, key: str, body: Body | bytes, headers: Mapping[str, str] | None = None
    ) -> str | None:
        """PutFile: store a whole object, and give back its ETag; see `store`."""
        return self.store(key, body, headers).etag

    def store(
        self, key: str, body: Body | bytes, headers: Mapping[str, str] | None = None
    ) -> Stored:
        """PutFile: store a whole object of at most 512 MB; an empty one is sent with length 0.

        Args:
            key: the object's key.
            body: as for `upload_part`.
            headers: Content-Type, Content-MD5 (hex), X-Ufile-Storage-Class, X-Ufile-Meta-*.

        Returns:
            What was stored; `etag` is None where the server names none.

        Raises:
            SourceError: the body is not as long as it said.
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "PutFile"

        def parse(answer: Answer) -> Stored:
            etag = response.parse_put_etag(answer, call)
            return Stored(etag=etag, size=len(body), key=key, bucket=self.bucket, answer=answer)

        return self._ask(call, "PUT", key, "", _with_type(headers), body, parse)

    def head(self, key: str) -> ObjectHead:
        """HeadFile: size, ETag and the like of an object.

        Raises:
            NotFound: no such object (or bucket; HEAD has no body to tell).
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "HeadFile"
        return self._ask(
            call,
            "HEAD",
            key,
            "",
            None,
            None,
            lambda answer: response.parse_head(answer, call),
        )

    def get(self, key: str, byte_range: tuple[int, int | None] | None = None) -> Download:
        """GetFile: the content of an object, or of a part of it.

        Args:
            key: the object's key.
            byte_range: first and last byte, both counted; None as last for the end.

        Raises:
            BadAnswer: also where the server ignored the range.
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "GetFile"
        headers: dict[str, str] = {}
        if byte_range is not None:
            first, last = byte_range
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        exchange = _Exchange(self, call, "GET", key, "", None)
        try:
            answer = exchange.run(headers, None, None)
            response.raise_for_status(answer, call)
            if byte_range is not None and answer.status != 206:
                response.bad_answer(answer, call, "it ignores the range")
            head = response.parse_head(answer, call)
        except UFileError as error:
            exchange.discard()
            exchange.record(error)
            raise
        exchange.record(None)
        return Download(self, exchange.raw, head)

    def delete(self, key: str) -> None:
        """DeleteFile.

        Raises:
            NotFound: no such object, where the server says so.
            UsageError, NetworkError, ServerError: as every call here.
        """
        call = "DeleteFile"
        self._ask(
            call,
            "DELETE",
            key,
            "",
            None,
            b"",
            lambda answer: response.refuse_page(answer, call),
        )

    # -- below the calls --------------------------------------------------------------------

    def _ask(
        self,
        call: str,
        method: str,
        key: str,
        query: str,
        headers: Mapping[str, str] | None,
        body: Body | bytes | bytearray | None,
        parse: Callable[[Answer], T],
        *,
        limit: int = response.ERROR_LIMIT,
        answer_within: float | None = None,
    ) -> T:
        """Send a request, read its short answer, and make a value of it if it is a success."""
        exchange = _Exchange(self, call, method, key, query, body)
        try:
            answer = exchange.run(headers, answer_within, limit)
            response.raise_for_status(answer, call)
            value = parse(answer)
        except UFileError as error:
            exchange.record(error)
            raise
        exchange.record(None)
        return value

    def current_credentials(self) -> Credentials | None:
        """The key pair that a request sent now would be signed with."""
        return self._credentials() if callable(self._credentials) else self._credentials

    def network_error(
        self, error: BaseException, call: str, *, has_body: bool
    ) -> NetworkError | NotConfigured:
        """What the libraries' exception means, in words."""
        host = self.address.base_url.partition("://")[2]
        return _network_error(error, call, host, has_body, bool(self._surroundings.proxies))


class _Exchange:
    """One request and its answer: prepares, sends, reads, and knows what to log."""

    def __init__(
        self,
        client: Client,
        call: str,
        method: str,
        key: str,
        query: str,
        body: Body | bytes | bytearray | None,
    ) -> None:
        self.client = client
        self.call = call
        self.method = method
        self.key = key
        self.query = query
        self.body = body
        self.raw: Any = None
        self._answer: Answer | None = None
        self._begun = time.monotonic()

    def run(
        self,
        headers: Mapping[str, str] | None,
        answer_within: float | None,
        limit: int | None,
    ) -> Answer:
        """Send, and read at most `limit` bytes of the answer's body (None: errors alone)."""
        client = self.client
        if self.key or not self.query.startswith("mupload"):
            check_key(self.key)
        prepared, tag = self._prepare(headers)
        surroundings = client._surroundings
        try:
            self.raw = client._adapter.exchange(
                prepared,
                timeout=(client._connect_timeout, answer_within or client.timeout),
                verify=surroundings.verify,
                proxies=surroundings.proxies,
            )
        except UFileError:
            raise
        except LIBRARY_ERRORS as error:
            raise client.network_error(error, self.call, has_body=bool(self.body)) from error
        status = int(self.raw.status)
        if limit is None and not 200 <= status < 300:
            limit = response.ERROR_LIMIT
        elif not 200 <= status < 300:
            limit = min(limit or response.ERROR_LIMIT, response.ERROR_LIMIT)
        content, whole = b"", True
        if limit is not None:
            content, whole = self._read(limit)
        answer = Answer.of(status, self.raw.headers, content, whole=whole, credentials_tag=tag)
        self._answer = answer
        return answer

    def _prepare(
        self, headers: Mapping[str, str] | None
    ) -> tuple[requests.PreparedRequest, str | None]:
        client = self.client
        prepared = requests.PreparedRequest()
        prepared.method = self.method
        # Not through prepare_url: it re-quotes, and the key has to arrive as it is.
        prepared.url = client.address.url(self.key, self.query)
        prepared.headers = _checked_headers(headers)
        prepared.headers.setdefault("User-Agent", client._user_agent)
        prepared.headers.setdefault("Accept", "*/*")
        # An answer that unpacks to gigabytes can't come if none may be packed.
        prepared.headers["Accept-Encoding"] = "identity"
        prepared.headers["Host"] = client.address.host_header
        body = self.body
        if body is not None:
            prepared.headers["Content-Length"] = str(len(body))
            bare = isinstance(body, bytes | bytearray)
            prepared.body = body if bare else _ExactBody(body)  # type: ignore[assignment, arg-type]
        credentials = client.current_credentials()
        if credentials is None:
            return prepared, None
        UCloudAuth(credentials, client.bucket, self.key)(prepared)
        return prepared, credentials.tag

    def _read(self, limit: int) -> tuple[bytes, bool]:
        """At most `limit` bytes of the answer's body, and whether that is all of it.

        A body that breaks off is no exception here: its status has been received, and an error
        status says more than the break.
        """
        raw = self.raw
        pieces: list[bytes] = []
        size = 0
        try:
            while size <= limit:
                piece = raw.read(limit + 1 - size, decode_content=False)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except LIBRARY_ERRORS:
            pass
        # What is left of it would be read as the next answer on this connection.
        raw.close()
        return b"".join(pieces)[:limit], False

    def discard(self) -> None:
        """Close the connection if the answer was not read to its end."""
        if self.raw is not None:
            self.raw.close()

    def record(self, error: UFileError | None) -> None:
        log = self.client._log
        if log is None:
            return
        status = self._answer.status if self._answer else None
        if status is None and isinstance(error, ServerError):
            status = error.status
        log(
            RequestRecord(
                call=self.call,
                method=self.method,
                host=self.client.address.host_header,
                target=self.client.address.target(self.key, self.query),
                status=status,
                seconds=time.monotonic() - self._begun,
                session_id=self._answer.session_id if self._answer else None,
                reused=getattr(self.raw, "reused", None),
                body_size=len(self.body) if self.body is not None else 0,
                error=error.message if error else None,
            )
        )


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _with_type(
    headers: Mapping[str, str] | None, default: str = DEFAULT_CONTENT_TYPE
) -> Mapping[str, str]:
    """Headers with a Content-Type; the protocol wants one wherever there is a body."""
    headers = headers or {}
    if any(name.lower() == "content-type" for name in headers):
        return headers
    return {**headers, "Content-Type": default}


def _checked_headers(
    headers: Mapping[str, str] | None,
) -> requests.structures.CaseInsensitiveDict[Any]:
    """Headers as they go out. Values beyond ASCII go as UTF-8, as they are signed."""
    # Any: the stubs know str alone, requests and http.client take bytes as well.
    checked: requests.structures.CaseInsensitiveDict[Any]
    checked = requests.structures.CaseInsensitiveDict()
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise UsageError("a header's name is none of HTTP's")
        if name.lower() in _OURS:
            raise UsageError(f"the header {name} is set by the client itself")
        if any(mark in value for mark in "\r\n\0"):
            raise UsageError(f"the value of the header {name} holds a line break or NUL")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError(f"the value of the header {name} is not UTF-8") from None
        # What goes out is what is signed: servers drop white space at the ends.
        value = value.strip(" \t")
        checked[name] = value if value.isascii() else value.encode("utf-8")
    return checked


def _etag_list(etags: Iterable[str]) -> bytearray:
    """The body of Finish: `"etag","etag",…`. Grows batch by batch, so that it is held once."""
    body = bytearray()
    stream = iter(etags)
    while batch := list(islice(stream, _BATCH)):
        text = '","'.join(batch)
        if (
            "" in batch
            or text.count('"') != 2 * (len(batch) - 1)
            or text.count(",") != len(batch) - 1
            or not text.isascii()
            or not text.isprintable()
        ):
            raise ValueError("a part's ETag is missing, or can't stand in a list of ETags")
        if body:
            body += b","
        body += b'"' + text.encode("ascii") + b'"'
    if not body:
        raise ValueError("an upload without parts can't be finished")
    return body


# -- what went wrong on the way -------------------------------------------------------------------


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything that is wrapped in it: `reason`, arguments, causes.

    Not `__context__`: a call made while an earlier failure is being handled would inherit that
    failure's cause.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner: list[Any] = [getattr(current, "reason", None), *current.args]
        inner += [getattr(current, "original_error", None), current.__cause__]
        waiting += [item for item in inner if isinstance(item, BaseException)]


def _first(chain: list[BaseException], kind: Any) -> Any:
    return next((error for error in chain if isinstance(error, kind)), None)


def _network_error(
    error: BaseException, call: str, host: str, has_body: bool, proxied: bool
) -> NetworkError | NotConfigured:
    """What the libraries' exceptions mean, in words.

    They wrap each other up to four deep, so what counts is looked for in the whole chain, the
    most telling first. No text of theirs is passed on: it can hold URLs with a proxy's password.
    """
    chain = list(_chain(error))
    if proxied and _first(
        chain, (requests.exceptions.InvalidURL, urllib3.exceptions.ProxySchemeUnknown)
    ):
        return NotConfigured("the environment's proxy is no URL", hint="look at HTTPS_PROXY")
    if _first(chain, requests.exceptions.InvalidSchema):
        return NotConfigured(
            "the environment names a SOCKS proxy, which needs the package PySocks",
            hint="pip install 'requests[socks]', or unset the proxy",
        )
    connecting = bool(
        _first(
            chain,
            (
                urllib3.exceptions.ConnectTimeoutError,
                urllib3.exceptions.NewConnectionError,
                urllib3.exceptions.ProxyError,
                socket.gaierror,
                ssl.SSLCertVerificationError,
            ),
        )
    )
    through = f"the proxy on the way to {host}" if proxied else host
    if proxied and _first(chain, urllib3.exceptions.ProxyError):
        cause = _proxy_cause(chain)
        return NetworkError(
            f"{call}: no way through {through}: {cause}",
            hint="look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
            connecting=True,
        )
    certificate = _first(chain, ssl.SSLCertVerificationError)
    if certificate is not None:
        # Transient by its class: the network between here and there is what can't be trusted
        # (a captive portal, a proxy that opens TLS), and it may be another one in a minute.
        why = response.clean(str(certificate.verify_message or ""), 120)
        return NetworkError(
            f"{call}: the certificate of {host} can't be verified" + (f" ({why})" if why else ""),
            hint="where a proxy or a private cloud has its own certificate authority, set "
            "REQUESTS_CA_BUNDLE to its bundle",
            connecting=True,
        )
    severed = _first(chain, Severed)
    if severed is not None:
        closed = isinstance(severed.cause, http.client.RemoteDisconnected)
        what = "closed the connection without an answer" if closed else "reset the connection"
        return NetworkError(f"{call}: {host} {what}", reset=has_body, stale=severed.stale)
    return NetworkError(
        f"{call}: {_cause(chain, through)}",
        connecting=connecting,
        reset=has_body and _first(chain, ConnectionError) is not None and not connecting,
    )


def _proxy_cause(chain: list[BaseException]) -> str:
    for error in chain:
        refused = re.search(r"Tunnel connection failed: (\d{3})", str(error))
        if refused:
            return f"it answered HTTP {refused[1]}"
    return _cause(chain, "")


def _cause(chain: list[BaseException], host: str) -> str:
    """A short phrase for the cause; names the host where there is one."""
    at = f" ({host})" if host else ""
    if _first(chain, socket.gaierror) or _first(chain, urllib3.exceptions.NameResolutionError):
        return f"no such host{at}, or no name service"
    if _first(chain, urllib3.exceptions.ConnectTimeoutError) and not _first(
        chain, urllib3.exceptions.NewConnectionError
    ):
        return f"connecting took too long{at}"
    if _first(chain, ConnectionRefusedError):
        return f"connection refused{at}"
    stalled = _first(chain, TimeoutError)
    if stalled is not None or _first(chain, urllib3.exceptions.TimeoutError):
        words = str(stalled.strerror or "") if stalled is not None else ""
        if words.startswith("no byte moved"):
            return words + at
        return f"no byte moved for too long{at}"
    if _first(chain, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return f"connection reset{at}"
    if _first(chain, ssl.SSLError):
        return f"TLS failed{at}"
    if _first(chain, http.client.IncompleteRead) or _first(
        chain, urllib3.exceptions.IncompleteRead
    ):
        return f"the answer broke off{at}"
    if _first(chain, (http.client.HTTPException, urllib3.exceptions.InvalidHeader)):
        return f"the answer is no HTTP{at}"
    system = _first(chain, OSError)
    if system is not None and system.errno and not isinstance(system, requests.RequestException):
        return f"{response.clean(str(system.strerror or 'network error'), 80).lower()}{at}"
    return f"the connection failed{at}"
