"""What each call of the protocol does: an Exchange goes in, an Answer comes out.

Every rule of the protocol page that needs the store is here, and no byte of HTTP: the exchange
hands over the body and strikes with the faults that are due on the way.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ufile_cli.emulator.content import Content, Upload
from ufile_cli.emulator.faults import Effects
from ufile_cli.emulator.objects import NoSuchUpload, ObjectStore, StoredObject, upload_order
from ufile_cli.emulator.protocol import (
    PART_NUMBERS,
    PUT_LIMIT,
    ByteRange,
    Call,
    ContentHash,
    Refusal,
    Request,
    check_metadata,
    check_storage_class,
    malformed,
    natural,
    parse_range,
)

FINISH_LIMIT = 256 * 1024 * 1024
"""Largest body of Finish: 1.2 million quoted etags are 42 MB. Undocumented at the service."""

SMALL_LIMIT = 1024 * 1024
"""Largest body of a call that has no use for one."""

_PAGE_MAX = 1000


@dataclass(frozen=True)
class Answer:
    """An answer before it is HTTP. `content` is sent in place of `body`, that range of it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content: Content | None = None
    part: ByteRange | None = None


class Exchange(Protocol):
    """What a call sees of the request that it answers."""

    @property
    def request(self) -> Request: ...
    @property
    def bucket(self) -> str: ...
    @property
    def effects(self) -> Effects: ...
    @property
    def store(self) -> ObjectStore: ...
    @property
    def block_size(self) -> int: ...
    @property
    def declared(self) -> int | None:
        """Content-Length; None for a chunked body."""

    def receive(self, limit: int, *sinks: Callable[[memoryview], None]) -> None:
        """Read the body into every sink, then strike the faults due behind it."""

    def stored(self, etag: str) -> None:
        """Note the ETag of what was stored, for the log."""


def perform(call: Call, exchange: Exchange) -> Answer:
    """Do what the call says. Raises Refusal and NoSuchUpload."""
    return _CALLS[call](exchange)


def _json(status: int, document: Mapping[str, Any], *headers: tuple[str, str]) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status, (("Content-Type", "application/json"), *headers), body)


def error(refusal: Refusal) -> Answer:
    """The answer that a refusal is."""
    document = {"RetCode": refusal.ret_code, "ErrMsg": refusal.message}
    return _json(refusal.status, document, *refusal.headers.items())


def _etag_header(exchange: Exchange, etag: str) -> tuple[tuple[str, str], ...]:
    """The ETag header, as a fault may want it."""
    form = exchange.effects.etag
    if form == "none":
        return ()
    if form == "wrong":
        return (("ETag", '"AAAAAAAAAAAAAAAAAAAAAAAAAAA="'),)
    return (("ETag", etag if form == "unquoted" else f'"{etag}"'),)


# Multipart


def _initiate(exchange: Exchange) -> Answer:
    request = exchange.request
    exchange.receive(SMALL_LIMIT)
    begun = exchange.store.initiate(
        exchange.bucket,
        Upload(
            upload_id="",
            key=request.key,
            block_size=exchange.block_size,
            content_type=request.header("Content-Type") or "",
            storage_class=check_storage_class(request),
            metadata=check_metadata(request.headers),
            started=time.time(),
        ),
    )
    return _json(
        200,
        {
            "UploadId": begun.upload_id,
            "BlkSize": begun.block_size,
            "Bucket": exchange.bucket,
            "Key": begun.key,
        },
    )


def _upload_of(exchange: Exchange) -> Upload:
    """The living upload that the query names, of the key that the path names."""
    upload_id = exchange.request.parameter("uploadId") or ""
    upload = exchange.store.upload(exchange.bucket, upload_id)
    if exchange.request.key and upload.key != exchange.request.key:
        raise NoSuchUpload(upload_id)
    return upload


def _part(exchange: Exchange) -> Answer:
    request, store = exchange.request, exchange.store
    text = request.parameter("partNumber") or ""
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) >= PART_NUMBERS:
        raise malformed("partNumber is not a part number")
    size = exchange.declared
    if size is None or request.header("Content-Length") is None:
        raise Refusal(411, -30004, "a part needs a Content-Length")
    content_type = request.header("Content-Type")
    if content_type is None:
        raise malformed("a part needs a Content-Type")
    if size > PUT_LIMIT:
        raise Refusal(413, -30002, "the part is too large")
    upload, number = _upload_of(exchange), int(text)
    form = exchange.effects.etag or ""
    asked = request.header("Content-MD5")
    content = ContentHash(md5=asked is not None, whole=form == "content")
    incoming = store.begin_part(exchange.bucket, upload, number, size)
    try:
        exchange.receive(PUT_LIMIT, content.update, incoming.write)
        _check_md5(asked, content)
        etag = content.part_etag(form)
        if number == 0:
            store.note_part_type(exchange.bucket, upload.upload_id, content_type)
        incoming.commit(etag, content)
    finally:
        incoming.abandon()
    exchange.stored(etag)
    if exchange.effects.forget == "part":
        store.forget_part(exchange.bucket, upload, number)
    answer = _json(200, {"PartNumber": number})
    return Answer(200, answer.headers + _etag_header(exchange, etag), answer.body)


def _check_md5(asked: str | None, content: ContentHash) -> None:
    if asked is not None and asked != content.md5():
        raise Refusal(400, -30005, "the body does not have the Content-MD5")


def _finish(exchange: Exchange) -> Answer:
    store, bucket = exchange.store, exchange.bucket
    upload = _upload_of(exchange)
    body = store.scratch()
    try:
        exchange.receive(FINISH_LIMIT, body.write)
        stored = store.finish(bucket, upload, _etags(body.chunks()), _finished_as(exchange, upload))
    finally:
        body.close()
    exchange.stored(stored.etag)
    key = exchange.effects.finish_key or stored.key
    answer = _json(200, {"Bucket": bucket, "Key": key, "FileSize": stored.size})
    headers = answer.headers + _etag_header(exchange, stored.etag)
    return Answer(200, headers, answer.body)


def _etags(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The etags of a Finish body, unquoted; one that is too long to be one ends the list."""
    rest = b""
    for chunk in chunks:
        items = (rest + chunk).split(b",")
        rest = items.pop()
        if len(rest) > 1024:
            raise malformed("the body is not a list of etags")
        for item in items:
            yield item.strip(b' \t\r\n"')
    if rest.strip():
        yield rest.strip(b' \t\r\n"')


def _finished_as(exchange: Exchange, upload: Upload) -> StoredObject:
    """The object that Finish makes, without what its parts say."""
    request, store, bucket = exchange.request, exchange.store, exchange.bucket
    key = upload.key
    new_key = request.parameter("newKey")
    if new_key and store.exists(bucket, key):
        key = new_key
    metadata = upload.metadata
    directive = request.header("X-Ufile-Metadata-Directive")
    if directive not in (None, "UNCHANGED", "REPLACE"):
        raise malformed("unknown metadata directive")
    given = check_metadata(request.headers)
    if directive == "REPLACE" or (directive is None and not metadata):
        metadata = given
    # The SDK says text/plain at Initiate and Finish, and the object's own type with the parts.
    types = (
        request.header("Content-Type"),
        upload.content_type,
        store.part_type(bucket, upload.upload_id),
    )
    content_type = next((one for one in types if one not in (None, "", "text/plain")), None)
    return _object(key, content_type or "text/plain", upload.storage_class, metadata)


def _object(
    key: str, content_type: str, storage_class: str, metadata: Mapping[str, str]
) -> StoredObject:
    now = time.time()
    return StoredObject(
        key=key,
        size=0,
        etag="",
        content_type=content_type,
        storage_class=storage_class,
        metadata=dict(metadata),
        created=now,
        modified=now,
        content="",
    )


def _abort(exchange: Exchange) -> Answer:
    upload = _upload_of(exchange)
    exchange.receive(SMALL_LIMIT)
    exchange.store.abort(exchange.bucket, upload.upload_id)
    return Answer(204)


def _list_parts(exchange: Exchange) -> Answer:
    request, effects = exchange.request, exchange.effects
    upload = _upload_of(exchange)
    exchange.receive(SMALL_LIMIT)
    limit = max(1, natural(request, "max-parts", _PAGE_MAX, _PAGE_MAX))
    limit = min(limit, effects.page_size or limit)
    above = natural(request, "part-number-marker", -1, PART_NUMBERS)
    if effects.stuck_page:
        above = -1
    parts = exchange.store.parts(exchange.bucket, upload, above, limit + 1)
    truncated = len(parts) > limit or bool(effects.stuck_page)
    parts = parts[:limit]
    quote = '"' if effects.list_etags == "quoted" else ""
    return _json(
        200,
        {
            "UploadId": upload.upload_id,
            "Bucket": exchange.bucket,
            "Key": upload.key,
            "Parts": [
                {
                    "PartNum": part.number,
                    "Etag": f"{quote}{part.etag}{quote}",
                    "Size": part.size,
                    "LastModified": int(part.modified),
                }
                for part in parts
            ],
            "MaxParts": limit,
            "IsTruncated": truncated,
            "NextPartNumberMarker": parts[-1].number if truncated and parts else 0,
        },
    )


def _list_uploads(exchange: Exchange) -> Answer:
    request = exchange.request
    exchange.receive(SMALL_LIMIT)
    limit = max(1, natural(request, "limit", 20, _PAGE_MAX))
    limit = min(limit, exchange.effects.page_size or limit)
    uploads = exchange.store.uploads(exchange.bucket, request.parameter("prefix") or "")
    marker = request.parameter("marker")
    if marker:
        behind = _read_marker(marker)
        uploads = [upload for upload in uploads if upload_order(upload) > behind]
    page = uploads[:limit]
    return _json(
        200,
        {
            "RetCode": 0,
            "ErrMsg": "",
            "NextMarker": _marker(page[-1]) if len(uploads) > limit else "",
            "DataSet": [
                {
                    "UploadId": upload.upload_id,
                    "FileName": upload.key,
                    "StartTime": int(upload.started),
                }
                for upload in page
            ],
        },
    )


def _marker(upload: Upload) -> str:
    text = json.dumps([upload.key, upload.started, upload.upload_id])
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _read_marker(marker: str) -> tuple[bytes, float, str]:
    try:
        key, started, upload_id = json.loads(base64.urlsafe_b64decode(marker.encode()))
        return str(key).encode(), float(started), str(upload_id)
    except (ValueError, TypeError):
        raise malformed("the marker is not one of this server's") from None


# Objects


def _put(exchange: Exchange) -> Answer:
    request, store = exchange.request, exchange.store
    if (exchange.declared or 0) > PUT_LIMIT:
        raise Refusal(413, -30002, "more than 512 MB; use a multipart upload")
    stored = _object(
        request.key,
        request.header("Content-Type") or "application/octet-stream",
        check_storage_class(request),
        check_metadata(request.headers),
    )
    asked = request.header("Content-MD5")
    content = ContentHash(md5=asked is not None)
    incoming = store.begin_object(exchange.bucket)
    try:
        exchange.receive(PUT_LIMIT, content.update, incoming.write)
        _check_md5(asked, content)
        etag = content.object_etag()
        store.publish(exchange.bucket, incoming, stored, size=content.size, etag=etag)
    finally:
        incoming.abandon()
    exchange.stored(etag)
    return Answer(200, _etag_header(exchange, etag))


def _object_headers(exchange: Exchange, stored: StoredObject) -> tuple[tuple[str, str], ...]:
    return (
        ("Content-Type", stored.content_type),
        *_etag_header(exchange, stored.etag),
        ("Last-Modified", http_date(stored.modified)),
        ("Accept-Ranges", "bytes"),
        ("X-Ufile-Storage-Class", stored.storage_class),
        *((f"X-Ufile-Meta-{name}", value) for name, value in stored.metadata.items()),
    )


def _head(exchange: Exchange) -> Answer:
    exchange.receive(SMALL_LIMIT)
    stored = exchange.store.find(exchange.bucket, exchange.request.key)
    headers = _object_headers(exchange, stored)
    return Answer(200, (*headers, ("Content-Length", str(stored.size))))


def _get(exchange: Exchange) -> Answer:
    exchange.receive(SMALL_LIMIT)
    stored, content = exchange.store.open(exchange.bucket, exchange.request.key)
    try:
        part = parse_range(exchange.request.header("Range"), stored.size)
    except Refusal:
        content.close()
        raise
    headers = _object_headers(exchange, stored)
    if part is None:
        return Answer(200, headers, content=content, part=ByteRange(0, stored.size))
    span = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
    return Answer(206, (*headers, ("Content-Range", span)), content=content, part=part)


def _delete(exchange: Exchange) -> Answer:
    exchange.receive(SMALL_LIMIT)
    exchange.store.delete(exchange.bucket, exchange.request.key)
    return Answer(204)


def _list(exchange: Exchange) -> Answer:
    request = exchange.request
    exchange.receive(SMALL_LIMIT)
    limit = max(1, natural(request, "limit", 20, _PAGE_MAX))
    limit = min(limit, exchange.effects.page_size or limit)
    marker = (request.parameter("marker") or "").encode()
    found = exchange.store.objects(exchange.bucket, request.parameter("prefix") or "")
    found = [stored for stored in found if stored.key.encode() > marker]
    page = found[:limit]
    return _json(
        200,
        {
            "BucketName": exchange.bucket,
            "BucketId": f"ufile-{exchange.bucket}",
            "NextMarker": page[-1].key if len(found) > limit else "",
            "DataSet": [
                {
                    "BucketName": exchange.bucket,
                    # The reference's versions name it one way or the other.
                    "FileName": stored.key,
                    "ObjectName": stored.key,
                    "Hash": stored.etag,
                    "MimeType": stored.content_type,
                    "Size": stored.size,
                    "CreateTime": int(stored.created),
                    "ModifyTime": int(stored.modified),
                    "StorageClass": stored.storage_class,
                }
                for stored in page
            ],
        },
    )


def _list_objects(exchange: Exchange) -> Answer:
    request = exchange.request
    exchange.receive(SMALL_LIMIT)
    limit = max(1, natural(request, "max-keys", 100, _PAGE_MAX))
    limit = min(limit, exchange.effects.page_size or limit)
    prefix, delimiter = request.parameter("prefix") or "", request.parameter("delimiter") or ""
    marker = (request.parameter("marker") or "").encode()
    contents: list[dict[str, Any]] = []
    prefixes: list[str] = []
    last, truncated = "", False
    for stored in exchange.store.objects(exchange.bucket, prefix):
        rest = stored.key[len(prefix) :]
        grouped = bool(delimiter.strip()) and delimiter in rest
        name = prefix + rest.split(delimiter)[0] + delimiter if grouped else stored.key
        if name.encode() <= marker or (grouped and name in prefixes[-1:]):
            continue
        if len(contents) + len(prefixes) == limit:
            truncated = True
            break
        last = name
        if grouped:
            prefixes.append(name)
        else:
            contents.append(_listed(stored))
    return _json(
        200,
        {
            "Name": exchange.bucket,
            "Prefix": prefix,
            "MaxKeys": str(limit),
            "Delimiter": delimiter,
            "IsTruncated": truncated,
            "NextMarker": last if truncated else "",
            "Contents": contents,
            "CommonPrefixes": [{"Prefix": name} for name in prefixes],
        },
    )


def _listed(stored: StoredObject) -> dict[str, Any]:
    return {
        "Key": stored.key,
        "MimeType": stored.content_type,
        "ETag": stored.etag,
        "Size": str(stored.size),
        "StorageClass": stored.storage_class,
        "LastModified": int(stored.modified),
        "CreateTime": int(stored.created),
    }


def _unknown(exchange: Exchange) -> Answer:
    raise Refusal(501, -30000, f"no such call here: {exchange.request.method}")


_CALLS: dict[Call, Callable[[Exchange], Answer]] = {
    Call.INITIATE: _initiate,
    Call.PART: _part,
    Call.FINISH: _finish,
    Call.ABORT: _abort,
    Call.LIST_PARTS: _list_parts,
    Call.LIST_UPLOADS: _list_uploads,
    Call.PUT: _put,
    Call.HEAD: _head,
    Call.GET: _get,
    Call.DELETE: _delete,
    Call.LIST: _list,
    Call.LIST_OBJECTS: _list_objects,
    Call.UNKNOWN: _unknown,
}

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def http_date(moment: float) -> str:
    """A Unix time as HTTP writes it, in English whatever the locale."""
    at = time.gmtime(moment)
    month = _MONTHS[at.tm_mon * 3 - 3 : at.tm_mon * 3]
    day = f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {month} {at.tm_year}"
    return f"{day} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
