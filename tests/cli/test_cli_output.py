"""What comes out where: JSON alone on standard output, progress on standard error, and widths."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.cli.main import COMMANDS
from ufile_cli.emulator.server import Emulator

RESULT_FIELDS = {
    "journal_id", "bucket", "key", "url", "size", "etag", "verified", "parts", "parts_sent",
    "parts_reused", "bytes_sent", "seconds", "exit_code", "error",
}  # fmt: skip
STATUS_FIELDS = {
    "version", "journal_id", "state", "kind", "bucket", "key", "endpoint", "profile", "uploadid",
    "blocksize", "pausepartnumber", "localfile", "size", "source", "mime_type", "header",
    "storage_class", "meta", "options", "pid", "host", "created_at", "updated_at", "error",
    "bytes_done", "parts_done", "pause_offset",
}  # fmt: skip
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])")


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", 6 * MIB + 11)


def interrupted(ufile: Ufile, emulator: Emulator, path: Path) -> str:
    """All but part 3 are up, and the process is gone."""
    emulator.faults.add(call="part", part=3, hang="head", reset="head")
    running = ufile.start("upload", "demo", "big", str(path), "--progress", "json")
    for part in (0, 1, 2, 4, 5, 6):  # in the journal as well: what is said comes after that
        running.wait_to_say(f'"number":{part},"size":{11 if part == 6 else MIB},"etag":')
    running.kill()
    emulator.faults.clear()
    return ufile.only_journal()


def test_the_last_line_and_the_summary_tell_the_same(ufile: Ufile, path: Path) -> None:
    outcome = ufile(
        "upload", "demo", "big", str(path), "--progress", "plain", "--limit-rate", "20M"
    )
    assert outcome.code == 0
    *_, line, summary = re.findall(r"[\d.]+ .iB/s", outcome.err)
    assert line == summary


# --json


@pytest.mark.parametrize("mode", ["plain", "json", "none", "bars"])
def test_the_result_stands_alone(ufile: Ufile, path: Path, mode: str) -> None:
    outcome = ufile("upload", "demo", "big", str(path), "--json", "--progress", mode)
    assert outcome.code == 0
    result = outcome.json  # parses as one document
    assert result.keys() >= RESULT_FIELDS
    assert result["url"].endswith("/big") and result["error"] is None
    assert isinstance(result["seconds"], float) and result["verified"] in ("etag", "parts")
    if mode == "json":
        assert all(json.loads(line) for line in outcome.err.splitlines())
    if mode == "none":
        assert outcome.err.startswith("uploaded ")


def test_the_result_of_a_failure(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", part=3, status=503, ret_code=-9, message="later")
    outcome = ufile("upload", "demo", "big", str(path), "--json", *AT_ONCE)
    assert outcome.code == 75
    result = outcome.json
    assert result.keys() >= RESULT_FIELDS
    error = result["error"]
    assert (error["status"], error["ret_code"], error["err_msg"]) == (503, -9, "later")
    assert error["session_id"] and error["part"] == 3
    assert result["parts"] == 7 and 0 < result["parts_sent"] < 7
    assert result["bytes_sent"] > 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("upload", "demo", "k", "/nowhere"), 66),
        (("upload", "demo", "", "/etc/hostname"), 2),
        (("resume", "zzzzzzzz"), 2),
    ],
)
def test_early_failures_are_json_too(ufile: Ufile, arguments: tuple[str, ...], code: int) -> None:
    outcome = ufile(*arguments, "--json")
    assert outcome.code == code
    assert outcome.json["exit_code"] == code and outcome.json["error"]["message"]


def test_the_number_that_auto_came_to(ufile: Ufile, path: Path) -> None:
    outcome = ufile("upload", "demo", "big", str(path), "-j", "auto", "--json")
    assert outcome.code == 0
    threads = outcome.json["threads"]
    assert 1 <= threads <= 64
    assert f", {threads} threads\n" in outcome.err


def test_a_number_that_was_given_is_not_told_again(ufile: Ufile, path: Path) -> None:
    outcome = ufile("upload", "demo", "big", str(path), "-j", "2", "--json")
    assert outcome.json["threads"] == 2
    assert "threads" not in outcome.err


def test_what_was_reused(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    result = ufile("resume", journal, "--json").json
    assert (result["parts"], result["parts_sent"], result["parts_reused"]) == (7, 1, 6)
    assert result["bytes_sent"] == MIB and result["size"] == 6 * MIB + 11


# --progress json


def test_events(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    outcome = ufile("resume", journal, "--progress", "json")
    lines = outcome.err.splitlines()
    events = [json.loads(line) for line in lines]
    assert outcome.code == 0 and outcome.out == "" and outcome.err.isascii()
    assert events[0]["event"] == "started" and events[0]["resumed"] is True
    assert events[0]["parts_done"] >= 1  # the last answers may not have come home
    for event in events:
        assert event["journal_id"] == journal
        assert datetime.fromisoformat(event["time"]).utcoffset() is not None
    names = [event["event"] for event in events]
    assert names[-1] == "finished" and "finishing" in names
    sent = [event["number"] for event in events if event["event"] == "part_sent"]
    assert sent == [3]


def test_the_first_event_carries_the_journal(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    emulator.faults.add(call="part", hang="head")
    running = ufile.start("upload", "demo", "big", str(path), "--progress", "json")
    running.wait_to_say("\n")
    first = json.loads(running.said().splitlines()[0])
    assert first["event"] == "started" and first["journal_id"] == ufile.only_journal()


# -q, -v


def test_quiet_says_nothing(ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path) -> None:
    small = make_file(tmp_path / "small", 10)
    journal = interrupted(ufile, emulator, path)
    for arguments in (
        ("upload", "demo", "small", str(small)),
        ("resume", journal, "--progress", "bars"),
        ("resume", journal),
        ("resume", "--all"),
        ("upload", "demo", "big", str(path), "-v"),
    ):
        outcome = ufile(*arguments, "-q")
        assert (outcome.code, outcome.out, outcome.err) == (0, "", ""), outcome
    emulator.faults.add(call="part", status=400)
    outcome = ufile("upload", "demo", "again", str(path), "-q")
    assert outcome.code == 1 and outcome.err.startswith("ufile: part "), "errors stay"
    [paused] = [entry["journal_id"] for entry in ufile.status() if entry["state"] == "failed"]
    outcome = ufile("abort", paused, "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_verbose_shows_requests(ufile: Ufile, path: Path) -> None:
    log = ufile.home / "log"
    outcome = ufile("upload", "demo", "big", str(path), "-v", "--log-file", str(log))
    for text in (outcome.err, log.read_text()):
        assert len(re.findall(r"PUT /big\?uploadId=.*UploadPart.* -> 200 in", text)) == 7
    quiet = ufile("upload", "demo", "two", str(path), "-q", "--log-file", str(log))
    assert quiet.err == "" and log.read_text().count("UploadPart") == 14, "appended"


# status


def test_status_as_json(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    assert ufile.status() == []
    journal = interrupted(ufile, emulator, path)
    [brief] = ufile.status()
    assert brief.keys() >= STATUS_FIELDS and "etaglist" not in brief
    assert (brief["state"], brief["journal_id"]) == ("interrupted", journal)
    assert brief["pause_offset"] == 3 * MIB and brief["pausepartnumber"] == 3
    whole = ufile.status(journal[:4])
    assert whole.keys() >= STATUS_FIELDS | {"etaglist"}
    up = [number for number, etag in enumerate(whole["etaglist"]) if etag is not None]
    assert whole["parts_done"] == brief["parts_done"] == len(up)
    assert brief["bytes_done"] == len(up) * MIB - (MIB - 11 if 6 in up else 0)
    ufile("resume", journal, "-q")
    [brief] = ufile.status()
    assert (brief["state"], brief["bytes_done"], brief["parts_done"]) == (
        "finished", 6 * MIB + 11, 7
    )  # fmt: skip


def test_status_for_a_person(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    outcome = ufile("status")
    assert outcome.code == 0 and outcome.out == ""
    assert "no uploads" in outcome.err
    journal = interrupted(ufile, emulator, path)
    table = ufile("status").out
    for word in (journal, "interrupted", "/7", "%", str(path), "demo/big"):
        assert word in table, table
    page = ufile("status", journal).out
    for words in (
        f"ufile resume {journal}", f"ufile abort {journal}", f"byte {3 * MIB}", "part 3",
        str(path), "demo/big", emulator.url, "application/octet-stream",
    ):  # fmt: skip
        assert words in page, page
    columns = {len(re.match(r"\S+( \S+)*  +", line)[0]) for line in page.splitlines()}  # type: ignore[index]
    assert len(columns) == 1, "the values stand in one column"


def test_old_receipts_with_all_only(ufile: Ufile, path: Path) -> None:
    ufile.upload(path)
    journal = ufile.only_journal()
    file = ufile.journals / f"{journal}.json"
    document = json.loads(file.read_text())
    old = "2020-01-01T00:00:00.000Z"
    file.write_text(json.dumps(document | {"updated_at": old, "created_at": old}))
    os.utime(file, (1577836800, 1577836800))
    assert ufile.status() == []
    assert [entry["journal_id"] for entry in ufile.status("--all")] == [journal]
    assert journal in ufile("status", "--all").out


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\x00", b'{"version": 99}', b'{"version": 1}'],
    ids=repr,
)
def test_a_damaged_journal(ufile: Ufile, emulator: Emulator, path: Path, content: bytes) -> None:
    journal = interrupted(ufile, emulator, path)
    file = ufile.journals / f"{journal}.json"
    file.write_bytes(content)
    [brief] = ufile.status()
    assert brief.keys() == {"journal_id", "state", "path", "error"}
    assert (brief["journal_id"], brief["state"]) == (journal, "damaged")
    assert brief["path"] == str(file)
    assert "damaged" in ufile("status").out
    for arguments in (("status", journal), ("resume", journal), ("abort", journal)):
        outcome = ufile(*arguments)
        assert outcome.code == 1 and str(file) in outcome.err, outcome
        assert "Traceback" not in outcome.err
    one = ufile("status", journal, "--json")
    assert one.code == 1 and one.json == brief
    assert ufile("resume", "--last").code == 2
    assert file.read_bytes() == content, "nobody touches it"
    assert emulator.count("initiate") == 1 and emulator.count("abort") == 0
    # It is in nobody's way, and goes when that is asked for.
    assert ufile("upload", "demo", "big", str(path)).code == 0
    outcome = ufile("abort", "--forget", journal)
    assert outcome.code == 0, outcome
    assert not file.exists()


# Terminals


def painted(text: str) -> list[str]:
    """What a terminal shows, line by line as written, without its control sequences."""
    return [ESCAPE.sub("", line) for line in re.split(r"\r\n|\n|\r", text)]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_bars_fit_the_terminal(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, columns: int
) -> None:
    emulator.block_size = MIB
    path = make_file(tmp_path / ("数据库-" * 12 + "a-long-name.bin"), 9 * MIB)
    emulator.faults.add(call="part", part="4-6", first=2, status=503, message="a reason")
    running = ufile.start_on_terminal(
        "upload", "demo", "big", str(path), "--retry-interval", "0.3", columns=columns
    )
    outcome = running.wait()
    assert outcome.code == 0, outcome
    shown = painted(outcome.err)
    from ufile_cli.progress.text import columns as width

    # The command's own summary names the place as it is, however long; bars are cut.
    drawn = [line for line in shown if re.search(r"[━╸╺]|\d%", line)]
    assert drawn and max(width(line) for line in drawn) <= columns, drawn
    assert any("100%" in line for line in drawn)
    assert "verified" in outcome.err


def test_status_on_a_narrow_terminal(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    interrupted(ufile, emulator, path)
    outcome = ufile.start_on_terminal("status").wait()
    assert outcome.code == 0
    lines = painted(outcome.err)
    assert max(map(len, lines)) <= 80, lines
    assert "\x1b[33m" in outcome.err, "interrupted is yellow"


def test_help_on_a_narrow_terminal(ufile: Ufile) -> None:
    for command in ((), *((name,) for name in COMMANDS)):
        outcome = ufile.start_on_terminal(*command, "--help").wait()
        assert outcome.code == 0
        assert max(map(len, painted(outcome.err))) <= 80, outcome.err


def test_no_color(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    interrupted(ufile, emulator, path)
    colour = re.compile(r"\x1b\[[0-9;]*m")
    outcome = ufile.start_on_terminal("status", env={"NO_COLOR": "1"}).wait()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", outcome.err)
    outcome = ufile.start_on_terminal("resume", "--last", env={"NO_COLOR": "1"}).wait()
    assert outcome.code == 0
    hues = [code for code in colour.findall(outcome.err) if re.search(r"[34]\d", code)]
    assert hues == []


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_no_cursor_no_bars(ufile: Ufile, path: Path, term: str) -> None:
    outcome = ufile.start_on_terminal("upload", "demo", "big", str(path), env={"TERM": term}).wait()
    assert outcome.code == 0 and "\x1b" not in outcome.err


def test_a_log_file_gets_plain_lines(ufile: Ufile, path: Path) -> None:
    outcome = ufile("upload", "demo", "big", str(path), "--progress", "bars")
    assert "\x1b" not in outcome.err and "\r" not in outcome.err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_encoding(ufile: Ufile, emulator: Emulator, tmp_path: Path, encoding: str) -> None:
    path = make_file(tmp_path / "数据 🐘.bin", 5 * MIB)
    env = {"PYTHONIOENCODING": f"{encoding}:strict", "LANG": "C", "LC_ALL": "C"}
    running = ufile.start_on_terminal("upload", "demo", "数据/", str(path), env=env)
    assert running.wait().code == 0, running.said()
    outcome = ufile("status", env=env)
    assert outcome.code == 0 and "Traceback" not in outcome.err, outcome
    emulator.faults.add(call="initiate", status=400, message="不行")
    outcome = ufile("upload", "demo", "数据", str(path), env=env)
    assert outcome.code == 1 and "HTTP 400" in outcome.err, outcome


@pytest.mark.parametrize(
    ("option", "shown"), [("--size", ("~40%", "5/~13")), ("--exact-size", ("40%", "5/13"))]
)
def test_status_of_a_stream_reckons_with_the_expected_size(
    ufile: Ufile, option: str, shown: tuple[str, str]
) -> None:
    """A stream's size is not known; what was said of it is better than nothing."""
    command = ("sh", "-c", f"head -c {5 * 4 * MIB} /dev/zero; exit 1")
    outcome = ufile(
        "upload-stream", "demo", "dump", option, "50M", "--endpoint", "local", "--", *command
    )
    assert outcome.code != 0
    row = ufile("status").out.splitlines()[1].split()
    assert "20.0/50.0" in row and all(word in row for word in shown), row
    fields = ufile("status", ufile.only_journal()).out
    assert f"{'parts':<18}5 of {shown[1][2:]}" in fields
    assert f"{option:<18}50.0 MiB (52,428,800 bytes)" in fields
    assert "--timeout         60 s" in fields
