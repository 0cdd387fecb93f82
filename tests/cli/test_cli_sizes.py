"""Files of every interesting size arrive byte for byte, and the journal is what it should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testbed import MIB, Ufile, assert_same, calls_of, make_file, stored_parts

from ufile_cli.emulator.server import Emulator
from ufile_cli.etag import BlockHasher

SIZES = {
    "0": 0,
    "1": 1,
    "4M-1": 4 * MIB - 1,
    "4M": 4 * MIB,
    "4M+1": 4 * MIB + 1,
    "33M+7": 33 * MIB + 7,
}


@pytest.mark.parametrize("block", [1, 4, 8, 32])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_arrives(ufile: Ufile, emulator: Emulator, tmp_path: Path, size: int, block: int) -> None:
    emulator.block_size = block * MIB
    path = make_file(tmp_path / "big", size)
    result = ufile.upload(path).json
    assert_same(emulator, path)
    assert result["size"] == result["bytes_sent"] == size
    assert result["exit_code"] == 0 and result["error"] is None
    if size <= 4 * MIB:
        assert [record.call for record in emulator.requests][:1] == ["put"]
        assert emulator.count("initiate") == emulator.count("part") == 0
        assert result["journal_id"] is None and result["parts"] == result["parts_sent"] == 1
        assert not list(ufile.journals.glob("*"))
    else:
        parts = -(-size // (block * MIB))
        assert stored_parts(emulator.requests) == dict.fromkeys(range(parts), 1)
        assert emulator.count("put") == 0 and emulator.count("finish") == 1
        assert result["parts"] == result["parts_sent"] == parts
        assert result["parts_reused"] == result["parts_changed"] == 0
        assert result["journal_id"] == ufile.only_journal()
        receipt = ufile.document(result["journal_id"])
        assert receipt["state"] == "finished" and "etaglist" not in receipt
        assert [path.name for path in ufile.journals.glob("*.parts.jsonl")] == []
    if size and block == 4:
        assert result["verified"] == "etag"
        hasher = BlockHasher()
        hasher.update(path.read_bytes())
        if size > 4 * MIB:
            assert result["etag"] == hasher.etag()
    else:
        assert result["verified"] in ("etag", "parts")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", [4, 32])
def test_two_gigabytes(ufile: Ufile, emulator: Emulator, tmp_path: Path, block: int) -> None:
    emulator.block_size = block * MIB
    size = 2048 * MIB
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, 97 * MIB):  # sparse, but no two parts alike
            os.pwrite(file.fileno(), f"{at}".encode() * 1000, at)
    result = ufile.upload(path).json
    assert_same(emulator, path)
    assert result["verified"] == "etag" and result["parts"] == size // emulator.block_size
    assert set(stored_parts(emulator.requests).values()) == {1}


def test_a_sparse_file_of_zeros(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(17 * MIB)
    assert ufile.upload(path).json["verified"] == "etag"
    assert_same(emulator, path)


def test_a_symlink_is_the_file(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = make_file(tmp_path / "real.txt", 5 * MIB)
    link = tmp_path / "link.html"
    link.symlink_to(path)
    ufile.upload(link)
    assert_same(emulator, path)
    document = ufile.document(ufile.only_journal())
    assert document["localfile"] == str(path)
    assert calls_of(emulator, "initiate")[0].content_type == document["mime_type"] == "text/html"


def test_what_an_object_is_told(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    """Type, class, metadata and headers: once for a small file, once for a large one."""
    told = (
        "--mime-type", "application/x-tar", "--storage-class", "ia", "--meta", "Owner=me",
        "--meta", "year=2026", "-H", "X-Test: a: b",
    )  # fmt: skip
    for size, key in ((10, "small"), (5 * MIB, "big")):
        ufile.upload(make_file(tmp_path / key, size), *told, key=key)
        stored = emulator.store.find("demo", key)
        assert stored.content_type == "application/x-tar"
        assert stored.storage_class == "IA"
        assert dict(stored.metadata) == {"owner": "me", "year": "2026"}
    for call in ("initiate", "part", "finish", "put"):
        assert {record.content_type for record in calls_of(emulator, call)} <= {
            "application/x-tar", "text/plain"
        }  # fmt: skip


def test_a_file_that_grew_to_large_is_not_put_twice(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    """The same key again with another content: a new upload, which replaces the object."""
    path = make_file(tmp_path / "big", 5 * MIB)
    first = ufile.upload(path).json
    make_file(path, 6 * MIB, seed=2)
    second = ufile.upload(path).json
    assert first["journal_id"] != second["journal_id"]
    assert_same(emulator, path)
