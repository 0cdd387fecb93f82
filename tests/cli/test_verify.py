"""`ufile verify`: equal is 0, different or unprovable is 1, and nothing is read twice for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from testbed import MIB, Ufile, calls_of, make_file

from ufile_cli.emulator.server import Emulator


@pytest.mark.parametrize("size", [0, 100, 4 * MIB, 9 * MIB])
def test_equal(ufile: Ufile, emulator: Emulator, tmp_path: Path, size: int) -> None:
    path = make_file(tmp_path / "文件", size)
    ufile.upload(path)
    before = len(emulator.requests)
    outcome = ufile("verify", "demo", "big", str(path), "--json")
    assert outcome.code == 0 and f"demo/big is {path}" in outcome.err
    if size:
        assert outcome.json["verified"] == "etag"
        assert outcome.json["etag"] == outcome.json["object_etag"]
    else:  # the form of an empty object's ETag is undocumented
        assert outcome.json["verified"] == "size"
    assert [record.call for record in emulator.requests[before:]] == ["head"]
    assert ufile("verify", "demo", "big", str(path), "-q").err == ""


def test_different(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 5 * MIB)
    ufile.upload(path)
    outcome = ufile("verify", "demo", "big", str(make_file(tmp_path / "other", 5 * MIB, seed=2)))
    assert outcome.code == 1 and "ETag" in outcome.err and "Traceback" not in outcome.err
    outcome = ufile("verify", "demo", "big", str(make_file(tmp_path / "short", 7)))
    assert outcome.code == 1 and "the object has 5,242,880 bytes, the file 7" in outcome.err
    outcome = ufile("verify", "demo", "none", str(path), "--json")
    assert outcome.code == 1 and "there is no object demo/none" in outcome.err
    assert outcome.json["error"]["kind"] == "VerifyFailed" and outcome.json["exit_code"] == 1


def test_a_missing_file_asks_no_server(ufile: Ufile, emulator: Emulator) -> None:
    assert ufile("verify", "demo", "big", "/no/where").code == 66
    assert ufile("verify", "demo", "big", "/").code == 66
    assert not emulator.requests


@pytest.mark.parametrize("same", [True, False])
def test_an_etag_of_an_unknown_form(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, same: bool
) -> None:
    """An equal size proves nothing; the content does."""
    path = make_file(tmp_path / "big", 5 * MIB)
    ufile.upload(path)
    other = path if same else make_file(tmp_path / "other", 5 * MIB, seed=2)
    emulator.faults.add(call="head", headers={"ETag": '"0123456789abcdef"'})
    outcome = ufile("verify", "demo", "big", str(other))
    assert outcome.code == 1
    assert "unknown form" in outcome.err and "--content" in outcome.err
    assert not calls_of(emulator, "get")
    outcome = ufile("verify", "demo", "big", str(other), "--content")
    assert outcome.code == (0 if same else 1)
    assert ("their content is equal" if same else "content differs") in outcome.err
    assert len(calls_of(emulator, "get")) == 1


def test_trouble_is_tried_again(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 10)
    ufile.upload(path)
    emulator.faults.add(call="head", first=1, status=503)
    outcome = ufile("verify", "demo", "big", str(path), "-v")
    assert outcome.code == 0 and "trying again in 1 s" in outcome.err
    outcome = ufile("verify", "demo", "big", str(path), env={"UFILE_PRIVATE_KEY": "wrong"})
    assert outcome.code == 77
