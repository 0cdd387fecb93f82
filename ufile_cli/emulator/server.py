"""The emulator: a US3 server for tests, for trying out, and for the endpoint `local`.

It listens, turns connections into exchanges, applies the faults of its script and logs what it
saw; what a call does lies in calls.py, what is stored in objects.py. One thread a connection.

Invariants: a bad request ends at most its own connection; the record of a request is written
before its answer is sent; no lock is held while a body arrives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from ufile_cli.emulator.calls import Answer, error, perform
from ufile_cli.emulator.connection import Body, Connection, Disconnected, Pace, format_head
from ufile_cli.emulator.faults import NO_EFFECTS, Effects, FaultScript, Occasion
from ufile_cli.emulator.objects import NoSuchUpload, ObjectStore
from ufile_cli.emulator.protocol import (
    Call,
    Keys,
    Refusal,
    Request,
    bucket_of,
    call_of,
    check_signature,
    content_length,
    no_bucket,
    parse_head,
)
from ufile_cli.emulator.requestlog import LOGGED_HEADERS, RequestLog, RequestRecord

_MIB = 1024 * 1024
_SMALL_REST = 64 * 1024
_BLOCK_SIZE_MAX = 512 * _MIB
_ERRORS_MAX = 100


class Emulator:
    """A US3 server on one port and one directory.

    Several emulators, in one process or in several, may use one directory at once. May be used
    as a context manager, which starts and closes it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        buckets: Sequence[str] | None = None,
        domains: Mapping[str, str] | None = None,
        block_size: int = 4 * _MIB,
        keys: tuple[str, str] | None = None,
        faults: FaultScript | None = None,
        request_log: Path | None = None,
        remember: int = 100_000,
        idle_timeout: float = 60.0,
        max_connections: int = 1024,
        discard: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing listens before `start`.

        `buckets`: the only ones that exist; None lets a bucket come into being at first use.
        `domains`: custom domains, each with the bucket that it stands for.
        `block_size`: BlkSize of new uploads, in bytes, up to 512 MiB.
        `keys`: public and private key; None leaves signatures unchecked.
        `remember`: how many records `requests` keeps.
        `idle_timeout`: seconds that a silent client is waited for, that a head may take, and that a
        client which sends or takes fewer than 100 bytes a second gets in all.
        `discard`: hash the bytes of parts but do not keep them, for benchmarks; such objects have
        a size and an ETag, and cannot be read. Needs a block size of whole 4 MiB.
        `clock`: what slow clients are measured by.
        Raises OSError where the directory or the log cannot be used, ValueError for the block size.
        """
        if not 0 < block_size <= _BLOCK_SIZE_MAX:
            raise ValueError("the block size lies between 1 byte and 512 MiB")
        self.block_size = block_size
        self.faults = FaultScript() if faults is None else faults
        self.errors: list[str] = []
        """Tracebacks of what went wrong inside; tests expect none."""
        self._keys = None if keys is None else Keys(*keys)
        self._host = host
        self._port = port
        self._buckets = None if buckets is None else frozenset(buckets)
        self._domains = {name.lower(): bucket for name, bucket in (domains or {}).items()}
        self._idle_timeout = idle_timeout
        self._clock = clock
        self._store = ObjectStore(directory, discard=discard)
        self._log = RequestLog(request_log, remember)
        self._listener: socket.socket | None = None
        self._closing = threading.Event()
        self._slots = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Connection, threading.Thread]] = {}

    # Life

    def start(self) -> Emulator:
        """Listen, and return when clients may connect. Does nothing twice. Raises OSError."""
        if self._listener is not None:
            return self
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=256)
        listener.settimeout(0.5)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="us3", daemon=True).start()
        return self

    def serve_forever(self) -> None:
        """Start where need be, and return when `close` is called from another thread."""
        self.start()
        while not self._closing.wait(3600):
            pass

    def close(self) -> None:
        """Stop listening and cut every connection. May be called twice."""
        self._closing.set()
        self.faults.release()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            left = list(self._open.values())
        for connection, _ in left:
            connection.interrupt()
        deadline = time.monotonic() + 5
        for _, thread in left:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._log.close()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What clients and tests ask

    @property
    def port(self) -> int:
        """The port listened on; before `start`, the one asked for."""
        return self._port

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, as an endpoint is written."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def host_of(self, bucket: str) -> str:
        """The Host header that names a bucket here: `<bucket>.127.0.0.1:8770`."""
        return f"{bucket}.{'localhost' if ':' in self._host else self._host}:{self._port}"

    @property
    def keys(self) -> tuple[str, str] | None:
        """The key pair that counts, public and private; may be set at any time."""
        return None if self._keys is None else (self._keys.public, self._keys.private)

    @keys.setter
    def keys(self, pair: tuple[str, str] | None) -> None:
        self._keys = None if pair is None else Keys(*pair)

    @property
    def store(self) -> ObjectStore:
        """What is stored, for tests that look behind the wire."""
        return self._store

    @property
    def requests(self) -> list[RequestRecord]:
        """The remembered requests, oldest first, in the order in which they were answered."""
        return self._log.records()

    @property
    def connections_opened(self) -> int:
        """Connections accepted so far."""
        return self._log.connections

    @property
    def parts_in_flight_max(self) -> int:
        """The most UploadPart requests that were under way at one time."""
        return self._log.parts_in_flight_max

    def count(self, call: str | None = None, stage: str = "answered") -> int:
        """How many requests of a call (None: of any) got to a stage; see `wait_for`."""
        return self._log.count(call, stage)

    def wait_for(
        self,
        call: str | None = None,
        count: int = 1,
        timeout: float = 10.0,
        *,
        stage: str = "answered",
    ) -> None:
        """Wait until `count` requests of a call, since the start, got to a stage.

        Stages: `arrived` (its head is read), `received` (its body too), `hanging` (a fault holds
        it), `answered` (it is done and logged, whether it was answered or broken). Raises
        TimeoutError.
        """
        if not self._log.wait(call, stage, count, timeout):
            seen = self._log.count(call, stage)
            raise TimeoutError(f"{seen} of {count} requests {call or ''} {stage} in {timeout} s")

    def wait_until(
        self, condition: Callable[[list[RequestRecord]], bool], timeout: float = 10.0
    ) -> None:
        """Wait until a condition on the remembered requests holds. Raises TimeoutError."""
        if not self._log.wait_until(condition, timeout):
            raise TimeoutError(f"the condition did not hold within {timeout} s")

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            if not self._slots.acquire(timeout=0.5):
                continue
            try:
                sock, _ = listener.accept()
            except OSError:  # a timeout, a client that left at once, or the end
                self._slots.release()
                continue
            number = self._log.connection_opened()
            try:
                connection = Connection(sock, number, self._idle_timeout, self._clock)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                with self._lock:  # close() joins what it finds: only threads that have started
                    self._open[number] = connection, thread
                    thread.start()
            except (OSError, RuntimeError):  # the client is gone, or no thread is to be had
                sock.close()
                self._forget(number)

    def _note_error(self) -> None:
        if len(self.errors) < _ERRORS_MAX:  # a server that runs for months keeps the first ones
            self.errors.append(traceback.format_exc())

    def _forget(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)
        self._slots.release()

    def _serve(self, connection: Connection) -> None:
        try:
            while not self._closing.is_set() and self._serve_one(connection):
                pass
        except Disconnected:
            pass
        except Exception:
            self._note_error()
        finally:
            connection.close()
            self._forget(connection.number)

    def _serve_one(self, connection: Connection) -> bool:
        """Answer one request; whether another may follow on the connection."""
        try:
            head = connection.read_head()
            if head is None:
                return False
            request = parse_head(head)
            length = content_length(request)
        except Refusal as refusal:
            self._refuse_unread(connection, refusal)
            return False
        exchange = _Exchange(self, connection, request, Body(connection, length))
        connection.requests += 1
        return exchange.run()

    def _refuse_unread(self, connection: Connection, refusal: Refusal) -> None:
        """Answer what was not understood; the rest of the connection has no meaning."""
        self._log.append(
            RequestRecord(
                time=time.time(), call=str(Call.UNKNOWN), method="", target="", bucket=None,
                key="", query={}, upload_id=None, part_number=None, status=refusal.status,
                bytes_received=0, etag=None, connection=connection.number, content_type=None,
            )
        )  # fmt: skip
        answer = error(refusal)
        headers = (*answer.headers, ("Content-Length", str(len(answer.body))))
        headers += (("X-SessionId", os.urandom(16).hex()), ("Connection", "close"))
        connection.send(format_head(answer.status, headers) + answer.body)
        connection.drain()


class _Struck(Exception):
    """A fault gives the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class _Exchange:
    """One request on its way through: the context that calls and faults work in."""

    def __init__(
        self, emulator: Emulator, connection: Connection, request: Request, body: Body
    ) -> None:
        self.emulator = emulator
        self.connection = connection
        self.request = request
        self.body = body
        self.call = call_of(request)
        self.named = bucket_of(request.header("Host"), emulator._domains)
        self.part = _part_number(request) if self.call is Call.PART else None
        self.upload_id = request.parameter("uploadId")
        self.effects: Effects = NO_EFFECTS
        self._released = emulator.faults.released()
        self._declared = None if body.chunked else body.left
        self._began = time.monotonic()
        self._arrived = time.time()
        self._etag: str | None = None
        self._signature = "unchecked" if emulator._keys is None else "absent"
        self._received = False

    # What calls.Exchange promises

    @property
    def bucket(self) -> str:
        return self.named or ""

    @property
    def store(self) -> ObjectStore:
        return self.emulator._store

    @property
    def block_size(self) -> int:
        return self.emulator.block_size

    @property
    def declared(self) -> int | None:
        return self._declared

    def stored(self, etag: str) -> None:
        self._etag = etag

    def receive(self, limit: int, *sinks: Callable[[memoryview], None]) -> None:
        if (self._declared or 0) > limit:
            raise Refusal(413, -30002, "the body is too large")
        if not self.body.ended and (self.request.header("Expect") or "").lower() == "100-continue":
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        effects, pace = self.effects, Pace(self.effects.receive_rate, self.emulator._closing)
        if effects.receive_rate is not None:
            self.connection.shrink_receive_buffer()
        strike_at = effects.after_bytes if "body" in (effects.reset, effects.hang) else None
        flip = bool(effects.corrupt)
        view = self.connection.buffer
        while not self.body.ended:
            if strike_at is not None and self.body.received >= strike_at:
                strike_at = None
                self._strike("body")
            portion = pace.portion(view)
            if strike_at is not None:
                portion = portion[: strike_at - self.body.received]
            count = self.body.read_into(portion)
            if self.body.received > limit:
                raise Refusal(413, -30002, "the body is too large")
            data = portion[:count]
            if flip and count:
                flip = False
                data[0] ^= 0xFF
            for sink in sinks:
                sink(data)
            pace.passed(count)
        self._received = True
        self.emulator._log.note("received", self.call)
        if strike_at is not None or effects.after_bytes is None:
            self._strike("body")
        if effects.status is not None and effects.at in (None, "body"):
            raise _Struck(self._scripted())

    # The way through

    def run(self) -> bool:
        """Answer the request; whether the connection goes on. Raises Disconnected."""
        log = self.emulator._log
        if self.call is Call.PART:
            log.part_in_flight(+1)
        answer: Answer | None = None
        try:
            log.note("arrived", self.call)
            answer = self._answer()
            keep = self._keep_alive()
            self._record(answer.status)
        except Disconnected:
            self._record(None)
            raise
        finally:
            if self.call is Call.PART:
                log.part_in_flight(-1)
        try:
            return self._send(answer, keep)
        finally:
            if answer.content is not None:
                answer.content.close()

    def _answer(self) -> Answer:
        try:
            answer = self._perform()
        except _Struck as struck:
            return struck.answer
        except Refusal as refusal:
            answer = error(refusal)
        except NoSuchUpload:
            faults = self.emulator.faults
            answer = error(
                Refusal(faults.dead_status, faults.dead_ret_code, "the upload id does not exist")
            )
        except OSError as trouble:  # of this machine: the disk is full, or so
            answer = error(Refusal(500, -30500, f"the server cannot: {trouble.strerror}"))
        except Disconnected:
            raise
        except Exception:
            self.emulator._note_error()
            answer = error(Refusal(500, -30500, "an error inside the emulator"))
        return self._altered(answer)

    def _perform(self) -> Answer:
        # Before the effects are known: a release between the two must not be missed.
        self._released = self.emulator.faults.released()
        self.effects = self.emulator.faults.effects(
            Occasion(
                self.call, self.named, self.request.key, self.part, self.upload_id,
                self.connection.requests > 1,
            )
        )  # fmt: skip
        effects = self.effects
        if effects.rotate_keys is not None:
            self.emulator.keys = effects.rotate_keys[0], effects.rotate_keys[1]
        self._strike("head")
        if effects.status is not None and effects.at == "head":
            raise _Struck(self._scripted())
        self._check_access()
        if effects.forget == "upload" and self.upload_id is not None:
            with contextlib.suppress(NoSuchUpload):
                self.store.abort(self.bucket, self.upload_id)
        answer = perform(self.call, self)
        try:
            self._strike("stored")
            if effects.status is not None and effects.at == "stored":
                raise _Struck(self._scripted())
        except BaseException:
            if answer.content is not None:
                answer.content.close()
            raise
        return answer

    def _check_access(self) -> None:
        keys, buckets = self.emulator._keys, self.emulator._buckets
        if self.named is None or (buckets is not None and self.named not in buckets):
            raise no_bucket()
        if keys is not None:
            try:
                check_signature(self.request, self.named, keys, time.time())
            except Refusal as refusal:
                self._signature = "absent" if refusal.ret_code == -30020 else "refused"
                raise
            self._signature = "ok"

    def _strike(self, place: str) -> None:
        """Hang or cut the connection, where a fault wants that here."""
        effects = self.effects
        if effects.hang == place:
            self.emulator._log.note("hanging", self.call)
            if not self.emulator._closing.is_set():
                self._released.wait(effects.seconds)
        if effects.reset == place:
            self.connection.reset()
            raise Disconnected("reset by a fault")
        if self.emulator._closing.is_set():
            raise Disconnected("the server is closing")

    def _scripted(self) -> Answer:
        effects = self.effects
        status = effects.status or 500
        message = effects.message or "scripted"
        code = -30599 if effects.ret_code is None else effects.ret_code
        return self._altered(error(Refusal(status, code, message)))

    def _altered(self, answer: Answer) -> Answer:
        """The answer with the headers and the body that faults ask for."""
        effects = self.effects
        headers, body = answer.headers, answer.body
        if effects.body is not None:
            body = effects.body.encode()
        if effects.body_size is not None:
            body = body.ljust(effects.body_size)
        if effects.truncate is not None:
            body = body[: effects.truncate]
        given = dict(effects.headers or {})
        if effects.content_type is not None:
            given["Content-Type"] = effects.content_type
        if given:
            names = {name.lower() for name in given}
            kept = tuple(pair for pair in headers if pair[0].lower() not in names)
            headers = (*kept, *given.items())
        return replace(answer, headers=headers, body=body)

    def _keep_alive(self) -> bool:
        """Whether the connection can carry another request; reads a small rest of the body."""
        wanted = (self.request.header("Connection") or "").lower()
        if "close" in wanted or (self.request.version == "HTTP/1.0" and "keep-alive" not in wanted):
            return False
        if self.body.ended:
            return True
        if self.body.chunked or self.body.left > _SMALL_REST or self.request.header("Expect"):
            return False
        while not self.body.ended:
            self.body.read_into(self.connection.buffer)
        return True

    def _record(self, status: int | None) -> None:
        request = self.request
        shown = dict(request.query)
        target = request.target
        if "Signature" in shown:
            target = target.partition("?")[0] + "?" + "&".join(_without_signature(target))
            shown["Signature"] = "…"
        self.emulator._log.append(
            RequestRecord(
                time=self._arrived,
                call=str(self.call),
                method=request.method,
                target=target,
                bucket=self.named,
                key=request.key,
                query=shown,
                upload_id=self.upload_id,
                part_number=self.part,
                status=status,
                bytes_received=self.body.received,
                etag=self._etag,
                connection=self.connection.number,
                content_type=request.header("Content-Type"),
                headers={
                    name: value
                    for name, value in request.headers
                    if name.lower() in LOGGED_HEADERS or name.lower().startswith("x-ufile-meta-")
                },
                signature=self._signature,
                fault=self.effects.described,
                seconds=round(time.monotonic() - self._began, 6),
            )
        )

    def _send(self, answer: Answer, keep: bool) -> bool:
        effects, connection = self.effects, self.connection
        head = format_head(answer.status, self._headers(answer, keep))
        silent = self.request.method == "HEAD" or answer.status in (204, 304)
        body = b"" if silent else answer.body
        pace = Pace(effects.answer_rate, self.emulator._closing)
        if "answer" in (effects.reset, effects.hang):
            whole = head + body
            half = len(head) + len(body) // 2 if body else len(head) // 2
            connection.send(whole[:half])
            self._strike("answer")
            connection.send(whole[half:])
        elif effects.answer_rate is not None:
            left = memoryview(head + body)
            while left:
                portion = pace.portion(left)
                pace.passed(len(portion))
                connection.send(portion)
                left = left[len(portion) :]
        else:
            connection.send(head + body)
        if answer.content is not None and not silent:
            self._send_content(answer, pace)
        return self._end(keep)

    def _headers(self, answer: Answer, keep: bool) -> list[tuple[str, str]]:
        headers = list(answer.headers)
        names = {name.lower() for name, _ in headers}
        if answer.part is not None:
            headers.append(("Content-Length", str(answer.part.stop - answer.part.start)))
        elif "content-length" not in names and answer.status not in (204, 304):
            # An error to HEAD has no body, and so no length but 0.
            size = 0 if self.request.method == "HEAD" else len(answer.body)
            headers.append(("Content-Length", str(size)))
        headers.append(("X-SessionId", os.urandom(16).hex()))
        if not keep:
            headers.append(("Connection", "close"))
        return headers

    def _send_content(self, answer: Answer, pace: Pace) -> None:
        if answer.content is None or answer.part is None:
            return
        view = pace.portion(self.connection.buffer)
        for piece in answer.content.pieces(answer.part.start, answer.part.stop):
            done = 0
            while done < piece.length:
                room = view[: min(len(view), piece.length - done)]
                count = os.preadv(piece.fd, [room], piece.offset + done)
                if count == 0:
                    raise Disconnected("a stored object is shorter than its metadata says")
                pace.passed(count)
                self.connection.send(room[:count])
                done += count

    def _end(self, keep: bool) -> bool:
        effects = self.effects
        if not self.body.ended:
            if effects.drain is False:
                self.connection.reset()
            else:
                self.connection.drain()
            return False
        if effects.close_after is not None:
            self.emulator._closing.wait(effects.close_after)
            return False
        return keep


def _part_number(request: Request) -> int | None:
    text = request.parameter("partNumber") or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def _without_signature(target: str) -> list[str]:
    items = target.partition("?")[2].split("&")
    return ["Signature=…" if item.startswith("Signature=") else item for item in items]
