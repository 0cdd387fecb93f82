"""What tests of streams share: producers, first runs that are killed, and a look at the object.

A producer is a thread that writes into a pipe and can be told to hold on: so a test decides
whether the end of the stream is seen. A first run is cut where the server holds its parts and the
command has said which ones are acknowledged: nothing depends on timing.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed import COMMAND, Outcome, Running, Ufile, read_object, stored_parts

from ufile_cli.emulator.server import Emulator

__all__ = [
    "STREAM",
    "Producer",
    "acknowledged",
    "begin",
    "content_of",
    "cut",
    "flipped",
    "peak_rss",
    "piped",
    "read_all",
    "refused_finish",
    "replay",
    "same",
    "sent_again",
    "stdin_of",
    "sums",
    "wait_until_reaped",
]

STREAM = ("upload-stream", "demo", "big")


def content_of(size: int, seed: int = 1) -> bytes:
    """Random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def flipped(content: bytes, at: int) -> bytes:
    """The content with one bit of one byte changed."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


class Producer:
    """Writes into a pipe from a thread of its own, until somebody stops reading.

    Attributes:
        written: bytes that the pipe took.
        broken: the reader went away before everything was written.
    """

    def __init__(self, content: bytes | Iterable[bytes], *, end: bool = True) -> None:
        self.stdin, self._fd = os.pipe()
        self._pieces = (content,) if isinstance(content, bytes) else content
        self._end = end
        self._changed = threading.Condition()
        self.written = 0
        self.broken = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """The child has the other end by now; ours would keep the pipe open."""
        os.close(self.stdin)
        self._thread.start()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                view = memoryview(piece)
                while view:
                    count = os.write(self._fd, view[: 64 * 1024])
                    view = view[count:]
                    with self._changed:
                        self.written += count
                        self._changed.notify_all()
        except BrokenPipeError:
            self.broken = True
        finally:
            if self._end or self.broken:
                self.close()

    def wait_until_written(self, count: int, timeout: float = 20.0) -> None:
        """Wait until the pipe took so many bytes."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.written >= count, timeout), self.written

    def close(self) -> None:
        """The end of the stream."""
        with self._changed:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def go_on(self, content: bytes) -> None:
        """After `join`: write this too, and then the end."""
        self._pieces, self._end = (content,), True
        self._run()

    def join(self, timeout: float = 20.0) -> None:
        """Wait until everything is written, or nobody reads any more."""
        self._thread.join(timeout)
        assert not self._thread.is_alive()


def begin(
    ufile: Ufile, *arguments: str, content: bytes | Iterable[bytes], end: bool = True
) -> tuple[Running, Producer]:
    """Start a command with a pipe as its standard input."""
    producer = Producer(content, end=end)
    running = ufile.start(*arguments, stdin=producer.stdin)
    producer.begin()
    return running, producer


def piped(ufile: Ufile, *arguments: str, content: bytes | Iterable[bytes]) -> Outcome:
    """Run a command to its end with this on its standard input."""
    running, producer = begin(ufile, *arguments, content=content)
    outcome = running.wait()
    producer.join()
    return outcome


@contextmanager
def stdin_of(path: Path, offset: int = 0) -> Iterator[int]:
    """`< path`, from an offset on."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def replay(ufile: Ufile, journal: str, content: bytes, *options: str) -> Outcome:
    """`… | ufile resume JOURNAL --json`."""
    return piped(ufile, "resume", journal, "--json", *options, content=content)


def acknowledged(running: Running, numbers: Iterable[int], timeout: float = 20.0) -> None:
    """Wait until the command has said that these parts are up; it runs with --progress json."""
    wanted = set(numbers)

    def up() -> set[int]:
        lines = running._said["err"].decode().splitlines(keepends=True)
        events = (json.loads(line) for line in lines if line.startswith("{") and line[-1] == "\n")
        return {event["number"] for event in events if event["event"] == "part_sent"}

    with running._changed:
        running._changed.wait_for(lambda: wanted <= up() or "err" not in running._open, timeout)
        assert wanted <= up(), (wanted, running._said["err"].decode())


def cut(
    ufile: Ufile,
    emulator: Emulator,
    content: bytes,
    up: Sequence[int],
    *options: str,
    stored: Sequence[int] = (),
) -> str:
    """A first run, killed with SIGKILL when just the parts `up` are acknowledged; its journal.

    Its end is not seen. The parts in `stored` are stored, but their acknowledgement is lost.
    """
    total = len(content) // emulator.block_size  # a short part is read only with the end
    holes = sorted(set(range(total)) - set(up) - set(stored))
    emulator.faults.add(call="part", part=holes, hang="body", reset="body")
    emulator.faults.add(call="part", part=list(stored), hang="stored")
    threads = str(len(holes) + len(stored) + 2)
    running, producer = begin(
        ufile, *STREAM, "--progress", "json", "-j", threads, *options, content=content, end=False
    )
    acknowledged(running, up)
    emulator.wait_for("part", len(holes) + len(stored), stage="hanging", timeout=30)
    assert running.kill().code == -9
    producer.close()
    emulator.faults.clear()
    journal = ufile.only_journal()
    known = ufile.status(journal)["etaglist"]
    assert {number for number, etag in enumerate(known) if etag is not None} == set(up)
    return journal


def refused_finish(ufile: Ufile, emulator: Emulator, content: bytes, *options: str) -> str:
    """A first run that sent everything and saw the end, but whose Finish failed; its journal."""
    emulator.faults.add(call="finish", status=503)
    outcome = piped(
        ufile, *STREAM, "--retries", "1", "--patience", "0", *options, content=content
    )  # fmt: skip
    emulator.faults.clear()
    assert outcome.code == 75, outcome
    return ufile.only_journal()


def same(emulator: Emulator, content: bytes, key: str = "big") -> None:
    """The object is this content, byte for byte."""
    at = 0
    for piece in read_object(emulator, "demo", key):
        assert piece == content[at : at + len(piece)], f"differs within the bytes from {at} on"
        at += len(piece)
    assert at == len(content)


def sent_again(emulator: Emulator, before: int) -> set[int]:
    """The parts that were stored since `before` requests had been seen."""
    return set(stored_parts(emulator.requests[before:]))


def sums(pieces: Iterable[bytes], told: Callable[[int], None] = lambda _: None) -> str:
    """SHA-1 of pieces."""
    hasher = hashlib.sha1()
    for piece in pieces:
        hasher.update(piece)
        told(len(piece))
    return hasher.hexdigest()


def wait_until_reaped(pid_file: Path, timeout: float = 20.0) -> int:
    """Wait until the process that wrote its number there has ended, and its parent knows."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        text = pid_file.read_text() if pid_file.exists() else ""
        if text.endswith("\n"):
            try:
                os.kill(int(text), 0)
            except ProcessLookupError:
                return int(text)
        time.sleep(0.005)
    raise AssertionError("it is still there")


def peak_rss(
    ufile: Ufile, arguments: Sequence[str], producer: Sequence[str], scratch: Path
) -> tuple[Outcome, int]:
    """Run `producer | ufile arguments`; how it ended, and the most memory it took, in bytes.

    A small process stands between: a child's peak counts from that of the process it forked from.
    """
    report = scratch / "rss"
    watch = (
        "import os, sys\n"
        "pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])\n"
        "_, status, usage = os.wait4(pid, 0)\n"
        "open(sys.argv[1], 'w').write(str(usage.ru_maxrss))\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    source = subprocess.Popen(producer, stdout=subprocess.PIPE)
    assert source.stdout is not None
    try:
        running = ufile.start(
            *arguments,
            command=(sys.executable, "-S", "-c", watch, str(report), *COMMAND),
            stdin=source.stdout.fileno(),
        )  # fmt: skip
        source.stdout.close()
        outcome = running.wait(timeout=500)
    finally:
        source.kill()
        source.wait()
    unit = 1 if sys.platform == "darwin" else 1024
    return outcome, int(report.read_text()) * unit


def read_all(emulator: Emulator, key: str = "big") -> bytes:
    """The object."""
    return b"".join(read_object(emulator, "demo", key))
