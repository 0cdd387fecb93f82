"""Words and numbers for people, and names that must not hurt a terminal."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.progress import text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (4 << 20, "4.00 MiB"),
        (int(12.5 * 2**30), "12.5 GiB"),
        (999 << 20, "999 MiB"),
        (1023 << 20, "1.00 GiB"),
        (5 * 10**12, "4.55 TiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_have_three_digits(number: int, words: str) -> None:
    assert text.size(number) == words


@given(st.integers(min_value=0, max_value=2**63))
def test_sizes_fit_their_column(number: int) -> None:
    assert len(text.size(number)) <= 8
    assert len(text.rate(number)) <= 10


@given(st.integers(0, 2**50), st.integers(1, 2**50))
def test_an_amount_looks_complete_only_when_it_is(done: int, total: int) -> None:
    done = min(done, total)
    shown, rest = text.amount(done, total).split("/")
    assert float(shown) <= float(rest.split()[0])
    assert len(text.amount(done, total)) <= 13


def test_amounts() -> None:
    gib = 1 << 30
    assert text.amount(int(3.419 * gib), 8 * gib) == "3.41/8.00 GiB"
    assert text.amount(8 * gib - 1, 8 * gib) == "7.99/8.00 GiB"
    assert text.amount(8 * gib, 8 * gib) == "8.00/8.00 GiB"
    assert text.amount(5, None) == "5 B"
    assert text.amount(41234, 100000, "parts") == "41,234/100,000"
    assert text.amount(3, 999, between=" of ") == "3 of 999 B"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0:00"),
        (7.9, "0:07"),
        (131, "2:11"),
        (3731, "1:02:11"),
        (86399, "23:59:59"),
        (4 * 86400 + 3 * 3600, "4d 3h"),
        (10**9, ">999d"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.clock(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 s"), (0.4, "0.4 s"), (1, "1 s"), (4.2, "5 s"), (5.0, "5 s"), (150, "2:30")],
)
def test_waits(number: float, words: str) -> None:
    assert text.seconds(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.49, "0.4 s"), (0.99, "0.9 s"), (3.96, "3 s"), (119.9, "119 s"), (150.9, "2:30")],
)
def test_what_a_thing_took_agrees_with_the_clock(number: float, words: str) -> None:
    assert text.took(number) == words
    assert text.clock(number).endswith(f"{int(number) % 60:02}")


@pytest.mark.parametrize(
    ("number", "words"),
    [(-1, "0 s"), (119.9, "119 s"), (301, "5 min"), (7200, "2 h"), (7859, "2 h 10 min")],
)
def test_spans(number: float, words: str) -> None:
    assert text.span(number) == words


def test_the_attempt_to_come() -> None:
    assert text.retry(2, 3, 5.0, "reset") == "retry 2/3 in 5 s: reset"
    assert text.retry(3, 3, 0.0, "reset") == "retry 3/3 now: reset"
    assert text.retry(4, 3, 5.0, "reset") == "trying again in 5 s: reset"


def test_a_failed_attempt_is_counted_while_attempts_count() -> None:
    assert text.part_failed(7, 1, 3, "reset", 5.0) == "part 7, attempt 1 of 3: reset; again in 5 s"
    assert text.part_failed(7, 3, 3, "reset", None) == "part 7, attempt 3 of 3: reset"
    assert text.part_failed(7, 3, 3, "reset", 8.0) == "part 7: reset; again in 8 s"
    assert text.part_failed(7, 4, 3, "reset", None) == "part 7: reset"
    assert text.part_failed(None, 1, 3, "reset", 5.0) == "attempt 1 of 3: reset; again in 5 s"
    assert text.part_failed(None, 4, 3, "reset", None) == "reset"


def test_the_sentence_about_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    noon = 1714564800.0  # 2024-05-01 12:00:00
    assert text.outage("connection refused", noon + 190, noon + 490, noon + 200) == (
        "nothing gets through since 12:03:10 (connection refused); "
        "trying again one part at a time, pausing at 12:08:10"
    )
    assert text.outage("x", noon, None, noon).endswith("one part at a time")
    assert "2024-05-02 12:00:00" in text.outage("x", noon, noon + 86400, noon)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dump.tar", "dump.tar"),
        ("数据库-😀.tar", "数据库-😀.tar"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("a\u2028b\ufeff", "a\\u2028b\\ufeff"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_names_cannot_hurt_a_terminal(name: str, shown: str) -> None:
    assert text.printable(name) == shown


def test_names_are_escaped_for_poor_encodings() -> None:
    assert text.printable("数a", "ascii") == "\\u6570a"
    assert text.printable("数a", "gbk") == "数a"
    assert text.printable("😀a", "gbk") == "\\U0001f600a"
    assert text.printable("数a", "no-such-encoding") == "\\u6570a"


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_shown_can_be_encoded_and_holds_no_control(name: str) -> None:
    shown = text.printable(name)
    shown.encode()
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_columns() -> None:
    assert text.columns("abc") == 3
    assert text.columns("数据") == 4
    assert text.columns("😀") == 2
    assert text.columns("e\u0301") == 1
    assert text.columns("❤\ufe0f") == 2


@given(st.text(alphabet=st.sampled_from("ab数据😀e\u0301\u200d❤\ufe0f")), st.integers(0, 30))
def test_what_is_cut_fits(name: str, room: int) -> None:
    assert text.columns(text.fit(name, room)) <= room
    assert text.columns(text.clip(name, room)) <= room
    assert text.columns(text.pad(text.fit(name, room), room)) == room


def test_a_name_keeps_both_ends() -> None:
    assert text.fit("dump-2024-05-01.tar", 16) == "dump-202…-01.tar"
    assert text.fit("数据库备份完整.tar.gz", 16) == "数据库备….tar.gz"
    assert text.fit("dump-2024-05-01.tar", 16, "...") == "dump-20...01.tar"
    assert text.clip("connection reset by peer", 12) == "connection…"


def test_wrapping() -> None:
    assert text.wrap("nothing gets through since noon", 12) == [
        "nothing gets",
        "through",
        "since noon",
    ]
    assert text.wrap("", 10) == [""]
    assert text.wrap("  as  it is", 12) == ["  as  it is"]
    assert text.wrap("  in the line of the first", 12) == ["  in the", "  line of", "  the first"]
    assert text.wrap("see https://example.com/", 12) == ["see", "https://exam"]
    assert text.wrap("see https://example.com/", 12, cut=False) == ["see", "https://example.com/"]


def test_plurals() -> None:
    assert text.counted(1, "part") == "1 part"
    assert text.counted(0, "file") == "0 files"
    assert text.counted(2048, "part") == "2,048 parts"
