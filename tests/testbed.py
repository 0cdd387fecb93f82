"""What tests of the real command share: a home of its own, processes, and a look at the server.

Nothing in here waits for time to pass: a test waits for what a process says or for what the
emulator saw. Processes are started in sessions of their own and killed with the test that
started them.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import pty
import random
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ufile_cli.emulator.requestlog import RequestRecord
from ufile_cli.emulator.server import Emulator

KIB = 1024
MIB = 1024 * KIB
PUBLIC = "TOKEN_of-the-tests"
SECRET = "s3cr3t-private-key-that-nobody-may-see-0123456789"
COMMAND = (sys.executable, "-m", "ufile_cli")

AT_ONCE = ("--retries", "1", "--retry-interval", "0", "--patience", "0")
"""Options with which a failure ends an upload at once."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it has to be."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard error as lines of JSON, those before the final message."""
        lines = [line for line in self.err.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]


class Running:
    """A command at work. Its output is read all the time, so that no pipe fills up."""

    def __init__(
        self,
        arguments: Sequence[str],
        process: subprocess.Popen[bytes],
        sources: Mapping[str, int],
    ) -> None:
        self.arguments = tuple(arguments)
        self.process = process
        self._changed = threading.Condition()
        self._said = dict.fromkeys(sources, b"")
        self._open = set(sources)
        for name, fd in sources.items():
            threading.Thread(target=self._read, args=(name, fd), daemon=True).start()

    def _read(self, name: str, fd: int) -> None:
        while True:
            try:
                piece = os.read(fd, 65536)
            except OSError:  # a terminal whose other side is gone
                piece = b""
            with self._changed:
                self._said[name] += piece
                if not piece:
                    self._open.discard(name)
                self._changed.notify_all()
            if not piece:
                os.close(fd)
                return

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self, name: str = "err") -> str:
        """What it has written so far."""
        with self._changed:
            return self._said[name].decode("utf-8", "replace")

    def wait_to_say(self, text: str, name: str = "err", timeout: float = 20.0) -> None:
        """Wait until it has written this."""
        wanted = text.encode()
        with self._changed:
            self._changed.wait_for(
                lambda: wanted in self._said[name] or name not in self._open, timeout
            )
            said = self._said[name]
        assert wanted in said, f"never said {text!r}, but {said.decode(errors='replace')!r}"

    def send(self, signum: int) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def kill(self) -> Outcome:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        return self.wait()

    def wait(self, timeout: float = 60.0) -> Outcome:
        """Wait for its end and the end of its output."""
        code = self.process.wait(timeout)
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, timeout), "output stays open"
        return Outcome(
            self.arguments,
            code,
            self.said("out") if "out" in self._said else "",
            self.said("err") if "err" in self._said else "",
        )


class Ufile:
    """The command `ufile`, in a home, with a state directory and a configuration of its own.

    Attributes:
        home: everything it may touch.
        env: its whole environment.
    """

    def __init__(self, home: Path, endpoint: str | None) -> None:
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "UFILE_STATE_DIR": str(home / "state"),
            "UFILE_LOCAL_DIR": str(home / "local"),
            "UFILE_CONFIG": str(home / "config.toml"),
            "UFILE_PUBLIC_KEY": PUBLIC,
            "UFILE_PRIVATE_KEY": SECRET,
        }
        if endpoint is not None:
            self.env["UFILE_ENDPOINT"] = endpoint
        self._started: list[Running] = []

    @property
    def journals(self) -> Path:
        """Where its journals lie."""
        return Path(self.env["UFILE_STATE_DIR"]) / "journals"

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str | None] | None = None,
        command: Sequence[str] = COMMAND,
        stdin: int = subprocess.DEVNULL,
        preexec: Callable[[], None] | None = None,
    ) -> Running:
        """Start a command with both outputs piped; `env` adds variables, None removes one."""
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(env),
            cwd=self.home,
            start_new_session=True,
            preexec_fn=preexec,
        )
        assert process.stdout is not None and process.stderr is not None
        sources = {"out": os.dup(process.stdout.fileno()), "err": os.dup(process.stderr.fileno())}
        process.stdout.close()
        process.stderr.close()
        return self._keep(Running(arguments, process, sources))

    def start_on_terminal(
        self,
        *arguments: str,
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str | None] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> Running:
        """Start a command on a terminal of its own; what it shows is `said("err")`."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._environment(env),
            cwd=self.home,
            start_new_session=True,
        )
        os.close(slave)
        return self._keep(Running(arguments, process, {"err": master}))

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str | None] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> Outcome:
        """Run a command to its end."""
        return self.start(*arguments, env=env, preexec=preexec).wait()

    def upload(self, path: Path, *options: str, bucket: str = "demo", key: str = "big") -> Outcome:
        """`ufile upload` with --json; fails the test unless it exits with 0."""
        outcome = self("upload", bucket, key, str(path), "--json", *options)
        assert outcome.code == 0, outcome
        return outcome

    def status(self, *arguments: str) -> Any:
        """`ufile status --json`."""
        outcome = self("status", "--json", *arguments)
        assert outcome.code == 0, outcome
        return outcome.json

    def only_journal(self) -> str:
        """The id of the one journal that there is."""
        names = [path.name.removesuffix(".json") for path in self.journals.glob("*.json")]
        assert len(names) == 1, names
        return names[0]

    def document(self, journal_id: str) -> Any:
        """A journal's document, as it lies on disk."""
        return json.loads((self.journals / f"{journal_id}.json").read_text())

    def end_all(self) -> None:
        """Kill what still runs."""
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()

    def _keep(self, running: Running) -> Running:
        self._started.append(running)
        return running

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}


# Files and objects


def make_file(path: Path, size: int, seed: int = 1) -> Path:
    """A file of random bytes, the same for the same seed."""
    source = random.Random(seed)
    with path.open("wb") as file:
        while size > 0:
            step = min(size, 8 * MIB)
            file.write(source.randbytes(step))
            size -= step
    return path


def read_object(emulator: Emulator, bucket: str, key: str) -> Iterator[bytes]:
    """An object's bytes in pieces, fetched with a signature worked out here."""
    keys = emulator.keys
    headers = {"Host": emulator.host_of(bucket)}
    if keys is not None:
        text = f"GET\n\n\n\n/{bucket}/{key}".encode()
        signature = hmac.new(keys[1].encode(), text, hashlib.sha1).digest()
        headers["Authorization"] = f"UCloud {keys[0]}:{base64.b64encode(signature).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    try:
        connection.putrequest("GET", "/" + quote(key, safe=""), skip_host=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        while piece := answer.read(MIB):
            yield piece
    finally:
        connection.close()


def assert_same(emulator: Emulator, path: Path, *, bucket: str = "demo", key: str = "big") -> None:
    """The object is the file, byte for byte."""
    at = 0
    with path.open("rb") as file:
        for piece in read_object(emulator, bucket, key):
            assert piece == file.read(len(piece)), f"differs within the bytes from {at} on"
            at += len(piece)
        assert not file.read(1), f"the object ends at byte {at}"


# What the server saw


def stored_parts(records: Sequence[RequestRecord]) -> Counter[int]:
    """How often each part was stored."""
    return Counter(
        record.part_number
        for record in records
        if record.call == "part" and record.etag is not None and record.part_number is not None
    )


def calls_of(emulator: Emulator, call: str) -> list[RequestRecord]:
    """The requests of one call, in their order."""
    return [record for record in emulator.requests if record.call == call]


def ignore(*signums: int) -> Callable[[], None]:
    """For `preexec`: start with these signals ignored."""

    def act() -> None:
        for signum in signums:
            signal.signal(signum, signal.SIG_IGN)

    return act
