"""`make demo`: a file and a stream, each killed in the middle, each brought to its end.

Uses the command as a person would, in `.demo/`, against the endpoint `local`. Everything said at
the end is counted: the objects are fetched from a server and compared byte for byte, and the log
of the requests tells which parts were sent twice. The exit code is 0 only if all of it is right.

Nothing waits for time to pass: the process is killed once its journal says that half of the parts
are up.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ufile_cli.errors import UFileError
from ufile_cli.journal.store import Store, View

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
BLOCK = 4 * MIB
THREADS = 4
MINUTE = 60.0

PAINTED = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
UFILE = (sys.executable, "-m", "ufile_cli")


class Demo:
    """One run in a directory of its own.

    Attributes:
        size: bytes of the file, and of the stream.
        rate: bytes a second at which they are sent, so that there is a middle to be killed in.
    """

    def __init__(self, home: Path, size: int, rate: int) -> None:
        self.home = home
        self.size = size
        self.rate = rate
        self.log = home / "requests.jsonl"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("UFILE_")},
            "UFILE_STATE_DIR": str(home / "state"),
            "UFILE_LOCAL_DIR": str(home / "local"),
            "UFILE_CONFIG": str(home / "config.toml"),
            "UFILE_LOCAL_REQUEST_LOG": str(self.log),
            "PYTHONPATH": str(ROOT),
        }
        self.store = Store(home / "state")
        self.known: set[str] = set()

    def run(self) -> None:
        """All of it, from an empty directory to an empty directory."""
        say(f"Everything happens in {self.home.name}/, with the endpoint `local`: no account, no")
        say("network, and a speed limit so that there is a middle to be killed in.")
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        if shutil.disk_usage(self.home).free < 4 * self.size:
            fail(f"this needs {4 * self.size // MIB} MiB of free disk")
        file = self.home / "big.bin"
        make_file(file, self.size)
        say(f"big.bin: {self.size // MIB} MiB of random bytes.")

        title("A file, killed in the middle")
        limit = ["--endpoint", "local", "--limit-rate", f"{self.rate // MIB}M"]
        journal_id = self.killed(["upload", "demo", "big.bin", "big.bin", *limit])
        self.shown(["status"])
        self.shown(["resume", journal_id])
        self.compared("big.bin", file)
        self.counted("big.bin")

        title("A stream, killed in the middle")
        journal_id = self.killed(
            ["upload-stream", "demo", "dump", "--size", f"{self.size // MIB}M", *limit], file
        )
        self.shown(["status"])
        say("Parts that are up are compared with what comes out of the pipe, not sent again:")
        self.shown(["resume", journal_id], file)
        self.compared("dump", file)
        self.counted("dump")

        shutil.rmtree(self.home)
        title("Both objects are whole.")

    # Commands

    def start(self, words: Sequence[str], piped: Path | None = None) -> subprocess.Popen[bytes]:
        """Show a command as it would be typed, and start it on this terminal."""
        typed = typed_as(words)
        if piped is None:
            prompt(typed)
            return subprocess.Popen(
                [*UFILE, *words], cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL
            )
        prompt(f"cat {piped.name} | {typed}")
        cat = subprocess.Popen(["cat", piped.name], cwd=self.home, stdout=subprocess.PIPE)
        process = subprocess.Popen(
            [*UFILE, *words], cwd=self.home, env=self.environment, stdin=cat.stdout
        )
        if cat.stdout is not None:
            cat.stdout.close()  # so that cat ends with the one who reads it
        return process

    def shown(self, words: Sequence[str], piped: Path | None = None) -> None:
        """Run a command to its end, which has to be a good one."""
        code = self.start(words, piped).wait()
        if code != 0:
            fail(f"`ufile {words[0]}` ended with {code}")

    def killed(self, words: Sequence[str], piped: Path | None = None) -> str:
        """Start an upload and kill it when half of its parts are up; its journal id."""
        process = self.start(words, piped)
        try:
            view = self.halfway(process)
        finally:
            process.kill()
            process.wait()
        if PAINTED:
            print("\x1b[?25h", end="")  # what was being drawn stays; the cursor is seen again
        if process.returncode != -signal.SIGKILL:
            fail(f"the upload ended with {process.returncode} before it could be killed")
        prompt(f"kill -9 {process.pid}")
        journal_id = view.document.journal_id
        up, parts = self.store.peek(journal_id).parts_done, -(-self.size // BLOCK)
        say(f"It is gone without a word. {up} of {parts} parts were up, and the journal has them:")
        return journal_id

    def halfway(self, process: subprocess.Popen[bytes]) -> View:
        """The journal of the upload that the process works on, once half of the parts are up."""
        half = -(-self.size // BLOCK) // 2
        give_up = time.monotonic() + 5 * MINUTE
        while True:
            for listed in self.store.listing():
                if listed.journal_id in self.known:
                    continue
                try:
                    view = self.store.peek(listed.journal_id)
                except UFileError:
                    continue  # being made just now
                if view.document.state == "finished":
                    fail("the upload was finished before it could be killed")
                if view.parts_done >= half:
                    self.known.add(listed.journal_id)
                    return view
            try:
                code = process.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() > give_up:
                    fail("half of the parts were not up within five minutes")
                continue
            fail(f"the upload ended with {code} before it could be killed")

    # What is true afterwards

    def compared(self, key: str, file: Path) -> None:
        """Fetch the object from a server and compare it with the file, byte for byte."""
        words = ["serve", "--port", "0", "--dir", "local", "--quiet"]
        prompt(shlex.join(["ufile", *words]) + " &")
        server = subprocess.Popen(
            [*UFILE, *words],
            cwd=self.home,
            env=self.environment | {"UFILE_LOCAL_REQUEST_LOG": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            line = server.stdout.readline().strip() if server.stdout is not None else ""
            print(line, flush=True)
            address = line.rpartition("http://")[2]
            if not address:
                fail("the server did not say where it listens")
            same(address, key, file)
        finally:
            server.terminate()
            server.wait()
        good(f"GET demo/{key}: {self.size:,} bytes, each of them that of {file.name}")

    def counted(self, key: str) -> None:
        """Say from the log of the requests how many parts were sent twice."""
        stored: Counter[int] = Counter()
        with self.log.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["call"] == "part" and record["key"] == key and record["etag"]:
                    stored[record["part_number"]] += 1
        parts = -(-self.size // BLOCK)
        twice = sum(times - 1 for times in stored.values())
        if set(stored) != set(range(parts)):
            fail(f"the server stored {len(stored)} of {parts} parts")
        if twice > THREADS:
            fail(f"{twice} parts were sent twice; a kill may cost {THREADS}, one a thread")
        good(f"request log: {parts} parts stored, {twice} of them sent twice")


def make_file(path: Path, size: int) -> None:
    """A file of random bytes."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.write(os.urandom(size % MIB))


def same(address: str, key: str, file: Path) -> None:
    """Compare the object of the bucket `demo` with the file; ends the run where they differ."""
    connection = http.client.HTTPConnection(address, timeout=MINUTE)
    try:
        connection.request("GET", f"/{key}", headers={"Host": f"demo.{address}"})
        answer = connection.getresponse()
        if answer.status != 200:
            fail(f"GET {key}: HTTP {answer.status}")
        at = 0
        with file.open("rb") as content:
            while piece := answer.read(MIB):
                if piece != content.read(len(piece)):
                    fail(f"{key} differs from {file.name} within the bytes from {at} on")
                at += len(piece)
            if content.read(1):
                fail(f"{key} ends at byte {at}, {file.name} does not")
    finally:
        connection.close()


# What is shown


def typed_as(words: Sequence[str]) -> str:
    """A command as a person would type it, where it is long in two lines."""
    typed = shlex.join(["ufile", *words])
    if len(typed) > 70:
        typed = typed.replace(" --endpoint", " \\\n    --endpoint")
    return typed


def paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if PAINTED else text


def say(text: str) -> None:
    print(text, flush=True)


def title(text: str) -> None:
    print("\n" + paint(f"== {text}", "1"), flush=True)


def prompt(typed: str) -> None:
    print("\n" + paint("$ ", "2") + paint(typed, "1"), flush=True)


def good(text: str) -> None:
    print(paint("ok", "32") + f"  {text}", flush=True)


def fail(what: str) -> NoReturn:
    print(paint("FAILED", "31") + f"  {what}", flush=True)
    sys.exit(1)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="[default: 256]")
    parser.add_argument(
        "--rate", type=int, default=64, metavar="MIB", help="a second [default: 64]"
    )
    parser.add_argument("--dir", type=Path, default=ROOT / ".demo", help="[default: .demo]")
    chosen = parser.parse_args()
    Demo(chosen.dir.resolve(), chosen.size * MIB, chosen.rate * MIB).run()


if __name__ == "__main__":
    main()
