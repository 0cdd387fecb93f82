"""The survey of a live bucket, on the emulator: it answers everything and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from testbed import PUBLIC, SECRET

from ufile_cli.credentials import Credentials
from ufile_cli.emulator.server import Emulator
from ufile_cli.us3.client import Client
from ufile_cli.us3.endpoints import Endpoint

LIVE = Path(__file__).with_name("live.py")


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UFILE_")}
    return subprocess.run(
        [sys.executable, str(LIVE), "--survey-only"],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_without_a_bucket_it_says_so_and_ends() -> None:
    outcome = run({})
    assert outcome.returncode == 0
    assert "UFILE_TEST_BUCKET" in outcome.stdout
    assert "UFILE_TEST_ENDPOINT" in outcome.stdout


def test_it_answers_and_cleans_up(emulator: Emulator) -> None:
    outcome = run(
        {
            "UFILE_TEST_BUCKET": "scratch",
            "UFILE_TEST_ENDPOINT": emulator.url,
            "UFILE_PUBLIC_KEY": PUBLIC,
            "UFILE_PRIVATE_KEY": SECRET,
        }
    )
    assert outcome.returncode == 0, outcome.stderr
    assert SECRET not in outcome.stdout
    assert "could not be removed" not in outcome.stdout
    assert "| BlkSize | 4,194,304 |" in outcome.stdout
    assert "default page of ListParts" in outcome.stdout
    assert outcome.stdout.count("RetCode -30030") >= 6
    address = Endpoint.parse(emulator.url).address("scratch")
    with Client(address, Credentials(PUBLIC, SECRET)) as client:
        assert client.list_uploads().uploads == ()
    deleted = [one.key for one in emulator.requests if one.call == "delete" and one.status == 204]
    stored = {one.key for one in emulator.requests if one.call == "put" and one.status == 200}
    assert stored <= set(deleted)
