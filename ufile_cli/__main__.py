"""`python -m ufile_cli` and the command `ufile`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; does not return."""
    # Asked often by scripts and needing nothing: not worth the import of anything.
    if sys.argv[1:] == ["--version"]:
        from ufile_cli._version import VERSION

        sys.stdout.write(f"ufile {VERSION}\n")
        sys.exit(0)
    try:
        from ufile_cli.cli.main import run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
