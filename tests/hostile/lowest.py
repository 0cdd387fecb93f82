"""The lowest versions that pyproject.toml allows, as pip's constraints: `click==8.2.0`.

For `make lowest`, which runs the core of the suite on them: a bound that nobody tests is a guess.
With --check it says whether the interpreter that runs it has these very versions.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def constraints(project: Path = PROJECT) -> list[str]:
    """One line for each dependency. Raises ValueError for one without a lower bound."""
    found = []
    for dependency in tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]:
        match = re.fullmatch(r"([A-Za-z0-9-]+)>=([0-9.]+)", dependency)
        if match is None:
            raise ValueError(f"{dependency} has no lower bound")
        found.append(f"{match[1]}=={match[2]}")
    return found


def others() -> list[str]:
    """What is installed here in another version than the lowest, as a person reads it."""
    found = []
    for constraint in constraints():
        name, _, lowest = constraint.partition("==")
        installed = importlib.metadata.version(name)
        if installed != lowest:
            found.append(f"{name} is {installed} here, and not {lowest}")
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(others()) or None)
    print("\n".join(constraints()))
