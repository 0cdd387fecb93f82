"""The client against a server: the emulator, or a real bucket where the environment names one.

    UFILE_TEST_BUCKET=scratch UFILE_TEST_ENDPOINT=cn-bj UFILE_PUBLIC_KEY=… UFILE_PRIVATE_KEY=… \\
        python -m pytest tests/wire

Every key begins with a prefix of its own run, and everything made is removed again. Nothing in
here asks for more than the protocol promises; what the emulator alone does is tested elsewhere.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testbed import KIB, PUBLIC, SECRET

from ufile_cli.credentials import Credentials
from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import CredentialsRefused, NotFound, Refused, ServerError
from ufile_cli.etag import BlockHasher, matches_part, unquote
from ufile_cli.us3.client import Client
from ufile_cli.us3.endpoints import Endpoint

BUCKET = os.environ.get("UFILE_TEST_BUCKET")

KEYS = [
    "plain.txt",
    "a b",
    "what?#and%",
    "%41",
    "a+b&c=d;e,f",
    "a//b",
    "./x/../y",
    "..",
    "备份/数据 🐘",
    "~'\"<>|\\^`{}[]!*()$@:",
]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[Credentials | None], Client]]:
    """Makes clients of the bucket; None for the right keys."""
    clients: list[Client] = []
    server: Emulator | None = None
    if BUCKET is not None:
        endpoint = Endpoint.parse(os.environ["UFILE_TEST_ENDPOINT"])
        bucket = BUCKET
        right = Credentials(os.environ["UFILE_PUBLIC_KEY"], os.environ["UFILE_PRIVATE_KEY"])
    else:
        server = Emulator(tmp_path / "server", keys=(PUBLIC, SECRET), block_size=256 * KIB).start()
        endpoint, bucket = Endpoint.parse(server.url), "scratch"
        right = Credentials(PUBLIC, SECRET)

    def make(credentials: Credentials | None) -> Client:
        clients.append(Client(endpoint.address(bucket), credentials or right))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    if server is not None:
        server.close()
        assert server.errors == []


@pytest.fixture
def client(connect: Callable[[Credentials | None], Client]) -> Client:
    return connect(None)


@pytest.fixture
def prefix(client: Client) -> Iterator[str]:
    """A beginning of keys of this test alone; what is made under it goes away with it."""
    made: list[str] = []
    name = f"ufile-test-{secrets.token_hex(6)}/"

    class Prefix(str):
        def __add__(self, rest: str) -> str:
            made.append(str.__add__(self, rest))
            return made[-1]

    yield Prefix(name)
    page = client.list_uploads(name)
    for upload in page.uploads:
        client.abort(upload.key, upload.upload_id)
    for key in set(made):
        try:
            client.delete(key)
        except NotFound:
            continue


def content_of(client: Client, key: str, byte_range: tuple[int, int | None] | None = None) -> bytes:
    with client.get(key, byte_range) as download:
        return b"".join(download)


def etag_of(content: bytes) -> str:
    hasher = BlockHasher()
    hasher.update(content)
    return hasher.etag()


def digests_of(content: bytes) -> bytes:
    hasher = BlockHasher()
    hasher.update(content)
    return hasher.digests()


def some(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# Whole objects


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_put_head_get_delete(client: Client, prefix: str, key: str) -> None:
    name, content = prefix + key, some(1000)
    stored = client.store(name, content, {"Content-Type": "text/x-test"})
    assert stored.etag is not None and unquote(stored.etag) == etag_of(content)
    head = client.head(name)
    assert (head.size, head.etag, head.content_type) == (1000, etag_of(content), "text/x-test")
    assert content_of(client, name) == content
    assert content_of(client, name, (10, 19)) == content[10:20]
    assert content_of(client, name, (990, None)) == content[990:]
    client.delete(name)
    with pytest.raises(NotFound):
        client.head(name)


def test_an_empty_object(client: Client, prefix: str) -> None:
    name = prefix + "empty"
    client.store(name, b"")
    assert client.head(name).size == 0
    assert content_of(client, name) == b""


def test_a_put_replaces(client: Client, prefix: str) -> None:
    name = prefix + "twice"
    client.store(name, b"one")
    client.store(name, b"the other")
    assert content_of(client, name) == b"the other"


def test_metadata_and_class(client: Client, prefix: str) -> None:
    name = prefix + "told"
    headers = {"X-Ufile-Meta-owner": "me and you", "X-Ufile-Storage-Class": "IA"}
    client.store(name, b"x", headers)
    head = client.head(name)
    assert head.meta == {"owner": "me and you"} and head.storage_class == "IA"


def test_signed_headers(client: Client, prefix: str) -> None:
    """X-UCloud headers are part of what is signed, in their order."""
    name = prefix + "signed"
    client.store(name, b"x", {"X-UCloud-Foo": "foo", "x-ucloud-bar": "bar1,  bar2"})
    assert content_of(client, name) == b"x"


def test_content_md5_is_signed(client: Client, prefix: str) -> None:
    import hashlib

    name, content = prefix + "md5", some(100)
    client.store(name, content, {"Content-MD5": hashlib.md5(content).hexdigest()})
    assert content_of(client, name) == content


# Parts


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_parts_in_any_order(client: Client, prefix: str, key: str) -> None:
    name = prefix + key
    begun = client.initiate(name, {"Content-Type": "text/x-test", "X-Ufile-Meta-a": "b"})
    assert begun.block_size > 0 and begun.upload_id
    size = begun.block_size
    parts = [some(size, 0), some(size, 1), some(777, 2)]
    etags: dict[int, str] = {}
    for number in (2, 0, 1):
        etags[number] = client.upload_part(name, begun.upload_id, number, parts[number])
        assert matches_part(etags[number], digests_of(parts[number])) is not False
    page = client.list_parts(begun.upload_id, name)
    assert [(part.number, part.size) for part in page.parts] == [(0, size), (1, size), (2, 777)]
    assert {part.number: unquote(part.etag) for part in page.parts} == etags
    assert not page.truncated
    whole = b"".join(parts)
    stored = client.finish(
        name, begun.upload_id, [etags[number] for number in range(3)],
        {"Content-Type": "text/x-test"},
    )  # fmt: skip
    if begun.block_size == 4 << 20:
        assert stored.etag == etag_of(whole)
    assert stored.key in (None, name) and stored.size in (None, len(whole))
    head = client.head(name)
    assert (head.size, head.content_type) == (len(whole), "text/x-test")
    assert content_of(client, name) == whole


def test_a_part_sent_again_replaces(client: Client, prefix: str) -> None:
    name = prefix + "again"
    begun = client.initiate(name)
    client.upload_part(name, begun.upload_id, 0, b"first")
    etag = client.upload_part(name, begun.upload_id, 0, b"second!")
    [part] = client.list_parts(begun.upload_id, name).parts
    assert (part.size, unquote(part.etag)) == (7, etag)
    client.finish(name, begun.upload_id, [etag])
    assert content_of(client, name) == b"second!"


def test_pages_of_parts(client: Client, prefix: str) -> None:
    """The marker means: above. The first page has none."""
    name = prefix + "pages"
    begun = client.initiate(name)
    for number in range(5):
        client.upload_part(name, begun.upload_id, number, bytes([number]))
    seen: list[int] = []
    marker: int | None = None
    while True:
        page = client.list_parts(begun.upload_id, name, marker, 2)
        assert len(page.parts) <= 2
        seen += [part.number for part in page.parts]
        if not page.truncated:
            break
        assert page.next_marker is not None
        marker = page.next_marker
    assert seen == [0, 1, 2, 3, 4]
    client.abort(name, begun.upload_id)


def test_unfinished_uploads_are_listed(client: Client, prefix: str) -> None:
    begun = [client.initiate(prefix + f"{letter} 备份") for letter in "abc"]
    found: dict[str, str] = {}
    marker = ""
    while True:
        page = client.list_uploads(str(prefix), marker, 2)
        found |= {upload.upload_id: upload.key for upload in page.uploads}
        if not page.next_marker:
            break
        marker = page.next_marker
    assert found == {one.upload_id: one.key for one in begun}
    for one in begun:
        client.abort(one.key, one.upload_id)
    assert client.list_uploads(str(prefix)).uploads == ()


def test_after_an_abort_the_id_is_dead(client: Client, prefix: str) -> None:
    name = prefix + "aborted"
    begun = client.initiate(name)
    etag = client.upload_part(name, begun.upload_id, 0, b"x")
    client.abort(name, begun.upload_id)
    for act in (
        lambda: client.upload_part(name, begun.upload_id, 1, b"y"),
        lambda: client.finish(name, begun.upload_id, [etag]),
    ):
        with pytest.raises(Refused) as caught:
            act()
        assert 400 <= caught.value.status < 500
        assert caught.value.status not in (401, 403, 408, 425, 429)
    with pytest.raises(NotFound):
        client.head(name)


def test_after_finish_the_id_is_dead(client: Client, prefix: str) -> None:
    name = prefix + "finished"
    begun = client.initiate(name)
    etag = client.upload_part(name, begun.upload_id, 0, b"x")
    client.finish(name, begun.upload_id, [etag])
    with pytest.raises(Refused):
        client.finish(name, begun.upload_id, [etag])
    assert content_of(client, name) == b"x"


def test_a_hole_is_refused(client: Client, prefix: str) -> None:
    """The server checks the plan at Finish."""
    name = prefix + "hole"
    begun = client.initiate(name)
    first = client.upload_part(name, begun.upload_id, 0, some(100))
    second = client.upload_part(name, begun.upload_id, 1, some(100))
    with pytest.raises(ServerError):
        client.finish(name, begun.upload_id, [first, second])
    client.abort(name, begun.upload_id)


# Refusals


def test_what_is_not_there(client: Client, prefix: str) -> None:
    for act in (lambda: client.head(prefix + "no"), lambda: client.get(prefix + "no")):
        with pytest.raises(NotFound) as caught:
            act()
        assert caught.value.status == 404


@pytest.mark.parametrize("wrong", ["public", "private"])
def test_wrong_keys(
    client: Client, connect: Callable[[Credentials | None], Client], prefix: str, wrong: str
) -> None:
    right = client.current_credentials()
    assert right is not None
    pair = (
        Credentials("TOKEN_nobody", right.private_key)
        if wrong == "public"
        else Credentials(right.public_key, "of-somebody-else")
    )
    stranger = connect(pair)
    for act in (
        lambda: stranger.store(prefix + "k", b"x"),
        lambda: stranger.initiate(prefix + "k"),
        lambda: stranger.list_uploads(str(prefix)),
        lambda: stranger.head(prefix + "k"),
    ):
        with pytest.raises(CredentialsRefused) as caught:
            act()
        assert caught.value.status in (401, 403)
        assert "of-somebody-else" not in str(caught.value) + repr(caught.value)
