"""`ufile resume --bucket … --upload-id … --file …`: uploads that another tool has begun."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from testbed import MIB, PUBLIC, SECRET, Ufile, assert_same, make_file, stored_parts

from ufile_cli.credentials import Credentials
from ufile_cli.emulator.server import Emulator
from ufile_cli.us3.client import Client
from ufile_cli.us3.endpoints import Endpoint

SIZE = 6 * MIB + 77
PARTS = 7


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "big", SIZE)


@pytest.fixture
def upload_id(emulator: Emulator, source: Path) -> str:
    """An upload of which another tool has sent parts 0, 1 and 4."""
    emulator.block_size = MIB
    client = Client(Endpoint.parse(emulator.url).address("demo"), Credentials(PUBLIC, SECRET))
    with client, source.open("rb") as file:
        upload_id = client.initiate("big", {}).upload_id
        for number in (0, 1, 4):
            file.seek(number * MIB)
            client.upload_part("big", upload_id, number, file.read(MIB))
    return upload_id


def named(upload_id: str, source: Path) -> list[str]:
    return [
        "resume",
        *("--bucket", "demo", "--key", "big", "--upload-id", upload_id, "--file", str(source)),
    ]


def test_what_is_not_given_comes_from_the_server(
    ufile: Ufile, emulator: Emulator, source: Path, upload_id: str
) -> None:
    outcome = ufile(*named(upload_id, source), "--json")
    assert outcome.code == 0, outcome
    assert_same(emulator, source)
    assert outcome.json["parts_sent"] == 4 and outcome.json["parts_reused"] == 3
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)
    assert ufile.document(outcome.json["journal_id"])["state"] == "finished"


def test_the_command_that_status_remote_prints(
    ufile: Ufile, emulator: Emulator, source: Path, upload_id: str
) -> None:
    shown = ufile("status", "--remote", "demo").out
    line = next(line for line in shown.splitlines() if upload_id in line and "resume" in line)
    words = shlex.split(line[line.index("ufile resume") :].replace("PATH", str(source)))
    assert ufile(*words[1:], "-q").code == 0
    assert_same(emulator, source)


def test_etags_that_are_not_those_of_the_file_are_not_believed(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, upload_id: str
) -> None:
    """The other tool sent another version: what differs is sent again."""
    listed = emulator.store.upload("demo", upload_id)
    assert listed is not None
    other = make_file(tmp_path / "other", SIZE)
    content = bytearray(other.read_bytes())
    content[MIB + 5] ^= 1  # in part 1, which is up
    other.write_bytes(content)
    outcome = ufile(*named(upload_id, other), "--json")
    assert outcome.code == 0, outcome
    assert_same(emulator, other)
    assert outcome.json["parts_sent"] == 5 and outcome.json["parts_reused"] == 2


def test_with_etags_and_a_server_that_cannot_list(
    ufile: Ufile, emulator: Emulator, source: Path, upload_id: str
) -> None:
    etags = {
        record.part_number: record.etag for record in emulator.requests if record.call == "part"
    }
    emulator.faults.add(call="list_parts", status=501)
    given = ",".join((etags.get(number) or "").strip('"') for number in range(5))
    refused = ufile(*named(upload_id, source), "--etags", given)
    assert refused.code == 2 and "--block-size" in refused.err, refused
    outcome = ufile(*named(upload_id, source), "--etags", given, "--block-size", "1M", "--json")
    assert outcome.code == 0, outcome
    assert_same(emulator, source)
    assert outcome.json["parts_sent"] == 4


def test_where_the_block_size_cannot_be_told_nothing_is_left_behind(
    ufile: Ufile, emulator: Emulator, source: Path
) -> None:
    client = Client(Endpoint.parse(emulator.url).address("demo"), Credentials(PUBLIC, SECRET))
    with client:
        empty = client.initiate("big", {}).upload_id
    outcome = ufile(*named(empty, source))
    assert outcome.code == 2 and "--block-size" in outcome.err, outcome
    assert ufile.status() == []


def test_an_upload_that_has_a_journal_goes_on_with_that_one(
    ufile: Ufile, emulator: Emulator, source: Path
) -> None:
    emulator.block_size = MIB
    emulator.faults.add(call="part", part=3, status=413)
    failed = ufile("upload", "demo", "big", str(source), "--json", "-j", "1")
    assert failed.code == 1
    emulator.faults.clear()
    upload_id = ufile.status()[0]["uploadid"]
    outcome = ufile(*named(upload_id, source), "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["journal_id"] == failed.json["journal_id"]
    assert stored_parts(emulator.requests) == dict.fromkeys(range(PARTS), 1)


def test_two_at_once_get_one_journal(
    ufile: Ufile, emulator: Emulator, source: Path, upload_id: str
) -> None:
    listing = emulator.faults.add(call="list_parts", hang="head")
    emulator.faults.add(call="part", hang="head")
    both = [ufile.start(*named(upload_id, source)) for _ in range(2)]
    emulator.wait_for("list_parts", 2, stage="hanging")
    emulator.faults.remove(listing)
    emulator.faults.release()
    while not (told := [one for one in both if one.process.poll() is not None]):
        assert len(list(ufile.journals.glob("*.json"))) <= 1
    [first] = [one for one in both if one not in told]
    outcome = told[0].wait()
    assert outcome.code == 75 and str(first.pid) in outcome.err, outcome
    emulator.faults.clear()
    assert first.wait().code == 0
    ufile.only_journal()
    assert_same(emulator, source)


def test_what_has_changed_is_sent_again_where_there_is_a_journal(
    ufile: Ufile, emulator: Emulator, source: Path
) -> None:
    emulator.block_size = MIB
    emulator.faults.add(call="part", part=3, status=413)
    assert ufile("upload", "demo", "big", str(source), "-j", "1").code == 1
    emulator.faults.clear()
    with source.open("r+b") as file:
        file.write(b"another beginning")
    words = named(ufile.status()[0]["uploadid"], source)
    refused = ufile(*words)
    assert refused.code == 66 and "--resend-changed" in refused.err, refused
    outcome = ufile(*words, "--resend-changed", "--json")
    assert outcome.code == 0 and outcome.json["parts_changed"] == 1, outcome
    assert_same(emulator, source)


@pytest.mark.parametrize(
    "words",
    [
        ["--bucket", "demo"],
        ["--bucket", "demo", "--key", "k", "--upload-id", "u"],
        ["abcdefgh", "--bucket", "demo"],
        ["--last", "--upload-id", "u"],
        ["--bucket", "demo", "--key", "k", "--upload-id", "u", "--file", "x", "--from-pause"],
        ["--bucket", "demo", "--key", "k", "--upload-id", "u", "--file", "x", "--pause-part", "-1"],
    ],
)
def test_usage(ufile: Ufile, words: list[str]) -> None:
    assert ufile("resume", *words).code == 2
