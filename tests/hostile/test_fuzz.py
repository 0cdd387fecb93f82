"""Random bytes for whatever reads bytes of others: answers, journals, requests.

A taste of it runs with the other tests; `make fuzz` (UFILE_TEST_FUZZ=1) takes a minute or two.
What counts is that nothing but the errors meant for it comes out, and that what does come through
is what the next floor relies on.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import UFileError
from ufile_cli.journal.document import Damage, JournalDocument
from ufile_cli.journal.partlog import read_log
from ufile_cli.journal.parts import PartTable
from ufile_cli.us3 import response
from ufile_cli.us3.response import Answer

LONG = os.environ.get("UFILE_TEST_FUZZ") == "1"
MANY = settings(max_examples=5_000 if LONG else 60, deadline=None, database=None)
FEW = settings(
    max_examples=1_000 if LONG else 30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.timeout(600)

NAMES = (
    "UploadId", "BlkSize", "Bucket", "Key", "Parts", "PartNum", "Etag", "Size", "LastModified",
    "IsTruncated", "NextPartNumberMarker", "DataSet", "FileName", "StartTime", "NextMarker",
    "RetCode", "ErrMsg", "FileSize", "PartNumber", "MaxParts",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(("u", "k", "true", "1", "\x1b[2J", "\ud800", 2**63, -1)),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8).map(
        lambda value: json.dumps(value).encode("utf-8", "surrogatepass")
    )
)
HEADERS = st.dictionaries(
    st.sampled_from(
        (
            "etag",
            "content-length",
            "x-sessionid",
            "retry-after",
            "location",
            "content-type",
            "last-modified",
            "x-ufile-meta-a",
            "x-ufile-storage-class",
        )
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
    max_size=5,
)

PARSERS: tuple[Callable[[Answer], Any], ...] = (
    lambda answer: response.parse_initiated(answer, "Call", "demo", "k"),
    lambda answer: response.parse_part_etag(answer, "Call"),
    lambda answer: response.parse_stored(answer, "Call"),
    lambda answer: response.parse_put_etag(answer, "Call"),
    lambda answer: response.parse_parts_page(answer, "Call", "u", "k", 3),
    lambda answer: response.parse_uploads_page(answer, "Call", "m"),
    lambda answer: response.parse_head(answer, "Call"),
    lambda answer: response.raise_for_status(answer, "Call"),
)


@MANY
@given(st.integers(0, 1000), HEADERS, BODIES, st.booleans(), st.sampled_from(PARSERS))
def test_answers(
    status: int,
    headers: dict[str, str],
    body: bytes,
    whole: bool,
    parse: Callable[[Answer], Any],
) -> None:
    answer = Answer.of(status, headers, body, whole=whole)
    for shown in (answer.err_msg, answer.session_id, answer.content_type):
        assert shown is None or (len(shown) <= 300 and not set(shown) & set("\x1b\r\n\0\x9b"))
    try:
        value = parse(answer)
    except UFileError as error:
        assert error.message.isprintable()
        return
    if isinstance(value, response.Initiated):
        assert 1 <= value.block_size <= response.MAX_BLOCK_SIZE
        assert value.upload_id.isprintable() and value.upload_id
        value.upload_id.encode("utf-8")
    if isinstance(value, response.PartsPage):
        assert not value.truncated or (value.next_marker or 0) > 3
        assert all(part.number >= 0 <= part.size for part in value.parts)


VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "journals"


def _upload_id(log: Path) -> str:
    return str(json.loads(log.read_bytes().splitlines()[0]).get("uploadid"))


GOLDEN = sorted((path.read_bytes(), path.stem) for path in VECTORS.glob("*.json"))
LOGS = sorted((path.read_bytes(), _upload_id(path)) for path in VECTORS.glob("*.jsonl"))


@st.composite
def damaged(draw: st.DrawFn, golden: list[tuple[bytes, str]]) -> tuple[bytes, str]:
    """A good file with some pieces overwritten, cut out, or put in, and whose it is."""
    good, name = draw(st.sampled_from(golden))
    text = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 12))
        piece = draw(
            st.binary(max_size=12)
            | st.sampled_from(
                (b"null", b"-1", b"1e999", b"NaN", b"[", b"{", b'"', b"9" * 30, b"\n")
            )
        )
        text[at : at + gone] = piece
    return bytes(text), name


@MANY
@given(damaged(GOLDEN))
def test_documents(damage_done: tuple[bytes, str]) -> None:
    text, name = damage_done
    try:
        document, parts = JournalDocument.parse(text, name)
    except Damage as damage:
        assert str(damage)
        return
    # What is believed can be written again, and is the same then.
    again, _ = JournalDocument.parse(b"".join(document.chunks(parts)), name)
    assert again == document


@MANY
@given(damaged(LOGS), st.integers(0, 3), st.integers(1, 100))
def test_part_logs(damage_done: tuple[bytes, str], rewrites: int, limit: int) -> None:
    text, upload_id = damage_done
    parts = PartTable(4 * 1024 * 1024)
    try:
        read_log(text, upload_id, rewrites, parts, limit)
    except Damage as damage:
        assert str(damage)
    assert parts.end <= limit


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("server"), remember=0, idle_timeout=0.3) as emulator:
        yield emulator
    assert emulator.errors == []


PIECES = st.sampled_from(
    (
        b"GET ", b"PUT ", b"POST ", b"DELETE ", b"HEAD ", b"/k", b"/../../etc/passwd", b"/%2e%2e/",
        b"//", b"/", b"?uploads", b"?muploadpart&uploadId=../..", b"?muploadid&prefix=&marker=%00",
        b"&max-parts=-1", b"&limit=99999999999999999999", b"?list", b"?listobjects", b" HTTP/1.1",
        b" HTTP/1.0", b" HTTP/9.9", b"\r\n", b"\n", b"\r\n\r\n", b"Host: demo.127.0.0.1\r\n",
        b"Host: ../..\r\n", b"Host: %2e.x\r\n", b"Host: \x00\r\n", b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999\r\n", b"hello", b"\x00",
        b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"fffffffffffffff\r\n",
        b"Range: bytes=-\r\n", b"Range: bytes=5-1\r\n", b"Range: bytes=0-0,1-1\r\n",
        b"Range: bytes=99999999999-\r\n", b"Authorization: UCloud x:y\r\n",
        b"Expect: 100-continue\r\n",
        b"X-Ufile-Meta-a: \xff\r\n", b"?uploadId=x&partNumber=99999999", b"Content-Type: a\r\n",
    )
)  # fmt: skip


@FEW
@given(requests=st.lists(PIECES | st.binary(max_size=20), max_size=14).map(b"".join))
def test_requests(server: Emulator, requests: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        try:
            sock.sendall(requests)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/not-there", headers={"Host": "other.127.0.0.1"})
    assert connection.getresponse().status == 404
    connection.close()
    assert server.errors == []
