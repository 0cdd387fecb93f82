"""Resumable uploads to UCloud's object storage US3 (UFile).

The public names are imported when they are first asked for, since `ufile --version` pays for
every import of this package.
"""

from typing import TYPE_CHECKING

from ufile_cli._version import VERSION as __version__  # noqa: N811

if TYPE_CHECKING:
    from ufile_cli.errors import SourceChanged, SourceError, UFileError
    from ufile_cli.multipartuploadufile import MultipartUploadUFile
    from ufile_cli.responseinfo import ResponseInfo

__all__ = [
    "MultipartUploadUFile",
    "ResponseInfo",
    "SourceChanged",
    "SourceError",
    "UFileError",
    "__version__",
]

_HOMES = {
    "MultipartUploadUFile": "multipartuploadufile",
    "ResponseInfo": "responseinfo",
    "SourceChanged": "errors",
    "SourceError": "errors",
    "UFileError": "errors",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
