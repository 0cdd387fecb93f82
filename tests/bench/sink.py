"""A server that swallows uploads as cheaply as Python can, so that the client is what is measured.

It speaks as much US3 as an upload needs, checks no signature and keeps no byte: bodies are dropped
in the kernel (recv with MSG_TRUNC) where the system can do that. The content it is sent is expected
to be one block over and over, so a single SHA-1 makes every part's ETag and the object's; without
one its ETags are opaque. One thread a connection; run in a process of its own:

    python sink.py '{"block_size": 4194304, "digest": "…"}'

Its first line of output is `port N`. `GET /-/counts` answers what it has counted, and forgets it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

_ROOM = 4 * 1024 * 1024
_PACED = 256 * 1024
_TRUNC = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0


@dataclass(frozen=True, slots=True)
class Ways:
    """How the sink behaves.

    Attributes:
        block_size: BlkSize of every upload.
        digest: SHA-1 of the one block that all parts consist of, in hex; None for opaque ETags.
        latency: seconds before each answer.
        connect_latency: seconds before the first request of a connection is looked at.
        rate: bytes a second of one connection, 0 for no limit.
        line_rate: bytes a second of all connections together, 0 for no limit.
        busy_above: parts in flight above which a part is answered 503, 0 for never.
        listed: how many parts every upload id has already.
        page: parts a page of the part list.
        certificate: path of a PEM with key and certificate; None for plain HTTP.
        host: address to listen on.
    """

    block_size: int = 4 * 1024 * 1024
    digest: str | None = None
    latency: float = 0.0
    connect_latency: float = 0.0
    rate: float = 0.0
    line_rate: float = 0.0
    busy_above: int = 0
    listed: int = 0
    page: int = 1000
    certificate: str | None = None
    host: str = "127.0.0.1"


class Counts:
    """What was seen since the last look."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = 0
        self.calls: Counter[str] = Counter()
        self.body_bytes = 0
        self.flying = 0
        self.most_flying = 0

    def part_begins(self) -> int:
        with self.lock:
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
            return self.flying

    def part_ends(self) -> None:
        with self.lock:
            self.flying -= 1

    def take(self) -> dict[str, Any]:
        with self.lock:
            taken = {
                "connections": self.connections,
                "calls": dict(self.calls),
                "body_bytes": self.body_bytes,
                "in_flight": self.most_flying,
            }
            self.connections = self.body_bytes = self.most_flying = 0
            self.calls.clear()
        return taken


class Line:
    """What all connections share, where `line_rate` says so."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pass_through(self, size: int) -> None:
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            wait = self._free_at - now
        time.sleep(wait)


class Sink:
    """The listener and what its connections share."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.counts = Counts()
        self.line = Line(ways.line_rate)
        self.digest = bytes.fromhex(ways.digest) if ways.digest else None
        self.room = bytearray(_ROOM)  # never written to where MSG_TRUNC works
        self._tls: ssl.SSLContext | None = None
        if ways.certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(ways.certificate)
        self.listener = socket.create_server((ways.host, 0), backlog=1024)
        if ways.rate or ways.line_rate:
            # A line has no room for megabytes; without this the kernel would be the line.
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve_one, args=(client,), daemon=True).start()

    def _serve_one(self, client: socket.socket) -> None:
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            with client:
                _Conversation(self, client).run()
        except (OSError, EOFError):
            pass  # a client that goes away is its own business

    def part_etag(self, number: int) -> str:
        if self.digest is None:
            return f"opaque-{number}"
        return base64.urlsafe_b64encode(self.digest).decode()

    def object_etag(self, parts: int) -> str | None:
        if self.digest is None:
            return None
        final = self.digest if parts == 1 else hashlib.sha1(self.digest * parts).digest()
        return base64.urlsafe_b64encode(parts.to_bytes(4, "little") + final).decode()


class _Conversation:
    """One connection."""

    def __init__(self, sink: Sink, client: socket.socket) -> None:
        self._sink = sink
        self._client = client
        self._counted = False
        self._plain = not isinstance(client, ssl.SSLSocket)

    def run(self) -> None:
        if self._sink.ways.connect_latency:
            time.sleep(self._sink.ways.connect_latency)
        while True:
            head, rest = self._head()
            if head:
                self._answer(head, rest)

    def _head(self) -> tuple[bytes, bytes]:
        got = b""
        while b"\r\n\r\n" not in got:
            piece = self._client.recv(65536)
            if not piece:
                raise EOFError
            got += piece
        head, _, rest = got.partition(b"\r\n\r\n")
        return head, rest

    def _answer(self, head: bytes, rest: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        length = 0
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True)
        if parts.path == "/-/counts":
            self._send(200, json.dumps(self._sink.counts.take()).encode())
            return
        counts = self._sink.counts
        call = _call(method, query)
        with counts.lock:
            counts.calls[call] += 1
            counts.body_bytes += length
            if not self._counted:
                counts.connections += 1
                self._counted = True
        if call == "part":
            flying = counts.part_begins()
            try:
                self._drop(length - len(rest), len(rest))
                self._pause()
            finally:
                # Before the answer: who has it may send the next part on another connection.
                counts.part_ends()
            busy = self._sink.ways.busy_above
            if busy and flying > busy:
                self._send(503, b'{"RetCode": -1, "ErrMsg": "slow down"}')
                return
            number = int(query["partNumber"][0])
            self._send(200, b'{"PartNumber": %d}' % number, etag=self._sink.part_etag(number))
            return
        body = self._whole(rest, length)
        self._pause()
        getattr(self, f"_{call}")(query, body)

    def _pause(self) -> None:
        if self._sink.ways.latency:
            time.sleep(self._sink.ways.latency)

    def _drop(self, length: int, passed: int) -> None:
        """Read `length` bytes and look at none of them; `passed` came with the head."""
        rate, line = self._sink.ways.rate, self._sink.ways.line_rate
        step = _PACED if rate or line else _ROOM
        flags = (_TRUNC | socket.MSG_WAITALL) if self._plain else 0
        view = memoryview(self._sink.room)
        due = time.monotonic() + (passed / rate if rate else 0.0)
        while length > 0:
            got = self._client.recv_into(view, min(length, step), flags)
            if not got:
                raise EOFError
            length -= got
            if rate:
                due += got / rate
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
            self._sink.line.pass_through(got)

    def _whole(self, rest: bytes, length: int) -> bytes:
        body = bytearray(rest)
        while len(body) < length:
            piece = self._client.recv(min(length - len(body), _ROOM))
            if not piece:
                raise EOFError
            body += piece
        return bytes(body)

    def _send(self, status: int, body: bytes, *, etag: str | None = None) -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        if etag is not None:
            head += f'ETag: "{etag}"\r\n'
        self._client.sendall(head.encode() + b"\r\n" + body)

    # -- the calls -----------------------------------------------------------------------------

    def _initiate(self, _query: dict[str, list[str]], _body: bytes) -> None:
        answer = {"UploadId": "upload", "BlkSize": self._sink.ways.block_size}
        self._send(200, json.dumps(answer | {"Bucket": "", "Key": ""}).encode())

    def _finish(self, _query: dict[str, list[str]], body: bytes) -> None:
        parts = body.count(b",") + 1
        answer = json.dumps({"FileSize": parts * self._sink.ways.block_size})
        self._send(200, answer.encode(), etag=self._sink.object_etag(parts))

    def _list(self, query: dict[str, list[str]], _body: bytes) -> None:
        ways = self._sink.ways
        first = int(query["part-number-marker"][0]) + 1 if "part-number-marker" in query else 0
        end = min(ways.listed, first + ways.page)
        found = [
            {"PartNum": number, "Etag": self._sink.part_etag(number), "Size": ways.block_size}
            for number in range(first, end)
        ]
        answer = {
            "UploadId": "upload",
            "Parts": found,
            "IsTruncated": end < ways.listed,
            "NextPartNumberMarker": max(0, end - 1),
        }
        self._send(200, json.dumps(answer).encode())

    def _put(self, _query: dict[str, list[str]], body: bytes) -> None:
        digest = hashlib.sha1(body).digest()
        etag = base64.urlsafe_b64encode((1).to_bytes(4, "little") + digest).decode()
        self._send(200, b"", etag=etag)

    def _head_file(self, _query: dict[str, list[str]], _body: bytes) -> None:
        self._client.sendall(b"HTTP/1.1 404 -\r\nContent-Length: 0\r\n\r\n")

    def _abort(self, _query: dict[str, list[str]], _body: bytes) -> None:
        self._send(200, b"")


def _call(method: str, query: dict[str, list[str]]) -> str:
    if method == "POST":
        return "initiate" if "uploads" in query else "finish"
    if method == "GET":
        return "list"
    if method == "HEAD":
        return "head_file"
    if method == "DELETE":
        return "abort"
    return "part" if "partNumber" in query else "put"


def main() -> None:
    sink = Sink(Ways(**json.loads(sys.argv[1])))
    print(f"port {sink.port}", flush=True)
    sink.serve()


if __name__ == "__main__":
    main()
