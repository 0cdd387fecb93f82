"""Two processes never work on one journal, and looking takes the lock away from nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from testbed import Running, Ufile, assert_same, make_file, stored_parts

from ufile_cli.emulator.server import Emulator


def at_work(ufile: Ufile, emulator: Emulator, path: Path) -> tuple[Running, str]:
    """An upload that the server holds at one part; its journal's id."""
    emulator.faults.add(call="part", part=9, nth=1, hang="body")
    running = ufile.start("upload", "demo", "big", str(path), "--json")
    emulator.wait_for("part", stage="hanging")
    emulator.wait_until(lambda records: len(stored_parts(records)) == 19)
    return running, ufile.only_journal()


def test_everybody_else_is_told(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """A second upload, a resume, an abort: who has it and since when; the first is unharmed."""
    running, journal = at_work(ufile, emulator, large)
    before = len(emulator.requests)
    for arguments in (
        ("upload", "demo", "big", str(large)),
        ("upload", "demo", "big", str(large), "--restart"),
        ("resume", journal),
        ("resume", journal, "--resend-changed"),
        ("abort", journal),
    ):
        outcome = ufile(*arguments)
        assert outcome.code == 75, outcome
        assert str(running.pid) in outcome.err and "since" in outcome.err, outcome
        assert "Traceback" not in outcome.err
    assert ufile("resume", "--last").code == 2
    assert ufile("resume", "--all").code == 0
    assert len(emulator.requests) == before, "one of them spoke to the server"
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)
    assert_same(emulator, large)


def test_two_uploads_started_at_once(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    """Both at the same moment: one journal, one upload; the other is told."""
    emulator.faults.add(call="initiate", nth=1, hang="head")
    three = [ufile.start("upload", "demo", "big", str(large)) for _ in range(3)]
    emulator.wait_for("initiate", stage="hanging")
    while len(told := [one for one in three if ended(one)]) < 2:
        pass
    assert [one.wait().code for one in told] == [75, 75]
    emulator.faults.clear()
    [first] = [one for one in three if one not in told]
    assert first.wait().code == 0
    ufile.only_journal()
    assert emulator.count("initiate") == 1
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)


def ended(running: Running) -> bool:
    try:
        running.process.wait(0.05)
    except Exception:
        return False
    return True


def test_two_resumes_at_once(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    running, journal = at_work(ufile, emulator, large)
    running.kill()
    emulator.faults.clear()
    emulator.faults.add(call="list_parts", nth=1, hang="head")
    first = ufile.start("resume", journal)
    emulator.wait_for("list_parts", stage="hanging")
    second = ufile("resume", journal)
    assert second.code == 75 and str(first.pid) in second.err
    emulator.faults.clear()
    assert first.wait().code == 0
    assert_same(emulator, large)


def test_after_kill_9_nothing_is_in_the_way(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    running, journal = at_work(ufile, emulator, large)
    running.kill()
    emulator.faults.clear()
    assert (ufile.journals / f"{journal}.lock").exists()
    assert ufile("upload", "demo", "big", str(large)).code == 0
    assert_same(emulator, large)


@pytest.mark.parametrize("how", ["deleted", "made anew"])
def test_the_lock_file_deleted_under_its_holder(
    ufile: Ufile, emulator: Emulator, large: Path, how: str
) -> None:
    """The holder notices and stops, whoever else may be at work by then."""
    running, journal = at_work(ufile, emulator, large)
    lock = ufile.journals / f"{journal}.lock"
    lock.unlink()
    if how == "made anew":
        lock.touch()
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 75, outcome
    assert "lock file" in outcome.err and "Traceback" not in outcome.err
    assert emulator.count("finish") == 0
    again = ufile("resume", journal)
    assert again.code == 0, again
    assert_same(emulator, large)


def test_looking_all_the_time_is_in_nobodys_way(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    """`status` in a loop, beside one resume after another."""
    path = make_file(tmp_path / "big.bin", 20 * emulator.block_size)
    emulator.faults.add(call="part", part="3-", status=500)
    at_once = ("--retries", "1", "--retry-interval", "0", "--patience", "0")
    assert ufile("upload", "demo", "big", str(path), *at_once).code == 75
    journal = ufile.only_journal()
    looking = [ufile.start("status", *args) for args in ((), ("--json",), (journal,))]
    for highest in (6, 12, None):
        emulator.faults.clear()
        if highest is not None:
            emulator.faults.add(call="part", part=f"{highest}-", status=500)
        resuming = ufile.start("resume", journal, *at_once)
        while resuming.process.poll() is None:
            looking = [again(ufile, one) for one in looking]
        assert resuming.wait().code == (0 if highest is None else 75)
    for one in looking:
        assert one.wait().code == 0
    assert_same(emulator, path)
    assert stored_parts(emulator.requests) == dict.fromkeys(range(20), 1)


def again(ufile: Ufile, running: Running) -> Running:
    """The same command once more, where it has ended."""
    if not ended(running):
        return running
    assert running.wait().code == 0
    return ufile.start(*running.arguments)
