"""Files that change while they are uploaded, or between a run and the next: equal content goes on
without sending anything again, other content is refused, and no object ever mixes two versions."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faultbed import BLOCK, Engine
from testbed import MIB, Ufile, assert_same, make_file, read_object, stored_parts

from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import SourceChanged, UFileError
from ufile_cli.progress.events import Checking, Finishing, PartSent

TEN = dict.fromkeys(range(10), 1)
UP = 5
"""Parts that are up when the file changes."""


def interrupted(engine: Engine, emulator: Emulator, path: Path) -> str:
    """The first parts are up; the journal's id."""
    emulator.faults.add(call="part", part=f"{UP}-", status=500)
    run = engine.upload(path, attempts=1, threads=1)
    assert run.code == 75 and engine.up(run.journal_id) == set(range(UP))
    emulator.faults.clear()
    return run.journal_id


def no_object(emulator: Emulator) -> bool:
    return not emulator.store.exists("demo", "big")


def flip(path: Path, *offsets: int) -> None:
    """Change single bytes where they lie."""
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes((byte ^ 1,)))


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1_234_567_890))


def copy_over(path: Path) -> None:
    beside = path.with_name("copy")
    shutil.copyfile(path, beside)
    beside.replace(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more")


def grow_by_parts(path: Path) -> None:
    with path.open("ab") as file:
        file.write(os.urandom(2 * BLOCK))


def truncate_in_what_is_not_up(path: Path) -> None:
    os.truncate(path, 7 * BLOCK + 3)


SAME: dict[str, Callable[[Path], None]] = {
    "touched": touch,
    "chmod": lambda path: path.chmod(0o640),
    "replaced by a copy": copy_over,
    "written again with the same bytes": rewrite,
}

BEHIND: dict[str, Callable[[Path], None]] = {
    "edited behind": lambda path: flip(path, 6 * BLOCK + 7),
    "appended": append,
    "grown by parts": grow_by_parts,
    "truncated behind": truncate_in_what_is_not_up,
}

OTHER: dict[str, tuple[Callable[[Path], None], int, int]] = {
    # what happens, the part that tells, how many parts have changed
    "edited in the first part": (lambda path: flip(path, 0), 0, 1),
    "edited at the end of a part": (lambda path: flip(path, 3 * BLOCK - 1), 2, 1),
    "edited in two": (lambda path: flip(path, BLOCK, 4 * BLOCK), 1, 2),
    "replaced": (lambda path: copy_of_another(path), 0, UP),
    "truncated in what is up": (lambda path: os.truncate(path, 2 * BLOCK + 9), 2, 3),
    "truncated at a part's edge": (lambda path: os.truncate(path, 3 * BLOCK), 3, 2),
}


def copy_of_another(path: Path) -> None:
    make_file(path.with_name("another"), path.stat().st_size, seed=77).replace(path)


# Between two runs


@pytest.mark.parametrize("change", SAME)
def test_equal_content_goes_on(engine: Engine, emulator: Emulator, ten: Path, change: str) -> None:
    journal = interrupted(engine, emulator, ten)
    SAME[change](ten)
    run = engine.resume(journal)
    assert run.done.verified == "etag"
    assert run.of(Checking), "it was not looked at again"
    assert run.done.parts_reused == UP and run.done.parts_changed == 0
    assert stored_parts(emulator.requests) == TEN
    assert_same(emulator, ten)


@pytest.mark.parametrize("change", BEHIND)
def test_what_was_not_sent_yet_may_change(
    engine: Engine, emulator: Emulator, ten: Path, change: str
) -> None:
    """The parts that are up are those of the new version too, so it is the new version."""
    journal = interrupted(engine, emulator, ten)
    BEHIND[change](ten)
    run = engine.resume(journal)
    assert run.done.verified == "etag" and run.done.size == ten.stat().st_size
    assert max(stored_parts(emulator.requests).values()) == 1
    assert_same(emulator, ten)


@pytest.mark.parametrize("change", OTHER)
def test_other_content_is_refused(
    engine: Engine, emulator: Emulator, ten: Path, change: str
) -> None:
    journal = interrupted(engine, emulator, ten)
    act, part, _ = OTHER[change]
    act(ten)
    sent = emulator.count("part")
    run = engine.resume(journal)
    assert run.code == 66
    assert isinstance(run.error, SourceChanged) and run.error.part == part
    assert "--resend-changed" in str(run.error.hint) and "--restart" in str(run.error.hint)
    assert emulator.count("part") == sent and emulator.count("finish") == 0
    assert engine.view(journal).state == "failed"
    assert engine.up(journal) == set(range(UP)), "what is up stays up"
    # And once more: it stays refused.
    assert engine.resume(journal).code == 66


@pytest.mark.parametrize("change", OTHER)
def test_changed_parts_are_sent_again(
    engine: Engine, emulator: Emulator, ten: Path, change: str
) -> None:
    journal = interrupted(engine, emulator, ten)
    act, _, changed = OTHER[change]
    act(ten)
    before = len(emulator.requests)
    run = engine.resume(journal, resend_changed=True)
    assert run.done.verified == "etag"
    assert_same(emulator, ten)
    count = -(-ten.stat().st_size // BLOCK)
    assert run.done.size == ten.stat().st_size and run.done.parts == count
    sent = stored_parts(emulator.requests[before:])
    if count >= 10:
        assert run.done.parts_changed == changed
        assert run.done.parts_reused == UP - changed
        assert sum(sent.values()) == run.done.parts_sent == 10 - run.done.parts_reused
    else:
        # Parts beyond the new end lie under the upload id; this server does not finish then.
        assert set(sent) <= set(range(count))
        assert run.done.parts_sent + run.done.parts_reused == count


def test_it_changed_back(engine: Engine, emulator: Emulator, ten: Path) -> None:
    journal = interrupted(engine, emulator, ten)
    flip(ten, BLOCK)
    assert engine.resume(journal).code == 66
    flip(ten, BLOCK)
    assert engine.resume(journal).done.parts_reused == UP
    assert stored_parts(emulator.requests) == TEN


def test_opaque_etags_are_no_excuse(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The server's ETags can't be computed: our own hashes tell."""
    for touched in (False, True):
        emulator.faults.add(call="part", part="5-", status=500)
        emulator.faults.add(call="part", etag="opaque")
        key = f"touched-{touched}"
        journal = engine.upload(ten, key, attempts=1, threads=1).journal_id
        emulator.faults.clear()
        emulator.faults.add(call="part", etag="opaque")
        if touched:
            touch(ten)
        else:
            copy_over(ten)
        run = engine.resume(journal)
        assert run.done.parts_reused == UP
        assert_same(emulator, ten, key=key)
        emulator.faults.clear()


def test_gone(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """Missing, unreadable, a directory: 66, and the way to say where it is now."""
    emulator.faults.add(call="part", part=9, status=500)
    ufile("upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1")
    emulator.faults.clear()
    journal = ufile.only_journal()
    moved = large.with_name("elsewhere.bin")
    large.rename(moved)
    outcome = ufile("resume", journal)
    assert outcome.code == 66 and "--file" in outcome.err, outcome
    large.mkdir()
    outcome = ufile("resume", journal)
    assert outcome.code == 66 and "--file" in outcome.err, outcome
    large.rmdir()
    outcome = ufile("resume", journal, "--file", str(moved), "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["parts_reused"] == 9
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)
    assert_same(emulator, moved)
    assert ufile.document(journal)["localfile"] == str(moved)


def test_file_names_another_one(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", part=9, status=500)
    ufile("upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1")
    emulator.faults.clear()
    journal = ufile.only_journal()
    other = make_file(large.with_name("other.bin"), large.stat().st_size, seed=5)
    outcome = ufile("resume", journal, "--file", str(other))
    assert outcome.code == 66 and "part 0" in outcome.err
    assert no_object(emulator)


def test_a_wrong_file_does_not_stick(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """The journal still knows where the right one lies."""
    emulator.faults.add(call="part", part=9, status=500)
    ufile("upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1")
    emulator.faults.clear()
    journal = ufile.only_journal()
    other = make_file(large.with_name("other.bin"), large.stat().st_size, seed=5)
    assert ufile("resume", journal, "--file", str(other)).code == 66
    again = ufile("resume", journal)
    assert again.code == 0, again
    assert_same(emulator, large)


def test_the_command_tells_and_resends(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", part=9, status=500)
    ufile("upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1")
    emulator.faults.clear()
    journal = ufile.only_journal()
    flip(large, 3 * BLOCK + 1)
    flip(large, 7 * BLOCK + 1)
    outcome = ufile("upload", "demo", "big", str(large), "--json")
    assert outcome.code == 66
    assert "part 3" in outcome.err
    assert f"ufile resume {journal} --resend-changed" in outcome.err
    assert "--restart" in outcome.err
    assert outcome.json["error"]["part"] == 3
    before = len(emulator.requests)
    done = ufile("upload", "demo", "big", str(large), "--json", "--resend-changed")
    assert done.code == 0, done
    assert done.json["parts_changed"] == 2 and done.json["parts_reused"] == 7
    assert done.json["parts_sent"] == 13
    assert "2 had changed" in done.err and "7 were up already" in done.err
    assert set(stored_parts(emulator.requests[before:])) == {3, 7, *range(9, 20)}
    assert_same(emulator, large)


def test_restart_begins_anew(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", part=9, status=500)
    ufile("upload", "demo", "big", str(large), "--retries", "1", "--patience", "0", "-j", "1")
    emulator.faults.clear()
    flip(large, 3 * BLOCK + 1)
    outcome = ufile("upload", "demo", "big", str(large), "--json", "--restart")
    assert outcome.code == 0 and outcome.json["parts_sent"] == 20, outcome
    assert emulator.count("abort") == 1
    assert_same(emulator, large)


@pytest.mark.parametrize("size", [0, 5, 4 * MIB])
def test_one_that_became_small_has_its_journal_still(
    ufile: Ufile, emulator: Emulator, large: Path, size: int
) -> None:
    """One request would do for it, but would leave the parts that are up behind, to be paid."""
    fault = emulator.faults.add(call="part", part=9, status=400)
    assert ufile("upload", "demo", "big", str(large), "-j", "1").code == 1
    emulator.faults.remove(fault)
    large.write_bytes(bytes(size))
    outcome = ufile("upload", "demo", "big", str(large))
    assert outcome.code == 66 and "--restart" in outcome.err, outcome
    assert emulator.count("put") == 0
    outcome = ufile("upload", "demo", "big", str(large), "--restart")
    assert outcome.code == 0 and emulator.count("put") == emulator.count("abort") == 1, outcome
    assert ufile.status() == [] and ufile.status("--remote", "demo") == []
    assert_same(emulator, large)


@pytest.mark.parametrize("size", [5, 4 * MIB])
def test_what_became_small_goes_on(
    ufile: Ufile, emulator: Emulator, large: Path, size: int
) -> None:
    fault = emulator.faults.add(call="part", part=9, status=400)
    assert ufile("upload", "demo", "big", str(large), "-j", "1").code == 1
    emulator.faults.remove(fault)
    large.write_bytes(bytes(size))
    assert ufile("upload", "demo", "big", str(large), "--resend-changed").code == 0
    assert [document["state"] for document in ufile.status()] == ["finished"]
    assert ufile.status("--remote", "demo") == []
    assert_same(emulator, large)


def test_what_became_empty_does_not(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """An upload in parts has at least one."""
    fault = emulator.faults.add(call="part", part=9, status=400)
    assert ufile("upload", "demo", "big", str(large), "-j", "1").code == 1
    emulator.faults.remove(fault)
    large.write_bytes(b"")
    for words in (("upload", "demo", "big", str(large)), ("resume", ufile.only_journal())):
        outcome = ufile(*words, "--resend-changed")
        assert outcome.code == 66 and "upload --restart" in outcome.err, outcome


def test_of_a_directory_too(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    directory = large.parent / "directory"
    directory.mkdir()
    large = large.rename(directory / "big")
    words = ("upload", "-r", "demo", "", str(directory))
    fault = emulator.faults.add(call="part", part=9, status=400)
    assert ufile(*words).code == 1
    emulator.faults.remove(fault)
    large.write_bytes(b"small")
    assert ufile(*words).code == 66
    assert ufile(*words, "--restart").code == 0
    assert ufile.status("--remote", "demo") == []
    assert_same(emulator, large)


# While it is uploaded


def held_at(engine: Engine, emulator: Emulator, path: Path, act: Callable[[], None]) -> UFileError:
    """Change the file while part 6 is half way; how the upload ended."""
    emulator.faults.add(call="part", part=6, nth=1, hang="body", after_bytes=BLOCK // 2)
    run = engine.begin(path, threads=2)
    emulator.wait_for("part", stage="hanging")
    emulator.wait_until(lambda records: {0, 1, 2, 3, 4, 5} <= set(stored_parts(records)))
    act()
    emulator.faults.clear()
    run.wait()
    assert isinstance(run.error, UFileError), run.result
    return run.error


@pytest.mark.parametrize("offset", [2 * BLOCK, 6 * BLOCK + 5, 7 * BLOCK - 1])
def test_edited_while_it_is_sent(
    engine: Engine, emulator: Emulator, ten: Path, offset: int
) -> None:
    """In a part that is up, and in the one under way, before and behind what was read."""
    old = ten.read_bytes()
    emulator.faults.add(call="part", part=6, nth=1, hang="body", after_bytes=BLOCK // 2)
    run = engine.begin(ten, threads=2)
    emulator.wait_for("part", stage="hanging")
    flip(ten, offset)
    emulator.faults.clear()
    run.wait()
    if run.error is None:
        # The part was read after the edit, or the edit was read with it: the new version, whole.
        assert_same(emulator, ten)
        assert offset != 2 * BLOCK
    else:
        assert run.code == 66 and no_object(emulator)
        assert isinstance(run.error, SourceChanged)
        assert run.error.part == offset // BLOCK
        again = engine.resume(run.journal_id, resend_changed=True)
        assert again.done.parts_changed == 1
        assert again.done.verified == "etag"
        assert_same(emulator, ten)
    assert b"".join(read_object(emulator, "demo", "big")) != old


def test_truncated_while_it_is_sent(engine: Engine, emulator: Emulator, ten: Path) -> None:
    error = held_at(engine, emulator, ten, lambda: os.truncate(ten, 5 * BLOCK + 100))
    assert error.code == 66
    assert no_object(emulator)


def test_appended_to_while_it_is_sent(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The last part was sent in its old length: refused. A log that grows is no file to send."""
    emulator.faults.add(call="finish", nth=1, hang="head")
    emulator.faults.add(call="part", part=6, nth=1, hang="body")
    run = engine.begin(ten, threads=2)
    emulator.wait_for("part", stage="hanging")
    emulator.wait_until(lambda records: 9 in stored_parts(records))
    append(ten)
    emulator.faults.clear()
    run.wait()
    assert run.code == 66 and no_object(emulator)
    assert isinstance(run.error, SourceChanged) and run.error.part == 9
    again = engine.resume(run.journal_id, resend_changed=True)
    assert again.done.parts_sent == 1 and again.done.parts_changed == 1
    assert_same(emulator, ten)


@pytest.mark.parametrize("change", [change for change in SAME if change != "replaced by a copy"])
def test_touched_between_the_last_part_and_finish(
    engine: Engine, emulator: Emulator, ten: Path, change: str
) -> None:
    emulator.faults.add(call="part", part=9, hang="stored")
    run = engine.begin(ten)
    emulator.wait_for("part", stage="hanging")
    SAME[change](ten)
    emulator.faults.clear()
    assert run.wait().done.verified == "etag"
    assert run.of(Checking)
    assert stored_parts(emulator.requests) == TEN
    assert_same(emulator, ten)


def test_edited_between_the_last_part_and_finish(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    emulator.faults.add(call="part", part=9, hang="stored")
    run = engine.begin(ten)
    emulator.wait_for("part", stage="hanging")
    emulator.wait_until(lambda records: set(range(9)) <= set(stored_parts(records)))
    flip(ten, 4 * BLOCK)
    emulator.faults.clear()
    run.wait()
    assert run.code == 66 and emulator.count("finish") == 0
    assert isinstance(run.error, SourceChanged) and run.error.part == 4
    assert not run.of(Finishing)
    again = engine.resume(run.journal_id, resend_changed=True)
    assert again.done.parts_sent == 1 and again.done.parts_reused == 9
    assert_same(emulator, ten)


def test_edited_during_the_upload_and_resent_in_the_same_run(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    emulator.faults.add(call="part", part=9, nth=1, hang="stored")
    run = engine.begin(ten, resend_changed=True)
    emulator.wait_for("part", stage="hanging")
    emulator.wait_until(lambda records: set(range(9)) <= set(stored_parts(records)))
    flip(ten, 4 * BLOCK)
    flip(ten, 5 * BLOCK)
    emulator.faults.clear()
    assert run.wait().done.verified == "etag"
    assert run.done.parts_changed == 2
    assert stored_parts(emulator.requests) == TEN | {4: 2, 5: 2}
    assert_same(emulator, ten)


def test_replaced_by_rename_during_the_upload(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    """The open file is the old one: that, whole, is what is stored."""
    old = ten.read_bytes()
    emulator.faults.add(call="part", part=6, nth=1, hang="body")
    run = engine.begin(ten)
    emulator.wait_for("part", stage="hanging")
    copy_of_another(ten)
    emulator.faults.clear()
    assert run.wait().done.verified == "etag"
    assert b"".join(read_object(emulator, "demo", "big")) == old


def test_a_file_that_is_touched_without_end(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Links, attributes, a network file system's clock: what it holds is what was sent."""
    moments = iter(range(10**6))

    def touch(_run: object, event: object) -> None:
        if isinstance(event, Checking | PartSent):
            os.utime(ten, ns=(next(moments), next(moments)))

    engine.on_event = touch
    run = engine.upload(ten)
    assert run.done.verified == "etag"
    looked = [event for event in run.of(Checking) if "touched" in event.what]
    assert len(looked) == 2, "all that was sent is read again twice before it is believed"
    assert stored_parts(emulator.requests) == dict.fromkeys(range(10), 1)
    assert_same(emulator, ten)


def test_a_file_that_never_comes_to_rest(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Changed whenever it was hashed again: given up on, not gone round for ever."""
    changes = iter(range(10**6))

    def change(_run: object, event: object) -> None:
        if isinstance(event, PartSent):
            with ten.open("r+b") as file:
                file.seek(3 * BLOCK)
                file.write(b"%d" % next(changes))

    engine.on_event = change
    run = engine.upload(ten, resend_changed=True)
    assert run.code == 66 and "keeps changing" in run.said
    assert no_object(emulator)


def test_emptied(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """There is nothing to go on with; and no object of old parts is made either."""
    emulator.faults.add(call="part", part="3-", status=503)
    run = engine.upload(ten, attempts=1)
    os.truncate(ten, 0)
    emulator.faults.clear()
    for resend in (False, True):
        again = engine.resume(run.journal_id, resend_changed=resend)
        assert again.code == 66 and "is empty now" in again.said
    assert no_object(emulator)


def test_a_file_system_that_goes_away(
    engine: Engine, emulator: Emulator, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a network even looking at an open file can fail."""
    real = os.fstat

    def lost(fd: int) -> os.stat_result:
        if len(stored_parts(emulator.requests)) == 10 and os.path.samestat(real(fd), ten.stat()):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(fd)

    monkeypatch.setattr(os, "fstat", lost)
    run = engine.upload(ten)
    assert run.code == 66 and "can't be looked at any more" in run.said
    assert no_object(emulator)
    monkeypatch.undo()
    assert engine.resume(run.journal_id).done.parts_sent == 0
    assert_same(emulator, ten)
