"""Completion: what the shells get, and that a shell takes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from testbed import AT_ONCE, MIB, Ufile, make_file

from ufile_cli.cli.main import COMMANDS
from ufile_cli.emulator.server import Emulator


def complete(ufile: Ufile, *words: str) -> dict[str, str]:
    """What zsh is offered for the last word, with the descriptions."""
    asked = {
        "_UFILE_COMPLETE": "zsh_complete",
        "COMP_WORDS": "ufile " + " ".join(words),
        "COMP_CWORD": str(len(words)),
    }
    outcome = ufile(env=asked)
    assert outcome.code == 0 and outcome.err == "", outcome
    lines = outcome.out.split("\n")
    return dict(zip(lines[1::3], lines[2::3], strict=False))


def test_commands_and_options(ufile: Ufile) -> None:
    offered = complete(ufile, "")
    assert offered == COMMANDS
    assert complete(ufile, "sta") == {"status": COMMANDS["status"]}
    offered = complete(ufile, "upload", "--stor")
    assert list(offered) == ["--storage-class"]
    classes = complete(ufile, "upload", "--storage-class", "")
    assert {name.upper() for name in classes} == {"STANDARD", "IA", "ARCHIVE"}


def test_regions_and_profiles(ufile: Ufile) -> None:
    assert list(complete(ufile, "status", "--endpoint", "cn-")) == ["cn-bj", "cn-sh2", "cn-gd"]
    Path(ufile.env["UFILE_CONFIG"]).write_text('[profiles.work]\nendpoint = "hk"\n')
    assert complete(ufile, "upload", "--profile", "") == {"work": "hk"}
    Path(ufile.env["UFILE_CONFIG"]).write_text("nonsense")
    assert complete(ufile, "upload", "--profile", "") == {}


def test_journal_ids(ufile: Ufile, emulator: Emulator, tmp_path: Path) -> None:
    path = make_file(tmp_path / "备份\x1b[2J", 5 * MIB)
    finished = ufile.upload(path).json["journal_id"]
    emulator.faults.add(call="part", status=503)
    paused = ufile("upload", "demo", "k", str(path), "--json", *AT_ONCE).json["journal_id"]
    offered = complete(ufile, "resume", "")
    assert list(offered) == [paused]
    assert "paused" in offered[paused] and "备份\\x1b[2J" in offered[paused]
    assert set(complete(ufile, "status", "")) == {paused, finished}
    assert list(complete(ufile, "abort", paused[:2].upper())) == [paused]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_for_the_shell(ufile: Ufile, shell: str) -> None:
    outcome = ufile("completion", shell)
    assert outcome.code == 0 and f"{shell}_complete" in outcome.out and outcome.err == ""
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=outcome.out, text=True, check=True, timeout=20)


def test_bash_completes(ufile: Ufile) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = ufile("completion", "bash").out
    here = ufile.home / "bin"
    here.mkdir()
    (here / "ufile").write_text(f'#!/bin/sh\nexec {sys.executable} -m ufile_cli "$@"\n')
    (here / "ufile").chmod(0o755)
    program = script + (
        "\nCOMP_WORDS=(ufile res); COMP_CWORD=1; _ufile_completion ufile\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = ufile.env | {"PATH": f"{here}:{ufile.env['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "resume\n"


def test_a_mistyped_command(ufile: Ufile) -> None:
    outcome = ufile("statsu")
    assert outcome.code == 2 and "Did you mean ufile status?" in outcome.err
    assert ufile("completion", "tcsh").code == 2
