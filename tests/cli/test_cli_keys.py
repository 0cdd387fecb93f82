"""Keys of every kind arrive as that key, as one request and in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from testbed import MIB, Ufile, assert_same, make_file

from ufile_cli.emulator.server import Emulator

KEYS = [
    "a b/c  d",
    "what?really",
    "part#2",
    "100%",
    "%41",
    "%2e%2e/%2F",
    "a+b&c=d;e,f",
    "a//b///c",
    "/leading",
    "//two",
    ".",
    "..",
    "./a/./b",
    "../../etc/passwd",
    "a/../b/..",
    "备份/数据库 转储.sql",
    "🐘/🧪.bin",
    "é",
    "e\u0301",
    "~tilde'\"<>|\\^`{}[]!*()$@:",
    "-rf",
    "?uploads",
    "new\nline\ttab",
    "备" * 300,
]


@pytest.mark.parametrize("size", [100, 5 * MIB], ids=["put", "parts"])
@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_arrives_as_that_key(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, key: str, size: int
) -> None:
    path = make_file(tmp_path / "big", size)
    outcome = ufile("upload", "--json", "--", "demo", key, str(path))
    assert outcome.code == 0, outcome
    assert outcome.json["key"] == key
    assert {record.key for record in emulator.requests} <= {key, ""}
    assert [stored.key for stored in emulator.store.objects("demo", "")] == [key]
    assert_same(emulator, path, key=key)


@pytest.mark.parametrize("key", ["a b/", "数据/", "/"])
@pytest.mark.parametrize("size", [100, 5 * MIB], ids=["put", "parts"])
def test_a_key_that_ends_in_a_slash_gets_the_name(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, key: str, size: int
) -> None:
    path = make_file(tmp_path / "der Name?.bin", size)
    assert ufile.upload(path, key=key).json["key"] == key + "der Name?.bin"
    assert_same(emulator, path, key=key + "der Name?.bin")


def test_keys_that_cannot_be(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 5)
    outcome = ufile("upload", "demo", "", str(path))
    assert outcome.code == 2 and "the key is empty" in outcome.err
    assert not emulator.requests
