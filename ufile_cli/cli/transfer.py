"""What upload, upload-stream and resume have in common: settings, options, progress, report.

The command functions parse, call and print; this is their shared middle.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ufile_cli.cli.logs import Log, keep_secret
from ufile_cli.cli.options import AUTO, Sending, Server
from ufile_cli.cli.report import (
    explain,
    failure_json,
    print_json,
    success_json,
    summary,
    tell_result,
    tell_unbegun,
)
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.connect import Connection, Connector
from ufile_cli.credentials import Credentials
from ufile_cli.errors import (
    CredentialsRefused,
    JournalBusy,
    SourceChanged,
    Stopped,
    UFileError,
    UsageError,
)
from ufile_cli.exitcodes import ExitCode
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.store import utc_now
from ufile_cli.multipart.concurrency import MOST
from ufile_cli.multipart.request import Context, Options, Progress, Result
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.progress.choose import open_renderer
from ufile_cli.progress.events import Notice, Sink
from ufile_cli.settings import Settings

if TYPE_CHECKING:
    from ufile_cli.progress.choose import Mode

__all__ = [
    "Undertaking",
    "as_journalled",
    "as_options",
    "connector_for",
    "headers_given",
    "json_on_failure",
    "merged",
    "new_document",
    "refuse_differences",
    "shown_progress",
]

_DEFAULTS: dict[str, Any] = {
    "threads": 4,
    "retries": 3,
    "retry_interval": 5.0,
    "patience": 300.0,
    "timeout": 60.0,
    "limit_rate": None,
}


def connector_for(
    server: Server, log: Log, *, document: JournalDocument | None = None
) -> Connector:
    """A connector for what options, journal, environment and profile say.

    Raises:
        NotConfigured: no endpoint or no keys.
        UsageError: an endpoint that can't be understood.
    """
    settings = Settings.gather(
        environ=os.environ,
        endpoint=server.endpoint,
        internal=server.internal,
        custom_domain=server.custom_domain,
        profile=server.profile,
        journal_endpoint=document.endpoint if document else None,
        journal_custom_domain=document.custom_domain if document else False,
        journal_profile=document.profile if document else None,
        warn=log.warn,
    )
    connector = Connector(replace(settings, keys=lambda: _kept_secret(settings.keys())))
    connector.check()
    if connector.endpoint.is_public_plain_http and not log.verbosity.quiet:
        log.warn(f"{settings.endpoint} is plain HTTP: what is sent can be read")
    return connector


def _kept_secret(pair: Credentials | None) -> Credentials | None:
    """Whatever key pair comes, later ones too, its private key is shown nowhere."""
    if pair is not None:
        keep_secret(pair.private_key)
    return pair


def merged(sending: Sending, journalled: Mapping[str, Any]) -> dict[str, Any]:
    """The options of this run: those given, else the journal's, else the defaults.

    A journal's options were checked when they were given; a wrong type there counts as absent.
    """
    chosen: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        given = getattr(sending, name)
        kept = journalled.get(name, default)
        if name == "patience" and kept is None:
            kept = float("inf")
        if isinstance(kept, bool) or not isinstance(kept, int | float | None):
            kept = default
        chosen[name] = kept if given is None else given
    given = sending.threads
    chosen["auto"] = journalled.get("auto") is True if given is None else given == AUTO
    if chosen["auto"]:
        chosen["threads"] = MOST
    return chosen


def as_journalled(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a journal keeps them: patience for ever is null, as JSON has no infinity."""
    kept = dict(chosen)
    if kept["patience"] == float("inf"):
        kept["patience"] = None
    if not kept["auto"]:
        del kept["auto"]
    return kept


def as_options(chosen: Mapping[str, Any], *, resend_changed: bool = False) -> Options:
    """What the engine takes."""
    patience = chosen["patience"]
    return Options(
        threads=int(chosen["threads"]),
        policy=RetryPolicy(
            attempts=int(chosen["retries"]),
            interval=float(chosen["retry_interval"]),
            patience=None if patience == float("inf") else float(patience),
        ),
        limit_rate=chosen["limit_rate"],
        resend_changed=resend_changed,
        auto=bool(chosen["auto"]),
    )


def new_document(
    sending: Sending,
    connector: Connector,
    *,
    kind: str,
    bucket: str,
    key: str,
    mime_type: str,
    options: Mapping[str, Any],
) -> JournalDocument:
    """The document of an upload that begins."""
    now = utc_now()
    return JournalDocument(
        journal_id="",
        kind="stream" if kind == "stream" else "file",
        bucket=bucket,
        key=key,
        endpoint=connector.endpoint.canonical,
        custom_domain=connector.endpoint.custom_domain,
        profile=connector.settings.profile,
        created_at=now,
        updated_at=now,
        mime_type=sending.mime_type or mime_type,
        storage_class=sending.storage_class,
        header=headers_given(sending),
        meta=meta_given(sending),
        options=as_journalled(options),
        end_seen=kind == "file",
    )


def headers_given(sending: Sending) -> dict[str, str]:
    """The headers of -H; of a repeated name all values, joined as HTTP does."""
    headers: dict[str, str] = {}
    for name, value in sending.header:
        if name.lower() == "content-type":
            raise UsageError("the Content-Type is set with --mime-type")
        known = next((known for known in headers if known.lower() == name.lower()), name)
        headers[known] = f"{headers[known]}, {value}" if known in headers else value
    return headers


def meta_given(sending: Sending) -> dict[str, str]:
    """The metadata of --meta, within the server's limit.

    Raises:
        UsageError: more than 8 KB in all, or a name twice.
    """
    meta: dict[str, str] = {}
    for name, value in sending.meta:
        if name in meta:
            raise UsageError(f"the metadata {name} is given twice")
        meta[name] = value
    total = sum(len(name) + len(value) for name, value in meta.items())
    if total > 8 * 1024:
        raise UsageError(f"the metadata has {total:,} bytes; the server takes 8 KB in all")
    return meta


def refuse_differences(sending: Sending, document: JournalDocument, way_out: str) -> None:
    """Make sure that an upload goes on as what it was begun as.

    Raises:
        UsageError: mime type, storage class or metadata were asked for and differ.
    """
    differing = []
    if sending.mime_type is not None and sending.mime_type != document.mime_type:
        differing.append(f"--mime-type (begun with {document.mime_type})")
    if sending.storage_class is not None and sending.storage_class != document.storage_class:
        differing.append(f"--storage-class (begun with {document.storage_class or 'none'})")
    if sending.meta and meta_given(sending) != document.meta:
        differing.append("--meta")
    if differing:
        raise UsageError(
            f"upload {document.journal_id} was begun with another {', '.join(differing)}",
            hint=way_out,
        )


@contextmanager
def json_on_failure(sending: Sending, *, bucket: str | None, key: str | None) -> Iterator[None]:
    """The result document for what fails before an upload begins: --json promises one."""
    try:
        yield
    except UFileError as error:
        if sending.as_json:
            tell_unbegun(error, bucket, key)
        raise


@contextmanager
def shown_progress(
    sending: Sending, log: Log, *, name: str = "", size: int | None = None
) -> Iterator[Sink]:
    """Progress on standard error; log lines go through it while it draws.

    Args:
        name, size: what is known of the one upload before the server has answered.
    """
    mode: Mode = sending.progress  # type: ignore[assignment]
    quiet = log.verbosity.quiet
    renderer = open_renderer(mode, stream=sys.stderr, quiet=quiet, name=name, size=size)
    plain_shown = log.shown
    with renderer:
        if not quiet and mode != "none":
            log.shown = lambda line: renderer(Notice(line))
        try:
            yield renderer
        finally:
            log.shown = plain_shown


class Undertaking:
    """One upload on the way from the command line to its report.

    Args:
        source: what a person calls the source.
        again: what to type after a failure where there is no journal.

    Attributes:
        journal_id: what `ufile resume` goes on with, once there is a journal.
        replay: how a person goes on, with `{}` for the resume command; a stream has to be
            piped again.
        progress: what was done, also after a failure.
        tell: takes the result document, where --json asks for one.
    """

    def __init__(
        self,
        sending: Sending,
        log: Log,
        *,
        bucket: str,
        key: str,
        source: str,
        size: int | None = None,
        again: str | None = None,
    ) -> None:
        self.sending = sending
        self.log = log
        self.bucket = bucket
        self.key = key
        self.source = source
        self.size = size
        self.again = again
        self.journal_id: str | None = None
        self.replay = "{}"
        self.tell: Callable[[object], None] = print_json
        self._keys_from: str | None = None
        self.progress = Progress()

    def connect(self, connector: Connector, chosen: Mapping[str, Any]) -> Connection:
        """A client for the bucket, with the options of this run, that logs its requests."""
        return connector.connect(
            self.bucket,
            threads=chosen["threads"],
            timeout=chosen["timeout"],
            log=self.log.request,
        )

    def run(self, connection: Connection, act: Callable[[Context], Result]) -> int:
        """Do it, and report; the exit code."""
        begun = time.monotonic()
        SIGNALS.uploading = True
        try:
            shown = shown_progress(self.sending, self.log, name=self.source, size=self.size)
            with shown as emit:
                context = Context(
                    emit=emit,
                    stop=SIGNALS.stop,
                    rotated=connection.rotated,
                    progress=self.progress,
                )
                result = act(context)
        except UFileError as error:
            self._keys_from = connection.keys_from
            return self.failed(error, time.monotonic() - begun)
        return self._finished(result)

    def _finished(self, result: Result) -> int:
        self.log.write(f"finished {result.bucket}/{result.key} etag {result.etag}", level=2)
        if not self.log.verbosity.quiet and self.sending.progress != "json":
            summary(result, source=self.source)
        if self.sending.as_json:
            return tell_result(success_json(result), 0, self.tell)
        return 0

    def failed(self, error: UFileError, seconds: float = 0.0) -> int:
        """Report a failure; its exit code."""
        self.log.write(f"failed: {error.message}", level=2)
        if SIGNALS.verbose >= 2:
            import traceback

            from ufile_cli.cli.logs import fit_to_show

            self.log.shown(fit_to_show("".join(traceback.format_exception(error))))
        ways_on = self._ways_on(error)
        if isinstance(error, CredentialsRefused) and self._keys_from is not None:
            ways_on = (f"the keys are those of {self._keys_from}", *ways_on)
        explain(error, ways_on=ways_on)
        if self.sending.as_json:
            document = failure_json(
                error,
                journal_id=self.journal_id,
                bucket=self.bucket,
                key=self.key,
                size=self.size,
                progress=self.progress,
                seconds=seconds,
            )
            return tell_result(document, error.code, self.tell)
        return error.code

    def _ways_on(self, error: UFileError) -> tuple[str, ...]:
        if isinstance(error, JournalBusy | UsageError):
            return ()
        if self.journal_id is not None:
            resume = self.replay.format(f"ufile resume {self.journal_id}")
            if isinstance(error, SourceChanged):
                resume += " --resend-changed"
            return (f"go on with:    {resume}", f"give up with:  ufile abort {self.journal_id}")
        retryable = (ExitCode.FAILED, ExitCode.TEMPORARY, ExitCode.CREDENTIALS)
        if error.code in retryable or isinstance(error, Stopped):
            small = "run the same command again (it is small: no journal is kept of it)"
            return (f"to try again: {self.again or small}",)
        return ()
