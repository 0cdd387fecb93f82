"""The floors hold, and a command pays only for what it needs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed import MIB, Ufile, make_file

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ufile_cli"
HEAVY = ("click", "requests", "urllib3", "rich")

PROBE = """
import json, os, sys
sys.argv = ["ufile", *json.loads(sys.argv[1])]
os._exit = sys.exit  # with a thread still on its way home the command leaves at once
try:
    from ufile_cli.__main__ import main
    main()
except SystemExit as end:
    code = end.code
finally:
    sys.stdout.flush()
    print("\\nLOADED " + json.dumps([code, sorted(sys.modules)]))
"""


def loaded_by(ufile: Ufile, *arguments: str, **variables: str) -> set[str]:
    """The modules that a command that ended with 0 has imported."""
    command = (sys.executable, "-c", PROBE, json.dumps(arguments))
    outcome = ufile.start(command=command, env=variables).wait()
    code, names = json.loads(outcome.out.rpartition("LOADED ")[2])
    assert code in (0, None), outcome
    return set(names)


def imports() -> Iterator[tuple[str, str]]:
    """Every import in the package: the importing module and the top of what it imports."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield module, name.name
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield module, node.module


def test_the_floors() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("click", ("ufile_cli.cli.",)),
        ("rich", ("ufile_cli.cli.", "ufile_cli.progress.bars")),
        ("requests", ("ufile_cli.us3.",)),
        ("urllib3", ("ufile_cli.us3.",)),
        ("fcntl", ("ufile_cli.journal.durable", "ufile_cli.us3.transport", "ufile_cli.emulator.")),
        ("signal", ("ufile_cli.cli.", "ufile_cli.multipart.")),
        ("subprocess", ("ufile_cli.cli.", "ufile_cli.multipart.")),
        ("argparse", ()),
        ("pickle", ()),
        ("asyncio", ()),
    ],
)
def test_who_imports_what(library: str, rooms: tuple[str, ...]) -> None:
    strangers = [
        module
        for module, name in imports()
        if name.partition(".")[0] == library and not module.startswith(rooms or "nobody")
    ]
    assert strangers == []


def test_one_module_makes_bytes_durable() -> None:
    """fsync, rename and flock: in durable alone, apart from the emulator, a second opinion."""
    culprits = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "durable.py" or path.parent.name == "emulator":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("fsync", "fdatasync", "flock"):
                culprits.append(f"{path.name}:{node.lineno}")
    assert culprits == []


def test_integrity_is_no_assert() -> None:
    culprits = [
        f"{path.name}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert culprits == []


def test_every_module_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted(PACKAGE.rglob("*.py"))
        if (tree := ast.parse(path.read_text("utf-8"))).body
        and path.name not in ("__init__.py", "_version.py")
        and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_version_needs_nothing(alone: Ufile) -> None:
    assert not set(HEAVY) & loaded_by(alone, "--version")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("upload", "--help"),
        ("resume", "--help"),
        ("status", "--help"),
        ("abort", "--help"),
        ("serve", "--help"),
        ("upload-stream", "--help"),
        ("clean", "--help"),
        ("status",),
        ("status", "--json"),
        ("status", "--all"),
    ],
    ids=" ".join,
)
def test_looking_needs_no_network_and_no_bars(alone: Ufile, arguments: tuple[str, ...]) -> None:
    assert not {"requests", "urllib3", "rich"} & loaded_by(alone, *arguments)


def test_status_of_a_journal_needs_neither(alone: Ufile, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 5 * MIB)
    alone.upload(path, "--endpoint", "local")
    journal = alone.only_journal()
    for arguments in (("status",), ("status", journal), ("status", journal, "--json")):
        assert not {"requests", "urllib3", "rich"} & loaded_by(alone, *arguments)


@pytest.mark.parametrize("mode", ["plain", "json", "none"])
def test_no_bars_no_rich(alone: Ufile, tmp_path: Path, mode: str) -> None:
    path = make_file(tmp_path / "big", 5 * MIB)
    arguments = ("upload", "b", "k", str(path), "--endpoint", "local", "--progress", mode)
    assert "rich" not in loaded_by(alone, *arguments)


@pytest.mark.parametrize("words", [("",), ("upload", "--st"), ("resume", ""), ("status", "--en")])
def test_completion_needs_no_network_and_no_bars(alone: Ufile, words: tuple[str, ...]) -> None:
    shell = {
        "_UFILE_COMPLETE": "bash_complete",
        "COMP_WORDS": "ufile " + " ".join(words),
        "COMP_CWORD": str(len(words)),
    }
    assert not {"requests", "urllib3", "rich"} & loaded_by(alone, **shell)


def test_an_upload_of_a_file_pays_for_no_directory_and_no_configuration(
    alone: Ufile, tmp_path: Path
) -> None:
    path = make_file(tmp_path / "big", 5 * MIB)
    unneeded = {"ufile_cli.multipart.tree", "ufile_cli.multipart.streams", "tomllib", "difflib"}
    assert not unneeded & loaded_by(alone, "upload", "b", "k", str(path), "--endpoint", "local")
