"""Thousands of uploads and resumes in one process, through the Python API, with faults at random.

    python tests/crash/soak_api.py [--uploads 2000] [--seed N]

What a service that runs for months would meet: every so often a part, Initiate or Finish fails on
the wire, and the upload is gone on with. Each object is compared byte for byte, and at the end the
process must have no more threads, descriptors and journals than after the first uploads, and hardly
more memory.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testbed import KIB, MIB, PUBLIC, SECRET, read_object

from ufile_cli import MultipartUploadUFile
from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import PartCorrupted

BLOCK = 512 * KIB
FAULTS: tuple[dict[str, object], ...] = (
    {"call": "part", "status": 500},
    {"call": "part", "reset": "head"},
    {"call": "part", "reset": "body"},
    {"call": "part", "reset": "stored"},
    {"call": "part", "etag": "wrong"},
    {"call": "part", "truncate": 3},
    {"call": "initiate", "status": 503},
    {"call": "initiate", "reset": "stored"},
    {"call": "finish", "status": 502},
    {"call": "finish", "reset": "stored"},
    {"call": "put", "reset": "stored"},
)


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    threads: int
    descriptors: int
    resident: int

    @classmethod
    def now(cls) -> Footprint:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(os.listdir("/proc/self/fd"))
        return cls(threading.active_count(), descriptors, pages * os.sysconf("SC_PAGE_SIZE"))


@dataclass
class Tally:
    """What came of it.

    `before` is taken after a tenth of the uploads, `after` at the end, both with nothing left open.
    `early` and `late` are of the other nine tenths: after a quarter of them and after all, while
    the handler that made them lives.
    """

    uploads: int = 0
    resumes: int = 0
    before: Footprint | None = None
    after: Footprint | None = None
    early: Footprint | None = None
    late: Footprint | None = None


def soak_api(directory: Path, *, uploads: int, seed: int) -> Tally:
    """Run; raises AssertionError where an object is not what was sent."""
    chance = random.Random(seed)
    tally = Tally()
    tenth = max(1, uploads // 10)
    tally.before = _many(directory, tenth, chance, tally)
    tally.after = _many(directory, uploads - tenth, chance, tally)
    return tally


def _many(directory: Path, uploads: int, chance: random.Random, tally: Tally) -> Footprint:
    """So many uploads with one handler and one server; what is left when both are gone."""
    with Emulator(
        directory / "server", block_size=BLOCK, keys=(PUBLIC, SECRET), remember=0
    ) as emulator:
        handler = MultipartUploadUFile(
            PUBLIC, SECRET, emulator.url, journal=directory / "state", timeout=20
        )
        for number in range(uploads):
            if number == uploads // 4:
                tally.early = Footprint.now()
            size = chance.choice((0, 1, 100 * KIB, 4 * MIB, 4 * MIB + 1, 5 * MIB + 77))
            _one(handler, emulator, directory, chance.randbytes(size), chance, tally)
            tally.uploads += 1
            _drop_receipts(directory)
        tally.late = Footprint.now()
    assert emulator.errors == []
    return Footprint.now()


def _one(
    handler: MultipartUploadUFile,
    emulator: Emulator,
    directory: Path,
    content: bytes,
    chance: random.Random,
    tally: Tally,
) -> None:
    """One upload of a file or a stream, gone on with until it is through, and compared."""
    emulator.faults.clear()
    for _ in range(chance.randrange(3)):
        fields: dict[str, Any] = chance.choice(FAULTS)
        emulator.faults.add(nth=chance.randrange(1, 8), **fields)
    again: Callable[[int, float], object]
    if chance.random() < 0.5:
        path = directory / "source"
        path.write_bytes(content)
        done = _ok(lambda: handler.uploadfile("demo", "key", str(path), 4, 1, 0))
        again = handler.resumeuploadfile
    else:
        stream = io.BytesIO(content)
        done = _ok(lambda: handler.uploadstream("demo", "key", stream, 4, 1, 0))
        again = handler.resumeuploadstream
    attempts = 0
    while not done:
        attempts += 1
        assert attempts < 20
        tally.resumes += 1
        done = _ok(lambda: again(1, 0))
    assert b"".join(read_object(emulator, "demo", "key")) == content


def _ok(act: Callable[[], Any]) -> bool:
    """Whether it went through; a part that arrived damaged is raised, and is gone on with too."""
    try:
        return bool(act()[1].ok())
    except PartCorrupted:
        return False


def _drop_receipts(directory: Path) -> None:
    """Drop receipts, as `ufile clean` does; what is unfinished would stay, and be counted."""
    for path in (directory / "state" / "journals").glob("*.json"):
        if not path.with_suffix(".parts.jsonl").exists():
            path.unlink()


def check(tally: Tally, directory: Path) -> None:
    """No growth: raises AssertionError."""
    assert tally.before is not None and tally.after is not None
    assert tally.after.threads <= tally.before.threads, tally
    assert tally.after.descriptors <= tally.before.descriptors, tally
    # What the allocator keeps goes up and down by 30 MiB; 30 KiB lost an upload would show.
    assert tally.after.resident <= tally.before.resident + 48 * MIB, tally
    # While they live, connections that are kept for the next upload come and go, a few of them.
    assert tally.early is not None and tally.late is not None
    assert tally.late.threads <= tally.early.threads + 16, tally
    assert tally.late.descriptors <= tally.early.descriptors + 32, tally
    assert tally.late.resident <= tally.early.resident + 48 * MIB, tally
    left = [path.name for path in (directory / "state" / "journals").iterdir()]
    assert [name for name in left if not name.startswith(".")] == []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ufile-soak-") as place:
        tally = soak_api(Path(place), uploads=given.uploads, seed=given.seed)
        print(tally)
        check(tally, Path(place))


if __name__ == "__main__":
    main()
