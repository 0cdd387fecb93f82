"""Small files: at most one block, stored by one PutFile, without a journal.

The file is read as a whole before anything is sent, so that no two versions of it can be mixed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ufile_cli.errors import (
    CredentialsRefused,
    IntegrityError,
    NetworkError,
    PartCorrupted,
    SourceChanged,
    UFileError,
)
from ufile_cli.etag import BLOCK, BlockHasher, matches_part, object_etag
from ufile_cli.exitcodes import ExitCode
from ufile_cli.journal.record import Record
from ufile_cli.multipart.body import BufferBody
from ufile_cli.multipart.calls import headers_of
from ufile_cli.multipart.drive import Drive, Task
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.multipart.sources import FileSource
from ufile_cli.progress.events import (
    Failed,
    Finished,
    PartProgress,
    PartSent,
    PartStarted,
    Paused,
    Started,
)
from ufile_cli.us3.response import Stored

if TYPE_CHECKING:
    from ufile_cli.us3.client import Client

__all__ = ["put", "read_whole", "refuse_empty"]


def read_whole(source: FileSource) -> bytes:
    """The content of a small file, all of one version.

    Raises:
        SourceChanged: it keeps changing, or has grown beyond what is small.
    """
    for _ in range(5):
        before = source.identity()
        if before.size > BLOCK:
            raise SourceChanged(
                f"{source.name} was small and has grown to {before.size:,} bytes meanwhile",
                hint="upload it again: it goes up in parts now",
            )
        content = memoryview(bytearray(before.size))
        got = source.read_into(content, 0)
        if got == before.size and source.identity() == before:
            return bytes(content)
    raise SourceChanged(f"{source.name} keeps changing while it is read")


def _refusal_behind(error: NetworkError, client: Client, key: str) -> UFileError:
    """What ended every attempt: a server that refuses keys early and closes resets as well.

    Asked after the last attempt only, and a 403 says nothing: keys may write and not read.
    """
    if error.reset:
        try:
            client.head(key)
        except CredentialsRefused as refusal:
            if refusal.status == 401:
                return refusal
        except UFileError:
            pass
    return error


def refuse_empty(name: str, size: int) -> None:
    """An upload that has begun in parts can't end without any.

    Args:
        size: bytes that the file has now.

    Raises:
        SourceChanged: the file has become empty.
    """
    if size == 0:
        raise SourceChanged(
            f"{name} is empty now, and an upload in parts can't be",
            hint="ufile upload --restart gives it up and stores the empty file",
        )


def put(
    record: Record,
    name: str,
    content: bytes,
    client: Client,
    options: Options,
    context: Context,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Store `content` as the object that the record names.

    Raises:
        UFileError: after the attempts; there is nothing to resume.
    """
    document, begun = record.document, clock()
    size = len(content)
    hasher = BlockHasher()
    hasher.update(content)
    digests = hasher.digests()
    limit = context.limit or RateLimit(options.limit_rate)
    headers = headers_of(record, first=True)
    emit, progress = context.emit, context.progress
    drive = Drive(
        threads=1,
        policy=options.policy,
        stop=context.stop,
        emit=emit,
        rotated=context.rotated,
        grace=context.grace,
    )

    def job() -> Stored:
        body = BufferBody(
            memoryview(content), digests, limit, lambda sent: emit(PartProgress(0, sent, size))
        )
        stored = client.store(document.key, body if size else b"", headers)
        if size and stored.etag and matches_part(stored.etag, digests) is False:
            raise PartCorrupted("the content arrived damaged: its ETag is not that of the bytes")
        if stored.etag:
            return stored
        head = client.head(document.key)  # the answer named no ETag; HEAD does
        if head.size != size:
            raise IntegrityError(f"the server stored {head.size:,} bytes of {size:,}")
        return Stored(head.etag, head.size, stored.key, stored.bucket, stored.answer)

    done: list[Stored] = []

    def sent(value: object) -> None:
        if isinstance(value, Stored):
            done.append(value)
        progress.parts_sent, progress.bytes_sent = 1, size
        emit(PartSent(0, size, done[-1].etag or ""))

    task = Task(job, sent, document.key, 0, lambda n: emit(PartStarted(0, size, n)))
    progress.parts = 1
    emit(Started(None, document.bucket, document.key, name, size, None, 1, threads=1))
    try:
        try:
            drive.one(task)
        except NetworkError as error:
            raise _refusal_behind(error, client, document.key) from error
    except UFileError as error:
        error.part = None  # it has but one, and nobody asked about parts
        if error.code == ExitCode.FAILED:
            emit(Failed(error.message, None, error.code))
        else:
            emit(Paused(error.message, None))
        raise
    finally:
        drive.close()
    etag = done[0].etag or ""
    # The ETag of an empty object is of an undocumented form: there the size has to do.
    verified = "etag" if etag == object_etag(digests) or matches_part(etag, digests) else "parts"
    seconds = clock() - begun
    emit(Finished(None, document.bucket, document.key, size, etag, verified, size, seconds))
    return Result(
        journal_id=None,
        bucket=document.bucket,
        key=document.key,
        url=client.address.object_url(document.key),
        size=size,
        etag=etag,
        verified=verified,
        parts=1,
        parts_sent=1,
        parts_reused=0,
        parts_changed=0,
        bytes_sent=size,
        seconds=seconds,
    )
