"""`ufile serve`, left running: no request reaches outside its directory, or ends it."""

from __future__ import annotations

import http.client
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from testbed import MIB, Running, Ufile

from ufile_cli.emulator.server import Emulator

SECRET = b"nobody's business"


@pytest.fixture
def served(alone: Ufile) -> Iterator[tuple[Running, int]]:
    """The command, with little memory to take, and its port."""
    (alone.home / "outside").write_bytes(SECRET)
    running = alone.start(
        "serve", "--port", "0", "--dir", "served",
        env={"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None},
        preexec=lambda: resource.setrlimit(resource.RLIMIT_AS, (1024 * MIB, 1024 * MIB)),
    )  # fmt: skip
    running.wait_to_say("listening on ", "out")
    yield running, int(running.said("out").rpartition(":")[2])
    assert running.process.poll() is None, running.said("err")
    assert "Traceback" not in running.said("err")


def ask(
    port: int, method: str, target: str, body: bytes | None = None, host: str = "demo", **more: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"{host}.127.0.0.1:{port}")
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in more.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_nothing_outside_its_directory(alone: Ufile, served: tuple[Running, int]) -> None:
    _, port = served
    keys = ["../outside", "../../outside", "/etc/passwd", "..", "%2e%2e/outside",
            "a/../../outside",
            str(alone.home / "outside"), "\\..\\outside", "a\x00b", "." * 300,
            "x" * 5000]  # fmt: skip
    before = {path for path in alone.home.rglob("*") if "served" not in path.parts}
    for number, key in enumerate(keys):
        for target in ("/" + key.replace("\x00", "%00"), "/" + quote(key, safe="")):
            if " " in target or "\x00" in target:
                continue
            status, said = ask(port, "GET", target)
            assert SECRET not in said and (status in (400, 404) or said.startswith(b"put "))
            status, _ = ask(port, "PUT", target, b"put %d" % number)
            assert status in (200, 400), (key, status)
            status, said = ask(port, "GET", target)
            assert SECRET not in said and (status != 200 or said == b"put %d" % number)
    for upload_id in ("..", "../../outside", "/etc", "%2e%2e", "\x00", "x" * 5000):
        for target in (f"/?muploadpart&uploadId={quote(upload_id, safe='')}",
                       f"/k?uploadId={quote(upload_id, safe='')}"):  # fmt: skip
            assert ask(port, "GET" if "mup" in target else "DELETE", target)[0] in (400, 404)
    assert {path for path in alone.home.rglob("*") if "served" not in path.parts} == before
    assert (alone.home / "outside").read_bytes() == SECRET


@pytest.mark.parametrize("host", ["..", "../..", "%2e%2e", ".", "a/b", "a b", "", "objects/.."])
def test_hosts_that_are_paths(alone: Ufile, served: tuple[Running, int], host: str) -> None:
    _, port = served
    assert ask(port, "PUT", "/k", b"x", host=host)[0] in (400, 404)
    assert list((alone.home / "served").iterdir()) == []


def test_bodies_are_bounded_and_bad_requests_end_nothing(served: tuple[Running, int]) -> None:
    running, port = served
    huge = str(10**15)
    for target in ("/k", "/k?uploads", "/k?uploadId=x&partNumber=0", "/k?uploadId=x"):
        method = "POST" if "uploads" in target or target.endswith("=x") else "PUT"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest(method, target, skip_host=True)
        connection.putheader("Host", f"demo.127.0.0.1:{port}")
        connection.putheader("Content-Length", huge)
        connection.putheader("Content-Type", "a/b")
        connection.endheaders()
        assert connection.getresponse().status in (404, 413), target
        connection.close()
    for garbage in (
        b"\x16\x03\x01\x02\x00", b"GET", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"x" * 200_000, b"PUT /k HTTP/1.1\r\nHost: demo.127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        b"\r\nffffffffffffffffff\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            try:
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert ask(port, "PUT", "/k", b"0123456789")[0] == 200
    for span, status in (
        ("bytes=0-3", 206), ("bytes=-3", 206), ("bytes=9999999-", 416), ("bytes=5-1", 200),
        ("bytes=0-1,3-4", 200), ("bytes=-", 200), ("lines=1-2", 200), ("bytes=0-" + "9" * 18, 206),
    ):  # fmt: skip
        assert ask(port, "GET", "/k", Range=span)[0] == status, span
    for call in ("muploadid", "muploadpart&uploadId=x", "list", "listobjects"):
        for query in (
            "max-parts=-1", "max-parts=1e9", "max-keys=-1", "max-keys=" + "9" * 100, "limit=0",
            "limit=" + "9" * 100, "marker=%ff", "prefix=%00", "prefix=../..", "delimiter=%00",
            "part-number-marker=" + "9" * 5000,
        ):  # fmt: skip
            status, said = ask(port, "GET", f"/?{call}&{query}")
            assert status in (200, 400, 404) and len(said) < MIB, (call, query, status)
    assert running.process.poll() is None


def test_it_forgets_what_was_asked(alone: Ufile, served: tuple[Running, int]) -> None:
    """Records of requests are for tests: a server that runs for months keeps none of them."""
    running, port = served
    key = "/" + "k" * 60_000
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def resident() -> int:
        status = Path(f"/proc/{running.pid}/status")
        if not status.exists():
            pytest.skip("there is no /proc")
        return int(status.read_text().partition("VmRSS:")[2].split()[0]) * 1024

    def many(count: int) -> None:
        for _ in range(count):
            connection.request("GET", key, headers={"Host": f"demo.127.0.0.1:{port}"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404

    many(50)
    before = resident()
    many(300)  # 300 records of 60,000 bytes, three times over in each
    assert resident() - before < 10 * MIB
    connection.close()


def test_silence_and_trickles_end(tmp_path: Path) -> None:
    with (
        Emulator(tmp_path / "server", idle_timeout=0.2, max_connections=4) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as half,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as body,
    ):
        half.sendall(b"GET /k HTTP/1.1\r\nHost: demo")
        body.sendall(b"PUT /k HTTP/1.1\r\nHost: demo.127.0.0.1\r\nContent-Length: 9\r\n\r\nx")
        for sock in (silent, half, body):
            assert sock.recv(65536) == b""


def test_listens_to_this_machine_unless_told_otherwise(
    alone: Ufile, served: tuple[Running, int]
) -> None:
    running, _ = served
    assert "http://127.0.0.1:" in running.said("out") and "warning" not in running.said("err")
    other = alone.start("serve", "--port", "0", "--host", "0.0.0.0", "--dir", "other")
    other.wait_to_say("can be reached from other machines")
    other.wait_to_say("listening on ", "out")
    other.kill()
    assert (alone.home / "other").stat().st_mode & 0o777 == 0o700
