"""Content types by file name, the same on every machine.

The standard library reads the system's tables, so the same file would get another type on
another host; here its built-in table is asked alone, after the types that backups and media need
and it lacks.
"""

from __future__ import annotations

import mimetypes

__all__ = ["DEFAULT_TYPE", "guess_type"]

DEFAULT_TYPE = "application/octet-stream"

_OURS = {
    ".7z": "application/x-7z-compressed",
    ".apk": "application/vnd.android.package-archive",
    ".avif": "image/avif",
    ".br": "application/x-brotli",
    ".bz2": "application/x-bzip2",
    ".csv": "text/csv",
    ".deb": "application/vnd.debian.binary-package",
    ".dmg": "application/x-apple-diskimage",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".img": "application/octet-stream",
    ".iso": "application/x-iso9660-image",
    ".jar": "application/java-archive",
    ".jsonl": "application/jsonl",
    ".lz4": "application/x-lz4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".ndjson": "application/x-ndjson",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".parquet": "application/vnd.apache.parquet",
    ".qcow2": "application/x-qemu-disk",
    ".rar": "application/vnd.rar",
    ".rpm": "application/x-rpm",
    ".sql": "application/sql",
    ".tgz": "application/gzip",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


def guess_type(name: str) -> str:
    """The Content-Type of a file of this name; `application/octet-stream` where it tells nothing.

    A compressed file is what it is: `dump.sql.gz` is application/gzip, since a server that said
    `application/sql` would have to say Content-Encoding too, and browsers would unpack it.
    """
    dot = name.rfind(".")
    if dot < 0:
        return DEFAULT_TYPE
    suffix = name[dot:].lower()
    if suffix in _OURS:
        return _OURS[suffix]
    return mimetypes.MimeTypes().types_map[True].get(suffix, DEFAULT_TYPE)
