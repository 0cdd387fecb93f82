"""Which renderer: what `--progress` and `--quiet` mean, in one place.

It imports a renderer only when that one is chosen, so that nobody pays for rich without bars.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Literal, Protocol, get_args

from ufile_cli.progress.events import Event

__all__ = ["MODES", "Mode", "Renderer", "Silent", "draws_bars", "open_renderer"]

Mode = Literal["auto", "bars", "plain", "json", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Renderer(Protocol):
    """A sink to be used inside its own context: it draws from entering to leaving."""

    def __call__(self, event: Event, /) -> None: ...

    def __enter__(self) -> Renderer: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Silent:
    """The renderer of `none` and `--quiet`."""

    def __call__(self, _event: Event, /) -> None:
        return None

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def draws_bars(mode: Mode, *, stream: IO[str] | None, quiet: bool = False) -> bool:
    """Whether `open_renderer` draws bars there: then nobody else may write to that terminal."""
    if quiet or mode not in ("auto", "bars") or stream is None:
        return False
    return _cursor_moves(stream)


def open_renderer(
    mode: Mode,
    *,
    stream: IO[str] | None,
    quiet: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    name: str = "",
    size: int | None = None,
) -> Renderer:
    """The renderer for `mode` on `stream` (standard error; None where that is closed).

    `auto` is bars on a terminal, else plain. Bars on what has no cursor to move (a file, a pipe,
    TERM=dumb) are plain lines too. `quiet` is stronger than any mode. `name` and `size` are what is
    known of the one upload before it starts.

    Raises:
        ValueError: `mode` is none of `MODES`.
    """
    if mode not in MODES:
        raise ValueError(f"no progress mode {mode!r}")
    if quiet or mode == "none" or stream is None or stream.closed:
        return Silent()
    if mode == "json":
        from ufile_cli.progress.jsonlines import JsonLines

        return JsonLines(stream, monotonic=monotonic, wall=wall)
    if not draws_bars(mode, stream=stream):
        from ufile_cli.progress.plain import Plain

        return Plain(stream, monotonic=monotonic, wall=wall, name=name, size=size)
    from ufile_cli.progress.bars import Bars

    return Bars.on(stream, monotonic=monotonic, wall=wall, name=name, size=size)


def _cursor_moves(stream: IO[str]) -> bool:
    """Whether bars can be drawn again in place."""
    try:
        return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    except (OSError, ValueError):
        return False
