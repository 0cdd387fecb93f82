"""The client's calls: what each of them says, and what it makes of the answer.

The adapter is replaced by one that keeps what it was given; no socket is opened. The wire itself
is `test_transport.py`'s business.
"""

from __future__ import annotations

import io
import json
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3

from ufile_cli.credentials import Credentials
from ufile_cli.errors import BadAnswer, CredentialsRefused, NotFound, ServerTrouble, UsageError
from ufile_cli.us3.client import Client, RequestRecord
from ufile_cli.us3.endpoints import Endpoint
from ufile_cli.us3.response import RemoteUpload
from ufile_cli.us3.signing import sign, string_to_sign

KEYS = Credentials("public", "private-secret")


class Wire:
    """Stands for the adapter: keeps the requests, answers from a list or by a function."""

    def __init__(self) -> None:
        self.requests: list[requests.PreparedRequest] = []
        self.bodies: list[bytes] = []
        self.timeouts: list[Any] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {"ETag": '"e"'}, b"")

    def exchange(self, request: requests.PreparedRequest, **kwargs: Any) -> urllib3.HTTPResponse:
        self.requests.append(request)
        self.timeouts.append(kwargs["timeout"])
        body: Any = request.body
        if body is not None:
            self.bodies.append(body.read() if hasattr(body, "read") else bytes(body))
        status, headers, content = self.answer
        return urllib3.HTTPResponse(
            body=io.BytesIO(content), headers=headers, status=status, preload_content=False
        )

    def close(self) -> None:
        pass

    @property
    def last(self) -> requests.PreparedRequest:
        return self.requests[-1]

    @property
    def said(self) -> str:
        prefix = "https://demo.cn-bj.ufileos.com"
        assert str(self.last.url).startswith(prefix)
        return f"{self.last.method} {str(self.last.url)[len(prefix) :]}"


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Client:
    return make(wire, monkeypatch)


def make(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    credentials: Callable[[], Credentials] | Credentials | None = KEYS,
    **kwargs: Any,
) -> Client:
    client = Client(Endpoint.parse("cn-bj").address("demo"), credentials, **kwargs)
    monkeypatch.setattr(client, "_adapter", wire)
    return client


def as_json(said: Any) -> bytes:
    return json.dumps(said).encode()


class TestCalls:
    def test_initiate(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {}, as_json({"UploadId": "u", "BlkSize": 4194304}))
        begun = client.initiate("a b", {"Content-Type": "x/y", "X-Ufile-Storage-Class": "IA"})
        assert wire.said == "POST /a%20b?uploads"
        assert wire.bodies == [b""]
        assert wire.last.headers["Content-Length"] == "0"
        assert wire.last.headers["X-Ufile-Storage-Class"] == "IA"
        assert (begun.upload_id, begun.block_size, begun.key) == ("u", 4194304, "a b")

    def test_upload_part(self, client: Client, wire: Wire) -> None:
        assert client.upload_part("k", "u/1", 0, b"data", {"content-type": "x/y"}) == "e"
        assert wire.said == "PUT /k?uploadId=u%2F1&partNumber=0"
        assert wire.bodies == [b"data"]
        assert wire.last.headers["Content-Type"] == "x/y"
        assert wire.last.headers["Content-Length"] == "4"

    def test_finish(self, client: Client, wire: Wire) -> None:
        wire.answer = (
            200,
            {"ETag": '"o"'},
            as_json({"Bucket": "demo", "Key": "k", "FileSize": 8}),
        )
        stored = client.finish("k", "u", iter(["a", "b="]), {"Content-Type": "x/y"}, new_key="n k")
        assert wire.said == "POST /k?uploadId=u&newKey=n%20k"
        assert wire.bodies == [b'"a","b="']
        assert (stored.etag, stored.size, stored.key) == ("o", 8, "k")
        assert stored.answer.status == 200
        assert wire.timeouts == [(10.0, 600.0)]
        client.finish("k", "u", ["a"])
        assert wire.last.headers["Content-Type"] == "text/plain"

    def test_abort(self, client: Client, wire: Wire) -> None:
        wire.answer = (204, {}, b"")
        client.abort("k", "u")
        assert wire.said == "DELETE /k?uploadId=u"

    def test_list_parts(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {}, as_json({"UploadId": "u", "Parts": [], "IsTruncated": False}))
        assert client.list_parts("u").parts == ()
        assert wire.said == "GET /?muploadpart&uploadId=u"
        client.list_parts("u", "k", marker=0, limit=5)
        assert wire.said == "GET /?muploadpart&uploadId=u&max-parts=5&part-number-marker=0"
        assert "Content-Length" not in wire.last.headers

    def test_list_uploads(self, client: Client, wire: Wire) -> None:
        entry = {"UploadId": "u", "FileName": "k", "StartTime": 1}
        wire.answer = (200, {}, as_json({"RetCode": 0, "NextMarker": "", "DataSet": [entry]}))
        assert client.list_uploads("a&b", "m=", 7).uploads == (RemoteUpload("u", "k", 1),)
        assert wire.said == "GET /?muploadid&prefix=a%26b&marker=m%3D&limit=7"

    def test_put(self, client: Client, wire: Wire) -> None:
        assert client.put("k", b"") == "e"
        assert wire.said == "PUT /k"
        assert wire.last.headers["Content-Length"] == "0"
        assert client.store("k", b"abc").size == 3

    def test_head(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {"Content-Length": "7", "ETag": "e"}, b"")
        assert client.head("k").size == 7
        assert wire.said == "HEAD /k"
        wire.answer = (404, {}, b"")
        with pytest.raises(NotFound):
            client.head("k")

    def test_get(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {"Content-Length": "6", "ETag": "e"}, b"abcdef")
        with client.get("k") as download:
            assert download.head.size == 6
            assert b"".join(download) == b"abcdef"
        wire.answer = (206, {"Content-Length": "2"}, b"cd")
        with client.get("k", (2, 3)) as download:
            assert b"".join(download) == b"cd"
        assert wire.last.headers["Range"] == "bytes=2-3"
        client.get("k", (2, None)).close()
        assert wire.last.headers["Range"] == "bytes=2-"
        wire.answer = (200, {"Content-Length": "6"}, b"abcdef")
        with pytest.raises(BadAnswer, match="range"):
            client.get("k", (2, 3))

    def test_delete(self, client: Client, wire: Wire) -> None:
        wire.answer = (204, {}, b"")
        client.delete("//k")
        assert wire.said == "DELETE ///k"


class TestSigning:
    def test_the_signature_is_over_what_goes_out(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {}, as_json({"UploadId": "u", "BlkSize": 1}))
        client.initiate(
            "中/é", {"Content-Type": " x/y ", "X-UCloud-A": "é  1", "X-Ufile-Meta-b": "2"}
        )
        text = string_to_sign(
            "POST", "demo", "中/é", content_type="x/y", headers={"X-UCloud-A": "é 1"}
        )
        expected = f"UCloud public:{sign('private-secret', text)}"
        assert wire.last.headers["Authorization"] == expected
        assert wire.last.headers["Content-Type"] == "x/y"
        value: Any = wire.last.headers["X-UCloud-A"]
        assert value == "é  1".encode()

    def test_bucket_calls_sign_an_empty_key(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {}, as_json({"Parts": []}))
        client.list_parts("u")
        expected = sign("private-secret", "GET\n\n\n\n/demo/")
        assert wire.last.headers["Authorization"] == f"UCloud public:{expected}"

    def test_credentials_are_read_for_each_request(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pairs = [Credentials("one", "1"), Credentials("two", "2")]
        left = list(pairs)
        client = make(wire, monkeypatch, lambda: left.pop(0))
        wire.answer = (403, {}, b"")
        for pair in pairs:
            with pytest.raises(CredentialsRefused) as caught:
                client.put("k", b"")
            assert caught.value.credentials_tag == pair.tag
        assert "UCloud two:" in wire.last.headers["Authorization"]

    def test_without_credentials(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        make(wire, monkeypatch, None).put("k", b"")
        assert "Authorization" not in wire.last.headers


class TestHeaders:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "x"},
            {"host": "x"},
            {"Content-Length": "1"},
            {"Transfer-Encoding": "chunked"},
            {"A": "b\r\nC: d"},
            {"A": "b\0"},
            {"A": "\ud800"},
            {"A b": "c"},
            {"A:": "c"},
            {"": "c"},
        ],
    )
    def test_refused(self, client: Client, wire: Wire, headers: dict[str, str]) -> None:
        with pytest.raises(UsageError):
            client.put("k", b"", headers)
        assert not wire.requests

    def test_defaults(self, client: Client, wire: Wire) -> None:
        client.put("k", b"")
        sent = wire.last.headers
        assert sent["Host"] == "demo.cn-bj.ufileos.com"
        assert sent["Accept-Encoding"] == "identity"
        assert sent["Content-Type"] == "application/octet-stream"
        assert sent["User-Agent"].startswith("ufile-cli/")
        client.put("k", b"", {"user-agent": "mine"})
        assert wire.last.headers["User-Agent"] == "mine"

    @pytest.mark.parametrize("key", ["", "a\0", "\ud800"])
    def test_keys_refused(self, client: Client, wire: Wire, key: str) -> None:
        for call in (client.head, client.initiate, client.delete, client.get):
            with pytest.raises(UsageError):
                call(key)
        assert not wire.requests


class TestFinishBody:
    def test_many(self, client: Client, wire: Wire) -> None:
        etags = [f"etag{number}" for number in range(20_000)]
        client.finish("k", "u", iter(etags))
        assert wire.bodies[0] == ",".join(f'"{etag}"' for etag in etags).encode()

    @pytest.mark.parametrize(
        "etags", [[], [""], ["a", ""], ["", "a"], ["a,b"], ['a"b'], ["é"], ["a\nb"], ['a","b']]
    )
    def test_refused(self, client: Client, wire: Wire, etags: list[str]) -> None:
        with pytest.raises(ValueError, match="part"):
            client.finish("k", "u", etags)
        assert not wire.requests

    def test_memory(self, client: Client, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        count = 200_000

        def exchange(request: requests.PreparedRequest, **kwargs: Any) -> urllib3.HTTPResponse:
            wire.requests.append(request)
            return urllib3.HTTPResponse(io.BytesIO(b""), status=200, preload_content=False)

        monkeypatch.setattr(wire, "exchange", exchange)
        tracemalloc.start()
        try:
            client.finish("k", "u", ("x" * 28 for _ in range(count)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Once, and what a growing bytearray needs to be moved.
        assert peak < 3 * count * 31


class TestErrors:
    def test_the_part_is_named(self, client: Client, wire: Wire) -> None:
        wire.answer = (503, {"Retry-After": "9", "X-SessionId": "s"}, as_json({"RetCode": -1}))
        with pytest.raises(ServerTrouble) as caught:
            client.upload_part("k", "u", 17, b"x")
        assert caught.value.part == 17
        assert caught.value.retry_after == 9.0
        assert caught.value.session_id == "s"
        assert caught.value.as_json()["ret_code"] == -1

    def test_a_large_error_body_is_cut(self, client: Client, wire: Wire) -> None:
        wire.answer = (500, {}, b"x" * 1_000_000)
        with pytest.raises(ServerTrouble) as caught:
            client.head("k")
        assert len(caught.value.body) == 64 * 1024

    def test_a_large_success_makes_no_sense(self, client: Client, wire: Wire) -> None:
        wire.answer = (200, {}, b'{"UploadId":"u","BlkSize":1}' + b" " * 100_000)
        with pytest.raises(BadAnswer, match="too long"):
            client.initiate("k")

    def test_a_page_may_be_larger(self, client: Client, wire: Wire) -> None:
        part = {"PartNum": 1, "Etag": "e" * 28, "Size": 4194304, "LastModified": 1}
        parts = [part | {"PartNum": number} for number in range(10_000)]
        wire.answer = (200, {}, as_json({"Parts": parts, "IsTruncated": False}))
        assert len(client.list_parts("u").parts) == 10_000


def test_records(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[RequestRecord] = []
    client = make(wire, monkeypatch, log=records.append)
    wire.answer = (200, {"ETag": "e", "X-SessionId": "sid"}, b"")
    client.upload_part("k", "u", 1, b"abc")
    wire.answer = (403, {"X-SessionId": "sid2"}, b"")
    with pytest.raises(CredentialsRefused):
        client.put("k", b"")
    assert [(r.call, r.method, r.status, r.session_id) for r in records] == [
        ("UploadPart", "PUT", 200, "sid"),
        ("PutFile", "PUT", 403, "sid2"),
    ]
    assert records[0].body_size == 3
    assert records[0].error is None
    assert records[1].error
    shown = repr(records) + repr(client)
    assert "private-secret" not in shown
    assert "UCloud " not in shown


def test_threads_do_not_mix_up_their_answers(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(request: requests.PreparedRequest, **kwargs: Any) -> urllib3.HTTPResponse:
        number = str(request.url).rpartition("=")[2]
        return urllib3.HTTPResponse(
            io.BytesIO(b""), headers={"ETag": f"e{number}"}, status=200, preload_content=False
        )

    client = make(wire, monkeypatch)
    monkeypatch.setattr(wire, "exchange", exchange)
    got: dict[int, str] = {}

    def work(first: int) -> None:
        for number in range(first, 200, 4):
            got[number] = client.upload_part("k", "u", number, b"x")

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == {number: f"e{number}" for number in range(200)}
