"""Bytes to and from one host: a requests adapter over urllib3 connections of our own.

Three things the libraries do not do by themselves, through the points they offer for subclassing:

- **Keys go out as they are.** requests collapses a leading `//`, urllib3 resolves dot segments of
  absolute URLs: `Adapter.request_url` hands the target on verbatim.
- **A slow line is not a dead line.** urllib3 sends a body under the connect timeout, and a timed
  `sendall` counts the whole block. Here a send waits in the kernel for moments at most, and a clock
  runs only while nothing moves: it starts anew whenever the kernel takes bytes or its own send
  queue shrinks. So "no byte moved for N seconds" holds however large the block is.
- **A break tells what it was.** `Severed` knows whether the connection had carried answers before,
  and whether the peer had acknowledged anything of this request.

It never retries, follows redirects, keeps cookies or reads `.netrc`; the environment's proxies and
CA bundle are looked up once (each look-up costs more than a request).
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import ipaddress
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import requests
import requests.utils
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ufile_cli.errors import NotConfigured

try:
    import fcntl
    import termios
except ImportError:  # Windows: stalls are then told by writability alone
    fcntl = None  # type: ignore[assignment]
    termios = None  # type: ignore[assignment]

__all__ = ["BLOCK_SIZE", "LIBRARY_ERRORS", "Adapter", "Severed", "Surroundings", "unsent"]

BLOCK_SIZE = 1024 * 1024
"""Bytes asked of a body at a time, at most; it may give fewer. urllib3's own 16 KiB cost 2 to 3.6
times the CPU."""

_TLS_SLICE = 64 * 1024
_NOTSENT_LOWAT = 128 * 1024
_TICK = 1.0
_MOMENT = 0.25
_LINES_LIMIT = 400
_SO_NWRITE = 0x1024  # macOS: bytes in the send queue
_TCP_NOTSENT_LOWAT = {"linux": 25, "darwin": 0x201}.get(sys.platform)
# struct tcp_info, linux/tcp.h: tcpi_bytes_acked is a u64 behind 120 bytes. Stable ABI.
_TCP_INFO = 11
_BYTES_ACKED = struct.Struct("=120xQ")
_TIMEVAL = struct.Struct("@ll")


class Severed(ConnectionResetError):
    """The connection broke before an answer came.

    Attributes:
        stale: it was a kept-alive one, and the peer took nothing of this request: it had been
            given up while it was idle.
    """

    def __init__(self, cause: BaseException, *, stale: bool) -> None:
        super().__init__(errno.ECONNRESET, "connection reset")
        self.cause = cause
        self.stale = stale


def unsent(sock: socket.socket) -> int | None:
    """Bytes in the kernel's send queue that the peer has not acknowledged, None if unknown."""
    try:
        if sys.platform == "darwin":
            return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        if fcntl is None:
            return None
        raw = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return None
    return int.from_bytes(raw, sys.byteorder)


def _acknowledged(sock: Any) -> int | None:
    """Bytes that the peer has acknowledged since the connection began, None if unknown."""
    if sys.platform != "linux":
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED.size)
        return int(_BYTES_ACKED.unpack(raw)[0])
    except (OSError, ValueError, AttributeError, struct.error):
        return None


def _ready(sock: Any, read: bool, write: bool, seconds: float) -> tuple[bool, bool]:
    """(readable, writable) within some seconds; errors and hang-ups count as both."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = poll.poll(seconds * 1000)
        bits = events[0][1] if events else 0
        broken = bool(bits & (select.POLLERR | select.POLLHUP | select.POLLNVAL))
        return broken or bool(bits & select.POLLIN), broken or bool(bits & select.POLLOUT)
    readable, writable, _ = select.select(
        [sock] if read else [], [sock] if write else [], [], seconds
    )
    return bool(readable), bool(writable)


class _Patient:
    """What our plain and TLS connections have in common. Mixed into urllib3's connections.

    `send` and `getresponse` are http.client's own points of entry; urllib3 calls both.
    """

    stall_limit: ClassVar[float] = 60.0

    sock: Any
    timeout: float | None

    # Set when the socket is connected and tuned; before, a proxy's CONNECT may be under way,
    # which reads and writes under the connect timeout.
    _tuned: bool = False
    # The timeout that the socket has while it sends: None where the kernel ends a send by itself.
    _while_sending: float | None = 0.0
    # The request could not be sent to its end: whatever is answered, no other may follow it.
    _spoiled: bool = False
    _answers: int = 0
    _acknowledged_before: int | None = None
    _in_request: bool = False

    def connect(self) -> None:
        self._tuned = self._spoiled = False
        self._answers = 0
        super().connect()  # type: ignore[misc]
        _tune(self.sock)
        moment = min(_MOMENT, self.stall_limit / 4)
        self._while_sending = None if _sends_end_after(self.sock, moment) else 0.0
        self._tuned = True

    @property
    def is_connected(self) -> bool:
        return not self._spoiled and bool(super().is_connected)  # type: ignore[misc]

    def close(self) -> None:
        self._tuned = False
        super().close()  # type: ignore[misc]

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._in_request = False
        super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if not self._tuned:
            super().send(data)  # type: ignore[misc]
            return
        sock = self.sock
        if not self._in_request:
            self._in_request = True
            self._acknowledged_before = _acknowledged(sock) if self._answers else None
        try:
            if isinstance(sock, ssl.SSLSocket):
                self._send_tls(sock, memoryview(data).cast("B"))
            elif isinstance(sock, socket.socket):
                self._send_plain(sock, memoryview(data).cast("B"))
            else:
                # TLS inside TLS, pyOpenSSL: no sockets, but with sendall and settimeout.
                sock.settimeout(self.stall_limit)
                view = memoryview(data).cast("B")
                for start in range(0, len(view), _TLS_SLICE):
                    sock.sendall(view[start : start + _TLS_SLICE])
        except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, ssl.SSLEOFError):
            # The server may have refused early (401, 413) and gone; its answer can still lie in
            # the receive buffer. urllib3 reads on after a BrokenPipeError, and only then.
            self._spoiled = True
            raise BrokenPipeError(errno.EPIPE, "broken pipe") from None
        except BaseException:
            self._spoiled = True
            raise

    def _send_plain(self, sock: socket.socket, view: memoryview) -> None:
        # Where the kernel ends a send after a moment, it may do the waiting before that: each
        # return to the interpreter is a fight for its lock, several in a block otherwise.
        if sock.gettimeout() != self._while_sending:
            sock.settimeout(self._while_sending)
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                self._wait_to_send(sock)

    def _send_tls(self, sock: ssl.SSLSocket, view: memoryview) -> None:
        if sock.gettimeout() != 0.0:
            sock.settimeout(0.0)
        while view:
            # OpenSSL wants an unfinished write to be tried again with the very same bytes.
            piece = view[:_TLS_SLICE]
            try:
                view = view[sock.send(piece) :]
            except ssl.SSLWantWriteError:
                self._wait_to_send(sock)
            except ssl.SSLWantReadError:
                self._wait(sock, read=True, write=False, limit=self.stall_limit)

    def _wait_to_send(self, sock: socket.socket) -> None:
        # Over plain HTTP an answer that comes while the body is still going out is an early
        # refusal: stop sending. Over TLS readability may be no more than a session ticket.
        plain = not isinstance(sock, ssl.SSLSocket)
        readable, writable = self._wait(sock, read=plain, write=True, limit=self.stall_limit)
        if readable and not writable:
            raise BrokenPipeError(errno.EPIPE, "answered early")

    def _wait(
        self, sock: socket.socket, *, read: bool, write: bool, limit: float
    ) -> tuple[bool, bool]:
        """Wait until the socket is ready, or nothing has moved for `limit` seconds.

        Raises:
            TimeoutError: nothing moved.
        """
        since = time.monotonic()
        queued: int | None = None  # not looked at yet: most waits are over before
        while True:
            left = since + limit - time.monotonic()
            readable, writable = _ready(sock, read, write, max(0.0, min(left, _TICK, limit / 4)))
            if readable or writable:
                return readable, writable
            now = unsent(sock)
            if now is not None and (now > 0 if queued is None else now < queued):
                since = time.monotonic()
            elif left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"no byte moved for {limit:g} s")
            queued = now

    def _wait_for_answer(self, sock: socket.socket, limit: float) -> None:
        """Wait for the first byte of the answer while the last bytes of the body go out.

        The clock of `limit` seconds begins when the kernel's queue is empty or stops shrinking.
        """
        if not isinstance(sock, ssl.SSLSocket) or self._answers:
            self._wait(sock, read=True, write=False, limit=limit)
            return
        # The first bytes on a new TLS connection are session tickets. Wait for the queue instead,
        # and leave the answer to the timeout of the read itself.
        since = time.monotonic()
        queued = unsent(sock)
        while queued:
            if _ready(sock, False, False, 0.005)[0]:
                return  # broken: the read says how
            now = unsent(sock)
            if now is None or now < queued:
                since = time.monotonic()
            elif time.monotonic() - since > limit:
                if _ready(sock, True, False, 0.0)[0]:
                    return  # perhaps an early answer
                raise TimeoutError(errno.ETIMEDOUT, f"no byte moved for {limit:g} s")
            queued = now

    def getresponse(self) -> Any:
        sock = self.sock
        limit = self.timeout
        reused = self._answers > 0
        untouched = reused
        try:
            if isinstance(sock, socket.socket) and limit is not None and not self._spoiled:
                self._wait_for_answer(sock, limit)
            # Asked now, since http.client closes the socket before it lets an exception out.
            untouched = reused and self._untouched(sock)
            response = super().getresponse()  # type: ignore[misc]
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise Severed(error, stale=untouched) from error
        self._answers += 1
        # The rest of the answer has begun to come: from here on a stall is a stall, even where
        # the first byte was waited for much longer (Finish).
        if limit is not None and limit > self.stall_limit:
            with contextlib.suppress(OSError, ValueError):
                sock.settimeout(self.stall_limit)
        response.reused = reused
        return response

    def _untouched(self, sock: Any) -> bool:
        """Whether the peer acknowledged nothing of this request, as far as one can tell."""
        before, after = self._acknowledged_before, _acknowledged(sock)
        return before is None or after is None or after <= before


def _sends_end_after(sock: Any, seconds: float) -> bool:
    """Make a blocking send give back what the kernel took by then. False where it can't.

    Not for TLS, which wants an unfinished write to be tried again with the very same bytes.
    """
    if sys.platform != "linux" or type(sock) is not socket.socket:
        return False
    whole, part = divmod(seconds, 1.0)
    try:
        limit = _TIMEVAL.pack(int(whole), max(1, int(part * 1_000_000)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.size) != bytes(
            _TIMEVAL.size
        )
    except OSError:
        return False


def _tune(sock: Any) -> None:
    """Options that urllib3 does not set; none of them is worth failing for."""
    options: list[tuple[int, int, int]] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    if _TCP_NOTSENT_LOWAT is not None:
        # Without it the kernel takes megabytes at once on a line of 4 KB/s, hiding for minutes
        # whether anything arrives.
        options.append((socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT))
    for option in options:
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(*option)


class _Lines(io.BufferedReader):
    """An answer's bytes, with an end to the lines that come one after the other.

    Lines are heads, interim answers and trailers; between the lines of a chunked body there are
    chunks. http.client bounds the headers of an answer, but neither how many `100 Continue` may
    come before it nor the trailers behind it: a server that goes on with them would hold a call
    for ever.
    """

    _running = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._running += 1
        if self._running > _LINES_LIMIT:
            raise http.client.HTTPException("too many lines without content")
        return super().readline(size)

    def read(self, size: int | None = -1, /) -> bytes:
        self._running = 0
        return super().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        self._running = 0
        return super().read1(size)

    def readinto(self, buffer: Any, /) -> int:
        self._running = 0
        return super().readinto(buffer)


class _Answer(http.client.HTTPResponse):
    """An answer whose head and trailers come to an end, whatever the server sends."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: io.BufferedReader = _Lines(self.fp.detach())  # nothing was read from it yet


class _PlainConnection(_Patient, HTTPConnection):
    response_class = _Answer


class _TLSConnection(_Patient, HTTPSConnection):
    response_class = _Answer


def _pool_classes(stall_limit: float) -> dict[str, type[HTTPConnectionPool]]:
    """Pools whose connections have this stall limit.

    A class attribute, since urllib3's pool keys take no arguments that it does not know.
    """
    plain = type("Connection", (_PlainConnection,), {"stall_limit": stall_limit})
    tls = type("TLSConnection", (_TLSConnection,), {"stall_limit": stall_limit})
    return {
        "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("TLSPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }


class Surroundings:
    """What the environment says about the way to one URL, looked up once.

    Attributes:
        proxies: as requests takes them; empty for loopback addresses, which no proxy can reach.
        verify: a CA bundle's path, or True for the one that comes with requests.
    """

    def __init__(self, base_url: str, *, proxies_from_env: bool = True) -> None:
        self.proxies: dict[str, str] = {}
        if proxies_from_env and not _is_loopback(base_url):
            self.proxies = dict(requests.utils.get_environ_proxies(base_url))
        self.verify: bool | str = True
        name = next(
            (name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)),
            None,
        )
        if name is not None and base_url.startswith("https:"):
            self.verify = os.environ[name]
            if not Path(self.verify).exists():
                raise NotConfigured(f"{name} names {self.verify}, which does not exist")


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Adapter(HTTPAdapter):
    """requests' adapter with our connections below it.

    Args:
        connections: how many connections are kept. More may be open while more calls run at
            once; none is opened while an idle one is there.
        stall_limit: seconds without a moving byte after which a connection is given up.
    """

    def __init__(self, *, connections: int, stall_limit: float) -> None:
        self._classes = _pool_classes(stall_limit)
        self._direct: dict[str, Any] = {}
        super().__init__(pool_connections=2, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        super().init_poolmanager(
            connections, maxsize, block=block, blocksize=BLOCK_SIZE, **pool_kwargs
        )
        self.poolmanager.pool_classes_by_scheme = self._classes

    def exchange(
        self,
        request: requests.PreparedRequest,
        *,
        timeout: tuple[float, float],
        verify: bool | str,
        proxies: dict[str, str],
    ) -> Any:
        """Send a request; the answer as urllib3 gives it, its body unread.

        Without a proxy the pool that `send` finds is asked directly, and found once: what `send`
        does around it for each request (three times taking the URL apart, cookies, a Response
        that nobody looks at) costs as much as the request itself.
        """
        if proxies:
            return self.send(
                request, stream=True, timeout=timeout, verify=verify, proxies=proxies
            ).raw
        url = str(request.url)
        origin = url[: url.index("/", url.index("://") + 3)]
        pool: Any = self._direct.get(origin)
        if pool is None:
            pool = self.get_connection_with_tls_context(request, verify)
            self.cert_verify(pool, url, verify, None)  # type: ignore[no-untyped-call]
            self._direct[origin] = pool
        return pool.urlopen(
            str(request.method),
            self.request_url(request, None),
            body=request.body,
            headers=request.headers,
            retries=self.max_retries,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
            decode_content=False,
        )

    def close(self) -> None:
        self._direct.clear()
        super().close()

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, blocksize=BLOCK_SIZE, **proxy_kwargs)
        if not known and not proxy.lower().startswith("socks"):
            # SOCKS needs the connections of its own; there the plain timeouts have to do.
            manager.pool_classes_by_scheme = self._classes
        return manager

    def request_url(
        self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None
    ) -> str:
        url = str(request.url)
        scheme, _, rest = url.partition("://")
        proxy = requests.utils.select_proxy(url, dict(proxies)) if proxies else None
        if proxy and scheme == "http" and not proxy.lower().startswith("socks"):
            return _shield_dots(url)
        return "/" + rest.partition("/")[2]


def _shield_dots(url: str) -> str:
    """An absolute URL whose dot segments urllib3 leaves alone: `%2E` means `.` to every server.

    Only the way through a forwarding proxy needs it; there it also keeps the proxy from
    resolving them.
    """
    path, mark, query = url.partition("?")
    segments = [
        segment.replace(".", "%2E") if segment in (".", "..") else segment
        for segment in path.split("/")
    ]
    return "/".join(segments) + mark + query


# Kept here so that client.py need not know which library raises what.
LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
