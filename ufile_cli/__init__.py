"""Resumable uploads to UCloud's object storage US3 (UFile).

The public names are imported when they are first asked for, since `ufile --version` pays for
every import of this package.
"""

from ufile_cli._version import VERSION as __version__  # noqa: N811

__all__ = ["__version__"]
