"""Fixtures of the tests that run the real command or need a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from testbed import MIB, PUBLIC, SECRET, Ufile

from ufile_cli import MultipartUploadUFile
from ufile_cli.emulator.server import Emulator

# No test looks at how long something took, Hypothesis's deadline of 200 ms for an example included.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


@pytest.fixture
def block_size() -> int:
    """The server's block size, for test modules to say otherwise."""
    return 4 * MIB


@pytest.fixture
def emulator(tmp_path: Path, block_size: int) -> Iterator[Emulator]:
    """A server that checks signatures; its own errors fail the test."""
    with Emulator(tmp_path / "server", keys=(PUBLIC, SECRET), block_size=block_size) as server:
        yield server
    assert server.errors == []


@pytest.fixture
def make(emulator: Emulator) -> Callable[..., MultipartUploadUFile]:
    """Makes a handler of the Python API; with other keys or keyword arguments where given."""

    def maker(public: str = PUBLIC, private: str = SECRET, **more: Any) -> MultipartUploadUFile:
        return MultipartUploadUFile(public, private, more.pop("url", emulator.url), **more)

    return maker


@pytest.fixture
def ufile(tmp_path: Path, emulator: Emulator) -> Iterator[Ufile]:
    """The command, with the emulator as its endpoint."""
    home = tmp_path / "home"
    home.mkdir()
    command = Ufile(home, emulator.url)
    yield command
    command.end_all()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Ufile]:
    """The command with keys, but no endpoint."""
    home = tmp_path / "home"
    home.mkdir()
    command = Ufile(home, None)
    yield command
    command.end_all()
