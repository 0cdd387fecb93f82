"""The journals in their directory: create, open, look at, find, list, remove.

`create` and `open` give a locked `JournalRecord`; `peek` and `listing` only look, take no lock
away from anybody, and read as other programs should: the log first, then the document.

Invariants: nobody deletes a damaged journal unasked; one journal at most is begun for the same
file and destination at the same time.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ufile_cli.errors import JournalBusy, JournalDamaged, JournalWriteError, UsageError
from ufile_cli.journal.document import (
    ID_ALPHABET,
    ID_LENGTH,
    Damage,
    JournalDocument,
    is_journal_id,
)
from ufile_cli.journal.durable import FileLayer, Lock, make_directory, remove
from ufile_cli.journal.partlog import read_log
from ufile_cli.journal.parts import PartTable
from ufile_cli.journal.record import JournalRecord, Record

__all__ = ["Listed", "Store", "View", "utc_now"]

MAX_DOCUMENT = 1 << 30
"""Bytes of a document or log that are read at most: 10 million parts need half of it."""


def utc_now() -> str:
    """The time, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class View(NamedTuple):
    """A journal as a looker sees it: document and log together.

    Attributes:
        held: whether some process works on it now.
        touched: when document or log were last written, seconds since the epoch.
    """

    document: JournalDocument
    parts: PartTable | None
    held: bool
    path: Path
    touched: float

    @property
    def state(self) -> str:
        """The state shown to a person: `interrupted` where it says running and nobody is."""
        if self.document.state == "running" and not self.held:
            return "interrupted"
        return self.document.state

    @property
    def bytes_done(self) -> int:
        """Bytes of the parts that are up; of a finished upload all of them."""
        document, parts = self.document, self.parts
        if document.result is not None:
            return int(document.result["size"])
        if parts is None:
            return 0
        done = len(parts) * parts.block_size
        if document.total is not None:
            done -= max(0, parts.end * parts.block_size - document.total)  # a short last part
        return done

    @property
    def parts_done(self) -> int:
        if self.document.result is not None:
            return int(self.document.result["parts"])
        return len(self.parts) if self.parts is not None else 0

    @property
    def pause_offset(self) -> int:
        """The byte of the source at which the first part begins that is not up."""
        if self.document.result is not None:
            return self.bytes_done
        if self.parts is None:
            return 0
        offset = self.parts.pause * self.parts.block_size
        total = self.document.total
        return offset if total is None else min(offset, total)


class Listed(NamedTuple):
    """A journal in the directory, not read yet.

    Attributes:
        path: as text, since ten thousand `Path`s cost more than the whole look.
        receipt: certainly of a finished upload (it has no part log).
        touched: when it was last written, seconds since the epoch.
    """

    journal_id: str
    path: str
    receipt: bool
    touched: float


class Store:
    """The journals of one state directory.

    Args:
        state_directory: `UFILE_STATE_DIR` or the user state directory; made when first written to.
    """

    def __init__(
        self,
        state_directory: Path,
        *,
        layer: FileLayer | None = None,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.directory = state_directory / "journals"
        self._layer = layer or FileLayer()
        self._now = now

    # -- beginning and opening ---------------------------------------------------------------

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Held while one looks for an unfinished journal and makes one where there is none.

        So that of two uploads of the same file, started at once, the second finds the first's.

        Raises:
            JournalWriteError: the directory can't be written.
        """
        make_directory(self.directory, self._layer)
        lock = Lock.acquire(self.directory / ".beginning.lock", self._layer, patience=30.0)
        if lock is None:
            raise JournalBusy("another process has been looking through the journals for 30 s")
        try:
            yield
        finally:
            lock.release()

    def create(self, document: JournalDocument, known: Record | None = None) -> JournalRecord:
        """Write a new journal, locked; its id is chosen here.

        Args:
            known: what is up already by the word of others; written down as well.

        Raises:
            JournalWriteError: before anything was sent.
        """
        make_directory(self.directory, self._layer)
        while True:
            journal_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
            if not self._path(journal_id).exists():
                break
        document.journal_id = journal_id
        lock = self._lock(journal_id)
        record = JournalRecord(document, None, self._path(journal_id), lock, self._layer, self._now)
        try:
            record.claim()
            if known is not None:
                self._take_over(record, known)
        except BaseException:
            record.close()
            raise
        return record

    @staticmethod
    def _take_over(record: JournalRecord, known: Record) -> None:
        parts, upload_id = known.parts, known.document.uploadid
        if parts is None or upload_id is None:
            return
        record.begin(upload_id, parts.block_size)
        for number in parts:
            etag = parts.etag(number)
            if etag is not None:
                record.acknowledge(upload_id, number, etag, parts.digests(number))

    def open(self, journal_id: str) -> JournalRecord:
        """Open a journal to work on it: locked, read, its torn tail cut, marked as running.

        Raises:
            JournalBusy: another process works on it.
            JournalDamaged: it can't be trusted.
            UsageError: there is none of this id.
        """
        record = self.open_quietly(journal_id)
        try:
            if record.document.state != "finished":
                record.claim()
        except BaseException:
            record.close()
            raise
        return record

    def open_quietly(self, journal_id: str) -> JournalRecord:
        """Open a journal, locked, but write nothing: to look before one decides, or to drop it."""
        path = self._path(journal_id)
        if not path.exists():
            raise UsageError(
                f"there is no journal {journal_id}", hint="ufile status shows those there are"
            )
        lock = self._lock(journal_id)
        try:
            document, parts = self._read(journal_id)
        except BaseException:
            lock.release()
            raise
        return JournalRecord(document, parts, path, lock, self._layer, self._now)

    def _lock(self, journal_id: str) -> Lock:
        lock = Lock.acquire(self._path(journal_id).with_suffix(".lock"), self._layer)
        if lock is not None:
            return lock
        who, since = "another process", ""
        try:
            document = self._read(journal_id)[0]
            who = f"process {document.pid} on {document.host}"
            since = f" since {document.updated_at}"
        except (JournalDamaged, OSError, UsageError):
            pass
        raise JournalBusy(
            f"{who} is working on upload {journal_id}{since}",
            hint=f"wait for it, or see: ufile status {journal_id}",
        )

    # -- looking -------------------------------------------------------------------------------

    def peek(self, journal_id: str) -> View:
        """Look at a journal without locking it.

        Raises:
            JournalDamaged: it can't be trusted.
            UsageError: there is none of this id.
        """
        path = self._path(journal_id)
        # First the lock, then the files: a process that ends in between has written by then.
        held = Lock.is_held(path.with_suffix(".lock"), self._layer)
        document, parts = self._read(journal_id)
        return View(document, parts, held, path, _touched(path))

    def look(self, listed: Listed) -> View:
        """As `peek`, at a third of the cost for a receipt: it has neither log nor holder.

        Raises:
            JournalDamaged, UsageError: as `peek` does.
        """
        if listed.receipt:
            try:
                document, parts = JournalDocument.parse(_read_file(listed.path), listed.journal_id)
            except (OSError, Damage):
                return self.peek(listed.journal_id)  # which says what is wrong with it
            if document.state == "finished":
                return View(document, parts, False, Path(listed.path), listed.touched)
        return self.peek(listed.journal_id)

    def listing(self) -> list[Listed]:
        """What lies in the directory, oldest first; reads no journal."""
        names: dict[str, os.DirEntry[str]] = {}
        logs: set[str] = set()
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    name = entry.name
                    if name.endswith(".json") and not name.startswith("."):
                        names[name[:-5]] = entry
                    elif name.endswith(".parts.jsonl"):
                        logs.add(name[:-12])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalWriteError(
                f"the journals can't be read: {error.strerror} ({self.directory})",
                hint="name another directory in UFILE_STATE_DIR",
            ) from error
        found = []
        for journal_id, entry in names.items():
            try:
                touched = entry.stat(follow_symlinks=False).st_mtime
            except OSError:
                continue  # removed meanwhile
            found.append(Listed(journal_id, entry.path, journal_id not in logs, touched))
        found.sort(key=lambda listed: listed.touched)
        return found

    def find(self, prefix: str) -> str:
        """The one journal id that begins so.

        Raises:
            UsageError: none, or several.
        """
        wanted = prefix.lower()
        if not wanted or not all(character in ID_ALPHABET for character in wanted):
            raise UsageError(
                f"{prefix!r} is no journal id", hint="ufile status shows those there are"
            )
        matches = [
            listed.journal_id for listed in self.listing() if listed.journal_id.startswith(wanted)
        ]
        if wanted in matches:
            return wanted
        if not matches:
            raise UsageError(
                f"there is no journal {prefix}", hint="ufile status shows those there are"
            )
        if len(matches) > 1:
            shown = ", ".join(sorted(matches)[:5])
            raise UsageError(f"{prefix} is short for {len(matches)} journals: {shown}")
        return matches[0]

    def find_unfinished(
        self, *, endpoint: str, bucket: str, key: str, localfile: str
    ) -> str | None:
        """The unfinished journal of this file and destination, the latest of several."""
        for listed in reversed(self.listing()):
            if listed.receipt or not is_journal_id(listed.journal_id):
                continue
            try:
                document = self._read(listed.journal_id)[0]
            except (JournalDamaged, UsageError):
                continue
            if (
                document.state != "finished"
                and document.kind == "file"
                and (document.endpoint, document.bucket, document.key) == (endpoint, bucket, key)
                and document.localfile == localfile
            ):
                return listed.journal_id
        return None

    # -- clearing away ---------------------------------------------------------------------------

    def leftovers(self) -> dict[str, list[Path]]:
        """Logs, locks and interrupted rewrites that no document belongs to, by journal id."""
        try:
            names = {entry.name for entry in os.scandir(self.directory)}
        except OSError:
            return {}
        found: dict[str, list[Path]] = {}
        for name in sorted(names):
            stem = name.partition(".")[0]
            if is_journal_id(stem) and not name.endswith(".json") and f"{stem}.json" not in names:
                found.setdefault(stem, []).append(self.directory / name)
        return found

    def remove_leftovers(self) -> int:
        """Remove the leftovers that nobody holds the lock of; how many files."""
        removed = 0
        for stem, paths in self.leftovers().items():
            # Under its lock, and looked at again: somebody may be just beginning it.
            lock = Lock.acquire(self._path(stem).with_suffix(".lock"), self._layer, patience=0.0)
            if lock is None:
                continue
            try:
                if self._path(stem).exists():
                    continue
                for path in paths:
                    remove(path, self._layer)
                remove(lock.path, self._layer)
                removed += len(paths)
            finally:
                lock.release()
        return removed

    def drop_receipt(self, journal_id: str) -> bool:
        """Remove the journal of a finished upload; False where it is none, or somebody has it.

        Not flushed: a loss of power may bring receipts back, and that harms nobody.

        Raises:
            JournalDamaged, JournalWriteError: it stays.
        """
        path = self._path(journal_id)
        lock_path = path.with_suffix(".lock")
        if not path.exists():
            return False
        lock = Lock.acquire(lock_path, self._layer, patience=0.0)
        if lock is None:
            return False
        ours = False
        try:
            try:
                document = self._read(journal_id)[0]
            except UsageError:  # removed meanwhile
                ours = True
                return False
            if document.state != "finished":
                return False
            ours = True
            self._remove_files(path)
            return True
        finally:
            if ours:
                remove(lock_path, self._layer)
            lock.release()

    def forget(self, journal_id: str) -> None:
        """Remove a journal, damaged or not, without a word to any server.

        Raises:
            JournalBusy: a process works on it.
            JournalWriteError: it could not be removed.
            UsageError: there is none of this id.
        """
        path = self._path(journal_id)
        if not os.path.lexists(path):
            raise UsageError(
                f"there is no journal {journal_id}", hint="ufile status shows those there are"
            )
        lock = self._lock(journal_id)
        try:
            self._remove_files(path)
            remove(lock.path, self._layer, durably=True)
        finally:
            lock.release()

    def _remove_files(self, path: Path) -> None:
        """All of a journal but its lock, the document first: the rest means nothing without it."""
        for name in (path, path.with_suffix(".parts.jsonl")):
            remove(name, self._layer)

    # -- reading -------------------------------------------------------------------------------

    def _path(self, journal_id: str) -> Path:
        if "/" in journal_id or "\0" in journal_id:
            raise UsageError(f"{journal_id!r} is no journal id")
        return self.directory / f"{journal_id}.json"

    def _read(self, journal_id: str) -> tuple[JournalDocument, PartTable | None]:
        path = self._path(journal_id)
        log_path = path.with_suffix(".parts.jsonl")
        try:
            log_text = _read_file(log_path)
        except FileNotFoundError:
            log_text = b""
        except OSError as error:
            raise _damaged(log_path, f"it can't be read ({error.strerror or error})") from error
        try:
            text = _read_file(path)
        except FileNotFoundError as error:
            raise UsageError(
                f"there is no journal {journal_id}", hint="ufile status shows those there are"
            ) from error
        except OSError as error:
            raise _damaged(path, f"it can't be read ({error.strerror or error})") from error
        try:
            document, parts = JournalDocument.parse(text, journal_id)
            read_log(log_text, document.uploadid, document.rewrites, parts, document.most_parts)
        except Damage as error:
            raise _damaged(path, str(error)) from error
        return document, parts


def _touched(path: Path) -> float:
    """When the document or its log was last written."""
    touched = 0.0
    for name in (path, path.with_suffix(".parts.jsonl")):
        try:
            touched = max(touched, name.stat().st_mtime)
        except OSError:
            continue
    return touched


def _read_file(path: Path | str) -> bytes:
    """The content of a regular file of ours; links, devices and others' files are refused."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link") from error
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise OSError(0, "it belongs to another user")
        if status.st_mode & stat.S_IWOTH and _lets_others_in(path):
            # It says which file goes where: whoever writes it could have any file sent anywhere.
            raise OSError(0, "every user of this host can write to it; chmod 600 it if it is yours")
        if status.st_size > MAX_DOCUMENT:
            raise OSError(0, "it is too large for a journal")
        with os.fdopen(fd, "rb", closefd=False) as file:
            # Not read(MAX_DOCUMENT): it would have a gigabyte of memory mapped for each file. What
            # a log has grown by meanwhile is a torn tail, as it would be a moment earlier.
            return file.read(status.st_size)
    finally:
        os.close(fd)


def _lets_others_in(path: Path | str) -> bool:
    """Whether others can reach a file by way of its directory; ours have mode 0700."""
    return bool(Path(path).parent.stat().st_mode & stat.S_IXOTH)


def _damaged(path: Path, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"the journal {path} is damaged: {what}",
        path=str(path),
        hint=f"look at it, then: ufile abort --forget {path.name.split('.')[0]}",
    )
