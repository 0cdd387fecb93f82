"""Endpoints: every form of the command line, what is the same place, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.errors import EndpointError, UsageError
from ufile_cli.us3.endpoints import REGIONS, Endpoint, check_bucket, check_key

KEYS = json.loads((Path(__file__).parent.parent / "vectors" / "keys.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cn-bj", "https://cn-bj.ufileos.com"),
        ("CN-BJ", "https://cn-bj.ufileos.com"),
        (" cn-bj ", "https://cn-bj.ufileos.com"),
        (".cn-bj.ufileos.com", "https://cn-bj.ufileos.com"),
        ("cn-bj.ufileos.com", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com/", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com//", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com:443", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com:", "https://cn-bj.ufileos.com"),
        ("https://cn-bj.ufileos.com.", "https://cn-bj.ufileos.com"),
        ("HTTPS://CN-BJ.UFileOS.com", "https://cn-bj.ufileos.com"),
        ("http://cn-bj.ufileos.com:80", "http://cn-bj.ufileos.com"),
        ("http://cn-bj.ufileos.com:443", "http://cn-bj.ufileos.com:443"),
        ("https://us3.example.com:8443", "https://us3.example.com:8443"),
        ("http://127.0.0.1:8770/", "http://127.0.0.1:8770"),
        ("http://[::1]:8770", "http://[::1]:8770"),
        ("http://[0:0:0:0:0:0:0:1]:8770", "http://[::1]:8770"),
        ("http://localhost:8770", "http://localhost:8770"),
        ("http://internal-cn-sh2-01.ufileos.com", "http://internal-cn-sh2-01.ufileos.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("local", "local"),
        ("LOCAL", "local"),
    ],
)
def test_forms(text: str, canonical: str) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint.canonical == canonical
    assert Endpoint.parse(endpoint.canonical) == endpoint


@pytest.mark.parametrize("name", REGIONS)
def test_regions(name: str) -> None:
    public = Endpoint.parse(name)
    internal = Endpoint.parse(name, internal=True)
    assert public.address("demo").base_url == f"https://demo.{name}.ufileos.com"
    assert internal.address("demo").base_url == f"https://demo.{REGIONS[name].internal}"
    assert public == Endpoint.parse("." + REGIONS[name].public)
    assert Endpoint.parse(internal.canonical) == internal


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("cn-bejing", "did you mean"),
        ("cn-bj1", "did you mean cn-bj"),
        ("mars", "hk"),
        ("localhost", "http://"),
        ("127.0.0.1", "http://"),
        ("127.0.0.1:8770", "http://"),
        ("ftp://cn-bj.ufileos.com", "https://"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://user:secret@cn-bj.ufileos.com", "credentials"),
        ("user:secret@cn-bj.ufileos.com", "no URL"),
        ("https://cn-bj.ufileos.com/bucket", "path"),
        ("https://cn-bj.ufileos.com?x=1", "query"),
        ("https://cn-bj.ufileos.com#x", "fragment"),
        ("https://cn-bj.ufileos.com/?", "query"),
        ("https://cn-bj.ufileos.com:0", "port"),
        ("https://cn-bj.ufileos.com:65536", "port"),
        ("https://cn-bj.ufileos.com:+80", "port"),
        ("https://cn-bj.ufileos.com:٨٠", "port"),
        ("https://cn-bj.ufileos.com:80:90", "port"),
        ("https://a b.com", "spaces"),
        ("https://cn-bj.ufileos.com\x1b[31m", "control"),
        ("https://cn-bj.ufileos.com\\@evil.com", "backslashes"),
        ("https://a..b", "host"),
        ("https://-a.com", "host"),
        ("https://" + "a" * 64 + ".com", "host"),
        ("https://127.1", "IP address"),
        ("https://127.0.0.256", "IP address"),
        ("https://[::1", "bracket"),
        ("https://[127.0.0.1]", "IPv6"),
        ("https://[fe80::1%25eth0]", "IPv6"),
        ("https://%63n-bj.ufileos.com", "host"),
        (".", "host"),
        ("https://mybucket.cn-bj.ufileos.com", "bucket"),
        ("mybucket.cn-bj.ufileos.com", "bucket"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(EndpointError) as caught:
        Endpoint.parse(text)
    told = f"{caught.value.message} {caught.value.hint}"
    assert says in told
    assert "secret" not in told
    assert caught.value.message.isprintable()


def test_internal_goes_with_a_region_alone() -> None:
    for text in ("https://cn-bj.ufileos.com", ".cn-bj.ufileos.com", "local"):
        with pytest.raises(EndpointError, match="internal"):
            Endpoint.parse(text, internal=True)


def test_custom_domain() -> None:
    endpoint = Endpoint.parse("https://Files.Example.com/", custom_domain=True)
    address = endpoint.address("any.Bucket")
    assert endpoint.custom_domain
    assert address.base_url == "https://files.example.com"
    assert address.host_header == "files.example.com"
    assert address.object_url("a b") == "https://files.example.com/a%20b"
    assert Endpoint.parse(endpoint.canonical, custom_domain=True) == endpoint
    assert endpoint != Endpoint.parse(endpoint.canonical)
    bound = Endpoint.parse("https://mybucket.cn-bj.ufileos.com", custom_domain=True)
    assert bound.address("mybucket").base_url == "https://mybucket.cn-bj.ufileos.com"
    for text in ("cn-bj", "local", ".cn-bj.ufileos.com"):
        with pytest.raises(EndpointError):
            Endpoint.parse(text, custom_domain=True)


@pytest.mark.parametrize(
    ("text", "base_url", "host_header"),
    [
        ("https://us3.example.com:8443", "https://demo.us3.example.com:8443", None),
        ("http://127.0.0.1:8770", "http://127.0.0.1:8770", "demo.127.0.0.1:8770"),
        ("http://localhost:8770", "http://localhost:8770", "demo.localhost:8770"),
        ("http://[::1]:8770", "http://[::1]:8770", "demo.[::1]:8770"),
        ("http://10.1.2.3", "http://10.1.2.3", "demo.10.1.2.3"),
    ],
)
def test_addresses(text: str, base_url: str, host_header: str | None) -> None:
    address = Endpoint.parse(text).address("demo")
    assert address.base_url == base_url
    assert address.host_header == (host_header or base_url.partition("://")[2])


def test_local() -> None:
    endpoint = Endpoint.parse("local")
    assert endpoint.is_local
    assert not endpoint.is_public_plain_http
    with pytest.raises(ValueError, match="local"):
        endpoint.address("demo")
    address = endpoint.local_address("demo", "http://127.0.0.1:4711")
    assert address.base_url == "http://127.0.0.1:4711"
    assert address.host_header == "demo.127.0.0.1:4711"
    assert address.object_url("a b") == "local://demo/a%20b"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("http://cn-bj.ufileos.com", True),
        ("http://us3.example.com", True),
        ("http://8.8.8.8", True),
        ("https://cn-bj.ufileos.com", False),
        ("http://127.0.0.1:8770", False),
        ("http://[::1]", False),
        ("http://localhost", False),
        ("http://192.168.1.2", False),
        ("http://internal-cn-sh2-01.ufileos.com", False),
        ("http://ufile.cn-north-02.ucloud.cn", False),
        ("http://storage", False),
        ("http://storage.lan", False),
    ],
)
def test_public_plain_http(text: str, public: bool) -> None:
    assert Endpoint.parse(text).is_public_plain_http is public


@pytest.mark.parametrize("case", KEYS["cases"], ids=lambda case: repr(case["key"]))
def test_keys(case: dict[str, str]) -> None:
    address = Endpoint.parse("cn-bj").address("demo")
    assert address.url(case["key"]) == "https://demo.cn-bj.ufileos.com" + case["target"]
    assert address.url(case["key"], "uploads").endswith(case["target"] + "?uploads")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_comes_back_as_it_was(key: str) -> None:
    target = Endpoint.parse("cn-bj").address("demo").target(key)
    assert target.isascii()
    assert not set(target) & set("?# \r\n\0")
    assert unquote(target[1:]) == key


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except EndpointError as error:
        assert error.message
        return
    assert Endpoint.parse(endpoint.canonical) == endpoint


@pytest.mark.parametrize("bucket", ["demo", "a", "my-bucket-2", "a" * 63, "Demo", "a_b"])
def test_buckets(bucket: str) -> None:
    check_bucket(bucket)


@pytest.mark.parametrize(
    "bucket",
    ["", "-a", "a-", "a.b", "a/b", "a b", "a" * 64, "é", "a\n", "a@b", "a:1", "..", "a?b", "a%2f"],
)
def test_buckets_refused(bucket: str) -> None:
    with pytest.raises(UsageError):
        check_bucket(bucket)
    with pytest.raises(UsageError):
        Endpoint.parse("cn-bj").address(bucket)


@pytest.mark.parametrize("key", ["", "a\0b", "a\ud800", "a" * 8001, "\u4e2d" * 2667])
def test_keys_refused(key: str) -> None:
    check_key("a" * 8000)
    with pytest.raises(UsageError):
        check_key(key)


def test_importing_is_cheap() -> None:
    code = (
        "import sys, ufile_cli.us3.endpoints;"
        "bad = {'requests', 'urllib3', 'http.client', 'ssl'} & set(sys.modules);"
        "sys.exit(f'imports {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
