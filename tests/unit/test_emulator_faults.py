"""Scripted faults: which requests they strike, and what a client then sees."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ufile_cli.emulator.faults import Effects, Fault, FaultScript, FaultScriptError, Occasion
from ufile_cli.emulator.protocol import Call
from ufile_cli.emulator.server import Emulator

Answer = tuple[int, dict[str, str], bytes]
DOCS = Path(__file__).parents[2] / "docs" / "faults.md"


def occasion(call: Call = Call.PART, part: int | None = 0, **fields: Any) -> Occasion:
    given: dict[str, Any] = {"bucket": "demo", "key": "k", "upload_id": "u", "reused": False}
    return Occasion(call=call, part=part, **{**given, **fields})


def struck(script: FaultScript, times: int, at: Occasion | None = None) -> list[int]:
    """Which of so many requests, from 1, a script strikes."""
    at = at or occasion()
    return [number for number in range(1, times + 1) if script.effects(at) != Effects()]


# Which requests


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"nth": 2}, [2]),
        ({"nth": [1, 4]}, [1, 4]),
        ({"first": 2}, [1, 2]),
        ({"every": 3}, [3, 6]),
        ({"after": 4}, [5, 6]),
        ({"after": 2, "first": 1}, [3]),
        ({"after": 1, "nth": 2}, [3]),
        ({"probability": 0}, []),
        ({"probability": 1}, [1, 2, 3, 4, 5, 6]),
        ({"first": 0}, []),
    ],
)
def test_how_often(fields: dict[str, Any], expected: list[int]) -> None:
    assert struck(FaultScript([Fault(status=500, **fields)]), 6) == expected


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"call": "part"}, True),
        ({"call": ["get", "part"]}, True),
        ({"call": "put"}, False),
        ({"part": 7}, True),
        ({"part": [3, 7]}, True),
        ({"part": "3-7"}, True),
        ({"part": "7-"}, True),
        ({"part": "-7"}, True),
        ({"part": "8-"}, False),
        ({"part": "7"}, True),
        ({"key": "k", "bucket": "demo", "upload_id": "u", "reused": False}, True),
        ({"key": "l"}, False),
        ({"bucket": "other"}, False),
        ({"upload_id": "v"}, False),
        ({"reused": True}, False),
    ],
)
def test_what_a_fault_is_for(fields: dict[str, Any], meant: bool) -> None:
    assert Fault(**fields).meant_for(occasion(part=7)) is meant


def test_a_call_without_a_part_number_is_for_no_part() -> None:
    assert not Fault(part="0-").meant_for(occasion(Call.GET, None))


def test_counting_each_part_of_its_own() -> None:
    script = FaultScript([Fault(status=500, per_part=True, first=1)])
    assert struck(script, 2, occasion(part=1)) == [1]
    assert struck(script, 2, occasion(part=2)) == [1]
    assert struck(script, 2, occasion(part=2, upload_id="v")) == [1]


def test_one_seed_gives_one_course() -> None:
    courses = [
        struck(FaultScript([Fault(status=500, probability=0.5)], seed=seed), 64)
        for seed in (1, 1, 2)
    ]
    assert courses[0] == courses[1] != courses[2]


def test_faults_are_merged_and_the_first_one_wins() -> None:
    script = FaultScript(
        [Fault(status=500), Fault(status=503, receive_rate=9.5), Fault(call="get", etag="none")]
    )
    assert script.effects(occasion()) == Effects(status=500, receive_rate=9.5)


def test_a_script_changes_while_it_is_used() -> None:
    script = FaultScript()
    assert struck(script, 2) == []
    fault = script.add(status=500)
    assert struck(script, 2) == [1, 2]
    script.remove(fault)
    assert struck(script, 2) == []
    script.add(Fault(status=500))
    script.clear()
    assert struck(script, 2) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("x", "the faults are not a list"),
        ({"fault": []}, "unknown field 'fault' of the script"),
        ({"seed": "x"}, "seed is not a whole number"),
        ([1], "fault 0 is not an object"),
        ([{}, {"stat": 5}], "fault 1: unknown field 'stat'"),
        ([{"status": "500"}], "fault 0: status cannot be '500'"),
        ([{"status": 99}], "status"),
        ([{"call": "upload"}], "call"),
        ([{"call": 7}], "call"),
        ([{"part": "x-"}], "part"),
        ([{"part": "-"}], "part"),
        ([{"nth": "x"}], "nth"),
        ([{"every": 0}], "every"),
        ([{"first": -1}], "first"),
        ([{"probability": 1.5}], "probability"),
        ([{"receive_rate": 0}], "receive_rate"),
        ([{"at": "answer"}], "at"),
        ([{"reset": "tail"}], "reset"),
        ([{"headers": {"A": "b\r\nC: d"}}], "headers"),
        ([{"headers": "x"}], "headers"),
        ([{"rotate_keys": ["one"]}], "rotate_keys"),
        ([{"drain": 1}], "drain"),
        ([{"message": 1}], "message"),
    ],
)
def test_scripts_that_mean_nothing(document: object, message: str) -> None:
    with pytest.raises(FaultScriptError, match=re.escape(message)):
        FaultScript.parse(document)


def test_loading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"seed": 3, "dead_status": 400, "faults": [{"status": 503}]}')
    script = FaultScript.load(path)
    assert script.effects(occasion()) == Effects(status=503)
    assert script.dead_status == 400
    path.write_text("{")
    with pytest.raises(FaultScriptError, match="not JSON"):
        FaultScript.load(path)


def test_the_examples_of_the_documentation_are_scripts() -> None:
    examples = re.findall(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    scripts = [json.loads(example) for example in examples if '"faults"' in example]
    assert len(scripts) >= 3
    for script in scripts:
        FaultScript.parse(script)


def test_the_documentation_names_every_field() -> None:
    import dataclasses

    text = DOCS.read_text("utf-8")
    assert [one.name for one in dataclasses.fields(Fault) if f"`{one.name}`" not in text] == []


# What a client sees


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path, block_size=10) as running:
        yield running
        assert running.errors == []


def ask(emulator: Emulator, method: str, target: str, body: Any = None, **more: str) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)
    try:
        headers = {"Host": emulator.host_of("demo"), "Content-Type": "text/plain", **more}
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def begin(emulator: Emulator) -> str:
    return str(json.loads(ask(emulator, "POST", "/k?uploads")[2])["UploadId"])


def part(emulator: Emulator, upload: str, number: int, body: bytes) -> Answer:
    return ask(emulator, "PUT", f"/k?uploadId={upload}&partNumber={number}", body)


def parts(emulator: Emulator, upload: str) -> Any:
    return json.loads(ask(emulator, "GET", f"/?muploadpart&uploadId={upload}")[2])


def test_an_error_answer(emulator: Emulator) -> None:
    emulator.faults.add(
        call="put", first=1, status=503, ret_code=-7, message="busy", headers={"Retry-After": "2"}
    )
    status, headers, body = ask(emulator, "PUT", "/k", b"abc")
    assert (status, headers["Retry-After"]) == (503, "2")
    assert json.loads(body) == {"RetCode": -7, "ErrMsg": "busy"}
    assert ask(emulator, "GET", "/k")[0] == 404
    assert ask(emulator, "PUT", "/k", b"abc")[0] == 200
    assert emulator.requests[0].fault is not None
    assert "status=503" in emulator.requests[0].fault
    assert emulator.requests[2].fault is None


def test_answers_that_are_no_json(emulator: Emulator) -> None:
    emulator.faults.add(nth=1, status=502, body="<html>", content_type="text/html")
    emulator.faults.add(nth=2, status=500, content_type="applicaton/json")
    emulator.faults.add(nth=3, truncate=9)
    emulator.faults.add(nth=4, status=500, body_size=100_000)
    emulator.faults.add(nth=5, body="{}")
    assert ask(emulator, "POST", "/k?uploads")[2] == b"<html>"
    assert ask(emulator, "POST", "/k?uploads")[1]["Content-Type"] == "applicaton/json"
    status, _, body = ask(emulator, "POST", "/k?uploads")
    assert (status, body) == (200, b'{"UploadI')
    assert len(ask(emulator, "POST", "/k?uploads")[2]) == 100_000
    assert ask(emulator, "POST", "/k?uploads")[2] == b"{}"


def test_an_answer_after_storing(emulator: Emulator) -> None:
    upload = begin(emulator)
    emulator.faults.add(call="part", status=500, at="stored")
    assert part(emulator, upload, 0, b"abc")[0] == 500
    assert len(parts(emulator, upload)["Parts"]) == 1
    assert emulator.requests[1].etag == parts(emulator, upload)["Parts"][0]["Etag"]


def test_an_early_answer(emulator: Emulator) -> None:
    emulator.faults.add(call="put", status=413, at="head")
    assert ask(emulator, "PUT", "/k", bytes(1 << 20))[0] == 413
    assert emulator.requests[0].bytes_received == 0


def test_an_early_answer_followed_by_a_reset(emulator: Emulator) -> None:
    emulator.faults.add(call="put", status=401, at="head", drain=False)
    with pytest.raises(OSError):
        ask(emulator, "PUT", "/k", bytes(64 << 20))
    assert emulator.requests[0].status == 401


@pytest.mark.parametrize("place", ["head", "body", "stored", "answer"])
def test_resets(emulator: Emulator, place: str) -> None:
    upload = begin(emulator)
    emulator.faults.add(call="part", first=1, reset=place)
    with pytest.raises((OSError, http.client.HTTPException)):
        part(emulator, upload, 0, b"0123456789")
    emulator.wait_for("part")
    record = emulator.requests[1]
    assert record.status == (200 if place == "answer" else None)
    assert (record.etag is not None) == (place in ("stored", "answer"))
    assert len(parts(emulator, upload)["Parts"]) == (place in ("stored", "answer"))


def test_a_reset_in_the_middle_of_a_body(emulator: Emulator) -> None:
    emulator.faults.add(call="put", reset="body", after_bytes=100_000)
    with pytest.raises(OSError):
        ask(emulator, "PUT", "/k", bytes(64 << 20))
    emulator.wait_for("put")
    assert emulator.requests[0].bytes_received == 100_000


@pytest.mark.parametrize("place", ["head", "body", "stored", "answer"])
def test_hangs_end_when_released(emulator: Emulator, place: str) -> None:
    emulator.faults.add(call="put", hang=place)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(emulator, "PUT", "/k", b"abc")))
    thread.start()
    stage = {"head": "arrived", "answer": "answered"}.get(place, "received")
    emulator.wait_for("put", stage=stage)
    assert answers == []
    while thread.is_alive():
        emulator.faults.release()
        thread.join(0.05)
    assert answers[0][0] == 200


def test_hangs_for_a_time(emulator: Emulator) -> None:
    emulator.faults.add(call="put", hang="stored", seconds=0.2)
    began = time.monotonic()
    assert ask(emulator, "PUT", "/k", b"abc")[0] == 200
    assert time.monotonic() - began >= 0.2


def test_closing_ends_what_hangs(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.faults.add(hang="head")
        host = emulator.host_of("demo")
        with socket.create_connection(("127.0.0.1", emulator.port), timeout=20) as sock:
            sock.sendall(f"GET /k HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            emulator.wait_for("get", stage="arrived")
            emulator.close()
            assert sock.recv(100) == b""


def test_slow_receiving_and_answering(emulator: Emulator) -> None:
    emulator.faults.add(call="put", receive_rate=100_000)
    began = time.monotonic()
    assert ask(emulator, "PUT", "/k", b"x" * 30_000)[0] == 200
    assert time.monotonic() - began >= 0.29
    emulator.faults.add(call="get", answer_rate=100_000)
    began = time.monotonic()
    assert ask(emulator, "GET", "/k")[2] == b"x" * 30_000
    assert time.monotonic() - began >= 0.29


def test_etags_in_other_forms(emulator: Emulator) -> None:
    upload = begin(emulator)
    forms = ("opaque", "hex", "object", "content", "blocks", "unquoted", "wrong", "none")
    for number, form in enumerate(forms):
        emulator.faults.add(call="part", part=number, etag=form)
    answers = [part(emulator, upload, number, b"0123456789") for number in range(8)]
    etags = [headers.get("ETag") for _, headers, _ in answers]
    listed = [one["Etag"] for one in parts(emulator, upload)["Parts"]]
    assert [f'"{etag}"' for etag in listed[:5]] == etags[:5]
    assert etags[5] == listed[5]
    assert etags[6] not in (listed[6], f'"{listed[6]}"')
    assert etags[7] is None
    finished = ask(emulator, "POST", f"/k?uploadId={upload}", ",".join(listed))
    assert finished[0] == 200


def test_what_finish_says(emulator: Emulator) -> None:
    upload = begin(emulator)
    etag = part(emulator, upload, 0, b"abc")[1]["ETag"]
    emulator.faults.add(call="finish", finish_key="elsewhere", etag="wrong")
    _, headers, body = ask(emulator, "POST", f"/k?uploadId={upload}", etag)
    assert json.loads(body)["Key"] == "elsewhere"
    assert headers["ETag"].startswith('"AAAA')


def test_bytes_that_were_not_sent(emulator: Emulator) -> None:
    emulator.faults.add(call="put", corrupt=True)
    etag = ask(emulator, "PUT", "/k", b"abc")[1]["ETag"]
    _, headers, body = ask(emulator, "GET", "/k")
    assert body == bytes([ord("a") ^ 0xFF]) + b"bc"
    assert headers["ETag"] == etag


def test_a_part_is_forgotten(emulator: Emulator) -> None:
    upload = begin(emulator)
    emulator.faults.add(call="part", part=1, first=1, forget="part")
    etags = [part(emulator, upload, number, b"0123456789")[1]["ETag"] for number in range(3)]
    assert [one["PartNum"] for one in parts(emulator, upload)["Parts"]] == [0, 2]
    assert ask(emulator, "POST", f"/k?uploadId={upload}", ",".join(etags))[0] == 400
    part(emulator, upload, 1, b"0123456789")
    assert ask(emulator, "POST", f"/k?uploadId={upload}", ",".join(etags))[0] == 200


def test_an_upload_is_forgotten(emulator: Emulator) -> None:
    upload = begin(emulator)
    emulator.faults.dead_status, emulator.faults.dead_ret_code = 400, -99
    emulator.faults.add(call="part", part=2, forget="upload")
    assert part(emulator, upload, 0, b"0123456789")[0] == 200
    status, _, body = part(emulator, upload, 2, b"0123456789")
    assert (status, json.loads(body)["RetCode"]) == (400, -99)
    assert ask(emulator, "GET", f"/?muploadpart&uploadId={upload}")[0] == 400


def test_lists_that_do_not_come(emulator: Emulator) -> None:
    upload = begin(emulator)
    for number in range(5):
        part(emulator, upload, number, b"0123456789")
    target = f"/?muploadpart&uploadId={upload}"
    emulator.faults.add(call="list_parts", page_size=2, list_etags="quoted")
    page = json.loads(ask(emulator, "GET", target)[2])
    assert (len(page["Parts"]), page["IsTruncated"], page["MaxParts"]) == (2, True, 2)
    assert page["Parts"][0]["Etag"].startswith('"')
    emulator.faults.add(call="list_parts", stuck_page=True)
    again = json.loads(ask(emulator, "GET", target + "&part-number-marker=1")[2])
    assert again == page
    emulator.faults.clear()
    emulator.faults.add(call="list_parts", status=501)
    assert ask(emulator, "GET", target)[0] == 501


def test_an_idle_connection_is_closed_unannounced(emulator: Emulator) -> None:
    emulator.faults.add(call="put", close_after=0)
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)
    connection.request("PUT", "/k", b"abc", {"Host": emulator.host_of("demo")})
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (200, None)
    response.read()
    assert connection.sock.recv(1) == b""
    connection.close()


def test_a_reset_of_a_connection_that_was_used_before(emulator: Emulator) -> None:
    emulator.faults.add(reused=True, reset="head")
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=20)
    for expected in (True, False):
        try:
            connection.request("GET", "/?list", headers={"Host": emulator.host_of("demo")})
            connection.getresponse().read()
            assert expected
        except OSError:
            assert not expected
    connection.close()


def test_keys_are_rotated(emulator: Emulator) -> None:
    emulator.faults.add(call="put", nth=2, rotate_keys=["new", "private"])
    assert ask(emulator, "PUT", "/k", b"abc")[0] == 200
    assert ask(emulator, "PUT", "/k", b"abc")[0] == 401
    assert emulator.keys == ("new", "private")
    assert "private" not in (emulator.requests[1].fault or "")
