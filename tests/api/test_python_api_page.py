"""The examples of docs/python-api.md, type-checked and run, and its tables held to the code."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from testbed import MIB, PUBLIC, SECRET, assert_same, make_file

from ufile_cli import MultipartUploadUFile, ResponseInfo
from ufile_cli.emulator.server import Emulator

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python-api.md").read_text()
PROGRAM = "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE))


@pytest.fixture
def block_size() -> int:
    """A few MiB are several parts."""
    return MIB


def test_the_examples_run(emulator: Emulator, tmp_path: Path) -> None:
    source = make_file(tmp_path / "big.iso", 5 * MIB)
    text = PROGRAM.replace(".cn-bj.ufileos.com", emulator.url)
    text = text.replace('"public key"', repr(PUBLIC)).replace('"private key"', repr(SECRET))
    program = tmp_path / "program.py"
    program.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, check=True, timeout=60)
    for key in ("2026/big.iso", "big.iso", "dump"):
        assert_same(emulator, source, bucket="backups", key=key)
    assert len(list((tmp_path / "state" / "journals").glob("*.json"))) == 1


def test_the_examples_are_typed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    errors = [line for line in checked.stdout.splitlines() if "program.py" in line]
    assert errors == []


def test_every_argument_and_attribute_is_in_a_table() -> None:
    told = set(re.findall(r"`(\w+)(?:\(\))?`", PAGE))
    for name in ("__init__", "uploadfile", "resumeuploadfile", "uploadstream"):
        parameters = inspect.signature(getattr(MultipartUploadUFile, name)).parameters
        expected = set(parameters) - {"self", "public_key", "private_key"}
        assert expected <= told, name
    assert {one.name for one in dataclasses.fields(ResponseInfo)} <= told
