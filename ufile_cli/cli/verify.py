"""`ufile verify BUCKET KEY FILE`: whether an object is what a file is.

Size first, which costs nothing, then the ETag. Where the server's ETag is of a form that this
program can't compute (undocumented for objects in parts of other sizes than 4 MiB), an equal size
proves nothing: that is a failure, and `--content` reads the object back instead.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ufile_cli.cli.asking import Asking
from ufile_cli.cli.etag import hash_stream
from ufile_cli.cli.logs import Log
from ufile_cli.cli.options import Server, Verbosity, server_options, verbosity_options
from ufile_cli.cli.transfer import connector_for
from ufile_cli.errors import NotFound, SourceError, UFileError, VerifyFailed
from ufile_cli.etag import BlockHasher, blocks_of, decode_part_etag, same_form
from ufile_cli.progress import text
from ufile_cli.us3.endpoints import check_key

if TYPE_CHECKING:
    from ufile_cli.us3.response import ObjectHead

__all__ = ["command"]


@click.command(
    "verify",
    epilog="""\b
Examples:
  ufile verify backups big.iso ./big.iso
  ufile verify backups big.iso ./big.iso --content
  pg_dump shop | ufile verify backups shop.sql -
""",
)
@click.argument("bucket")
@click.argument("key")
@click.argument("file", type=click.Path(path_type=str))
@click.option(
    "--content", is_flag=True, help="Read the object back and compare its bytes, not its ETag."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@server_options
@verbosity_options
def command(bucket: str, key: str, file: str, content: bool, as_json: bool, **values: Any) -> int:
    """Compare the object KEY in BUCKET with FILE; - is standard input.

    A difference is exit code 1. Compared are size and ETag.
    """
    log, server = Log(Verbosity.of(values)), Server.of(values)
    check_key(key)
    comparison = _Comparison(bucket, key, file)
    error: UFileError | None = None
    try:
        with _open(file) as source:
            connector = connector_for(server, log)
            try:
                with Asking(connector, bucket, log) as asking:
                    comparison.run(asking, source, content)
            finally:
                connector.close()
    except UFileError as failure:
        error = failure
    if as_json:
        from ufile_cli.cli.report import print_json

        print_json(comparison.as_json(error))
    if error is not None:
        raise error
    if not log.verbosity.quiet:
        click.echo(text.printable(comparison.words()), err=True)
    return 0


def _open(name: str) -> BinaryIO:
    if name == "-":
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return open(name, "rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceError(f"{text.printable(name)}: {reason}") from error


@dataclass(slots=True)
class _Comparison:
    """An object beside a file, as far as they were looked at."""

    bucket: str
    key: str
    file: str
    head: ObjectHead | None = None
    own: BlockHasher | None = None
    verified: str | None = None

    def run(self, asking: Asking, source: BinaryIO, content: bool) -> None:
        """Compare; `verified` says by what.

        Raises:
            VerifyFailed: they differ, or nobody can tell.
            UFileError: one of them can't be read.
        """
        where = f"{self.bucket}/{self.key}"
        client = asking.client
        try:
            self.head = head = asking.ask("HeadFile", lambda: client.head(self.key))
        except NotFound as error:
            raise VerifyFailed(
                f"there is no object {where}", hint=f"the server said: HTTP {error.status}"
            ) from error
        if source.seekable() and self.file != "-":
            # The size alone may tell; nobody needs a terabyte hashed for that.
            self._sizes(source.seek(0, 2), head.size)
            source.seek(0)
        try:
            self.own = own = hash_stream(source)
        except OSError as error:
            raise SourceError(f"{self.file}: {error.strerror or error}") from error
        self._sizes(own.size, head.size)
        if content:
            theirs = asking.ask("GetFile", lambda: self._read_back(asking, head.size))
            if theirs != own.etag():
                raise VerifyFailed(f"{where} is not {self.file}: their content differs")
            self.verified = "content"
        else:
            self.verified = self._etags(head.etag or "", own)

    def _sizes(self, ours: int, theirs: int) -> None:
        if ours != theirs:
            raise VerifyFailed(
                f"{self.bucket}/{self.key} is not {self.file}: "
                f"the object has {theirs:,} bytes, the file {ours:,}"
            )

    def _etags(self, theirs: str, own: BlockHasher) -> str:
        ours = own.etag()
        if theirs == ours:
            return "etag"
        where = f"{self.bucket}/{self.key}"
        if own.size == 0:
            return "size"  # the form of an empty object's ETag is undocumented
        single = decode_part_etag(theirs) if blocks_of(own.size) == 1 else None
        if single is not None and single == own.digests():
            return "etag"
        if single is not None or same_form(theirs, ours):
            raise VerifyFailed(
                f"{where} is not {self.file}: the object's ETag is {theirs}, the file's {ours}"
            )
        named = f"the object's ETag {theirs} is of an unknown form" if theirs else "it has no ETag"
        raise VerifyFailed(
            f"{where} has the size of {self.file}, but {named}: nothing is proven",
            hint="--content reads the object back and compares the bytes",
        )

    def _read_back(self, asking: Asking, size: int) -> str:
        hasher = BlockHasher()
        with asking.client.get(self.key) as download:
            for piece in download:
                hasher.update(piece)
                if hasher.size > size:  # it may go on for ever
                    raise VerifyFailed(
                        f"{self.bucket}/{self.key} is not {self.file}: the server sends more than "
                        f"the {size:,} bytes that it said the object has"
                    )
        return hasher.etag()

    def words(self) -> str:
        """The sentence about two that are the same."""
        by = {
            "etag": "size and ETag are equal",
            "content": "their content is equal",
            "size": "both are empty",
        }[self.verified or ""]
        return f"{self.bucket}/{self.key} is {self.file}: {by}"

    def as_json(self, error: UFileError | None) -> dict[str, Any]:
        """The result document; null for what was not looked at."""
        head, own = self.head, self.own
        return {
            "bucket": self.bucket,
            "key": self.key,
            "file": self.file,
            "object_size": head.size if head else None,
            "object_etag": head.etag if head else None,
            "size": own.size if own else None,
            "etag": own.etag() if own else None,
            "verified": self.verified,
            "exit_code": error.code if error else 0,
            "error": error.as_json() if error else None,
        }
