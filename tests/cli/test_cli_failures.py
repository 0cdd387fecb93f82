"""Every way to fail from outside: the exit code, one short paragraph, the way on, no secrets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testbed import AT_ONCE, MIB, PUBLIC, SECRET, Outcome, Ufile, assert_same, make_file

from ufile_cli.emulator.server import Emulator

RESULT_FIELDS = {
    "journal_id", "bucket", "key", "url", "size", "etag", "verified", "parts", "parts_sent",
    "parts_reused", "bytes_sent", "seconds", "exit_code", "error",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", 6 * MIB)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_file(tmp_path / "small.bin", 1000)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def paragraph(outcome: Outcome) -> str:
    """The message of a failure, after checking that it is one and short."""
    assert "Traceback" not in outcome.err and "Traceback" not in outcome.out, outcome
    beginnings = [
        number
        for number, line in enumerate(outcome.err.splitlines())
        if line.startswith("ufile: ")
    ]  # fmt: skip
    assert len(beginnings) == 1, outcome.err
    lines = outcome.err.splitlines()[beginnings[0] :]
    assert 1 <= len(lines) <= 6, lines
    assert all(line.startswith("  ") for line in lines[1:]), lines
    assert SECRET not in outcome.err + outcome.out
    assert "UCloud TOKEN" not in outcome.err + outcome.out
    return "\n".join(lines)


FAILURES: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "initiate 503": (
        {"call": "initiate", "status": 503, "message": "too busy"},
        75,
        ("HTTP 503", "RetCode -30599", 'ErrMsg "too busy"', "X-SessionId "),
    ),
    "part 503": ({"call": "part", "part": 2, "status": 503}, 75, ("part 2", "HTTP 503")),
    "part 429": ({"call": "part", "part": 2, "status": 429}, 75, ("part 2", "HTTP 429")),
    "part 408": ({"call": "part", "part": 2, "status": 408}, 75, ("part 2", "HTTP 408")),
    "html 502": (
        {"call": "part", "part": 2, "status": 502, "body": "<html><h1>502 Bad Gateway</h1>",
         "content_type": "text/html"},
        75,
        ("part 2", "HTTP 502"),
    ),
    "truncated json": ({"call": "initiate", "truncate": 20}, 75, ("makes no sense", "JSON")),
    "html 200": (
        {"call": "initiate", "body": "<html>login</html>", "content_type": "text/html"},
        75,
        ("makes no sense",),
    ),
    "no etag": ({"call": "part", "part": 1, "etag": "none"}, 75, ("part 1", "ETag")),
    "reset": ({"call": "part", "part": 4, "reset": "body"}, 75, ("part 4", "connection")),
    "refused": (
        {"call": "part", "part": 3, "status": 400, "ret_code": -148654, "message": "invalid part"},
        1,
        ("part 3", "HTTP 400", "RetCode -148654", 'ErrMsg "invalid part"', "X-SessionId "),
    ),
    "redirect": (
        {"call": "part", "part": 3, "status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
        1,
        ("part 3", "HTTP 302"),
    ),
    "no such bucket": (
        {"call": "initiate", "status": 404, "ret_code": -30010, "message": "bucket not exist"},
        1,
        ("HTTP 404", "RetCode -30010", "bucket not exist"),
    ),
    "corrupted": ({"call": "part", "part": 5, "corrupt": True}, 1, ("part 5", "damaged")),
    "403 for a part": ({"call": "part", "part": 2, "status": 403}, 77, ("part 2", "HTTP 403")),
    "finish 500": ({"call": "finish", "status": 500}, 75, ("HTTP 500",)),
    "another key": ({"call": "finish", "finish_key": "elsewhere"}, 1, ("another key", "elsewhere")),
    "control characters": (
        {"call": "part", "part": 0, "status": 400, "message": "\x1b[31mred\x07\x9b\u202e"},
        1,
        ("part 0", "red"),
    ),
}  # fmt: skip
STATES = {75: "paused", 77: "paused", 1: "failed"}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure(ufile: Ufile, emulator: Emulator, path: Path, name: str) -> None:
    fault, code, says = FAILURES[name]
    emulator.faults.add(**fault)
    outcome = ufile("upload", "demo", "big", str(path), "--json", *AT_ONCE)
    assert outcome.code == code, outcome
    words = paragraph(outcome)
    for word in says:
        assert word in words, words
    assert not any(mark in words for mark in "\x1b\x07\x9b\u202e"), repr(words)
    journal = ufile.only_journal()
    assert f"ufile resume {journal}" in words and f"ufile abort {journal}" in words
    # The same as JSON, alone on standard output, and in the journal.
    result = outcome.json
    assert result.keys() >= RESULT_FIELDS
    assert (result["exit_code"], result["journal_id"]) == (code, journal)
    assert result["url"] is result["etag"] is result["verified"] is None
    assert (result["bucket"], result["key"], result["size"]) == ("demo", "big", 6 * MIB)
    document = ufile.document(journal)
    assert document["state"] == STATES[code]
    assert document["error"] == result["error"]
    assert document["pid"] and ufile.status()[0]["pid"] is None
    if "status" in fault:
        assert result["error"]["status"] == fault["status"]
    # Whatever it was, it is over, and the upload goes on.
    emulator.faults.clear()
    again = ufile("resume", journal, "--json", "--retries", "3")
    assert again.code == 0, again
    assert again.json["journal_id"] == journal
    assert_same(emulator, path)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 503}, 75),
        ({"status": 502, "body": "<html>", "content_type": "text/html"}, 75),
        ({"reset": "body"}, 75),
        ({"status": 400}, 1),
        ({"corrupt": True}, 1),
        ({"status": 401}, 77),
        ({"status": 404, "ret_code": -30010, "message": "bucket not exist"}, 1),
    ],
)
def test_a_small_file_has_nothing_to_resume(
    ufile: Ufile, emulator: Emulator, small: Path, fault: dict[str, Any], code: int
) -> None:
    emulator.faults.add(call="put", **fault)
    outcome = ufile("upload", "demo", "small", str(small), "--json", *AT_ONCE)
    assert outcome.code == code, outcome
    assert "run the same command again" in paragraph(outcome)
    assert "ufile resume" not in outcome.err
    assert outcome.json["journal_id"] is None and outcome.json["exit_code"] == code
    assert not list(ufile.journals.glob("*.json"))
    emulator.faults.clear()
    ufile.upload(small, key="small")
    assert_same(emulator, small, key="small")


def test_a_small_file_has_no_part_0(ufile: Ufile, emulator: Emulator, small: Path) -> None:
    emulator.faults.add(call="put", status=503)
    options = ("--retries", "2", "--retry-interval", "0", "--patience", "0")
    outcome = ufile("upload", "demo", "small", str(small), *options, "--progress", "plain")
    assert outcome.code == 75, outcome
    assert "attempt 1 of 2: " in outcome.err and "part 0" not in outcome.err


@pytest.mark.parametrize(("status", "code"), [(401, 77), (403, 75)])
def test_a_small_file_that_is_refused_by_a_reset(
    ufile: Ufile, emulator: Emulator, small: Path, status: int, code: int
) -> None:
    """An early refusal can be lost to the reset behind it; keys may also write and not read."""
    emulator.faults.add(call="put", reset="body")
    emulator.faults.add(call="head", status=status)
    outcome = ufile("upload", "demo", "small", str(small), *AT_ONCE)
    assert outcome.code == code, outcome
    assert emulator.count("head") == 1


def test_failures_that_pass(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """Every call fails once in its own way; the retries carry the upload through."""
    emulator.faults.add(call="initiate", first=1, status=503)
    emulator.faults.add(call="part", per_part=True, first=1, status=502, body="<html>")
    emulator.faults.add(call="finish", first=1, reset="head")
    result = ufile.upload(path, "--retries", "3", "--retry-interval", "0").json
    assert result["parts_sent"] == 6 and result["verified"] == "etag"
    assert_same(emulator, path)
    assert emulator.count("finish") == 2


def test_a_wrong_object_is_no_success(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.block_size = 4 * MIB
    emulator.faults.add(call="finish", etag="wrong")
    outcome = ufile("upload", "demo", "big", str(path), "--json", *AT_ONCE)
    assert outcome.code == 1, outcome
    assert "stored something else" in paragraph(outcome)
    assert ufile.document(ufile.only_journal())["state"] == "failed"


def test_a_dead_server(ufile: Ufile, path: Path, small: Path, dead_port: int) -> None:
    dead = f"http://127.0.0.1:{dead_port}"
    for file, key in ((path, "big"), (small, "small")):
        outcome = ufile("upload", "demo", key, str(file), "--endpoint", dead, *AT_ONCE)
        assert outcome.code == 75, outcome
        words = paragraph(outcome)
        assert "connection refused" in words and f"127.0.0.1:{dead_port}" in words
    assert ufile.status()[0]["state"] == "paused"


def test_no_such_host(ufile: Ufile, path: Path) -> None:
    outcome = ufile(
        "upload", "demo", "big", str(path), "--endpoint", "https://nowhere.invalid", *AT_ONCE
    )
    assert outcome.code == 75, outcome
    assert "nowhere.invalid" in paragraph(outcome)


def test_a_server_that_comes_back(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """It dies in the middle, the upload waits and goes on by itself."""
    emulator.faults.add(call="part", after=2, reset="head")
    running = ufile.start(
        "upload", "demo", "big", str(path), "--json", "--progress", "json",
        "--retries", "2", "--retry-interval", "0.01",
    )  # fmt: skip
    running.wait_to_say('"event":"outage_began"')
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert "outage_ended" in [event["event"] for event in outcome.events]
    assert_same(emulator, path)


# Keys


@pytest.mark.parametrize(
    "wrong",
    [{"UFILE_PRIVATE_KEY": "another-private-key-0123456789"}, {"UFILE_PUBLIC_KEY": "TOKEN_other"}],
    ids=["private", "public"],
)
def test_wrong_keys(ufile: Ufile, emulator: Emulator, path: Path, wrong: dict[str, str]) -> None:
    outcome = ufile("upload", "demo", "big", str(path), "--json", env=wrong)
    assert outcome.code == 77
    words = paragraph(outcome)
    assert "credentials" in words and "RetCode -3002" in words and "X-SessionId" in words
    assert emulator.count("initiate") == 1, "wrong keys do not get better by trying"
    assert ufile.status()[0]["state"] == "paused"
    outcome = ufile("resume", outcome.json["journal_id"])
    assert outcome.code == 0
    assert_same(emulator, path)


def test_keys_that_go_wrong_in_the_middle(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=4, nth=1, rotate_keys=["new-public", "new-private"])
    outcome = ufile("upload", "demo", "big", str(path), "--json", "-j", "1")
    assert outcome.code == 77 and "part 4" in paragraph(outcome)
    assert ufile.status()[0]["parts_done"] == 4
    emulator.keys = PUBLIC, SECRET
    assert ufile("resume", "--last").code == 0
    assert_same(emulator, path)


def test_keys_rotated_in_the_configuration(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """Read anew when refused: the upload never notices."""
    config = Path(ufile.env["UFILE_CONFIG"])

    def write(public: str, private: str) -> None:
        config.touch(0o600)
        config.write_text(
            f'[profiles.default]\npublic_key = "{public}"\nprivate_key = "{private}"\n'
        )

    write(PUBLIC, SECRET)
    emulator.faults.add(call="part", part=2, nth=1, hang="head", status=401, at="head")
    running = ufile.start(
        "upload", "demo", "big", str(path),
        env={"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None},
    )  # fmt: skip
    emulator.wait_for("part", 1, stage="hanging")
    write("new-public", "new-private-key")
    emulator.keys = "new-public", "new-private-key"
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    emulator.keys = "new-public", "new-private-key"
    assert_same(emulator, path)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"UFILE_PRIVATE_KEY": None}, "the private key is missing"),
        ({"UFILE_PUBLIC_KEY": None}, "the public key is missing"),
        ({"UFILE_PRIVATE_KEY": None, "UFILE_PUBLIC_KEY": None}, "no keys are configured"),
        (
            {"UFILE_PRIVATE_KEY": None, "UFILE_PUBLIC_KEY": None},
            "takes any: export UFILE_PUBLIC_KEY",
        ),
        ({"UFILE_ENDPOINT": None}, "no endpoint is configured"),
        ({"UFILE_PRIVATE_KEY": "with\nbreak"}, "the private key holds"),
    ],
)
def test_not_configured(
    ufile: Ufile, emulator: Emulator, path: Path, env: dict[str, str | None], says: str
) -> None:
    outcome = ufile("upload", "demo", "big", str(path), env=env)
    assert outcome.code == 78, outcome
    assert says in paragraph(outcome)
    assert not emulator.requests and not ufile.journals.exists()


def test_a_missing_bucket_of_serve(alone: Ufile, path: Path, small: Path) -> None:
    server = alone.start("serve", "--port", "0", "--dir", "served", "--bucket", "there")
    server.wait_to_say("listening on ", "out")
    url = server.said("out").split()[-1]
    for file in (path, small):
        outcome = alone("upload", "nothere", "k", str(file), "--endpoint", url)
        assert outcome.code == 1, outcome
        words = paragraph(outcome)
        assert "RetCode -30010" in words and "bucket not exist" in words
        assert "does not know the bucket (" in words
        assert alone("upload", "there", "k", str(file), "--endpoint", url).code == 0


# Secrets


@pytest.mark.parametrize("fails", [False, True])
def test_the_private_key_is_nowhere(
    ufile: Ufile, emulator: Emulator, path: Path, fails: bool
) -> None:
    """Not in any output, log, journal, or process list, however much is asked for."""
    emulator.faults.add(call="part", part=2, hang="head")
    if fails:
        emulator.faults.add(call="part", part=3, status=400)
        emulator.faults.add(call="part", part=4, reset="body")
    log = ufile.home / "log"
    running = ufile.start(
        "upload", "demo", "big", str(path), "-v", "-v", "--log-file", str(log), "--json", *AT_ONCE
    )
    emulator.wait_for("part", 1, stage="hanging")
    command_line = Path(f"/proc/{running.pid}/cmdline")
    if command_line.exists():
        assert SECRET.encode() not in command_line.read_bytes()
    emulator.faults.release()
    outcome = running.wait()
    # Which of the two faults ends it is a matter of chance.
    assert outcome.code in ((1, 75) if fails else (0,)), outcome
    assert ("Traceback" in outcome.err) == fails, "tracebacks are for -v -v alone"
    assert log.stat().st_mode & 0o077 == 0
    written = [outcome.out, outcome.err, log.read_text()]
    written += [file.read_text() for file in ufile.journals.iterdir()]
    assert "UploadPart" in log.read_text() and "UploadPart" in outcome.err
    for text in written:
        assert SECRET not in text
        assert "Authorization" not in text
        assert f"UCloud {PUBLIC}" not in text
