"""The memory of one upload while it runs: its document and its parts, kept in step with the disk.

`Record` is all the engine knows of journals; it keeps everything in memory and serves uploads
without a journal as it is. `JournalRecord` writes each change down as well. Workers call
`acknowledge` from their threads, everything else belongs to the coordinator; the one lock is in
here.

Invariant: what `acknowledge` returned from is in the kernel's hands, and is on disk after `flush`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ufile_cli.errors import JournalBusy, UFileError
from ufile_cli.etag import BLOCK, DIGEST_SIZE, part_etag
from ufile_cli.journal.document import Identity, JournalDocument, State
from ufile_cli.journal.durable import AppendFile, FileLayer, Lock, remove, replace
from ufile_cli.journal.partlog import CONFIRMED, head_line, part_line
from ufile_cli.journal.parts import PartTable

__all__ = ["JournalRecord", "Record"]


class Record:
    """One upload's document and parts, in memory.

    Attributes:
        document: the coordinator may read and set its fields; `save` makes them last.
        parts: the parts that count as up; None before the server gave an upload id.
    """

    def __init__(self, document: JournalDocument, parts: PartTable | None) -> None:
        self.document = document
        self.parts = parts
        self._lock = threading.Lock()
        self._provisional: dict[int, tuple[str, bytes | None]] = {}
        self._held_back = False

    @property
    def journal_id(self) -> str | None:
        """The journal's id; None where nothing is written down."""
        return None

    def begin(self, upload_id: str, block_size: int) -> None:
        """A (new) multipart upload: the parts of an earlier upload id are forgotten."""
        with self._lock:
            self.document.uploadid = upload_id
            self.document.blocksize = block_size
            self.parts = PartTable(block_size)
            self._provisional.clear()
            self._held_back = False
            self._rewrite()

    def acknowledge(
        self,
        upload_id: str,
        number: int,
        etag: str,
        digests: bytes | None,
    ) -> None:
        """The server has the part. Called by workers.

        Args:
            upload_id: what the part was sent under. A worker that comes home after its upload id
                was given up must not speak for the next one.
            digests: SHA-1 digests of the part's blocks, where they are known.

        Between `hold_back` and `confirm` the part is provisional: it does not count yet.
        """
        with self._lock:
            if self.parts is None or upload_id != self.document.uploadid:
                return
            if self._held_back:
                self._provisional[number] = (etag, digests)
            else:
                self.parts.record(number, etag, digests)
            self._append(number, etag, digests, self._held_back)

    def hold_back(self) -> None:
        """A replay begins: what is acknowledged from now on is provisional."""
        with self._lock:
            self._held_back = True

    def confirm(self) -> None:
        """The replayed stream is the one that was begun: provisional parts count from now on."""
        with self._lock:
            self._held_back = False
            if self.parts is None or not self._provisional:
                return
            for number, (etag, digests) in self._provisional.items():
                self.parts.record(number, etag, digests)
            self._provisional.clear()
            self._append_confirmed()

    @property
    def held_back(self) -> bool:
        """Whether a replay has begun that is not confirmed yet."""
        return self._held_back

    def accounted_for(self, number: int) -> bool:
        """Whether the part is up, or will count as up when the replay is confirmed."""
        with self._lock:
            return self.parts is not None and (number in self.parts or number in self._provisional)

    def carry_on(self, earlier: Record) -> None:
        """Take over what this process knows of the same upload beside the journal.

        A journal that is read again leaves out parts that are provisional; the process whose
        replay was interrupted, and goes on in it, still knows them.
        """
        with self._lock:
            if self.document.uploadid == earlier.document.uploadid:
                self._provisional = dict(earlier._provisional)
                self._held_back = earlier._held_back

    def forget(self, numbers: Iterable[int]) -> None:
        """These parts are not up after all (lost, or their content has changed)."""
        with self._lock:
            if self.parts is None:
                return
            for number in numbers:
                self.parts.drop(number)
            self._rewrite()

    def set_source(self, path: str, identity: Identity) -> None:
        """Where the file lies and what it is from now on; `save` makes it last."""
        self.document.localfile = path
        self.document.size = identity.size
        self.document.source = identity

    def save(self, state: State | None = None, error: dict[str, Any] | None = None) -> None:
        """Write everything down, with a new state where one is given."""
        with self._lock:
            if state is not None:
                self.document.state = state
                self.document.error = error
            self._rewrite()

    def finish(self, result: dict[str, Any]) -> None:
        """The object is there: what is left is a receipt."""
        with self._lock:
            self.document.state = "finished"
            self.document.error = None
            self.document.result = result
            self._rewrite()

    def flush(self) -> None:
        """Make all acknowledgements so far survive a loss of power."""

    def close(self) -> None:
        """Let go of it; another process may work on it from now on."""

    # What a record on disk does besides; all called with the lock held.

    def _rewrite(self) -> None:
        """Write the document anew."""

    def _append(self, number: int, etag: str, digests: bytes | None, provisional: bool) -> None:
        """Write one acknowledged part down."""

    def _append_confirmed(self) -> None:
        """Write down that the provisional parts count."""


class JournalRecord(Record):
    """A record with a journal on disk, whose kernel lock this process holds.

    Args:
        path: the document's path; the log's is derived from it.
        lock: held until `close`.
        now: gives the time, RFC 3339.

    Nothing is written before `save` or `begin`, which begin a new log; so a torn tail of the old
    one is gone with it.

    Every method that writes raises JournalWriteError, and JournalBusy where the lock file is no
    longer the one that was locked. After the first such error nothing is written any more: what
    is on disk then is good, and nobody knows what is not.
    """

    def __init__(
        self,
        document: JournalDocument,
        parts: PartTable | None,
        path: Path,
        lock: Lock,
        layer: FileLayer,
        now: Callable[[], str],
    ) -> None:
        super().__init__(document, parts)
        self.path = path
        self._file_lock: Lock | None = lock
        self._layer = layer
        self._now = now
        self._log: AppendFile | None = None
        self._log_lines = 0
        self._written = 0  # etags in the document on disk
        self._flushing = threading.Lock()
        self._replaced: list[AppendFile] = []  # logs that a flush may still be busy with
        self._broken: UFileError | None = None

    @property
    def journal_id(self) -> str | None:
        return self.document.journal_id

    def claim(self) -> None:
        """Write down that this process works on it from now on."""
        self.document.pid, self.document.host = os.getpid(), socket.gethostname()
        self.save("running")

    @property
    def log_path(self) -> Path:
        return self.path.with_suffix(".parts.jsonl")

    def flush(self) -> None:
        # Not under the record's lock: a slow fsync must not hold up acknowledgements. The log may
        # be exchanged meanwhile, but then everything in the old one is in the flushed document.
        with self._flushing:
            if self._broken is not None:
                raise self._broken
            lock, log = self._file_lock, self._log
            if lock is not None and log is not None:
                try:
                    self._must_be_ours(lock)
                    log.flush()
                except UFileError as error:
                    self._broken = error
                    raise
            self._close_replaced()

    def close(self) -> None:
        with self._flushing, self._lock:
            self._close_replaced()
            if self._log is not None:
                self._log.close()
                self._log = None
            if self._file_lock is not None:
                if self.document.state == "finished" and self._file_lock.still_ours():
                    remove(self._file_lock.path, self._layer)  # a receipt has no lock file
                self._file_lock.release()
                self._file_lock = None

    def drop(self) -> None:
        """Remove the journal for good; the record can't be used after it."""
        with self._flushing, self._lock:
            lock = self._file_lock
            if lock is None:
                return  # closed: without the lock it may be another process's
            self._must_be_ours(lock)
            self._close_replaced()
            if self._log is not None:
                self._log.close()
                self._log = None
            try:
                # The document first: a log or lock without one means nothing to anybody.
                remove(self.path, self._layer, durably=True)
                remove(self.log_path, self._layer)
                remove(lock.path, self._layer)
            except UFileError as error:
                self._broken = error
                raise
            lock.release()
            self._file_lock = None

    def _rewrite(self) -> None:
        lock = self._file_lock
        if lock is None:
            return  # closed while a late worker came home
        if self._broken is not None:
            raise self._broken
        try:
            self._must_be_ours(lock)
            self._write(lock)
        except UFileError as error:
            self._broken = error
            raise

    def _write(self, lock: Lock) -> None:
        document = self.document
        document.rewrites += 1
        document.updated_at = self._now()
        self._written = len(self.parts or ())
        finished = document.state == "finished"
        newborn = document.rewrites == 1
        head = [head_line(document.uploadid, document.rewrites)]
        for number, (etag, digests) in self._provisional.items():
            extra = self._extra(etag, digests)
            head.append(part_line(number, etag, extra, provisional=True))
        if newborn and not finished:
            replace(self.log_path, head, self._layer)  # only a receipt is without a log
        replace(self.path, document.chunks(self.parts), self._layer)
        # Only now a new log: until the document was durable, the old log was needed. A crash in
        # between leaves a log of an earlier rewrite, which is ignored.
        if not newborn and not finished:
            replace(self.log_path, head, self._layer)
        old, self._log = self._log, None
        if not finished:
            self._log = AppendFile(self.log_path, sum(map(len, head)), self._layer)
            self._log_lines = 0
        if old is not None:
            self._replaced.append(old)
            # A flush that is under way closes it when it is done.
            if self._flushing.acquire(blocking=False):
                try:
                    self._close_replaced()
                finally:
                    self._flushing.release()
        if finished:
            # A document without a log is a receipt: `status` need not read old ones.
            remove(self.log_path, self._layer)
            remove(lock.path, self._layer)

    def _must_be_ours(self, lock: Lock) -> None:
        if not lock.still_ours():
            raise JournalBusy(
                f"the lock file of upload {self.document.journal_id} was removed while this "
                "process held it, and another process may be at work",
                hint=f"see: ufile status {self.document.journal_id}",
            )

    def _close_replaced(self) -> None:
        while self._replaced:
            self._replaced.pop().close()

    def _append(self, number: int, etag: str, digests: bytes | None, provisional: bool) -> None:
        log = self._log_to_write()
        if log is None:
            return
        extra = self._extra(etag, digests)
        self._into_log(log, part_line(number, etag, extra, provisional=provisional))
        self._log_lines += 1
        # Geometric: each rewrite doubles the document, so n parts cost O(n) bytes in all.
        if self._log_lines >= max(1, self._written):
            self._rewrite()

    def _append_confirmed(self) -> None:
        log = self._log_to_write()
        if log is not None:
            self._into_log(log, CONFIRMED)

    def _log_to_write(self) -> AppendFile | None:
        """The log; None where there is none any more: closed, or finished."""
        if self._broken is not None and self._file_lock is not None:
            raise self._broken
        return self._log

    def _into_log(self, log: AppendFile, line: bytes) -> None:
        try:
            log.append(line)
        except UFileError as error:
            self._broken = error
            raise

    def _extra(self, etag: str, digests: bytes | None) -> bytes | None:
        """The digests, where a reader can't tell them from the ETag."""
        if self.parts is None or self.parts.block_size > BLOCK or digests is None:
            return digests
        plain = len(digests) == DIGEST_SIZE and etag == part_etag(digests)
        return None if plain else digests
