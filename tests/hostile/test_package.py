"""What is shipped: the contents of sdist and wheel; a wheel that works in a clean environment."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from testbed import MIB, make_file

from ufile_cli._version import VERSION

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("--quiet", "--disable-pip-version-check")


def run(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    ran = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, timeout=400
    )
    assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
    return ran.stdout


def test_few_dependencies_each_with_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = []
    for dependency in project["dependencies"]:
        match = re.fullmatch(r"([a-z0-9-]+)>=[0-9.]+", dependency)
        assert match is not None, f"{dependency} has no plain lower bound"
        names.append(match[1])
    assert names == ["click", "platformdirs", "requests", "rich", "urllib3"]


def program(name: str) -> Any:
    """A module that is a program beside these tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOLE = {"id": "PYSEC-0-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
SOUND = {"name": "click", "version": "8.2.0", "vulns": []}
HOLED = {"name": "rich", "version": "13.7.0", "vulns": [HOLE]}
UNKNOWN = {"name": "urllib3", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([SOUND], 0, "1 packages, no known"),
        ([SOUND, HOLED], 1, "rich 13.7.0: PYSEC-0-1, mended in 2.0"),
        ([SOUND, UNKNOWN], 2, "no vulnerability data for 1 of 2 packages"),
        ([HOLED, UNKNOWN], 1, "urllib3: Dependency not found"),
        ([], 2, "0 of 0"),
        (None, 2, "could not reach its vulnerability data"),
    ],
)
def test_an_audit_that_saw_nothing_is_no_success(
    packages: list[object] | None, code: int, says: str
) -> None:
    said = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    got, lines = program("audit").verdict(said, "Traceback\nConnectionError: no route\n")
    assert got == code and says in "\n".join(lines), lines
    assert packages is not None or "ConnectionError: no route" in lines[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_uploads_in_a_clean_environment(tmp_path: Path) -> None:
    """Minutes where packages come from far away, so it is with the slow ones."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignored)
    tools = tmp_path / "tools"
    run(sys.executable, "-m", "venv", tools, cwd=tmp_path)
    run(tools / "bin" / "pip", "install", *QUIET, "build", cwd=tmp_path)
    run(tools / "bin" / "python", "-m", "build", "--outdir", tmp_path / "dist", tree, cwd=tmp_path)

    [wheel] = (tmp_path / "dist").glob("*.whl")
    [sdist] = (tmp_path / "dist").glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    info = f"ufile_cli-{VERSION}.dist-info/"
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / "ufile_cli").rglob("*.py")
    } | {"ufile_cli/py.typed"}  # fmt: skip
    assert {name for name in inside if not name.startswith(info)} == modules
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in inside)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert modules | {"README.md", "LICENSE", "pyproject.toml"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]

    clean = tmp_path / "clean"
    run(sys.executable, "-m", "venv", clean, cwd=tmp_path)
    run(clean / "bin" / "pip", "install", *QUIET, wheel, cwd=tmp_path)
    path = make_file(tmp_path / "big.bin", 9 * MIB)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "UFILE_LOCAL_DIR": str(tmp_path / "l"),
           "UFILE_STATE_DIR": str(tmp_path / "s")}  # fmt: skip
    program = clean / "bin" / "ufile"
    assert VERSION in run(program, "--version", cwd=tmp_path, env=env)
    run(program, "upload", "demo", "k", path, "--endpoint", "local", cwd=tmp_path, env=env)
    run(program, "verify", "demo", "k", path, "--endpoint", "local", cwd=tmp_path, env=env)
