"""The exception tree: every error has an exit code, the tables of code and page are the same."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ufile_cli import errors
from ufile_cli.errors import ServerError, Stopped, StreamDiffers, UFileError
from ufile_cli.exitcodes import ExitCode, worst
from ufile_cli.multipart.upload import state_after

ROOT = Path(__file__).parent.parent


def tree(base: type[UFileError] = UFileError) -> Iterator[type[UFileError]]:
    """Every class below, leaves last."""
    for kind in base.__subclasses__():
        yield kind
        yield from tree(kind)


CLASSES = list(dict.fromkeys(tree()))


def an(kind: type[UFileError]) -> UFileError:
    """One error of the kind."""
    more: dict[str, Any] = {}
    if issubclass(kind, ServerError):
        more["status"] = 418
    if issubclass(kind, errors.JournalDamaged):
        more["path"] = "/journal"
    if issubclass(kind, Stopped):
        more["signum"] = 2
    return kind("what happened", hint="what to type", **more)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_has_an_exit_code(kind: type[UFileError]) -> None:
    error = an(kind)
    assert error.code in set(ExitCode)
    assert error.code not in (ExitCode.OK, ExitCode.INTERNAL), "70 is for bugs alone"
    assert str(error) == error.message == "what happened"
    told = error.as_json()
    assert told["kind"] == kind.__name__ and told["exit_code"] == error.code
    assert told.keys() == an(errors.UsageError).as_json().keys()
    assert kind.__doc__, "an error says what it stands for"


def test_a_streams_error_knows_where() -> None:
    assert StreamDiffers("differs", part=3, offset=12).offset == 12


@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143), (1, 129)])
def test_signals(signum: int, code: int) -> None:
    assert Stopped("stopped", signum=signum).code == code


def test_all_of_them_are_in_the_one_module() -> None:
    assert all(kind.__module__ == "ufile_cli.errors" for kind in CLASSES)
    assert {kind.__name__ for kind in CLASSES} | {"UFileError"} == set(errors.__all__)


def test_the_drawing_is_the_tree() -> None:
    """The docstring's tree names every class under its base, with its exit code."""
    drawn: dict[str, tuple[str | None, str]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([\s│]*)(?:[├└]── )?([A-Z]\w+)\s*([\d/]+)?(\s|$)", line)
        if match is None or not line.startswith(("    ", "UFile")):
            continue
        depth = line.index(match[2])
        while above and above[-1][0] >= depth:
            above.pop()
        drawn[match[2]] = (above[-1][1] if above else None, match[3] or "")
        above.append((depth, match[2]))
    assert set(drawn) == {kind.__name__ for kind in CLASSES} | {"UFileError"}
    for kind in CLASSES:
        base, codes = drawn[kind.__name__]
        assert base == kind.__bases__[0].__name__, kind
        if kind is not ServerError:
            assert str(an(kind).code) in codes.split("/"), kind


def test_what_may_be_tried_again() -> None:
    transient = {kind.__name__ for kind in CLASSES if kind.transient}
    assert transient == {"NetworkError", "ServerTrouble", "BadAnswer", "PartCorrupted"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_state_of_the_journal(kind: type[UFileError]) -> None:
    """As the contract's table has it: exit code by exit code."""
    expected = {1: "failed", 66: "failed", 74: None}
    assert state_after(an(kind)) == expected.get(an(kind).code, "paused")


def test_a_bug_of_ours_pauses() -> None:
    assert state_after(ZeroDivisionError()) == "paused"


def test_the_worst_of_several() -> None:
    assert worst([]) == worst([0, 0]) == 0
    order = [1, 77, 66, 74, 75]
    for place, code in enumerate(order):
        assert worst([0, *order[place:]]) == worst(list(reversed(order[place:]))) == code


def test_the_page_has_every_exit_code() -> None:
    page = ROOT / "docs" / "exit-codes.md"
    if not page.exists():
        pytest.skip("the page is not written yet")
    rows = re.findall(r"^\| *`?([\d, ]+)`? *\|", page.read_text("utf-8"), re.MULTILINE)
    listed = {int(number) for row in rows for number in re.findall(r"\d+", row)}
    assert listed == {int(code) for code in ExitCode}


def test_nothing_else_ends_the_process() -> None:
    """sys.exit and os._exit: at the one boundary, and for the second signal."""
    places = set()
    for path in sorted((ROOT / "ufile_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and (
                inspect.cleandoc(ast.unparse(node)) in ("sys.exit", "os._exit")
            ):
                places.add(str(path.relative_to(ROOT / "ufile_cli")))
    assert places == {"__main__.py", "cli/main.py", "cli/signals.py"}
