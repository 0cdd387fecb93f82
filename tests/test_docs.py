"""The documentation, held to the program.

Every command, option, exit code and environment variable is documented, and what is documented
exists. What is compared comes from the click commands themselves, so that a new command or option
fails here until it has its words. The README's commands are run.
"""

from __future__ import annotations

import ast
import http.client
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from testbed import AT_ONCE, COMMAND, MIB, Ufile, make_file

from ufile_cli.cli.main import cli
from ufile_cli.emulator.server import Emulator
from ufile_cli.exitcodes import ExitCode

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
PROSE = [page for page in PAGES if page.name not in ("cli-reference.md", "CHANGELOG.md")]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LONG = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")
OTHERS = re.compile(r"\b(us3cli|filemgr|tail|tar|pg_dump|mysqldump|curl|stat|pipx|ruff|mypy)\b")
"""Programs whose own options may stand on a line."""


def commands() -> dict[str, click.Command]:
    """The commands by their names."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def options_of(command: click.Command) -> set[str]:
    """All spellings of a command's options."""
    spelled = {"--help", "-h"}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            spelled |= {*parameter.opts, *parameter.secondary_opts}
    return spelled


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages, in their order."""
    return [text for language, text in FENCE.findall(read(page)) if language in languages]


def code_of(page: Path) -> Iterator[str]:
    """Every piece of code on a page: lines of blocks (continued ones joined), and inline code."""
    text = read(page)
    for language, block in FENCE.findall(text):
        if language in ("toml", "json", "python", "ini"):
            continue
        yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(FENCE.sub("", text).replace("\\|", "|"))


def ufile_words(line: str) -> Iterator[list[str]]:
    """The words behind each `ufile` that is typed on a line, up to the next command."""
    inner = re.findall(r"\$\(([^)]*)\)", line)
    for piece in (re.sub(r"\$\([^)]*\)", "X", line), *inner):
        for typed in re.findall(
            r"(?:^\s*(?:\$ )?|[|(/*] *|\* {2})ufile ([a-z-]+(?: [^|;&#)>]*)?)", piece
        ):
            words = typed.replace("…", " ").split()
            yield list(itertools.takewhile(lambda word: word != "--", words))


def script(path: Path) -> ModuleType:
    """A Python file that is no module of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Commands and options


def test_the_command_reference_is_in_step() -> None:
    generator: Any = script(DOCS / "generate_cli_reference.py")
    assert read(DOCS / "cli-reference.md") == generator.page(), "run: make docs"


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_explained_beside_the_reference(name: str) -> None:
    typed = re.compile(rf"\bufile {name}\b(?!-)")
    assert any(typed.search(read(page)) for page in PROSE if page.parent == DOCS), (
        f"ufile {name} stands on no page of docs/ but the generated reference"
    )


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_says_what_it_does(name: str) -> None:
    command = commands()[name]
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"ufile {name} {parameter.opts[-1]} has no help"
            assert parameter.help.split("  [")[0].rstrip().endswith((".", ",")), (
                f"ufile {name} {parameter.opts[-1]}: {parameter.help!r} is no sentence"
            )


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_has_examples_that_exist(name: str) -> None:
    command = commands()[name]
    assert "ufile " in (command.epilog or ""), f"ufile {name} --help has no example"
    for line in (command.epilog or "").splitlines():
        check_line(line, f"ufile {name} --help")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_commands_and_options_exist(page: Path) -> None:
    every = set().union(*(options_of(command) for command in commands().values()), {"--version"})
    for line in code_of(page):
        check_line(line, page.name)
        if not OTHERS.search(line) and not line.startswith(("--accesskey", "--nobar", "--config")):
            for option in LONG.findall(line):
                assert option in every | FOREIGN.get(page.name, set()), f"{page.name}: {line}"


FOREIGN = {
    "performance.md": {"--full", "--only", "--parallel"},
    "moving-over.md": {
        "--secretkey", "--config", "--speedlimit", "--retrycount", "--storageclass",
        "--parallel", "--threads",
    },
}  # fmt: skip
"""Options of other tools, on the pages that compare."""


def check_line(line: str, where: str) -> None:
    """Fail where a line shows a command or an option of one that does not exist."""
    known = commands()
    for words in ufile_words(line):
        name = words[0]
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
            continue
        assert name in known, f"{where}: there is no `ufile {name}`: {line}"
        given = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        given = {word.strip(",.:;'\"") for word in given}
        unknown = given - options_of(known[name])
        assert not unknown, f"{where}: `ufile {name}` has no {', '.join(unknown)}: {line}"


# Exit codes


def exit_code_table() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", read(DOCS / "exit-codes.md"), re.MULTILINE)
    return {int(code): name for code, name in rows}


def test_exit_codes_are_those_of_the_program() -> None:
    assert exit_code_table() == {int(code): code.name for code in ExitCode}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_exit_codes_named_elsewhere_exist(page: Path) -> None:
    named = re.findall(r"exit(?:s with| code) \**(\d+)\b", read(page))
    assert {int(code) for code in named} <= set(exit_code_table()), page.name


# Environment variables


def variables_in_code() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "ufile_cli").rglob("*.py"):
        found |= set(re.findall(r"[\"'](UFILE_[A-Z_]+)[\"']", path.read_text(encoding="utf-8")))
    return found - {"UFILE_COMPLETE"}  # click's own, between a shell and its completion


def test_every_environment_variable_is_documented() -> None:
    table = read(DOCS / "settings.md").partition("## Environment variables")[2]
    assert set(re.findall(r"UFILE_[A-Z_]+", table)) == variables_in_code()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_environment_variables_exist(page: Path) -> None:
    of_the_tests = set[str]()
    for path in (ROOT / "tests").rglob("test_*.py"):
        of_the_tests |= set(re.findall(r"\"(UFILE_TEST_[A-Z]+)\"", read(path)))
    named = set(re.findall(r"UFILE_[A-Z_]*[A-Z]", read(page)))
    assert named <= variables_in_code() | of_the_tests


def test_every_key_of_a_profile_is_documented(tmp_path: Path) -> None:
    from ufile_cli.settings import read_profiles

    (shown,) = blocks(DOCS / "settings.md", "toml")
    config = tmp_path / "config.toml"
    config.write_text(shown, encoding="utf-8")
    config.chmod(0o600)
    warnings: list[str] = []
    profiles = read_profiles(config, warnings.append)
    assert set(profiles) == {"default", "intranet", "cdn"}
    assert profiles["intranet"].internal and profiles["cdn"].custom_domain
    assert all(profile.public_key and profile.private_key for profile in profiles.values())
    assert warnings == []
    shown_fields = set(re.findall(r"^(\w+) =", shown, re.MULTILINE))
    fields = set(type(profiles["default"]).__dataclass_fields__) - {"name"}
    assert shown_fields == fields


def test_every_region_is_documented() -> None:
    from ufile_cli.us3.endpoints import REGIONS

    text = read(DOCS / "settings.md")
    assert [region for region in REGIONS if f"`{region}`" not in text] == []


# Messages


def texts_in_code() -> list[str]:
    """Every text in the program, with a NUL in the place of each value that is put in."""
    found = []
    for path in (ROOT / "ufile_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    value.value if isinstance(value, ast.Constant) else "\0"
                    for value in node.values
                )
                found.append("".join(map(str, parts)))
    return found


def test_the_messages_under_troubleshooting_exist() -> None:
    texts = texts_in_code()
    headings = re.findall(r"^\*\*.*", read(DOCS / "troubleshooting.md"), re.MULTILINE)
    messages = [message for line in headings for message in re.findall(r"\*\*`([^`]+)`\*\*", line)]
    assert len(messages) > 25
    for message in messages:
        for piece in re.split(r"…|\bN\b", message):
            wanted = piece.strip(" :")
            assert any(wanted in text for text in texts), f"nothing says {wanted!r}"


# Links and manners


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(kept.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", read(page))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.is_file(), f"{page.name}: {target} leads nowhere"
        if anchor:
            assert anchor in slugs(there), f"{page.name}: {target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    for name in INLINE.findall(FENCE.sub("", read(page))):
        if re.match(r"(?:tests|docs|ufile_cli)/[\w/.-]*$", name):
            assert (ROOT / name).exists(), f"{page.name}: there is no {name}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (target.partition("#")[0] for target in LINK.findall(read(page)))
        waiting += [
            (page.parent / name).resolve() for name in targets if name and "://" not in name
        ]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_paths_of_the_machine_it_was_written_on(page: Path) -> None:
    assert not re.search(r"/(?:work|root|home/\w+|Users)/", read(page))


# The READMEs


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_first_two_shell_blocks_do_everything(page: Path) -> None:
    assert blocks(page, "sh", "bash", "shell", "console")[:2] == ["make demo\n", "make test\n"]


def test_both_readmes_show_the_same_commands() -> None:
    def bare(page: Path) -> list[str]:
        lines = "".join(blocks(page, "sh")).splitlines()
        return [line.partition("#")[0].rstrip() for line in lines]

    assert bare(READMES[0]) == bare(READMES[1])
    assert blocks(READMES[0], "text") == blocks(READMES[1], "text")


def test_the_targets_that_the_docs_name_exist() -> None:
    makefile = read(ROOT / "Makefile")
    for page in PAGES:
        for line in code_of(page):
            for target in re.findall(r"^make ([a-z]+)$", line):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: {line}"


def test_the_commands_of_the_readme_run(tmp_path: Path, ufile: Ufile, emulator: Emulator) -> None:
    home = ufile.home
    make_file(home / "big.iso", 9 * MIB)
    (home / "photos").mkdir()
    make_file(home / "photos" / "one.jpg", MIB, seed=2)
    programs = tmp_path / "programs"
    programs.mkdir()
    install(programs / "ufile", f'exec {shlex.join(COMMAND)} "$@"')
    install(programs / "pg_dump", "head -c 6000000 /dev/zero")

    # What `ufile resume --last` goes on with.
    emulator.faults.add(call="part", part=1, status=503)
    outcome = ufile("upload", "backups", "paused.iso", "big.iso", *AT_ONCE)
    assert outcome.code == 75, outcome
    emulator.faults.clear()

    lines = [
        line
        for block in blocks(ROOT / "README.md", "sh")
        for line in block.splitlines()
        if re.search(r"\bufile [a-z]", line)
    ]
    assert len(lines) >= 5
    for line in lines:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=home,
            env=ufile.env | {"PATH": f"{programs}{os.pathsep}{ufile.env['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, (line, ran.stderr)
    states = {journal["key"]: journal["state"] for journal in ufile.status()}
    assert states["paused.iso"] == "finished"
    assert set(states.values()) == {"finished"}


def test_the_ci_script_of_the_guide_runs(tmp_path: Path, alone: Ufile) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the script uses curl")
    (text,) = (block for block in blocks(DOCS / "guide.md", "sh") if "mkfifo" in block)
    programs = tmp_path / "programs"
    programs.mkdir()
    install(programs / "ufile", f'exec {shlex.join(COMMAND)} "$@"')
    (alone.home / "hello.txt").write_text("hello\n", encoding="utf-8")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=alone.home,
        env=alone.env | {"PATH": f"{programs}{os.pathsep}{alone.env['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "unsigned: refused\n"
    lines = (alone.home / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["call"] for line in lines] == ["put", "get"]


def install(path: Path, text: str) -> None:
    """A shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_the_demo_runs_without_a_terminal(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "demo.py"), "--size", "40", "--rate", "20",
         "--dir", str(tmp_path / "demo")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("each of them that of big.bin") == 2
    assert "\x1b" not in ran.stdout + ran.stderr
    assert all(len(line) <= 80 or "->" in line for line in ran.stdout.splitlines()), ran.stdout


def test_the_demo_notices_an_object_that_is_not_the_file(tmp_path: Path) -> None:
    demo: Any = script(ROOT / "tests" / "demo.py")
    file = make_file(tmp_path / "file", 3 * MIB)
    with Emulator(tmp_path / "server", keys=None) as server:
        address = f"127.0.0.1:{server.port}"
        for wrong in (b"x" * 3 * MIB, file.read_bytes()[:-1], b""):
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.request("PUT", "/big", wrong, {"Host": f"demo.{address}"})
            assert connection.getresponse().status == 200
            connection.close()
            with pytest.raises(SystemExit, match="1"):
                demo.same(address, "big", file)


def test_the_demo_notices_parts_that_were_sent_twice(tmp_path: Path) -> None:
    demo: Any = script(ROOT / "tests" / "demo.py")
    run = demo.Demo(tmp_path, 40 * MIB, MIB)
    line = {"call": "part", "key": "big", "etag": "e"}
    for numbers, good in (
        ([*range(10)], True),
        ([*range(10), 1, 2, 3, 4], True),
        ([*range(10), 1, 2, 3, 4, 5], False),
        ([*range(9)], False),
    ):
        records = (json.dumps(line | {"part_number": number}) for number in numbers)
        run.log.write_text("\n".join(records) + "\n", encoding="utf-8")
        if good:
            run.counted("big")
        else:
            with pytest.raises(SystemExit, match="1"):
                run.counted("big")


def test_every_row_of_the_comparison_is_a_test() -> None:
    source = (ROOT / "tests" / "sdk" / "test_sdk_side_by_side.py").read_text()
    named = re.findall(r"`(test_\w+)` \|$", (ROOT / "docs" / "comparison.md").read_text(), re.M)
    assert len(named) >= 10
    assert [name for name in named if f"def {name}(" not in source] == []


def test_the_fields_of_json_results() -> None:
    """What the program prints is on the page, section by section, and nothing else is."""
    from dataclasses import fields

    from ufile_cli.cli.doctor import Finding
    from ufile_cli.cli.report import failure_json
    from ufile_cli.cli.verify import _Comparison
    from ufile_cli.errors import UFileError
    from ufile_cli.multipart.request import Progress
    from ufile_cli.multipart.tree import TreeResult

    error = UFileError("x")
    nothing: dict[str, Any] = dict.fromkeys(("journal_id", "bucket", "key", "size"))
    upload = failure_json(error, progress=Progress(), seconds=0.0, **nothing)
    printed = {
        "An error": set(error.as_json()),
        "`upload`, `upload-stream`, `resume`": set(upload),
        "`upload -r`": {*TreeResult().as_json(), "error", "files", "path", "key", "size", "bytes"},
        "`verify`": set(_Comparison("b", "k", "f").as_json(None)),
        "`doctor`": {"findings", "notes", "exit_code"} | {field.name for field in fields(Finding)},
    }
    page = read(DOCS / "json.md")
    for section in page.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title not in printed:
            continue
        wanted = printed.pop(title)
        assert {name for name in wanted if f"`{name}`" not in text} == set(), title
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in INLINE.findall(row)} <= wanted, title
    assert printed == {}
