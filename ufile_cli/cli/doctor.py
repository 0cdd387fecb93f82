"""`ufile doctor`: journals beside the server beside the files, and what is amiss between them.

It only looks: every finding comes with the command that mends it, and nothing is locked, sent or
removed. Exit code 1 where something was found; where a server could not be asked, its error's
code; else 0. What is as it should be but may be of interest (receipts, uploads that wait to be
gone on with) is a note, and counts for nothing.

An upload id counts as dead only where the server neither lists the upload nor its parts; a
server that cannot list is asked no further.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from ufile_cli.cli.asking import Asking
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Server, Verbosity, server_options, verbosity_options
from ufile_cli.cli.remote import abort_command, adopt_command, place_of, rfc3339
from ufile_cli.cli.stores import Damaged, age, looks, open_store, seconds_of, way_on
from ufile_cli.cli.transfer import connector_for
from ufile_cli.connect import Connector
from ufile_cli.errors import Refused, ServerError, ServerTrouble, Stopped, UFileError
from ufile_cli.exitcodes import ExitCode, worst
from ufile_cli.journal.document import Identity, JournalDocument
from ufile_cli.journal.store import Store, View
from ufile_cli.multipart.calls import cannot_list
from ufile_cli.progress import text
from ufile_cli.us3.response import RemoteUpload

__all__ = ["command"]

_PAGES = 20
"""Pages of a part list that are read to tell an orphan's size; beyond, it is `at least`."""


@click.command(
    "doctor",
    epilog="""\b
Examples:
  ufile doctor
  ufile doctor --bucket backups --profile work
  ufile doctor --json | jq -r '.findings[].commands[0]'
""",
)
@click.option(
    "--bucket", "buckets", multiple=True, metavar="NAME", help="Ask about this bucket as well."
)
@click.option("--offline", is_flag=True, help="Ask no server; journals and files alone.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, on standard output.")
@server_options
@verbosity_options
def command(buckets: tuple[str, ...], offline: bool, as_json: bool, **values: Any) -> int:
    """Find what lies around, each with the command that mends it.

    Looks at the journals, their files, and the unfinished uploads in every bucket that a journal
    or --bucket names. Changes nothing. Exit code 1 where something was found.
    """
    log, server = Log(Verbosity.of(values)), Server.of(values)
    server.check()
    examination = _Examination(open_store(), server, log)
    examination.journals()
    if not offline:
        examination.servers(buckets)
    code = examination.code()
    if as_json:
        from ufile_cli.cli.report import print_json

        print_json(
            {
                "findings": [asdict(finding) for finding in examination.findings],
                "notes": [asdict(note) for note in examination.notes],
                "exit_code": code,
            }
        )
    else:
        for finding in examination.findings:
            _show(finding, "yellow")
        if not log.verbosity.quiet:
            for note in examination.notes:
                _show(note, "cyan")
            if not examination.findings and code == 0:
                click.echo("nothing is amiss", err=True)
    return code


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is amiss, or worth knowing.

    Attributes:
        kind: `orphan`, `dead`, `source-gone`, `source-changed`, `damaged`, `leftovers`,
            `not-asked`; of notes `receipts`, `unfinished`.
        what: the sentence.
        age: seconds since it was begun or last touched, None where unknown.
        bytes: on the server or on disk, None where unknown.
        commands: what mends it, the gentlest first.
    """

    kind: str
    what: str
    journal_id: str | None = None
    bucket: str | None = None
    key: str | None = None
    uploadid: str | None = None
    started_at: str | None = None
    path: str | None = None
    age: float | None = None
    bytes: int | None = None
    commands: list[str] = field(default_factory=list)


def _show(finding: Finding, colour: str) -> None:
    facts = []
    if finding.age is not None:
        facts.append(f"{age(finding.age)} old")
    if finding.bytes is not None:
        facts.append(text.size(finding.bytes))
    about = f" ({', '.join(facts)})" if facts else ""
    click.echo(click.style(finding.kind, fg=colour) + about)
    click.echo(f"  {text.printable(finding.what)}")
    for line in finding.commands:
        click.echo(f"    {text.printable(line)}")


@dataclass(slots=True)
class _Place:
    """An endpoint as somebody, with the buckets to ask about.

    Attributes:
        document: of a journal there, whose settings count; None for those of the options.
    """

    document: JournalDocument | None
    buckets: set[str] = field(default_factory=set)


class _Examination:
    """What was found so far."""

    def __init__(self, store: Store, server: Server, log: Log) -> None:
        self.findings: list[Finding] = []
        self.notes: list[Finding] = []
        self._store = store
        self._server = server
        self._log = log
        self._now = time.time()
        self._codes: list[int] = []
        self._unfinished: list[View] = []
        self._places: dict[tuple[str, bool, str | None], _Place] = {}

    def code(self) -> int:
        """The exit code."""
        return worst([int(ExitCode.FAILED) if self._amiss() else 0, *self._codes])

    def _amiss(self) -> bool:
        return any(finding.kind != "not-asked" for finding in self.findings)

    # -- here ----------------------------------------------------------------------------------

    def journals(self) -> None:
        """The journals, and the files that they are of."""
        receipts = size = 0
        oldest = self._now
        for view in looks(self._store):
            if isinstance(view, Damaged):
                self._damaged(view)
                continue
            document = view.document
            place = document.endpoint, document.custom_domain, document.profile
            self._places.setdefault(place, _Place(document)).buckets.add(document.bucket)
            if document.state == "finished":
                receipts += 1
                size += _size_of(view.path)
                oldest = min(oldest, view.touched)
                continue
            self._unfinished.append(view)
            if not view.held and not self._source(view):
                self._waiting(view)
        if receipts:
            self.notes.append(
                Finding(
                    "receipts",
                    f"{text.counted(receipts, 'receipt')} of finished uploads",
                    age=self._now - oldest,
                    bytes=size,
                    commands=["ufile clean"],
                )
            )
        self._leftovers()

    def _damaged(self, damaged: Damaged) -> None:
        self.findings.append(
            Finding(
                "damaged",
                damaged.error,
                journal_id=damaged.journal_id,
                path=damaged.path,
                age=self._now - damaged.touched,
                bytes=_size_of(Path(damaged.path)),
                commands=[f"ufile abort --forget {damaged.journal_id}"],
            )
        )

    def _waiting(self, view: View) -> None:
        document = view.document
        self.notes.append(
            self._of(
                view,
                "unfinished",
                f"upload {document.journal_id} ({document.bucket}/{document.key}) is {view.state}",
                way_on(document),
                f"ufile abort {document.journal_id}",
            )
        )

    def _of(self, view: View, kind: str, what: str, *commands: str) -> Finding:
        document = view.document
        return Finding(
            kind,
            what,
            journal_id=document.journal_id,
            bucket=document.bucket,
            key=document.key,
            uploadid=document.uploadid,
            started_at=document.created_at,
            path=document.localfile,
            age=self._now - seconds_of(document.created_at),
            bytes=view.bytes_done,
            commands=list(commands),
        )

    def _source(self, view: View) -> bool:
        """Whether something is wrong with the file of an upload that waits."""
        document = view.document
        if document.kind != "file" or document.localfile is None:
            return False
        name = document.journal_id
        try:
            status = Path(document.localfile).stat()
        except OSError as error:
            self.findings.append(
                self._of(
                    view,
                    "source-gone",
                    f"upload {name}: {document.localfile}: {error.strerror or error}",
                    f"ufile resume {name} --file PATH",
                    f"ufile abort {name}",
                )
            )
            return True
        identity = Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if document.source is None or document.source == identity:
            return False
        was = document.size or 0
        how = (
            f"has {identity.size:,} bytes now and had {was:,}"
            if identity.size != was
            else "was touched since; resuming compares what was sent"
        )
        self.findings.append(
            self._of(
                view,
                "source-changed",
                f"upload {name}: {document.localfile} {how}",
                f"ufile resume {name}",
                f"ufile resume {name} --resend-changed",
                f"ufile abort {name}",
            )
        )
        return True

    def _leftovers(self) -> None:
        found = self._store.leftovers()
        paths = [path for its in found.values() for path in its]
        if not paths:
            return
        touched = [path.stat().st_mtime for path in paths if path.exists()]
        self.findings.append(
            Finding(
                "leftovers",
                f"{text.counted(len(paths), 'stray file')} that no journal belongs to: "
                + ", ".join(path.name for path in paths[:3])
                + (", …" if len(paths) > 3 else ""),
                path=str(self._store.directory),
                age=self._now - min(touched, default=self._now),
                bytes=sum(map(_size_of, paths)),
                commands=["ufile clean"],
            )
        )

    # -- there ---------------------------------------------------------------------------------

    def servers(self, named: tuple[str, ...]) -> None:
        """The unfinished uploads in every bucket that is known, beside the journals."""
        if named:
            self._named(named)
        for place in self._places.values():
            try:
                # A journal lies where it says; options are for the buckets of --bucket.
                where = self._server
                if place.document is not None:
                    where = Server(profile=self._server.profile)
                connector = connector_for(where, self._log, document=place.document)
            except UFileError as error:
                for bucket in sorted(place.buckets):
                    self._not_asked(bucket, error)
                continue
            try:
                for bucket in sorted(place.buckets):
                    self._bucket(connector, bucket, place)
            finally:
                connector.close()

    def _named(self, buckets: tuple[str, ...]) -> None:
        """The buckets of --bucket lie where options, environment and profile say."""
        connector = connector_for(self._server, self._log)
        connector.close()
        endpoint, profile = connector.endpoint, connector.settings.profile
        key = endpoint.canonical, endpoint.custom_domain, profile
        self._places.setdefault(key, _Place(None)).buckets.update(buckets)

    def _not_asked(self, bucket: str, error: UFileError) -> None:
        if isinstance(error, Stopped):
            raise error
        self._codes.append(error.code)
        self.findings.append(
            Finding(
                "not-asked",
                f"the server could not be asked about the bucket {bucket}: {error.message}",
                bucket=bucket,
                commands=[error.hint] if error.hint else [],
            )
        )

    def _bucket(self, connector: Connector, bucket: str, place: _Place) -> None:
        try:
            with Asking(connector, bucket, self._log) as asking:
                uploads = list(asking.uploads())
                # Read again: what has begun since must not be taken for an orphan.
                ids = {view.document.uploadid for view in _unfinished(self._store)}
                for upload in uploads:
                    if upload.upload_id not in ids:
                        self._orphan(asking, bucket, upload, place)
                listed = {upload.upload_id for upload in uploads}
                for view in self._mine(bucket, connector):
                    if view.document.uploadid not in listed:
                        self._perhaps_dead(asking, view)
        except UFileError as error:
            self._not_asked(bucket, error)

    def _mine(self, bucket: str, connector: Connector) -> Iterator[View]:
        for view in self._unfinished:
            document = view.document
            if (
                document.bucket == bucket
                and document.endpoint == connector.endpoint.canonical
                and document.uploadid is not None
                and not view.held
            ):
                yield view

    def _orphan(self, asking: Asking, bucket: str, upload: RemoteUpload, place: _Place) -> None:
        size, whole = _bytes_up(asking, upload.upload_id)
        least = "" if whole else "; at least this size"
        document = place.document
        where = self._server if document is None else Server(profile=self._server.profile)
        options = place_of(where, document)
        self.findings.append(
            Finding(
                "orphan",
                f"the server has an upload of {bucket}/{upload.key} that no journal here knows"
                f"{least}; it may be another machine's",
                bucket=bucket,
                key=upload.key,
                uploadid=upload.upload_id,
                started_at=rfc3339(upload.started_at),
                age=None if upload.started_at is None else self._now - upload.started_at,
                bytes=size,
                commands=[
                    adopt_command(bucket, upload, options),
                    abort_command(bucket, upload, options),
                ],
            )
        )

    def _perhaps_dead(self, asking: Asking, view: View) -> None:
        """Not listed; dead only if its parts can't be had either."""
        document = view.document
        upload_id = document.uploadid or ""
        try:
            asking.ask("the part list", lambda: asking.client.list_parts(upload_id, limit=1))
            return
        except (Refused, ServerTrouble) as error:
            if cannot_list(error) or not isinstance(error, Refused):
                return
        name = document.journal_id
        self.notes[:] = [note for note in self.notes if note.journal_id != name]
        self.findings.append(
            self._of(
                view,
                "dead",
                f"upload {name} ({document.bucket}/{document.key}): the server no longer has it, "
                f"{text.counted(view.parts_done, 'part')} will be sent again",
                f"ufile resume {name}",
                f"ufile abort {name}",
            )
        )


def _unfinished(store: Store) -> Iterator[View]:
    for view in looks(store, [listed for listed in store.listing() if not listed.receipt]):
        if isinstance(view, View):
            yield view


def _bytes_up(asking: Asking, upload_id: str) -> tuple[int | None, bool]:
    """Bytes of an upload's parts, and whether that is all of them."""
    size = 0
    marker: int | None = None
    try:
        for _ in range(_PAGES):
            page = asking.ask(
                "the part list",
                lambda marker=marker: asking.client.list_parts(upload_id, marker=marker),  # type: ignore[misc]
            )
            size += sum(part.size or 0 for part in page.parts)
            if not page.truncated:
                return size, True
            marker = page.next_marker
    except ServerError:
        return None, True
    return size, False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
