"""One upload from its start to its end; resuming is the same with a journal that is not empty.

    initiate -> reconcile and send -> source unchanged? -> finish -> compare -> receipt

This is the one place that knows this order. What is sent, and whether it needs to be, is asked of
`reconcile`; what follows a failure, of `retry`; this module puts them in order and owns the
consequences: a dead upload id starts over once, a changed source is hashed again before it is
refused, and nothing is reported as done that was not compared.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ufile_cli.errors import NetworkError, PartCorrupted, Refused, UFileError
from ufile_cli.etag import matches_part
from ufile_cli.exitcodes import ExitCode
from ufile_cli.multipart.body import PartBody
from ufile_cli.multipart.calls import Calls, Completed, Fate, headers_of, same_object
from ufile_cli.multipart.drive import Drive, Task
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.request import Context, Options, Result
from ufile_cli.progress import text
from ufile_cli.progress.events import (
    Failed,
    Finished,
    Finishing,
    Notice,
    PartAdopted,
    PartLost,
    PartProgress,
    PartSent,
    PartStarted,
    Paused,
)

if TYPE_CHECKING:
    from ufile_cli.journal.document import State
    from ufile_cli.journal.record import Record
    from ufile_cli.us3.client import Client

__all__ = ["Upload", "state_after"]


def state_after(error: BaseException) -> State | None:
    """The journal's state after an error; None where the journal can't be written any more."""
    if not isinstance(error, UFileError):
        return "paused"
    if error.code == ExitCode.JOURNAL:
        return None
    return "failed" if error.code in (ExitCode.FAILED, ExitCode.SOURCE) else "paused"


class Upload(ABC):
    """One upload of a file or a stream.

    Args:
        record: what is known of it; empty for a new one.

    A subclass says how its source is sent (`transfer`) and what its ETag is (`own_etag`).
    """

    def __init__(
        self,
        record: Record,
        client: Client,
        options: Options,
        context: Context,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.record = record
        self.client = client
        self.options = options
        self.context = context
        self.limit = context.limit or RateLimit(options.limit_rate)
        self.drive = Drive(
            threads=options.threads,
            auto=options.auto,
            policy=options.policy,
            stop=context.stop,
            emit=context.emit,
            rotated=context.rotated,
            tick=record.flush,
            clock=clock,
            grace=context.grace,
        )
        self.calls = Calls(client, record, self.drive, context.rotated)
        self.resumed = record.parts is not None
        self.told = False
        self.surplus = False
        self._clock = clock

    # -- what a source has to say --------------------------------------------------------------

    @abstractmethod
    def transfer(self) -> None:
        """Send what the server lacks. Afterwards every part is up and the size is known."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of the whole source; known after `transfer`."""

    @abstractmethod
    def own_etag(self) -> str | None:
        """The object ETag of what was sent, None where it can't be computed."""

    @abstractmethod
    def unchanged(self) -> bool:
        """Whether the source is still what was sent; False where changed parts go up again.

        Raises:
            SourceError: it is not, and nothing is to be done about it.
        """

    def prepare_again(self) -> None:  # noqa: B027  a file is always ready
        """Get ready for another `transfer`, from the source's beginning.

        Raises:
            SourceError: it can't be read again.
        """

    # -- the order -----------------------------------------------------------------------------

    def run(self) -> Result:
        """Bring the object to be, compare it, and leave a receipt.

        Raises:
            UFileError: the journal says the same, and is closed.
        """
        begun = self._clock()
        try:
            completed, verified = self._complete()
            result = self._result(completed, verified, self._clock() - begun)
            self.record.finish(
                {
                    "size": result.size,
                    "etag": result.etag,
                    "verified": result.verified,
                    "parts": result.parts,
                    "url": result.url,
                    "seconds": round(result.seconds, 3),
                }
            )
        except BaseException as error:
            self._leave(error)
            raise
        finally:
            self.context.progress.threads = self.drive.settled
            self.drive.close()
            self.record.close()
        self.context.emit(
            Finished(
                result.journal_id,
                result.bucket,
                result.key,
                result.size,
                result.etag,
                result.verified,
                result.bytes_sent,
                result.seconds,
            )
        )
        return result

    def _complete(self) -> tuple[Completed, str]:
        started_over = asked_again = False
        while True:
            try:
                if self.record.parts is None:
                    self.calls.initiate()
                    self.resumed = False
                self.transfer()
                own = self.own_etag()
                while not self.unchanged():
                    self.transfer()
                    own = self.own_etag()
                completed = self._finish(own)
                break
            except Refused as refusal:
                if self.record.parts is None:
                    raise  # Initiate itself was refused
                fate = self.calls.fate(refusal)
                if fate is Fate.DEAD or (fate is Fate.UNKNOWN and refusal.part is None):
                    # Where nobody can tell, a refused Finish may be one that went through before.
                    there = self.there_already()
                    if there is not None:
                        completed, own = there, self.own_etag()
                        break
                if fate is Fate.DEAD:
                    if started_over:
                        raise
                    started_over = True
                    self._start_over("the server no longer knows the upload id")
                elif refusal.part is None and self.surplus and not started_over:
                    # The source has become shorter: parts beyond its end lie under this upload
                    # id, and this server wants every part it has in the list.
                    started_over = True
                    self.calls.abort()
                    self._start_over("the file has become shorter")
                elif refusal.part is None and not asked_again:
                    # Finish was refused although the id lives: the server may have lost a part.
                    asked_again = True
                    self.resumed = True
                    self.prepare_again()
                else:
                    raise
        verified = same_object(own, completed, self.size(), self._block_size())
        return completed, verified

    def _finish(self, own: str | None) -> Completed:
        # Everything acknowledged is on disk before the one request that can't be repeated.
        self.record.flush()
        parts = self._parts()
        self.context.emit(Finishing(parts))
        return self.calls.look_up(self.calls.finish(parts, own, self.size()))

    def there_already(self) -> Completed | None:
        """Whether an earlier Finish went through, seen from a dead upload id."""
        return self.calls.there_already(self.own_etag, self.size())

    def _start_over(self, why: str) -> None:
        parts = self.record.parts
        lost = len(parts) if parts is not None else 0
        size = lost * self._block_size()
        # The journal keeps the old upload until there is a new one: where Initiate is refused as
        # well (a captive portal, a wrong address), nothing is lost.
        self.calls.initiate()
        self.resumed = False
        self.prepare_again()
        self.context.progress.parts_sent = self.context.progress.parts_reused = 0
        self.told = self.surplus = False
        self.context.emit(
            Notice(
                f"{why}: a new upload begins, and {text.counted(lost, 'part')} "
                f"(about {size >> 20:,} MiB) {'is' if lost == 1 else 'are'} sent again"
            )
        )

    def _result(self, completed: Completed, verified: str, seconds: float) -> Result:
        document, progress = self.record.document, self.context.progress
        return Result(
            journal_id=self.record.journal_id,
            bucket=document.bucket,
            key=document.key,
            url=self.client.address.object_url(document.key),
            size=self.size(),
            etag=completed.etag,
            verified=verified,
            parts=self._parts(),
            parts_sent=progress.parts_sent,
            parts_reused=progress.parts_reused,
            parts_changed=progress.parts_changed,
            bytes_sent=progress.bytes_sent,
            seconds=seconds,
            threads=self.drive.settled,
            auto=self.options.auto,
        )

    def _leave(self, error: BaseException) -> None:
        """Write down why it stopped, as far as that is possible, and tell."""
        state = state_after(error)
        if state is not None:
            said = (
                error.as_json()
                if isinstance(error, UFileError)
                else {"kind": type(error).__name__, "message": str(error)}
            )
            try:
                self.record.save(state, said)
            except UFileError:
                pass  # the error that ends the upload is the one to tell
        reason = error.message if isinstance(error, UFileError) else str(error)
        code = error.code if isinstance(error, UFileError) else int(ExitCode.INTERNAL)
        if state == "failed":
            self.context.emit(Failed(reason, self.record.journal_id, code))
        else:
            self.context.emit(Paused(reason, self.record.journal_id))

    # -- parts ---------------------------------------------------------------------------------

    def _block_size(self) -> int:
        return self.record.document.blocksize or 1

    def _parts(self) -> int:
        return -(-self.size() // self._block_size())

    def send_task(
        self,
        number: int,
        length: int,
        body: Callable[[], PartBody],
        done: Callable[[], None] = lambda: None,
    ) -> Task:
        """A task that sends one part, and has it in the journal when it is acknowledged.

        Args:
            body: makes the body, anew for each attempt.
            done: what else follows, in the coordinator.
        """
        document = self.record.document
        key, upload_id = document.key, document.uploadid or ""
        headers = headers_of(self.record, first=False)

        def job() -> str:
            content = body()
            try:
                etag = self.client.upload_part(key, upload_id, number, content, headers)
            except UFileError as error:
                if isinstance(error, NetworkError):
                    raise self.calls.refusal_behind(error) from error
                raise
            self.calls.written()
            digests = content.digests()
            if matches_part(etag, digests) is False:
                raise PartCorrupted(
                    "the part arrived damaged: its ETag is not that of the bytes sent",
                    part=number,
                )
            self.record.acknowledge(upload_id, number, etag, digests)
            return etag

        def sent(etag: object) -> None:
            self.context.progress.parts_sent += 1
            self.context.progress.bytes_sent += length
            self.context.emit(PartSent(number, length, str(etag)))
            done()

        def begun(attempt: int) -> None:
            self.context.emit(PartStarted(number, length, attempt))

        return Task(job, sent, f"part {number}", number, begun, size=length)

    def progress_of(self, number: int, length: int) -> Callable[[int], None]:
        """What a part's body tells of the bytes it handed out."""
        emit = self.context.emit
        return lambda position: emit(PartProgress(number, position, length))

    def adopted(self, number: int, length: int) -> None:
        """The server has this part already."""
        self.context.progress.parts_reused += 1
        self.context.emit(PartAdopted(number, length))

    def lost(self, parts: Iterable[tuple[int, int]]) -> None:
        """The journal had these parts (number, bytes) as up, but the server does not have them."""
        for number, length in parts:
            # One that this run has sent was never counted as reused.
            self.context.progress.parts_reused = max(0, self.context.progress.parts_reused - 1)
            self.context.emit(PartLost(number, length))
