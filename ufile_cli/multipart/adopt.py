"""Going on with an upload from its parameters alone: no journal, perhaps another tool's upload.

What is not given comes from the server's part list. For a file nothing is taken on trust: parts
that are said to be up are hashed and compared, and sent again where they differ. Of a stream that
begins at its pause part the parts before it have to be believed, as they can't be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ufile_cli.errors import ServerError, UsageError
from ufile_cli.etag import BLOCK, decode_part_etag, unquote
from ufile_cli.journal.document import MAX_PARTS, Damage, check_etag
from ufile_cli.journal.record import Record
from ufile_cli.multipart.calls import cannot_list
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.plan import Plan
from ufile_cli.multipart.reconcile import Found
from ufile_cli.us3.response import PartsPage, check_upload_id

if TYPE_CHECKING:
    from ufile_cli.us3.client import Client

__all__ = ["Parameters", "adopt", "block_size_of"]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a person knows of an upload that was begun.

    Attributes:
        upload_id: of Initiate.
        block_size: bytes of each part but the last; None to tell it from the server's list.
        etags: by part number, blank or None where a part is not up, quoted or not; None for the
            server's list.
        pause: the first part that is not up, at which a stream begins; None for the first gap.
    """

    upload_id: str
    block_size: int | None = None
    etags: Sequence[str | None] | None = None
    pause: int | None = None


def adopt(record: Record, given: Parameters, client: Client, drive: Drive) -> None:
    """Put into the record what it needs to go on; its document says whether of file or stream.

    Raises:
        UsageError: the parameters can't be right, or the block size can't be told.
        UFileError: the server's list could not be had.
    """
    etags = _checked(given)
    document = record.document
    stream = document.kind == "stream"
    listed: dict[int, Found] | None = None
    if stream or given.block_size is None:
        listed = _all_parts(client, document.key, given.upload_id, drive)
    found = listed or {}
    block_size = given.block_size
    if block_size is None:
        block_size = block_size_of(found.values(), document.size, given.pause)
    if block_size is None:
        raise UsageError(
            "the block size can't be told from the parts that the server has"
            if listed is not None
            else "this server does not list parts, so the block size can't be told",
            hint="give the block size that Initiate answered with",
        )
    if stream:
        up = _before_pause(etags, found, given, block_size)
        last = found.get(len(up) - 1)
        if last is not None and last.size is not None and last.size < block_size:
            document.stream_size = (len(up) - 1) * block_size + last.size
    else:
        count = Plan(document.size or 0, block_size).count
        up = dict(item for item in enumerate(etags) if item[1] and item[0] < count)
    record.begin(given.upload_id, block_size)
    for number, etag in up.items():
        digest = decode_part_etag(etag) if block_size <= BLOCK else None
        if stream or digest is not None:  # of a file, what can't be compared is worth nothing
            record.acknowledge(given.upload_id, number, etag, digest)


def block_size_of(found: Iterable[Found], size: int | None, pause: int | None) -> int | None:
    """The block size as the parts that are up tell it; None where they don't.

    Every part but the last one has that size; so any part with a later one beside it tells, and
    so does one that is followed by the pause. Of one part alone the file's size may tell.

    Args:
        size: bytes of the file, None for a stream.
        pause: the part at which a stream goes on, None where it is unknown.
    """
    sizes = {part.number: part.size for part in found if part.size}
    if not sizes:
        return None
    lowest, highest = min(sizes), max(sizes)
    if lowest < highest or (size is None and lowest < (highest + 1 if pause is None else pause)):
        return sizes[lowest]
    if size is None:
        return None
    # One part alone: a whole one, or the file's last one.
    number, length = lowest, sizes[lowest]
    possible = set()
    if (number + 1) * length <= size or (number == 0 and length == size):
        possible.add(length)
    before = size - length
    if number and before > 0 and before % number == 0 and before // number > length:
        possible.add(before // number)
    return possible.pop() if len(possible) == 1 else None


def _checked(given: Parameters) -> list[str]:
    """The ETags without quotes, empty where a part is not up."""
    check_upload_id(given.upload_id)
    if given.block_size is not None and given.block_size < 1:
        raise UsageError("the block size must be at least 1")
    if given.pause is not None and not 0 <= given.pause <= MAX_PARTS:
        raise UsageError("the pause part is a number from 0 on")
    etags = [unquote(etag) if etag else "" for etag in given.etags or ()]
    for number, etag in enumerate(etags):
        try:
            if etag:
                check_etag(etag)
        except Damage as error:
            raise UsageError(f"the ETag of part {number} can't be one") from error
    return etags


def _all_parts(client: Client, key: str, upload_id: str, drive: Drive) -> dict[int, Found] | None:
    """The server's part list, None where it has none to give."""
    found: dict[int, Found] = {}
    marker: int | None = None
    while True:
        fetch = partial(_page, client, key, upload_id, marker)
        page = drive.call("the part list", fetch)
        if page is None:
            return None
        for part in page.parts:
            found[part.number] = Found(part.number, part.size, part.etag or None)
        if not page.truncated:
            return found
        marker = page.next_marker


def _page(client: Client, key: str, upload_id: str, marker: int | None) -> PartsPage | None:
    try:
        return client.list_parts(upload_id, key=key, marker=marker)
    except ServerError as error:
        if cannot_list(error):
            return None
        raise


def _before_pause(
    etags: list[str], found: dict[int, Found], given: Parameters, block_size: int
) -> dict[int, str]:
    """The ETags of all parts before the pause."""
    pause = given.pause
    if pause is None:
        pause = 0
        while (pause < len(etags) and etags[pause]) or (given.etags is None and pause in found):
            pause += 1
    up: dict[int, str] = {}
    for number in range(pause):
        etag = etags[number] if number < len(etags) else ""
        if not etag and number in found:
            etag = found[number].etag or ""
        if not etag:
            raise UsageError(
                f"part {number} is not up, so the stream can't begin at part {pause}",
                hint=f"begin at part {number}, byte {number * block_size:,}",
            )
        up[number] = etag
    return up
