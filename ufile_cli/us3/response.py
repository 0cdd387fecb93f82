"""What the server said, as values or as exceptions. The only reader of RetCode.

Works on a status, headers and a bounded body; reads no socket. Everything that comes from the
network is doubted here once, so that nobody further up has to: types and ranges of JSON, the
alphabet of ETags and upload ids, control characters in texts that a terminal will show.

Invariants: no input makes these functions raise anything but the errors of `ufile_cli.errors`;
messages say in words what happened and leave RetCode, ErrMsg and X-SessionId to the attributes.

UCloud misspells content types (`applicaton/json`), and gateways answer with pages of their own, so
a body is judged by what it is, not by what it is called.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    NotFound,
    Refused,
    ServerTrouble,
    UsageError,
)
from ufile_cli.etag import unquote

__all__ = [
    "ERROR_LIMIT",
    "PAGE_LIMIT",
    "Answer",
    "Initiated",
    "ObjectHead",
    "PartsPage",
    "RemotePart",
    "RemoteUpload",
    "Stored",
    "UploadsPage",
    "bad_answer",
    "check_upload_id",
    "clean",
    "parse_head",
    "parse_initiated",
    "parse_part_etag",
    "parse_parts_page",
    "parse_put_etag",
    "parse_retry_after",
    "parse_stored",
    "parse_uploads_page",
    "raise_for_status",
    "refuse_page",
]

ERROR_LIMIT = 64 * 1024
"""Bytes read of an answer that should be short: errors, and successes of a few fields."""

PAGE_LIMIT = 16 * 1024 * 1024
"""Bytes read of a page of a list: 1000 parts are some 120 KB."""

MAX_BLOCK_SIZE = 512 * 1024**2
"""The largest body of PutFile: a part is one request as well, and a stream's parts are held in
memory, so that the server must not be the one to say how much of it."""

MAX_PART_NUMBER = 10_000_000
MAX_OBJECT_SIZE = 64 * 1024**4
MAX_UPLOAD_ID = 1024
MAX_ETAG = 256
MAX_KEY = 64 * 1024
MAX_RETRY_AFTER = 86_400.0

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_SIGNATURE = re.compile(r"(UCloud\s+[^\s:]{1,200}:)[A-Za-z0-9+/]{27}=")
_TRANSIENT = frozenset({408, 425, 429})


class Answer(NamedTuple):
    """The facts of one HTTP answer.

    Attributes:
        status: the HTTP status.
        session_id: X-SessionId, printable and at most 200 characters, or None.
        ret_code: RetCode of a JSON body, or None.
        err_msg: ErrMsg of a JSON body, cleaned and shortened, or None.
        content_type: the header, or None.
        content_length: the header as a number, or None.
        etag: the ETag header without its quotes and unchecked, or None.
        body: the beginning of the body, as it came.
        whole: False where the body was longer than was read, or broke off.
        headers: all headers, names in lower case.
        credentials_tag: `Credentials.tag` of the pair that signed the request, or None.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    whole: bool = True
    credentials_tag: str | None = None
    ret_code: int | None = None
    err_msg: str | None = None
    session_id: str | None = None
    content_type: str | None = None
    content_length: int | None = None
    etag: str | None = None

    @classmethod
    def of(
        cls,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        whole: bool = True,
        credentials_tag: str | None = None,
    ) -> Answer:
        """An answer whose derived facts are worked out from headers and body."""
        lowered = {name.lower(): value for name, value in headers.items()}
        said = _json_object(body) if body else None
        etag = lowered.get("etag")
        length = lowered.get("content-length", "")
        return cls(
            status=status,
            headers=lowered,
            body=body,
            whole=whole,
            credentials_tag=credentials_tag,
            ret_code=_integer(said.get("RetCode"), -(2**63), 2**63) if said else None,
            err_msg=clean(said["ErrMsg"], 300) or None
            if said and isinstance(said.get("ErrMsg"), str)
            else None,
            session_id=clean(lowered.get("x-sessionid", ""), 200) or None,
            content_type=clean(lowered.get("content-type", ""), 200) or None,
            content_length=int(length)
            if length.isascii() and length.isdigit() and len(length) < 20
            else None,
            etag=unquote(etag) if etag is not None else None,
        )


class Initiated(NamedTuple):
    """A multipart upload has begun: its id, and the size every part but the last must have."""

    upload_id: str
    block_size: int
    bucket: str
    key: str
    answer: Answer


class Stored(NamedTuple):
    """An object has come into being. What the server did not say is None."""

    etag: str | None
    size: int | None
    key: str | None
    bucket: str | None
    answer: Answer


class RemotePart(NamedTuple):
    """A part that the server has.

    Attributes:
        number: from 0.
        etag: without quotes; empty where the server named none.
        size: bytes.
        last_modified: Unix time in seconds, or None.
    """

    number: int
    etag: str
    size: int
    last_modified: int | None


class PartsPage(NamedTuple):
    """One page of a part list; `next_marker` is never None while `truncated` is true."""

    parts: tuple[RemotePart, ...]
    truncated: bool
    next_marker: int | None
    key: str | None
    answer: Answer


class RemoteUpload(NamedTuple):
    """An upload that is neither finished nor aborted; `started_at` is a Unix time or None."""

    upload_id: str
    key: str
    started_at: int | None


class UploadsPage(NamedTuple):
    """One page of unfinished uploads; an empty `next_marker` ends the list."""

    uploads: tuple[RemoteUpload, ...]
    next_marker: str
    answer: Answer


class ObjectHead(NamedTuple):
    """What HEAD says of an object; `meta` has names without X-Ufile-Meta-, in lower case."""

    size: int
    etag: str | None
    content_type: str | None
    last_modified: float | None
    storage_class: str | None
    meta: Mapping[str, str]
    answer: Answer


# -- from an answer to a value ------------------------------------------------------------------


def parse_initiated(answer: Answer, call: str, bucket: str, key: str) -> Initiated:
    """The answer to InitiateMultipartUpload. BlkSize is the server's choice and never assumed.

    Raises:
        BadAnswer: no usable UploadId or BlkSize.
    """
    said = _said(answer, call)
    upload_id = said.get("UploadId")
    if not is_upload_id(upload_id):
        bad_answer(answer, call, "it carries no usable UploadId")
    block_size = _integer(said.get("BlkSize"), 1, MAX_BLOCK_SIZE)
    if block_size is None:
        bad_answer(answer, call, "it carries no usable BlkSize")
    return Initiated(
        upload_id=str(upload_id),
        block_size=block_size,
        bucket=_text(said.get("Bucket")) or bucket,
        key=_text(said.get("Key")) or key,
        answer=answer,
    )


def parse_part_etag(answer: Answer, call: str) -> str:
    """The ETag of a part that was sent, without its quotes.

    The PartNumber of the body is not looked at: the ETag speaks for the bytes, and servers that
    count otherwise than they were told would gain nobody anything but a failed upload.

    Raises:
        BadAnswer: no usable ETag.
    """
    _perhaps_said(answer, call)
    etag = checked_etag(answer, call)
    if etag is None:
        bad_answer(answer, call, "it carries no ETag")
    return etag


def parse_stored(answer: Answer, call: str) -> Stored:
    """The answer to FinishMultipartUpload. Fields that are missing are None, not errors: the
    object is there, and whoever asked can still look at it.

    Raises:
        BadAnswer: the body is no JSON object, or the ETag is not one.
    """
    said = _perhaps_said(answer, call) or {}
    return Stored(
        etag=checked_etag(answer, call),
        size=_integer(said.get("FileSize"), 0, MAX_OBJECT_SIZE),
        key=_text(said.get("Key")),
        bucket=_text(said.get("Bucket")),
        answer=answer,
    )


def parse_put_etag(answer: Answer, call: str) -> str | None:
    """The ETag of an object put whole, or None where the server names none.

    Raises:
        BadAnswer: a page of a gateway, or an ETag that is not one.
    """
    refuse_page(answer, call)
    return checked_etag(answer, call)


def parse_parts_page(
    answer: Answer, call: str, upload_id: str, key: str | None, marker: int | None
) -> PartsPage:
    """A page of GetMultiUploadPart; `key` is the one the upload should be to, where known.

    Raises:
        BadAnswer: not a page, a page of another upload, or one that does not advance.
    """
    said = _said(answer, call)
    named = said.get("UploadId")
    if isinstance(named, str) and named and named != upload_id:
        bad_answer(answer, call, "it lists another upload")
    named = _text(said.get("Key"))
    if key is not None and named is not None and named != key:
        bad_answer(answer, call, "it lists an upload to another key")
    raw = said.get("Parts")
    if raw is None:
        # Servers written in Go say null for an empty list. But a page that has no word of parts
        # at all must not pass for an upload without parts: they would all be sent again.
        if "Parts" not in said and "UploadId" not in said:
            bad_answer(answer, call, "it carries no list of parts")
        raw = []
    if not isinstance(raw, list):
        bad_answer(answer, call, "its list of parts is no list")
    parts = tuple(_remote_part(item, answer, call) for item in raw)
    truncated = _boolean(said.get("IsTruncated"))
    next_marker = _integer(said.get("NextPartNumberMarker"), 0, MAX_PART_NUMBER)
    if truncated:
        if next_marker is None and parts:
            next_marker = max(part.number for part in parts)
        if next_marker is None or (marker is not None and next_marker <= marker):
            bad_answer(answer, call, "a page of it leads nowhere")
    return PartsPage(parts, truncated, next_marker, named, answer)


def parse_uploads_page(answer: Answer, call: str, marker: str) -> UploadsPage:
    """A page of GetMultiUploadId.

    Raises:
        BadAnswer: not a page, or one that does not advance.
    """
    said = _said(answer, call)
    raw = said.get("DataSet")
    if raw is None and "DataSet" not in said:
        bad_answer(answer, call, "it carries no list of uploads")
    if raw is None:
        raw = []
    if not isinstance(raw, list):
        bad_answer(answer, call, "its list of uploads is no list")
    uploads: list[RemoteUpload] = []
    for item in raw:
        key = _text(item.get("FileName")) if isinstance(item, dict) else None
        if key is None or not is_upload_id(item.get("UploadId")):
            bad_answer(answer, call, "an entry of it is no upload")
        started = _integer(item.get("StartTime"), 0, 2**40)
        uploads.append(RemoteUpload(item["UploadId"], key, started))
    next_marker = said.get("NextMarker")
    if next_marker is None:
        next_marker = ""
    if not isinstance(next_marker, str) or len(next_marker) > MAX_KEY:
        bad_answer(answer, call, "its marker is no text")
    if next_marker and next_marker == marker:
        bad_answer(answer, call, "a page of it leads nowhere")
    return UploadsPage(tuple(uploads), next_marker, answer)


def parse_head(answer: Answer, call: str) -> ObjectHead:
    """The headers of HeadFile (and of GetFile).

    Raises:
        BadAnswer: no Content-Length, or an ETag that is not one.
    """
    if answer.content_length is None:
        bad_answer(answer, call, "it carries no Content-Length")
    headers = answer.headers
    prefix = "x-ufile-meta-"
    return ObjectHead(
        size=answer.content_length,
        etag=checked_etag(answer, call),
        content_type=answer.content_type,
        last_modified=_http_date(headers.get("last-modified", "")),
        storage_class=clean(headers.get("x-ufile-storage-class", ""), 64) or None,
        meta={
            name[len(prefix) :]: clean(_utf8(value), 8192)
            for name, value in headers.items()
            if name.startswith(prefix)
        },
        answer=answer,
    )


def refuse_page(answer: Answer, call: str) -> None:
    """Take no captive portal's or gateway's page for a success: they say 200 too.

    Raises:
        BadAnswer: the body is a web page.
    """
    if answer.body.lstrip()[:1] == b"<":
        bad_answer(answer, call, "it is a web page")


# -- from an answer to an exception --------------------------------------------------------------


_UNKNOWN = {
    **dict.fromkeys(("InitiateMultipartUpload", "PutFile", "GetMultiUploadId"), "bucket"),
    **dict.fromkeys(("HeadFile", "GetFile", "DeleteFile"), "bucket or object"),
}
"""What a 404 can be about; of the other calls the upload id as well."""


def raise_for_status(answer: Answer, call: str, *, part: int | None = None) -> None:
    """Turn every status that is no success into the exception it means.

    Raises:
        CredentialsRefused: 401, 403 (the documents mix the two up).
        NotFound: 404.
        ServerTrouble: 408, 425, 429, 5xx; `retry_after` is set where the server named one.
        Refused: other 3xx and 4xx. A redirect is never followed: the signature is bound to the
            bucket's name, not to the host, and must not be handed to another one.
        BadAnswer: a status that is none.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    facts: dict[str, Any] = _facts(answer) | {"part": part}
    if status in (401, 403):
        raise CredentialsRefused(
            f"the server refused the credentials for {call} (HTTP {status})", **facts
        )
    if status == 404:
        what = _UNKNOWN.get(call, "bucket or upload id")
        raise NotFound(f"the server does not know the {what} ({call}, HTTP 404)", **facts)
    if status == 429:
        raise ServerTrouble(f"the server asks for fewer requests ({call}, HTTP 429)", **facts)
    if status in _TRANSIENT:
        raise ServerTrouble(f"the server could not take {call} for now (HTTP {status})", **facts)
    if 500 <= status < 600:
        raise ServerTrouble(f"the server failed at {call} (HTTP {status})", **facts)
    if 300 <= status < 400:
        host = _location_host(answer.headers.get("location", ""))
        where = f" to {host}" if host else ""
        raise Refused(
            f"the server redirects {call}{where} (HTTP {status}), and redirects are not followed",
            hint="check the endpoint",
            **facts,
        )
    if status == 407:
        raise Refused(
            f"the proxy wants credentials before it passes {call} on (HTTP 407)",
            hint="look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
            **facts,
        )
    if 400 <= status < 500:
        raise Refused(f"the server refused {call} (HTTP {status})", **facts)
    bad_answer(answer, call, "its status is none of HTTP's final ones")


def bad_answer(answer: Answer, call: str, why: str) -> NoReturn:
    """Raise that an answer of a good status makes no sense."""
    raise BadAnswer(
        f"the answer to {call} makes no sense (HTTP {answer.status}): {why}", **_facts(answer)
    )


def parse_retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for, at most a day.

    Args:
        value: the header, or None.
        now: the Unix time to count a date from; the clock's where None.
    """
    if not value:
        return None
    value = value.strip()
    seconds: float
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value, re.ASCII):
        seconds = float(value)
    else:
        date = _http_date(value)
        if date is None:
            return None
        seconds = date - (time.time() if now is None else now)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def checked_etag(answer: Answer, call: str) -> str | None:
    """The ETag header without quotes, or None where there is none.

    Raises:
        BadAnswer: it could not be sent back in a list of ETags.
    """
    etag = answer.etag
    if etag is None or etag == "":
        return None
    if not is_etag(etag):
        bad_answer(answer, call, "its ETag is none")
    return etag


def is_etag(text: str) -> bool:
    """Whether a text can stand in the comma-joined, quoted list that Finish sends."""
    return (
        0 < len(text) <= MAX_ETAG
        and text.isascii()
        and text.isprintable()
        and not any(mark in text for mark in ' ,"')
    )


def clean(text: str, limit: int) -> str:
    """A text of the network's as a terminal may show it: no escapes, no control characters.

    Nor a signature that a server or a proxy quotes: it holds for ever, since no date is in it, and
    what is said here ends in journals.
    """
    # Cut before the regular expressions run: the text may be as long as the body.
    text = _ESCAPE.sub("", text[: limit * 4])
    text = _CONTROL.sub(" ", text)
    text = _SIGNATURE.sub(r"\1[redacted]", " ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


# -- the pieces ----------------------------------------------------------------------------------


def _facts(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "ret_code": answer.ret_code,
        "err_msg": answer.err_msg,
        "session_id": answer.session_id,
        "retry_after": parse_retry_after(answer.headers.get("retry-after")),
        "body": answer.body[:ERROR_LIMIT],
        "content_type": answer.content_type,
        "credentials_tag": answer.credentials_tag,
    }


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        # ValueError: no JSON, no UTF-8, an integer of thousands of digits.
        return None
    return said if isinstance(said, dict) else None


def _said(answer: Answer, call: str) -> dict[str, Any]:
    """The JSON object that a success must carry."""
    if not answer.whole:
        bad_answer(answer, call, "it is cut short or far too long")
    said = _json_object(answer.body)
    if said is None:
        bad_answer(answer, call, "its body is no JSON object")
    if answer.ret_code:
        # Seen nowhere in the documents, but cheap to believe: an error dressed as a success.
        bad_answer(answer, call, "it reports an error all the same")
    return said


def _perhaps_said(answer: Answer, call: str) -> dict[str, Any] | None:
    """The JSON object that a success may carry.

    An empty body is fine, and so is a word like `OK` where the headers say what counts; a web
    page or a piece of JSON is not.
    """
    refuse_page(answer, call)
    if answer.whole and answer.body.lstrip()[:1] != b"{":
        return None
    return _said(answer, call)


def _remote_part(item: Any, answer: Answer, call: str) -> RemotePart:
    if not isinstance(item, dict):
        bad_answer(answer, call, "an entry of it is no part")
    number = _integer(item.get("PartNum"), 0, MAX_PART_NUMBER)
    size = _integer(item.get("Size"), 0, MAX_OBJECT_SIZE)
    if number is None or size is None:
        bad_answer(answer, call, "a part of it lacks its number or size")
    etag = item.get("Etag", item.get("ETag"))
    etag = unquote(etag) if isinstance(etag, str) else ""
    if etag and not is_etag(etag):
        bad_answer(answer, call, f"the ETag of its part {number} is none")
    return RemotePart(number, etag, size, _integer(item.get("LastModified"), 0, 2**40))


def _integer(value: Any, low: int, high: int) -> int | None:
    """A number within bounds; texts of digits and whole floats count, True and False don't."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not re.fullmatch(r"-?[0-9]{1,20}", value, re.ASCII):
            return None
        value = int(value)
    elif isinstance(value, float):
        if not (math.isfinite(value) and value.is_integer()):
            return None
        value = int(value)
    if isinstance(value, int) and low <= value <= high:
        return value
    return None


def _boolean(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1")
    return value is True or (isinstance(value, int) and value == 1)


def _text(value: Any) -> str | None:
    """A non-empty text that is UTF-8, or None. JSON can spell lone surrogates."""
    if not isinstance(value, str) or not value or len(value) > MAX_KEY:
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value


def check_upload_id(upload_id: str) -> None:
    """Make sure that an upload id is one that a server may have given.

    Raises:
        UsageError: it is empty, far too long, or holds characters that no id has.
    """
    if not is_upload_id(upload_id):
        raise UsageError("the upload id is empty, too long, or holds characters that no id has")


def is_upload_id(value: Any) -> bool:
    """An opaque text; it goes percent-encoded into a query, so quotes and slashes are fine."""
    return isinstance(value, str) and 0 < len(value) <= MAX_UPLOAD_ID and value.isprintable()


def _utf8(value: str) -> str:
    """A header's value that was UTF-8; http.client reads headers as Latin-1."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _http_date(value: str) -> float | None:
    if not value or len(value) > 64:
        return None
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def _location_host(location: str) -> str:
    try:
        host = urlsplit(location[:2048]).hostname
    except ValueError:
        return ""
    return clean(host or "", 100)
