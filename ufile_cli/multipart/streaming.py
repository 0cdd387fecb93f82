"""Uploading a stream, and going on with one by replaying it.

A replay passes the stream from its beginning: parts that were up before are compared with it and
not sent again, what is missing is sent. Until everything that was up has compared equal, what is
sent stays provisional, so that a wrong replay, refused later on, does not count for anything.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ufile_cli.errors import SourceError, StreamDiffers, StreamPassed
from ufile_cli.etag import BLOCK, matches_part, object_etag
from ufile_cli.multipart.body import BufferBody
from ufile_cli.multipart.calls import Completed
from ufile_cli.multipart.concurrency import FEWEST
from ufile_cli.multipart.drive import Task
from ufile_cli.multipart.plan import MAX_OBJECT_SIZE
from ufile_cli.multipart.reconcile import Listing, Verdict, judge
from ufile_cli.multipart.request import Context, Options
from ufile_cli.multipart.streams import (
    PartRead,
    ReaderFailed,
    StreamEnded,
    StreamReader,
    StreamSource,
)
from ufile_cli.multipart.upload import Upload
from ufile_cli.progress.events import Checked, Checking, CheckingDone, SizeKnown, Started

if TYPE_CHECKING:
    from ufile_cli.journal.record import Record
    from ufile_cli.us3.client import Client

__all__ = ["StreamUpload", "StreamWishes", "check_exact", "first_block"]

_AUTO_MEMORY = 64 * 1024 * 1024
"""Bytes of parts that `-j auto` keeps in memory, where four of them are not more."""

_COMPARING = "comparing the stream with what is up"

_ANEW = "anew"
"""Among a journal's options: its upload id had died, and another one was begun."""


class StreamWishes(NamedTuple):
    """What is expected of a stream.

    Attributes:
        size: bytes it will probably have, for the bar; None where nobody knows.
        exact_size: bytes it must have, or nothing is made of it.
        from_pause: it begins at the pause offset; what was before is taken on trust.
    """

    size: int | None = None
    exact_size: int | None = None
    from_pause: bool = False


def _passed(number: int, journal: str | None) -> StreamPassed:
    return StreamPassed(
        f"part {number} is not up, and the stream is past it: it is needed from its beginning",
        part=number,
        hint=f"the whole stream | ufile resume {journal}" if journal else None,
    )


class StreamUpload(Upload):
    """The upload of one stream in parts.

    Args:
        reader: of an earlier attempt in this process, which still holds what was not
            acknowledged; None to begin reading the source.
    """

    def __init__(
        self,
        record: Record,
        source: StreamSource,
        client: Client,
        options: Options,
        context: Context,
        wishes: StreamWishes | None = None,
        *,
        reader: StreamReader | None = None,
    ) -> None:
        super().__init__(record, client, options, context)
        self.reader = reader
        self._source = source
        self.wishes = wishes or StreamWishes()
        self._continued = reader is not None

    def size(self) -> int:
        size = self.record.document.stream_size
        if size is None:
            raise RuntimeError("the end of the stream was not seen yet")
        return size

    def there_already(self) -> Completed | None:
        if self.record.document.stream_size is None:
            return None  # no end was ever seen, so no Finish was ever sent
        return super().there_already()

    def transfer(self) -> None:
        while True:
            try:
                self._pass()
                break
            except StreamPassed as passed:
                try:
                    self.prepare_again()
                except SourceError:
                    raise passed from None
        self.resumed = True
        self._continued = True

    def _pass(self) -> None:
        """Take what the stream has from here on."""
        parts = self.record.parts
        if parts is None:
            raise RuntimeError("there is no upload id yet")
        if self.reader is not None and self.reader.block_size != parts.block_size:
            self.prepare_again()  # what it holds was cut for the upload id before this one
        if self.reader is None:
            first = parts.pause if self.wishes.from_pause else 0
            if self.wishes.from_pause and not first and self.record.document.options.get(_ANEW):
                raise _passed(0, self.record.journal_id)
            threads = self.options.threads
            if self.drive.concurrency is not None:
                # Each part in flight is a part in memory.
                threads = min(threads, max(FEWEST, _AUTO_MEMORY // self._block_size()))
                self.drive.concurrency.limit(threads)
            self.reader = StreamReader(self._source, self._block_size(), threads + 1, first=first)
        reader = self.reader
        # A replay that was given up half-way goes on as one.
        replay = self.resumed and (not self._continued or self.record.held_back)
        if replay and parts.end > reader.first:
            self.record.hold_back()
        for number in reader.passed(parts.pause):
            if not self.record.accounted_for(number):
                raise _passed(number, self.record.journal_id)
        self._tell()
        feed = _StreamFeed(self, reader, listed=not self.resumed, replay=replay)
        reader.attach(self.drive.inbox.put)
        try:
            self.drive.run(feed)
        except BaseException:
            reader.detach(feed.flying())
            self._drop_messages()
            raise

    def _drop_messages(self) -> None:
        """What the reader said and nobody took: whoever attaches next is told of it anew."""
        others: list[object] = []
        inbox = self.drive.inbox
        while not inbox.empty():
            message = inbox.get()
            if not isinstance(message, PartRead | StreamEnded | ReaderFailed):
                others.append(message)
        for message in others:
            inbox.put(message)

    def _start_over(self, why: str) -> None:
        # From here on the pause is at 0: a stream from where it was until now must not be taken
        # for one from its beginning.
        self.record.document.options[_ANEW] = True
        super()._start_over(why)

    def own_etag(self) -> str | None:
        parts = self.record.parts
        if parts is not None and self._block_size() % BLOCK == 0:
            digests = parts.all_digests(self._parts())
            return object_etag(digests) if digests is not None else None
        return self.reader.whole_etag() if self.reader is not None else None

    def unchanged(self) -> bool:
        return True  # what was sent was hashed as it passed, and it passes but once

    def prepare_again(self) -> None:
        """Begin reading anew, for a new upload id or parts that the server has lost.

        Raises:
            SourceError: the stream can't be read again.
        """
        reader = self.reader
        if reader is not None and reader.block_size == self._block_size() and reader.holds_all():
            return
        can = not self.wishes.from_pause and self._source.can_rewind()
        if can and reader is not None:
            reader.stop()  # two threads must not read it
        if not (can and self._source.rewind()):
            journal = self.record.journal_id
            again = f"the stream from its beginning | ufile resume {journal}" if journal else None
            raise SourceError(
                "earlier bytes of the stream are needed again, and it can't be read again",
                hint=again,
            )
        self.reader = None
        self._continued = False

    def close(self) -> None:
        """Read no further."""
        if self.reader is not None:
            self.reader.close()

    def _tell(self) -> None:
        if self.told:
            return
        self.told = True
        document, parts = self.record.document, self.record.parts
        done = len(parts) if parts is not None else 0
        size = document.total if document.total is not None else self.wishes.exact_size
        exact = size is not None
        self.context.progress.parts_reused = done
        self.context.emit(
            Started(
                journal_id=self.record.journal_id,
                bucket=document.bucket,
                key=document.key,
                name=self._source.name,
                size=size if exact else self.wishes.size,
                block_size=self._block_size(),
                parts=None,
                bytes_done=done * self._block_size(),
                parts_done=done,
                threads=self.options.threads,
                resumed=self.resumed,
                size_exact=exact,
            )
        )


class _StreamFeed:
    """Parts as they come from the reader, judged in order; those to send become tasks."""

    def __init__(
        self, upload: StreamUpload, reader: StreamReader, *, listed: bool, replay: bool
    ) -> None:
        self._upload = upload
        self._reader = reader
        self._listing = Listing()
        if listed:
            self._listing.page((), truncated=False, next_marker=None)
        self._fetching = False
        self._arrived: deque[PartRead] = deque()
        self._sending: set[int] = set()
        self._ended: int | None = None
        parts = upload.record.parts
        self._known_end = parts.end if parts is not None and replay else 0
        self._lost: dict[int, bytes] = {}
        # Until this part has compared equal, what is sent is provisional.
        self._last_known = reader.last_before(self._known_end)
        if self._last_known is None:
            upload.record.confirm()
        else:
            size = self._known_end * reader.block_size
            upload.context.emit(Checking(_COMPARING, size))

    # -- the feed ------------------------------------------------------------------------------

    def exhausted(self) -> bool:
        return self._ended is not None and not self._arrived

    def message(self, message: object) -> None:
        if self._upload.context.stop.asked():
            return  # Ctrl-C ends the producer too: what comes then is not the end of the stream
        if isinstance(message, PartRead):
            self._arrived.append(message)
        elif isinstance(message, StreamEnded):
            self._end(message.size)
        elif isinstance(message, ReaderFailed):
            raise message.error
        else:
            raise RuntimeError(f"a stream upload does not expect {message!r}")

    def next(self) -> Task | None:
        if self._upload.wishes.from_pause and not self._listing.knows(self._reader.first):
            return self._page()  # before anything is sent: are the trusted parts there?
        while self._arrived:
            if not self._listing.knows(self._arrived[0].number):
                return self._page()
            task = self._judge(self._arrived.popleft())
            if task is not None:
                return task
        return None

    def flying(self) -> list[int]:
        """Parts that may still be under way."""
        return list(self._sending)

    # -- the server's list -----------------------------------------------------------------------

    def _page(self) -> Task | None:
        if self._fetching:
            return None
        self._fetching = True
        fetch = self._upload.calls.page_job(self._listing)
        begin = 0 if self._listing.marker is None else self._listing.marker + 1

        def done(answer: object) -> None:
            self._fetching = False
            self._upload.calls.take_page(self._listing, answer)  # type: ignore[arg-type]
            self._drop_lost(begin)

        return Task(fetch, done, "the part list")

    def _drop_lost(self, begin: int) -> None:
        """Parts that the journal has and the server has not; their digests stay for comparing."""
        parts = self._upload.record.parts
        if parts is None or not self._listing.available:
            return
        covered = self._listing.covered
        end = parts.end if covered is None else min(covered, parts.end)
        lost = []
        for number in range(begin, end):
            if number not in parts:
                continue
            found = self._listing.peek(number)
            size = self._length_of(number, found.size if found is not None else None)
            verdict = judge(parts.etag(number), found, listed=True, size=size)
            if verdict is not Verdict.KEEP:
                lost.append(number)
                digests = parts.digests(number)
                if digests is not None:
                    self._lost[number] = digests
        if not lost:
            return
        for number in lost:
            if not self._reader.has(number):
                raise _passed(number, self._upload.record.journal_id)
        self._upload.lost((number, self._reader.block_size) for number in lost)
        self._upload.record.forget(lost)

    def _length_of(self, number: int, found: int | None) -> int:
        """Bytes that a part has to have; the last one's is what it has while no end was seen."""
        total = self._upload.record.document.total
        block_size = self._reader.block_size
        parts = self._upload.record.parts
        if total is not None:
            return max(0, min(block_size, total - number * block_size))
        if parts is not None and number == parts.end - 1 and found is not None:
            return min(found, block_size)
        return block_size

    # -- one part --------------------------------------------------------------------------------

    def _judge(self, part: PartRead) -> Task | None:
        self._compare(part)
        number, upload = part.number, self._upload
        parts = upload.record.parts
        found = self._listing.take(number)
        journalled = parts.etag(number) if parts is not None else None
        verdict = judge(journalled, found, listed=self._listing.available, size=len(part))
        if (
            verdict is Verdict.KEEP
            and number < self._known_end
            and parts is not None
            and parts.digests(number) is None
        ):
            verdict = Verdict.SEND  # an opaque ETag alone can't tell whose bytes these are
        task = None
        if verdict is Verdict.KEEP:
            self._reader.release(part)
        elif (
            verdict is Verdict.CHECK
            and found is not None
            and found.etag is not None
            and matches_part(found.etag, part.digests)
        ):
            upload_id = upload.record.document.uploadid or ""
            upload.record.acknowledge(upload_id, number, found.etag, part.digests)
            upload.adopted(number, len(part))
            self._reader.release(part)
        else:
            task = self._send(part)
        self._compared(number)
        return task

    def _compare(self, part: PartRead) -> None:
        """Refuse a stream that is not the one that was begun."""
        upload, number = self._upload, part.number
        offset = number * self._reader.block_size
        document, parts = upload.record.document, upload.record.parts
        if offset + len(part) > MAX_OBJECT_SIZE:
            raise SourceError("the stream is longer than the 5 TB that an object holds")
        exact = upload.wishes.exact_size
        if exact is not None and offset + len(part) > exact:
            raise SourceError(f"the stream is longer than the {exact:,} bytes of --exact-size")
        if len(part) < self._reader.block_size:
            check_exact(offset + len(part), exact)  # a short part is the end; it is not sent then
        if document.stream_size is not None and offset + len(part) > document.stream_size:
            raise StreamDiffers(
                f"the stream is longer than the {document.stream_size:,} bytes it had before",
                part=number,
                offset=offset,
            )
        if number >= self._known_end:
            return
        known = self._lost.get(number) or (parts.digests(number) if parts is not None else None)
        if known is not None and known != part.digests:
            raise StreamDiffers(
                f"this is not the stream that was begun: it differs in part {number}, "
                f"bytes {offset:,} to {offset + len(part) - 1:,}",
                part=number,
                offset=offset,
            )

    def _compared(self, number: int) -> None:
        if number >= self._known_end:
            return
        done = (number + 1) * self._reader.block_size
        self._upload.context.emit(Checked(_COMPARING, done))
        if number == self._last_known:
            self._last_known = None
            self._upload.record.confirm()
            self._upload.context.emit(CheckingDone(_COMPARING))
            self._settle()

    def _send(self, part: PartRead) -> Task:
        upload, number = self._upload, part.number
        self._sending.add(number)
        sent = upload.progress_of(number, len(part))

        def done() -> None:
            self._sending.discard(number)
            self._reader.release(part)

        return upload.send_task(
            number,
            len(part),
            lambda: BufferBody(part.content, part.digests, upload.limit, sent),
            done,
        )

    # -- the end ---------------------------------------------------------------------------------

    def _end(self, size: int) -> None:
        upload, document = self._upload, self._upload.record.document
        block_size, known = self._reader.block_size, document.stream_size
        if known is not None and size == self._reader.first * block_size:
            size = min(size, known)  # nothing came from the pause on; the last part is a short one
        check_exact(size, upload.wishes.exact_size)
        count = -(-size // block_size)
        if size == 0 and self._known_end:
            raise StreamDiffers("the stream is empty, but parts of it were up already")
        if size == 0:
            raise StreamDiffers("the stream is empty: it has no parts", part=0, offset=0)
        if count < self._known_end or (known is not None and size < known):
            raise StreamDiffers(
                f"the stream ended early, after {size:,} bytes: more than that was up already",
                part=count,
                offset=size,
            )
        self._ended = size
        if self._last_known is None:
            self._settle()

    def _settle(self) -> None:
        """Write down where the stream ends; a wrong replay, not found out yet, must not say it."""
        upload, document, size = self._upload, self._upload.record.document, self._ended
        if size is None:
            return
        count = -(-size // self._reader.block_size)
        upload.context.progress.parts = count
        if document.stream_size is None:
            document.end_seen, document.stream_size = True, size
            upload.record.save()
        upload.context.emit(SizeKnown(size, count))


def check_exact(size: int, exact: int | None) -> None:
    """Make sure that a stream that has ended has the length it must have.

    Raises:
        SourceError: it has another one.
    """
    if exact is not None and size != exact:
        raise SourceError(
            f"the stream ended after {size:,} bytes, not the {exact:,} of --exact-size: "
            "no object was made"
        )


def first_block(source: StreamSource) -> tuple[bytes, bool]:
    """Read up to one block and a byte; whether the stream ended within the block.

    What does not end there is put back, to be read again.

    Raises:
        UFileError: as reading does; a command that failed, too.
    """
    content = bytearray(BLOCK + 1)
    view, filled = memoryview(content), 0
    while filled < len(content):
        got = source.read_into(view[filled:])
        if got == 0:
            source.ended_well()
            view.release()
            return bytes(content[:filled]), True
        filled += got
    view.release()
    source.unread(bytes(content))
    return b"", False
