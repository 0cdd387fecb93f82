"""`ufile status`: the journals, as a table, one in full, or JSON. Looks, and changes nothing.

Old receipts are not read: a document without a part log is one, and its file's time says its age.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from ufile_cli.cli.options import (
    Server,
    Verbosity,
    complete_journals,
    server_options,
    verbosity_options,
)
from ufile_cli.cli.stores import Damaged, age, looks, open_store, seconds_of, way_on
from ufile_cli.errors import JournalDamaged, UsageError
from ufile_cli.journal.store import Store, View
from ufile_cli.progress import text

__all__ = ["command"]

_OLD = 7 * 86400.0
_WIDE = 120
_COLOURS = {
    "running": "cyan",
    "interrupted": "yellow",
    "paused": "yellow",
    "failed": "red",
    "damaged": "red",
    "finished": "green",
}


@click.command(
    "status",
    epilog="""\b
Examples:
  ufile status
  ufile status 7k2m9xqa
  ufile status --watch
  ufile status --remote backups
  ufile status --json | jq -r '.[] | select(.state == "paused") | .journal_id'
""",
)
@click.argument("journal_id", required=False, shell_complete=complete_journals)
@click.option("--all", "every", is_flag=True, help="Receipts older than 7 days too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, on standard output.")
@click.option("--watch", is_flag=True, help="Bars of what other processes upload, until Ctrl-C.")
@click.option(
    "--remote",
    metavar="BUCKET",
    help="The unfinished uploads that the server knows, and the journal of each.",
)
@server_options
@verbosity_options
def command(
    journal_id: str | None,
    every: bool,
    as_json: bool,
    watch: bool,
    remote: str | None,
    **values: Any,
) -> int:
    """Show what is running, interrupted, paused, failed and finished.

    With --watch and a JOURNAL_ID it ends when that upload does. The options from --profile on
    are for --remote alone; the journals need no server.
    """
    verbosity, server = Verbosity.of(values), Server.of(values)
    server.check()
    if watch and (as_json or remote is not None):
        raise UsageError("--watch goes with neither --json nor --remote")
    if remote is not None:
        if journal_id is not None:
            raise UsageError("--remote shows a bucket, not a journal")
        from ufile_cli.cli.logs import Log
        from ufile_cli.cli.remote import show_remote

        return show_remote(remote, server, Log(verbosity), as_json)
    store = open_store()
    if watch:
        from ufile_cli.cli.watch import watch as keep_watching

        return keep_watching(store, store.find(journal_id) if journal_id is not None else None)
    if journal_id is not None:
        return _one(store, store.find(journal_id), as_json)
    now = time.time()
    views = list(_shown(store, every, now))
    if as_json:
        from ufile_cli.cli.report import print_json

        print_json([_brief(view) for view in views])
        return 0
    if not views:
        click.echo("no uploads; ufile upload BUCKET KEY FILE begins one", err=True)
        return 0
    _table(views, now)
    return 0


def _shown(store: Store, every: bool, now: float) -> Iterator[View | Damaged]:
    """All journals, of the receipts those of the last days; old ones are not even read."""
    listing = store.listing()
    if not every:
        listing = [
            listed for listed in listing if not listed.receipt or now - listed.touched < _OLD
        ]
    for view in looks(store, listing):
        if (
            not every
            and isinstance(view, View)
            and view.state == "finished"
            and now - seconds_of(view.document.updated_at) > _OLD
        ):
            continue
        yield view


def _brief(view: View | Damaged) -> dict[str, Any]:
    """A document for JSON, with what is counted from the parts."""
    if isinstance(view, Damaged):
        return {
            "journal_id": view.journal_id,
            "state": "damaged",
            "path": view.path,
            "error": view.error,
        }
    document = view.document.fields(view.parts)
    if view.document.result is not None:  # of a receipt's parts none is listed, and all are up
        document["pausepartnumber"] = view.parts_done
    return document | {
        "state": view.state,
        "bytes_done": view.bytes_done,
        "parts_done": view.parts_done,
        "pause_offset": view.pause_offset,
        "pid": view.document.pid if view.held else None,
    }


def _one(store: Store, journal_id: str, as_json: bool) -> int:
    try:
        view = store.peek(journal_id)
    except JournalDamaged as error:
        if as_json:
            from ufile_cli.cli.report import print_json

            print_json(_brief(Damaged(journal_id, error.path, error.message, 0.0)))
        raise
    if as_json:
        from ufile_cli.cli.report import print_json

        etags = list(view.parts.etags()) if view.parts is not None else []
        print_json(_brief(view) | {"etaglist": etags})
        return 0
    rows = [(text.printable(name), text.printable(str(value))) for name, value in _rows(view)]
    width = max(text.columns(name) for name, _ in rows)
    for name, value in rows:
        click.echo(name + " " * (width + 2 - text.columns(name)) + value)
    return 0


def _rows(view: View) -> list[tuple[str, object]]:
    document = view.document
    rows: list[tuple[str, object]] = [
        ("journal id", document.journal_id),
        ("state", view.state + (f" (process {document.pid})" if view.held else "")),
        ("kind", document.kind),
        ("to", f"{document.bucket}/{document.key}"),
        ("endpoint", document.endpoint + (" (custom domain)" if document.custom_domain else "")),
        ("profile", document.profile or "-"),
        ("from", document.localfile or "a stream"),
        ("upload id", document.uploadid or "-"),
        ("done", f"{_done(view)} ({text.count(view.bytes_done)} bytes)"),
        ("parts", f"{text.count(view.parts_done)} of {_parts_of(view)}"),
        ("block size", f"{text.count(document.blocksize)} bytes" if document.blocksize else "-"),
        ("mime type", document.mime_type or "-"),
        ("storage class", document.storage_class or "the bucket's"),
    ]
    if view.state != "finished":
        missing = view.parts.pause if view.parts is not None else 0
        whole = document.total is not None and view.pause_offset == document.total
        first = "none: every part is up" if whole and missing else f"part {missing}"
        rows.insert(-2, ("first missing", first))
        rows.insert(-2, ("pause offset", f"byte {view.pause_offset}"))
    rows += [(f"meta {name}", value) for name, value in document.meta.items()]
    rows += [(f"header {name}", value) for name, value in document.header.items()]
    rows += [
        (f"--{name.replace('_', '-')}", _as_given(name, value))
        for name, value in document.options.items()
        if (value is not None or name == "patience") and name != "auto"
    ]
    rows += [
        ("begun", f"{document.created_at} on {document.host}"),
        ("last written", document.updated_at),
        ("journal", str(view.path)),
    ]
    if document.error is not None:
        rows.append(("why", document.error.get("message")))
        said = {name: document.error.get(name) for name in ("ret_code", "err_msg", "session_id")}
        rows += [(name, value) for name, value in said.items() if value is not None]
    if document.result is not None:
        rows += [(name, document.result.get(name)) for name in ("etag", "verified", "url")]
    if view.state != "finished" and not view.held:
        rows.append(("go on with", way_on(document)))
        rows.append(("give up with", f"ufile abort {document.journal_id}"))
    return rows


def _as_given(name: str, value: object) -> str:
    """An option of the journal as a person would have typed it, or nearly."""
    if name == "patience" and value is None:
        return "forever"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name == "patience":
            return _duration(value)
        if name in ("retry_interval", "timeout"):
            return f"{value:g} s"
        if name == "limit_rate":
            return text.rate(value)
        if name in ("size", "exact_size"):
            return f"{text.size(value)} ({text.count(int(value))} bytes)"
    return str(value)


def _duration(seconds: float) -> str:
    """As --patience takes it: `5m`, `90s`, `2h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _total(view: View) -> tuple[int | None, str]:
    """Bytes in all, and a mark where that is only what somebody expects (--size)."""
    document = view.document
    if document.total is not None:
        return document.total, ""
    for name, mark in (("exact_size", ""), ("size", "~")):
        expected = document.options.get(name)
        if type(expected) is int and expected >= max(1, view.bytes_done):
            return expected, mark
    return None, ""


def _parts_of(view: View) -> str:
    document = view.document
    if document.result is not None:
        return text.count(int(document.result.get("parts", 0)))
    total, mark = _total(view)
    if total is None or not document.blocksize:
        return "?"
    return mark + text.count(-(-total // document.blocksize))


def _percent(view: View) -> str:
    if view.document.result is not None:
        return "100%"
    total, mark = _total(view)
    if total is None:
        return "-"
    return f"{mark}{view.bytes_done * 100 // total if total else 100}%"


def _done(view: View) -> str:
    if view.document.result is not None:
        return text.size(view.bytes_done)
    return text.amount(view.bytes_done, _total(view)[0])


def _table(views: list[View | Damaged], now: float) -> None:
    """Two lines an upload on a narrow terminal, one on a wide one and where there is none."""
    rows = [_cells(view, now) for view in views]
    head = ("JOURNAL", "STATE", "DONE", "", "PARTS", "AGE", "PID")
    widths = [max(text.columns(row[0][i]) for row in [(head, ""), *rows]) for i in range(len(head))]
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns
    wide = not terminal or width >= _WIDE
    line = _line(head, widths)
    click.secho(line + "  FROM -> TO" if wide else line, bold=True)
    for cells, names in rows:
        line = _line(cells, widths, colour=terminal and not os.environ.get("NO_COLOR"))
        used = sum(widths) + 2 * (len(widths) - 1)
        if not wide:
            click.echo(line)
            click.echo("          " + text.fit(names, max(20, width - 11)))
        elif terminal:
            click.echo(f"{line}  {text.fit(names, max(20, width - used - 3))}")
        else:
            click.echo(f"{line}  {names}")


def _cells(view: View | Damaged, now: float) -> tuple[tuple[str, ...], str]:
    if isinstance(view, Damaged):
        old = age(now - view.touched)
        row = (text.printable(view.journal_id), "damaged", "-", "", "-", old, "-")
        return row, text.printable(view.error)
    document = view.document
    row = (
        document.journal_id,
        view.state,
        _done(view),
        _percent(view),
        f"{text.count(view.parts_done)}/{_parts_of(view)}",
        age(now - seconds_of(document.updated_at if document.result else document.created_at)),
        str(document.pid) if view.held else "-",
    )
    source = document.localfile or "a stream"
    return row, text.printable(f"{source} -> {document.bucket}/{document.key}")


def _line(cells: tuple[str, ...], widths: list[int], *, colour: bool = False) -> str:
    padded = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - text.columns(cell))
        shown = cell
        if colour and index == 1 and cell in _COLOURS:
            shown = click.style(cell, fg=_COLOURS[cell])
        padded.append(space + shown if index in (2, 3, 4, 5, 6) else shown + space)
    return "  ".join(padded).rstrip()
