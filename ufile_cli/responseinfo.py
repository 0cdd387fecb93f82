"""What came of a call of the Python API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ufile_cli.errors import NetworkError, ServerError

__all__ = ["NETWORK_FAILURE", "ResponseInfo"]

NETWORK_FAILURE = -1
_SUCCESS = (200, 204, 206)
_LATER = (408, 425, 429)
_NO_SENSE = 502


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """The server's answer, or why there was none.

    Attributes:
        status_code: the HTTP status; -1 where the network failed, and only there. An answer with
            a status of success that makes no sense (a gateway's page) counts as 502.
        error: a sentence, None on success.
        x_session_id: names the request for UCloud's support; None where the server named none.
        ret_code: the server's RetCode, None where it named none.
        etag: the object's ETag without quotes; None on failure.
        content: the answer's body (at most 64 KiB); None where the network failed.
        content_type: its Content-Type, None where there was none.
        content_length: its length in bytes; None where the network failed.
    """

    status_code: int
    error: str | None = None
    x_session_id: str | None = None
    ret_code: int | None = None
    etag: str | None = None
    content: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    content_length: int | None = None

    def ok(self) -> bool:
        """Whether the object is stored."""
        return self.status_code in _SUCCESS

    def need_retry(self) -> bool:
        """Whether going on later may succeed: network failures, 5xx, 408, 425 and 429."""
        status = self.status_code
        return status == NETWORK_FAILURE or status >= 500 or status in _LATER

    @classmethod
    def stored(cls, etag: str, session_id: str | None) -> ResponseInfo:
        """The object is there, and is what was sent."""
        return cls(200, x_session_id=session_id, etag=etag, content=b"", content_length=0)

    @classmethod
    def of(cls, error: NetworkError | ServerError, sentence: str | None = None) -> ResponseInfo:
        """What an error says."""
        sentence = sentence or error.message
        if isinstance(error, NetworkError):
            return cls(NETWORK_FAILURE, error=sentence)
        said = [error.err_msg] if error.err_msg else []
        if error.ret_code is not None:
            said.append(f"RetCode {error.ret_code}")
        return cls(
            _NO_SENSE if 200 <= error.status < 300 else error.status,
            error=f"{sentence}: {', '.join(said)}" if said else sentence,
            x_session_id=error.session_id,
            ret_code=error.ret_code,
            content=error.body,
            content_type=error.content_type,
            content_length=len(error.body),
        )

    def said(self) -> dict[str, Any] | None:
        """The `ret` that goes with it: None on success, else the server's JSON or nothing."""
        if self.ok():
            return None
        try:
            said = json.loads(self.content or b"")
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}
