"""The command `ufile`: its subcommands, its signals, and the one place where errors end.

Commands are imported when they are called: `ufile --help` must not pay for requests. Every
failure leaves through `run`, as one short paragraph on standard error and an exit code of
`exitcodes.ExitCode`; no traceback reaches a person who did not ask for it with -v -v.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

import click

from ufile_cli._version import VERSION
from ufile_cli.cli.signals import SIGNALS
from ufile_cli.errors import Stopped, UFileError, UsageError
from ufile_cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["cli", "run"]

COMMANDS = {
    "upload": "Upload a file; run again after a failure, it goes on.",
    "upload-stream": "Upload standard input, or the output of a command.",
    "resume": "Go on with an upload that was interrupted.",
    "status": "Show what is running, interrupted, paused, failed and finished.",
    "abort": "Give an upload up: free its parts on the server, drop its journal.",
    "clean": "Drop the receipts of finished uploads.",
    "etag": "Print the US3 ETag of local files, as sha1sum does.",
    "verify": "Compare an object with a file.",
    "configure": "Store endpoint and keys as a profile, check and show them.",
    "doctor": "Find what lies around: orphans, dead ids, sources gone.",
    "serve": "Run a local US3-compatible server, to try out and to test against.",
    "completion": "Print what makes bash, zsh or fish complete this command.",
}
"""Each command with its line in `ufile --help`; its module is `ufile_cli.cli.<name>`."""

_ELSEWHERE = {
    "cp": "upload",
    "copy": "upload",
    "put": "upload",
    "sync": "upload -r",
    "rcat": "upload-stream",
    "ls": "status",
    "list": "status",
    "rm": "abort",
    "config": "configure",
    "login": "configure",
    "help": "--help",
}
"""What people type who come from rclone, the AWS CLI and the like."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed, and not for a list of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ufile_cli.cli.{cmd_name.replace('-', '_')}")
        return cast(click.Command, module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=words)
            for name, words in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        # Past click's own list of commands, which would import each of them.
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            meant = _ELSEWHERE.get(args[0]) or (near[0] if near else None)
            hint = f" Did you mean ufile {meant}?" if meant else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  ufile upload backups big.iso ./big.iso --endpoint cn-bj
  ufile status
  ufile resume --last
  ufile upload try-out hello ./hello.txt --endpoint local
""",
)
@click.version_option(VERSION, prog_name="ufile", message="%(prog)s %(version)s")
def cli() -> None:
    """Resumable uploads to UCloud's object storage US3 (UFile).

    A file goes up in parts; what is up is written to a journal on disk, so that an upload goes
    on where it stopped, even after kill -9 or a power cut.
    """


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and end the process with its exit code."""
    SIGNALS.install()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        SIGNALS.uploading = True  # or whatever it was: it is done
    except Stopped as late:  # while a failure was being told, say
        code = late.code
    unread = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            unread = True  # nobody is there to read it any more
        except AttributeError:
            pass  # closed before we began
    SIGNALS.ignore()
    if unread or threading.active_count() > 1:
        # The interpreter's own farewell would try the output again and end with 120; and it can
        # stumble over a worker, a daemon that may sit in a socket, that is just printing.
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, prog_name="ufile", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        if "--" in arguments:  # what stands behind is a COMMAND's own
            arguments = arguments[: arguments.index("--")]
        _usage(error, arguments)
        if "--json" in arguments and arguments[0] in ("upload", "upload-stream", "resume"):
            from ufile_cli.cli.report import tell_unbegun

            return tell_unbegun(UsageError(error.format_message()))
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        _say("\nufile: stopped")
        return int(ExitCode.SIGINT)
    except UFileError as error:
        from ufile_cli.cli.report import explain

        explain(error)
        _traceback_if_asked()
        return error.code
    except BrokenPipeError:
        # The reader of our standard output has enough (`ufile status | head`).
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, OSError) and not _can_be_written(sys.stdout):
            _say(f"ufile: standard output can't be written: {error.strerror}")
            return int(ExitCode.FAILED)
        from ufile_cli.cli.logs import redact
        from ufile_cli.progress.text import printable

        what = redact(f"{type(error).__name__}: {error}")
        _say(
            f"ufile: this is a bug of ufile itself: {printable(what)}\n"
            "  please report it with the output of the same command under -v -v"
        )
        _traceback_if_asked()
        return int(ExitCode.INTERNAL)


def _can_be_written(stream: TextIO | None) -> bool:
    """Whether what it still holds of a failed attempt gets out."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        return False
    return True


def _usage(error: click.ClickException, arguments: list[str]) -> None:
    from ufile_cli.progress.text import printable

    context = error.ctx if isinstance(error, click.UsageError) else None
    # click repeats what was typed as it was typed; a script may have put anything there.
    words = error.format_message().replace("\n\t", "\n  ").split("\n")
    _say("ufile: " + "\n".join(map(printable, words)))
    if any(argument.partition("://")[0] in ("us3", "ufile", "s3") for argument in arguments):
        _say("  bucket, key and file are three words: ufile upload BUCKET KEY FILE")
    if context is not None:
        _say(f"  see: {context.command_path} --help")


def _traceback_if_asked() -> None:
    if SIGNALS.verbose >= 2:
        import traceback

        from ufile_cli.cli.logs import fit_to_show

        _say(fit_to_show(traceback.format_exc()))


def _say(text: str) -> None:
    from ufile_cli.cli.logs import say

    say(text)
