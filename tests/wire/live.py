"""`make test-live`: the wire suite against a real bucket, and what it answers beyond the documents.

    UFILE_TEST_BUCKET=scratch UFILE_TEST_ENDPOINT=cn-bj UFILE_PUBLIC_KEY=… UFILE_PRIVATE_KEY=… \\
        make test-live

Without these it says so and ends. Everything lies under a key prefix of its own and is removed
again; it sends some 60 MB and a few thousand requests. The report belongs into
`docs/protocol.md`, under "Undocumented".
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ufile_cli.credentials import Credentials
from ufile_cli.errors import ServerError, UFileError
from ufile_cli.etag import BLOCK, BlockHasher, matches_part, object_etag
from ufile_cli.us3.client import Client
from ufile_cli.us3.endpoints import Endpoint

NEEDED = ("UFILE_TEST_BUCKET", "UFILE_TEST_ENDPOINT", "UFILE_PUBLIC_KEY", "UFILE_PRIVATE_KEY")
MANY = 1100
"""Parts that are more than a default page, whichever of the two page sizes is right."""


def said(act: Callable[[], object]) -> str:
    """Status and RetCode of what a call is answered with."""
    try:
        act()
    except ServerError as error:
        return f"HTTP {error.status}, RetCode {error.ret_code}, {error.err_msg!r}"
    except UFileError as error:
        return f"no answer: {error.message}"
    return "taken"


class Survey:
    """The questions, each with its answer, on one bucket.

    Attributes:
        made: keys of objects; begun: uploads. Both are removed at the end.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.prefix = f"ufile-live-{secrets.token_hex(6)}/"
        self.made: set[str] = set()
        self.begun: list[tuple[str, str]] = []

    def answers(self) -> Iterator[tuple[str, str]]:
        """Question and answer, as they come in."""
        yield from self.objects()
        yield from self.parts()
        yield from self.dead()
        yield from self.large()

    def _key(self, name: str) -> str:
        self.made.add(self.prefix + name)
        return self.prefix + name

    def _begin(self, name: str) -> tuple[str, str, int]:
        key = self._key(name)
        begun = self.client.initiate(key)
        self.begun.append((key, begun.upload_id))
        return key, begun.upload_id, begun.block_size

    def objects(self) -> Iterator[tuple[str, str]]:
        stored = self.client.store(self._key("empty"), b"")
        none = BlockHasher().digests()
        form = {object_etag(none): "object form, one block of nothing"}
        yield "ETag of an empty object", f"{stored.etag} ({form.get(stored.etag or '', 'unknown')})"
        headers = {"X-UCloud-Foo": "foo", "X-UCloud-Bar": "bar"}
        key = self._key("signed")
        yield "two signed headers, sorted", said(lambda: self.client.put(key, b"a", headers))
        for name in ("a//b", "./x/../y", "..", "a?b#c%41", "/lead"):
            key = self._key(name)
            self.client.put(key, name.encode())
            yield f"key {name!r}", said(partial(self.client.head, key))

    def parts(self) -> Iterator[tuple[str, str]]:
        key, upload, size = self._begin("parts")
        yield "BlkSize", f"{size:,}"
        content = os.urandom(size)
        hasher = BlockHasher()
        hasher.update(content)
        etag = self.client.upload_part(key, upload, 0, content)
        known = {True: "of a known form", False: "not that of the bytes", None: "opaque"}
        form = known[matches_part(etag, hasher.digests())]
        yield f"ETag of a part of {-(-size // BLOCK)} blocks", f"{etag} ({form})"
        page = json.loads(self.client.list_parts(upload).answer.body)
        first = page["Parts"][0]
        yield "an entry of ListParts", json.dumps(first)
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda number: self.client.upload_part(key, upload, number, b"x"),
                    range(1, MANY),
                )
            )
        listed = self.client.list_parts(upload)
        more = "truncated" if listed.truncated else "all of them"
        yield f"default page of ListParts, of {MANY:,}", f"{len(listed.parts):,}, {more}"
        wrong = [etag, *["x"] * (MANY - 1)]
        yield "Finish with wrong ETags", said(lambda: self.client.finish(key, upload, wrong))

    def dead(self) -> Iterator[tuple[str, str]]:
        key, upload, _ = self._begin("dead")
        self.client.upload_part(key, upload, 0, b"abc")
        self.client.abort(key, upload)
        for why, dead in (("aborted", upload), ("unknown", "0" * len(upload))):
            client = self.client
            yield (
                f"UploadPart, id {why}",
                said(partial(client.upload_part, key, dead, 0, b"abc")),
            )
            yield f"ListParts, id {why}", said(partial(client.list_parts, dead))
            yield (
                f"Finish, id {why}",
                said(partial(client.finish, key, dead, ["x"])),
            )
            yield f"Abort, id {why}", said(partial(client.abort, key, dead))

    def large(self) -> Iterator[tuple[str, str]]:
        key, upload, _ = self._begin("large")
        etag = self.client.upload_part(key, upload, 0, b"abc")
        for count in (100_000, 1_200_000):
            etags = [etag] * count
            answer = said(partial(self.client.finish, key, upload, etags))
            yield f"Finish with {count * 31 / 1e6:.0f} MB of ETags (413: too large)", answer

    def remove(self) -> list[str]:
        """Remove what was made; what could not be."""
        left = []
        for key, upload in self.begun:
            said(partial(self.client.abort, key, upload))
        for upload_left in self.client.list_uploads(self.prefix).uploads:
            left.append(f"upload {upload_left.upload_id} of {upload_left.key}")
        for key in sorted(self.made):
            said(partial(self.client.delete, key))
            if said(partial(self.client.head, key)) == "taken":
                left.append(key)
        return left


@contextmanager
def survey() -> Iterator[Survey]:
    """A survey of the bucket that the environment names; removes what it made."""
    keys = Credentials(os.environ["UFILE_PUBLIC_KEY"], os.environ["UFILE_PRIVATE_KEY"])
    endpoint = Endpoint.parse(os.environ["UFILE_TEST_ENDPOINT"])
    with Client(endpoint.address(os.environ["UFILE_TEST_BUCKET"]), keys, connections=8) as client:
        one = Survey(client)
        try:
            yield one
        finally:
            for left in one.remove():
                print(f"could not be removed: {left}")


def main() -> int:
    """Run suite and survey; the suite's exit code."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        print(f"no live bucket to test against: {', '.join(missing)} not set")
        return 0
    code = 0
    if "--survey-only" not in sys.argv:
        here = str(Path(__file__).parent)
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", here], check=False).returncode
    print(f"\nWhat {os.environ['UFILE_TEST_ENDPOINT']} answers where nothing is documented:\n")
    print("| question | answer |\n| --- | --- |")
    with survey() as one:
        for question, answer in one.answers():
            print(f"| {question} | {answer} |", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
