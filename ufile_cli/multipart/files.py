"""Uploading a file: parts read where they lie, in any order, as often as needed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ufile_cli.errors import SourceChanged, SourceError, UFileError
from ufile_cli.etag import BLOCK, BlockHasher, matches_part, object_etag
from ufile_cli.multipart.body import FileBody, hash_file_part
from ufile_cli.multipart.drive import Task
from ufile_cli.multipart.plan import Plan, check_size
from ufile_cli.multipart.reconcile import Found, Listing, Verdict, judge
from ufile_cli.multipart.request import Context, Options
from ufile_cli.multipart.small import refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.multipart.upload import Upload
from ufile_cli.progress.events import Checked, Checking, CheckingDone, Notice, Started

if TYPE_CHECKING:
    from ufile_cli.journal.record import Record
    from ufile_cli.us3.client import Client

__all__ = ["FileUpload"]

_CHANGES_AT_MOST = 5
"""How often a file may change under `--resend-changed` before the upload gives up on it."""

_EQUAL_PASSES = 2
"""How often all that was sent has to be found in a file that is touched without end."""


class FileUpload(Upload):
    """The upload of one file in parts."""

    def __init__(
        self,
        record: Record,
        source: FileSource,
        client: Client,
        options: Options,
        context: Context,
    ) -> None:
        super().__init__(record, client, options, context)
        self._source = source
        self._identity = source.identity()
        self._etag: str | None = None
        self._changes = 0
        self._equal_passes = 0
        check_size(self._identity.size)

    def size(self) -> int:
        return self._identity.size

    def transfer(self) -> None:
        document = self.record.document
        plan = Plan(self.size(), self._block_size())
        self.context.progress.parts = plan.count
        self._tell(plan)
        refuse_empty(self._source.name, self.size())
        looked = self.resumed and document.source != self._identity
        before = (self.context.progress.parts_sent, self.context.progress.parts_changed)
        if looked:
            self._look_for_changes()
        # Only now, after the comparison: a wrong --file must not stick in the journal.
        path = str(self._source.path)
        known = (document.source, document.size, document.localfile)
        if known != (self._identity, self._identity.size, path):
            self.record.set_source(path, self._identity)
            self.record.save()
        parts = self.record.parts
        if parts is not None and parts.end > plan.count:
            self.surplus = True
            self.record.forget(range(plan.count, parts.end))
        feed = _FileFeed(self, self._source, plan, listed=not self.resumed)
        self._etag = None
        self.drive.run(feed)
        self.resumed = True
        after = (self.context.progress.parts_sent, self.context.progress.parts_changed)
        self._equal_passes = self._equal_passes + 1 if looked and before == after else 0

    def own_etag(self) -> str | None:
        if self._etag is not None:
            return self._etag
        parts = self.record.parts
        if parts is not None and self._block_size() % BLOCK == 0:
            digests = parts.all_digests(self._parts())
            if digests is not None:
                self._etag = object_etag(digests)
                return self._etag
        self._etag = self._hash_all()
        return self._etag

    def unchanged(self) -> bool:
        identity = self._source.identity()
        if identity == self._identity:
            return True
        if identity.size == self._identity.size and self._equal_passes >= _EQUAL_PASSES:
            # Links, attributes, a network file system's clock: content is what counts, and each
            # time that it was read again it was what was sent.
            return True
        if not self._equal_passes:
            self._changes += 1
        if self._changes > _CHANGES_AT_MOST:
            raise SourceChanged(f"{self._source.name} keeps changing while it is uploaded")
        self._identity = identity
        return False

    # -- telling, hashing ----------------------------------------------------------------------

    def _tell(self, plan: Plan) -> None:
        if self.told:
            return
        self.told = True
        document, parts = self.record.document, self.record.parts
        done = len(parts) if parts is not None else 0
        bytes_done = done * plan.block_size
        if parts is not None and plan.count - 1 in parts:
            bytes_done -= plan.block_size - plan.length(plan.count - 1)
        self.context.progress.parts_reused = done
        self.context.emit(
            Started(
                journal_id=self.record.journal_id,
                bucket=document.bucket,
                key=document.key,
                name=self._source.name,
                size=plan.size,
                block_size=plan.block_size,
                parts=plan.count,
                bytes_done=bytes_done,
                parts_done=done,
                threads=self.options.threads,
                resumed=self.resumed,
            )
        )

    def _hash_all(self) -> str:
        """The object's ETag by reading the file once more."""
        what = "hashing the file"
        size = self.size()
        self.context.emit(Checking(what, size))

        def job() -> str:
            hasher = BlockHasher()
            while hasher.size < size:
                length = min(64 * BLOCK, size - hasher.size)
                hash_file_part(
                    self._source, hasher.size, length, hasher, stopped=self.context.stop.asked
                )
                self.context.emit(Checked(what, hasher.size))
            return hasher.etag()

        etag = self.drive.call(what, job, remote=False)
        self.context.emit(CheckingDone(what))
        return etag

    def _look_for_changes(self) -> None:
        """The file is not known to be the one whose parts were sent: hash those again.

        Raises:
            SourceChanged: a part has other content now, and `--resend-changed` was not asked for.
        """
        parts = self.record.parts
        if parts is None or not len(parts):
            return
        feed = _HashFeed(self, self._source, Plan(self.size(), self._block_size()))
        what = "the file was touched: hashing what was sent"
        self.context.emit(Checking(what, feed.total))
        feed.what = what
        self.drive.run(feed)
        self.context.emit(CheckingDone(what))
        if any(number >= self._parts() for number in feed.changed):
            self.surplus = True
        if not feed.changed:
            return
        if not self.options.resend_changed:
            journal = self.record.journal_id
            number = min(feed.changed)
            raise SourceChanged(
                f"{self._source.name} has changed since part {number} was sent "
                f"(at byte {number * self._block_size():,})",
                part=number,
                hint=(
                    "--resend-changed keeps the parts that are still the same; "
                    "ufile upload --restart begins anew"
                    if journal
                    else None
                ),
            )
        self.context.progress.parts_changed += len(feed.changed)
        plan = Plan(self.size(), self._block_size())
        self.lost(
            (number, plan.length(number) if number < plan.count else plan.block_size)
            for number in feed.changed
        )
        self.record.forget(feed.changed)
        self.context.emit(
            Notice(
                "1 part has changed since and is sent again"
                if len(feed.changed) == 1
                else f"{len(feed.changed):,} parts have changed since and are sent again"
            )
        )


class _FileFeed:
    """Parts to send, in order, as fast as the server's list says which those are.

    Pages of the list are fetched by the same workers that send parts, one ahead of the work; a
    part is judged when its page is there.
    """

    def __init__(self, upload: FileUpload, source: FileSource, plan: Plan, *, listed: bool) -> None:
        self._upload = upload
        self._source = source
        self._plan = plan
        self._listing = Listing()
        if listed:
            # A new upload id: nothing is there, and nothing needs to be asked.
            self._listing.page((), truncated=False, next_marker=None)
        self._fetching = False
        self._next = 0
        self._ready: deque[Task] = deque()

    def exhausted(self) -> bool:
        return not self._ready and self._next >= self._plan.count

    def message(self, message: object) -> None:
        raise RuntimeError(f"a file upload does not expect {message!r}")

    def next(self) -> Task | None:
        if self._ready:
            return self._ready.popleft()
        while self._next < self._plan.count:
            if not self._listing.knows(self._next):
                return self._page()
            number = self._next
            self._next += 1
            task = self._judge(number)
            if task is not None:
                return task
        return None

    def _page(self) -> Task | None:
        if self._fetching:
            return None
        self._fetching = True
        fetch = self._upload.calls.page_job(self._listing)

        def done(answer: object) -> None:
            self._fetching = False
            self._upload.calls.take_page(self._listing, answer)  # type: ignore[arg-type]
            if any(self._listing.beyond(self._plan.count)):
                self._upload.surplus = True
            self._drop_lost()

        return Task(fetch, done, "the part list")

    def _drop_lost(self) -> None:
        """Parts of this page that the journal has and the server has lost: written down at once."""
        parts = self._upload.record.parts
        covered = self._listing.covered
        if parts is None or not self._listing.available:
            return
        end = parts.end if covered is None else min(covered, parts.end)
        lost = [
            number
            for number in range(self._next, end)
            if number in parts
            and number < self._plan.count
            and self._verdict(number, self._listing.peek(number)) is not Verdict.KEEP
        ]
        if lost:
            self._upload.lost((number, self._plan.length(number)) for number in lost)
            self._upload.record.forget(lost)

    def _verdict(self, number: int, found: Found | None) -> Verdict:
        parts = self._upload.record.parts
        journalled = parts.etag(number) if parts is not None else None
        size = self._plan.length(number) if number < self._plan.count else -1
        return judge(journalled, found, listed=self._listing.available, size=size)

    def _judge(self, number: int) -> Task | None:
        found = self._listing.take(number)
        verdict = self._verdict(number, found)
        length = self._plan.length(number)
        if verdict is Verdict.KEEP:
            return None
        if verdict is Verdict.CHECK and found is not None and found.etag is not None:
            return self._check_task(number, length, found.etag)
        return self._send_task(number)

    def _check_task(self, number: int, length: int, etag: str) -> Task:
        """Hash our bytes of a part that the server has and the journal does not know."""
        upload, source, offset = self._upload, self._source, self._plan.offset(number)
        upload_id = upload.record.document.uploadid or ""

        def job() -> bool:
            hasher = BlockHasher()
            hash_file_part(
                source, offset, length, hasher, number=number, stopped=upload.context.stop.asked
            )
            digests = hasher.digests()
            if not matches_part(etag, digests):
                return False
            upload.record.acknowledge(upload_id, number, etag, digests)
            return True

        def done(ours: object) -> None:
            if ours:
                upload.adopted(number, length)
            else:
                self._ready.append(self._send_task(number))

        return Task(job, done, f"part {number}", number, remote=False)

    def _send_task(self, number: int) -> Task:
        upload = self._upload
        length = self._plan.length(number)
        offset = self._plan.offset(number)
        sent = upload.progress_of(number, length)
        return upload.send_task(
            number,
            length,
            lambda: FileBody(self._source, number, offset, length, upload.limit, sent),
        )


class _HashFeed:
    """Hash the parts that count as up again; which have changed is in `changed` afterwards.

    Attributes:
        total: bytes to hash.
        what: what progress calls it.
    """

    def __init__(self, upload: FileUpload, source: FileSource, plan: Plan) -> None:
        self._upload = upload
        self._source = source
        self._plan = plan
        parts = upload.record.parts
        self._numbers = iter(tuple(parts) if parts is not None else ())
        self._over = False
        self._hashed = 0
        self.changed: list[int] = []
        self.total = len(parts) * plan.block_size if parts is not None else 0
        self.what = ""

    def exhausted(self) -> bool:
        return self._over

    def message(self, message: object) -> None:
        raise RuntimeError(f"hashing does not expect {message!r}")

    def next(self) -> Task | None:
        parts = self._upload.record.parts
        number = next(self._numbers, None)
        if number is None or parts is None:
            self._over = True
            return None
        known = parts.digests(number)
        source, plan, upload = self._source, self._plan, self._upload

        def job() -> bool:
            if known is None or number >= plan.count:
                return False  # nothing to compare with, or the file no longer reaches so far
            hasher = BlockHasher()
            try:
                hash_file_part(
                    source,
                    plan.offset(number),
                    plan.length(number),
                    hasher,
                    number=number,
                    stopped=upload.context.stop.asked,
                )
            except SourceError as error:
                if isinstance(error, UFileError) and error.part is not None:
                    return False  # shorter than it was a moment ago
                raise
            return hasher.digests() == known

        def done(same: object) -> None:
            if not same:
                self.changed.append(number)
            self._hashed += plan.block_size
            upload.context.emit(Checked(self.what, min(self._hashed, self.total)))

        return Task(job, done, f"part {number}", number, remote=False)
