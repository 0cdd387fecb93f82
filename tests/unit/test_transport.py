"""The transport against bare sockets: what really goes over the wire, and when it gives up.

The servers here are a few lines each and know no HTTP library, so that a mistake shared by both
ends cannot hide. The only timings asserted are those of the stall limits.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ufile_cli.credentials import Credentials
from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    NetworkError,
    NotConfigured,
    Refused,
    ServerTrouble,
    SourceError,
)
from ufile_cli.us3 import transport
from ufile_cli.us3.client import Client, RequestRecord
from ufile_cli.us3.endpoints import Endpoint

KEYS = Credentials("public", "private")
OK_PART = b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nContent-Length: 0\r\n\r\n'


def read_head(sock: socket.socket) -> bytes:
    """The request's head, read byte by byte so that nothing of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def read_request(sock: socket.socket) -> tuple[bytes, bytes]:
    head = read_head(sock)
    body = bytearray()
    while len(body) < length_of(head):
        data = sock.recv(65536)
        if not data:
            break
        body += data
    return head, bytes(body)


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Server:
    """Gives every accepted connection, with its number from 0, to a function in a thread."""

    def __init__(
        self, serve: Callable[[socket.socket, int], None], *, options: list[tuple[int, int, int]]
    ) -> None:
        self.listener = socket.socket()
        for option in options:
            self.listener.setsockopt(*option)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.heads: list[bytes] = []
        self.serve = serve
        self.done = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            number = self.accepted
            self.accepted += 1
            threading.Thread(target=self._one, args=(sock, number), daemon=True).start()

    def _one(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            self.serve(sock, number)
        with contextlib.suppress(OSError):
            sock.close()

    def client(self, **kwargs: object) -> Client:
        address = Endpoint.parse(f"http://127.0.0.1:{self.port}").address("demo")
        return Client(address, KEYS, **kwargs)  # type: ignore[arg-type]

    def close(self) -> None:
        self.done.set()
        self.listener.close()


Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def run(
        serve: Callable[[socket.socket, int], None],
        options: list[tuple[int, int, int]] | None = None,
    ) -> Server:
        servers.append(Server(serve, options=options or []))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


def answering(*answers: bytes) -> Callable[[socket.socket, int], None]:
    """Serves one connection after the other with these answers, in order, then closes."""
    left = list(answers)

    def serve(sock: socket.socket, _number: int) -> None:
        while left:
            head, _ = read_request(sock)
            if not head:
                return
            sock.sendall(left.pop(0))

    return serve


class Recorded:
    """Answers every request alike and keeps the heads."""

    def __init__(self, answer: bytes = OK_PART) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    def __call__(self, sock: socket.socket, _number: int) -> None:
        while True:
            head, body = read_request(sock)
            if not head:
                return
            self.heads.append(head)
            self.bodies.append(body)
            sock.sendall(self.answer)

    @property
    def targets(self) -> list[str]:
        return [head.split(b"\r\n")[0].split(b" ")[1].decode() for head in self.heads]

    def header(self, name: str, index: int = -1) -> bytes | None:
        for line in self.heads[index].split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip()
        return None


class Zeros:
    """A file-like body of a given length."""

    def __init__(self, length: int) -> None:
        self.length = self.left = length
        self.largest = 0

    def __len__(self) -> int:
        return self.length

    def read(self, size: int = -1, /) -> memoryview:
        self.largest = max(self.largest, size)
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return memoryview(bytes(size))


AWKWARD: dict[str, str] = {
    case["key"]: case["target"]
    for case in json.loads(
        (Path(__file__).parent.parent / "vectors" / "keys.json").read_text("utf-8")
    )["cases"]
}


class TestTarget:
    def test_keys_go_out_as_they_are(self, start: Start) -> None:
        server = Recorded()
        with start(server).client() as client:
            for key in AWKWARD:
                client.put(key, b"x")
        assert server.targets == list(AWKWARD.values())

    def test_upload_ids_are_quoted_in_the_query(self, start: Start) -> None:
        server = Recorded()
        with start(server).client() as client:
            client.upload_part("k", "u/1?&=\"'+ %é", 3, b"x")
        assert server.targets == ["/k?uploadId=u%2F1%3F%26%3D%22%27%2B%20%25%C3%A9&partNumber=3"]

    def test_through_a_forwarding_proxy(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = Recorded()
        port = start(proxy).port
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        address = Endpoint.parse("http://us3.example.test").address("demo")
        with Client(address, KEYS) as client:
            for key in AWKWARD:
                client.put(key, b"x")
        shielded = {".": "/%2E", "..": "/%2E%2E", "./a/../b/": "/%2E/a/%2E%2E/b/"}
        assert proxy.targets == [
            "http://demo.us3.example.test" + shielded.get(key, target)
            for key, target in AWKWARD.items()
        ]
        assert proxy.header("host") == b"demo.us3.example.test"
        assert proxy.header("proxy-authorization") is not None

    def test_a_loopback_address_needs_no_proxy(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        with start(Recorded()).client() as client:
            assert client.put("k", b"x") == "abc"

    def test_host_header_names_the_bucket(self, start: Start) -> None:
        server = Recorded()
        running = start(server)
        with running.client() as client:
            client.put("k", b"x")
        assert server.header("host") == f"demo.127.0.0.1:{running.port}".encode()

    def test_netrc_does_not_override_the_signature(
        self, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        server = Recorded()
        with start(server).client() as client:
            client.put("k", b"x")
        assert (server.header("authorization") or b"").startswith(b"UCloud public:")

    def test_cookies_are_not_kept(self, start: Start) -> None:
        server = Recorded(
            b'HTTP/1.1 200 OK\r\nETag: "a"\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n'
        )
        with start(server).client() as client:
            client.put("k", b"x")
            client.put("k", b"x")
        assert server.header("cookie") is None


class TestBodies:
    def test_file_like_body_is_read_in_large_blocks(self, start: Start) -> None:
        server = Recorded()
        body = Zeros(3_000_000)
        with start(server).client() as client:
            client.upload_part("k", "u", 0, body)
        assert server.header("content-length") == b"3000000"
        assert server.header("transfer-encoding") is None
        assert len(server.bodies[0]) == 3_000_000
        assert body.largest == 1024 * 1024

    def test_empty_put_has_a_length(self, start: Start) -> None:
        server = Recorded()
        with start(server).client() as client:
            client.put("k", b"")
            client.put("k", Zeros(0))
        for index in range(2):
            assert server.header("content-length", index) == b"0"
            assert server.header("transfer-encoding", index) is None

    def test_a_body_that_ends_early_is_the_sources_fault(self, start: Start) -> None:
        body = Zeros(100_000)
        body.left = 99_999
        with start(Recorded()).client() as client:
            with pytest.raises(SourceError, match="shorter") as caught:
                client.upload_part("k", "u", 7, body)
            assert caught.value.part == 7
            assert client.put("k", b"x") == "abc"

    def test_a_body_that_cannot_be_read_is_the_sources_fault(self, start: Start) -> None:
        class Broken(Zeros):
            def read(self, size: int = -1, /) -> memoryview:
                raise OSError(5, "Input/output error")

        with (
            start(Recorded()).client() as client,
            pytest.raises(SourceError, match="Input/output error"),
        ):
            client.put("k", Broken(10))


class TestConnections:
    def test_as_many_as_threads(self, start: Start) -> None:
        running = start(Recorded())
        together = threading.Barrier(4)
        with running.client(connections=4) as client:

            def work() -> None:
                together.wait(10)
                for number in range(20):
                    client.upload_part("k", "u", number, Zeros(10_000))

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert running.accepted <= 4

    def test_an_error_answer_leaves_the_connection_usable(self, start: Start) -> None:
        body = b'{"RetCode": -1, "ErrMsg": "busy"}'
        answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%b"
        running = start(Recorded(answer % (len(body), body)))
        with running.client() as client:
            for _ in range(3):
                with pytest.raises(ServerTrouble) as caught:
                    client.put("k", b"x")
                assert caught.value.retry_after == 7.0
        assert running.accepted == 1

    def test_a_redirect_is_not_followed(self, start: Start) -> None:
        server = Recorded(
            b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/x\r\nContent-Length: 0\r\n\r\n"
        )
        with start(server).client() as client, pytest.raises(Refused, match=r"evil\.example"):
            client.put("k", b"x")
        assert len(server.heads) == 1

    def test_a_connection_closed_while_idle_is_replaced(self, start: Start) -> None:
        closed = threading.Event()

        def serve(sock: socket.socket, number: int) -> None:
            read_request(sock)
            sock.sendall(OK_PART)
            if number == 0:
                sock.close()
                closed.set()

        running = start(serve)
        with running.client() as client:
            client.put("k", b"x")
            assert closed.wait(10)
            assert client.put("k", b"x") == "abc"
        assert running.accepted == 2

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what was acknowledged")
    def test_a_break_after_some_of_the_body_is_not_stale(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_request(sock)
            sock.sendall(OK_PART)
            read_head(sock)
            taken = 0
            while taken < 2_000_000:
                taken += len(sock.recv(65536))
            reset(sock)

        with start(serve).client() as client:
            client.put("k", b"x")
            with pytest.raises(NetworkError) as caught:
                client.put("k", Zeros(8_000_000))
        assert caught.value.reset
        assert not caught.value.stale

    def test_a_break_on_a_new_connection_is_not_stale(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_request(sock)
            reset(sock)

        with start(serve).client() as client, pytest.raises(NetworkError) as caught:
            client.upload_part("k", "u", 4, b"x" * 1000)
        assert caught.value.reset
        assert not caught.value.stale
        assert caught.value.part == 4

    def test_stale_when_the_peer_was_gone_before_the_request(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = threading.Event()

        def serve(sock: socket.socket, number: int) -> None:
            read_request(sock)
            sock.sendall(OK_PART)
            if number == 0:
                reset(sock)
                gone.set()

        from ufile_cli.us3 import transport

        with start(serve).client() as client:
            client.put("k", b"x")
            assert gone.wait(10)
            # The race in which the pool's check comes just before the peer's reset.
            monkeypatch.setattr(transport._Patient, "is_connected", True)
            with pytest.raises(NetworkError) as caught:
                client.put("k", b"x" * 100_000)
            assert caught.value.stale
            assert caught.value.reset


@pytest.fixture(params=["a send waits in the kernel", "a send never waits"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to send: the second is that of systems where the kernel ends no send by itself."""
    if request.param == "a send never waits":
        monkeypatch.setattr(transport, "_sends_end_after", lambda _sock, _seconds: False)


@pytest.mark.usefixtures("either_way")
class TestEarlyAnswers:
    BODY = b'{"RetCode": -148653, "ErrMsg": "signature"}'
    ANSWER = b"HTTP/1.1 401 No\r\nX-SessionId: s1\r\nContent-Length: %d\r\n\r\n%b" % (
        len(BODY),
        BODY,
    )

    def test_an_answer_before_the_reset_is_read(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_head(sock)
            sock.sendall(self.ANSWER)
            reset(sock)

        # Whether the answer survives the reset is a race in the kernel; either way it is ours.
        seen = set()
        with start(serve).client() as client:
            for _ in range(10):
                with pytest.raises((CredentialsRefused, NetworkError)) as caught:
                    client.upload_part("k", "u", 0, Zeros(4_000_000))
                seen.add(type(caught.value))
                if isinstance(caught.value, NetworkError):
                    assert caught.value.reset
        assert CredentialsRefused in seen

    def test_an_answer_of_a_server_that_stops_reading(self, start: Start) -> None:
        running: list[Server] = []

        def serve(sock: socket.socket, _number: int) -> None:
            read_head(sock)
            sock.sendall(self.ANSWER)
            running[0].done.wait(60)

        running.append(start(serve))
        begun = time.monotonic()
        with running[0].client(timeout=30) as client:
            with pytest.raises(CredentialsRefused) as caught:
                client.upload_part("k", "u", 0, Zeros(16_000_000))
            assert caught.value.session_id == "s1"
            assert caught.value.ret_code == -148653
            # What was not sent to its end is not used again.
            with pytest.raises(CredentialsRefused):
                client.upload_part("k", "u", 0, Zeros(16_000_000))
        assert running[0].accepted == 2
        assert time.monotonic() - begun < 20


def slow_reader(rate: int, *, stop_after: int | None = None) -> Callable[..., None]:
    """Takes bytes at a rate, from a window of a few KB; stops for good after some of them."""

    def serve(sock: socket.socket, _number: int) -> None:
        head = read_head(sock)
        left = length_of(head)
        tick = threading.Event()
        taken = 0
        while left:
            if stop_after is not None and taken >= stop_after:
                tick.wait(60)
            data = sock.recv(min(rate // 8, left))
            if not data:
                return
            left -= len(data)
            taken += len(data)
            tick.wait(len(data) / rate)
        sock.sendall(OK_PART)
        sock.recv(1)

    return serve


# Small segments and a small window: the loopback would otherwise take it all at once.
NARROW = [
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 2048),
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536),
]


@pytest.mark.skipif(sys.platform != "linux", reason="only there does the kernel end a send")
def test_a_block_is_one_send(start: Start) -> None:
    """Each further one is a fight for the interpreter's lock with the other threads."""

    def serve(sock: socket.socket, _number: int) -> None:
        read_request(sock)
        sock.sendall(OK_PART)
        sock.recv(1)

    sends = 0

    def count(_frame: object, event: str, called: object) -> None:
        nonlocal sends
        if event == "c_call" and getattr(called, "__name__", "") == "send":
            sends += 1

    with start(serve).client() as client:
        sys.setprofile(count)
        try:
            client.upload_part("k", "u", 0, Zeros(16 * transport.BLOCK_SIZE))
        finally:
            sys.setprofile(None)
    assert 17 <= sends < 32  # the head and 16 blocks; some more where the server is slow


@pytest.mark.usefixtures("either_way")
class TestStalls:
    def test_a_slow_line_is_not_a_dead_line(self, start: Start) -> None:
        running = start(slow_reader(8192), options=NARROW)
        with running.client(timeout=2) as client:
            begun = time.monotonic()
            assert client.upload_part("k", "u", 0, Zeros(48 * 1024)) == "abc"
            assert time.monotonic() - begun > 4, "the line was not slow"

    def test_a_slow_line_with_more_than_the_kernel_takes(self, start: Start) -> None:
        running = start(slow_reader(65536), options=NARROW)
        with running.client(timeout=1) as client:
            begun = time.monotonic()
            assert client.upload_part("k", "u", 0, Zeros(400 * 1024)) == "abc"
            assert time.monotonic() - begun > 4, "the line was not slow"

    @pytest.mark.parametrize("size", [48 * 1024, 8_000_000])
    def test_a_dead_line_is_given_up(self, start: Start, size: int) -> None:
        running = start(slow_reader(32768, stop_after=8192), options=NARROW)
        with running.client(timeout=1) as client:
            begun = time.monotonic()
            with pytest.raises(NetworkError, match="no byte moved for 1 s") as caught:
                client.upload_part("k", "u", 0, Zeros(size))
            assert 0.9 < time.monotonic() - begun < 10
            assert not caught.value.connecting

    def test_an_answer_that_does_not_come(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_request(sock)
            sock.recv(1)

        with start(serve).client(timeout=0.5) as client:
            begun = time.monotonic()
            with pytest.raises(NetworkError, match=r"no byte moved for 0\.5 s"):
                client.put("k", b"x")
            assert 0.4 < time.monotonic() - begun < 5

    def test_finish_may_take_longer(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_request(sock)
            threading.Event().wait(1.2)
            sock.sendall(OK_PART)

        with start(serve).client(timeout=0.4, finish_timeout=20) as client:
            assert client.finish("k", "u", ["a"]).etag == "abc"
            with pytest.raises(NetworkError):
                client.put("k", b"x")

    def test_an_answer_that_stops_in_the_middle_of_finish(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            read_request(sock)
            sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"Bucket":')
            sock.recv(1)

        with start(serve).client(timeout=0.5, finish_timeout=60) as client:
            begun = time.monotonic()
            with pytest.raises(BadAnswer):
                client.finish("k", "u", ["a"])
            assert time.monotonic() - begun < 10


class TestNetworkErrors:
    def test_connection_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        address = Endpoint.parse(f"http://127.0.0.1:{port}").address("demo")
        with (
            Client(address, KEYS) as client,
            pytest.raises(NetworkError, match="connection refused") as caught,
        ):
            client.put("k", b"x")
        assert caught.value.connecting
        assert not caught.value.reset
        assert not caught.value.stale

    def test_no_such_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        address = Endpoint.parse("https://us3.invalid").address("demo")
        with (
            Client(address, KEYS, proxies_from_env=False) as client,
            pytest.raises(NetworkError, match="no such host") as caught,
        ):
            client.put("k", b"x")
        assert caught.value.connecting

    @pytest.mark.parametrize(
        "answer",
        [
            b"garbage\r\n\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
            b"",
            b"HTTP/1.1 2",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
        ],
    )
    def test_answers_that_are_no_http(self, start: Start, answer: bytes) -> None:
        with start(answering(answer)).client() as client, pytest.raises(NetworkError):
            client.put("k", b"x")

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b" " * 200_000,
        ],
    )
    def test_answers_that_make_no_sense(self, start: Start, answer: bytes) -> None:
        with start(answering(answer)).client() as client, pytest.raises(BadAnswer):
            client.initiate("k")

    def test_an_earlier_failure_is_not_taken_for_the_cause(self, start: Start) -> None:
        with start(answering(b"garbage\r\n\r\n")).client() as client:
            try:
                raise TimeoutError(110, "no byte moved for 60 s")
            except TimeoutError:
                with pytest.raises(NetworkError, match="no HTTP"):
                    client.put("k", b"x")

    def test_a_proxy_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        for scheme in ("http", "https"):
            address = Endpoint.parse(f"{scheme}://us3.example.test").address("demo")
            with Client(address, KEYS) as client, pytest.raises(NetworkError) as caught:
                client.put("k", b"x")
            assert "proxy" in caught.value.message
            assert "secret" not in caught.value.message
            assert caught.value.connecting

    def test_a_proxy_that_refuses_the_tunnel(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = start(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")).port
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        address = Endpoint.parse("https://us3.example.test").address("demo")
        with Client(address, KEYS) as client, pytest.raises(NetworkError, match="407"):
            client.put("k", b"x")

    @pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://:0:0"])
    def test_a_proxy_that_is_no_url(self, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        address = Endpoint.parse("http://us3.example.test").address("demo")
        with Client(address, KEYS) as client, pytest.raises((NotConfigured, NetworkError)):
            client.put("k", b"x")

    def test_a_ca_bundle_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        with pytest.raises(NotConfigured, match="REQUESTS_CA_BUNDLE"):
            Client(Endpoint.parse("cn-bj").address("demo"), KEYS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, key and all in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    made = subprocess.run(
        (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {key.name} -out {path.name}"
        ).split(),
        cwd=path.parent,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("needs the openssl command")
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


class TestTLS:
    @pytest.fixture
    def wrap(self, certificate: Path) -> Callable[..., Callable[[socket.socket, int], None]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        def wrapper(
            serve: Callable[[socket.socket, int], None],
        ) -> Callable[[socket.socket, int], None]:
            def wrapped(sock: socket.socket, number: int) -> None:
                with context.wrap_socket(sock, server_side=True) as tls:
                    serve(tls, number)

            return wrapped

        return wrapper

    def _client(self, port: int, **kwargs: float) -> Client:
        address = Endpoint.parse(f"https://127.0.0.1:{port}").address("demo")
        return Client(address, KEYS, **kwargs)  # type: ignore[arg-type]

    def test_large_and_small_bodies(
        self,
        start: Start,
        wrap: Callable[..., Callable[[socket.socket, int], None]],
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        server = Recorded()
        records: list[RequestRecord] = []
        address = Endpoint.parse(f"https://127.0.0.1:{start(wrap(server)).port}").address("demo")
        with Client(address, KEYS, log=records.append) as client:
            for number, size in enumerate((5_000_000, 1, 70_000)):
                client.upload_part("//k", "u", number, Zeros(size))
        assert [len(body) for body in server.bodies] == [5_000_000, 1, 70_000]
        assert server.targets[0] == "///k?uploadId=u&partNumber=0"
        assert [record.reused for record in records] == [False, True, True]

    def test_slow_and_dead_lines(
        self,
        start: Start,
        wrap: Callable[..., Callable[[socket.socket, int], None]],
        certificate: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        slow = start(wrap(slow_reader(16384)), options=NARROW)
        with self._client(slow.port, timeout=2.0) as client:
            begun = time.monotonic()
            assert client.upload_part("k", "u", 0, Zeros(64 * 1024)) == "abc"
            assert time.monotonic() - begun > 3, "the line was not slow"
        dead = start(wrap(slow_reader(65536, stop_after=16384)), options=NARROW)
        for size in (32 * 1024, 4_000_000):
            with self._client(dead.port, timeout=1.0) as client:
                begun = time.monotonic()
                with pytest.raises(NetworkError, match="no byte moved"):
                    client.upload_part("k", "u", 0, Zeros(size))
                assert time.monotonic() - begun < 15

    def test_a_certificate_nobody_vouches_for(
        self,
        start: Start,
        wrap: Callable[..., Callable[[socket.socket, int], None]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        running = start(wrap(Recorded()))
        with (
            self._client(running.port) as client,
            pytest.raises(NetworkError, match="certificate") as caught,
        ):
            client.put("k", b"x")
        assert "REQUESTS_CA_BUNDLE" in (caught.value.hint or "")
        assert caught.value.connecting

    def test_plain_http_where_tls_was_expected(self, start: Start) -> None:
        def serve(sock: socket.socket, _number: int) -> None:
            sock.recv(1)
            sock.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")
            sock.recv(65536)

        with (
            self._client(start(serve).port) as client,
            pytest.raises(NetworkError, match="TLS"),
        ):
            client.put("k", b"x")


def test_records_hold_no_secret(start: Start) -> None:
    records: list[RequestRecord] = []
    with start(Recorded()).client(log=records.append) as client:
        client.upload_part("k", "u", 2, Zeros(10))
        with pytest.raises(BadAnswer):
            client.initiate("k")
        shown = repr((records, client))
    assert [record.call for record in records] == ["UploadPart", "InitiateMultipartUpload"]
    assert records[0].target == "/k?uploadId=u&partNumber=2"
    assert records[0].body_size == 10
    assert "makes no sense" in (records[1].error or "")
    assert "private" not in shown
    assert "UCloud " not in shown
