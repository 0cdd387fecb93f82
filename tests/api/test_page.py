"""The page of UCloud that the Python API follows: its signatures, and its program."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, PUBLIC, SECRET, make_file, read_object

import ufile_cli
from ufile_cli import MultipartUploadUFile, multipartuploadufile
from ufile_cli.emulator.server import Emulator
from ufile_cli.multipart.retry import RetryPolicy

VECTORS = Path(__file__).parents[1] / "vectors"
SIGNATURES = (VECTORS / "sdk-signatures.txt").read_text().splitlines()
SAMPLE = (VECTORS / "sdk-sample.txt").read_text()


@pytest.fixture
def block_size() -> int:
    """A few MiB are several parts."""
    return MIB


def parsed(line: str) -> list[tuple[str, object]]:
    """Names and defaults of a signature as the page writes it."""
    function = ast.parse(f"def {line}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    defaults = [ast.literal_eval(one) for one in arguments.defaults]
    missing: list[object] = [inspect.Parameter.empty] * (len(arguments.args) - len(defaults))
    return list(zip((one.arg for one in arguments.args), missing + defaults, strict=True))


@pytest.mark.parametrize("line", SIGNATURES)
def test_signatures_are_those_of_the_page(line: str) -> None:
    name = line.partition("(")[0]
    parameters = list(inspect.signature(getattr(MultipartUploadUFile, name)).parameters.values())
    assert parameters.pop(0).name == "self"
    assert [(one.name, one.default) for one in parameters] == parsed(line)
    assert {one.kind for one in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_all_four_are_there() -> None:
    assert [line.partition("(")[0] for line in SIGNATURES] == [
        "uploadfile",
        "resumeuploadfile",
        "uploadstream",
        "resumeuploadstream",
    ]


def test_what_the_constructor_has_besides_is_by_keyword_alone() -> None:
    parameters = list(inspect.signature(MultipartUploadUFile).parameters.values())
    assert [(one.name, one.default) for one in parameters[:3]] == [
        ("public_key", inspect.Parameter.empty),
        ("private_key", inspect.Parameter.empty),
        ("upload_suffix", None),
    ]
    assert {one.kind for one in parameters[3:]} == {inspect.Parameter.KEYWORD_ONLY}


def run_sample(suffix: str, **values: str) -> dict[str, Any]:
    """Run the page's program: its blanks are filled in, its import is changed, nothing else."""
    values["upload_suffix"] = suffix
    text = SAMPLE
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name} = '[^']*'", f"{name} = {value!r}", text)
        assert count == 1, name
    text, count = re.subn("from ufile import", "from ufile_cli import", text)
    assert count == 1
    names: dict[str, Any] = {}
    exec(compile(text, "sample", "exec"), names)
    return names


@pytest.fixture
def sample(emulator: Emulator, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    values = {
        "public_key": PUBLIC,
        "private_key": SECRET,
        "bucket": "demo",
        "sharding_key": "key",
        "local_file": str(make_file(tmp_path / "file", 5 << 20)),
    }
    return lambda **more: run_sample(emulator.url, **(values | more))


def test_the_program_runs(
    sample: Callable[..., dict[str, Any]], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sample()
    assert (names["ret"], names["resp"].status_code) == (None, 200)
    assert b"".join(read_object(emulator, "demo", "key")).decode() == "你好"
    assert emulator.count("part") == 5
    assert capsys.readouterr().out == ""


def test_the_program_loops_while_the_network_fails(
    sample: Callable[..., dict[str, Any]],
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", lambda *_: 0.0)  # the program says no interval
    emulator.faults.add(call="part", part=1, first=7, reset="head")  # three, three, then one
    emulator.faults.add(call="put", first=4, reset="body")  # three, then one
    names = sample()
    assert names["resp"].status_code == 200
    assert emulator.count("initiate") == 1
    assert emulator.count("put") == 5
    assert b"".join(read_object(emulator, "demo", "key")).decode() == "你好"


def test_the_program_prints_what_the_server_refuses(
    sample: Callable[..., dict[str, Any]], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sample(private_key="another")
    assert names["resp"].status_code == 401
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all("refused the credentials" in line and "RetCode" in line for line in said)


def test_names_come_when_they_are_asked_for() -> None:
    code = (
        "import sys, ufile_cli; assert not [m for m in sys.modules if m.startswith('ufile_cli.')"
        " and m != 'ufile_cli._version'], sys.modules; assert 'requests' not in sys.modules;"
        "from ufile_cli import MultipartUploadUFile, ResponseInfo, UFileError;"
        "import ufile_cli.multipartuploadufile as m;"
        "assert m.MultipartUploadUFile is MultipartUploadUFile;"
        "assert 'click' not in sys.modules and 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in ufile_cli.__all__:
        assert getattr(ufile_cli, name) is not None
        assert name in dir(ufile_cli)
    with pytest.raises(AttributeError):
        ufile_cli.nothing  # noqa: B018
    for name in multipartuploadufile.__all__:
        assert hasattr(multipartuploadufile, name)
