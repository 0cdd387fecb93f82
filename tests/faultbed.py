"""An upload in this very process, against an emulator in this very process.

For tests that need finer control than a command gives, or more cases than commands have time
for: the engine, the wire and the journal are the real ones, only the command line is left out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from testbed import KIB, PUBLIC, SECRET

from ufile_cli.credentials import Credentials
from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import UFileError
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.record import JournalRecord
from ufile_cli.journal.store import Store, View, utc_now
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.request import Context, Options, Progress, Result
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.sources import FileSource
from ufile_cli.multipart.workers import Stop
from ufile_cli.progress.events import Notice
from ufile_cli.us3.client import Client
from ufile_cli.us3.endpoints import Endpoint

__all__ = ["BLOCK", "Engine", "Run"]

BLOCK = 256 * KIB
"""The block size of most of these tests: small parts, many of them, in little time."""

E = TypeVar("E")


@dataclass
class Run:
    """One run of an upload, from outside.

    Attributes:
        events: what it told, in its order.
        error: what ended it, None where it came through.
    """

    journal_id: str
    events: list[object] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    stop: Stop = field(default_factory=Stop)
    result: Result | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    @property
    def code(self) -> int:
        """The exit code that a command would have."""
        if self.error is None:
            return 0
        if not isinstance(self.error, UFileError):
            raise self.error
        return self.error.code

    @property
    def said(self) -> str:
        """The message of the error."""
        return "" if self.error is None else str(self.error)

    @property
    def done(self) -> Result:
        """The result; the test fails where there is none."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def of(self, kind: type[E]) -> list[E]:
        """The events of a kind."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.of(Notice)]

    def wait(self, timeout: float = 60.0) -> Run:
        """Wait for its end."""
        assert self.thread is not None
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "the upload does not end"
        return self


class Engine:
    """Uploads of files against one emulator, with journals of their own.

    Attributes:
        options: of each run that names no others; a failure ends an upload soon.
        timeout: seconds without a moving byte.
        rotated: as the context's.
        credentials: whoever signs.
    """

    def __init__(self, home: Path, emulator: Emulator) -> None:
        self.emulator = emulator
        self.url = emulator.url
        self.store = Store(home / "state")
        self.policy = RetryPolicy(attempts=3, interval=0.0, patience=0.0)
        self.options = Options(threads=4)
        self.timeout = 20.0
        self.connect_timeout = 10.0
        self.finish_timeout = 30.0
        self.rotated: Callable[[str | None], bool] = lambda _tag: False
        self.credentials: Callable[[], Credentials] | Credentials = Credentials(PUBLIC, SECRET)
        self.on_event: Callable[[Run, object], None] = lambda _run, _event: None

    def upload(self, path: Path, key: str = "big", **changes: Any) -> Run:
        """A new upload, to its end."""
        return self.begin(path, key, **changes).wait()

    def resume(self, journal_id: str, path: Path | None = None, **changes: Any) -> Run:
        """Go on with one, to its end; with another file where one is named."""
        return self.go_on(journal_id, path, **changes).wait()

    def begin(self, path: Path, key: str = "big", **changes: Any) -> Run:
        """A new upload, started."""
        source = FileSource.open(path)
        identity = source.identity()
        now = utc_now()
        document = JournalDocument(
            journal_id="", kind="file", bucket="demo", key=key, endpoint=self.url,
            created_at=now, updated_at=now, localfile=str(source.path), size=identity.size,
            source=identity, end_seen=True, mime_type="application/x-test", meta={"who": "us"},
        )  # fmt: skip
        return self._start(self.store.create(document), source, changes)

    def go_on(self, journal_id: str, path: Path | None = None, **changes: Any) -> Run:
        """Go on with one, started."""
        record = self.store.open(journal_id)
        source = FileSource.open(path or Path(record.document.localfile or ""))
        return self._start(record, source, changes)

    def view(self, journal_id: str) -> View:
        """Its journal as it lies on disk."""
        return self.store.peek(journal_id)

    def up(self, journal_id: str) -> set[int]:
        """The parts that the journal has."""
        parts = self.view(journal_id).parts
        return set(parts) if parts is not None else set()

    def _start(self, record: JournalRecord, source: FileSource, changes: dict[str, Any]) -> Run:
        policy_names = ("attempts", "interval", "patience")
        policy = {name: changes.pop(name) for name in policy_names if name in changes}
        options = replace(self.options, policy=self.policy._replace(**policy), **changes)
        run = Run(record.document.journal_id)
        client = Client(
            Endpoint.parse(self.url).address("demo"),
            self.credentials,
            connections=options.threads,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
            finish_timeout=self.finish_timeout,
        )

        def emit(event: object) -> None:
            run.events.append(event)
            self.on_event(run, event)

        context = Context(emit=emit, stop=run.stop, rotated=self.rotated, progress=run.progress)

        def act() -> None:
            try:
                run.result = FileUpload(record, source, client, options, context).run()
            except BaseException as error:
                run.error = error
            finally:
                client.close()
                source.close()

        run.thread = threading.Thread(target=act, daemon=True)
        run.thread.start()
        return run
