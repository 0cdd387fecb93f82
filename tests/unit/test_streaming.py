"""One stream upload against a server in memory: what a replay may and may not write down."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from ufile_cli.errors import Refused, SourceError, Stopped, StreamDiffers
from ufile_cli.etag import BlockHasher, part_etag
from ufile_cli.journal.document import JournalDocument
from ufile_cli.journal.record import Record
from ufile_cli.multipart.request import Context, Options
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.streaming import StreamUpload, StreamWishes, check_exact, first_block
from ufile_cli.multipart.streams import ObjectSource, PartRead, StreamEnded, StreamSource
from ufile_cli.us3.client import Body, Client
from ufile_cli.us3.response import Answer, Initiated, ObjectHead, PartsPage, RemotePart, Stored

BLOCK_SIZE = 1000
CONTENT = b"".join(bytes([number]) * BLOCK_SIZE for number in range(6)) + b"the end"


def _answer(status: int = 200) -> Answer:
    return Answer(status, {})


def _digests(content: bytes) -> bytes:
    hasher = BlockHasher()
    hasher.update(content)
    return hasher.digests()


class Server:
    """A server of one object, as the engine calls it."""

    def __init__(self) -> None:
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.stored: bytes | None = None
        self.sent: list[int] = []
        self.listed = threading.Event()
        self.may_list = threading.Event()
        self.may_list.set()
        self.dies_at: int | None = None
        self.address = self
        self._lock = threading.Lock()

    def current_credentials(self) -> None:
        """Requests are not signed."""

    def object_url(self, key: str) -> str:
        return f"http://server/{key}"

    def _parts(self, upload_id: str) -> dict[int, bytes]:
        if upload_id not in self.uploads:
            raise Refused("no such upload", status=404)
        return self.uploads[upload_id]

    def initiate(self, key: str, headers: Mapping[str, str] | None = None) -> Initiated:
        upload_id = f"id-{len(self.uploads)}-{len(self.sent)}"
        self.uploads[upload_id] = {}
        return Initiated(upload_id, BLOCK_SIZE, "b", key, _answer())

    def upload_part(
        self, key: str, upload_id: str, number: int, body: Body, headers: object = None
    ) -> str:
        content = b""
        while piece := bytes(body.read()):
            content += piece
        with self._lock:
            if number == self.dies_at:
                self.dies_at = None
                del self.uploads[upload_id]
            self._parts(upload_id)[number] = content
            self.sent.append(number)
        return part_etag(_digests(content))

    def list_parts(self, upload_id: str, **_: Any) -> PartsPage:
        self.listed.set()
        assert self.may_list.wait(10)
        parts = tuple(
            RemotePart(number, part_etag(_digests(content)), len(content), None)
            for number, content in sorted(self._parts(upload_id).items())
        )
        return PartsPage(parts, False, None, None, _answer())

    def finish(self, key: str, upload_id: str, etags: object, headers: object) -> Stored:
        parts = self._parts(upload_id)
        assert sorted(parts) == list(range(len(parts)))
        self.stored = b"".join(content for _, content in sorted(parts.items()))
        hasher = BlockHasher()
        hasher.update(self.stored)
        return Stored(hasher.etag(), len(self.stored), key, "b", _answer())

    def head(self, key: str) -> ObjectHead:
        raise Refused("no such object", status=404)


class Pieces(StreamSource):
    """A stream that cannot be read again; `gate` is waited for before its end."""

    def __init__(self, content: bytes, gate: threading.Event | None = None) -> None:
        super().__init__()
        self.unread(content)
        self._gate = gate

    def _read(self, view: memoryview) -> int:
        if self._gate is not None:
            assert self._gate.wait(10)
        return 0


def record_with(server: Server, *up: int) -> Record:
    """The record of a first run that sent these parts of CONTENT and then died."""
    document = JournalDocument(
        "abcdefgh", "stream", "b", "k", "http://server", "2026-01-01T00:00:00Z", "2026"
    )
    record = Record(document, None)
    record.begin("id", BLOCK_SIZE)
    server.uploads["id"] = {}
    for number in up:
        content = CONTENT[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]
        server.uploads["id"][number] = content
        digests = _digests(content)
        record.acknowledge("id", number, part_etag(digests), digests)
    return record


def upload_of(
    server: Server,
    record: Record,
    source: StreamSource,
    wishes: StreamWishes | None = None,
    context: Context | None = None,
) -> StreamUpload:
    options = Options(threads=2, policy=RetryPolicy(attempts=1, interval=0.0, patience=0))
    return StreamUpload(record, source, cast(Client, server), options, context or Context(), wishes)


@pytest.mark.parametrize("up", [(), (0,), (0, 1, 3), (5,), (6,), tuple(range(7))])
def test_a_replay_sends_what_is_missing(up: tuple[int, ...]) -> None:
    server = Server()
    result = upload_of(server, record_with(server, *up), Pieces(CONTENT)).run()
    assert server.stored == CONTENT
    assert sorted(server.sent) == sorted(set(range(7)) - set(up))
    assert (result.parts_sent, result.parts_reused) == (7 - len(up), len(up))


def test_what_a_wrong_replay_sent_does_not_count() -> None:
    server = Server()
    record = record_with(server, 0, 3)
    wrong = CONTENT[:1000] + b"x" * 1000 + CONTENT[2000:3000] + b"y" * 1000
    with pytest.raises(StreamDiffers) as refused:
        upload_of(server, record, Pieces(wrong)).run()
    assert (refused.value.part, refused.value.offset) == (3, 3000)
    assert record.parts is not None and list(record.parts) == [0, 3]
    assert record.document.state == "failed" and record.document.stream_size is None
    server.sent.clear()
    upload_of(server, record, Pieces(CONTENT)).run()
    assert server.stored == CONTENT and 1 in server.sent


def test_the_end_counts_only_once_everything_has_compared_equal() -> None:
    """It is seen while the list is still fetched; then the replay turns out to be a wrong one."""
    server = Server()
    record = record_with(server, 0, 1)
    server.may_list.clear()
    source = Pieces(CONTENT[:1000] + b"x" * 500)

    ended = threading.Event()
    source.ended_well = ended.set  # type: ignore[method-assign]
    upload = upload_of(server, record, source)

    def release() -> None:
        assert ended.wait(10) and upload.reader is not None and upload.reader.rest(10)
        server.may_list.set()

    threading.Thread(target=release, daemon=True).start()
    with pytest.raises(StreamDiffers):
        upload.run()
    assert record.document.stream_size is None and not record.document.end_seen
    upload_of(server, record, Pieces(CONTENT)).run()
    assert server.stored == CONTENT


@pytest.mark.parametrize("size", [0, 1000, 3000, 3500])
def test_a_replay_that_ends_early(size: int) -> None:
    server = Server()
    record = record_with(server, 0, 4)
    with pytest.raises(StreamDiffers):
        upload_of(server, record, Pieces(CONTENT[:size])).run()
    assert record.document.stream_size is None
    upload_of(server, record, Pieces(CONTENT)).run()
    assert server.stored == CONTENT


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("more", [b"!", b"!" * 993, b"!" * 3000])
def test_a_longer_one_is_refused_where_the_end_was_seen(seen: bool, more: bytes) -> None:
    server = Server()
    record = record_with(server, 0, 1)
    if seen:
        record.document.end_seen, record.document.stream_size = True, len(CONTENT)
        with pytest.raises(StreamDiffers, match="longer"):
            upload_of(server, record, Pieces(CONTENT + more)).run()
        assert server.stored is None
    else:
        upload_of(server, record, Pieces(CONTENT + more)).run()
        assert server.stored == CONTENT + more


def test_a_shorter_one_is_refused_where_the_end_was_seen() -> None:
    """Also where what it lacks was not up."""
    server = Server()
    record = record_with(server, 0, 1)
    record.document.end_seen, record.document.stream_size = True, len(CONTENT)
    with pytest.raises(StreamDiffers, match="ended early"):
        upload_of(server, record, Pieces(CONTENT[:3000])).run()
    upload_of(server, record, Pieces(CONTENT)).run()
    assert server.stored == CONTENT


def test_an_end_that_comes_with_the_signal_is_none() -> None:
    """Ctrl-C ends the producer as well, and that is not the end of the stream."""
    server = Server()
    record = record_with(server, 0)
    context = Context()
    gate = threading.Event()

    def stop_then_end() -> Iterator[None]:
        context.stop.signum = 2  # the handler has run; its message is not taken yet
        gate.set()
        yield

    upload = upload_of(server, record, Pieces(CONTENT[:1000], gate), context=context)
    sent = context.progress.parts_sent

    def act() -> None:
        assert server.listed.wait(10)
        next(stop_then_end())
        assert upload.reader is not None and upload.reader.rest(10)
        context.stop.ask(2)

    threading.Thread(target=act, daemon=True).start()
    with pytest.raises(Stopped):
        upload.run()
    assert record.document.stream_size is None and sent == 0
    assert record.document.state == "paused" and server.stored is None


def test_a_dead_upload_id_starts_over_where_the_stream_can_be_read_again() -> None:
    """Whatever the reader had said and nobody had taken does not disturb the second pass."""
    for dies_at in range(6):
        server = Server()
        record = record_with(server)
        server.dies_at = dies_at
        upload_of(server, record, ObjectSource(CONTENT)).run()
        assert server.stored == CONTENT


def test_messages_of_an_earlier_pass_are_dropped() -> None:
    server = Server()
    upload = upload_of(server, record_with(server, 0), Pieces(CONTENT))
    part = PartRead(0, memoryview(b"x"), b"", bytearray())
    for message in (part, "another's", StreamEnded(1)):
        upload.drive.inbox.put(message)
    upload._drop_messages()
    assert upload.drive.inbox.get_nowait() == "another's" and upload.drive.inbox.empty()


def test_a_dead_upload_id_under_a_pipe() -> None:
    server = Server()
    record = record_with(server, 0)
    server.dies_at = 3
    with pytest.raises(SourceError, match="again"):
        upload_of(server, record, Pieces(CONTENT)).run()
    # What begins at the old pause must not be taken for the whole.
    with pytest.raises(SourceError, match="from its beginning"):
        upload_of(server, record, Pieces(CONTENT[1000:]), StreamWishes(from_pause=True)).run()
    upload_of(server, record, Pieces(CONTENT)).run()
    assert server.stored == CONTENT


def test_from_pause() -> None:
    server = Server()
    record = record_with(server, 0, 1, 3)
    upload_of(server, record, Pieces(CONTENT[2000:]), StreamWishes(from_pause=True)).run()
    assert server.stored == CONTENT and 3 not in server.sent


def test_from_pause_with_a_part_before_it_lost() -> None:
    server = Server()
    record = record_with(server, 0, 1, 3)
    del server.uploads["id"][1]
    with pytest.raises(SourceError, match="part 1"):
        upload_of(server, record, Pieces(CONTENT[2000:]), StreamWishes(from_pause=True)).run()
    assert server.sent == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 3000, 3001])
def test_the_exact_size(size: int) -> None:
    server = Server()
    record = record_with(server)
    content = (CONTENT + b"more")[:size]
    wishes = StreamWishes(exact_size=len(CONTENT))
    with pytest.raises(SourceError):
        upload_of(server, record, Pieces(content), wishes).run()
    assert server.stored is None and size // BLOCK_SIZE not in server.sent
    upload_of(server, record, Pieces(CONTENT), wishes).run()
    assert server.stored == CONTENT


def test_check_exact() -> None:
    check_exact(5, None)
    check_exact(5, 5)
    with pytest.raises(SourceError, match="not the 1,006"):
        check_exact(5, 1006)


@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1])
def test_first_block(size: int) -> None:
    content = bytes(size)
    source = ObjectSource(content)
    read, whole = first_block(source)
    assert whole == (size <= 4 * 1024 * 1024)
    assert read == (content if whole else b"")
    view = memoryview(bytearray(size + 1))
    filled = 0
    while got := source.read_into(view[filled:]):
        filled += got
    assert filled == (0 if whole else size)
