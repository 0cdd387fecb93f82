"""Write docs/cli-reference.md from what `--help` says; `make docs` runs it, a test compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from ufile_cli.cli.main import cli

PAGE = Path(__file__).with_name("cli-reference.md")

HEAD = """\
# Commands

This page is generated from `ufile COMMAND --help` by `make docs`.

Sizes and rates are written `500K`, `10M`, `1.5G` (powers of 1024), durations `90`, `5m`, `1h30m`,
`7d`. Where to and as whom (`--endpoint`, `--profile`) is explained in [settings.md](settings.md),
exit codes in [exit-codes.md](exit-codes.md).
"""


def helps() -> Iterator[tuple[str, str]]:
    """Each command's full name and its help, as on a terminal of 80 columns."""
    for words in ((), *((name,) for name in cli.list_commands(click.Context(cli)))):
        shown = CliRunner().invoke(
            cli, [*words, "--help"], prog_name="ufile", terminal_width=80, max_content_width=80
        )
        yield " ".join(("ufile", *words)), shown.output


def page() -> str:
    """The page as it has to be."""
    pieces = [HEAD]
    for name, text in helps():
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        pieces.append(f"## {name}\n\n```text\n{lines}\n```\n")
    return "\n".join(pieces)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
