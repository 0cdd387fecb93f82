"""The short form of the soak; `make soak` is the long one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from soak import soak


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    tally = soak(tmp_path, seconds=6.0, seed=seed)
    print(tally)
    assert tally.uploads >= 1 and tally.kills >= 1
    assert tally.sent_though_journalled == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_for_minutes(tmp_path: Path) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "3"))
    seed = int.from_bytes(os.urandom(3))
    print(f"seed {seed}")
    tally = soak(tmp_path, seconds=60 * minutes, seed=seed)
    print(tally)
    assert tally.kills >= 1 and tally.sent_though_journalled == 0
