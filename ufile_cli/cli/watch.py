"""`ufile status --watch`: bars of what other processes upload, drawn from their journals alone.

Like watch(1) it goes on until Ctrl-C, and shows uploads that begin meanwhile; asked for one
journal, it ends when that upload does. Where no cursor can be moved, it prints a line whenever
something has changed. It locks nothing, and looks less often where looking takes long.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ufile_cli.cli.stores import Damaged, looks, seconds_of
from ufile_cli.errors import Stopped
from ufile_cli.exitcodes import ExitCode
from ufile_cli.journal.store import Store, View
from ufile_cli.progress import text

if TYPE_CHECKING:
    from rich.text import Text

    from ufile_cli.progress.bars import Canvas
    from ufile_cli.progress.tally import Row, State

__all__ = ["watch"]

_PAUSE = 0.5
_MEMORY = 20.0
"""Seconds over which the speed is measured; parts arrive in lumps."""
_ASLEEP = 1.5
"""Seconds of oversleeping that only a stopped process shows."""
_STEP = 10
"""Percent between two lines about one upload, where only lines can be printed."""


@dataclass(slots=True)
class _Watched:
    """One upload, from when it was first seen running."""

    view: View
    since: float
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    told: tuple[str, int] = ("", -1)

    def take(self, view: View, now: float) -> None:
        self.view = view
        done = view.bytes_done
        if self.samples and done < self.samples[-1][1]:
            self.samples.clear()  # it began anew
        self.samples.append((now, done))
        while len(self.samples) > 2 and now - self.samples[1][0] > _MEMORY:
            self.samples.popleft()

    @property
    def rate(self) -> float | None:
        (begun, before), (now, done) = self.samples[0], self.samples[-1]
        if now - begun < 1 or done == before:
            return None
        return (done - before) / (now - begun)

    def row(self) -> Row:
        from ufile_cli.progress.tally import Row

        view, document = self.view, self.view.document
        done, total, rate = view.bytes_done, document.total, self.rate
        finished = document.state == "finished"
        percent = None
        if total is not None:
            percent = 100 if finished else min(99, done * 100 // total if total else 0)
        left = None
        if rate and total is not None and not finished:
            left = (total - done) / rate
        name = Path(document.localfile).name if document.localfile else document.key
        return Row(
            name=f"{document.journal_id} {name}",
            done=done,
            size=total,
            percent=percent,
            rate=None if finished else rate,
            left=left,
            elapsed=max(0.0, time.time() - self._began()) if view.held else self._took(),
            state=_row_state(view),
        )

    def _began(self) -> float:
        return seconds_of(self.view.document.created_at)

    def _took(self) -> float:
        return seconds_of(self.view.document.updated_at) - self._began()


def _row_state(view: View) -> State:
    match view.state:
        case "finished" | "failed" | "interrupted" as state:
            return state
    return "running" if view.held else "paused"


def watch(store: Store, journal_id: str | None) -> int:
    """Show what runs until Ctrl-C; of one journal, until nobody works on it. The exit code."""
    from rich.console import Console

    from ufile_cli.progress.bars import Canvas

    canvas = Canvas(Console(file=sys.stdout))
    try:
        _keep_drawing(canvas, store, journal_id)
    except Stopped as stopped:
        return stopped.code  # that is how a watch ends, and nothing to talk about
    return int(ExitCode.OK)


def _keep_drawing(canvas: Canvas, store: Store, journal_id: str | None) -> None:
    watched: dict[str, _Watched] = {}
    last_words = ""
    away = False
    while True:
        begun = time.monotonic()
        idle = _look(store, journal_id, watched, begun)
        over = journal_id is not None and not any(one.view.held for one in watched.values())
        if canvas.moves:
            if canvas.in_front():
                if away:
                    canvas.forget()
                _draw(canvas, list(watched.values()), idle)
            away = not canvas.in_front()
        else:
            last_words = _print_changes(list(watched.values()), idle, last_words)
        if over or canvas.gone:
            break
        # Journals of a million parts take a second to read: look at them rarely then.
        away |= _rest(max(_PAUSE, 4 * (time.monotonic() - begun)))
    if journal_id is not None and not watched:
        click.echo(f"nobody works on upload {journal_id}", err=True)


def _rest(seconds: float) -> bool:
    """Sleep; whether it took so long that the process was stopped (Ctrl-Z): the shell has
    printed since, and the picture is not where it was."""
    before = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - before > seconds + _ASLEEP


def _look(
    store: Store, journal_id: str | None, watched: dict[str, _Watched], now: float
) -> dict[str, int]:
    """Take in what the journals say; how many others there are of each state."""
    others: dict[str, int] = {}
    listing = [
        listed
        for listed in store.listing()
        if (not listed.receipt or listed.journal_id in watched)
        and journal_id in (None, listed.journal_id)
    ]
    for view in looks(store, listing):
        if isinstance(view, Damaged):
            others["damaged"] = others.get("damaged", 0) + 1
            continue
        known = watched.get(view.document.journal_id)
        if known is None and view.held:
            known = watched[view.document.journal_id] = _Watched(view, now)
        if known is not None:
            known.take(view, now)
        elif view.state != "finished":
            others[view.state] = others.get(view.state, 0) + 1
    names = {listed.journal_id for listed in listing}
    for gone in [name for name in watched if name not in names]:
        del watched[gone]  # given up, or cleaned away
    return others


def _words(watched: list[_Watched], idle: dict[str, int]) -> str:
    running = sum(one.view.held for one in watched)
    words = [f"{running} running" if running else "nothing is running"]
    words += [f"{count} {state}" for state, count in sorted(idle.items())]
    return ", ".join(words)


def _draw(canvas: Canvas, watched: list[_Watched], idle: dict[str, int]) -> None:
    from rich.text import Text

    width, height = canvas.size
    foot = Text(text.clip(f"{_words(watched, idle)}; Ctrl-C ends", width), "dim")
    # Those that run come last, as they do on the way: what is over scrolls out first.
    ordered = sorted(watched, key=lambda one: (one.view.held, one.since))
    lines: list[Text] = canvas.rows([one.row() for one in ordered])
    room = max(1, height - 2)
    canvas.draw([*lines[-room:], foot])


def _print_changes(watched: list[_Watched], idle: dict[str, int], before: str) -> str:
    """A line for each upload that has come a step further, and one where the numbers changed."""
    for one in watched:
        row = one.row()
        now = (one.view.state, (row.percent or 0) // _STEP)
        if now != one.told:
            one.told = now
            amount = text.amount(row.done, row.size)
            percent = "" if row.percent is None else f" {row.percent}%"
            rate = "" if row.rate is None else f" {text.rate(row.rate)}"
            words = f"{row.name}: {one.view.state}{percent} {amount}{rate}"
            click.echo(text.printable(words))
    words = _words(watched, idle)
    if words != before:
        click.echo(words)
    sys.stdout.flush()
    return words
