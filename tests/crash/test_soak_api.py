"""The short form of the long run through the Python API; `make soak` is the long one.

In a process of its own: what memory a process takes says something only where nothing else has
been at work in it before.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_many_uploads_in_one_process() -> None:
    script = Path(__file__).with_name("soak_api.py")
    command = [sys.executable, str(script), "--uploads", "60", "--seed", "7"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr  # it ends with its `check`
    found = re.search(r"Tally\(uploads=(\d+), resumes=(\d+), ", ran.stdout)
    assert found is not None, ran.stdout
    assert int(found[1]) == 60 and int(found[2]) > 0
