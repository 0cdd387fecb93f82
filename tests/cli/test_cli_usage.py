"""What is refused, with which exit code and which words, and that nothing was sent for it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, Running, Ufile, assert_same, calls_of, make_file, stored_parts

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", 6 * MIB)


def interrupted(ufile: Ufile, emulator: Emulator, path: Path, *options: str) -> str:
    """An upload that was killed when all parts but part 3 were up; the journal's id."""
    fault = emulator.faults.add(call="part", part=3, hang="head", reset="head")
    running = ufile.start("upload", "demo", "big", str(path), *options)
    emulator.wait_until(lambda records: len(stored_parts(records)) == 5)
    running.kill()
    emulator.faults.remove(fault)
    emulator.faults.release()
    [journal] = [entry["journal_id"] for entry in ufile.status() if entry["state"] != "finished"]
    return str(journal)


# No file


@pytest.mark.parametrize("name", ["-", "fifo", "/dev/null", "/dev/zero", "/proc/self/status"])
def test_what_has_no_size(ufile: Ufile, emulator: Emulator, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    named = str(tmp_path / "fifo") if name == "fifo" else name
    outcome = ufile("upload", "de", "a b", named)
    assert outcome.code == 66
    assert "ufile upload-stream de 'a b'" in outcome.err
    if name != "-":
        assert f"< {named}" in outcome.err
    assert not emulator.requests and not ufile.journals.exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "there is no such file"),
        ("", "there is no such file"),
        ("file/below", "there is no such file"),
        ("directory", "is a directory\n  what lies below it: ufile upload -r demo k /"),
        ("dangling", "there is no such file"),
    ],
)
def test_no_file(ufile: Ufile, emulator: Emulator, tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    outcome = ufile("upload", "demo", "k", str(tmp_path / name) if name else "")
    assert outcome.code == 66 and says in outcome.err
    assert not emulator.requests and not ufile.journals.exists()


def test_a_name_that_is_no_text(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9\x1b[31m")
    make_file(path, 5 * MIB)
    outcome = ufile("upload", "demo", "k", str(path), "--json")
    assert outcome.code == 0 and "\x1b" not in outcome.err
    assert_same(emulator, path, key="k")
    assert "\x1b" not in ufile("status").out
    outcome = ufile("upload", "demo", "d/", str(path))
    assert outcome.code == 2 and "UTF-8" in outcome.err


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Usage: ufile"),
        (("uplaod",), "Did you mean ufile upload?"),
        (("resmue", "x"), "Did you mean ufile resume?"),
        (("cp", "a", "b"), "Did you mean ufile upload?"),
        (("ls",), "Did you mean ufile status?"),
        (("frobnicate",), "There is no command 'frobnicate'"),
        (("upload",), "Missing argument 'BUCKET'"),
        (("upload", "demo", "k"), "Missing argument 'FILE'"),
        (("upload", "demo", "k", "FILE", "x"), "unexpected extra argument"),
        (("upload", "demo", "k", "FILE", "--thread", "3"), "--threads"),
        (("upload", "demo", "k", "FILE", "-j", "0"), "between 1 and 256"),
        (("upload", "demo", "k", "FILE", "-j", "many"), "threads"),
        (("upload", "demo", "k", "FILE", "--limit-rate", "fast"), "write 500K, 10M or 1.5G"),
        (("upload", "demo", "k", "FILE", "--patience", "long"), "forever"),
        (("upload", "demo", "k", "FILE", "--storage-class", "COLD"), "'COLD' is not one of"),
        (("upload", "demo", "k", "FILE", "--progress", "loud"), "bars"),
        (("upload", "demo", "k", "FILE", "-H", "Host: x"), "set by ufile itself"),
        (("upload", "demo", "k", "FILE", "-H", "authorization: x"), "set by ufile itself"),
        (("upload", "demo", "k", "FILE", "-H", "Content-Length: 1"), "set by ufile itself"),
        (("upload", "demo", "k", "FILE", "-H", "X: a\r\nY: b"), "line breaks"),
        (("upload", "demo", "k", "FILE", "-H", "nonsense"), "'Name: value'"),
        (("upload", "demo", "k", "FILE", "--meta", "a_b=c"), "letters, digits and -"),
        (("upload", "demo", "k", "FILE", "--meta", f"a={'x' * 8200}"), "8 KB"),
        (("upload", "de mo", "k", "FILE"), "the bucket's name"),
        (("upload", "a.b", "k", "FILE"), "the bucket's name"),
        (("upload", "us3://demo", "k", "FILE"), "bucket and key are two arguments"),
        (("upload", "demo", "k", "FILE", "--endpoint", "cn-bejing"), "did you mean cn-bj?"),
        (("upload", "demo", "k", "FILE", "--endpoint", "ftp://x"), "https://"),
        (("upload", "demo", "k", "FILE", "--endpoint", "127.0.0.1:1"), "lacks http://"),
        (("upload", "demo", "k", "FILE", "--profile", "nobody"), "there is no profile nobody"),
        (("upload", "demo", "k", "FILE", "--log-file", "/no/where"), "can't be written"),
        (("resume",), "name one journal id, or --last, or --all"),
        (("resume", "abcd", "--last"), "name one journal id, or --last, or --all"),
        (("resume", "--all", "--file", "x"), "--file goes with one upload"),
        (("resume", "abcd"), "there is no journal abcd"),
        (("resume", "../etc"), "is no journal id"),
        (("resume", "--last"), "there is no upload to go on with"),
        (("status", "abcd"), "there is no journal abcd"),
        (("abort", "abcd"), "there is no journal abcd"),
        (("abort",), "ufile status"),
        (("serve", "--port", "70000"), "65535"),
        (("serve", "--faults", "/no/where"), "fault script"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_wrong_usage(
    ufile: Ufile, emulator: Emulator, path: Path, arguments: tuple[str, ...], says: str
) -> None:
    outcome = ufile(*(str(path) if word == "FILE" else word for word in arguments))
    assert outcome.code == 2, outcome
    assert says in outcome.err and "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not emulator.requests


def test_an_ambiguous_prefix_names_those_there_are(ufile: Ufile, path: Path) -> None:
    ids = set()
    for number in range(33):  # of 32 letters two begin alike
        refused = ("--endpoint", "http://127.0.0.1:1", *AT_ONCE)
        outcome = ufile("upload", "demo", f"k{number}", str(path), "--json", *refused)
        ids.add(outcome.json["journal_id"])
        alike = [journal for journal in ids if journal[0] == outcome.json["journal_id"][0]]
        if len(alike) > 1:
            break
    outcome = ufile("resume", alike[0][0])
    assert outcome.code == 2 and all(journal in outcome.err for journal in alike)
    assert ufile.status(alike[0][:8])["journal_id"] == alike[0]


# Going on, or not


def test_upload_again_as_something_else_is_refused(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    journal = interrupted(ufile, emulator, path, "--mime-type", "text/x", "--meta", "a=b")
    before = len(emulator.requests)
    for other in (("--mime-type", "text/y"), ("--storage-class", "IA"), ("--meta", "a=c")):
        for command in (("upload", "demo", "big", str(path)), ("resume", journal)):
            outcome = ufile(*command, *other)
            assert outcome.code == 2 and other[0] in outcome.err, outcome
            assert journal in outcome.err
    assert len(emulator.requests) == before
    assert ufile.status(journal)["state"] == "interrupted"
    # The same as before, or nothing at all, is no difference.
    outcome = ufile("upload", "demo", "big", str(path), "--mime-type", "text/x", "--meta", "a=b")
    assert outcome.code == 0
    assert emulator.store.find("demo", "big").content_type == "text/x"
    assert_same(emulator, path)


def test_restart_begins_anew(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    first = interrupted(ufile, emulator, path)
    upload_id = ufile.document(first)["uploadid"]
    outcome = ufile.upload(path, "--restart", "--mime-type", "text/y")
    assert outcome.json["parts_sent"] == 6 and outcome.json["parts_reused"] == 0
    assert ufile.only_journal() == outcome.json["journal_id"] != first
    aborts = calls_of(emulator, "abort")
    assert [record.upload_id for record in aborts] == [upload_id]
    assert_same(emulator, path)


def test_two_at_once(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    fault = emulator.faults.add(call="part", part=3, hang="body")
    running = ufile.start("upload", "demo", "big", str(path))
    emulator.wait_for("part", 1, stage="hanging")
    journal = ufile.only_journal()
    before = len([record for record in emulator.requests if record.call != "part"])
    for command in (
        ("upload", "demo", "big", str(path)),
        ("upload", "demo", "big", str(path), "--restart"),
        ("resume", journal),
        ("abort", journal),
    ):
        outcome = ufile(*command)
        assert outcome.code == 75, outcome
        assert f"process {running.pid} on {os.uname().nodename}" in outcome.err
        assert " since 20" in outcome.err
    # It is not the one that --last and --all mean.
    assert ufile("resume", "--last").code == 2
    assert ufile("resume", "--all").code == 0
    assert len([record for record in emulator.requests if record.call != "part"]) == before
    emulator.faults.remove(fault)
    emulator.faults.release()
    assert running.wait().code == 0
    assert set(stored_parts(emulator.requests).values()) == {1}
    assert_same(emulator, path)


def test_begun_at_the_same_moment(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """Of several uploads of one file, started together, one works and the others say so."""
    emulator.faults.add(call="finish", hang="head")
    together = [ufile.start("upload", "demo", "big", str(path)) for _ in range(4)]
    emulator.wait_for("finish", 1, stage="hanging")
    ended = threading.Semaphore(0)

    def watch(running: Running) -> None:
        running.process.wait()
        ended.release()

    for running in together:
        threading.Thread(target=watch, args=(running,), daemon=True).start()
    for _ in range(3):
        assert ended.acquire(timeout=30)
    emulator.faults.clear()
    assert sorted(running.wait().code for running in together) == [0, 75, 75, 75]
    assert emulator.count("initiate") == 1
    assert set(stored_parts(emulator.requests).values()) == {1}


def test_a_finished_one_is_not_resumed(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    first = ufile.upload(path).json
    before = len(emulator.requests)
    outcome = ufile("resume", first["journal_id"], "--json")
    assert outcome.code == 0 and "finished already" in outcome.err
    assert outcome.json.keys() == first.keys()
    same = ("journal_id", "bucket", "key", "url", "size", "etag", "verified", "parts")
    assert all(outcome.json[name] == first[name] for name in same)
    assert outcome.json["bytes_sent"] == outcome.json["parts_sent"] == 0
    assert len(emulator.requests) == before
    assert ufile("resume", "--last").code == 2


def test_the_file_has_moved(ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    moved = path.rename(tmp_path / "moved.bin")
    outcome = ufile("resume", journal)
    assert outcome.code == 66 and f"ufile resume {journal} --file" in outcome.err
    assert ufile.status(journal)["state"] in ("failed", "paused", "interrupted")
    before = len(emulator.requests)
    outcome = ufile("resume", journal, "--file", str(moved))
    assert outcome.code == 0, outcome
    assert set(stored_parts(emulator.requests[before:])) == {3}
    assert_same(emulator, moved)
    assert ufile.document(journal)["localfile"] == str(moved)


def test_status_names_the_way_that_can_work(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)

    def way() -> str:
        lines = ufile("status", journal).out.splitlines()
        return next(line for line in lines if line.startswith("go on with")).split(None, 3)[3]

    assert way() == f"ufile resume {journal}"
    content = path.read_bytes()
    path.unlink()
    assert way() == f"ufile resume {journal} --file PATH"
    outcome = ufile("resume", journal)
    assert outcome.code == 66 and f"ufile resume {journal} --file PATH" in outcome.err
    path.write_bytes(content[: MIB + 5] + bytes([content[MIB + 5] ^ 1]) + content[MIB + 6 :])
    assert ufile("resume", journal).code == 66
    assert way() == f"ufile resume {journal} --resend-changed"
    assert ufile("resume", journal, "--resend-changed").code == 0
    assert_same(emulator, path)


@pytest.mark.parametrize("command", ["upload", "upload-stream", "resume"])
def test_wrong_options_and_json(ufile: Ufile, command: str) -> None:
    """On failure too, --json promises; behind `--` it is a COMMAND's own."""
    outcome = ufile(command, "--json", "--no-such-option")
    assert outcome.code == 2 and "no-such-option" in outcome.err
    assert outcome.json["exit_code"] == 2 and outcome.json["error"]["kind"] == "UsageError"
    assert ufile(command, "--no-such-option", "--", "cat", "--json").out == ""


def test_a_place_as_other_tools_write_it(ufile: Ufile) -> None:
    outcome = ufile("upload", "big", "us3://demo/key")
    assert outcome.code == 2 and "ufile upload BUCKET KEY FILE" in outcome.err


def test_another_file_under_the_name(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """Copied over: the same content goes on, other content is refused with the part."""
    journal = interrupted(ufile, emulator, path)
    content = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(content)
    content[MIB + 5] ^= 1
    other = path.with_name("other")
    other.write_bytes(content)
    outcome = ufile("resume", journal, "--file", str(other))
    assert outcome.code == 66, outcome
    assert "part 1" in outcome.err
    assert "--resend-changed" in outcome.err and "--restart" in outcome.err
    assert ufile.status(journal)["state"] == "failed"
    before = len(emulator.requests)
    outcome = ufile("resume", journal, "--file", str(path))
    assert outcome.code == 0, outcome
    assert set(stored_parts(emulator.requests[before:])) == {3}
    assert_same(emulator, path)


@pytest.mark.parametrize("way", ["shorter", "longer"])
def test_a_file_of_another_length(ufile: Ufile, emulator: Emulator, path: Path, way: str) -> None:
    journal = interrupted(ufile, emulator, path)
    with path.open("r+b") as file:
        if way == "shorter":
            file.truncate(5 * MIB - 1)
        else:
            file.seek(0, 2)
            file.write(b"more")
    outcome = ufile("resume", journal)
    if outcome.code == 0:  # every part that was up is still the same content
        assert_same(emulator, path)
    else:
        assert outcome.code == 66 and "part" in outcome.err, outcome


def test_abort_frees_the_parts(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    upload_id = ufile.document(journal)["uploadid"]
    assert emulator.store.uploads("demo", "")
    outcome = ufile("abort", journal[:3])
    assert outcome.code == 0 and journal in outcome.err
    assert [record.upload_id for record in calls_of(emulator, "abort")] == [upload_id]
    assert not emulator.store.uploads("demo", "")
    assert ufile.status() == []
    assert [path.name for path in ufile.journals.iterdir() if path.name[0] != "."] == []


def test_abort_leaves_nothing_of_an_interrupted_rewrite(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    journal = interrupted(ufile, emulator, path)
    for name in (f"{journal}.json.new", f"{journal}.parts.jsonl.new"):
        (ufile.journals / name).write_text("{")
    assert ufile("abort", journal).code == 0
    assert [path.name for path in ufile.journals.iterdir() if path.name[0] != "."] == []


def test_abort_of_what_the_server_forgot(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    emulator.store.abort("demo", ufile.document(journal)["uploadid"])
    assert ufile("abort", journal).code == 0
    assert ufile.status() == []


def test_abort_without_the_server(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """The journal stays, since nothing was freed."""
    journal = interrupted(ufile, emulator, path)
    emulator.faults.add(call="abort", status=503)
    outcome = ufile("abort", journal)
    assert outcome.code == 75 and "HTTP 503" in outcome.err
    assert ufile.status(journal)["state"] == "interrupted"
    emulator.faults.clear()
    assert ufile("abort", journal).code == 0


def test_several_aborts(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path)
    outcome = ufile("abort", "zzzzzzzz", journal)
    assert outcome.code == 2 and "zzzzzzzz" in outcome.err
    assert ufile.status() == []


def test_options_of_the_first_run_hold(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    journal = interrupted(ufile, emulator, path, "-j", "2", "--limit-rate", "64M", "-H", "X-A: b")
    options = ufile.status(journal)["options"]
    assert options["threads"] == 2 and options["limit_rate"] == 64 * MIB
    assert ufile("resume", journal, "-j", "3").code == 0
    options = ufile.status(journal)["options"]
    assert options["threads"] == 3 and options["limit_rate"] == 64 * MIB
    assert emulator.parts_in_flight_max <= 3


def test_resume_all(ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path) -> None:
    """Every one is tried; the worst exit code counts."""
    journals = []
    for key in ("one", "two", "three"):
        fault = emulator.faults.add(call="part", part=2, status=503)
        outcome = ufile("upload", "demo", key, str(path), "--json", *AT_ONCE)
        assert outcome.code == 75
        emulator.faults.remove(fault)
        journals.append(outcome.json["journal_id"])
    emulator.faults.add(call="part", key="two", status=503)
    outcome = ufile("resume", "--all", *AT_ONCE)
    assert outcome.code == 75, outcome
    assert [ufile.status(journal)["state"] for journal in journals] == [
        "finished", "paused", "finished"
    ]  # fmt: skip
    emulator.faults.clear()
    path.rename(tmp_path / "gone")
    outcome = ufile("resume", "--all")
    assert outcome.code == 66
    assert ufile("resume", "--last", "--file", str(tmp_path / "gone")).code == 0


def test_resume_all_passes_over_what_was_given_up_meanwhile(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    fault = emulator.faults.add(call="part", part=2, status=503)
    for key in ("one", "two", "three"):
        assert ufile("upload", "demo", key, str(path), *AT_ONCE).code == 75
    emulator.faults.remove(fault)
    emulator.faults.add(call="part", key="one", hang="head")
    running = ufile.start("resume", "--all", "--json")
    emulator.wait_for("part", stage="hanging")
    [two] = [entry["journal_id"] for entry in ufile.status() if entry["key"] == "two"]
    assert ufile("abort", two).code == 0
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert [(done["key"], done["exit_code"]) for done in outcome.json] == [("one", 0), ("three", 0)]
