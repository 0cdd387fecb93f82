"""`ufile completion SHELL`: the lines that make a shell complete commands, options and ids."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command(
    "completion",
    epilog="""\b
Examples:
  echo 'eval "$(ufile completion bash)"' >> ~/.bashrc
  echo 'eval "$(ufile completion zsh)"' >> ~/.zshrc
  ufile completion fish > ~/.config/fish/completions/ufile.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print what makes bash, zsh or fish complete commands, options and journal ids.

    Completion asks ufile itself, so it knows the profiles and journals there are.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise RuntimeError(f"click knows no completion for {shell}")
    script = kind(ctx.find_root().command, {}, "ufile", "_UFILE_COMPLETE")
    # Not script.source(): for bash it would run bash to see whether it is new enough.
    source = script.source_template % script.source_vars()
    # The bash of macOS (3.2) has no `nosort`.
    plain = f"complete -F {script.func_name} ufile"
    nosort = plain.replace("complete", "complete -o nosort", 1)
    click.echo(source.replace(nosort, f"{nosort} 2>/dev/null || {plain}"))
    return 0
