"""Signatures against vectors made with openssl."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.credentials import Credentials
from ufile_cli.us3.signing import UCloudAuth, canonical_headers, sign, string_to_sign

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "signatures.json").read_text("utf-8")
)
KEYS = Credentials(VECTORS["public_key"], VECTORS["private_key"])


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    request = dict(case["request"])
    request["headers"] = [(name, value) for name, value in request.get("headers", [])]
    text = string_to_sign(
        request.pop("method"), request.pop("bucket"), request.pop("key"), **request
    )
    assert text == case["string_to_sign"]
    assert sign(KEYS.private_key, text) == case["signature"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_auth_takes_the_requests_own_headers(case: dict[str, Any]) -> None:
    facts = case["request"]
    prepared = requests.PreparedRequest()
    prepared.method = facts["method"]
    prepared.headers = requests.structures.CaseInsensitiveDict()
    for header, field in (
        ("content-md5", "content_md5"),
        ("content-type", "content_type"),
        ("date", "date"),
    ):
        if field in facts:
            prepared.headers[header] = facts[field]
    joined: dict[str, str] = {}
    for name, value in facts.get("headers", []):
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    for name, value in joined.items():
        prepared.headers[name] = value
    UCloudAuth(KEYS, facts["bucket"], facts["key"])(prepared)
    assert prepared.headers["Authorization"] == case["authorization"]


def test_canonical_headers_are_sorted_joined_and_folded() -> None:
    pairs = [
        ("X-UCloud-B", "2"),
        ("x-ucloud-a", " 1 \n 2 "),
        ("X-UCLOUD-B", "3"),
        ("X-Ufile-Meta-C", "no"),
        ("X-UCloudless", "no"),
    ]
    assert canonical_headers(pairs) == "x-ucloud-a:1 2\nx-ucloud-b:2,3\n"
    assert canonical_headers({"X-UCloud-A": "é".encode()}) == "x-ucloud-a:é\n"
    assert canonical_headers({}) == ""


@given(st.permutations(["x-ucloud-a", "x-ucloud-b", "x-ucloud-b-c", "x-ucloud-z"]))
def test_order_of_headers_makes_no_difference(names: list[str]) -> None:
    assert canonical_headers([(name, "v") for name in names]) == (
        "x-ucloud-a:v\nx-ucloud-b:v\nx-ucloud-b-c:v\nx-ucloud-z:v\n"
    )


def test_the_private_key_is_nowhere_to_be_seen() -> None:
    auth = UCloudAuth(KEYS, "b", "k")
    for text in (repr(auth), str(auth), repr(KEYS), str(KEYS), f"{KEYS}"):
        assert KEYS.private_key not in text
    with pytest.raises(TypeError):
        pickle.dumps(KEYS)
    assert KEYS.private_key not in KEYS.tag
    assert KEYS.tag != Credentials(KEYS.public_key, "other").tag


def test_a_public_key_beyond_ascii_does_not_break_the_request() -> None:
    prepared = requests.Request("GET", "http://x/").prepare()
    UCloudAuth(Credentials("é", "p"), "b", "k")(prepared)
    value: Any = prepared.headers["Authorization"]
    assert value.startswith("UCloud é:".encode())
