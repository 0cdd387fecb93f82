"""The signature of a request: what is signed, how, and the requests hook that puts it there.

Knows nothing of sockets. The private key goes into the HMAC and nowhere else: not into repr, not
into exceptions.

    StringToSign = VERB \\n Content-MD5 \\n Content-Type \\n Date \\n
                   CanonicalizedUCloudHeaders "/" bucket "/" key
    signature    = base64(HMAC-SHA1(private key, StringToSign))

Source: UCloud's API reference, "Signature". Its worked example contradicts its own sorting rule;
headers are sorted here. The key is signed raw, as UTF-8, while the URL has it percent-encoded.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import requests.auth

from ufile_cli.credentials import Credentials

if TYPE_CHECKING:
    from requests import PreparedRequest

__all__ = ["UCloudAuth", "authorization", "canonical_headers", "sign", "string_to_sign"]

_PREFIX = "x-ucloud-"

Headers = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]


def canonical_headers(headers: Headers) -> str:
    """The `x-ucloud-*` headers as they are signed: sorted by name, one `name:value\\n` each.

    Args:
        headers: a mapping, or pairs where a name may come more than once: values of one name
            are joined by `,` in the order they came. White space inside a value is folded to one
            space and dropped at its ends. `X-Ufile-*` headers are not signed.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        lowered = name.lower().strip()
        if lowered.startswith(_PREFIX):
            text = value.decode("utf-8") if isinstance(value, bytes) else value
            values.setdefault(lowered, []).append(" ".join(text.split()))
    return "".join(f"{name}:{','.join(values[name])}\n" for name in sorted(values))


def string_to_sign(
    method: str,
    bucket: str,
    key: str,
    *,
    content_md5: str = "",
    content_type: str = "",
    date: str = "",
    headers: Headers = (),
) -> str:
    """The text whose HMAC is the signature.

    Args:
        method: the verb.
        bucket: the bucket's name.
        key: the key, raw; empty for calls on the bucket itself.
        content_md5: the request's own header value (lower-case hex), or empty.
        content_type: the request's own header value, or empty.
        date: the request's own header value, or empty; `Expires` for a signature in the query.
        headers: all headers; those that are to be signed are picked out.
    """
    return (
        f"{method.upper()}\n{content_md5}\n{content_type}\n{date}\n"
        f"{canonical_headers(headers)}/{bucket}/{key}"
    )


def sign(private_key: str, text: str) -> str:
    """Standard base64 of HMAC-SHA1 over the UTF-8 of `text`."""
    digest = hmac.new(private_key.encode("utf-8"), text.encode("utf-8"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def authorization(credentials: Credentials, text: str) -> str:
    """The value of the Authorization header."""
    return f"UCloud {credentials.public_key}:{sign(credentials.private_key, text)}"


class UCloudAuth(requests.auth.AuthBase):
    """Signs a prepared request for one bucket and key.

    Being an auth object it also keeps requests from putting a `.netrc` entry in its place.
    """

    def __init__(self, credentials: Credentials, bucket: str, key: str) -> None:
        self._credentials = credentials
        self._bucket = bucket
        self._key = key

    def __repr__(self) -> str:
        return f"UCloudAuth({self._credentials.public_key!r}, {self._bucket!r}, {self._key!r})"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        headers = request.headers
        text = string_to_sign(
            request.method or "GET",
            self._bucket,
            self._key,
            content_md5=_text(headers.get("Content-MD5")),
            content_type=_text(headers.get("Content-Type")),
            date=_text(headers.get("Date")),
            headers=headers.items(),
        )
        value: Any = authorization(self._credentials, text)
        # A public key of odd characters must not end as a UnicodeEncodeError inside http.client.
        request.headers["Authorization"] = value if value.isascii() else value.encode("utf-8")
        return request


def _text(value: str | bytes | None) -> str:
    if value is None:
        return ""
    return value.decode("utf-8") if isinstance(value, bytes) else value
