"""UCloud's own Python SDK as the peer: `sdk_client.py PORT FILE THREADS`."""

from __future__ import annotations

import socket
import sys
from typing import Any

from ufile import multipartuploadufile

SUFFIX = ".us3.test"
real = socket.getaddrinfo


def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Buckets are host names; here they are this machine."""
    return real("127.0.0.1" if str(host).endswith(SUFFIX) else host, *args, **kwargs)


def main() -> None:
    port, file, threads = sys.argv[1:4]
    socket.getaddrinfo = resolve
    client = multipartuploadufile.MultipartUploadUFile("public", "private", f"{SUFFIX}:{port}")
    _, answer = client.uploadfile("demo", "big", file, maxthread=int(threads))
    if answer.status_code != 200:
        sys.exit(f"the SDK failed: {answer}")


if __name__ == "__main__":
    main()
