"""The emulator on the wire: HTTP as it comes, the rules of each call, the request log."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ufile_cli.emulator.content import PartTable, StoredPart
from ufile_cli.emulator.protocol import object_etag, sign
from ufile_cli.emulator.server import Emulator

MIB = 1024 * 1024


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def etag(self) -> str:
        return (self.headers["ETag"] or "").strip('"')


class Client:
    """A plain HTTP client of one emulator, on one kept-alive connection."""

    def __init__(self, emulator: Emulator, bucket: str = "demo") -> None:
        self.host = emulator.host_of(bucket)
        self._connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)

    def __call__(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"Host": self.host, "Content-Type": "text/plain", **named}
        self._connection.request(method, target, body, named)
        response = self._connection.getresponse()
        return Reply(response.status, response.headers, response.read())

    def initiate(self, key: str, **headers: str) -> str:
        return str(self("POST", f"/{key}?uploads", **headers).json["UploadId"])

    def part(self, key: str, upload_id: str, number: int, body: Any, **headers: str) -> Reply:
        target = f"/{key}?uploadId={upload_id}&partNumber={number}"
        return self("PUT", target, body, **headers)

    def finish(self, key: str, upload_id: str, *etags: str, **headers: str) -> Reply:
        return self("POST", f"/{key}?uploadId={upload_id}", ",".join(etags), **headers)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    log = tmp_path / "requests.jsonl"
    with Emulator(tmp_path / "us3", block_size=10, request_log=log) as running:
        yield running
        assert running.errors == []


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    made = Client(emulator)
    yield made
    made.close()


def raw(emulator: Emulator, *pieces: bytes, bucket: str = "demo") -> bytes:
    """Send bytes as they are, and read to the end of what comes back."""
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=20) as sock:
        for piece in pieces:
            sock.sendall(piece.replace(b"$HOST", emulator.host_of(bucket).encode()))
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer


# HTTP


@pytest.mark.parametrize(
    "target",
    ["//double", "/a//b", "/./a", "/../a", "/a/..", "/a%2Fb", "/%3F%23%25", "/+", "/%20", "/%00"],
)
def test_targets_reach_the_store_as_they_are(
    emulator: Emulator, client: Client, target: str
) -> None:
    assert client("PUT", target, b"abc").status == 200
    assert client("GET", target).body == b"abc"
    assert emulator.requests[-1].target == target


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(min_size=1, max_size=200))
def test_every_key_round_trips(client: Client, key: str) -> None:
    content = key.encode()
    assert client("PUT", "/" + quote(key), content).status == 200
    assert client("GET", "/" + quote(key, safe="")).body == content
    listed = client("GET", "/?list&limit=1000&prefix=" + quote(key, safe="")).json["DataSet"]
    assert key in [one["FileName"] for one in listed]


TARGETS = [
    b"",
    b"k",
    b"k?uploads",
    b"k?uploadId=&partNumber=",
    b"k?uploadId=%00&partNumber=9999999999999999999",
    b"?muploadpart",
    b"?muploadid&limit=x",
    b"%ff",
]
HEADERS = [
    b"",
    b"Host\r\n",
    b"Range: bytes=x\r\n",
    b"Host: $HOST\r\n",
    b"Host: $HOST\r\nContent-Length: 3\r\n",
    b"Host: $HOST\r\nContent-Length: 99999999999\r\n",
    b"Host: $HOST\r\nTransfer-Encoding: chunked\r\n",
    b"Host: $HOST\r\nExpect: 100-continue\r\nContent-Length: 4\r\n",
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda method, target, headers, rest: (
                b"%s /%s HTTP/1.1\r\n%s\r\n%s" % (method, target, headers, rest)
            ),
            st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"BREW"]),
            st.sampled_from(TARGETS),
            st.sampled_from(HEADERS),
            st.binary(max_size=60),
        ),
    )
)
def test_no_request_ends_the_server(emulator: Emulator, garbage: bytes) -> None:
    raw(emulator, garbage)
    assert b" 200 OK" in raw(emulator, b"GET /?list HTTP/1.1\r\nHost: $HOST\r\n\r\n")
    assert emulator.errors == []


def test_many_requests_use_one_connection(emulator: Emulator, client: Client) -> None:
    for number in range(5):
        client("PUT", f"/{number}", b"x" * number)
        client("HEAD", f"/{number}")
        client("GET", "/missing")
        client("DELETE", f"/{number}")
    assert emulator.connections_opened == 1
    assert {one.connection for one in emulator.requests} == {1}


def test_pipelined_requests(emulator: Emulator) -> None:
    put = b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 3\r\n\r\nabc"
    answer = raw(emulator, put + b"GET /k HTTP/1.1\r\nHost: $HOST\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"\r\n\r\nabc")


def test_a_head_in_small_pieces(emulator: Emulator) -> None:
    request = b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 3\r\n\r\nabc"
    request = request.replace(b"$HOST", emulator.host_of("demo").encode())
    assert b"200 OK" in raw(emulator, *(request[at : at + 1] for at in range(len(request))))


def test_http_1_0_ends_the_connection(emulator: Emulator) -> None:
    answer = raw(emulator, b"GET /?list HTTP/1.0\r\nHost: $HOST\r\n\r\n")
    assert b"Connection: close" in answer


def test_connection_close_is_honoured(client: Client) -> None:
    assert client("GET", "/?list", Connection="close").headers["Connection"] == "close"


def test_chunked_bodies(emulator: Emulator, client: Client) -> None:
    assert client("PUT", "/k", iter([b"abc", b"de"])).status == 200
    assert client("GET", "/k").body == b"abcde"
    assert client("PUT", "/empty", iter([])).status == 200
    assert client("HEAD", "/empty").headers["Content-Length"] == "0"
    assert emulator.connections_opened == 1


@pytest.mark.parametrize("chunks", [b"x\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"f" * 5000])
def test_broken_chunks(emulator: Emulator, chunks: bytes) -> None:
    head = b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 400 " in raw(emulator, head, chunks)
    assert emulator.store.objects("demo", "") == []


def test_expect_100_continue(emulator: Emulator) -> None:
    head = b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=20) as sock:
        sock.sendall(head.replace(b"$HOST", emulator.host_of("demo").encode()))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_expect_100_continue_of_what_is_refused(emulator: Emulator) -> None:
    emulator.keys = ("public", "private")
    head = b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    answer = raw(emulator, head)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in answer


def test_an_early_refusal_reaches_the_sender_of_a_body(emulator: Emulator, client: Client) -> None:
    emulator.keys = ("public", "private")
    refused = client("PUT", "/k", bytes(8 * MIB))
    assert refused.status == 401
    assert refused.json["RetCode"] < 0
    assert refused.headers["Connection"] == "close"


def test_a_small_body_of_a_refused_request_costs_no_connection(
    emulator: Emulator, client: Client
) -> None:
    for _ in range(3):
        assert client("POST", "/k?uploadId=none", b"etags").status == 404
    assert emulator.connections_opened == 1


def test_bodies_are_bounded(emulator: Emulator, client: Client) -> None:
    head = b"%s HTTP/1.1\r\nHost: $HOST\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n"
    upload = client.initiate("k").encode()
    for line, size in (
        (b"PUT /k", 512 * MIB + 1),
        (b"PUT /k?uploadId=" + upload + b"&partNumber=0", 10**12),
        (b"POST /k?uploadId=" + upload, 10**12),
        (b"POST /k?uploads", 10**9),
        (b"GET /k", 10**9),
    ):
        assert b" 413 " in raw(emulator, head % (line, size))
    assert b" 431 " in raw(emulator, b"GET / HTTP/1.1\r\nX: " + b"x" * 70000)


def test_silent_clients_are_timed_out(tmp_path: Path) -> None:
    with Emulator(tmp_path, idle_timeout=0.2) as emulator:
        host = emulator.host_of("demo").encode()
        for sent in (
            b"",
            b"GET / HT",
            b"PUT /k HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\n\r\nab",
        ):
            with socket.create_connection(("127.0.0.1", emulator.port), timeout=20) as sock:
                sock.sendall(sent)
                assert sock.recv(100) == b""
        emulator.wait_for("put")
        assert emulator.requests[-1].status is None
        assert emulator.requests[-1].bytes_received == 2


def test_a_broken_body_is_logged_and_stores_nothing(emulator: Emulator) -> None:
    raw(emulator, b"PUT /k HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 9\r\n\r\nabc")
    emulator.wait_for("put")
    (record,) = emulator.requests
    assert (record.status, record.bytes_received, record.etag) == (None, 3, None)
    assert emulator.store.objects("demo", "") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "demo", "", "[::1]"])
def test_hosts_without_a_bucket(client: Client, host: str) -> None:
    answer = client("GET", "/?list", Host=host)
    assert (answer.status, answer.json["RetCode"]) == (404, -30010)


def test_bound_domains_and_given_buckets(tmp_path: Path) -> None:
    domains = {"Files.Example.com": "demo"}
    with Emulator(tmp_path, buckets=["demo"], domains=domains) as emulator:
        client = Client(emulator)
        assert client("PUT", "/k", b"abc", Host="files.example.com").status == 200
        assert client("GET", "/k").body == b"abc"
        assert client("PUT", "/k", b"abc", Host="other.cn-bj.ufileos.com").status == 404
        client.close()


def test_every_answer_names_its_session(emulator: Emulator, client: Client) -> None:
    sessions = [client(*what).headers["X-SessionId"] for what in (("GET", "/k"), ("PUT", "/k"))]
    assert len(set(sessions)) == 2
    assert all(sessions)
    assert b"X-SessionId" in raw(emulator, b"nonsense\r\n\r\n")


def test_ipv6(tmp_path: Path) -> None:
    try:
        emulator = Emulator(tmp_path, host="::1").start()
    except OSError:
        pytest.skip("no IPv6 here")
    with emulator:
        pass
    assert emulator.url.startswith("http://[::1]:")


def test_close_ends_everything(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path).start()
    idle = socket.create_connection(("127.0.0.1", emulator.port), timeout=20)
    emulator.wait_until(lambda _: emulator.connections_opened == 1)
    emulator.close()
    emulator.close()
    assert idle.recv(10) == b""
    idle.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", emulator.port), timeout=5)


def test_serve_forever_ends_with_close(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path)
    thread = threading.Thread(target=emulator.serve_forever)
    thread.start()
    emulator.close()
    thread.join(10)
    assert not thread.is_alive()


def test_the_emulator_is_light_and_knows_nothing_of_the_client() -> None:
    script = (
        "import sys; import ufile_cli.emulator.server; "
        "bad = {'requests', 'urllib3', 'click', 'rich', 'http.server', 'ssl', 'asyncio',"
        " 'ufile_cli.us3', 'ufile_cli.etag', 'ufile_cli.errors'}; "
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# Calls


def test_a_multipart_upload(client: Client) -> None:
    begun = client("POST", "/a%20b?uploads", X_Ufile_Meta_Who="me", X_Ufile_Storage_Class="IA").json
    assert begun["BlkSize"] == 10
    assert (begun["Bucket"], begun["Key"]) == ("demo", "a b")
    upload = begun["UploadId"]
    second = client.part("a%20b", upload, 1, b"xyz", Content_Type="video/mp4")
    first = client.part("a%20b", upload, 0, b"0123456789", Content_Type="video/mp4")
    assert second.json == {"PartNumber": 1}
    assert first.headers["ETag"] == f'"{first.etag}"'
    assert len(first.etag) == 28
    done = client.finish("a%20b", upload, first.headers["ETag"], second.etag)
    assert done.json == {"Bucket": "demo", "Key": "a b", "FileSize": 13}
    head = client("HEAD", "/a%20b")
    assert head.etag == done.etag
    assert head.headers["Content-Length"] == "13"
    assert head.headers["Content-Type"] == "video/mp4"
    assert head.headers["X-Ufile-Storage-Class"] == "IA"
    assert head.headers["X-Ufile-Meta-Who"] == "me"
    assert client("GET", "/a%20b").body == b"0123456789xyz"


def test_finish_takes_metadata_as_told(client: Client) -> None:
    for directive, expected in (("REPLACE", "new"), ("UNCHANGED", "old"), (None, "old")):
        upload = client.initiate("k", X_Ufile_Meta_A="old")
        etag = client.part("k", upload, 0, b"x").etag
        told = {} if directive is None else {"X_Ufile_Metadata_Directive": directive}
        assert client.finish("k", upload, etag, X_Ufile_Meta_A="new", **told).status == 200
        assert client("HEAD", "/k").headers["X-Ufile-Meta-A"] == expected


def test_finish_uses_the_new_key_where_the_key_is_taken(client: Client) -> None:
    for taken, expected in ((False, "k"), (True, "other")):
        upload = client.initiate("k")
        etag = client.part("k", upload, 0, b"x").etag
        target = f"/k?uploadId={upload}&newKey=other"
        assert client("POST", target, etag).json["Key"] == expected, taken
    assert client("GET", "/other").body == b"x"


def test_finish_is_refused_and_the_upload_lives_on(client: Client) -> None:
    upload = client.initiate("k")
    assert client.finish("k", upload).status == 400
    etag = client.part("k", upload, 0, b"0123456789").etag
    assert client.finish("k", upload, "nonsense").status == 400
    assert client.finish("k", upload, etag, etag).status == 400
    assert client.finish("k", upload, "x" * 5000).status == 400
    assert client("HEAD", "/k").status == 404
    assert client.finish("k", upload, etag).status == 200
    again = client.finish("k", upload, etag)
    assert again.status == 404


def test_an_upload_id_belongs_to_its_key(client: Client) -> None:
    upload = client.initiate("k")
    assert client.part("other", upload, 0, b"x").status == 404
    assert client("DELETE", f"/other?uploadId={upload}").status == 404
    assert client("DELETE", f"/k?uploadId={upload}").status == 204
    assert client.part("k", upload, 0, b"x").status == 404
    assert client("GET", f"/?muploadpart&uploadId={upload}").status == 404


@pytest.mark.parametrize("number", ["-1", "x", "", "10000000", "9" * 5000, "٣"])
def test_part_numbers_that_are_none(client: Client, number: str) -> None:
    upload = client.initiate("k")
    target = f"/k?uploadId={upload}&partNumber={quote(number)}"
    assert client("PUT", target, b"x").status == 400


def test_a_part_needs_type_length_and_the_right_md5(emulator: Emulator, client: Client) -> None:
    upload = client.initiate("k")
    assert client.part("k", upload, 0, iter([b"abc"])).status == 411
    untyped = f"PUT /k?uploadId={upload}&partNumber=0 HTTP/1.1\r\nHost: $HOST\r\n"
    answer = raw(emulator, untyped.encode() + b"Content-Length: 1\r\n\r\nx")
    assert b" 400 " in answer
    assert client.part("k", upload, 0, b"abc", Content_MD5="0" * 32).status == 400
    md5 = "900150983cd24fb0d6963f7d28e17f72"
    assert client.part("k", upload, 0, b"abc", Content_MD5=md5).status == 200
    assert client("PUT", "/k", b"abd", Content_MD5=md5).status == 400
    assert client("HEAD", "/k").status == 404


def test_list_parts_in_pages(client: Client) -> None:
    upload = client.initiate("k")
    for number in (0, 1, 2, 5, 40):
        client.part("k", upload, number, b"x" * (number + 1))
    target = f"/?muploadpart&uploadId={upload}&max-parts=2"
    found, marker = [], ""
    for truncated in (True, True, False):
        page = client("GET", target + marker).json
        assert (page["UploadId"], page["Key"], page["MaxParts"]) == (upload, "k", 2)
        assert page["IsTruncated"] is truncated
        found += [(part["PartNum"], part["Size"]) for part in page["Parts"]]
        marker = f"&part-number-marker={page['NextPartNumberMarker']}"
    assert found == [(0, 1), (1, 2), (2, 3), (5, 6), (40, 41)]
    above_zero = client("GET", f"/?muploadpart&uploadId={upload}&part-number-marker=0").json
    assert [part["PartNum"] for part in above_zero["Parts"]] == [1, 2, 5, 40]
    assert client("GET", target + "&part-number-marker=x").status == 400


def test_list_uploads_in_pages(client: Client) -> None:
    ids = {key: client.initiate(key) for key in ("b/2", "a", "b/1", "b/3", "c")}
    found: list[str] = []
    marker = "&marker="
    while True:
        page = client("GET", f"/?muploadid&prefix=b/&limit=2{marker}").json
        assert (page["RetCode"], page["ErrMsg"]) == (0, "")
        found += [one["UploadId"] for one in page["DataSet"]]
        if not page["NextMarker"]:
            break
        marker = "&marker=" + quote(page["NextMarker"], safe="")
    assert found == [ids["b/1"], ids["b/2"], ids["b/3"]]
    assert len(client("GET", "/?muploadid").json["DataSet"]) == 5
    assert client("GET", "/?muploadid&marker=nonsense").status == 400
    first = client("GET", "/?muploadid&limit=1").json["DataSet"][0]
    assert first["FileName"] == "a"
    assert abs(first["StartTime"] - time.time()) < 60


def test_get_head_and_delete(client: Client) -> None:
    client("PUT", "/k", b"0123456789", Content_Type="a/b", X_Ufile_Meta_One="1")
    part = client("GET", "/k", Range="bytes=3-5")
    assert (part.status, part.body) == (206, b"345")
    assert part.headers["Content-Range"] == "bytes 3-5/10"
    outside = client("GET", "/k", Range="bytes=10-")
    assert (outside.status, outside.headers["Content-Range"]) == (416, "bytes */10")
    assert outside.json["RetCode"] < 0
    head = client("HEAD", "/k")
    assert head.headers["Last-Modified"].endswith(" GMT")
    assert head.headers["X-Ufile-Meta-One"] == "1"
    assert client("DELETE", "/k").status == 204
    gone = client("HEAD", "/k")
    assert (gone.status, gone.body, gone.headers["Content-Length"]) == (404, b"", "0")
    assert client("GET", "/k").json["RetCode"] < 0
    assert client("DELETE", "/k").status == 404


def test_bad_headers_are_refused(client: Client) -> None:
    assert client("PUT", "/k", b"x", X_Ufile_Storage_Class="GLACIER").status == 400
    assert client("POST", "/k?uploads", X_Ufile_Meta_a_b="x").status == 200  # a-b on the wire
    assert client("POST", "/k?uploads", X_Ufile_Meta_A="x" * 9000).status == 400


def test_signatures_are_checked_when_there_are_keys(emulator: Emulator, client: Client) -> None:
    emulator.keys = ("public", "private")
    signature = sign("PUT\n\ntext/plain\n\n/demo/k", "private")
    put = client("PUT", "/k", b"abc", Authorization=f"UCloud public:{signature}")
    assert put.status == 200
    assert client("HEAD", "/k").status == 401
    emulator.keys = ("another", "private")
    again = client("PUT", "/k", b"abc", Authorization=f"UCloud public:{signature}")
    assert again.status == 403
    emulator.keys = None
    assert client("HEAD", "/k").status == 200
    states = [one.signature for one in emulator.requests]
    assert states == ["ok", "absent", "refused", "unchecked"]
    assert "UCloud" not in repr(emulator.requests)


def test_parts_go_in_parallel(emulator: Emulator) -> None:
    emulator.faults.add(call="part", hang="body")
    starter = Client(emulator)
    upload = starter.initiate("k")

    def send(number: int) -> None:
        one = Client(emulator)
        one.part("k", upload, number, b"0123456789")
        one.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    emulator.wait_for("part", 8, stage="received")
    assert emulator.parts_in_flight_max == 8
    assert emulator.count("part") == 0
    emulator.faults.clear()
    for thread in threads:
        thread.join()
    emulator.wait_for("part", 8)
    page = starter("GET", f"/?muploadpart&uploadId={upload}").json
    assert len(page["Parts"]) == 8
    starter.close()


def test_two_emulators_on_one_directory(emulator: Emulator, client: Client, tmp_path: Path) -> None:
    upload = client.initiate("k")
    first = client.part("k", upload, 0, b"0123456789").etag
    with Emulator(tmp_path / "us3") as other:
        second_client = Client(other)
        second = second_client.part("k", upload, 1, b"x").etag
        assert second_client.finish("k", upload, first, second).status == 200
        second_client.close()
    assert client("GET", "/k").body == b"0123456789x"


def test_a_restart_sees_what_was_acknowledged(tmp_path: Path) -> None:
    with Emulator(tmp_path) as before:
        client = Client(before)
        upload = client.initiate("k")
        etag = client.part("k", upload, 0, b"abc").etag
        client.close()
    with Emulator(tmp_path, block_size=20) as after:
        client = Client(after)
        (listed,) = client("GET", f"/?muploadpart&uploadId={upload}").json["Parts"]
        assert (listed["PartNum"], listed["Etag"], listed["Size"]) == (0, etag, 3)
        assert client.finish("k", upload, etag).status == 200
        client.close()


def test_finish_of_an_object_of_5_tb(emulator: Emulator, client: Client, tmp_path: Path) -> None:
    """1.2 million parts, their table forged: the body of Finish is 37 MB."""
    count, size = 1_200_000, 4 * MIB
    emulator.block_size = size
    upload = client.initiate("k")
    digest = bytes(range(20))
    etag = "x" * 28
    table = PartTable(size)
    with open(tmp_path / "us3" / "demo" / "uploads" / upload / "parts", "wb") as parts:
        for first in range(0, count, 10_000):
            chunk = [
                table.pack(True, StoredPart(n, size, etag, 0.0, True, n * size, digest))
                for n in range(first, first + 10_000)
            ]
            parts.write(b"".join(chunk))
    page = client("GET", f"/?muploadpart&uploadId={upload}&part-number-marker=1199990").json
    assert [part["PartNum"] for part in page["Parts"]] == list(range(1199991, 1200000))
    done = client("POST", f"/k?uploadId={upload}", ",".join([f'"{etag}"'] * count))
    assert done.json["FileSize"] == count * size
    assert done.etag == object_etag(count * size, [digest] * count)
    assert client("HEAD", "/k").headers["Content-Length"] == str(count * size)
    assert emulator.requests[1].bytes_received == 0


# Records


def test_the_log_has_a_line_before_the_answer(
    emulator: Emulator, client: Client, tmp_path: Path
) -> None:
    upload = client.initiate("a%20b")
    etag = client.part("a%20b", upload, 3, b"xyz", Authorization="UCloud a:b").etag
    lines = (tmp_path / "requests.jsonl").read_text("utf-8").splitlines()
    line = json.loads(lines[1])
    assert line["call"] == "part"
    assert line["method"] == "PUT"
    assert line["target"] == f"/a%20b?uploadId={upload}&partNumber=3"
    assert (line["bucket"], line["key"]) == ("demo", "a b")
    assert line["query"] == {"uploadId": upload, "partNumber": "3"}
    assert (line["upload_id"], line["part_number"]) == (upload, 3)
    assert (line["status"], line["bytes_received"], line["etag"]) == (200, 3, etag)
    assert line["content_type"] == "text/plain"
    assert line["connection"] == 1
    assert line["signature"] == "unchecked"
    assert line["fault"] is None
    assert line["headers"]["Content-Length"] == "3"
    assert "Authorization" not in line["headers"]
    assert emulator.requests[1].etag == etag


def test_logs_of_several_emulators_do_not_mix(tmp_path: Path) -> None:
    log = tmp_path / "log"
    emulators = [Emulator(tmp_path / "us3", request_log=log).start() for _ in range(3)]

    def send(emulator: Emulator) -> None:
        client = Client(emulator)
        for number in range(50):
            client("PUT", f"/{'k' * 500}{number}", b"x")
        client.close()

    threads = [threading.Thread(target=send, args=(one,)) for one in emulators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in emulators:
        one.close()
    lines = log.read_text("utf-8").splitlines()
    assert len(lines) == 150
    assert all(json.loads(line)["status"] == 200 for line in lines)


def test_waiting_has_an_end(emulator: Emulator) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests part answered"):
        emulator.wait_for("part", timeout=0.05)
    with pytest.raises(TimeoutError):
        emulator.wait_until(lambda records: bool(records), timeout=0.05)


def test_few_records_are_kept_when_told(tmp_path: Path) -> None:
    with Emulator(tmp_path, remember=0) as emulator:
        client = Client(emulator)
        client("GET", "/?list")
        client.close()
        assert emulator.requests == []
        assert emulator.count() == 1


def test_block_sizes_that_cannot_be(tmp_path: Path) -> None:
    for size in (0, -1, 513 * MIB):
        with pytest.raises(ValueError, match="block size"):
            Emulator(tmp_path, block_size=size)
