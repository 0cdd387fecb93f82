"""UCloud's own Python SDK as a client of the emulator: what it expects, the emulator says.

The SDK is a black box here, and the one published witness of the wire that can be run. Bucket
host names are resolved by a patched getaddrinfo; nothing leaves the machine.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ufile import filemanager, multipartuploadufile
from ufile.config import set_default
from ufile.util import file_etag

from ufile_cli.emulator.server import Emulator

PUBLIC, PRIVATE = "TOKEN_public", "private"
DOMAIN = ".us3.test"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below DOMAIN are this machine, and no proxy is asked."""
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        local = isinstance(host, str) and host.endswith(DOMAIN)
        return real("127.0.0.1" if local else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "us3", keys=(PUBLIC, PRIVATE)) as running:
        yield running
        assert running.errors == []


def files(emulator: Emulator, public: str = PUBLIC, private: str = PRIVATE) -> Any:
    suffix = f"{DOMAIN}:{emulator.port}"
    return filemanager.FileManager(public, private, upload_suffix=suffix, download_suffix=suffix)


def multipart(emulator: Emulator) -> Any:
    suffix = f"{DOMAIN}:{emulator.port}"
    return multipartuploadufile.MultipartUploadUFile(PUBLIC, PRIVATE, upload_suffix=suffix)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.mp4"
    path.write_bytes(os.urandom(9 * MIB + 5))
    return path


def test_put_file_head_compare_download(emulator: Emulator, source: Path, tmp_path: Path) -> None:
    client = files(emulator)
    _, put = client.putfile("demo", "dir/film.mp4", str(source))
    assert put.status_code == 200
    assert put.etag == f'"{file_etag(str(source))}"'
    _, head = client.head_file("demo", "dir/film.mp4")
    assert head.status_code == 200
    assert head.content_length == str(source.stat().st_size)
    assert head.content_type == "video/mp4"
    assert client.compare_file_etag("demo", "dir/film.mp4", str(source))
    target = tmp_path / "target"
    _, got = client.download_file("demo", "dir/film.mp4", str(target))
    assert got.status_code == 200
    assert target.read_bytes() == source.read_bytes()
    assert [one.signature for one in emulator.requests] == ["ok"] * 4


def test_download_of_a_range(emulator: Emulator, source: Path, tmp_path: Path) -> None:
    client = files(emulator)
    client.putfile("demo", "film", str(source))
    target = tmp_path / "target"
    _, got = client.download_file("demo", "film", str(target), content_range=(4194300, 4194310))
    assert got.status_code == 206
    assert got.content_range == (4194300, 4194310)
    assert target.read_bytes() == source.read_bytes()[4194300:4194311]


def test_private_links_to_get_and_head(emulator: Emulator) -> None:
    import requests

    client = files(emulator)
    for number in range(8):  # some of the signatures hold a plus, which the links carry raw
        client.putstream("demo", f"key{number}", io.BytesIO(b"content"))
        link = client.private_download_url("demo", f"key{number}")
        assert requests.get(link, timeout=10).content == b"content"
        assert requests.head(client.private_head_url("demo", f"key{number}"), timeout=10).ok
    logged = repr(emulator.requests)
    assert "Signature=…" in logged
    assert link.split("Signature=")[1] not in logged


def test_put_stream_with_md5(emulator: Emulator) -> None:
    client = files(emulator)
    set_default(md5=True)
    try:
        _, put = client.putstream("demo", "stream", io.BytesIO(b"abc"), mime_type="text/plain")
    finally:
        set_default(md5=False)
    assert put.status_code == 200
    assert emulator.requests[-1].headers["Content-MD5"] == "900150983cd24fb0d6963f7d28e17f72"


def test_empty_file_comes_chunked(emulator: Emulator, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    client = files(emulator)
    _, put = client.putfile("demo", "empty", str(empty))
    assert put.status_code == 200
    assert emulator.requests[-1].headers["Transfer-Encoding"] == "chunked"
    _, head = client.head_file("demo", "empty")
    assert head.content_length == "0"


@pytest.mark.parametrize("block_size", [4 * MIB, 8 * MIB, 3 * MIB])
def test_multipart_file(emulator: Emulator, source: Path, tmp_path: Path, block_size: int) -> None:
    emulator.block_size = block_size
    client = multipart(emulator)
    ret, done = client.uploadfile("demo", "big.mp4", str(source), maxthread=3)
    assert done.status_code == 200
    assert ret["FileSize"] == source.stat().st_size
    assert ret["Key"] == "big.mp4"
    assert client.blocksize == block_size
    assert done.etag.strip('"') == file_etag(str(source))
    _, head = files(emulator).head_file("demo", "big.mp4")
    assert head.content_type == "video/mp4"
    target = tmp_path / "target"
    files(emulator).download_file("demo", "big.mp4", str(target))
    assert target.read_bytes() == source.read_bytes()


def test_multipart_stream(emulator: Emulator) -> None:
    content = os.urandom(5 * MIB)
    client = multipart(emulator)
    ret, done = client.uploadstream("demo", "stream", io.BytesIO(content), maxthread=2)
    assert done.status_code == 200
    assert ret == {"Bucket": "demo", "Key": "stream", "FileSize": len(content)}
    assert emulator.count("part") == 2


def test_resume_after_a_failed_part(emulator: Emulator, source: Path) -> None:
    emulator.faults.add(call="part", part=2, first=1, status=500)
    client = multipart(emulator)
    _, failed = client.uploadfile("demo", "key", str(source), maxthread=1, retrycount=1)
    assert failed.status_code == 500
    assert failed.ret_code == -30599
    assert client.pausepartnumber == 2
    set_default(uploadsuffix=f"{DOMAIN}:{emulator.port}")
    client.etaglist = client.etaglist[:2]  # it appends behind the blank of the part that failed
    _, done = client.resumeuploadfile(retrycount=1)
    assert done.status_code == 200
    assert done.etag.strip('"') == file_etag(str(source))


def test_list_parts(emulator: Emulator) -> None:
    client = multipart(emulator)
    emulator.block_size = 1024
    ret, _ = client.init_multipart_upload("demo", "key", upload_suffix=f"{DOMAIN}:{emulator.port}")
    upload = emulator.store.upload("demo", ret["UploadId"])
    assert upload.block_size == ret["BlkSize"] == 1024
    emulator.faults.add(call="finish", status=500)
    content = io.BytesIO(os.urandom(3500))
    assert client.uploadstream("demo", "key", content)[1].status_code == 500
    page, resp = client.get_multi_upload_part("demo", client.uploadid, max_parts=3)
    assert resp.status_code == 200
    assert [part["PartNum"] for part in page["Parts"]] == [0, 1, 2]
    assert page["IsTruncated"] is True
    rest, _ = client.get_multi_upload_part(
        "demo", client.uploadid, part_number_marker=page["NextPartNumberMarker"]
    )
    assert [(part["PartNum"], part["Size"]) for part in rest["Parts"]] == [(3, 428)]
    assert rest["IsTruncated"] is False
    etags = [part["Etag"] for part in page["Parts"] + rest["Parts"]]
    assert etags == [etag.strip('"') for etag in client.etaglist]


def test_delete(emulator: Emulator) -> None:
    client = files(emulator)
    client.putstream("demo", "key", io.BytesIO(b"abc"))
    _, gone = client.deletefile("demo", "key")
    assert gone.status_code == 204
    _, head = client.head_file("demo", "key")
    assert head.status_code == 404
    assert not head.content


def test_prefix_list_in_pages(emulator: Emulator) -> None:
    client = files(emulator)
    for key in ("a/1", "a/2", "a/3", "b"):
        client.putstream("demo", key, io.BytesIO(key.encode()))
    ret, resp = client.getfilelist("demo", prefix="a/", limit=2)
    assert resp.status_code == 200
    assert [one["FileName"] for one in ret["DataSet"]] == ["a/1", "a/2"]
    rest, _ = client.getfilelist("demo", prefix="a/", limit=2, marker=ret["NextMarker"])
    assert [one["FileName"] for one in rest["DataSet"]] == ["a/3"]
    assert rest["NextMarker"] == ""


def test_list_objects_by_directory(emulator: Emulator) -> None:
    client = files(emulator)
    for key in ("a/1", "a/2", "b", "c/1"):
        client.putstream("demo", key, io.BytesIO(key.encode()))
    listing: list[str] = []
    marker, truncated = "", True
    while truncated:
        ret, resp = client.listobjects("demo", "", marker, 1, "/")
        assert resp.status_code == 200
        listing += [one["Key"] for one in ret["Contents"]]
        listing += [one["Prefix"] for one in ret["CommonPrefixes"]]
        marker, truncated = ret["NextMarker"], ret["IsTruncated"]
    assert listing == ["a/", "b", "c/"]
    flat, _ = client.listobjects("demo", "a/", "", 100, "")
    assert [(one["Key"], one["Size"]) for one in flat["Contents"]] == [("a/1", "3"), ("a/2", "3")]


def test_wrong_keys_are_refused(emulator: Emulator, tmp_path: Path) -> None:
    files(emulator).putstream("demo", "key", io.BytesIO(b"abc"))
    forger = files(emulator, private="another")
    _, put = forger.putstream("demo", "key", io.BytesIO(b"forged"))
    assert (put.status_code, put.ret_code) == (401, -30023)
    assert put.x_session_id
    _, head = forger.head_file("demo", "key")
    assert head.status_code == 401
    _, got = forger.download_file("demo", "key", str(tmp_path / "target"))
    assert got.status_code == 401
    stranger = files(emulator, public="nobody")
    assert stranger.getfilelist("demo")[1].status_code == 403
    expired = files(emulator).download_file("demo", "key", str(tmp_path / "t"), expires=-10)
    assert expired[1].status_code == 401
    assert [one.signature for one in emulator.requests] == ["ok"] + ["refused"] * 5


def test_missing_bucket(tmp_path: Path) -> None:
    with Emulator(tmp_path, buckets=["demo"]) as emulator:
        client = files(emulator)
        assert client.putstream("demo", "key", io.BytesIO(b"abc"))[1].status_code == 200
        _, put = client.putstream("other", "key", io.BytesIO(b"abc"))
        assert (put.status_code, put.ret_code, put.error) == (404, -30010, "bucket not exist")


def test_calls_that_are_not_here_change_nothing(emulator: Emulator) -> None:
    client = files(emulator)
    client.putstream("demo", "key", io.BytesIO(b"abc"))
    assert client.restore_file("demo", "key")[1].status_code == 501
    assert client.class_switch_file("demo", "key", "IA")[1].status_code == 501
    assert client.copy("demo", "copy", "demo", "key")[1].status_code == 501
    assert client.opMeta("demo", "key", "mimetype", "a/b")[1].status_code == 501
    _, head = client.head_file("demo", "key")
    assert head.content_length == "3"


@pytest.mark.parametrize("key", ["with space", "plus+and&", "中文/键", "semi;colon"])
def test_keys_that_the_sdk_can_carry(emulator: Emulator, key: str) -> None:
    client = files(emulator)
    assert client.putstream("demo", key, io.BytesIO(b"abc"))[1].status_code == 200
    assert emulator.requests[-1].key == key
