"""Fixtures of the tests with faults: small parts, and the engine in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from faultbed import BLOCK, Engine
from testbed import make_file

from ufile_cli.emulator.server import Emulator


@pytest.fixture(autouse=True)
def small_parts(emulator: Emulator) -> None:
    emulator.block_size = BLOCK


@pytest.fixture
def engine(tmp_path: Path, emulator: Emulator) -> Engine:
    """Uploads in this process."""
    return Engine(tmp_path / "home-of-the-engine", emulator)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """A file of ten parts, the last one short."""
    return make_file(tmp_path / "ten.bin", 9 * BLOCK + 345)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that the command sends in parts: 20 of them, the last one short."""
    return make_file(tmp_path / "large.bin", 19 * BLOCK + 345)
