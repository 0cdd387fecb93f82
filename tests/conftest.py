"""Fixtures of the tests that run the real command or need a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed import PUBLIC, SECRET, Ufile

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """A server that checks signatures; its own errors fail the test."""
    with Emulator(tmp_path / "server", keys=(PUBLIC, SECRET)) as server:
        yield server
    assert server.errors == []


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
