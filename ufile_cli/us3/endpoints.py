"""Where a bucket is: region, suffix, URL, custom domain or `local`, turned into an address.

Pure text work: opens no socket, asks no name service, imports nothing of requests, so that
commands that never talk to a server can read endpoints at no cost.

Invariants: two texts that mean the same place have the same `Endpoint.canonical`; a canonical
text parses to an equal endpoint; nothing that was typed as a credential is ever echoed; the path
that `Address.url` makes decodes to the very key it was given.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote

from ufile_cli.errors import EndpointError, UsageError

__all__ = ["LOCAL", "REGIONS", "Address", "Endpoint", "Region", "check_bucket", "check_key"]

LOCAL = "local"
"""The endpoint of the server embedded in this very process."""


class Region(NamedTuple):
    """A region's two suffixes, without the leading dot."""

    public: str
    internal: str


# UCloud's table of regions. Suffixes follow no rule that would let a missing one be guessed.
REGIONS: dict[str, Region] = {
    "cn-bj": Region("cn-bj.ufileos.com", "ufile.cn-north-02.ucloud.cn"),
    "cn-sh2": Region("cn-sh2.ufileos.com", "internal-cn-sh2-01.ufileos.com"),
    "cn-gd": Region("cn-gd.ufileos.com", "internal-cn-gd-02.ufileos.com"),
    "hk": Region("hk.ufileos.com", "internal-hk-01.ufileos.com"),
    "us-ca": Region("us-ca.ufileos.com", "internal-us-ca-01.ufileos.com"),
    "sg": Region("sg.ufileos.com", "internal-sg-01.ufileos.com"),
    "idn-jakarta": Region("idn-jakarta.ufileos.com", "internal-idn-jakarta-01.ufileos.com"),
    "tw-tp": Region("tw-tp.ufileos.com", "internal-tw-tp.ufileos.com"),
    "afr-nigeria": Region("afr-nigeria.ufileos.com", "internal-afr-nigeria.ufileos.com"),
    "bra-saopaulo": Region("bra-saopaulo.ufileos.com", "internal-bra-saopaulo.ufileos.com"),
    "uae-dubai": Region("uae-dubai.ufileos.com", "internal-uae-dubai.ufileos.com"),
    "ge-fra": Region("ge-fra.ufileos.com", "internal-ge-fra.ufileos.com"),
    "vn-sng": Region("vn-sng.ufileos.com", "internal-vn-sng.ufileos.com"),
    "us-ws": Region("us-ws.ufileos.com", "internal-us-ws.ufileos.com"),
    "ind-mumbai": Region("ind-mumbai.ufileos.com", "internal-ind-mumbai.ufileos.com"),
    "kr-seoul": Region("kr-seoul.ufileos.com", "internal-kr-seoul.ufileos.com"),
    "jpn-tky": Region("jpn-tky.ufileos.com", "internal-jpn-tky.ufileos.com"),
    "th-bkk": Region("th-bkk.ufileos.com", "internal-th-bkk.ufileos.com"),
}

_PUBLIC_SUFFIXES = frozenset(region.public for region in REGIONS.values())
_LONGEST_KEY = 8000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_BUCKET = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
# Names that no public name service answers for.
_PRIVATE_NAMES = (".local", ".lan", ".internal", ".localhost", ".home.arpa", ".ucloud.cn")


class Address(NamedTuple):
    """One bucket's place on the wire.

    Attributes:
        base_url: `scheme://host[:port]` to connect to.
        host_header: what the Host header says; names the bucket where the URL can't.
        bucket: the bucket's name, as it is signed.
        shown: what a person sees in the place of `base_url`.
    """

    base_url: str
    host_header: str
    bucket: str
    shown: str

    def target(self, key: str, query: str = "") -> str:
        """The request target: every byte of the key but unreserved ones and `/` is encoded.

        Dot segments, empty segments and a leading `/` are part of the key and stay.
        """
        path = "/" + quote(key.encode("utf-8"), safe="/")
        return f"{path}?{query}" if query else path

    def url(self, key: str, query: str = "") -> str:
        """The URL to send to; `query` is already encoded."""
        return self.base_url + self.target(key, query)

    def object_url(self, key: str) -> str:
        """The URL that a person is shown."""
        return self.shown + self.target(key)


class Endpoint(NamedTuple):
    """A place where buckets live, or (a custom domain) where one bucket lives.

    Attributes:
        scheme: `https`, `http` or `local`.
        host: lower-cased name, IPv4 address, or IPv6 address in brackets; empty for `local`.
        port: a port other than the scheme's own, or None.
        custom_domain: the host is the bucket's own.
    """

    scheme: str
    host: str
    port: int | None = None
    custom_domain: bool = False

    @classmethod
    def parse(cls, text: str, *, internal: bool = False, custom_domain: bool = False) -> Endpoint:
        """Read what was typed: region, suffix, URL, or `local`.

        Raises:
            EndpointError: it is none of these; the message says what to write instead.
        """
        text = text.strip()
        if not text:
            raise EndpointError("the endpoint is empty", hint=_FORMS)
        if _UNPRINTABLE.search(text) or "\\" in text:
            raise EndpointError(
                "the endpoint holds spaces, backslashes or control characters", hint=_FORMS
            )
        lowered = text.lower()
        if internal and lowered not in REGIONS:
            raise EndpointError(
                "--internal goes with the name of a region; give the intranet address itself as "
                "a URL otherwise"
            )
        if lowered == LOCAL or lowered in REGIONS:
            if custom_domain:
                raise EndpointError(
                    "--custom-domain needs the domain as a URL, such as https://files.example.com"
                )
            if lowered == LOCAL:
                return cls(LOCAL, "")
            region = REGIONS[lowered]
            return cls("https", region.internal if internal else region.public)
        if "://" in text:
            return _parse_url(text, custom_domain)
        if text.startswith("."):
            if custom_domain:
                raise EndpointError("a suffix is no custom domain: give the domain as a URL")
            return _build("https", text[1:], False)
        if "@" in text or any(mark in text for mark in "/?#"):
            raise EndpointError("the endpoint is no URL: it lacks https://", hint=_FORMS)
        if "." not in text:
            raise EndpointError(_unknown_region(lowered), hint=_FORMS)
        if _ip(text.partition(":")[0]) is not None:
            raise EndpointError(
                f"the endpoint {text} lacks http:// or https://", hint="say which of the two"
            )
        return _build("https", text, custom_domain)

    @property
    def is_local(self) -> bool:
        """Whether it is the server embedded in this process."""
        return self.scheme == LOCAL

    @property
    def canonical(self) -> str:
        """The one text for this place: what a journal keeps and what endpoints are compared by.

        A custom domain's text is that of its URL; `custom_domain` has to be kept beside it.
        """
        if self.is_local:
            return LOCAL
        return f"{self.scheme}://{self._netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this very machine."""
        address = _ip(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)

    @property
    def is_public_plain_http(self) -> bool:
        """Whether data would cross the open network unencrypted.

        Loopback, private and link-local addresses and names of intranets are not public.
        """
        if self.scheme != "http" or self.is_loopback:
            return False
        address = _ip(self.host)
        if address is not None:
            return not (address.is_private or address.is_link_local)
        if "." not in self.host or self.host.startswith("internal-"):
            return False
        return not self.host.endswith(_PRIVATE_NAMES)

    @property
    def _netloc(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def address(self, bucket: str) -> Address:
        """Where this bucket is.

        Raises:
            UsageError: the bucket's name can't be one label of a host name.
            ValueError: for `local`, whose port only the embedded server knows
                (see `local_address`).
        """
        if self.is_local:
            raise ValueError("the endpoint local has an address only once its server runs")
        if self.custom_domain:
            # The name is in the signature alone; it need not be a label of any host.
            if not bucket or not bucket.isprintable() or "/" in bucket:
                raise UsageError("the bucket's name is empty or holds slashes or control marks")
            base = self.canonical
            return Address(base, self._netloc, bucket, base)
        check_bucket(bucket)
        host_header = f"{bucket}.{self._netloc}"
        shown = f"{self.scheme}://{host_header}"
        # No name service knows bucket.127.0.0.1: there the Host header alone names the bucket.
        named_by_host = _ip(self.host) is not None or self.host == "localhost"
        return Address(self.canonical if named_by_host else shown, host_header, bucket, shown)

    def local_address(self, bucket: str, base_url: str) -> Address:
        """Where this bucket is in the embedded server that listens at `base_url`."""
        check_bucket(bucket)
        served = Endpoint.parse(base_url).address(bucket)
        return Address(served.base_url, served.host_header, bucket, f"local://{bucket}")


_FORMS = (
    "give a region (cn-bj), a suffix (.cn-bj.ufileos.com), a URL (https://cn-bj.ufileos.com) "
    "or local"
)


def _unknown_region(name: str) -> str:
    shown = name if len(name) <= 40 else name[:40] + "…"
    if name == "localhost":
        return "the endpoint localhost lacks http:// or https://"
    import difflib

    near = difflib.get_close_matches(name, REGIONS, n=1, cutoff=0.6)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"{shown} is no region this version knows ({', '.join(REGIONS)}){guess}"


def _parse_url(text: str, custom_domain: bool) -> Endpoint:
    # By hand: urllib.parse drops tabs and line breaks silently, takes ports like "+80", and
    # says nothing about where the credentials end.
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise EndpointError("the endpoint's URL must begin with https:// or http://")
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in netloc:
        raise EndpointError(
            "the endpoint's URL holds credentials; keys belong into UFILE_PUBLIC_KEY and "
            "UFILE_PRIVATE_KEY or a profile"
        )
    if not netloc:
        raise EndpointError("the endpoint's URL names no host")
    tail = rest[len(netloc) :]
    if tail.strip("/"):
        raise EndpointError(
            "the endpoint's URL must end after the host: no path, query or fragment"
        )
    return _build(scheme, netloc, custom_domain)


def _build(scheme: str, netloc: str, custom_domain: bool) -> Endpoint:
    """An endpoint of a host with or without port, checked and brought into its one form."""
    if netloc.startswith("["):
        host, bracket, after = netloc.partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise EndpointError("the endpoint's IPv6 address lacks its closing bracket")
        host, port_text = host + bracket, after[1:] if after else None
    else:
        host, colon, port_text_or_empty = netloc.partition(":")
        port_text = port_text_or_empty if colon else None
    port = _port(port_text)
    if port == _DEFAULT_PORTS[scheme]:
        port = None
    return Endpoint(scheme, _host(host, custom_domain), port, custom_domain)


def _port(text: str | None) -> int | None:
    if text is None or text == "":  # "host:" is "host" by RFC 3986
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise EndpointError("the endpoint's port is no number from 1 to 65535")
    return int(text)


def _host(host: str, custom_domain: bool) -> str:
    if host.startswith("["):
        address = _ip(host)
        if address is None or address.version != 6:
            raise EndpointError("the endpoint's host is no IPv6 address")
        return f"[{address.compressed}]"
    name = host.lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise EndpointError("the endpoint's host is no name of a host") from None
    name = name.removesuffix(".")
    if _ip(name) is not None:
        return name
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise EndpointError("the endpoint's host is no name of a host")
    if labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
        # "127.1" and the like: some resolvers take them for addresses, some don't.
        raise EndpointError("the endpoint's host is neither a name nor a whole IP address")
    if not custom_domain and name.partition(".")[2] in _PUBLIC_SUFFIXES:
        raise EndpointError(
            f"the endpoint {name} seems to hold the bucket's name already",
            hint=f"give https://{name.partition('.')[2]}, or add --custom-domain",
        )
    return name


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, or None for a name. Zones (%eth0) are not taken."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or "%" in host:
            return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_bucket(bucket: str) -> None:
    """Make sure that a bucket's name can be the first label of a host name.

    Looser than what the console lets one create (letters, digits, `-`; the server has the last
    word), but never so loose that the name could change the host that is talked to.

    Raises:
        UsageError: it can't.
    """
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            "the bucket's name must be 1 to 63 letters, digits and hyphens, with a letter or "
            "digit at both ends",
            hint="bucket and key are two arguments: BUCKET KEY, without a scheme or a slash"
            if "/" in bucket
            else None,
        )


def check_key(key: str) -> None:
    """Make sure that a key can be said in a URL and come back as the same key.

    Any other UTF-8 string is a key. The protocol names no limit to its length, and the server
    answers 414 or 400 to what it finds too long; but beyond 8000 bytes no server has to take the
    first line of a request (RFC 9112), and what is that long was hardly meant.

    Raises:
        UsageError: the key is empty, holds NUL, is not UTF-8, or longer than 8000 bytes.
    """
    if not key:
        raise UsageError("the key is empty")
    if "\0" in key:
        raise UsageError("the key holds a NUL character")
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError("the key is not UTF-8") from None
    if size > _LONGEST_KEY:
        raise UsageError(f"the key has {size:,} bytes; at most {_LONGEST_KEY:,} are possible")
