"""Answers: what is taken for what, and that nothing a server says gets past as a raw exception."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    NotFound,
    Refused,
    ServerError,
    ServerTrouble,
    UFileError,
)
from ufile_cli.us3 import response
from ufile_cli.us3.response import Answer


def ok(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer.of(status, {name.replace("_", "-"): v for name, v in headers.items()}, raw)


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (100, BadAnswer),
            (103, BadAnswer),
            (301, Refused),
            (304, Refused),
            (400, Refused),
            (401, CredentialsRefused),
            (403, CredentialsRefused),
            (404, NotFound),
            (405, Refused),
            (407, Refused),
            (408, ServerTrouble),
            (409, Refused),
            (413, Refused),
            (416, Refused),
            (425, ServerTrouble),
            (429, ServerTrouble),
            (500, ServerTrouble),
            (501, ServerTrouble),
            (503, ServerTrouble),
            (599, ServerTrouble),
            (600, BadAnswer),
            (999, BadAnswer),
        ],
    )
    def test_kinds(self, status: int, kind: type[ServerError]) -> None:
        answer = ok({"RetCode": -148643, "ErrMsg": "no way"}, status, x_sessionid="abc")
        with pytest.raises(ServerError) as caught:
            response.raise_for_status(answer, "UploadPart", part=3)
        error = caught.value
        assert type(error) is kind
        assert (error.status, error.ret_code, error.err_msg) == (status, -148643, "no way")
        assert error.session_id == "abc"
        assert error.part == 3 or kind is BadAnswer
        # The report puts these three behind the message itself.
        for text in ("148643", "no way", "abc"):
            assert text not in error.message
        assert "UploadPart" in error.message

    @pytest.mark.parametrize("status", [200, 201, 204, 206])
    def test_successes(self, status: int) -> None:
        response.raise_for_status(ok(status=status), "X")

    def test_a_redirect_names_the_host_alone(self) -> None:
        with pytest.raises(Refused) as caught:
            response.raise_for_status(ok(status=302, location="https://u:p@evil.test/x?q"), "X")
        assert "evil.test" in caught.value.message
        assert "u:p" not in caught.value.message

    @pytest.mark.parametrize("location", ["", "/x", "http://[", "\x1b[31m", "//a b/"])
    def test_odd_locations(self, location: str) -> None:
        with pytest.raises(Refused) as caught:
            response.raise_for_status(ok(status=302, location=location), "X")
        assert caught.value.message.isprintable()

    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>", b"[]", b"\xff\xfe", b"{", b"null", b'{"RetCode":"x","ErrMsg":5}'],
    )
    def test_error_bodies_of_any_kind(self, body: bytes) -> None:
        with pytest.raises(ServerTrouble) as caught:
            response.raise_for_status(ok(body, 502), "X")
        assert caught.value.ret_code is None
        assert caught.value.err_msg is None
        assert caught.value.body == body

    def test_texts_are_fit_for_a_terminal(self) -> None:
        said = {"RetCode": -1, "ErrMsg": "\x1b[31mred\x1b]0;t\x07\r\nnext\u202e" + "x" * 9000}
        with pytest.raises(Refused) as caught:
            response.raise_for_status(ok(said, 400, x_sessionid="s\x1b[2J" + "y" * 900), "X")
        error = caught.value
        assert error.err_msg is not None
        assert error.err_msg.startswith("red next")
        assert error.err_msg.isprintable()
        assert len(error.err_msg) <= 300
        assert error.session_id is not None
        assert error.session_id.isprintable()
        assert len(error.session_id) <= 200


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (None, None),
            ("", None),
            ("0", 0.0),
            ("7", 7.0),
            (" 1.5 ", 1.5),
            ("999999999999", 86400.0),
            ("-1", None),
            ("nan", None),
            ("inf", None),
            ("soon", None),
            ("1e9", None),
            ("٣", None),
            ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
            ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
            ("Fri, 99 Foo 2020", None),
        ],
    )
    def test_values(self, value: str | None, seconds: float | None) -> None:
        assert response.parse_retry_after(value, now=10.0) == seconds


class TestInitiated:
    GOOD: ClassVar[dict[str, Any]] = {
        "UploadId": "u",
        "BlkSize": 4194304,
        "Bucket": "b",
        "Key": "k",
    }

    def parse(self, said: Any) -> response.Initiated:
        return response.parse_initiated(ok(said), "Initiate", "bucket", "key")

    def test_good(self) -> None:
        begun = self.parse(self.GOOD)
        assert (begun.upload_id, begun.block_size, begun.bucket, begun.key) == (
            "u",
            4194304,
            "b",
            "k",
        )

    def test_what_is_missing_is_what_was_asked_for(self) -> None:
        begun = self.parse({"UploadId": "u", "BlkSize": "8388608"})
        assert (begun.block_size, begun.bucket, begun.key) == (8388608, "bucket", "key")

    @pytest.mark.parametrize("upload_id", ["a/b", "it's", 'q"', "é", "x" * 1024, "a+b&c d"])
    def test_upload_ids(self, upload_id: str) -> None:
        assert self.parse(self.GOOD | {"UploadId": upload_id}).upload_id == upload_id

    @pytest.mark.parametrize("upload_id", [None, "", 5, [], "x" * 1025, "a\nb", "\x1b", "\ud800"])
    def test_bad_upload_ids(self, upload_id: Any) -> None:
        with pytest.raises(BadAnswer, match="UploadId"):
            self.parse(self.GOOD | {"UploadId": upload_id})

    @pytest.mark.parametrize(
        "size",
        [None, 0, -1, True, "", "x", 1.5, 6 * 1024**3, [], float("inf"), float("nan"), "1e6"],
    )
    def test_bad_block_sizes(self, size: Any) -> None:
        with pytest.raises(BadAnswer, match="BlkSize"):
            self.parse(self.GOOD | {"BlkSize": size})

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>ok</html>",
            b"[1]",
            b'{"UploadId":"u"',
            b'{"a":' * 100_000,
            b"[" * 100_000,
            b'{"UploadId":"u","BlkSize":' + b"9" * 5000 + b"}",
            b"\xff",
            b'{"RetCode":-5,"ErrMsg":"no","UploadId":"u","BlkSize":4194304}',
        ],
    )
    def test_bad_bodies(self, body: bytes) -> None:
        with pytest.raises(BadAnswer):
            self.parse(body)

    def test_unknown_and_duplicate_keys_are_fine(self) -> None:
        body = b'\xef\xbb\xbf {"UploadId":"v","X":{},"UploadId":"u","BlkSize":4194304.0}'
        assert self.parse(body[3:]).upload_id == "u"


class TestEtags:
    @pytest.mark.parametrize(
        ("header", "etag"), [('"abc_-="', "abc_-="), ("abc", "abc"), ('W/"abc"', "abc")]
    )
    def test_part(self, header: str, etag: str) -> None:
        assert response.parse_part_etag(ok(b"", etag=header), "P") == etag
        assert response.parse_part_etag(ok({"PartNumber": 9}, etag=header), "P") == etag
        assert response.parse_part_etag(ok(b"OK", etag=header), "P") == etag

    @pytest.mark.parametrize(
        "header", ["", '""', "a,b", 'a"b', "a b", "é", "a\x7f", "x" * 257, '"a","b"']
    )
    def test_bad(self, header: str) -> None:
        with pytest.raises(BadAnswer):
            response.parse_part_etag(ok(b"", etag=header), "P")

    def test_none(self) -> None:
        with pytest.raises(BadAnswer, match="no ETag"):
            response.parse_part_etag(ok({"PartNumber": 0}), "P")
        assert response.parse_put_etag(ok(), "P") is None

    def test_a_portals_page_is_no_acknowledgement(self) -> None:
        page = ok(b" <!doctype html>", etag='"abc"')
        for parse in (response.parse_part_etag, response.parse_put_etag, response.parse_stored):
            with pytest.raises(BadAnswer, match="web page"):
                parse(page, "P")


class TestStored:
    def test_good(self) -> None:
        stored = response.parse_stored(
            ok({"Bucket": "b", "Key": "k", "FileSize": 5}, etag='"e"'), "F"
        )
        assert (stored.bucket, stored.key, stored.size, stored.etag) == ("b", "k", 5, "e")

    def test_what_is_missing_is_none(self) -> None:
        for answer in (ok(), ok({}), ok({"FileSize": -1, "Key": 5, "Bucket": None})):
            stored = response.parse_stored(answer, "F")
            assert (stored.bucket, stored.key, stored.size, stored.etag) == (None,) * 4

    def test_cut_short(self) -> None:
        with pytest.raises(BadAnswer):
            response.parse_stored(ok(b'{"Bucket":"b'), "F")
        with pytest.raises(BadAnswer):
            response.parse_stored(Answer.of(200, {}, b"", whole=False), "F")


class TestPartsPage:
    PART: ClassVar[dict[str, Any]] = {
        "PartNum": 0,
        "Etag": '"e"',
        "Size": 4,
        "LastModified": 1700000000,
    }

    def parse(self, said: Any, marker: int | None = None) -> response.PartsPage:
        return response.parse_parts_page(ok(said), "L", "u", "k", marker)

    def test_good(self) -> None:
        page = self.parse(
            {
                "UploadId": "u",
                "Key": "k",
                "Parts": [self.PART, {"PartNum": "1", "Etag": "f", "Size": "2"}],
                "IsTruncated": True,
                "NextPartNumberMarker": 1,
            }
        )
        assert page.parts == (
            response.RemotePart(0, "e", 4, 1700000000),
            response.RemotePart(1, "f", 2, None),
        )
        assert page.truncated
        assert page.next_marker == 1
        assert page.key == "k"

    def test_marker_zero_counts(self) -> None:
        page = self.parse({"Parts": [self.PART], "IsTruncated": True, "NextPartNumberMarker": 0})
        assert page.next_marker == 0

    def test_a_marker_left_out(self) -> None:
        page = self.parse({"Parts": [self.PART], "IsTruncated": True})
        assert page.next_marker == 0

    @pytest.mark.parametrize("parts", [[], None])
    def test_empty(self, parts: Any) -> None:
        page = self.parse({"UploadId": "u", "Parts": parts, "IsTruncated": False})
        assert page.parts == ()
        assert not page.truncated

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"IsTruncated": False},
            {"Parts": {}},
            {"Parts": "x"},
            {"Parts": [5]},
            {"Parts": [{}]},
            {"Parts": [PART | {"PartNum": -1}]},
            {"Parts": [PART | {"PartNum": True}]},
            {"Parts": [PART | {"PartNum": 10**9}]},
            {"Parts": [PART | {"Size": None}]},
            {"Parts": [PART | {"Size": -1}]},
            {"Parts": [PART | {"Etag": "a,b"}]},
            {"Parts": [PART | {"Etag": "\x1b"}]},
            {"Parts": [PART], "UploadId": "other"},
            {"Parts": [PART], "Key": "other"},
            {"Parts": [], "IsTruncated": True},
            {"RetCode": -1, "Parts": []},
        ],
    )
    def test_bad(self, said: Any) -> None:
        with pytest.raises(BadAnswer):
            self.parse(said)

    @pytest.mark.parametrize("following", [3, 5, None])
    def test_a_page_that_does_not_advance(self, following: int | None) -> None:
        said = {"Parts": [], "IsTruncated": True, "NextPartNumberMarker": following}
        with pytest.raises(BadAnswer, match="nowhere"):
            self.parse(said, marker=5)

    def test_etags_that_are_missing_are_empty(self) -> None:
        page = self.parse({"Parts": [{"PartNum": 0, "Size": 1}, self.PART | {"Etag": '""'}]})
        assert [part.etag for part in page.parts] == ["", ""]

    @pytest.mark.parametrize(
        ("value", "truncated"),
        [(True, True), ("true", True), (1, True), (False, False), ("false", False), (None, False)],
    )
    def test_is_truncated(self, value: Any, truncated: bool) -> None:
        said = {"Parts": [self.PART], "IsTruncated": value, "NextPartNumberMarker": 7}
        assert self.parse(said).truncated is truncated


class TestUploadsPage:
    def parse(self, said: Any, marker: str = "") -> response.UploadsPage:
        return response.parse_uploads_page(ok(said), "U", marker)

    def test_good(self) -> None:
        page = self.parse(
            {
                "RetCode": 0,
                "ErrMsg": "",
                "NextMarker": "m",
                "DataSet": [{"UploadId": "u", "FileName": "a/b", "StartTime": 1700000000}],
            }
        )
        assert page.uploads == (response.RemoteUpload("u", "a/b", 1700000000),)
        assert page.next_marker == "m"

    @pytest.mark.parametrize("said", [{"DataSet": None}, {"DataSet": [], "NextMarker": None}])
    def test_empty(self, said: Any) -> None:
        page = self.parse(said)
        assert page.uploads == ()
        assert page.next_marker == ""

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"DataSet": 5},
            {"DataSet": [5]},
            {"DataSet": [{"UploadId": "u"}]},
            {"DataSet": [{"FileName": "k"}]},
            {"DataSet": [{"UploadId": "u", "FileName": "\ud800"}]},
            {"DataSet": [], "NextMarker": 5},
            {"DataSet": [], "NextMarker": "same"},
            {"RetCode": -1, "ErrMsg": "no", "DataSet": []},
        ],
    )
    def test_bad(self, said: Any) -> None:
        with pytest.raises(BadAnswer):
            self.parse(said, marker="same")


class TestHead:
    def test_good(self) -> None:
        head = response.parse_head(
            ok(
                content_length="5",
                etag='"e"',
                content_type="text/plain",
                last_modified="Thu, 01 Jan 1970 00:01:40 GMT",
                x_ufile_storage_class="IA",
                x_ufile_meta_author="\u00c3\u00a9",
            ),
            "H",
        )
        assert (head.size, head.etag, head.content_type) == (5, "e", "text/plain")
        assert head.last_modified == 100.0
        assert head.storage_class == "IA"
        assert head.meta == {"author": "é"}

    @pytest.mark.parametrize("length", ["", "x", "-1", "5, 5", "9" * 30, "٣"])
    def test_a_length_is_needed(self, length: str) -> None:
        with pytest.raises(BadAnswer):
            response.parse_head(ok(content_length=length), "H")


FIELDS = [
    *("UploadId", "BlkSize", "Parts", "PartNum", "Size", "Etag", "IsTruncated", "Key", "DataSet"),
    *("FileName", "NextMarker", "NextPartNumberMarker", "RetCode", "ErrMsg"),
]

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    status=st.integers(100, 599),
    body=json_like.map(lambda said: json.dumps(said).encode()) | st.binary(max_size=60),
    headers=st.dictionaries(
        st.sampled_from(["ETag", "X-SessionId", "Retry-After", "Location", "Content-Length"]),
        st.text(st.characters(max_codepoint=255), max_size=20),
    ),
)
def test_nothing_gets_past_as_a_raw_exception(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    answer = Answer.of(status, headers, body)
    for parse in (
        lambda: response.raise_for_status(answer, "X"),
        lambda: response.parse_initiated(answer, "X", "b", "k"),
        lambda: response.parse_part_etag(answer, "X"),
        lambda: response.parse_put_etag(answer, "X"),
        lambda: response.parse_stored(answer, "X"),
        lambda: response.parse_parts_page(answer, "X", "u", "k", 3),
        lambda: response.parse_uploads_page(answer, "X", "m"),
        lambda: response.parse_head(answer, "X"),
    ):
        try:
            parse()
        except UFileError as error:
            assert error.message.isprintable()
