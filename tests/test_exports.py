"""What modules say they export exists, and nothing else is reached into from outside."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import ufile_cli

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(ufile_cli.__path__, "ufile_cli.")
    if not module.name.endswith("__main__")
)
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["ufile_cli", *MODULES])
def test_all_is_there(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    missing = [item for item in exported if not hasattr(module, item)]
    assert missing == []


def test_nobody_imports_what_is_private() -> None:
    culprits = []
    for path in sorted((ROOT / "ufile_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ufile_cli"):
                culprits += [
                    f"{path.name}: {node.module}.{name.name}"
                    for name in node.names
                    if name.name.startswith("_") and name.name != "__version__"
                ]
    assert culprits == []


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert ufile_cli.__version__ == version("ufile-cli")


def test_types_are_shipped() -> None:
    assert (ROOT / "ufile_cli" / "py.typed").exists()
