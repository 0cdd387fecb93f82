"""Every way in which an upload can fail, as one tree.

An error knows three things that nobody else should have to work out: the exit code of the
command it ends (`docs/exit-codes`, `cli.main` is the only reader), whether trying again may help
(`transient`, read by `multipart.retry`), and what to type next (`hint`). It never prints, and it
never carries a private key or an Authorization header.

    UFileError
    ├── UsageError             2   wrong usage; unknown or ambiguous journal id
    │   └── EndpointError      2   an endpoint that cannot be understood
    ├── NotConfigured         78   no keys or no endpoint
    ├── SourceError           66   the source is missing, unreadable, not a file, cut short
    │   ├── SourceChanged     66   other content than what was sent already
    │   ├── StreamDiffers     66   not the stream that was begun
    │   ├── StreamPassed      66   a part is needed that the stream is past
    │   └── CommandFailed     66   the COMMAND behind `--` failed
    ├── JournalWriteError     74   the journal can't be written
    ├── JournalDamaged         1   the journal can't be trusted
    ├── JournalBusy           75   another process works on it
    ├── NetworkError          75   no answer (transient)
    ├── ServerError                an answer that is no success
    │   ├── Refused            1   3xx, 4xx
    │   │   └── NotFound       1   404
    │   ├── CredentialsRefused 77  401, 403
    │   ├── ServerTrouble     75   5xx, 408, 425, 429 (transient)
    │   └── BadAnswer         75   an answer that makes no sense (transient)
    ├── IntegrityError         1   what is stored is not what was sent
    │   └── PartCorrupted      1   one part arrived as something else (transient: sent again)
    ├── VerifyFailed           1   `verify` found a difference
    ├── OutputLost             1   standard output can't be written
    └── Stopped       130/143/129  a signal
"""

from __future__ import annotations

from typing import Any, ClassVar

from ufile_cli.exitcodes import ExitCode

__all__ = [
    "BadAnswer",
    "CommandFailed",
    "CredentialsRefused",
    "EndpointError",
    "IntegrityError",
    "JournalBusy",
    "JournalDamaged",
    "JournalWriteError",
    "NetworkError",
    "NotConfigured",
    "NotFound",
    "OutputLost",
    "PartCorrupted",
    "Refused",
    "ServerError",
    "ServerTrouble",
    "SourceChanged",
    "SourceError",
    "Stopped",
    "StreamDiffers",
    "StreamPassed",
    "UFileError",
    "UsageError",
    "VerifyFailed",
]


class UFileError(Exception):
    """What happened, to which part, what the server said, and what to type next.

    Attributes:
        message: one sentence without a full stop at its end, naming the thing that failed.
        part: the part number it happened to, from 0, or None.
        hint: the next command to type, or None.
        exit_code: what the command ends with.
        transient: whether trying again may help.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, part: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.part = part
        self.hint = hint

    @property
    def code(self) -> int:
        """The exit code as a number; a signal's depends on the signal."""
        return int(self.exit_code)

    def as_json(self) -> dict[str, Any]:
        """For journals and `--json`: JSON types only, every key always there."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "part": self.part,
            "hint": self.hint,
            "exit_code": self.code,
            "status": None,
            "ret_code": None,
            "err_msg": None,
            "session_id": None,
        }


class UsageError(UFileError):
    """The command or the call was used wrongly; nothing was done."""

    exit_code = ExitCode.USAGE


class EndpointError(UsageError):
    """An endpoint that is neither region, suffix, URL nor `local`."""


class NotConfigured(UFileError):
    """No keys, or no endpoint."""

    exit_code = ExitCode.NOT_CONFIGURED


class SourceError(UFileError):
    """The source is missing, unreadable, not a file, or shorter than it was."""

    exit_code = ExitCode.SOURCE


class SourceChanged(SourceError):
    """The file holds other content than the parts that were sent of it."""


class StreamDiffers(SourceError):
    """The replayed stream is not the one that was begun.

    Attributes:
        offset: where in the stream the first differing part begins, in bytes, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        part: int | None = None,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, part=part, hint=hint)
        self.offset = offset


class StreamPassed(SourceError):
    """A part of the stream is needed that has passed already; it has to be piped again."""


class CommandFailed(SourceError):
    """The COMMAND whose output was uploaded did not end with 0."""


class JournalWriteError(UFileError):
    """The journal can't be written; what is recorded so far is still good."""

    exit_code = ExitCode.JOURNAL


class JournalDamaged(UFileError):
    """The journal's file can't be trusted; it is left as it is."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class JournalBusy(UFileError):
    """Another process holds the journal's lock."""

    exit_code = ExitCode.TEMPORARY


class NetworkError(UFileError):
    """No answer came: refused, reset, timed out, no such host.

    Attributes:
        reset: the connection broke while a request was under way. A server that refuses early
            (401, 413) and closes looks just like that, so one cheap call tells which it was.
        stale: a kept-alive connection broke before it carried anything back; this was no attempt.
        connecting: the connection was never made.
    """

    exit_code = ExitCode.TEMPORARY
    transient = True

    def __init__(
        self,
        message: str,
        *,
        part: int | None = None,
        hint: str | None = None,
        reset: bool = False,
        stale: bool = False,
        connecting: bool = False,
    ) -> None:
        super().__init__(message, part=part, hint=hint)
        self.reset = reset
        self.stale = stale
        self.connecting = connecting


class ServerError(UFileError):
    """An answer that is no success.

    Attributes:
        status: the HTTP status.
        ret_code: the server's RetCode, or None.
        err_msg: the server's ErrMsg, or None.
        session_id: X-SessionId, for UCloud's support, or None.
        retry_after: seconds the server asks to wait, or None.
        body: the beginning of the answer's body (at most 64 KiB), for the Python API.
        headers: a few of the answer's headers, lower-cased names.
        public_key: the public key that the request was signed with, or None.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        status: int,
        ret_code: int | None = None,
        err_msg: str | None = None,
        session_id: str | None = None,
        retry_after: float | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        credentials_tag: str | None = None,
        part: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, part=part, hint=hint)
        self.status = status
        self.ret_code = ret_code
        self.err_msg = err_msg
        self.session_id = session_id
        self.retry_after = retry_after
        self.body = body
        self.content_type = content_type
        self.credentials_tag = credentials_tag

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {
            "status": self.status,
            "ret_code": self.ret_code,
            "err_msg": self.err_msg,
            "session_id": self.session_id,
        }


class Refused(ServerError):
    """The server will not do it (3xx, 4xx): trying again is of no use."""


class NotFound(Refused):
    """404: no such bucket, object or upload id."""


class CredentialsRefused(ServerError):
    """401 or 403: wrong keys, a wrong signature, or a token without the right."""

    exit_code = ExitCode.CREDENTIALS


class ServerTrouble(ServerError):
    """5xx, 408, 425, 429: the server's trouble; try again later."""

    exit_code = ExitCode.TEMPORARY
    transient = True


class BadAnswer(ServerError):
    """An answer that makes no sense: a success without what it must carry, a gateway's page."""

    exit_code = ExitCode.TEMPORARY
    transient = True


class IntegrityError(UFileError):
    """What the server stored is not what was sent, or lies under another key."""

    exit_code = ExitCode.FAILED


class PartCorrupted(IntegrityError):
    """The server's ETag of a part is not that of its bytes: the part is sent again."""

    transient = True


class VerifyFailed(UFileError):
    """`verify` found that the object is not the file."""

    exit_code = ExitCode.FAILED


class OutputLost(UFileError):
    """Standard output can't be written (a full disk): a result was asked for and is not there."""

    exit_code = ExitCode.FAILED


class Stopped(UFileError):
    """A signal asked to stop; the journal is good and `resume` goes on.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, message: str, *, signum: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signum = signum

    @property
    def code(self) -> int:
        return 128 + self.signum
