"""Uploads and resumes killed with SIGKILL at random moments, for as long as one likes.

    python tests/crash/soak.py [--minutes 3] [--seed N]

Files and streams in turn; a killed one is gone on with, and killed again, until it is through. The
server's request log then says whether the promise was kept: the object is whole, no part was sent
again that the journal had, and no more parts were sent twice than were in flight at each kill.
A seed gives the same moments as far as the machine does; nothing here hangs on which they are.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testbed import KIB, MIB, PUBLIC, SECRET, Running, Ufile, assert_same, make_file

from ufile_cli.emulator.requestlog import RequestRecord
from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import UFileError
from ufile_cli.journal.store import Store

THREADS = 4
BLOCK = 256 * KIB
SIZES = (4 * MIB + 1, 5 * MIB, 6 * MIB + 12_345)
KILLS_AT_MOST = 6
"""Of one upload; then it is left in peace."""

PLACES: tuple[dict[str, object], ...] = (
    {"call": "initiate", "hang": "head"},
    {"call": "initiate", "hang": "stored"},
    {"call": "part", "hang": "body"},
    {"call": "part", "hang": "stored"},
    {"call": "finish", "hang": "head"},
    {"call": "finish", "hang": "stored"},
)
"""Where the server can be made to hold the command still, so that rare moments are hit too."""


@dataclass
class Tally:
    """What was done, and what was found."""

    uploads: int = 0
    streams: int = 0
    kills: int = 0
    parts: int = 0
    sent_twice: int = 0
    sent_though_journalled: int = 0
    places: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        places = ", ".join(f"{count} in {place}" for place, count in sorted(self.places.items()))
        return (
            f"{self.uploads} uploads, {self.streams} of them streams; {self.kills} kills "
            f"({places}); {self.parts} parts sent, {self.sent_twice} of them twice, "
            f"{self.sent_though_journalled} although journalled"
        )


class Soak:
    """One home, one server, one upload after another."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.tally = Tally()
        self._directory = directory
        self._chance = random.Random(seed)
        self._server = Emulator(
            directory / "server", keys=(PUBLIC, SECRET), block_size=BLOCK, remember=10**6
        ).start()
        home = directory / "home"
        home.mkdir()
        self._ufile = Ufile(home, self._server.url)
        self._store = Store(Path(self._ufile.env["UFILE_STATE_DIR"]))

    def close(self) -> None:
        self._ufile.end_all()
        self._server.close()
        if self._server.errors:
            raise AssertionError(self._server.errors)

    def upload(self) -> None:
        """One upload, from its beginning through all its kills to its object.

        Raises:
            AssertionError: a promise was broken; the message has what is needed to see which.
        """
        number = self.tally.uploads
        stream = self._chance.random() < 0.4
        path = make_file(self._directory / "source", self._chance.choice(SIZES), seed=number)
        key = f"object-{number}"
        begun = len(self._server.requests)
        kills = 0
        journal: str | None = None
        while True:
            known = self._known(journal)
            before = len(self._server.requests)
            running = self._start(journal, path, key, stream)
            if kills < KILLS_AT_MOST:
                self._let_it_run(running)
            outcome = running.kill() if kills < KILLS_AT_MOST else running.wait()
            self._server.faults.clear()
            self._check_journalled(known, self._server.requests[before:])
            if outcome.code == 0:
                break
            assert outcome.code == -9, (number, kills, outcome)
            kills += 1
            self.tally.kills += 1
            journal = self._journal_of(key)
        assert_same(self._server, path, key=key)
        sent = _stored(self._server.requests[begun:])
        twice = sum(sent.values()) - len(sent)
        self.tally.uploads += 1
        self.tally.streams += stream
        self.tally.parts += sum(sent.values())
        self.tally.sent_twice += twice
        assert twice <= THREADS * kills, f"{twice} parts sent twice after {kills} kills ({key})"

    def _start(self, journal: str | None, path: Path, key: str, stream: bool) -> Running:
        options = ("-j", str(THREADS), "--retry-interval", "0", "-q")
        if not stream:
            again = journal is None or self._chance.random() < 0.3
            if again:
                return self._ufile.start("upload", "demo", key, str(path), *options)
            return self._ufile.start("resume", journal or "", *options)
        arguments: tuple[str, ...]
        arguments = ("resume", journal) if journal else ("upload-stream", "demo", key)
        reading, writing = os.pipe()
        running = self._ufile.start(*arguments, *options, stdin=reading)
        os.close(reading)
        threading.Thread(target=_feed, args=(path, writing), daemon=True).start()
        return running

    def _let_it_run(self, running: Running) -> None:
        """Until a random moment: some requests, some time, or where the server holds it."""
        how = self._chance.choice(["requests", "requests", "time", "held"])
        if how == "time":
            self.tally.places["no time at all"] += 1
            self._wait(running, self._chance.uniform(0.1, 1.0))
            return
        if how == "held":
            place = self._chance.choice(PLACES)
            after = self._chance.randrange(12) if place["call"] == "part" else 0
            self._server.faults.add(**place, after=after)  # type: ignore[arg-type]
            call = str(place["call"])
            so_far = self._server.count(call, "hanging")
            while running.process.poll() is None:
                if self._server.count(call, "hanging") > so_far:
                    self.tally.places[f"{call} {place['hang']}"] += 1
                    return
                self._wait(running, 0.01)
            return
        so_far = self._server.count()
        more = self._chance.randrange(1, 24)
        self.tally.places["between requests"] += 1
        while running.process.poll() is None and self._server.count() < so_far + more:
            self._wait(running, 0.003)

    @staticmethod
    def _wait(running: Running, seconds: float) -> None:
        try:
            running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass

    def _journal_of(self, key: str) -> str | None:
        for listed in self._store.listing():
            if self._store.peek(listed.journal_id).document.key == key:
                return listed.journal_id
        return None

    def _known(self, journal: str | None) -> set[tuple[str | None, int]]:
        """The parts that the journal has, with the upload id that it has them under."""
        if journal is None:
            return set()
        try:
            view = self._store.peek(journal)
        except UFileError as error:
            raise AssertionError(f"the journal can't be read: {error}") from error
        return {(view.document.uploadid, number) for number in view.parts or ()}

    def _check_journalled(
        self, known: set[tuple[str | None, int]], records: Sequence[RequestRecord]
    ) -> None:
        again = known & set(_stored(records))
        self.tally.sent_though_journalled += len(again)
        assert not again, f"sent again although journalled: {sorted(again, key=str)}"


def _stored(records: Sequence[RequestRecord]) -> Counter[tuple[str | None, int]]:
    return Counter(
        (record.upload_id, record.part_number)
        for record in records
        if record.call == "part" and record.etag is not None and record.part_number is not None
    )


def _feed(path: Path, writing: int) -> None:
    """Pipe the file into the command, as far as it takes it."""
    try:
        with os.fdopen(writing, "wb") as pipe, path.open("rb") as file:
            while piece := file.read(64 * KIB):
                pipe.write(piece)
    except BrokenPipeError:
        pass


def soak(directory: Path, *, seconds: float, seed: int) -> Tally:
    """Upload after upload until the time is up; what came of it.

    Raises:
        AssertionError: a promise was broken.
    """
    until = time.monotonic() + seconds
    work = Soak(directory, seed)
    try:
        while time.monotonic() < until:
            work.upload()
    finally:
        work.close()
    return work.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=None, help="random unless told")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    print(f"seed {seed}, {arguments.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="ufile-soak-") as directory:
        print(soak(Path(directory), seconds=arguments.minutes * 60, seed=seed))


if __name__ == "__main__":
    main()
