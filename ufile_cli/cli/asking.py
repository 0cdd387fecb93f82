"""Single calls to a server, for commands that upload nothing: tried again as an upload's are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ufile_cli.cli.logs import Log
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.connect import Connector
from ufile_cli.errors import BadAnswer
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.progress.events import Event, Notice

if TYPE_CHECKING:
    from ufile_cli.us3.client import Client
    from ufile_cli.us3.response import RemoteUpload

__all__ = ["Asking"]

_POLICY = RetryPolicy(attempts=3, interval=1.0, patience=0)
T = TypeVar("T")


class Asking:
    """A client of one bucket, and attempts for each call. A context manager.

    Attributes:
        client: for jobs given to `ask`.
    """

    def __init__(self, connector: Connector, bucket: str, log: Log) -> None:
        self._log = log
        self._connection = connector.connect(bucket, threads=1, log=log.request)
        self.client: Client = self._connection.client
        self._drive = Drive(
            threads=1,
            policy=_POLICY,
            stop=SIGNALS.stop,
            emit=self._tell,
            rotated=self._connection.rotated,
        )

    def __enter__(self) -> Asking:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drive.close()
        self._connection.close()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._log.write(event.text)

    def ask(self, what: str, job: Callable[[], T]) -> T:
        """Do it, up to three times.

        Raises:
            UFileError: the last attempt's.
        """
        return self._drive.call(what, job)

    def uploads(self, prefix: str = "") -> Iterator[RemoteUpload]:
        """The unfinished uploads that the server knows.

        Raises:
            BadAnswer: the list goes round in circles.
            UFileError: it can't be had.
        """
        marker, seen = "", set[str]()
        while True:
            page = self.ask(
                "the list of uploads",
                lambda marker=marker: self.client.list_uploads(prefix, marker, limit=100),  # type: ignore[misc]
            )
            yield from page.uploads
            marker = page.next_marker
            if not marker:
                return
            if marker in seen:
                raise BadAnswer(
                    "the server's list of uploads goes round in circles", status=page.answer.status
                )
            seen.add(marker)
