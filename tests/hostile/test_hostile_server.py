"""A server that lies or attacks, seen from the real command.

For every lie: a sentence and an exit code of the contract, no traceback, nothing on the terminal
that moves its cursor, and memory that has a bound (the address space is limited; what never ends
is taken in small measure).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import resource
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hostilebed import MIB, Answers, Asked, Liar, answer, endless, nothing_raw
from testbed import AT_ONCE, Outcome, Ufile, make_file

from ufile_cli.cli import asking
from ufile_cli.multipart.retry import RetryPolicy

BLOCK = 4 * MIB
ADDRESS_SPACE = 1024 * MIB
TAKEN_AT_MOST = 40 * MIB
"""Of an answer without an end: what is read of it (16 MiB of a list), and what sockets hold."""

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b2J\u202egnp.exe\r\n\x00\x7f"

GOOD_ID = {"UploadId": "an-upload-id", "BlkSize": BLOCK, "Bucket": "demo", "Key": "big"}


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(2 * BLOCK)
    return path


def call_of(asked: Asked) -> str:
    """The protocol's calls, as a server tells them apart."""
    query = asked.target.partition("?")[2]
    if query.startswith("muploadpart"):
        return "parts"
    if query.startswith("muploadid"):
        return "uploads"
    if query.startswith("uploads"):
        return "initiate"
    if "partNumber=" in query:
        return "part"
    if query.startswith("uploadId="):
        return "abort" if asked.method == "DELETE" else "finish"
    return asked.method.lower()


def lying(**lies: Any) -> Answers:
    """A server that is honest but for the calls named."""
    etag = base64.urlsafe_b64encode(hashlib.sha1(bytes(BLOCK)).digest()).decode()
    honest: dict[str, bytes] = {
        "initiate": answer(200, GOOD_ID),
        "part": answer(200, {}, ETag=f'"{etag}"'),
        "abort": answer(204),
    }

    def answers(asked: Asked) -> Iterable[bytes] | bytes:
        call = call_of(asked)
        said = lies.get(call, honest.get(call, answer(404, {"RetCode": -1, "ErrMsg": "no"})))
        return said() if callable(said) else said  # type: ignore[no-any-return]

    return answers


def run(ufile: Ufile, liar: Liar, *arguments: str) -> Outcome:
    outcome = ufile(
        *arguments, "--endpoint", liar.url, "--log-file", str(ufile.home / "log"), preexec=limited
    )
    for text in (outcome.out, outcome.err, (ufile.home / "log").read_text()):
        nothing_raw(text)
    assert "Traceback" not in outcome.err, outcome.err
    assert "bug of ufile" not in outcome.err, outcome.err
    return outcome


def upload(ufile: Ufile, liar: Liar, path: Path) -> Outcome:
    return run(ufile, liar, "upload", "demo", "big", str(path), *AT_ONCE, "--json", "-v")


HEAD = b"HTTP/1.1 200 OK\r\n"


def trailers() -> Iterator[bytes]:
    return endless(b"X-More: trailers\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")


def chunk_line() -> Iterator[bytes]:
    return endless(b"0", HEAD + b"Transfer-Encoding: chunked\r\n\r\n")


def chunk_extension() -> Iterator[bytes]:
    return endless(b"x", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;")


def chunks() -> Iterator[bytes]:
    return endless(b"1\r\n{\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n")


NO_END: dict[str, Callable[[], Iterator[bytes]]] = {
    "body": lambda: endless(b"{", HEAD + b"\r\n"),
    "body with a length": lambda: endless(b" ", HEAD + b"Content-Length: 999999999999999\r\n\r\n"),
    "error body": lambda: endless(b"x", b"HTTP/1.1 500 No\r\n\r\n"),
    "headers": lambda: endless(b"X-More: headers\r\n", HEAD),
    "header line": lambda: endless(b"x", HEAD + b"X-Long: "),
    "status line": lambda: endless(b"x", b"HTTP/1.1 200 "),
    "interim answers": lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim headers": lambda: endless(b"X-More: headers\r\n", b"HTTP/1.1 100 Continue\r\n"),
    "nested": lambda: endless(b"[", HEAD + b"Content-Length: 9999999999\r\n\r\n"),
    "chunks": chunks,
    "chunk line": chunk_line,
    "chunk extension": chunk_extension,
    "trailers": trailers,
}


@pytest.mark.parametrize("name", sorted(NO_END))
def test_what_never_ends(alone: Ufile, path: Path, name: str) -> None:
    with Liar(lying(initiate=NO_END[name])) as liar:
        outcome = upload(alone, liar, path)
        assert outcome.code == 75, outcome
        assert outcome.json["error"]["message"]
        assert liar.sent < TAKEN_AT_MOST


@pytest.mark.parametrize("call", ["head", "finish", "part"])
def test_what_never_ends_elsewhere(alone: Ufile, path: Path, call: str) -> None:
    with Liar(lying(**{call: NO_END["interim answers"]})) as liar:
        if call == "head":
            outcome = run(alone, liar, "verify", "demo", "big", str(path))
        else:
            outcome = upload(alone, liar, path)
        assert outcome.code == 75, outcome
        assert liar.sent < TAKEN_AT_MOST


def bomb() -> bytes:
    """Three gigabytes of zeros in some kilobytes: packed twice and said to be so."""
    once = gzip.compress(bytes(64 * MIB), 9) * 48
    return gzip.compress(once, 9)


NONSENSE: dict[str, bytes] = {
    "deep": answer(200, body=b'{"UploadId":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "deep object": answer(200, body=b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "long number": answer(200, body=b'{"UploadId":"x","BlkSize":' + b"9" * 50_000 + b"}"),
    "bomb": answer(200, body=bomb(), Content_Encoding="gzip, gzip"),
    "web page": answer(200, body=f"<html>{ESCAPES}</html>".encode()),
    "not UTF-8": answer(200, body=b"\xff\xfe\x00"),
    "list": answer(200, [GOOD_ID]),
    "null": answer(200, body=b"null"),
    "status 999": answer(999, GOOD_ID),
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
    "negative length": HEAD + b"Content-Length: -5\r\nConnection: close\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH \x1b[2J\r\n\r\n",
}
for block_size in (-1, 0, 10**30, 1.5, True, "4M", "٤", None, [4], 513 * MIB, 5e-324):
    NONSENSE[f"BlkSize {block_size!r}"] = answer(200, GOOD_ID | {"BlkSize": block_size})
for upload_id in ("", "a\nb", "a\r\nHost: evil", "\x1b[2J", "\ud800", "a" * 5000, 7, None, ["a"]):
    NONSENSE[f"UploadId {upload_id!r:.20}"] = answer(200, GOOD_ID | {"UploadId": upload_id})


def test_nonsense(alone: Ufile, path: Path) -> None:
    """All of it with one command each; the words are those of an answer that makes no sense."""
    said = iter(NONSENSE.items())
    now: list[bytes] = [b""]
    with Liar(lying(initiate=lambda: iter(now))) as liar:
        for name, lie in said:
            now[0] = lie
            outcome = upload_here(alone, liar, path)
            assert outcome[0] == 75, (name, outcome)
            nothing_raw(outcome[1])
            assert "Traceback" not in outcome[1], (name, outcome)


def upload_here(ufile: Ufile, liar: Liar, path: Path) -> tuple[int, str]:
    """An upload in a process that does many of them: 40 interpreters would take their time."""
    return helper(ufile, "upload", "demo", "big", str(path), *AT_ONCE, "--endpoint", liar.url)


def helper(ufile: Ufile, *arguments: str) -> tuple[int, str]:
    """Run the command function of the program in this very process, with the home's settings."""
    import contextlib
    import io
    import os

    from ufile_cli.cli.main import _run

    before = dict(os.environ)
    err = io.StringIO()
    os.environ.update(ufile.env)
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            code = _run(list(arguments))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return code, err.getvalue()


def test_upload_ids_of_any_printable_kind_are_no_harm(alone: Ufile, path: Path) -> None:
    upload_id = "../../etc/passwd?x=1&y#'\"; touch owned `id` $(id) %00 ü"
    with Liar(lying(initiate=answer(200, GOOD_ID | {"UploadId": upload_id}))) as liar:
        outcome = upload(alone, liar, path)
        assert outcome.code != 0
        targets = {asked.target for asked in liar.asked if call_of(asked) == "part"}
        assert targets
        assert all(f"uploadId={quote(upload_id, safe='')}&part" in target for target in targets)
    names = {file.name.partition(".")[0] for file in alone.journals.iterdir()}
    assert names - {""} == {outcome.json["journal_id"]}  # the empty one: hidden locks
    nothing_raw(alone("status").out)


@pytest.mark.parametrize(
    "etag", [b"\x1b[2Jx", b"a,b", b'a"b', b"\xc3\xa9", b"x" * 5000, b"", b"a b", b"\x07\x00"]
)
def test_etags_that_are_none(alone: Ufile, path: Path, etag: bytes) -> None:
    said = HEAD + b'ETag: "' + etag + b'"\r\nContent-Length: 2\r\n\r\n{}'
    with Liar(lying(part=said)) as liar:
        code, words = upload_here(alone, liar, path)
        assert code in (1, 75)
        nothing_raw(words)
    assert "Traceback" not in words and "bug of ufile" not in words
    [document] = [json.loads(file.read_text()) for file in alone.journals.glob("*.json")]
    assert not any(document["etaglist"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed(alone: Ufile, path: Path, status: int) -> None:
    with Liar(lambda _: answer(200, GOOD_ID)) as other:
        for where in (f"http://127.0.0.1:{other.port}/big", f"//127.0.0.1:{other.port}/x", "/big"):
            with Liar(lambda _, to=where: answer(status, {}, Location=to)) as liar:  # type: ignore[misc]
                code, words = upload_here(alone, liar, path)
                assert code == 1 and "redirects are not followed" in words
                assert len(liar.asked) == 1
        assert other.asked == []


def test_the_words_of_a_server_are_escaped(alone: Ufile, path: Path) -> None:
    head = f"X-SessionId: {ESCAPES[:30]}\r\n".replace("\r\n\x00", "").encode("utf-8")
    body = json.dumps({"RetCode": -1, "ErrMsg": ESCAPES * 50, "UploadId": ESCAPES}).encode()
    said = b"HTTP/1.1 400 \x1b[2JNo\r\n" + head + b"Content-Type: \x1b[2J\r\n"
    said += f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with Liar(lying(initiate=said, head=said, uploads=said, parts=said)) as liar:
        for arguments in (
            ("upload", "demo", "big", str(path), *AT_ONCE, "-v", "-v"),
            ("upload", "demo", "big", str(path), *AT_ONCE, "--progress", "json"),
            ("verify", "demo", "big", str(path)),
            ("status", "--remote", "demo"),
        ):
            outcome = run(alone, liar, *arguments) if "-v" not in arguments else None
            if outcome is None:
                code, words = helper(alone, *arguments, "--endpoint", liar.url)
                nothing_raw(words)
            else:
                code = outcome.code
            assert code == 1, (arguments, outcome)


def test_a_list_of_uploads_that_means_harm(alone: Ufile) -> None:
    key, upload_id = f"a'; rm -rf ~ #{ESCAPES}", "x'; touch owned #"
    entry = {"UploadId": upload_id, "FileName": key, "StartTime": 2**39}
    document = {"RetCode": 0, "NextMarker": "", "DataSet": [entry]}
    with Liar(lying(uploads=answer(200, document))) as liar:
        outcome = run(alone, liar, "status", "--remote", "demo")
        assert outcome.code == 0, outcome
        for line in re.findall(r"ufile (?:resume|abort) .*", outcome.out):
            assert upload_id in shlex.split(line), line
        outcome = run(alone, liar, "status", "--remote", "demo", "--json")
        assert outcome.json[0]["key"] == key
        outcome = run(alone, liar, "doctor", "--bucket", "demo")
        assert outcome.code == 1 and "orphan" in outcome.out, outcome
        for line in re.findall(r"ufile (?:resume|abort) .*", outcome.out):
            assert upload_id in shlex.split(line), line


def test_lists_that_go_round(alone: Ufile) -> None:
    turn = iter(range(10**9))

    def page() -> bytes:
        entry = {"UploadId": "u", "FileName": "k", "StartTime": 1}
        return answer(200, {"NextMarker": "ab"[next(turn) % 2], "DataSet": [entry]})

    with Liar(lying(uploads=page)) as liar:
        outcome = run(alone, liar, "status", "--remote", "demo")
        assert outcome.code == 75 and "circles" in outcome.err
        assert len(liar.asked) < 10


@pytest.mark.parametrize("count", [MIB, pytest.param(5 * MIB, marks=pytest.mark.slow)])
def test_a_page_of_the_largest_size(alone: Ufile, path: Path, count: int) -> None:
    """What costs the most memory when it is read: millions of empty lists, just below the limit."""
    body = b'{"UploadId":"u","Parts":[' + b"[]," * count + b"[]]}"
    with Liar(lying(parts=answer(200, body=body))) as liar:
        outcome = run(
            alone, liar, "resume", "--bucket", "demo", "--key", "big", "--upload-id", "u",
            "--file", str(path), *AT_ONCE,
        )  # fmt: skip
        assert outcome.code == 75, outcome


def test_an_object_under_another_name(alone: Ufile, path: Path) -> None:
    said = answer(200, {"Key": f"other{ESCAPES}", "FileSize": 2 * BLOCK}, ETag='"x"')
    with Liar(lying(finish=said)) as liar:
        outcome = upload(alone, liar, path)
        assert outcome.code == 1 and "another key" in outcome.err


@pytest.mark.parametrize("block_size", [1, 512 * MIB])
def test_block_sizes_at_the_edge(alone: Ufile, tmp_path: Path, block_size: int) -> None:
    """A stream holds parts in memory: the server must not decide how much of it is taken."""
    big = tmp_path / "huge"
    with big.open("wb") as file:
        file.truncate(64 * MIB)
    said = answer(200, GOOD_ID | {"BlkSize": block_size})
    with Liar(lying(initiate=said)) as liar:
        stream = alone.start(
            "upload-stream", "demo", "big", *AT_ONCE, "--endpoint", liar.url,
            "--", "head", "-c", "40000000", "/dev/zero", preexec=limited,
        )  # fmt: skip
        outcome = stream.wait()
        assert outcome.code in (1, 2, 66, 75) and "Traceback" not in outcome.err, outcome
        assert "bug of ufile" not in outcome.err, outcome
        if block_size == 1:
            outcome = run(alone, liar, "upload", "demo", "b", str(big), *AT_ONCE)
            assert outcome.code in (1, 75), outcome
        parts = [asked for asked in liar.asked if call_of(asked) == "part"]
        assert len(parts) < 100


def test_small_files_and_their_lies(alone: Ufile, tmp_path: Path) -> None:
    small = make_file(tmp_path / "small", 1000)
    for lie in (
        answer(200, ETag="\x1b[2J"),
        answer(200, body=b"<html>"),
        answer(200, ETag='"AQAAAMqsIYLoibD_PaULvJ5NAsjTumuI"'),
    ):
        with Liar(lying(put=lambda lie=lie: iter([lie]))) as liar:
            code, words = helper(alone, "upload", "demo", "k", str(small), *AT_ONCE,
                                 "--endpoint", liar.url)  # fmt: skip
            assert code in (1, 75), words
            nothing_raw(words)


READ_BACK: dict[str, tuple[Callable[[], Iterable[bytes]], int]] = {
    "no end": (lambda: endless(b"x", HEAD + b"\r\n"), 75),
    "chunks": (chunks, 75),
    "longer than it said": (
        lambda: endless(b"x", HEAD + b"Content-Length: 99999999999999\r\n\r\n"), 1
    ),
    "bomb": (lambda: iter([answer(200, body=bomb(), Content_Encoding="gzip, gzip")]), 1),
    "shorter": (lambda: iter([answer(200, body=b"x" * 99)]), 1),
    "broken off": (lambda: iter([HEAD + b"Content-Length: 100\r\n\r\nx"]), 75),
}  # fmt: skip


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of `helper` that ask for single things wait for nothing between attempts."""
    monkeypatch.setattr(asking, "_POLICY", RetryPolicy(attempts=3, interval=0.0, patience=0))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", sorted(READ_BACK))
def test_an_object_read_back(alone: Ufile, tmp_path: Path, name: str) -> None:
    """What HeadFile said is the most that is read; nothing is unpacked."""
    small = make_file(tmp_path / "small", 100)
    said, code = READ_BACK[name]
    head = HEAD + b'Content-Length: 100\r\nETag: "x"\r\n\r\n'
    verify = ("verify", "demo", "k", str(small), "--content")
    with Liar(lying(head=lambda: iter([head]), get=said)) as liar:
        if code == 1:  # in bounded memory
            outcome = run(alone, liar, *verify)
            got, words = outcome.code, outcome.err
        else:
            got, words = helper(alone, *verify, "--endpoint", liar.url)
        assert got == code, words
        nothing_raw(words)
        assert liar.sent < TAKEN_AT_MOST


def test_a_list_in_thousands_of_chunks_is_no_attack(alone: Ufile) -> None:
    """What is bounded are lines in a row; there is content between those of a chunked body."""
    entries = [{"UploadId": f"u{n}", "FileName": f"k{n}", "StartTime": 1} for n in range(100)]
    document = json.dumps({"RetCode": 0, "NextMarker": "", "DataSet": entries}).encode()
    assert len(document) > 3000
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in document)
    said = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\nX-Sum: none\r\n\r\n"
    with Liar(lying(uploads=said)) as liar:
        outcome = run(alone, liar, "status", "--remote", "demo", "--json")
    assert outcome.code == 0, outcome
    assert [one["uploadid"] for one in outcome.json] == [f"u{n}" for n in range(100)]


HEADS = {
    "absurd length": (b"Content-Length: 99999999999999999999999999\r\n", 75),
    "negative length": (b"Content-Length: -1\r\n", 75),
    "no length": (b"", 75),
    "ETag with escapes": (b'Content-Length: 100\r\nETag: "\x1b[2J"\r\n', 75),
    "long ETag": (b'Content-Length: 100\r\nETag: "' + b"A" * 60_000 + b'"\r\n', 75),
    "escapes elsewhere": (b"Content-Length: 100\r\nLast-Modified: \x1b[2J\r\nX-\x1b: a\r\n", 1),
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", sorted(HEADS))
def test_heads_that_lie(alone: Ufile, tmp_path: Path, name: str) -> None:
    small = make_file(tmp_path / "small", 100)
    headers, code = HEADS[name]
    with Liar(lying(head=lambda: iter([HEAD + headers + b"\r\n"]))) as liar:
        got, words = helper(alone, "verify", "demo", "k", str(small), "--endpoint", liar.url)
        assert got == code, words
        nothing_raw(words)
