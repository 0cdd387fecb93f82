"""Documents and part logs as text: round trips, unions, and every kind of damage."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli.etag import BLOCK, object_etag, part_etag
from ufile_cli.journal.document import (
    VERSION,
    Damage,
    Identity,
    JournalDocument,
    decode_digests,
    encode_digests,
    is_journal_id,
)
from ufile_cli.journal.partlog import CONFIRMED, head_line, part_line, read_log
from ufile_cli.journal.parts import PartTable

VECTORS = Path(__file__).parent.parent / "vectors" / "journals"
ID = "0a1b2c3d"
DIGEST = bytes(range(20))
ETAG = part_etag(DIGEST)
SOURCE = {"size": 1, "mtime_ns": 2, "ctime_ns": 3, "inode": 4}

texts = st.text(max_size=20)
names = st.dictionaries(texts, texts, max_size=4)
whole = st.integers(0, 2**62)


def documents() -> st.SearchStrategy[JournalDocument]:
    return st.builds(
        JournalDocument,
        journal_id=st.just(ID),
        kind=st.sampled_from(["file", "stream"]),
        bucket=texts,
        key=texts,
        endpoint=texts,
        created_at=texts,
        updated_at=texts,
        state=st.sampled_from(["running", "paused", "failed"]),
        custom_domain=st.booleans(),
        profile=st.none() | texts,
        uploadid=st.text(min_size=1, max_size=40),
        blocksize=st.sampled_from([1 << 20, BLOCK, 2 * BLOCK]),
        localfile=st.text(max_size=20) | st.just("/data/\udcff\udc80"),
        size=st.integers(10**9, 10**12),
        source=st.none()
        | st.builds(Identity, whole, st.integers(-(2**62), 2**62), whole, st.integers(0, 2**64)),
        end_seen=st.booleans(),
        stream_size=st.none() | st.integers(10**9, 10**12),
        mime_type=st.none() | texts,
        storage_class=st.none() | texts,
        header=names,
        meta=names,
        options=st.fixed_dictionaries({"threads": st.integers(1, 99), "patience": st.none()}),
        pid=st.integers(0, 2**22),
        host=texts,
        error=st.none() | st.fixed_dictionaries({"message": texts}),
        rewrites=st.integers(0, 10**6),
    )


@settings(max_examples=50)
@given(documents(), st.dictionaries(st.integers(0, 20), st.sampled_from([ETAG, "x-y", "z" * 32])))
def test_round_trip(document: JournalDocument, up: dict[int, str]) -> None:
    parts = PartTable(document.blocksize or 1)
    for number, etag in up.items():
        parts.record(number, etag, DIGEST)
    text = b"".join(document.chunks(parts))
    read, found = JournalDocument.parse(text, ID)
    assert read == document
    assert found is not None
    assert {n: (found.etag(n), found.digests(n)) for n in found} == {
        n: (etag, DIGEST) for n, etag in up.items()
    }
    as_json = json.loads(text)
    assert as_json["version"] == VERSION == 1
    assert list(as_json)[-1] == "etaglist"
    assert as_json["pausepartnumber"] == parts.pause
    assert len(as_json["etaglist"]) == parts.end


def base(**changes: Any) -> dict[str, Any]:
    document = JournalDocument(
        journal_id=ID,
        kind="file",
        bucket="bucket",
        key="key",
        endpoint="local",
        created_at="2024-01-01T00:00:00Z",
        updated_at="2024-01-01T00:00:00Z",
        uploadid="upload",
        blocksize=BLOCK,
        localfile="/file",
        size=10 * BLOCK,
        options={"threads": 4},
        rewrites=3,
    )
    parts = PartTable(BLOCK)
    parts.record(0, ETAG, DIGEST)
    parts.record(2, "opaque", DIGEST)
    raw: dict[str, Any] = json.loads(b"".join(document.chunks(parts)))
    return {**raw, **changes}


def parse(raw: object) -> tuple[JournalDocument, PartTable | None]:
    return JournalDocument.parse(json.dumps(raw).encode(), ID)


WRONG: list[Any] = [None, True, -1, 1.5, 10**30, "text", "", [], [None], {}, {"a": 1}]


@pytest.mark.parametrize("name", sorted(base()))
def test_wrong_types_in_every_field(name: str) -> None:
    """Each wrong value is damage, or one that the field may have."""
    may_be: dict[str, list[Any]] = {
        "pausepartnumber": WRONG,  # for other programs; counted anew here
        "destination_crc": [],
        "etaglist": [[], [None]],
        "sha1list": [[], [None]],
        "uploadid": ["text"],
        "blocksize": [],
        "localfile": ["text", ""],
        "source": [None],
        "options": [{}, {"a": 1}],
        "error": [None, {}, {"a": 1}],
        "result": [None],
        "profile": [None, "text", ""],
        "stream_size": [None],
        "end_seen": [True],
        "created_at": ["text", ""],
        "updated_at": ["text", ""],
        "host": ["text", ""],
        "header": [{}],
        "meta": [{}],
        "mime_type": [None],
        "storage_class": [None],
    }
    for value in WRONG:
        try:
            parse(base(**{name: value}))
        except Damage as damage:
            assert str(damage)
            accepted = False
        else:
            accepted = True
        assert accepted == (value in may_be.get(name, [])), (name, value)


@pytest.mark.parametrize("name", sorted(set(base()) - {"etaglist", "sha1list"}))
def test_missing_fields(name: str) -> None:
    raw = base()
    del raw[name]
    needed = {
        "version", "journal_id", "state", "kind", "bucket", "key", "endpoint", "created_at",
        "updated_at", "pid", "host", "rewrites", "localfile", "size", "uploadid", "blocksize",
    }  # fmt: skip
    if name in needed:
        with pytest.raises(Damage):
            parse(raw)
    else:
        parse(raw)


@pytest.mark.parametrize(
    "etag", ["", "a b", 'a"b', "a,b", "ä", "a\nb", "\x00", "x" * 257, 5, True, ["x"], {}]
)
def test_impossible_etags(etag: Any) -> None:
    with pytest.raises(Damage):
        parse(base(etaglist=[etag]))


@pytest.mark.parametrize("sha1", ["", "!", "AAAA", "ä", 5, encode_digests(bytes(40)), ["x"]])
def test_impossible_digests(sha1: Any) -> None:
    with pytest.raises(Damage):
        parse(base(sha1list=[sha1], etaglist=[ETAG]))


def test_more_parts_than_there_can_be() -> None:
    parse(base(etaglist=["e"] * 10))
    with pytest.raises(Damage, match="11 parts where at most 10"):
        parse(base(etaglist=["e"] * 11))
    with pytest.raises(Damage, match="at most"):
        parse(base(sha1list=[None] * 11))
    with pytest.raises(Damage, match="no upload id"):
        parse(base(uploadid=None))


def test_as_many_parts_as_there_can_be() -> None:
    parse(base(sha1list=[None] * 10))
    document, _ = parse(base())
    for size, most in ((0, 1), (1, 1), (BLOCK, 1), (BLOCK + 1, 2), (10 * BLOCK, 10)):
        assert replace(document, size=size).most_parts == most
        assert replace(document, size=None, stream_size=size).most_parts == most
    assert replace(document, size=BLOCK, stream_size=5 * BLOCK).most_parts == 1
    for unknown in (replace(document, size=None), replace(document, blocksize=None)):
        assert unknown.most_parts == 10_000_000, "more than any object can have"


def test_before_there_is_an_upload_id() -> None:
    for changes in ({"uploadid": None}, {"blocksize": None}):
        for etags in ([], [None, None]):
            assert parse(base(**changes, etaglist=etags, sha1list=[]))[1] is None
        for laid_out in (json.dumps, lambda raw: json.dumps(raw, indent=1) + "\n"):
            with pytest.raises(Damage, match="no upload id or block size"):
                JournalDocument.parse(laid_out(base(**changes)).encode(), ID)
    with pytest.raises(Damage, match="its upload id is empty"):
        parse(base(uploadid=""))


def test_a_file_has_a_name_and_a_size_and_others_need_none() -> None:
    lists: dict[str, Any] = {"etaglist": [], "sha1list": []}
    for name in ("localfile", "size"):
        with pytest.raises(Damage, match="it names no file and size"):
            parse(base(**{name: None}))
    crc = {"destination_crc": None}
    for changes in ({"kind": "stream"}, {"state": "finished"}):
        raw = base(**{**lists, **crc, **changes, "localfile": None, "size": None})
        del raw["destination_crc"]
        document, _ = parse(raw)
        assert (document.localfile, document.size) == (None, None)


EDGES: list[tuple[str, Any, Any]] = [
    ("pid", 0, -1),
    ("pid", 2**63, 2**63 + 1),
    ("rewrites", 0, -1),
    ("stream_size", 0, -1),
    ("stream_size", 2**63, 2**63 + 1),
    ("blocksize", 1, 0),
    ("blocksize", 5 * 1024**3, 5 * 1024**3 + 1),
    *(
        ("source", {**SOURCE, name: good}, {**SOURCE, name: bad})
        for name, good, bad in (
            ("size", 0, -1),
            ("mtime_ns", -(2**63), -(2**63) - 1),
            ("mtime_ns", 2**63, 2**63 + 1),
            ("ctime_ns", -(2**63), -(2**63) - 1),
            ("inode", 0, -1),
            ("inode", 2**64, 2**64 + 1),
        )
    ),
    *(
        ("options", {name: good}, {name: bad})
        for name, good, bad in (
            ("threads", 1, 0),
            ("threads", 2**63, 2**63 + 2**12),
            ("threads", 1, None),
            ("retries", 1, 0),
            ("retries", 1, None),
            ("retry_interval", 0, -1),
            ("retry_interval", 0.5, None),
            ("patience", 0, -1),
            ("patience", None, "for ever"),
            ("timeout", 0, -1),
            ("timeout", 0.5, None),
            ("limit_rate", 1, 0),
            ("limit_rate", None, True),
        )
    ),
]


@pytest.mark.parametrize(("name", "good", "bad"), EDGES)
def test_the_last_good_value_and_the_first_bad_one(name: str, good: Any, bad: Any) -> None:
    lists: dict[str, Any] = {"etaglist": [], "sha1list": []}
    document, _ = parse(base(**lists, **{name: good}))
    found = getattr(document, name)
    assert (found.as_json() if isinstance(found, Identity) else found) == good
    with pytest.raises(Damage):
        parse(base(**lists, **{name: bad}))


def test_etags_of_every_length_that_there_may_be() -> None:
    for length in (1, 27, 28, 29, 256):
        _, parts = parse(base(etaglist=["x" * length], sha1list=[]))
        assert parts is not None and parts.etag(0) == "x" * length


def test_what_an_etag_alone_says_of_digests() -> None:
    """One of 28 characters that is a digest; anything else is opaque."""
    _, parts = parse(base(etaglist=[ETAG, "A" * 28, "*" * 28, object_etag(DIGEST)], sha1list=[]))
    assert parts is not None
    assert [parts.digests(number) for number in range(4)] == [DIGEST, None, None, None]


def test_a_document_to_the_letter() -> None:
    """The lists end with the last part that has something to say in them."""
    raw = base()
    assert raw["sha1list"] == [None, None, encode_digests(DIGEST)]
    assert raw["etaglist"] == [ETAG, None, "opaque"]
    document, _ = parse(raw)
    text = b"".join(replace(document, uploadid=None, blocksize=None).chunks(None))
    assert text.startswith(b'{\n "version": 1,\n "journal_id": "0a1b2c3d",\n')
    assert text.endswith(b',\n "sha1list": [],\n "etaglist": []\n}\n')
    assert json.loads(text)["pausepartnumber"] == 0
    receipt = b"".join(replace(document, state="finished").chunks(None))
    assert receipt.endswith(b"\n}\n") and "etaglist" not in json.loads(receipt)


def test_a_new_document_says_nothing_that_nobody_told_it() -> None:
    document = JournalDocument(ID, "file", "b", "k", "local", "then", "now")
    assert (document.state, document.pid, document.rewrites) == ("running", 0, 0)
    assert not document.custom_domain and not document.end_seen
    raw = base()
    for name in ("custom_domain", "end_seen"):
        del raw[name]
    document, _ = parse(raw)
    assert not document.custom_domain and not document.end_seen


def test_what_is_said_of_text_that_is_no_json() -> None:
    for text, said in (
        (b"", "it is not whole JSON (Expecting value)"),
        (b'{"version": NaN}', "it is not whole JSON (NaN is no number in JSON)"),
        (b"[]", "it is no JSON object"),
    ):
        with pytest.raises(Damage) as caught:
            JournalDocument.parse(text, ID)
        assert str(caught.value) == said


def test_a_version_from_the_future_is_named() -> None:
    with pytest.raises(Damage, match="version 2, made by a newer ufile; this one reads up to 1"):
        parse(base(version=2, etaglist={"another": "form"}))


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", None, True])
def test_versions_that_never_were(version: Any) -> None:
    with pytest.raises(Damage):
        parse(base(version=version))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"\0" * 4096,
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe\x00",
        b"\x7fELF\x02\x01",
        b"[" * 100_000,
        b'{"version":' * 100_000,
        b'{"version": ' + b"9" * 10_000 + b"}",
        b'{"version": 1e999}',
        b'{"version": NaN}',
        b"<html>502 Bad Gateway</html>",
        '{"version": 1}'.encode("utf-16"),
    ],
    ids=lambda text: repr(text[:16]),
)
def test_what_is_no_document(text: bytes) -> None:
    with pytest.raises(Damage):
        JournalDocument.parse(text, ID)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have(number: str) -> None:
    text = json.dumps(base(error={"message": "@"})).replace('"@"', number)
    with pytest.raises(Damage, match="JSON"):
        JournalDocument.parse(text.encode(), ID)


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"threads": -4},
        {"threads": None},
        {"threads": True},
        {"threads": "4"},
        {"retries": 0},
        {"timeout": -1},
        {"patience": -1},
        {"patience": "forever"},
        {"limit_rate": 0},
        {"retry_interval": 10**400},
        {"threads": [4]},
    ],
)
def test_options_that_would_hang_or_break_a_resume(options: dict[str, Any]) -> None:
    with pytest.raises(Damage, match="its option"):
        parse(base(options=options))


@pytest.mark.parametrize(
    "result", [{}, {"size": "1", "parts": 1}, {"size": 1}, {"size": 1, "parts": 1, "etag": 3}]
)
def test_receipts_that_say_nothing(result: Any) -> None:
    with pytest.raises(Damage):
        parse(base(state="finished", result=result))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bucket", "bucker"),
        ("key", "keY"),
        ("endpoint", "https://elsewhere"),
        ("header", {"X-A": "b"}),
        ("meta", {"a": "b"}),
        ("mime_type", "text/html"),
        ("storage_class", "IA"),
        ("kind", "stream"),
        ("custom_domain", True),
    ],
)
def test_another_destination_is_damage(name: str, value: Any) -> None:
    """A flipped bit there would store the right bytes in a wrong place."""
    with pytest.raises(Damage, match="bucket, key, endpoint"):
        parse(base(**{name: value}))


@pytest.mark.parametrize("name", ["state", "kind"])
def test_states_and_kinds_that_do_not_exist(name: str) -> None:
    """Said as such; a document of an early version has no checksum that would find it as well."""
    raw = base(**{name: "odd"})
    del raw["destination_crc"]
    with pytest.raises(Damage, match=f"its {name} is none that exists"):
        parse(raw)


@pytest.mark.parametrize("name", ["header", "meta"])
def test_headers_that_are_no_text(name: str) -> None:
    raw = base(**{name: {"a": "b", "c": 1}})
    del raw["destination_crc"]
    with pytest.raises(Damage, match=f"its field {name} is missing or of a wrong type"):
        parse(raw)


def test_it_belongs_to_its_name() -> None:
    with pytest.raises(Damage, match="another journal id"):
        JournalDocument.parse(json.dumps(base()).encode(), "zzzzzzzz")


def test_unknown_fields_are_ignored() -> None:
    assert parse(base(novelty={"a": [1]}))[0] == parse(base())[0]


def test_every_field_is_written() -> None:
    written = set(base())
    assert {field.name for field in fields(JournalDocument)} <= written


@given(st.text(max_size=12))
def test_journal_ids(text: str) -> None:
    expected = len(text) == 8 and set(text) <= set("0123456789abcdefghjkmnpqrstvwxyz")
    assert is_journal_id(text) == expected


@given(st.integers(1, 5))
def test_digests_as_text(blocks: int) -> None:
    assert decode_digests(encode_digests(DIGEST * blocks)) == DIGEST * blocks


# -- the part log ----------------------------------------------------------------------------


def log_of(*lines: bytes, upload_id: str | None = "upload", rewrites: int = 3) -> bytes:
    return b"".join([head_line(upload_id, rewrites), *lines])


def read(text: bytes, limit: int = 100) -> dict[int, str | None]:
    parts = PartTable(BLOCK)
    read_log(text, "upload", 3, parts, limit)
    return {number: parts.etag(number) for number in parts}


entries = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([ETAG, object_etag(DIGEST), "opaque-1", "op-2"])),
    max_size=30,
)


@given(entries, entries)
def test_union_of_document_and_log(
    before: list[tuple[int, str]], after: list[tuple[int, str]]
) -> None:
    parts = PartTable(BLOCK)
    for number, etag in before:
        parts.record(number, etag, DIGEST)
    text = log_of(*(part_line(n, e, None if e == ETAG else DIGEST) for n, e in after))
    read_log(text, "upload", 3, parts, 100)
    assert {n: parts.etag(n) for n in parts} == {**dict(before), **dict(after)}
    assert all(parts.digests(n) == DIGEST for n in parts)
    # The same lines twice change nothing.
    read_log(text, "upload", 3, parts, 100)
    assert {n: parts.etag(n) for n in parts} == {**dict(before), **dict(after)}


@given(entries, st.integers(0, 10**6))
def test_a_torn_tail_is_cut(lines: list[tuple[int, str]], seed: int) -> None:
    encoded = [part_line(n, e, None) for n, e in lines]
    text = log_of(*encoded)
    start = len(head_line("upload", 3))
    cut = start + seed % (len(text) - start + 1)
    whole_lines = text[:cut].count(b"\n") - 1
    assert read(text[:cut]) == dict(lines[:whole_lines])
    # A hole, then whatever the disk had there before.
    assert read(text[:cut] + b"\0" * 100 + text[cut:]) == dict(lines[:whole_lines])


@pytest.mark.parametrize("upload_id", ["another", None, ""])
def test_a_log_of_another_upload_is_ignored(upload_id: str | None) -> None:
    assert read(log_of(part_line(1, ETAG, None), upload_id=upload_id)) == {}


@pytest.mark.parametrize("rewrites", [0, 2, 4])
def test_a_log_of_another_rewrite_is_ignored(rewrites: int) -> None:
    assert read(log_of(part_line(1, ETAG, None), rewrites=rewrites)) == {}


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\n",
        b'{"n":1,"etag"\n',
        b"[1]\n",
        b'{"n":1,"etag":"a"},{"n":2,"etag":"b"}\n',
        b'{"n":-1,"etag":"a"}\n',
        b'{"n":true,"etag":"a"}\n',
        b'{"n":1.0,"etag":"a"}\n',
        b'{"n":"1","etag":"a"}\n',
        b'{"n":100,"etag":"a"}\n',
        b'{"n":1' + b"0" * 5000 + b',"etag":"a"}\n',
        b'{"n":1}\n',
        b'{"etag":"a"}\n',
        b'{"n":1,"etag":null}\n',
        b'{"n":1,"etag":"a b"}\n',
        b'{"n":1,"etag":"a","sha1":"x"}\n',
        b'{"n":1,"etag":"a","sha1":5}\n',
        b'{"n":1,"etag":"a","provisionaL":true}\n',
        b'{"confirmeD":true}\n',
        b"{}\n",
        b"[" * 50_000 + b"\n",
        b"\xff\xfe\n",
    ],
    ids=lambda line: repr(line[:24]),
)
def test_damage_in_the_middle_is_reported(line: bytes) -> None:
    with pytest.raises(Damage):
        read(log_of(part_line(0, ETAG, None), line, part_line(2, ETAG, None)))


def test_a_log_without_its_first_line() -> None:
    with pytest.raises(Damage, match="first line"):
        read(part_line(0, ETAG, None) + part_line(1, ETAG, None))
    with pytest.raises(Damage, match="first line"):
        read(CONFIRMED + part_line(1, ETAG, None))
    with pytest.raises(Damage, match="unreadable"):
        read(b"garbage\n" + part_line(1, ETAG, None))
    assert read(b"") == read(b"garbage") == read(b"garbage\n") == {}


def test_parts_without_an_upload_id() -> None:
    with pytest.raises(Damage, match="no upload id"):
        read_log(log_of(part_line(0, ETAG, None), upload_id=None), None, 3, None, 10)
    read_log(log_of(upload_id=None), None, 3, None, 10)


def test_provisional_parts_count_once_they_are_confirmed() -> None:
    held = part_line(1, "held", None, provisional=True)
    assert read(log_of(part_line(0, ETAG, None), held)) == {0: ETAG}
    assert read(log_of(part_line(0, ETAG, None), held, CONFIRMED)) == {0: ETAG, 1: "held"}
    assert read(log_of(held, part_line(1, "real", None), CONFIRMED)) == {1: "real"}
    assert read(log_of(CONFIRMED, held)) == {}
    with_digests = part_line(1, "held", DIGEST, provisional=True)
    assert read(log_of(with_digests, CONFIRMED)) == {1: "held"}
    again = part_line(1, "again", None, provisional=True)
    assert read(log_of(held, CONFIRMED, again)) == {1: "held"}


# -- bytes flipped anywhere ------------------------------------------------------------------


def recorded() -> tuple[bytes, bytes, dict[int, str]]:
    """A document and its log, and what is up by them."""
    raw = base()
    text = json.dumps(raw, indent=1).encode()
    log = log_of(
        part_line(3, ETAG, None),
        part_line(4, "opaque", DIGEST),
        part_line(5, ETAG, None, provisional=True),
        part_line(6, ETAG, None),
    )
    return text, log, {0: ETAG, 2: "opaque", 3: ETAG, 4: "opaque", 6: ETAG}


def read_both(text: bytes, log: bytes) -> tuple[JournalDocument, dict[int, str | None]] | None:
    """What `Store` makes of them; None for damage. Every other exception is a failure."""
    try:
        document, parts = JournalDocument.parse(text, ID)
        limit = max(1, -(-(document.total or 0) // (document.blocksize or 1)))
        read_log(log, document.uploadid, document.rewrites, parts, limit)
    except Damage:
        return None
    return document, {n: parts.etag(n) for n in parts} if parts is not None else {}


def region_of(text: bytes, position: int) -> str:
    """Which field of the document a byte lies in."""
    field = ""
    for line in text.split(b"\n"):
        if line.startswith(b' "'):
            field = line[2:].split(b'"')[0].decode()
        position -= len(line) + 1
        if position < 0:
            break
    return field


def test_every_single_byte_of_a_document() -> None:
    """Each bit of each byte: damage, or nothing that is believed and wrong.

    What a flip may change unnoticed here is noticed later, or of no account:

    - etaglist, sha1list, blocksize: the server's part list is compared with each part, and at
      Finish the object's ETag with that of the file;
    - uploadid: the server does not know it, which is looked into before anything is given up;
    - size, source: the file itself is asked, and hashed again where they differ;
    - rewrites: the log counts as another one's, and the server's list brings its parts back;
    - state, times, host, pid, profile, options, error, end_seen: say nothing of content.
    """
    text, log, up = recorded()
    unnoticed = set()
    original = read_both(text, log)
    assert original is not None and original[1] == up
    for position in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            found = read_both(bytes(flipped), log)
            if found is not None and found != original:
                unnoticed.add(region_of(text, position))
                document, parts = found
                wrong = {n for n, etag in parts.items() if up.get(n) != etag}
                if wrong:
                    assert region_of(text, position) in ("etaglist", "sha1list", "blocksize")
                for name in ("bucket", "key", "endpoint", "kind", "header", "meta", "mime_type"):
                    assert getattr(document, name) == getattr(original[0], name)
    assert unnoticed <= {
        "etaglist", "sha1list", "blocksize", "uploadid", "size", "source", "rewrites", "state",
        "created_at", "updated_at", "host", "pid", "profile", "options", "error", "result",
        "end_seen", "stream_size", "localfile", "custom_domain",
    }  # fmt: skip
    for cut in range(len(text) - 2):
        assert read_both(text[:cut], log) is None, cut


def test_every_single_byte_of_a_log() -> None:
    """As above: a flip inside a line's ETag, digest or number is found by the server's list."""
    text, log, up = recorded()
    ends = [end for end in range(len(log)) if log[end : end + 1] == b"\n"]
    for position in range(len(log)):
        for bit in range(8):
            flipped = bytearray(log)
            flipped[position] ^= 1 << bit
            found = read_both(text, bytes(flipped))
            if found is None:
                continue
            assert found[1].get(5) != ETAG, "a part that was held back counts"
            wrong = {n: etag for n, etag in found[1].items() if up.get(n) != etag}
            if wrong:
                line = log[log.rfind(b"\n", 0, position) + 1 :].split(b"\n")[0]
                assert b'"n"' in line
                # One part at most, with one byte of the number or the ETag of a line changed.
                assert len(wrong) == 1
                (etag,) = wrong.values()
                assert etag is not None
                close = min(
                    sum(a != b for a, b in zip(etag, known, strict=True))
                    for known in {ETAG, "opaque"}
                    if len(known) == len(etag)
                )
                assert close <= 1
    for cut in range(len(log) + 1):
        found = read_both(text, log[:cut])
        assert found is not None
        read_lines = sum(end < cut for end in ends)
        expected = {0: ETAG, 2: "opaque"}
        for least, number in ((2, 3), (3, 4), (5, 6)):
            if read_lines >= least:
                expected[number] = up[number]
        assert found[1] == expected


@settings(max_examples=150)
@given(st.data())
def test_bytes_overwritten_cut_out_or_put_in(data: st.DataObject) -> None:
    text, log, _ = recorded()
    texts_ = [bytearray(text), bytearray(log)]
    for _ in range(data.draw(st.integers(1, 3))):
        victim = texts_[data.draw(st.integers(0, 1))]
        start = data.draw(st.integers(0, len(victim)))
        end = min(len(victim), start + data.draw(st.integers(0, 20)))
        victim[start:end] = data.draw(st.binary(max_size=20))
    read_both(bytes(texts_[0]), bytes(texts_[1]))  # damage or not: no other exception


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.expected")), ids=lambda path: path.stem)
def test_golden_journals(path: Path) -> None:
    """Version 1 as it was first written; every later version reads it so."""
    journal_id = path.stem
    expected = json.loads(path.read_text())
    document, parts = JournalDocument.parse(path.with_suffix(".json").read_bytes(), journal_id)
    log = path.with_suffix(".parts.jsonl")
    if log.exists():
        read_log(log.read_bytes(), document.uploadid, document.rewrites, parts, 10**6)
    shown = {name: document.fields(parts)[name] for name in expected["fields"]}
    assert shown == expected["fields"]
    etags = list(parts.etags()) if parts is not None else None
    assert etags == expected["etags"]
    digests = [parts.digests(n) for n in range(parts.end)] if parts is not None else []
    assert [d.hex() if d else None for d in digests] == expected["digests"]


def test_there_are_golden_journals() -> None:
    assert len(list(VECTORS.glob("*.expected"))) >= 4
