"""The types of options and the groups of them that several commands share. Parses, does nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "AGE",
    "AUTO",
    "DURATION",
    "HEADER",
    "META",
    "RATE",
    "SECONDS",
    "SIZE",
    "THREADS",
    "Sending",
    "Server",
    "Verbosity",
    "complete_endpoints",
    "complete_journals",
    "complete_profiles",
    "sending_options",
    "server_options",
    "verbosity_options",
]

# Completions: what they need is imported when a shell asks.


def complete_journals(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Journal ids, each with what it uploads."""
    from ufile_cli.cli.completing import journals

    return journals(incomplete, ctx.command.name or "")


def complete_profiles(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of profiles, each with its endpoint."""
    from ufile_cli.cli.completing import profiles

    return profiles(incomplete)


def complete_endpoints(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Regions and `local`."""
    from ufile_cli.cli.completing import endpoints

    return endpoints(incomplete)


F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", re.IGNORECASE | re.ASCII
)


class _Size(click.ParamType):
    """Bytes: `4M`, `1.5G`, `4194304`; powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        match = _NUMBER.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write 500K, 10M or 1.5G", param, ctx)
        size = float(match[1]) * _UNITS[match[2].upper()]
        if not 1 <= size <= 2**62:
            self.fail(f"{value!r} is out of range", param, ctx)
        return int(size)


class _Rate(_Size):
    """Bytes a second: `500K`, `10M`, `1.5G`; powers of 1024."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, str) and value.strip().lower().endswith("/s"):
            value = value.strip()[:-2]
        return super().convert(value, param, ctx)


class _Duration(click.ParamType):
    """Seconds: `90`, `5m`, `1h30m`, `7d`; None for `forever` where that is allowed."""

    name = "duration"

    def __init__(self, *, forever: bool = False) -> None:
        self._forever = forever

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        if self._forever and text == "forever":
            return float("inf")
        match = _DURATION.fullmatch(text)
        if not text or match is None:
            words = "90, 5m, 1h30m or 7d" + (" or forever" if self._forever else "")
            self.fail(f"{value!r} is no duration; write {words}", param, ctx)
        days, hours, minutes, seconds = (float(group or 0) for group in match.groups())
        total = days * 86400 + hours * 3600 + minutes * 60 + seconds
        if total > 10**9:
            self.fail(f"{value!r} is out of range", param, ctx)
        return total


class _Seconds(click.ParamType):
    """Seconds as a number: `5`, `0.5`."""

    name = "seconds"

    def __init__(self, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not self._least <= seconds <= 86400 * 7:
            self.fail(f"{value!r} is out of range", param, ctx)
        return seconds


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_YOURS = {"authorization", "host", "content-length", "transfer-encoding", "content-md5"}


# A journal keeps it: refused by the server again and again, it would be in the way of each run.
_LONGEST_HEADER = 8000
_TOO_LONG = f"longer than {_LONGEST_HEADER:,} characters; no server has to take that"


class _Header(click.ParamType):
    """`Name: value`, as curl takes it."""

    name = "header"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        name, content = name.strip(" \t"), content.strip(" \t")
        if not colon or not _HEADER_NAME.fullmatch(name):
            self.fail(f"{value!r} is no header; write 'Name: value'", param, ctx)
        if _CONTROL.search(content):
            self.fail(f"the header {name} holds line breaks or control characters", param, ctx)
        try:
            content.encode("latin-1")
        except UnicodeEncodeError:
            self.fail(f"the header {name} holds characters that no header can", param, ctx)
        if len(name) + len(content) > _LONGEST_HEADER:
            self.fail(f"the header {name[:40]} is {_TOO_LONG}", param, ctx)
        if name.lower() in _NOT_YOURS:
            self.fail(f"the header {name} is set by ufile itself", param, ctx)
        return name, content


class _MimeType(click.ParamType):
    """`text/plain; charset=utf-8`: what can stand in a header."""

    name = "type"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(value).strip(" \t")
        if len(text) > _LONGEST_HEADER:
            self.fail(f"the type is {_TOO_LONG}", param, ctx)
        if not text or not text.isascii() or not text.isprintable():
            self.fail(f"{value!r} is no type; write text/plain or the like", param, ctx)
        return text


_META_NAME = re.compile(r"[0-9A-Za-z-]+")


class _Meta(click.ParamType):
    """`NAME=VALUE` of user metadata."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, content = str(value).partition("=")
        if not equals or not _META_NAME.fullmatch(name):
            self.fail(
                f"{value!r} is no metadata; write NAME=VALUE, the name of letters, digits and -",
                param,
                ctx,
            )
        if not content.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in content):
            self.fail(f"the value of {name} holds characters that no header can", param, ctx)
        return name.lower(), content.strip()


AUTO = 0
"""The number of threads that means: find it."""


class _Threads(click.ParamType):
    """How many parts are in flight at once: a number, or `auto`."""

    name = "n|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if str(value).strip().lower() == "auto":
            return AUTO
        try:
            threads = int(value)
        except ValueError:
            self.fail(f"{value!r} is no number of threads", param, ctx)
        if not 1 <= threads <= 256:
            self.fail("between 1 and 256 threads are possible", param, ctx)
        return threads


SIZE = _Size()
RATE = _Rate()
DURATION = _Duration(forever=True)
AGE = _Duration()
SECONDS = _Seconds()
TIMEOUT = _Seconds(0.1)
HEADER = _Header()
META = _Meta()
MIME_TYPE = _MimeType()
THREADS = _Threads()


def _apply(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class Verbosity(NamedTuple):
    """How much is said, and where."""

    verbose: int = 0
    quiet: bool = False
    log_file: str | None = None

    @classmethod
    def of(cls, values: dict[str, Any]) -> Verbosity:
        """Take these options out of a command's values."""
        return cls(values.pop("verbose"), values.pop("quiet"), values.pop("log_file"))


def verbosity_options(function: F) -> F:
    """-v, -q, --log-file."""
    return _apply(
        [
            click.option(
                "-v", "--verbose", count=True, help="Show each request; -v -v shows tracebacks too."
            ),
            click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something fails."),
            click.option("--log-file", metavar="PATH", help="Log requests and errors to PATH too."),
        ]
    )(function)


class Server(NamedTuple):
    """Where to and as whom, as asked for by options."""

    profile: str | None = None
    endpoint: str | None = None
    internal: bool = False
    custom_domain: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> Server:
        """Take these options out of a command's values."""
        return cls(
            values.pop("profile"),
            values.pop("endpoint"),
            values.pop("internal"),
            values.pop("custom_domain"),
        )

    def check(self) -> None:
        """Make sure that --endpoint names a place, also where in the end no server is asked.

        Raises:
            UsageError: it does not.
        """
        if self.endpoint is not None:
            from ufile_cli.us3.endpoints import Endpoint

            Endpoint.parse(self.endpoint, internal=self.internal, custom_domain=self.custom_domain)


def server_options(function: F) -> F:
    """--profile, --endpoint, --internal, --custom-domain."""
    return _apply(
        [
            click.option(
                "--profile",
                metavar="NAME",
                shell_complete=complete_profiles,
                help="Use this profile's endpoint and keys.",
            ),
            click.option(
                "--endpoint",
                metavar="ENDPOINT",
                shell_complete=complete_endpoints,
                help="A region (cn-bj), a suffix, a URL, or local.",
            ),
            click.option("--internal", is_flag=True, help="With a region: its intranet address."),
            click.option(
                "--custom-domain", is_flag=True, help="The URL is a domain bound to the bucket."
            ),
        ]
    )(function)


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send, as asked for by options; None and empty where nothing was asked."""

    threads: int | None = None
    retries: int | None = None
    retry_interval: float | None = None
    patience: float | None = None
    timeout: float | None = None
    header: tuple[tuple[str, str], ...] = ()
    mime_type: str | None = None
    storage_class: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    limit_rate: int | None = None
    progress: str = "auto"
    as_json: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Sending:
        """Take these options out of a command's values."""
        return cls(
            **{
                name: values.pop(name)
                for name in (
                    "threads",
                    "retries",
                    "retry_interval",
                    "patience",
                    "timeout",
                    "header",
                    "mime_type",
                    "storage_class",
                    "meta",
                    "limit_rate",
                    "progress",
                    "as_json",
                )
            }
        )


def sending_options(function: F) -> F:
    """The options of upload, upload-stream and resume."""
    return _apply(
        [
            click.option(
                "-j",
                "--threads",
                type=THREADS,
                help="Parts in flight at once; auto finds the number.  [default: 4]",
            ),
            click.option(
                "--retries",
                type=click.IntRange(1, 1000),
                metavar="N",
                help="Attempts in all for each part and call.  [default: 3]",
            ),
            click.option(
                "--retry-interval",
                type=SECONDS,
                help="Wait before the second attempt; later ones back off.  [default: 5]",
            ),
            click.option(
                "--patience",
                type=DURATION,
                help="How long to go on although nothing gets through; 0, 5m, forever."
                "  [default: 5m]",
            ),
            click.option(
                "--timeout",
                type=TIMEOUT,
                help="Give up a connection on which no byte moves for so long.  [default: 60]",
            ),
            click.option(
                "-H",
                "--header",
                type=HEADER,
                multiple=True,
                metavar="'NAME: VALUE'",
                help="A further header; repeatable.",
            ),
            click.option(
                "--mime-type",
                type=MIME_TYPE,
                metavar="TYPE",
                help="Content-Type of the object.  [default: from the name]",
            ),
            click.option(
                "--storage-class",
                type=click.Choice(["STANDARD", "IA", "ARCHIVE"], case_sensitive=False),
                metavar="CLASS",
                help="STANDARD, IA or ARCHIVE.  [default: the bucket's]",
            ),
            click.option("--meta", type=META, multiple=True, help="User metadata; repeatable."),
            click.option(
                "--limit-rate", type=RATE, help="Bytes a second over all threads: 500K, 10M."
            ),
            click.option(
                "--progress",
                type=click.Choice(["auto", "bars", "plain", "json", "none"]),
                default="auto",
                help="How progress is shown, on standard error."
                "  [default: bars on a terminal, else plain]",
            ),
            click.option(
                "--json", "as_json", is_flag=True, help="The result as JSON on standard output."
            ),
        ]
    )(function)
