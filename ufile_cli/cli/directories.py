"""`ufile upload -r BUCKET PREFIX DIRECTORY`: options and report; the walk is `multipart.tree`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ufile_cli.cli.beginning import begin, file_document
from ufile_cli.cli.logs import Log, redact, say
from ufile_cli.cli.options import Sending
from ufile_cli.cli.report import explain, print_json, tell_result
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.cli.stores import looks, open_store
from ufile_cli.cli.transfer import as_options, merged, shown_progress
from ufile_cli.connect import Connection, Connector
from ufile_cli.errors import NotFound, SourceError, UFileError, UsageError
from ufile_cli.etag import BLOCK
from ufile_cli.exitcodes import ExitCode, worst
from ufile_cli.journal.record import Record
from ufile_cli.journal.store import Store, View
from ufile_cli.multipart.files import FileUpload
from ufile_cli.multipart.request import Context, Options, Progress, Result
from ufile_cli.multipart.small import put, read_whole, refuse_empty
from ufile_cli.multipart.sources import FileSource
from ufile_cli.multipart.tree import Entry, Rules, TreeUpload, failure_of, walk
from ufile_cli.progress import text
from ufile_cli.us3.endpoints import check_key

__all__ = ["upload_directory"]

_SHOWN = 10
"""Failed files that are named one by one."""


def upload_directory(
    bucket: str,
    prefix: str,
    directory: str,
    *,
    patterns: tuple[tuple[bool, str], ...],
    skip_existing: bool,
    dry_run: bool,
    restart: bool,
    sending: Sending,
    connector: Connector,
    log: Log,
) -> int:
    """Upload a directory; the exit code is the worst of its files'.

    Args:
        patterns: as `Rules` takes them.
    """
    rules = Rules(patterns)
    if not Path(directory).exists():
        raise SourceError(f"{directory}: there is no such directory")
    if not Path(directory).is_dir():
        raise UsageError(f"{directory} is no directory", hint="without -r it is uploaded as a file")
    prefix = "" if prefix == "/" else prefix
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if prefix:
        check_key(prefix)
    chosen = merged(sending, {})
    options = as_options(chosen)
    store = open_store()
    begun = _begun(store)
    reused: list[int] = []  # parts of each file; workers append to it
    with connector.connect(
        bucket, threads=chosen["threads"], timeout=chosen["timeout"], log=log.request
    ) as connection:

        def upload_one(source: FileSource, key: str, options: Options, context: Context) -> Result:
            if problem := _key_problem(key):
                raise SourceError(f"it would become no object: {problem}")
            document = file_document(
                sending, connector, source, bucket=bucket, key=key, options=chosen
            )
            record = None
            if document.size is None or document.size > BLOCK or document.localfile in begun:
                record = begin(store, connector, sending, document, log, restart=restart)
            if record is None:
                small = Record(document, None)
                content = read_whole(source)
                return put(small, source.name, content, connection.client, options, context)
            try:
                refuse_empty(source.name, source.identity().size)
                done = FileUpload(record, source, connection.client, options, context).run()
                reused.append(done.parts_reused)
                return done
            finally:
                record.close()

        def etag_of(key: str) -> tuple[int, str] | None:
            if _key_problem(key):
                return None
            try:
                head = connection.client.head(key)
            except NotFound:
                return None
            return head.size, head.etag or ""

        def tree(context: Context) -> TreeUpload:
            return TreeUpload(
                directory,
                prefix,
                rules,
                options,
                context,
                upload_one,
                etag_of if skip_existing else None,
            )

        if dry_run:
            return _dry_run(
                tree(Context()), bucket, directory, rules, log, skip_existing, sending.as_json
            )
        return _run(tree, bucket, prefix, directory, connection, sending, log, reused)


def _begun(store: Store) -> set[str | None]:
    """The files of unfinished uploads: looked for once, not for each of many small files."""
    unfinished = [listed for listed in store.listing() if not listed.receipt]
    return {view.document.localfile for view in looks(store, unfinished) if isinstance(view, View)}


def _run(
    tree: Callable[[Context], TreeUpload],
    bucket: str,
    prefix: str,
    directory: str,
    connection: Connection,
    sending: Sending,
    log: Log,
    reused: list[int],
) -> int:
    error: UFileError | None = None
    SIGNALS.uploading = True
    with shown_progress(sending, log) as emit:
        context = Context(
            emit=emit, stop=SIGNALS.stop, rotated=connection.rotated, progress=Progress()
        )
        upload = tree(context)
        result = upload.result
        try:
            upload.run()
        except UFileError as ended:
            error = ended
    if log.verbosity.quiet or sending.progress == "none":  # else they were told as they failed
        for path, failure in result.failures[:_SHOWN]:
            _say(f"ufile: {path}: {failure.message}")
        if result.failed > _SHOWN:
            _say(f"ufile: … and {text.counted(result.failed - _SHOWN, 'file')} more failed")
    code = result.exit_code
    again = "go on with:    the same command with --skip-existing"
    if error is not None:
        explain(error, ways_on=(again,))
        code = error.code if error.code > 128 else worst([error.code, *result.codes])
    if not log.verbosity.quiet and sending.progress != "json":
        known = ""
        if up := sum(reused):
            known = f"; {text.counted(up, 'part')} {'was' if up == 1 else 'were'} up already"
        _say(
            f"{directory} -> {bucket}/{prefix}: {text.counted(result.sent, 'file')} sent "
            f"({text.size(result.bytes_sent)} in {text.took(result.seconds)}), "
            f"{text.count(result.skipped)} skipped, {text.count(result.failed)} failed{known}"
        )
    if result.failed and error is None:
        _say(f"  {again}")
    if sending.as_json:
        ended_by = error.as_json() if error is not None else None
        return tell_result(result.as_json() | {"exit_code": code, "error": ended_by}, code)
    return code


def _dry_run(
    tree: TreeUpload,
    bucket: str,
    directory: str,
    rules: Rules,
    log: Log,
    skip_existing: bool,
    as_json: bool,
) -> int:
    """What would be sent, a line each or as JSON, on standard output."""
    files = size = 0
    listed: list[dict[str, str | int]] = []
    failures: list[dict[str, object]] = []

    def fails(entry: Entry, problem: str) -> None:
        _say(f"ufile: {entry.relative}: {problem}")
        failures.append(failure_of(entry.relative, SourceError(problem)))

    for entry in walk(directory, rules, lambda line: _say(f"ufile: {line}")):
        if entry.problem is not None:
            fails(entry, entry.problem)
            continue
        if skip_existing and tree.is_there(entry):
            continue
        key = tree.key_of(entry)
        if problem := _key_problem(key):
            fails(entry, f"it would become no object: {problem}")
            continue
        files, size = files + 1, size + entry.size
        if as_json:
            listed.append({"path": entry.path, "key": key, "size": entry.size})
            continue
        key = text.printable(key)
        click.echo(f"{text.size(entry.size):>9}  {text.printable(entry.path)} -> {bucket}/{key}")
    if not log.verbosity.quiet:
        _say(f"{text.counted(files, 'file')}, {text.size(size)} would be sent")
    code = int(ExitCode.SOURCE) if failures else 0  # as the run itself will end
    if as_json:
        plan = {"files": listed, "bytes": size, "failures": failures}
        print_json(plan | {"exit_code": code, "error": None})
    return code


def _key_problem(key: str) -> str | None:
    """Why there can be no such key; of a long prefix and a deep path, say. One file, not all."""
    try:
        check_key(key)
    except UsageError as error:
        return error.message
    return None


def _say(line: str) -> None:
    say(redact(text.printable(line)))
