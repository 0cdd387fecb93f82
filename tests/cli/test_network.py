"""The way to the server: proxies, certificates, settings, and what the log says of it."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, PUBLIC, SECRET, Ufile, assert_same, calls_of, make_file

from ufile_cli.emulator.server import Emulator

HOST = "us3.invalid"
"""A name that no name service knows: only a proxy finds it."""


class Relay:
    """Listens on the loopback; what a connection is for, its handler knows."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._handle = handle
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                taken = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(taken,), daemon=True).start()

    def _one(self, taken: socket.socket) -> None:
        try:
            self._handle(taken)
        except OSError:
            pass
        finally:
            taken.close()

    def close(self) -> None:
        self._listener.close()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes in both directions until one side has ended."""

    def half(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
        except OSError:
            pass
        for side in (source, target):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    thread = threading.Thread(target=half, args=(other, one), daemon=True)
    thread.start()
    half(one, other)
    thread.join()


class Proxy:
    """A forwarding proxy: absolute URLs go to the emulator, CONNECT to `tls_port`."""

    def __init__(self, port: int, tls_port: int = 0) -> None:
        self._port, self._tls_port = port, tls_port
        self.lines: list[str] = []
        self.credentials: set[str] = set()
        self.relay = Relay(self._handle)
        self.url = f"http://me:proxy-password@127.0.0.1:{self.relay.port}"

    def _handle(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65536)
            if not piece:
                return
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        method, target, version = first.split(b" ")
        self.lines.append(f"{method.decode()} {target.decode()}")
        self.credentials |= {f.decode() for f in fields if f.lower().startswith(b"proxy-auth")}
        connecting = method == b"CONNECT"
        port = self._tls_port if connecting else self._port
        with socket.create_connection(("127.0.0.1", port)) as server:
            if connecting:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = b"/" + target.partition(b"://")[2].partition(b"/")[2]
                kept = [f for f in fields if not f.lower().startswith((b"proxy-", b"connection:"))]
                lines = [b" ".join((method, path, version)), *kept, b"Connection: close", b"", b""]
                server.sendall(b"\r\n".join(lines) + rest)
            pump(client, server)


@pytest.fixture
def proxy(emulator: Emulator) -> Iterator[Proxy]:
    made = Proxy(emulator.port)
    yield made
    made.relay.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away certificate authority, and a certificate of it for our names."""
    where = tmp_path_factory.mktemp("ca")
    (where / "ext").write_text(f"subjectAltName=IP:127.0.0.1,DNS:*.{HOST}\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=throw-away",
         "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        ("req", *key, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=us3"),
        ("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-out", "cert.pem", "-days", "2", "-extfile", "ext"),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=where, check=True, capture_output=True)
    return where


@pytest.fixture
def tls(emulator: Emulator, authority: Path) -> Iterator[Relay]:
    """The emulator behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

    def handle(taken: socket.socket) -> None:
        with (
            context.wrap_socket(taken, server_side=True) as opened,
            socket.create_connection(("127.0.0.1", emulator.port)) as server,
        ):
            pump(opened, server)

    made = Relay(handle)
    yield made
    made.close()


def test_through_a_forwarding_proxy(
    ufile: Ufile, emulator: Emulator, proxy: Proxy, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "big", 9 * MIB)
    key = "a/../备份 //x"
    ufile.env |= {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url}
    outcome = ufile("upload", "demo", key, str(path), "--endpoint", f"http://{HOST}", "--json")
    assert outcome.code == 0, outcome
    assert len(proxy.lines) == len(emulator.requests)
    assert_same(emulator, path, key=key)
    assert all(f"http://demo.{HOST}/" in line for line in proxy.lines)
    assert proxy.credentials == {"Proxy-Authorization: Basic bWU6cHJveHktcGFzc3dvcmQ="}


def test_no_proxy_counts(ufile: Ufile, proxy: Proxy, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 10)
    ufile.env |= {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "NO_PROXY": HOST,
                  "no_proxy": HOST}  # fmt: skip
    outcome = ufile("upload", "demo", "k", str(path), "--endpoint", f"http://{HOST}", *AT_ONCE)
    assert outcome.code == 75 and proxy.lines == []


def test_the_loopback_is_never_proxied(
    ufile: Ufile, emulator: Emulator, proxy: Proxy, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "big", 10)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        ufile.env[name] = proxy.url
    ufile.upload(path)
    assert ufile("upload", "demo", "k", str(path), "--endpoint", "local").code == 0
    assert proxy.lines == []


def test_a_proxy_that_is_gone_names_no_password(ufile: Ufile, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 10)
    dead = "http://me:proxy-password@127.0.0.1:1"
    ufile.env |= {"HTTP_PROXY": dead, "http_proxy": dead}
    outcome = ufile(
        "upload", "demo", "k", str(path), "--endpoint", f"http://{HOST}", *AT_ONCE, "-v", "-v"
    )
    assert outcome.code == 75 and "HTTP_PROXY" in outcome.err
    assert "proxy-password" not in outcome.err


def test_tls_with_an_authority_of_ones_own(
    ufile: Ufile, emulator: Emulator, tls: Relay, authority: Path, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "big", 9 * MIB)
    ufile.env["UFILE_ENDPOINT"] = f"https://127.0.0.1:{tls.port}"
    outcome = ufile("upload", "demo", "big", str(path), *AT_ONCE)
    assert outcome.code == 75 and "REQUESTS_CA_BUNDLE" in outcome.err
    assert not emulator.requests
    ufile.env["REQUESTS_CA_BUNDLE"] = "/no/where"
    outcome = ufile("upload", "demo", "big", str(path), *AT_ONCE)
    assert outcome.code == 78 and "/no/where" in outcome.err
    ufile.env["REQUESTS_CA_BUNDLE"] = str(authority / "ca.pem")
    assert ufile("upload", "demo", "big", str(path)).code == 0
    assert_same(emulator, path)


def test_tls_through_a_proxy(
    ufile: Ufile, emulator: Emulator, tls: Relay, authority: Path, tmp_path: Path
) -> None:
    proxy = Proxy(emulator.port, tls.port)
    path = make_file(tmp_path / "big", 9 * MIB)
    ufile.env |= {
        "HTTPS_PROXY": proxy.url, "https_proxy": proxy.url,
        "REQUESTS_CA_BUNDLE": str(authority / "ca.pem"),
    }  # fmt: skip
    outcome = ufile("upload", "demo", "big", str(path), "--endpoint", f"https://{HOST}")
    proxy.relay.close()
    assert outcome.code == 0, outcome
    assert_same(emulator, path)
    assert set(proxy.lines) == {f"CONNECT demo.{HOST}:443"}


# Settings


def test_options_before_environment_before_profile(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "f", 10)
    config = Path(ufile.env["UFILE_CONFIG"])
    config.write_text(
        f'[profiles.default]\nendpoint = "http://127.0.0.1:1"\npublic_key = "{PUBLIC}"\n'
        f'private_key = "{SECRET}"\n'
        f'[profiles.work]\nendpoint = "{emulator.url}"\npublic_key = "{PUBLIC}"\n'
        'private_key = "wrong-private-key"\n'
    )
    config.chmod(0o600)
    nothing = {"UFILE_ENDPOINT": None, "UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None}
    upload = ("upload", "demo", "k", str(path), *AT_ONCE)
    assert ufile(*upload).code == 0  # all from the environment
    assert ufile(*upload, env=nothing).code == 75  # the default profile's endpoint
    assert ufile(*upload, "--endpoint", emulator.url, env=nothing).code == 0
    outcome = ufile(*upload, "--profile", "work", env=nothing)
    assert outcome.code == 77 and "wrong-private-key" not in outcome.err
    assert ufile(*upload, env=nothing | {"UFILE_PROFILE": "work"}).code == 77
    assert ufile(*upload, "--profile", "default").code == 0  # UFILE_ENDPOINT, the profile's keys
    config.chmod(0o640)
    outcome = ufile(*upload)
    assert outcome.code == 0 and f"chmod 600 {config}" in outcome.err


# The log


def test_verbose_shows_requests_and_no_secrets(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "big", 5 * MIB)
    emulator.faults.add(call="part", first=1, status=503)
    log = tmp_path / "log"
    outcome = ufile(
        "upload", "demo", "a b", str(path), "-v", "-v", "--log-file", str(log),
        "--retry-interval", "0", "--progress", "plain",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    written = log.read_text()
    for text in (outcome.err, written):
        assert "POST /a%20b?uploads (InitiateMultipartUpload" in text
        assert re.search(r"-> 503 in [0-9.]+ s session [0-9a-f]{32}: ", text), text
        assert SECRET not in text and "UCloud " not in text
    assert written.count(" -> ") == len(emulator.requests)
    assert log.stat().st_mode & 0o777 == 0o600
    assert os.listdir(ufile.home) and SECRET not in "".join(
        file.read_text() for file in ufile.journals.iterdir()
    )


def test_quiet_still_writes_the_log_file(ufile: Ufile, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = ufile("upload", "demo", "k", str(make_file(tmp_path / "f", 1)), "-q", "--log-file",
                    str(log))  # fmt: skip
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert "PUT /k (PutFile" in log.read_text()


# The object


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tar.gz", "application/gzip"), ("B.JPG", "image/jpeg"), ("c.txt", "text/plain"),
        ("页.html", "text/html"), ("noend", "application/octet-stream"),
        ("x.parquet", "application/vnd.apache.parquet"), (".bashrc", "application/octet-stream"),
    ],
)  # fmt: skip
def test_the_type_goes_by_name(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, name: str, kind: str
) -> None:
    ufile.upload(make_file(tmp_path / name, 1))
    assert emulator.store.find("demo", "big").content_type == kind


def test_headers_reach_every_request(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    ufile.upload(
        make_file(tmp_path / "big", 5 * MIB), "-H", "User-Agent: one", "-H", "user-agent: two",
        "-H", "X-UCloud-Tag: signed", "--storage-class", "archive", "--meta", "Who=me",
    )  # fmt: skip
    assert all(record.signature == "ok" for record in emulator.requests)
    for call in ("initiate", "part", "finish"):
        assert calls_of(emulator, call)
        for record in calls_of(emulator, call):
            sent = {name.lower(): value for name, value in record.headers.items()}
            assert sent["user-agent"] == "one, two"
    stored = emulator.store.find("demo", "big")
    assert stored.storage_class == "ARCHIVE" and dict(stored.metadata) == {"who": "me"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("upload",), ("upload", "demo", "k"), ("upload-stream", "demo", "k"), ("resume",),
        ("abort",), ("configure",), ("verify", "demo", "k"), ("upload", "demo", "k", "FILE"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_asks_without_a_terminal(
    alone: Ufile, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A pipe that nobody writes to and nobody closes: only who asks or reads would wait."""
    path = make_file(tmp_path / "f", 1)
    words = tuple(str(path) if word == "FILE" else word for word in arguments)
    outcome = alone(*words, env={"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None})
    assert outcome.code in (2, 78), outcome
