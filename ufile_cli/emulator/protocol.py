"""What US3 says on the wire, read from the server's side. Pure: no socket, no file.

This is the second opinion of the project: written from the protocol page alone, it shares nothing
with the client, so that a misreading on one side shows as a failing test instead of cancelling
itself out. It parses requests, names the call that a request is, checks signatures, computes
ETags and holds the error codes. It never decides what is stored.

Of the RetCodes only -30010 is documented; the others are this emulator's own, all negative.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from hashlib import _Hash

ETAG_BLOCK = 4 * 1024 * 1024
"""Bytes in one block of the ETag arithmetic, whatever the block size of an upload is."""

PUT_LIMIT = 512 * 1024 * 1024
"""Largest body of PutFile, and here of one part; the protocol bounds a part at Finish only."""

PART_NUMBERS = 10_000_000
"""Part numbers lie below this; 5 TB in parts of 4 MiB need 1.2 million."""

META_LIMIT = 8 * 1024
"""Bytes of all user metadata of an object together, names and values."""

STORAGE_CLASSES = ("STANDARD", "IA", "ARCHIVE")


class Call(StrEnum):
    """The calls of the protocol, named as fault scripts and request logs name them."""

    INITIATE = "initiate"
    PART = "part"
    FINISH = "finish"
    ABORT = "abort"
    LIST_PARTS = "list_parts"
    LIST_UPLOADS = "list_uploads"
    PUT = "put"
    HEAD = "head"
    GET = "get"
    DELETE = "delete"
    LIST = "list"
    LIST_OBJECTS = "list_objects"
    UNKNOWN = "unknown"


class Refusal(Exception):
    """An answer that says no: HTTP status, RetCode and ErrMsg of the JSON body."""

    def __init__(
        self, status: int, ret_code: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.ret_code = ret_code
        self.message = message
        self.headers = dict(headers or {})


def malformed(message: str) -> Refusal:
    """A request that is not HTTP, or not of this protocol: 400."""
    return Refusal(400, -30001, message)


def no_bucket() -> Refusal:
    """The documented answer to a bucket that is not there."""
    return Refusal(404, -30010, "bucket not exist")


def no_object() -> Refusal:
    """An object that is not there; its RetCode is undocumented."""
    return Refusal(404, -30011, "file not exist")


@dataclass(frozen=True)
class Keys:
    """A key pair that the emulator accepts. The private key does not show in repr."""

    public: str
    private: str = field(repr=False)


@dataclass(frozen=True)
class Request:
    """The head of one request.

    `target` is the raw target of the request line; `key` is decoded exactly once. Header names
    keep the spelling of the sender and repeated headers stay apart.
    """

    method: str
    target: str
    version: str
    key: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower()
        return next((value for given, value in self.headers if given.lower() == wanted), None)

    def parameter(self, name: str) -> str | None:
        """The first query parameter of that name, exactly as spelled."""
        return next((value for given, value in self.query if given == name), None)

    def has(self, name: str) -> bool:
        """Whether the query names that parameter, with a value or without."""
        return any(given == name for given, _ in self.query)


_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,16}) ([^ \x00-\x1f\x7f]+) (HTTP/1\.[01])")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def parse_head(head: bytes) -> Request:
    """Read a request head, without the empty line that ends it.

    Raises Refusal (400) for anything that is not a well-formed HTTP/1.x head.
    """
    lines = head.replace(b"\r\n", b"\n").split(b"\n")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise malformed("malformed request line")
    method, target, version = match.groups()
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or _HEADER_NAME.fullmatch(name) is None or b"\x00" in value:
            raise malformed("malformed header line")
        headers.append((name.decode("ascii"), value.strip(b" \t").decode("latin-1")))
    path, _, query = _origin_form(target).partition(b"?")
    return Request(
        method=method.decode("ascii").upper(),
        target=target.decode("latin-1"),
        version=version.decode("ascii"),
        key=_text(unquote_to_bytes(path[1:]), "key"),
        query=_parse_query(query),
        headers=tuple(headers),
    )


def _origin_form(target: bytes) -> bytes:
    if target.startswith(b"/"):
        return target
    if target.lower().startswith((b"http://", b"https://")):
        rest = target.split(b"//", 1)[1]
        slash = rest.find(b"/")
        if slash >= 0:
            return rest[slash:]
        return b"/" + (b"?" + rest.split(b"?", 1)[1] if b"?" in rest else b"")
    raise malformed("the target does not begin with a slash")


def _parse_query(query: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in query.split(b"&"):
        if not item:
            continue
        name, _, value = item.partition(b"=")
        pairs.append((_form_text(name), _form_text(value)))
    return tuple(pairs)


def _form_text(raw: bytes) -> str:
    # Query values come form-encoded from the SDK, so a plus is a space here, and only here.
    return _text(unquote_to_bytes(raw.replace(b"+", b" ")), "query")


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed(f"the {what} is not UTF-8") from None


def content_length(request: Request) -> int | None:
    """Bytes of the body, or None where it is chunked.

    Raises Refusal (400) where the headers contradict each other.
    """
    lengths = {value for name, value in request.headers if name.lower() == "content-length"}
    coding = request.header("Transfer-Encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked" or lengths - {"0"}:
            raise malformed("contradicting or unknown transfer encoding")
        return None
    if not lengths:
        return 0
    text = lengths.pop()
    if lengths or not re.fullmatch(r"[0-9]{1,18}", text):
        raise malformed("malformed Content-Length")
    return int(text)


_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def bucket_of(host: str | None, domains: Mapping[str, str]) -> str | None:
    """The bucket that a Host header names: its first label, or what a bound domain stands for.

    None where the host is an address, `localhost` or a single label: there is no path-style form.
    """
    if host is None:
        return None
    name = host.strip().lower()
    if name.startswith("["):
        return None
    name = name.rsplit(":", 1)[0] if ":" in name else name
    name = name.rstrip(".")
    if name in domains:
        return domains[name]
    label, dot, rest = name.partition(".")
    if not dot or not rest or _IPV4.fullmatch(name) or _BUCKET.fullmatch(label) is None:
        return None
    return label


def call_of(request: Request) -> Call:
    """Name the call that a request is; what the emulator does not have is Call.UNKNOWN."""
    if not request.key:
        return _bucket_call(request)
    method, has = request.method, request.has
    if method == "GET":
        return Call.GET
    if method == "HEAD":
        return Call.HEAD
    if method == "POST" and has("uploads"):
        return Call.INITIATE
    if method == "POST" and has("uploadId"):
        return Call.FINISH
    if method == "DELETE":
        return Call.ABORT if has("uploadId") else Call.DELETE
    if method == "PUT" and request.header("X-Ufile-Copy-Source") is None:
        if has("uploadId"):
            return Call.PART
        # PUT ?restore, ?storageClass=, ?newFileName= are other calls and must not empty the object.
        if all(name in _SIGNATURE_PARAMETERS for name, _ in request.query):
            return Call.PUT
    return Call.UNKNOWN


def _bucket_call(request: Request) -> Call:
    if request.method == "GET":
        for name, call in _BUCKET_CALLS.items():
            if request.has(name):
                return call
    return Call.UNKNOWN


_SIGNATURE_PARAMETERS = ("UCloudPublicKey", "Expires", "Signature")
_BUCKET_CALLS = {
    "muploadpart": Call.LIST_PARTS,
    "muploadid": Call.LIST_UPLOADS,
    "listobjects": Call.LIST_OBJECTS,
    "list": Call.LIST,
}


def check_signature(request: Request, bucket: str, keys: Keys, now: float) -> None:
    """Check the signature in the Authorization header or in the query.

    `now` is Unix time. Raises Refusal: 401 for no, a wrong or an expired signature, 403 for a
    public key that is not known.
    """
    authorization = request.header("Authorization")
    if authorization is not None:
        public, signature = _parse_authorization(authorization)
        strings = [string_to_sign(request, bucket, request.header("Date") or "")]
        if call_of(request) is Call.LIST_OBJECTS:
            strings.append(strings[0] + _listobjects_suffix(request))
    elif request.has("Signature"):
        public = request.parameter("UCloudPublicKey") or ""
        # Base64 has no spaces: the SDK writes a raw plus into the links that it makes.
        signature = (request.parameter("Signature") or "").replace(" ", "+")
        expires = request.parameter("Expires") or ""
        if not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < now:
            raise Refusal(401, -30021, "the signature has expired")
        # With empty MD5 and type, as the protocol page has it; the SDK signs the type it sends.
        strings = [
            string_to_sign(request, bucket, expires, bare=True),
            string_to_sign(request, bucket, expires),
        ]
    else:
        raise Refusal(401, -30020, "no signature")
    if not hmac.compare_digest(public.encode(), keys.public.encode()):
        raise Refusal(403, -30022, "the public key is wrong")
    if not any(_matches(signature, text, keys.private) for text in strings):
        raise Refusal(401, -30023, "the signature is wrong")


def _parse_authorization(value: str) -> tuple[str, str]:
    scheme, _, credentials = value.partition(" ")
    public, colon, signature = credentials.strip().rpartition(":")
    if scheme != "UCloud" or not colon:
        raise Refusal(401, -30020, "malformed Authorization")
    return public, signature


def _matches(signature: str, text: str, private: str) -> bool:
    return hmac.compare_digest(signature.encode(), sign(text, private).encode())


def sign(text: str, private_key: str) -> str:
    """Standard base64 of the HMAC-SHA1 of a StringToSign."""
    digest = hmac.new(private_key.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def string_to_sign(request: Request, bucket: str, date: str, *, bare: bool = False) -> str:
    """The StringToSign of the protocol page, "Signature"; `bare` leaves MD5 and type empty."""
    md5 = "" if bare else request.header("Content-MD5") or ""
    content_type = "" if bare else request.header("Content-Type") or ""
    resource = f"/{bucket}/{request.key}"
    head = "\n".join((request.method, md5, content_type, date))
    return head + "\n" + _canonical_headers(request.headers) + resource


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> str:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower().startswith("x-ucloud-"):
            values.setdefault(name.lower(), []).append(" ".join(value.split()))
    return "".join(f"{name}:{','.join(values[name])}\n" for name in sorted(values))


def _listobjects_suffix(request: Request) -> str:
    # Not on the protocol page: the SDK signs the parameters of this one call behind the resource.
    names = ("delimiter", "marker", "max-keys", "prefix")
    lines = (f"{name}:{request.parameter(name) or ''}" for name in names)
    return "\nlistobjects\n" + "\n".join(lines)


def check_metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """User metadata of a request, without its prefix. Raises Refusal (400) past the limits."""
    metadata = {}
    for name, value in headers:
        if name.lower().startswith("x-ufile-meta-"):
            short = name[len("x-ufile-meta-") :]
            if not re.fullmatch(r"[A-Za-z0-9-]+", short):
                raise malformed("a metadata name has letters, digits and - only")
            metadata[short] = value
    if sum(len(name) + len(value) for name, value in metadata.items()) > META_LIMIT:
        raise malformed("more than 8 KB of metadata")
    return metadata


def check_storage_class(request: Request) -> str:
    """The storage class asked for, or STANDARD. Raises Refusal (400) for another word."""
    name = request.header("X-Ufile-Storage-Class") or "STANDARD"
    if name not in STORAGE_CLASSES:
        raise malformed("unknown storage class")
    return name


def natural(request: Request, name: str, default: int, highest: int) -> int:
    """A query parameter that is a number, capped at `highest`. Raises Refusal (400)."""
    text = request.parameter(name)
    if text is None or text == "":
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise malformed(f"{name} is not a number")
    return min(int(text), highest)


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start` up to but not including `stop` of an object."""

    start: int
    stop: int


def parse_range(value: str | None, size: int) -> ByteRange | None:
    """One range of a Range header, or None where the whole object is meant.

    What is not a single well-formed byte range is ignored, as HTTP says. Raises Refusal (416)
    for a range outside the object.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", (value or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size
        if last != "":
            if int(last) < start:
                return None
            stop = min(size, int(last) + 1)
    if start >= stop:
        raise Refusal(416, -30012, "range not satisfiable", {"Content-Range": f"bytes */{size}"})
    return ByteRange(start, stop)


class ContentHash:
    """Hashes of one body while it arrives: SHA-1 of each block of 4 MiB, and MD5 if asked."""

    def __init__(self, *, md5: bool = False, whole: bool = False) -> None:
        self.size = 0
        self._digests = bytearray()
        self._block: _Hash | None = None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._whole = hashlib.sha1(usedforsecurity=False) if whole else None

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the body."""
        if self._md5 is not None:
            self._md5.update(data)
        if self._whole is not None:
            self._whole.update(data)
        while data:
            if self._block is None:
                self._block = hashlib.sha1(usedforsecurity=False)
            room = ETAG_BLOCK - self.size % ETAG_BLOCK
            piece = data[:room]
            self._block.update(piece)
            self.size += len(piece)
            if self.size % ETAG_BLOCK == 0:
                self._close_block()
            data = data[room:]

    def _close_block(self) -> None:
        if self._block is not None:
            self._digests += self._block.digest()
            self._block = None

    def digests(self) -> bytes:
        """The blocks' SHA-1 digests, one behind the other; that of nothing for an empty body."""
        self._close_block()
        return bytes(self._digests) or hashlib.sha1(usedforsecurity=False).digest()

    def md5(self) -> str:
        """Lower-case hex MD5, or nothing where it was not asked for."""
        return self._md5.hexdigest() if self._md5 is not None else ""

    def object_etag(self) -> str:
        """ETag of the body as an object."""
        return object_etag(self.size, [self.digests()])

    def part_etag(self, form: str = "") -> str:
        """ETag of the body as a part, unquoted.

        Without a form: 28 characters for up to one block and, since nothing is documented there,
        the object's form beyond. Forms: `object`, `hex`, `opaque`, `content` (the SHA-1 of the
        whole part, which needs `whole`), `blocks` (the SHA-1 of the blocks' digests).
        """
        digests = self.digests()
        if form == "object" or (form == "" and self.size > ETAG_BLOCK):
            return self.object_etag()
        if form == "hex":
            return hashlib.md5(digests, usedforsecurity=False).hexdigest()
        if form == "opaque":
            return "v1-" + hashlib.sha256(digests).hexdigest()[:24]
        if form == "blocks":
            return _base64(hashlib.sha1(digests, usedforsecurity=False).digest())
        if form == "content" and self._whole is not None:
            return _base64(self._whole.digest())
        return _base64(digests[:20])


def object_etag(size: int, digests: Iterable[bytes]) -> str:
    """Object ETag from its size and its blocks' SHA-1 digests, in order, in any chunks.

    Formula: protocol page, "ETags". The form for an empty object is undocumented: no blocks and
    the SHA-1 of nothing here.
    """
    count = -(-size // ETAG_BLOCK)
    if count <= 1:
        digest = b"".join(digests)[:20]
    else:
        whole = hashlib.sha1(usedforsecurity=False)
        for chunk in digests:
            whole.update(chunk)
        digest = whole.digest()
    return _base64(count.to_bytes(4, "little") + digest)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii")
