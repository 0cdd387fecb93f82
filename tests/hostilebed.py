"""A server that lies, and what an output that a person sees must never hold.

`Liar` speaks bare TCP, so that it can say anything: half a head, no end, nonsense. It answers each
request with what a function of the test makes of it, and counts the bytes that were taken from it.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

MIB = 1024 * 1024

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, changes its colours, or turns its text around."""


@dataclass(frozen=True)
class Asked:
    """A request, as far as a liar cares."""

    method: str
    target: str
    head: str


Answers = Callable[[Asked], Iterable[bytes] | bytes]


def answer(
    status: int = 200, document: Any = None, *, body: bytes | None = None, **headers: str
) -> bytes:
    """A well-formed answer; underscores in names of headers stand for hyphens."""
    if body is None:
        body = b"" if document is None else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def endless(piece: bytes, begin: bytes = b"") -> Iterator[bytes]:
    """Something that never ends."""
    yield begin
    piece *= max(1, 65536 // len(piece))
    while True:
        yield piece


class Liar:
    """The server. A context manager.

    Attributes:
        asked: the requests, in the order in which their heads were read.
        sent: bytes of answers that were taken.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False
        self.asked: list[Asked] = []
        self.sent = 0
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Liar:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            left = list(self._open)
        for sock in (self._listener, *left):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as file:
                while self._one(sock, file):
                    pass
        except OSError:
            pass

    def _one(self, sock: socket.socket, file: Any) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = file.readline()
            if not line:
                return False
            head += line
        text = head.decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", text)
        left = int(length[1]) if length else 0
        while left:
            left -= len(file.read(min(left, MIB)))
        method, target, _ = text.split(" ", 2)
        asked = Asked(method, target, text)
        with self._lock:
            self.asked.append(asked)
        said = self._answers(asked)
        if isinstance(said, bytes):
            sock.sendall(said)
            return True
        for piece in said:
            sock.sendall(piece)
            with self._lock:
                self.sent += len(piece)
        return False


def nothing_raw(text: str, *, progress: bool = False) -> None:
    """Fail where a text could do something to a terminal."""
    found = RAW.search(text.replace("\r\n", "\n") if progress else text)
    assert found is None, f"{found[0]!r} is shown in {text[: found.start() + 40]!r}"
