"""The journal on its own: what writing, rewriting and loading one costs at many parts.

    python journals.py write STATE FILE PARTS LEFT    all but LEFT parts acknowledged, then paused
    python journals.py load STATE                     the one journal there is
    python journals.py many STATE RECEIPTS UNFINISHED what `status` has to look through
    python journals.py forge TABLE PARTS              the table of `ufile serve` with these parts

Each prints one JSON object. Processes of their own, so that peak memory means something.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ufile_cli.emulator.content import PartTable, StoredPart
from ufile_cli.etag import BLOCK, part_etag
from ufile_cli.journal.document import Identity, JournalDocument
from ufile_cli.journal.durable import FileLayer
from ufile_cli.journal.store import Store, utc_now


class CountingLayer(FileLayer):
    """Counts what goes to the disk."""

    def __init__(self) -> None:
        self.bytes = 0
        self.fsyncs = 0

    def write(self, fd: int, data: bytes | memoryview) -> int:
        written = super().write(fd, data)
        self.bytes += written
        return written

    def fsync(self, fd: int) -> None:
        self.fsyncs += 1
        super().fsync(fd)


def peak() -> float:
    """Peak RSS of this process, MiB."""
    return _memory("VmHWM")  # not ru_maxrss, which begins with the parent's


def document(endpoint: str, key: str, path: Path, size: int) -> JournalDocument:
    now = utc_now()
    status = path.stat() if path.exists() else None
    identity = (
        Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if status is not None
        else Identity(size, 1, 1, 1)
    )
    return JournalDocument(
        journal_id="",
        kind="file",
        bucket="demo",
        key=key,
        endpoint=endpoint,
        created_at=now,
        updated_at=now,
        localfile=str(path),
        size=size,
        source=identity,
        end_seen=True,
        mime_type="application/octet-stream",
        options={"threads": 4},
    )


def write(
    state: Path, file: Path, parts: int, left: int, endpoint: str, upload_id: str = "upload"
) -> dict[str, Any]:
    layer = CountingLayer()
    store = Store(state, layer=layer)
    digest = hashlib.sha1(bytes(BLOCK)).digest()
    etag = part_etag(digest)
    record = store.create(document(endpoint, "big", file, parts * BLOCK))
    record.begin(upload_id, BLOCK)
    before, begun = time.process_time(), time.monotonic()
    flushed = begun
    for number in range(parts - left):
        record.acknowledge(upload_id, number, etag, digest)
        if number % 64 == 0 and (now := time.monotonic()) - flushed > 1:
            record.flush()
            flushed = now
    record.flush()
    wall, cpu, written = time.monotonic() - begun, time.process_time() - before, layer.bytes
    saving = time.monotonic()
    record.save("paused")
    saving = time.monotonic() - saving
    record.close()
    return {
        "parts": parts,
        "acknowledge_s": wall,
        "acknowledge_cpu_s": cpu,
        "bytes_a_part": written / parts,
        "fsyncs": layer.fsyncs,
        "rewrite_s": saving,
        "rewrite_bytes": layer.bytes - written,
        "rss_mib": peak(),
    }


def load(state: Path) -> dict[str, Any]:
    before = peak()
    store = Store(state)
    journal_id = store.listing()[0].journal_id
    begun = time.monotonic()
    view = store.peek(journal_id)
    seconds = time.monotonic() - begun
    return {
        "parts": view.parts_done,
        "load_s": seconds,
        "rss_before_mib": before,
        "rss_mib": peak(),
        "held_mib": _memory("VmRSS") - before,
        "journal_id": journal_id,
    }


def _memory(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return float("nan")


def many(state: Path, receipts: int, unfinished: int) -> dict[str, Any]:
    class Unflushed(FileLayer):
        def fsync(self, fd: int) -> None:
            pass

        def fsync_directory(self, path: Path) -> None:
            pass

    store = Store(state, layer=Unflushed())
    digest = hashlib.sha1(bytes(BLOCK)).digest()
    nothing = Path("/nonexistent/file.bin")
    for number in range(receipts):
        record = store.create(document("local", f"done/{number}", nothing, 10 * BLOCK))
        result = {"size": 10 * BLOCK, "etag": "e", "verified": "etag", "parts": 10, "url": "u"}
        record.finish(result)
        record.close()
    # Most receipts are old ones; two hundred are of this week.
    week = time.time() - 30 * 86400
    paths = sorted((state / "journals").glob("*.json"))
    for path in paths[: max(0, receipts - 200)]:
        text = path.read_text()
        path.write_text(text)
        os.utime(path, (week, week))
    for number in range(unfinished):
        record = store.create(document("local", f"open/{number}", nothing, 1000 * BLOCK))
        record.begin(f"upload-{number}", BLOCK)
        for part in range(500):
            record.acknowledge(f"upload-{number}", part, part_etag(digest), digest)
        record.save("paused")
        record.close()
    return {"receipts": receipts, "unfinished": unfinished}


def forge(table: Path, parts: int) -> dict[str, Any]:
    """Parts of zeros that the server takes for stored, without the bytes."""
    layout = PartTable(BLOCK)
    digest = hashlib.sha1(bytes(BLOCK)).digest()
    etag = part_etag(digest)
    with table.open("wb") as file:
        for number in range(parts):
            part = StoredPart(number, BLOCK, etag, 0.0, True, number * BLOCK, digest)
            file.write(layout.pack(True, part))
    return {"parts": parts}


def main() -> None:
    what, state, *rest = sys.argv[1:]
    if what == "write":
        file, parts, left, endpoint, *upload_id = rest
        said = write(Path(state), Path(file), int(parts), int(left), endpoint, *upload_id)
    elif what == "forge":
        said = forge(Path(state), int(rest[0]))
    elif what == "load":
        said = load(Path(state))
    else:
        said = many(Path(state), int(rest[0]), int(rest[1]))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
