"""`ufile etag FILE…`: the ETag that US3 gives to such an object, laid out as sha1sum does."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ufile_cli.cli.options import Verbosity, verbosity_options
from ufile_cli.errors import SourceError
from ufile_cli.etag import BlockHasher
from ufile_cli.exitcodes import worst
from ufile_cli.progress import text

__all__ = ["command", "hash_stream"]


@click.command(
    "etag",
    epilog="""\b
Examples:
  ufile etag big.iso
  ufile etag *.iso > ETAGS
  pg_dump shop | ufile etag -
""",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=str))
@verbosity_options
def command(files: tuple[str, ...], **values: Any) -> int:
    """Print the US3 ETag of local files; - is standard input.

    A name with a line break or backslash is escaped and its line begins with a backslash, as
    sha1sum does; on a terminal other control characters are escaped as well. FIFOs and devices
    are read to their end, as sha1sum does.
    """
    Verbosity.of(values)
    codes = [0]
    for name in files:
        try:
            etag = _etag(name)
        except SourceError as error:
            from ufile_cli.cli.report import explain

            explain(error)
            codes.append(error.code)
            continue
        sys.stdout.buffer.write(_line(etag, name, shown=sys.stdout.isatty()))
        sys.stdout.buffer.flush()
    return worst(codes)


def _etag(name: str) -> str:
    try:
        if name == "-":
            return hash_stream(sys.stdin.buffer).etag()
        with open(name, "rb", buffering=0) as file:
            return hash_stream(file).etag()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = "standard input" if name == "-" else text.printable(name)
        raise SourceError(f"{shown}: {reason}") from error


def hash_stream(file: Any) -> BlockHasher:
    """Hash what is left of the file, in bounded memory."""
    hasher = BlockHasher()
    buffer = memoryview(bytearray(1024 * 1024))
    while got := file.readinto(buffer):
        hasher.update(buffer[:got])
    return hasher


_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


def _line(etag: str, name: str, *, shown: bool) -> bytes:
    """The line as coreutils write it: bytes of the name as they are, but for three.

    Where a person sees it (`shown`), what could move a cursor is escaped too; a line of that kind
    is for the eye, a program reads a pipe.
    """
    raw = os.fsencode(name)
    escaped = b"".join(_ESCAPES.get(raw[i : i + 1], raw[i : i + 1]) for i in range(len(raw)))
    mark = b"\\" if escaped != raw else b""
    if shown:
        seen = text.printable(os.fsdecode(escaped), sys.stdout.encoding)
        escaped = seen.encode(sys.stdout.encoding, "backslashreplace")
    return mark + etag.encode() + b"  " + escaped + b"\n"
