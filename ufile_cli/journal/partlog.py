"""The part log's lines: one JSON object for each acknowledged part.

Pure. A log says in its first line which document it extends, and is ignored where that is another
one. An unreadable end is a torn tail, cut off, and so is everything from a hole of NULs on; another
unreadable line with a readable one behind it is damage, and reported.
"""

from __future__ import annotations

import json
from typing import cast

from ufile_cli.journal.document import Damage, encode_digests, record_part
from ufile_cli.journal.parts import PartTable

__all__ = ["CONFIRMED", "head_line", "part_line", "read_log"]

_FIELDS = {"n", "etag", "sha1", "provisional"}

CONFIRMED = b'{"confirmed":true}\n'


def head_line(upload_id: str | None, rewrites: int) -> bytes:
    """The first line: what the log extends."""
    return _line({"uploadid": upload_id, "rewrites": rewrites})


def part_line(
    number: int, etag: str, extra_digests: bytes | None, *, provisional: bool = False
) -> bytes:
    """The line of one acknowledged part.

    Args:
        extra_digests: the part's digests, where the ETag does not already say them.
    """
    record: dict[str, object] = {"n": number, "etag": etag}
    if extra_digests:
        record["sha1"] = encode_digests(extra_digests)
    if provisional:
        record["provisional"] = True
    return _line(record)


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def read_log(
    text: bytes, upload_id: str | None, rewrites: int, parts: PartTable | None, limit: int
) -> None:
    """Put the log's parts into the table; provisional ones that were never confirmed stay out.

    Args:
        text: the whole log.
        upload_id, rewrites: those of the document; another document's log is ignored.
        parts: takes the parts; None where no part can be up yet.
        limit: how many parts there can be at most.

    Raises:
        Damage: an unreadable line with readable ones behind it, or a part that can't be.
    """
    records = _records(text)
    if not records:
        return
    head = records[0]
    if head.get("uploadid") != upload_id or head.get("rewrites") != rewrites:
        if "n" in head or "confirmed" in head:
            raise Damage("its part log has lost its first line")
        return
    waiting: dict[int, dict[str, object]] = {}
    for record in records[1:]:
        if record.get("confirmed") is True:
            for number, kept in waiting.items():
                _take(parts, number, kept)
            waiting.clear()
            continue
        if not record.keys() <= _FIELDS:
            # `provisional`, misread, would make a part of a wrong replay count.
            raise Damage("its part log has a line with an unknown field")
        part = record.get("n")
        if not isinstance(part, int) or isinstance(part, bool) or not 0 <= part < limit:
            raise Damage("its part log names a part that can't be")
        if record.get("provisional") is True:
            waiting[part] = record
        else:
            waiting.pop(part, None)
            _take(parts, part, record)


def _take(parts: PartTable | None, number: int, record: dict[str, object]) -> None:
    if parts is None:
        raise Damage("its part log lists parts but there is no upload id")
    record_part(parts, number, record.get("etag"), record.get("sha1"))


def _records(text: bytes) -> list[dict[str, object]]:
    """The readable lines; a torn tail is left out.

    All lines are parsed as one array, which is three times as fast as line by line; only where
    that fails are they looked at one by one.
    """
    lines = text.split(b"\n")[:-1]
    try:
        parsed = json.loads(b"[" + b",".join(lines) + b"]")
        if len(parsed) == len(lines) and all(isinstance(record, dict) for record in parsed):
            return cast(list[dict[str, object]], parsed)
    except (ValueError, RecursionError):
        pass
    return _one_by_one(lines)


def _one_by_one(lines: list[bytes]) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    torn = False
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if b"\0" in line:
            # A hole that a loss of power left: later pages reached the disk, this one did not.
            # It was not flushed, so nothing behind it was.
            break
        if not isinstance(record, dict):
            torn = True
            continue
        if torn:
            raise Damage("its part log has unreadable lines in its middle")
        records.append(record)
    return records
