"""The lowest versions that pyproject.toml allows, as pip's constraints: `click==8.2.0`.

For `make lowest`, which runs the core of the suite on them: a bound that nobody tests is a guess.
"""

from __future__ import annotations

import re
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


if __name__ == "__main__":
    print("\n".join(constraints()))
