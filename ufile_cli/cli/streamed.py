"""What upload-stream and resume share about streams: where the bytes come from, and `--`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click

from ufile_cli.errors import UsageError
from ufile_cli.multipart.streams import CommandSource, DescriptorSource, StreamSource
from ufile_cli.progress.choose import draws_bars

if TYPE_CHECKING:
    from ufile_cli.cli.logs import Log
    from ufile_cli.cli.options import Sending
    from ufile_cli.progress.choose import Mode

__all__ = ["AfterDashes", "open_stream", "replay_words"]

_META = "ufile_cli.command"


class AfterDashes(click.Command):
    """A command that may end in `-- COMMAND [ARG…]`.

    Only what stands behind the dashes is a COMMAND: a file name typed by mistake in the place of
    one must not be run.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_META] = args[at + 1 :]
            if not ctx.meta[_META]:
                ctx.fail("a COMMAND is missing behind --")
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND [ARG]...]"]


def command_of(ctx: click.Context) -> list[str] | None:
    """What stood behind `--`, None where there was none."""
    return cast("list[str] | None", ctx.meta.get(_META))


def open_stream(
    command: Sequence[str] | None, usage: str, sending: Sending, log: Log
) -> StreamSource:
    """The output of the command, or standard input.

    Where bars are drawn they would draw over what the command says on the same terminal: there
    its lines go above them.

    Args:
        usage: what to type instead, where standard input is a terminal.

    Raises:
        UsageError: somebody sits at standard input, and probably does not mean to type an object.
        CommandFailed: the command can't be run.
    """
    if command is not None:
        mode: Mode = sending.progress  # type: ignore[assignment]
        drawn = draws_bars(mode, stream=sys.stderr, quiet=log.verbosity.quiet)
        # Looked up for each line: while bars are drawn, `shown` is theirs.
        return CommandSource(command, (lambda line: log.shown(line)) if drawn else None)
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("standard input is closed", hint=usage)
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe something into it", hint=usage)
    return DescriptorSource(sys.stdin.fileno())


def replay_words(command: Sequence[str] | None) -> str:
    """How a person goes on with a stream, with `{}` for the resume command."""
    if command is None:
        return "the same stream again | {}"
    return f"{{}} -- {command[0]}{' …' if len(command) > 1 else ''}"
