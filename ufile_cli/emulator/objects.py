"""What the emulator stores: objects and unfinished uploads, as files below one directory.

Several processes use one directory at once, and any of them may be killed at any moment: what was
acknowledged is there afterwards, and no half object ever shows. Nothing is fsynced, since the
emulator promises to survive a kill, not a power cut.

    DIR/<bucket>/objects/<xx>/<hash of the key>.json    one object: the file's rename publishes it
    DIR/<bucket>/content/<id>/data, over, extents       its bytes
    DIR/<bucket>/uploads/<upload id>/upload.json        an unfinished upload, as initiated
                                     parts              a table: one fixed record a part number
                                     data, over         bytes of the parts
    DIR/<bucket>/staging/                               what is not yet, or no longer, there

How bytes lie in these files is content.py's affair. Finish checks the table of parts and renames;
it copies nothing and needs little memory, whatever the number of parts.

Invariants: no lock is held while bytes arrive; file names never come from a key; an upload is
alive as long as its directory lies in `uploads`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ufile_cli.emulator.content import (
    SCAN_BYTES,
    Content,
    PartTable,
    Region,
    StoredPart,
    Upload,
    check_parts,
    open_data,
    reread_etag,
)
from ufile_cli.emulator.private import make_directory, make_new_directory, write_text
from ufile_cli.emulator.protocol import (
    ETAG_BLOCK,
    PUT_LIMIT,
    ContentHash,
    no_object,
    object_etag,
)

_UPLOAD_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STALE_SECONDS = 3600


class NoSuchUpload(Exception):
    """The upload id is unknown, finished or aborted."""


@dataclass(frozen=True)
class StoredObject:
    """An object as published. Times are Unix seconds; `content` names its directory of bytes."""

    key: str
    size: int
    etag: str
    content_type: str
    storage_class: str
    metadata: dict[str, str]
    created: float
    modified: float
    content: str


class IncomingPart:
    """A part on its way in: write, then commit or abandon."""

    def __init__(self, store: ObjectStore, bucket: str, upload: Upload, number: int) -> None:
        self.upload = upload
        self.number = number
        self._store = store
        self._bucket = bucket
        self._region: Region | None = None

    def open(self, size: int) -> None:
        """Take a region of `size` bytes. Raises NoSuchUpload."""
        upload, table = self.upload, PartTable(self.upload.block_size)
        with self._store.locked(self._bucket, upload.upload_id) as (directory, parts):
            at = self.number * table.record
            claimed = os.pread(parts, 1, at) == b"\1"
            if not claimed and size <= upload.block_size:
                # The claim alone: a record may already tell of a part in `over`.
                os.pwrite(parts, b"\1", at)
                fd = open_data(directory / "data")
                place = self.number * upload.block_size
                self._region = Region(fd, place, in_slot=True, room=size)
                return
            fd = open_data(directory / "over")
            place = os.fstat(fd).st_size
            os.ftruncate(fd, place + size)
            self._region = Region(fd, place, in_slot=False, room=size)

    def write(self, data: memoryview) -> None:
        """The next bytes of the part."""
        if self._region is None:
            raise ValueError("the part is not open")
        if not self._store.discard:
            self._region.write(data)

    def commit(self, etag: str, content: ContentHash) -> None:
        """Store the part in the place of the one that had its number. Raises NoSuchUpload."""
        region = self._region
        if region is None:
            raise ValueError("the part is not open")
        table = PartTable(self.upload.block_size)
        part = StoredPart(
            self.number, content.size, etag, time.time(), region.in_slot, region.offset,
            content.digests(),
        )  # fmt: skip
        with self._store.locked(self._bucket, self.upload.upload_id) as (_, parts):
            os.pwrite(parts, table.pack(True, part), self.number * table.record)
            self._region = None
        region.close()

    def abandon(self) -> None:
        """Give the region up; a part stored before stays. Harmless after commit."""
        region, self._region = self._region, None
        if region is None:
            return
        region.close()
        if region.in_slot:
            table = PartTable(self.upload.block_size)
            with (
                contextlib.suppress(NoSuchUpload, OSError),
                self._store.locked(self._bucket, self.upload.upload_id) as (_, parts),
            ):
                os.pwrite(parts, b"\0", self.number * table.record)


class IncomingObject:
    """A whole object on its way in (PutFile): write, then publish or abandon."""

    def __init__(self, staging: Path) -> None:
        self.directory = staging
        make_new_directory(staging)
        self._region = Region(open_data(staging / "data"), 0, in_slot=True, room=PUT_LIMIT)
        self._open = True

    def write(self, data: memoryview) -> None:
        """The next bytes of the object."""
        self._region.write(data)

    def close(self) -> None:
        """End of the bytes."""
        if self._open:
            self._open = False
            self._region.close()

    def abandon(self) -> None:
        """Remove what came in. Harmless after publication."""
        self.close()
        _remove(self.directory)


class Scratch:
    """A file without a name, for a body that is too large to hold and is not stored."""

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        self._fd = open_data(path)
        path.unlink()

    def write(self, data: memoryview) -> None:
        """Append."""
        while data:
            data = data[os.write(self._fd, data) :]

    def chunks(self) -> Iterator[bytes]:
        """All of it, from the start."""
        offset = 0
        while chunk := os.pread(self._fd, SCAN_BYTES, offset):
            offset += len(chunk)
            yield chunk

    def close(self) -> None:
        """Let go of the file, and with it of the bytes."""
        os.close(self._fd)


class ObjectStore:
    """Objects and uploads below one directory. Safe for threads and for processes."""

    def __init__(self, directory: Path, *, discard: bool = False) -> None:
        """`discard`: forget the bytes of parts and keep all else, for benchmarks."""
        self.discard = discard
        self._root = directory
        make_directory(directory)
        for bucket in directory.iterdir():
            if bucket.is_dir():
                _sweep(bucket / "staging")

    # Objects

    def begin_object(self, bucket: str) -> IncomingObject:
        """Room for an object that arrives in one request."""
        return IncomingObject(self._staging(bucket))

    def publish(
        self, bucket: str, incoming: IncomingObject, stored: StoredObject, *, size: int, etag: str
    ) -> StoredObject:
        """Make a whole object visible, in the place of the one that had its key."""
        incoming.close()
        target = self._content(bucket, incoming.directory.name)
        make_directory(target.parent)
        incoming.directory.rename(target)
        return self._point(bucket, _with(stored, size=size, etag=etag, content=target.name))

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is an object of that key."""
        return self._pointer(bucket, key).exists()

    def find(self, bucket: str, key: str) -> StoredObject:
        """An object's metadata. Raises Refusal (404)."""
        found = _read_object(self._pointer(bucket, key))
        if found is None:
            raise no_object()
        return found

    def open(self, bucket: str, key: str) -> tuple[StoredObject, Content]:
        """An object and its bytes, which the caller closes. Raises Refusal (404)."""
        for _ in range(20):
            found = self.find(bucket, key)
            # Between publication and its last rename, the bytes still lie with the upload.
            for place in (
                self._content(bucket, found.content),
                self._root / bucket / "uploads" / found.content,
            ):
                with contextlib.suppress(FileNotFoundError):
                    return found, Content(place, found.size)
        raise no_object()

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object. Raises Refusal (404)."""
        pointer = self._pointer(bucket, key)
        with _lock_file(pointer.parent / "lock"):
            found = self.find(bucket, key)
            pointer.unlink()
        self._drop_content(bucket, found.content)

    def objects(self, bucket: str, prefix: str) -> list[StoredObject]:
        """All objects whose key begins with `prefix`, in the order of their keys' bytes."""
        found = []
        for path in (self._root / bucket / "objects").glob("*/*.json"):
            stored = _read_object(path)
            if stored is not None and stored.key.startswith(prefix):
                found.append(stored)
        return sorted(found, key=lambda stored: stored.key.encode())

    # Uploads

    def initiate(self, bucket: str, upload: Upload) -> Upload:
        """Begin an upload; the id in `upload` is replaced by a new one."""
        token = os.urandom(16).hex()
        upload_id = "-".join((token[:8], token[8:12], token[12:16], token[16:20], token[20:]))
        begun = Upload(**{**asdict(upload), "upload_id": upload_id})
        staging = self._staging(bucket)
        make_new_directory(staging)
        write_text(staging / "upload.json", json.dumps(asdict(begun)))
        os.close(open_data(staging / "parts"))
        uploads = self._root / bucket / "uploads"
        make_directory(uploads)
        staging.rename(uploads / upload_id)
        return begun

    def upload(self, bucket: str, upload_id: str) -> Upload:
        """An unfinished upload. Raises NoSuchUpload."""
        try:
            text = (self._upload(bucket, upload_id) / "upload.json").read_text("utf-8")
        except OSError:
            raise NoSuchUpload(upload_id) from None
        return Upload(**json.loads(text))

    def uploads(self, bucket: str, prefix: str) -> list[Upload]:
        """Unfinished uploads of keys that begin with `prefix`, by key, start and id."""
        found = []
        directory = self._root / bucket / "uploads"
        names = os.listdir(directory) if directory.is_dir() else []
        for name in names:
            with contextlib.suppress(NoSuchUpload):
                upload = self.upload(bucket, name)
                if upload.key.startswith(prefix):
                    found.append(upload)
        return sorted(found, key=upload_order)

    def begin_part(self, bucket: str, upload: Upload, number: int, size: int) -> IncomingPart:
        """A region for a part that is about to arrive. Raises NoSuchUpload."""
        incoming = IncomingPart(self, bucket, upload, number)
        incoming.open(size)
        return incoming

    def note_part_type(self, bucket: str, upload_id: str, content_type: str) -> None:
        """Keep the Content-Type that the parts came with."""
        with contextlib.suppress(OSError):
            _write_beside(self._upload(bucket, upload_id) / "type", content_type)

    def part_type(self, bucket: str, upload_id: str) -> str | None:
        """The Content-Type that the parts came with."""
        try:
            return (self._upload(bucket, upload_id) / "type").read_text("utf-8")
        except OSError:
            return None

    def parts(self, bucket: str, upload: Upload, above: int, limit: int) -> list[StoredPart]:
        """Up to `limit` stored parts numbered above `above`, in order. Raises NoSuchUpload."""
        fd = self._open_parts(bucket, upload.upload_id)
        try:
            found = []
            for part in PartTable(upload.block_size).scan(fd, above + 1):
                found.append(part)
                if len(found) == limit:
                    break
            return found
        finally:
            os.close(fd)

    def forget_part(self, bucket: str, upload: Upload, number: int) -> None:
        """Lose a stored part, as no server should. Raises NoSuchUpload."""
        table = PartTable(upload.block_size)
        with self.locked(bucket, upload.upload_id) as (_, parts):
            os.pwrite(parts, table.pack(True, None), number * table.record)

    def abort(self, bucket: str, upload_id: str) -> None:
        """End an upload without an object; its parts are gone. Raises NoSuchUpload."""
        graveyard = self._staging(bucket)
        make_directory(graveyard.parent)
        with self.locked(bucket, upload_id) as (directory, _):
            directory.rename(graveyard)
        _remove(graveyard)

    def finish(
        self, bucket: str, upload: Upload, etags: Iterable[bytes], stored: StoredObject
    ) -> StoredObject:
        """Make an object of the parts; size, ETag and content of `stored` are filled in.

        `etags` are those of the parts from 0, unquoted. Raises NoSuchUpload, and Refusal (400)
        where they are not those of the stored parts or a part has the wrong size; the upload then
        goes on as if nothing had been asked.
        """
        with self.locked(bucket, upload.upload_id) as (directory, parts):
            layout = check_parts(PartTable(upload.block_size), parts, upload, etags)
            layout.write(directory)
            if upload.block_size % ETAG_BLOCK == 0:
                etag = object_etag(layout.size, layout.digests(parts))
            else:
                etag = reread_etag(directory, layout.size)
            content = upload.upload_id
            done = _with(stored, size=layout.size, etag=etag, content=content)
            # The pointer's rename is what counts. Killed right after it, the upload is mended by
            # whoever locks it next; killed before it, nothing has happened.
            write_text(directory / "finished", done.key)
            self._point(bucket, done)
            target = self._content(bucket, content)
            make_directory(target.parent)
            directory.rename(target)
        return done

    def scratch(self) -> Scratch:
        """Room for bytes that nothing will be made of."""
        return Scratch(self._root / f".scratch-{os.urandom(12).hex()}")

    # Below: paths and locks

    @contextlib.contextmanager
    def locked(self, bucket: str, upload_id: str) -> Iterator[tuple[Path, int]]:
        """The upload's directory and open table of parts, under its lock. Raises NoSuchUpload."""
        directory = self._upload(bucket, upload_id)
        fd = self._open_parts(bucket, upload_id)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not (directory / "upload.json").exists():
                raise NoSuchUpload(upload_id)
            self._mend(bucket, directory)
            yield directory, fd
        finally:
            os.close(fd)

    def _mend(self, bucket: str, directory: Path) -> None:
        """Complete or undo a Finish that was killed half-way; the lock is held."""
        mark = directory / "finished"
        if not mark.exists():
            return
        found = _read_object(self._pointer(bucket, mark.read_text("utf-8")))
        if found is not None and found.content == directory.name:
            target = self._content(bucket, directory.name)
            make_directory(target.parent)
            directory.rename(target)
            raise NoSuchUpload(directory.name)
        mark.unlink()

    def _open_parts(self, bucket: str, upload_id: str) -> int:
        try:
            return os.open(self._upload(bucket, upload_id) / "parts", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            raise NoSuchUpload(upload_id) from None

    def _upload(self, bucket: str, upload_id: str) -> Path:
        if _UPLOAD_ID.fullmatch(upload_id) is None:
            raise NoSuchUpload(upload_id)
        return self._root / bucket / "uploads" / upload_id

    def _content(self, bucket: str, content: str) -> Path:
        return self._root / bucket / "content" / content

    def _staging(self, bucket: str) -> Path:
        return self._root / bucket / "staging" / os.urandom(12).hex()

    def _pointer(self, bucket: str, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._root / bucket / "objects" / name[:2] / f"{name}.json"

    def _point(self, bucket: str, stored: StoredObject) -> StoredObject:
        pointer = self._pointer(bucket, stored.key)
        make_directory(pointer.parent)
        with _lock_file(pointer.parent / "lock"):
            before = _read_object(pointer)
            _write_beside(pointer, json.dumps(asdict(stored)))
        if before is not None and before.content != stored.content:
            self._drop_content(bucket, before.content)
        return stored

    def _drop_content(self, bucket: str, content: str) -> None:
        _remove(self._content(bucket, content))


def upload_order(upload: Upload) -> tuple[bytes, float, str]:
    """Sorts uploads as the service's list is assumed to: by key, then by age."""
    return upload.key.encode(), upload.started, upload.upload_id


def _with(stored: StoredObject, **changes: Any) -> StoredObject:
    return StoredObject(**{**asdict(stored), **changes})


def _read_object(pointer: Path) -> StoredObject | None:
    try:
        return StoredObject(**json.loads(pointer.read_text("utf-8")))
    except FileNotFoundError:
        return None


def _write_beside(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
    write_text(beside, text)
    beside.rename(path)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    make_directory(path.parent)
    fd = open_data(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove(directory: Path) -> None:
    """Remove a flat directory; what another process removed first is no error."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()
        directory.rmdir()


def _sweep(staging: Path) -> None:
    """Remove what killed servers left; living ones are at work on younger directories."""
    if not staging.is_dir():
        return
    for entry in os.scandir(staging):
        with contextlib.suppress(FileNotFoundError):
            newest = max((file.stat().st_mtime for file in os.scandir(entry)), default=0.0)
            if max(newest, entry.stat().st_mtime) < time.time() - _STALE_SECONDS:
                _remove(Path(entry.path))
