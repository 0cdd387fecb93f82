"""The journal's document: fields <-> JSON, and the detection of damage.

Pure. What can't be understood to the last field raises `Damage`: a journal is trusted as a whole
or not at all, since a part wrongly believed to be up makes a wrong object. Unknown fields are
ignored; a higher version is refused. The format is `docs/journal-format.md`.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from ufile_cli.etag import BLOCK, DIGEST_SIZE
from ufile_cli.journal.parts import PartTable

__all__ = [
    "ID_ALPHABET",
    "ID_LENGTH",
    "VERSION",
    "Damage",
    "Identity",
    "JournalDocument",
    "State",
    "check_etag",
    "decode_digests",
    "encode_digests",
    "is_journal_id",
]

VERSION = 1
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u, which are taken for other characters."""
ID_LENGTH = 8

MAX_BLOCK_SIZE = 5 * 1024**3
MAX_PARTS = 10_000_000
"""More parts than any object can have (5 TB in parts of 1 MiB are half of it)."""

State = Literal["running", "paused", "failed", "finished"]
Kind = Literal["file", "stream"]


class Damage(ValueError):
    """What is wrong with a journal's text; says it for a person."""


def is_journal_id(text: str) -> bool:
    """Whether the text can be a journal id."""
    return len(text) == ID_LENGTH and all(character in ID_ALPHABET for character in text)


class Identity(NamedTuple):
    """What tells one version of a file from another: bytes, nanoseconds, inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def as_json(self) -> dict[str, int]:
        return {
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "ctime_ns": self.ctime_ns,
            "inode": self.inode,
        }


@dataclass(slots=True)
class JournalDocument:
    """The fields of `docs/journal-format.md`, apart from the parts, which a `PartTable` holds."""

    journal_id: str
    kind: Kind
    bucket: str
    key: str
    endpoint: str
    created_at: str
    updated_at: str
    state: State = "running"
    custom_domain: bool = False
    profile: str | None = None
    uploadid: str | None = None
    blocksize: int | None = None
    localfile: str | None = None
    size: int | None = None
    source: Identity | None = None
    end_seen: bool = False
    stream_size: int | None = None
    mime_type: str | None = None
    storage_class: str | None = None
    header: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    host: str = ""
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    rewrites: int = 0

    @property
    def total(self) -> int | None:
        """Bytes of the source where they are known: a file's size, or a stream's once it ended."""
        return self.size if self.size is not None else self.stream_size

    @property
    def most_parts(self) -> int:
        """How many parts there can be; an empty source has one."""
        if self.total is None or self.blocksize is None:
            return MAX_PARTS
        return max(1, -(-self.total // self.blocksize))

    def fields(self, parts: PartTable | None) -> dict[str, Any]:
        """Every field but the two long lists, as JSON types."""
        return {
            "version": VERSION,
            "journal_id": self.journal_id,
            "state": self.state,
            "kind": self.kind,
            "bucket": self.bucket,
            "key": self.key,
            "endpoint": self.endpoint,
            "custom_domain": self.custom_domain,
            "profile": self.profile,
            "uploadid": self.uploadid,
            "blocksize": self.blocksize,
            "pausepartnumber": parts.pause if parts is not None else 0,
            "localfile": self.localfile,
            "size": self.size,
            "source": self.source.as_json() if self.source else None,
            "end_seen": self.end_seen,
            "stream_size": self.stream_size,
            "mime_type": self.mime_type,
            "storage_class": self.storage_class,
            "header": self.header,
            "meta": self.meta,
            "options": self.options,
            "pid": self.pid,
            "host": self.host,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "error": self.error,
            "result": self.result,
            "rewrites": self.rewrites,
            "destination_crc": self._destination_crc(),
        }

    def _destination_crc(self) -> int:
        """CRC-32 of what says where the object goes and how.

        A flipped bit in a part's record is found by the server's list or at Finish; one in the
        key would store the right bytes in a wrong place, and only this finds it.
        """
        text = json.dumps(
            [
                self.journal_id,
                self.kind,
                self.bucket,
                self.key,
                self.endpoint,
                self.custom_domain,
                self.mime_type,
                self.storage_class,
                sorted(self.header.items()),
                sorted(self.meta.items()),
            ]
        )
        return zlib.crc32(text.encode())

    def chunks(self, parts: PartTable | None) -> Iterator[bytes]:
        """The document's text in pieces, so that a million etags never stand in memory twice."""
        head = json.dumps(self.fields(parts), indent=1)
        if self.state == "finished":
            yield head.encode() + b"\n"
            return
        yield head[: head.rindex("}")].rstrip().encode()
        yield b',\n "sha1list": ['
        if parts is None:
            parts = PartTable(BLOCK)  # lists nothing
        extra = map(parts.extra_digests, range(parts.last_extra + 1))
        yield from _in_rows(
            f'"{encode_digests(digests)}"' if digests else "null" for digests in extra
        )
        yield b'],\n "etaglist": ['
        end = parts.end
        for first in range(0, end, _ROW):
            stop = min(end, first + _ROW)
            if first:
                yield b",\n"
            plain = parts.plain(first, stop)
            if plain is not None:
                yield _encode_plain(plain)
            else:
                etags = map(parts.etag, range(first, stop))
                yield ",".join(
                    "null" if etag is None else json.dumps(etag) for etag in etags
                ).encode()
        yield b"]\n}\n"

    @classmethod
    def parse(cls, text: bytes, journal_id: str) -> tuple[JournalDocument, PartTable | None]:
        """Read a document; the parts are None before the server gave an upload id.

        Raises:
            Damage: with what is wrong, for a person.
        """
        rows = None
        split = _split(text)
        try:
            if split is not None:
                text, rows = split
            raw = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Damage(f"it is not whole JSON ({_short(error)})") from error
        if not isinstance(raw, dict):
            raise Damage("it is no JSON object")
        read = _Reader(raw)
        version = read.integer("version", least=1)
        if version > VERSION:
            raise Damage(
                f"it is of version {version}, made by a newer ufile; this one reads up to {VERSION}"
            )
        if read.text("journal_id") != journal_id:
            raise Damage("it carries another journal id than its name")
        state = read.text("state")
        if state not in ("running", "paused", "failed", "finished"):
            raise Damage("its state is none that exists")
        kind = read.text("kind")
        if kind not in ("file", "stream"):
            raise Damage("its kind is none that exists")
        source = raw.get("source")
        document = cls(
            journal_id=journal_id,
            kind=cast(Kind, kind),
            state=cast(State, state),
            bucket=read.text("bucket"),
            key=read.text("key"),
            endpoint=read.text("endpoint"),
            created_at=read.text("created_at"),
            updated_at=read.text("updated_at"),
            custom_domain=read.flag("custom_domain"),
            profile=read.optional_text("profile"),
            uploadid=read.optional_text("uploadid"),
            blocksize=read.optional_integer("blocksize", least=1, most=MAX_BLOCK_SIZE),
            localfile=read.optional_text("localfile"),
            size=read.optional_integer("size"),
            source=None if source is None else _identity(source),
            end_seen=read.flag("end_seen"),
            stream_size=read.optional_integer("stream_size"),
            mime_type=read.optional_text("mime_type"),
            storage_class=read.optional_text("storage_class"),
            header=read.texts("header"),
            meta=read.texts("meta"),
            options=_options(read.mapping("options")),
            pid=read.integer("pid"),
            host=read.text("host"),
            error=read.optional_mapping("error"),
            result=_result(read.optional_mapping("result")),
            rewrites=read.integer("rewrites"),
        )
        if (
            kind == "file"
            and state != "finished"
            and (document.localfile is None or document.size is None)
        ):
            raise Damage("it names no file and size")
        if raw.get("destination_crc", document._destination_crc()) != document._destination_crc():
            raise Damage("bucket, key, endpoint or headers are not those it was written with")
        etags = raw.get("etaglist", [])
        if not isinstance(etags, list):
            raise Damage("its etaglist is no list")
        return document, document._parts(raw, [etags] if rows is None else rows)

    def _parts(self, raw: dict[str, Any], rows: Iterable[list[Any]]) -> PartTable | None:
        extra = raw.get("sha1list", [])
        if not isinstance(extra, list):
            raise Damage("its sha1list is no list")
        if self.uploadid is None or self.blocksize is None:
            if any(etag is not None for row in rows for etag in row):
                raise Damage("it lists parts but has no upload id or block size")
            return None
        if not self.uploadid:
            raise Damage("its upload id is empty")
        limit = self.most_parts
        parts = PartTable(self.blocksize)
        first = 0
        for row in rows:
            if first + len(row) > limit or len(extra) > limit:
                listed = max(first + len(row), len(extra))
                raise Damage(f"it lists {listed} parts where at most {limit} can be")
            single = parts.block_size <= BLOCK and first >= len(extra)
            plain = _plain_digests(row) if single else None
            if plain is not None:
                parts.record_plain(first, plain)
            else:
                for number, etag in enumerate(row, first):
                    if etag is not None:
                        digests = extra[number] if number < len(extra) else None
                        record_part(parts, number, etag, digests)
            first += len(row)
        return parts


_ROW = 4096  # etags in one line of a document
_PLAIN_LENGTH = 28  # characters of an ETag that is one digest
_LIST = b'\n "etaglist": ['
_TAIL = b"]\n}\n"


def _split(text: bytes) -> tuple[bytes, Iterator[list[Any]]] | None:
    """A document without its etags, and these row by row; None for one that is laid out otherwise.

    Parsed as a whole, a million etags would stand in memory three times. A line break can't stand
    inside a JSON string, so the layout that `chunks` writes can be told from everything else; a
    bracket in the rows may be the end of the list, with another field behind it.
    """
    begin = text.rfind(_LIST)
    if begin == -1 or not text.endswith(_TAIL):
        return None
    begin += len(_LIST)
    end = len(text) - len(_TAIL)
    if text.find(b"]", begin, end) != -1:
        return None
    return text[:begin] + _TAIL, _rows(text, begin, end)


def _rows(text: bytes, begin: int, end: int) -> Iterator[list[Any]]:
    while begin < end:
        comma = text.find(b",\n", begin, end)
        stop = end if comma == -1 else comma
        try:
            row = json.loads(b"[" + text[begin:stop] + b"]", parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Damage(f"it is not whole JSON ({_short(error)})") from error
        begin = stop + 2
        if not row or begin == end:  # nothing stands before a comma, or behind the last one
            raise Damage("it is not whole JSON (a row of its etaglist is empty)")
        yield row


def _encode_plain(digests: bytes) -> bytes:
    """The JSON strings of part ETags of one block each, joined by commas; in one go as well."""
    count = len(digests) // DIGEST_SIZE
    raw = bytearray(count * (DIGEST_SIZE + 1))
    for place in range(DIGEST_SIZE):
        raw[place :: DIGEST_SIZE + 1] = digests[place::DIGEST_SIZE]
    text = base64.urlsafe_b64encode(raw)
    row = bytearray(b'"' + b" " * (_PLAIN_LENGTH - 1) + b'=",') * count
    for place in range(_PLAIN_LENGTH - 1):
        row[place + 1 :: _PLAIN_LENGTH + 3] = text[place::_PLAIN_LENGTH]
    return bytes(memoryview(row)[:-1])


def _plain_digests(row: list[Any]) -> bytes | None:
    """The digests behind a row of part ETags of one block each; None where it holds others.

    Decoded in one go, since one by one takes ten times as long.
    """
    if set(map(type, row)) != {str} or set(map(len, row)) != {_PLAIN_LENGTH}:
        return None
    text = "".join(row)
    padding = text[_PLAIN_LENGTH - 1 :: _PLAIN_LENGTH]
    if padding != "=" * len(row) or text.count("=") != len(row) or "+" in text or "/" in text:
        return None
    # 27 characters hold 162 bits; with 6 bits of zeros for the padding 21 bytes, the last one 0.
    try:
        raw = bytearray(base64.b64decode(text.replace("=", "A"), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return None
    if any(raw[DIGEST_SIZE :: DIGEST_SIZE + 1]):
        return None
    del raw[DIGEST_SIZE :: DIGEST_SIZE + 1]
    return bytes(raw)


def record_part(parts: PartTable, number: int, etag: object, digests: object) -> None:
    """Put one part, as a journal has it, into the table.

    Raises:
        Damage: the ETag or the digests can't be such.
    """
    checked = check_etag(etag)
    known = None
    if digests is not None:
        known = decode_digests(digests)
    elif len(checked) == 28 and parts.block_size <= BLOCK:
        # The common case: the ETag is the digest. Anything that only looks like it is opaque, and
        # so is what a part of several blocks has.
        try:
            raw = base64.b64decode(checked, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        known = raw if len(raw) == DIGEST_SIZE else None
    try:
        parts.record(number, checked, known)
    except (ValueError, OverflowError) as error:
        raise Damage(f"part {number}: {error}") from error


def check_etag(etag: object) -> str:
    """An ETag as a journal may hold it: printable ASCII without quotes, commas and blanks.

    Raises:
        Damage: it can't be one.
    """
    if (
        not isinstance(etag, str)
        or not 0 < len(etag) <= 256
        or not etag.isascii()
        or not etag.isprintable()
        or any(character in etag for character in '", ')
    ):
        raise Damage("an etag is none that a server can have given")
    return etag


def encode_digests(digests: bytes) -> str:
    """Digests as a journal writes them."""
    return base64.b64encode(digests).decode("ascii")


def decode_digests(text: object) -> bytes:
    """Digests as a journal writes them.

    Raises:
        Damage: they can't be such.
    """
    if not isinstance(text, str):
        raise Damage("a part's digests are no text")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Damage("a part's digests are not base64") from error
    if not raw or len(raw) % DIGEST_SIZE or len(raw) > DIGEST_SIZE * (MAX_BLOCK_SIZE // BLOCK):
        raise Damage("a part's digests have an impossible length")
    return raw


def _in_rows(items: Iterator[str]) -> Iterator[bytes]:
    """The items joined by commas, a few thousand in each piece."""
    row: list[str] = []
    first = True
    for item in items:
        row.append(item)
        if len(row) == _ROW:
            yield (("" if first else ",\n") + ",".join(row)).encode()
            first = False
            row.clear()
    if row:
        yield (("" if first else ",\n") + ",".join(row)).encode()


def _identity(raw: object) -> Identity:
    if not isinstance(raw, dict):
        raise Damage("its source is no object")
    read = _Reader(raw)
    return Identity(
        size=read.integer("size"),
        mtime_ns=read.integer("mtime_ns", least=-(2**63)),
        ctime_ns=read.integer("ctime_ns", least=-(2**63)),
        inode=read.integer("inode", most=2**64),
    )


_OPTIONS = {
    "threads": (1, False),
    "retries": (1, False),
    "retry_interval": (0, False),
    "patience": (0, True),
    "timeout": (0, False),
    "limit_rate": (1, True),
}
"""Options that are numbers: the least one, and whether null has a meaning."""


def _options(raw: dict[str, Any]) -> dict[str, Any]:
    """The options of the first run; an impossible one would hang a resume."""
    for name, (least, nullable) in _OPTIONS.items():
        value = raw.get(name, least)
        if value is None and nullable:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Damage(f"its option {name} is no number")
        if not least <= value <= 2**63:
            raise Damage(f"its option {name} has an impossible value")
    return raw


def _result(raw: dict[str, Any] | None) -> dict[str, Any] | None:
    if raw is not None:
        read = _Reader(raw)
        read.integer("size")
        read.integer("parts")
        for name in ("etag", "verified", "url"):
            read.optional_text(name)
    return raw


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _short(error: Exception) -> str:
    return str(error).partition(":")[0]


class _Reader:
    """Typed reading of a JSON object; anything unexpected is damage."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw

    def _of(self, name: str, kind: type, *, missing: object = None) -> Any:
        value = self._raw.get(name, missing)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Damage(f"its field {name} is missing or of a wrong type")
        return value

    def text(self, name: str) -> str:
        return cast(str, self._of(name, str))

    def optional_text(self, name: str) -> str | None:
        return None if self._raw.get(name) is None else self.text(name)

    def integer(self, name: str, *, least: int = 0, most: int = 2**63) -> int:
        value = cast(int, self._of(name, int))
        if not least <= value <= most:
            raise Damage(f"its field {name} has an impossible value")
        return value

    def optional_integer(self, name: str, *, least: int = 0, most: int = 2**63) -> int | None:
        if self._raw.get(name) is None:
            return None
        return self.integer(name, least=least, most=most)

    def flag(self, name: str) -> bool:
        return cast(bool, self._of(name, bool, missing=False))

    def mapping(self, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self._of(name, dict, missing={}))

    def optional_mapping(self, name: str) -> dict[str, Any] | None:
        return None if self._raw.get(name) is None else self.mapping(name)

    def texts(self, name: str) -> dict[str, str]:
        value = self.mapping(name)
        if not all(isinstance(text, str) for text in value.values()):
            raise Damage(f"its field {name} is missing or of a wrong type")
        return cast(dict[str, str], value)
