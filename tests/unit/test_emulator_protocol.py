"""The emulator's reading of requests: targets, hosts, calls, signatures, ETags, ranges."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.emulator.protocol import (
    ETAG_BLOCK,
    ByteRange,
    Call,
    ContentHash,
    Keys,
    Refusal,
    Request,
    bucket_of,
    call_of,
    check_metadata,
    check_signature,
    content_length,
    object_etag,
    parse_head,
    parse_range,
    sign,
    string_to_sign,
)

KEYS = Keys("public", "private")


def request(line: str, *headers: str) -> Request:
    return parse_head("\r\n".join((line + " HTTP/1.1", *headers)).encode("utf-8"))


@given(st.text(min_size=1))
def test_a_key_arrives_as_it_was_asked_for(key: str) -> None:
    assert request("PUT /" + quote(key)).key == key
    assert request("PUT /" + quote(key, safe="") + "?uploads").key == key


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/a%20b", "a b"),
        ("/a+b", "a+b"),
        ("//a", "/a"),
        ("/a//b/", "a//b/"),
        ("/./a/../b", "./a/../b"),
        ("/%3Fa%23b%25", "?a#b%"),
        ("/%2520", "%20"),
        ("/a#b", "a#b"),
        ("/中", "中"),
        ("/", ""),
        ("http://demo.example.com/a//b", "a//b"),
        ("http://demo.example.com", ""),
    ],
)
def test_targets(target: str, key: str) -> None:
    assert request("GET " + target).key == key


def test_a_plus_in_the_query_is_a_space() -> None:
    read = request("GET /?list&prefix=a+b%2Bc&empty=&list")
    assert read.query == (("list", ""), ("prefix", "a b+c"), ("empty", ""), ("list", ""))
    assert read.parameter("prefix") == "a b+c"
    assert read.parameter("none") is None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET / HTTP/2.0",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nname : value",
        b"GET / HTTP/1.1\r\n folded: value",
        b"GET / HTTP/1.1\r\nname: va\x00lue",
        b"GET /%FF HTTP/1.1",
        b"GET /?a=%FF HTTP/1.1",
        b"GET a HTTP/1.1",
        b"G\xc3\xa4T / HTTP/1.1",
    ],
)
def test_malformed_heads(head: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_head(head)
    assert refusal.value.status == 400


@given(st.binary())
def test_no_head_does_more_than_be_refused(head: bytes) -> None:
    try:
        read = parse_head(head)
        call_of(read)
        content_length(read)
    except Refusal as refusal:
        assert refusal.status == 400


@given(st.binary(min_size=1))
def test_keys_that_are_not_utf8_are_refused(raw: bytes) -> None:
    line = b"GET /" + quote_from_bytes(raw).encode() + b" HTTP/1.1"
    try:
        expected = raw.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(Refusal):
            parse_head(line)
    else:
        assert parse_head(line).key == expected


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("demo.127.0.0.1:8770", "demo"),
        ("demo.cn-bj.ufileos.com", "demo"),
        ("Demo.localhost:1234", "demo"),
        ("demo.cn-bj.ufileos.com.", "demo"),
        ("files.example.com", "bound"),
        ("127.0.0.1:8770", None),
        ("127.0.0.1", None),
        ("localhost:1", None),
        ("[::1]:8770", None),
        ("demo", None),
        ("un_fit.example.org", None),
        ("..", None),
        ("", None),
        (None, None),
    ],
)
def test_the_bucket_of_a_host(host: str | None, bucket: str | None) -> None:
    assert bucket_of(host, {"files.example.com": "bound"}) == bucket


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("POST /k?uploads", Call.INITIATE),
        ("PUT /k?uploadId=u&partNumber=0", Call.PART),
        ("POST /k?uploadId=u&newKey=n", Call.FINISH),
        ("DELETE /k?uploadId=u", Call.ABORT),
        ("GET /?muploadpart&uploadId=u", Call.LIST_PARTS),
        ("GET /?muploadid", Call.LIST_UPLOADS),
        ("GET /?list&prefix=a", Call.LIST),
        ("GET /?listobjects&prefix=a", Call.LIST_OBJECTS),
        ("PUT /k", Call.PUT),
        ("PUT /k?Signature=a&Expires=1&UCloudPublicKey=b", Call.PUT),
        ("HEAD /k", Call.HEAD),
        ("GET /k", Call.GET),
        ("GET /k?list", Call.GET),
        ("DELETE /k", Call.DELETE),
        ("PUT /k?restore", Call.UNKNOWN),
        ("PUT /k?storageClass=IA", Call.UNKNOWN),
        ("POST /k?opmeta", Call.UNKNOWN),
        ("POST /", Call.UNKNOWN),
        ("GET /", Call.UNKNOWN),
        ("PATCH /k", Call.UNKNOWN),
    ],
)
def test_calls(line: str, call: Call) -> None:
    assert call_of(request(line)) is call


def test_a_copy_is_not_a_put() -> None:
    assert call_of(request("PUT /k", "X-Ufile-Copy-Source: /b/k")) is Call.UNKNOWN


def test_string_to_sign_of_the_worked_example() -> None:
    read = request(
        "PUT /demokey?ignored=1",
        "Content-Type: image/jpeg",
        "X-UCloud-Foo: foo",
        "X-UCloud-Bar: bar1",
        "x-ucloud-bar:  bar2   folded",
        "X-Ufile-Meta-No: part",
    )
    assert string_to_sign(read, "demobucket", "") == (
        "PUT\n\nimage/jpeg\n\nx-ucloud-bar:bar1,bar2 folded\nx-ucloud-foo:foo\n/demobucket/demokey"
    )


def signed(line: str, text: str, *headers: str, keys: Keys = KEYS) -> Request:
    mac = hmac.new(keys.private.encode(), text.encode(), hashlib.sha1).digest()
    signature = base64.b64encode(mac).decode()
    return request(line, f"Authorization: UCloud {keys.public}:{signature}", *headers)


def test_header_signatures() -> None:
    text = "PUT\nmd5\ntype\ntoday\n/demo/käse?"
    headers = ("Content-MD5: md5", "Content-Type: type", "Date: today")
    check_signature(signed("PUT /k%C3%A4se%3F", text, *headers), "demo", KEYS, 0)
    with pytest.raises(Refusal, match="the signature is wrong") as wrong:
        check_signature(signed("PUT /other", text, *headers), "demo", KEYS, 0)
    assert wrong.value.status == 401
    stranger = signed("PUT /k%C3%A4se%3F", text, *headers, keys=Keys("other", "private"))
    with pytest.raises(Refusal) as unknown:
        check_signature(stranger, "demo", KEYS, 0)
    assert unknown.value.status == 403


def test_bucket_calls_are_signed_without_a_key() -> None:
    check_signature(signed("GET /?muploadid&limit=3", "GET\n\n\n\n/demo/"), "demo", KEYS, 0)


@pytest.mark.parametrize(
    "value", ["", "UCloud", "UCloud public", "Basic public:x", "UCloud :", "ucloud public:x"]
)
def test_authorizations_that_are_none(value: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check_signature(request("GET /k", f"Authorization: {value}"), "demo", KEYS, 0)
    assert refusal.value.status in (401, 403)


def test_query_signatures() -> None:
    expires = int(time.time()) + 60
    signature = sign(f"GET\n\n\n{expires}\n/demo/k", KEYS.private)
    line = f"GET /k?UCloudPublicKey=public&Expires={expires}&Signature={quote(signature)}"
    check_signature(request(line), "demo", KEYS, time.time())
    check_signature(request(line, "Content-Type: text/plain"), "demo", KEYS, time.time())
    with pytest.raises(Refusal, match="expired"):
        check_signature(request(line), "demo", KEYS, expires + 1)
    later = line.replace(f"Expires={expires}", f"Expires={expires + 1}")
    with pytest.raises(Refusal, match="wrong"):
        check_signature(request(later), "demo", KEYS, time.time())
    with pytest.raises(Refusal, match="expired"):
        check_signature(request(line.replace(str(expires), "soon")), "demo", KEYS, 0)


def test_a_request_without_a_signature() -> None:
    with pytest.raises(Refusal, match="no signature"):
        check_signature(request("GET /k"), "demo", KEYS, 0)


def test_the_private_key_does_not_show() -> None:
    assert "private" not in repr(Keys("public", "private")).replace("private=", "")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ((), 0),
        (("Content-Length: 5",), 5),
        (("Content-Length: 5", "Content-Length: 5"), 5),
        (("Transfer-Encoding: chunked",), None),
        (("Transfer-Encoding: Chunked", "Content-Length: 0"), None),
    ],
)
def test_content_lengths(headers: tuple[str, ...], length: int | None) -> None:
    assert content_length(request("PUT /k", *headers)) == length


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Content-Length: ٣",),
        ("Content-Length: " + "9" * 30,),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Transfer-Encoding: chunked", "Content-Length: 6"),
        ("Transfer-Encoding: gzip",),
    ],
)
def test_contradicting_lengths(headers: tuple[str, ...]) -> None:
    with pytest.raises(Refusal):
        content_length(request("PUT /k", *headers))


def test_metadata_limits() -> None:
    headers = [("X-Ufile-Meta-Who-1", "me"), ("x-ufile-meta-b", "c"), ("X-Other", "d")]
    assert check_metadata(headers) == {"Who-1": "me", "b": "c"}
    with pytest.raises(Refusal):
        check_metadata([("X-Ufile-Meta-under_score", "x")])
    with pytest.raises(Refusal):
        check_metadata([("X-Ufile-Meta-a", "x" * 8192)])


@pytest.mark.parametrize(
    ("value", "span"),
    [
        (None, None),
        ("bytes=0-4", ByteRange(0, 5)),
        ("bytes=3-", ByteRange(3, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
        ("bytes=5-99", ByteRange(5, 10)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-4", None),
    ],
)
def test_ranges(value: str | None, span: ByteRange | None) -> None:
    assert parse_range(value, 10) == span


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_ranges_outside(value: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_range(value, 10)
    assert refusal.value.status == 416
    assert refusal.value.headers == {"Content-Range": "bytes */10"}


def reference_etag(content: bytes) -> str:
    """The formula of the protocol page, written out."""
    blocks = [content[at : at + ETAG_BLOCK] for at in range(0, len(content), ETAG_BLOCK)]
    if len(blocks) <= 1:
        digest = hashlib.sha1(content).digest()
    else:
        digest = hashlib.sha1(b"".join(hashlib.sha1(one).digest() for one in blocks)).digest()
    return base64.urlsafe_b64encode(len(blocks).to_bytes(4, "little") + digest).decode()


@pytest.mark.parametrize(
    "size", [0, 1, ETAG_BLOCK - 1, ETAG_BLOCK, ETAG_BLOCK + 1, 3 * ETAG_BLOCK, 3 * ETAG_BLOCK + 7]
)
@pytest.mark.parametrize("step", [ETAG_BLOCK, 1_000_003])
def test_object_etags(size: int, step: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    hashed = ContentHash(md5=True)
    for at in range(0, size, step):
        hashed.update(memoryview(content)[at : at + step])
    assert hashed.object_etag() == reference_etag(content)
    assert object_etag(size, [hashed.digests()]) == reference_etag(content)
    assert len(hashed.object_etag()) == 32
    assert hashed.md5() == hashlib.md5(content).hexdigest()
    assert hashed.size == size


def test_the_forms_of_part_etags() -> None:
    one, two = ContentHash(), ContentHash(whole=True)
    one.update(memoryview(b"abc"))
    two.update(memoryview(bytes(ETAG_BLOCK + 1)))
    sha = hashlib.sha1(b"abc").digest()
    assert one.part_etag() == base64.urlsafe_b64encode(sha).decode()
    assert one.part_etag("object") == one.object_etag()
    assert two.part_etag() == two.object_etag()
    whole = hashlib.sha1(bytes(ETAG_BLOCK + 1)).digest()
    assert two.part_etag("content") == base64.urlsafe_b64encode(whole).decode()
    assert len(two.part_etag("blocks")) == 28
    assert len(two.part_etag("hex")) == 32
    assert two.part_etag("opaque").startswith("v1-")
    assert len({two.part_etag(form) for form in ("", "content", "blocks", "hex", "opaque")}) == 5
