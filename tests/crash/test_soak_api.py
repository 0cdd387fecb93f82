"""The short form of the long run through the Python API; `make soak` is the long one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from soak_api import check, soak_api


def test_many_uploads_in_one_process(tmp_path: Path) -> None:
    tally = soak_api(tmp_path, uploads=60, seed=7)
    assert tally.uploads == 60 and tally.resumes > 0
    check(tally, tmp_path)
