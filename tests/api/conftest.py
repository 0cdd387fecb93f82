"""Fixtures of the tests of the Python API: a server with small blocks, and handlers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, PUBLIC, SECRET

from ufile_cli import MultipartUploadUFile
from ufile_cli.emulator.server import Emulator

Maker = Callable[..., MultipartUploadUFile]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """Blocks of 1 MiB, so that a few MiB are several parts."""
    with Emulator(tmp_path / "server", keys=(PUBLIC, SECRET), block_size=MIB) as server:
        yield server
    assert server.errors == []


@pytest.fixture
def make(emulator: Emulator) -> Maker:
    """Makes a handler; with other keys or keyword arguments where given."""

    def maker(public: str = PUBLIC, private: str = SECRET, **more: Any) -> MultipartUploadUFile:
        return MultipartUploadUFile(public, private, more.pop("url", emulator.url), **more)

    return maker
