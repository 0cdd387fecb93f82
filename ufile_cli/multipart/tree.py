"""Directories: which files, under which keys, and all of them with the same few threads.

Decided here, since nobody else decides it:

- Links to files and to directories are followed; a directory that leads back to itself is skipped
  with a notice.
- A name that is not UTF-8 can't be a key: the file fails, the rest goes on.
- Sockets, FIFOs and devices are skipped with a notice; empty directories leave nothing behind,
  since an object store has no directories.
- A file that vanishes or can't be read fails, the rest goes on.

Files are walked lazily and twice, once to know how many and how much, once to send them, so that
memory does not grow with their number. Up to `threads` files are under way at once, each with
one part in flight; files of more than `threads` parts come last, one at a time, with all threads.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ufile_cli.errors import (
    CredentialsRefused,
    JournalWriteError,
    NetworkError,
    ServerTrouble,
    SourceError,
    Stopped,
    UFileError,
)
from ufile_cli.etag import BLOCK, BlockHasher
from ufile_cli.exitcodes import worst
from ufile_cli.multipart.body import hash_file_part
from ufile_cli.multipart.concurrency import FEWEST
from ufile_cli.multipart.drive import Drive, Task
from ufile_cli.multipart.ratelimit import RateLimit
from ufile_cli.multipart.request import Context, Options, Progress, Result
from ufile_cli.multipart.sources import FileSource
from ufile_cli.progress.events import (
    FileFailed,
    FileFinished,
    FileSkipped,
    Notice,
    Sink,
    TreeStarted,
    labelled,
)

__all__ = ["Entry", "Rules", "TreeResult", "TreeUpload", "failure_of", "walk"]

_GRACE = 3.3
_GRACE_INSIDE = 2.5
"""Seconds after a signal: each upload inside stops, writes its journal, and then all of it ends."""

_LARGE = 16
"""A file of more than this many blocks per thread gets all threads for itself."""

_REQUEST = 64 * 1024
"""Bytes that a request is worth to `-j auto`: small files cost more than their bytes."""


class Rules(NamedTuple):
    """--include and --exclude, in the order in which they were given; the last match wins.

    A pattern with a slash is matched against the path below the directory, one without against
    the name alone; `*` also matches slashes, as in rclone's `**`. Without any --include
    everything is in; where the first rule is an --include, everything else is out.
    """

    patterns: tuple[tuple[bool, str], ...] = ()

    def admits(self, relative: str) -> bool:
        """Whether a file of this path (with slashes, below the directory) is in."""
        admitted = not (self.patterns and self.patterns[0][0])
        name = relative.rpartition("/")[2]
        for included, pattern in self.patterns:
            subject = relative if "/" in pattern else name
            if fnmatchcase(subject, pattern.lstrip("/")):
                admitted = included
        return admitted


class Entry(NamedTuple):
    """A file that is in.

    Attributes:
        relative: its path below the directory, with slashes; also the end of its key.
        problem: why it can't be uploaded, None where it can.
    """

    path: str
    relative: str
    size: int
    problem: str | None = None


def walk(root: str, rules: Rules, notice: Callable[[str], None]) -> Iterator[Entry]:
    """The files below the directory, in the order of their names; nothing is kept in memory.

    Raises:
        SourceError: the directory itself can't be read.
    """
    try:
        status = Path(root).stat()
        entries = _sorted(root)
    except OSError as error:
        raise SourceError(f"{root}: {error.strerror or error}") from error
    yield from _walk(entries, "", rules, notice, ((status.st_dev, status.st_ino),))


def _walk(
    entries: list[os.DirEntry[str]],
    prefix: str,
    rules: Rules,
    notice: Callable[[str], None],
    above: tuple[tuple[int, int], ...],
) -> Iterator[Entry]:
    for entry in entries:
        relative = prefix + entry.name
        try:
            status = entry.stat()
        except OSError as error:
            if rules.admits(relative):
                yield Entry(entry.path, relative, 0, error.strerror or str(error))
            continue
        if stat.S_ISDIR(status.st_mode):
            place = (status.st_dev, status.st_ino)
            if place in above:
                notice(f"{relative}/ leads back to a directory above it: skipped")
                continue
            try:
                below = _sorted(entry.path)
            except OSError as error:
                yield Entry(entry.path, relative + "/", 0, error.strerror or str(error))
                continue
            yield from _walk(below, relative + "/", rules, notice, (*above, place))
        elif not rules.admits(relative):
            continue
        elif stat.S_ISREG(status.st_mode):
            yield Entry(entry.path, relative, status.st_size, _name_problem(relative))
        else:
            notice(f"{relative} is no regular file: skipped")


def _sorted(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _name_problem(relative: str) -> str | None:
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8, so it can't be a key"
    return None


@dataclass(slots=True)
class TreeResult:
    """What came of a directory.

    Attributes:
        failures: path below the directory, and why; at most a hundred are kept.
        codes: the exit codes of the files that failed, each once.
    """

    sent: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_sent: int = 0
    bytes_skipped: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, UFileError]] = field(default_factory=list)
    codes: set[int] = field(default_factory=set)

    @property
    def exit_code(self) -> int:
        """0, or the worst of the files'."""
        return worst(list(self.codes))

    def as_json(self) -> dict[str, Any]:
        """JSON types, every field."""
        return {
            "sent": self.sent,
            "skipped": self.skipped,
            "failed": self.failed,
            "bytes_sent": self.bytes_sent,
            "bytes_skipped": self.bytes_skipped,
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
            "failures": [failure_of(path, error) for path, error in self.failures],
        }


def failure_of(path: str, error: UFileError) -> dict[str, Any]:
    """A file that failed, for JSON."""
    return {"path": path, **error.as_json()}


UploadOne = Callable[[FileSource, str, Options, Context], Result]
"""Uploads one open file to a key; small or in parts, with a journal or not, is its business."""

EtagOf = Callable[[str], tuple[int, str] | None]
"""Size and ETag of the object of this key, None where there is none."""


class TreeUpload:
    """The upload of a directory.

    Args:
        upload: uploads one file.
        etag_of: asks the server about an object; None where nothing is to be skipped.
    """

    def __init__(
        self,
        root: str,
        prefix: str,
        rules: Rules,
        options: Options,
        context: Context,
        upload: UploadOne,
        etag_of: EtagOf | None,
    ) -> None:
        self._root = root
        self._prefix = prefix
        self._rules = rules
        self._options = options
        limit = RateLimit(options.limit_rate) if options.limit_rate else None
        self._context = replace(context, limit=limit)
        self._upload = upload
        self._etag_of = etag_of
        self.result = TreeResult()

    def run(self) -> TreeResult:
        """Upload every file that is in.

        Raises:
            Stopped: a signal asked to.
            UFileError: the directory can't be read, or something that every file would meet: the
                network, the credentials, a journal that can't be written.
        """
        files = size = 0
        for entry in walk(self._root, self._rules, lambda text: self._emit(Notice(text))):
            files, size = files + 1, size + entry.size
        begun = time.monotonic()  # where the progress that is shown begins as well
        self._emit(TreeStarted(files, size, Path(self._root).name or self._root))
        try:
            self._many()
            self._large()
        finally:
            self.result.seconds = time.monotonic() - begun
        return self.result

    def key_of(self, entry: Entry) -> str:
        """The key a file goes to."""
        return self._prefix + entry.relative

    @property
    def _emit(self) -> Sink:
        return self._context.emit

    def _is_large(self, entry: Entry) -> bool:
        threads = FEWEST if self._options.auto else self._options.threads
        return entry.size > _LARGE * threads * BLOCK

    def _many(self) -> None:
        """Files up to a moderate size, `threads` at once, each by one thread."""
        drive = Drive(
            threads=self._options.threads,
            auto=self._options.auto,
            policy=self._options.policy,
            stop=self._context.stop,
            emit=self._emit,
            grace=_GRACE,
        )
        entries = (
            entry
            for entry in walk(self._root, self._rules, lambda _: None)
            if not self._is_large(entry)
        )
        try:
            drive.run(_EntryFeed(self, entries))
        except _Ended as ended:
            raise ended.error from None
        finally:
            drive.close()

    def _large(self) -> None:
        """Large files, one after another, each by all threads."""
        for entry in walk(self._root, self._rules, lambda _: None):
            if self._is_large(entry):
                if self._context.stop.asked():
                    raise Stopped("stopped by a signal", signum=self._context.stop.signum or 15)
                self.settle(entry, self.attempt(entry, self._options))

    def attempt(self, entry: Entry, options: Options) -> Result | UFileError | str:
        """Upload one file: what came of it, or why it was skipped.

        Raises:
            UFileError: what every other file would meet as well.
        """
        if entry.problem is not None:
            return SourceError(entry.problem)
        context = replace(
            self._context,
            emit=labelled(self._emit, entry.relative),
            progress=Progress(),
            grace=_GRACE_INSIDE,
        )
        try:
            source = FileSource.open(entry.path)
            try:
                if self._same(source, entry):
                    return "the bucket has it with the same ETag"
                return self._upload(source, self.key_of(entry), options, context)
            finally:
                source.close()
        except (NetworkError, ServerTrouble, CredentialsRefused, JournalWriteError, Stopped):
            raise
        except UFileError as error:
            return error

    def is_there(self, entry: Entry) -> bool:
        """Whether the bucket has the file already, for a dry run.

        Raises:
            UFileError: the file can't be read, or the server can't be asked.
        """
        source = FileSource.open(entry.path)
        try:
            return self._same(source, entry)
        finally:
            source.close()

    def _same(self, source: FileSource, entry: Entry) -> bool:
        there = self._etag_of(self.key_of(entry)) if self._etag_of is not None else None
        identity = source.identity()
        if there is None or there[0] != identity.size or not there[1]:
            return False
        hasher = BlockHasher()
        hash_file_part(source, 0, identity.size, hasher, stopped=self._context.stop.asked)
        if identity.size == 0:
            return True  # the ETag of an empty object is of an undocumented form
        return hasher.etag() == there[1]

    def settle(self, entry: Entry, outcome: Result | UFileError | str) -> None:
        """Count what came of one file."""
        result = self.result
        if isinstance(outcome, Result):
            result.sent += 1
            result.bytes_sent += outcome.bytes_sent
            self._emit(FileFinished(entry.relative, entry.size))
        elif isinstance(outcome, str):
            result.skipped += 1
            result.bytes_skipped += entry.size
            self._emit(FileSkipped(entry.relative, entry.size, outcome))
        else:
            result.failed += 1
            result.codes.add(outcome.code)
            if len(result.failures) < 100:
                result.failures.append((entry.relative, outcome))
            self._emit(FileFailed(entry.relative, entry.size, outcome.message))


class _EntryFeed:
    """One task a file."""

    def __init__(self, tree: TreeUpload, entries: Iterator[Entry]) -> None:
        self._tree = tree
        self._entries = entries
        self._over = False

    def exhausted(self) -> bool:
        return self._over

    def message(self, message: object) -> None:
        raise RuntimeError(f"a directory does not expect {message!r}")

    def next(self) -> Task | None:
        entry = next(self._entries, None)
        if entry is None:
            self._over = True
            return None
        tree = self._tree
        options = replace(tree._options, threads=1, auto=False)

        def done(outcome: object) -> None:
            tree.settle(entry, outcome)  # type: ignore[arg-type]

        # The upload inside has its attempts and its patience; out here nothing is tried again.
        return Task(
            lambda: _final(tree, entry, options),
            done,
            entry.relative,
            remote=False,
            size=entry.size + _REQUEST,
        )


class _Ended(Exception):
    """Carries an error that ends the whole directory past the coordinator, which would try again
    what is transient."""

    def __init__(self, error: UFileError) -> None:
        super().__init__(error.message)
        self.error = error


def _final(tree: TreeUpload, entry: Entry, options: Options) -> Result | UFileError | str:
    try:
        return tree.attempt(entry, options)
    except Stopped as error:
        raise InterruptedError("stopping") from error
    except UFileError as error:
        raise _Ended(error) from error
