"""Nothing gets through for a while: how long that is borne, what is said, what it costs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faultbed import BLOCK, Engine
from testbed import KIB, PUBLIC, SECRET, Ufile, assert_same, make_file, stored_parts

from ufile_cli.credentials import Credentials
from ufile_cli.emulator.server import Emulator
from ufile_cli.errors import NetworkError
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.retry import BACK_AT_MOST, RetryPolicy
from ufile_cli.multipart.workers import Stop
from ufile_cli.progress.events import (
    OutageBegan,
    OutageEnded,
    PartFailed,
    PartSent,
    PartStarted,
    Paused,
)

TEN = dict.fromkeys(range(10), 1)

FAULTS: dict[str, dict[str, Any]] = {
    "reset": {"reset": "head"},
    "500": {"status": 500},
    "502": {"status": 502, "body": "<html>502</html>", "content_type": "text/html"},
    "503": {"status": 503},
    "429": {"status": 429},
    "408": {"status": 408},
    "425": {"status": 425},
    "a page": {"status": 200, "body": "<html></html>", "content_type": "text/html"},
}


def lifted(engine: Engine, emulator: Emulator, when: Callable[[object], bool]) -> None:
    """The faults end as soon as such an event is told."""
    engine.on_event = lambda _, event: emulator.faults.clear() if when(event) else None


def probes_one_at_a_time(events: list[object]) -> None:
    """During an outage one attempt begins after another ended."""
    flying = 0
    active = False
    for event in events:
        if isinstance(event, OutageBegan):
            assert not active
            active = True
        elif isinstance(event, OutageEnded):
            assert active
            active = False
        elif isinstance(event, PartStarted):
            assert not (active and flying), "a probe began while another request was under way"
            flying += 1
        elif isinstance(event, PartFailed | PartSent):
            flying -= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_borne(engine: Engine, emulator: Emulator, ten: Path, fault: str) -> None:
    """An outage that ends: one probe at a time, and then on with all threads."""
    emulator.faults.add(call="part", after=3, **FAULTS[fault])
    probes = iter(range(100))

    def enough(event: object) -> bool:
        return isinstance(event, PartFailed) and next(probes) > 20

    lifted(engine, emulator, enough)
    run = engine.upload(ten, attempts=2, patience=None)
    assert run.done.verified == "etag"
    # What was in flight when it began may get through, and end it for the moment.
    assert 1 <= len(run.of(OutageBegan)) <= 4
    if fault != "reset":  # a reset may be that of a stale connection, and no attempt then
        probes_one_at_a_time(run.events)
    assert len(run.of(OutageEnded)) == len(run.of(OutageBegan))
    assert all(began.until is None and began.reason for began in run.of(OutageBegan))
    assert set(stored_parts(emulator.requests)) == set(range(10))
    assert_same(emulator, ten)


@pytest.mark.parametrize("fault", ["reset", "503"])
def test_no_patience(engine: Engine, emulator: Emulator, ten: Path, fault: str) -> None:
    """`--patience 0`: as soon as one part has used up its attempts."""
    emulator.faults.add(call="part", part="4-", **FAULTS[fault])
    run = engine.upload(ten, attempts=3, patience=0.0, threads=1)
    assert run.code == 75
    assert [event.attempt for event in run.of(PartFailed)] == [1, 2, 3]
    assert not run.of(OutageBegan)
    assert isinstance(run.events[-1], Paused)
    assert engine.view(run.journal_id).state == "paused"
    assert engine.up(run.journal_id) == set(range(4))


def test_patience_ends(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", part="4-", status=503)
    run = engine.upload(ten, attempts=2, interval=0.02, patience=0.3, threads=1)
    assert run.code == 75
    [began] = run.of(OutageBegan)
    assert began.until is not None and began.until == pytest.approx(began.since + 0.3, abs=0.01)
    assert isinstance(run.events[-1], Paused)
    assert engine.resume(run.journal_id, attempts=1).code == 75
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done
    assert stored_parts(emulator.requests) == TEN


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_retries_count_attempts(
    engine: Engine, emulator: Emulator, ten: Path, attempts: int
) -> None:
    for call in ("initiate", "part", "finish"):
        emulator.faults.clear()
        emulator.faults.add(call=call, status=500)
        before = emulator.count(call)
        run = engine.upload(ten, attempts=attempts, threads=1)
        assert run.code == 75
        assert emulator.count(call) - before == attempts, call


def test_retry_after_counts_up_to_the_patience(
    engine: Engine, emulator: Emulator, ten: Path
) -> None:
    """An hour is asked for, but patience is a fifth of a second: paused then, not in an hour."""
    emulator.faults.add(call="part", part=4, status=503, headers={"Retry-After": "3600"})
    run = engine.upload(ten, attempts=3, patience=0.2, threads=1)
    assert run.code == 75
    waits = [event.retry_in for event in run.of(PartFailed) if event.retry_in is not None]
    assert waits and all(wait <= 0.2 + 1e-6 for wait in waits)


def test_retry_after_is_waited_for(engine: Engine, emulator: Emulator, ten: Path) -> None:
    emulator.faults.add(call="part", part=4, nth=1, status=503, headers={"Retry-After": "1"})
    run = engine.upload(ten, attempts=3, interval=0.0, patience=60.0)
    assert run.done.verified == "etag"
    [failed] = run.of(PartFailed)
    assert failed.retry_in == 1.0


def test_a_part_goes_to_the_back_ten_times(
    engine: Engine, emulator: Emulator, tmp_path: Path
) -> None:
    """One part's trouble, while others get through, is no outage; patience has no say in it."""
    emulator.block_size = 4 * KIB
    path = make_file(tmp_path / "many.bin", 300 * 4 * KIB)
    # Each attempt takes as long as several other parts, so that one gets through meanwhile.
    emulator.faults.add(call="part", part=0, hang="body", seconds=0.05, status=500)
    emulator.faults.add(call="part", part="1-", hang="body", seconds=0.01)
    run = engine.upload(path, attempts=2, patience=None, threads=2)
    assert run.code == 75
    assert getattr(run.error, "part", None) == 0
    assert len(run.of(PartFailed)) >= 2 * (BACK_AT_MOST + 1)
    assert 0 not in engine.up(run.journal_id) and len(engine.up(run.journal_id)) > BACK_AT_MOST
    emulator.faults.clear()
    assert engine.resume(run.journal_id).done
    assert max(stored_parts(emulator.requests).values()) == 1


def test_a_stall_is_given_up_and_tried_again(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """The server takes no byte any more, in the middle of four parts at once."""
    emulator.faults.add(call="part", first=4, hang="body", after_bytes=1000)
    engine.timeout = 0.7
    assert engine.upload(ten, attempts=2).done.verified == "etag"
    assert_same(emulator, ten)


class SlowLine:
    """A relay with small buffers that passes 4 KB a second on to the server."""

    def __init__(self, server: Emulator) -> None:
        self._server = server
        self._listener = socket.socket()
        # Before it listens: what is accepted inherits it, and the window stays small.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server.port))
            threading.Thread(target=self._pass, args=(near, far, 4096), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, None), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, rate: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1024):
                if rate is not None:
                    time.sleep(len(data) / rate)  # it is the line that takes so long
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_a_slow_line_is_not_a_dead_one(engine: Engine, emulator: Emulator, tmp_path: Path) -> None:
    """4 KB a second: a part takes twice the timeout, and goes through at once."""
    emulator.block_size = 24 * KIB
    path = make_file(tmp_path / "slow.bin", 24 * KIB)
    line = SlowLine(emulator)
    engine.url = line.url
    engine.timeout = 3.0
    run = engine.upload(path, attempts=1)
    line.close()
    assert run.done.verified == "etag"
    assert not run.of(PartFailed)
    assert stored_parts(emulator.requests) == {0: 1}


def test_the_coordinator_rests_while_a_probe_is_under_way() -> None:
    """It waits for the probe's answer; it does not ask the clock over and over."""
    asked = [0]
    let_go = threading.Event()
    attempts = iter(range(100))

    def clock() -> float:
        asked[0] += 1
        if asked[0] > 500:
            let_go.set()
        return 0.0

    def job() -> None:
        attempt = next(attempts)
        if attempt == 0:
            raise NetworkError("down")
        if attempt == 1:
            # As a server that does not answer: nothing happens for a while.
            assert not let_go.wait(0.3), "the coordinator never rests"

    drive = Drive(
        threads=1,
        policy=RetryPolicy(attempts=1, interval=0.0, patience=None),
        stop=Stop(),
        emit=lambda _event: None,
        clock=clock,
    )
    drive.call("something", lambda: None)  # so that patience counts
    drive.call("something", job)
    drive.close()
    assert asked[0] < 100


# Refused connections


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Callable[[], Emulator]]:
    """Starts one server after another, on the same port and the same directory."""
    started: list[Emulator] = []

    def start() -> Emulator:
        port = started[0].port if started else 0
        server = Emulator(
            tmp_path / "store", port=port, keys=(PUBLIC, SECRET), block_size=BLOCK
        ).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


def test_the_server_is_gone_and_comes_back(
    restartable: Callable[[], Emulator], tmp_path: Path, ten: Path
) -> None:
    server = restartable()
    engine = Engine(tmp_path / "home-2", server)
    server.faults.add(call="part", part=5, hang="body")
    run = engine.begin(ten, attempts=2, interval=0.01, patience=None, threads=2)
    server.wait_for("part", stage="hanging")
    server.wait_until(lambda records: len(stored_parts(records)) >= 5)
    down = threading.Event()
    engine.on_event = lambda _, event: down.set() if isinstance(event, OutageBegan) else None
    server.close()
    assert down.wait(20)
    refused = [event.reason for event in run.of(PartFailed)]
    again = restartable()
    assert run.wait().done.verified == "etag"
    assert len(run.of(OutageEnded)) == 1
    assert any("refused" in reason or "reset" in reason for reason in refused)
    twice = stored_parts([*server.requests, *again.requests])
    assert set(twice) == set(range(10)) and sum(twice.values()) <= 12
    assert_same(again, ten)


def test_resume_waits_for_a_server_that_is_gone(
    restartable: Callable[[], Emulator], tmp_path: Path, ten: Path
) -> None:
    server = restartable()
    engine = Engine(tmp_path / "home-2", server)
    server.faults.add(call="part", part="5-", status=500)
    journal = engine.upload(ten, attempts=1).journal_id
    server.close()
    assert engine.resume(journal, attempts=2).code == 75
    run = engine.go_on(journal, attempts=2, interval=0.01, patience=None)
    again = restartable()
    assert run.wait().done.verified == "etag"
    assert_same(again, ten)


# By the real command


def test_refused_connections(alone: Ufile, large: Path) -> None:
    with Emulator(large.parent / "gone", keys=(PUBLIC, SECRET)) as server:
        url = server.url
    outcome = alone(
        "upload", "demo", "big", str(large), "--endpoint", url, "--json", "--retries", "2",
        "--retry-interval", "0", "--patience", "0",
    )  # fmt: skip
    assert outcome.code == 75, outcome
    assert "refused" in outcome.err and "ufile resume" in outcome.err
    assert alone.status()[0]["state"] == "paused"


def test_a_host_that_no_name_service_knows(alone: Ufile, large: Path) -> None:
    outcome = alone(
        "upload", "demo", "big", str(large), "--endpoint", "http://us3.invalid", "--json",
        "--retries", "1", "--patience", "0",
    )  # fmt: skip
    assert outcome.code == 75, outcome
    assert "no such host" in outcome.err and "Traceback" not in outcome.err
    assert outcome.json["error"]["kind"] == "NetworkError"
    assert alone.status()[0]["state"] == "paused"


def test_the_command_says_what_is_going_on(ufile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", after=5, status=503)
    running = ufile.start(
        "upload", "demo", "big", str(large), "--progress", "json", "--retries", "2",
        "--retry-interval", "0.05", "--patience", "forever", "--json",
    )  # fmt: skip
    running.wait_to_say('"event":"outage_began"')
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    names = [event["event"] for event in outcome.events]
    assert names.index("outage_began") < names.index("outage_ended")
    [began] = [event for event in outcome.events if event["event"] == "outage_began"]
    assert began["until"] is None and "503" in began["reason"]
    assert_same(emulator, large)
    assert set(stored_parts(emulator.requests).values()) == {1}


def test_the_command_pauses_when_patience_ends(
    ufile: Ufile, emulator: Emulator, large: Path
) -> None:
    emulator.faults.add(call="part", after=5, status=503, headers={"Retry-After": "1000"})
    outcome = ufile(
        "upload", "demo", "big", str(large), "--retries", "2", "--retry-interval", "0.05",
        "--patience", "2s", "--progress", "plain",
    )  # fmt: skip
    assert outcome.code == 75, outcome
    journal = ufile.only_journal()
    assert "HTTP 503" in outcome.err and f"ufile resume {journal}" in outcome.err
    assert ufile.status(journal)["state"] == "paused"
    assert ufile.document(journal)["error"]["status"] == 503
    emulator.faults.clear()
    assert ufile("resume", journal).code == 0
    assert set(stored_parts(emulator.requests).values()) == {1}


# Credentials


def profile(ufile: Ufile, private: str) -> None:
    path = Path(ufile.env["UFILE_CONFIG"])
    beside = path.with_suffix(".new")
    beside.write_text(f'[profiles.default]\npublic_key = "{PUBLIC}"\nprivate_key = "{private}"\n')
    beside.chmod(0o600)
    beside.replace(path)


@pytest.fixture
def by_profile(ufile: Ufile) -> Ufile:
    """The command with its keys in the profile file alone."""
    del ufile.env["UFILE_PUBLIC_KEY"], ufile.env["UFILE_PRIVATE_KEY"]
    profile(ufile, SECRET)
    return ufile


def test_rotated_keys(by_profile: Ufile, emulator: Emulator, large: Path) -> None:
    """Others count from some part on, and lie in the profile by then."""
    emulator.faults.add(call="part", part=8, nth=1, hang="head")
    running = by_profile.start(
        "upload", "demo", "big", str(large), "--json", "--retries", "1", "--patience", "0"
    )
    emulator.wait_for("part", stage="hanging")
    profile(by_profile, "another-private-key-of-the-tests")
    emulator.keys = (PUBLIC, "another-private-key-of-the-tests")
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 0, outcome
    assert any(record.signature == "refused" for record in emulator.requests)
    assert set(stored_parts(emulator.requests).values()) == {1}
    assert "credentials were refused" in outcome.err
    assert "another-private-key" not in outcome.err + outcome.out
    assert_same(emulator, large)


def test_keys_that_stay_refused(by_profile: Ufile, emulator: Emulator, large: Path) -> None:
    emulator.faults.add(call="part", part=8, nth=1, hang="head")
    running = by_profile.start("upload", "demo", "big", str(large), "--json")
    emulator.wait_for("part", stage="hanging")
    emulator.keys = (PUBLIC, "another-private-key-of-the-tests")
    emulator.faults.clear()
    outcome = running.wait()
    assert outcome.code == 77, outcome
    journal = outcome.json["journal_id"]
    assert by_profile.status(journal)["state"] == "paused"
    assert len([record for record in emulator.requests if record.signature == "refused"]) <= 4
    profile(by_profile, "another-private-key-of-the-tests")
    again = by_profile("resume", journal)
    assert again.code == 0, again
    assert set(stored_parts(emulator.requests).values()) == {1}


def test_rotated_twice(engine: Engine, emulator: Emulator, ten: Path) -> None:
    """Refused keys are read anew each time, and it is no attempt."""
    pairs = [Credentials(PUBLIC, f"private-{n}") for n in range(3)]
    current = [pairs[0]]

    def rotated(refused: str | None) -> bool:
        index = pairs.index(current[0])
        if current[0].tag == refused and index < 2:
            current[0] = pairs[index + 1]
        return current[0].tag != refused

    engine.credentials = lambda: current[0]
    engine.rotated = rotated
    emulator.keys = (PUBLIC, "private-0")
    emulator.faults.add(call="part", part=3, nth=1, rotate_keys=(PUBLIC, "private-1"))
    emulator.faults.add(call="finish", nth=1, rotate_keys=(PUBLIC, "private-2"))
    run = engine.upload(ten, attempts=1)
    assert run.done.verified == "etag"
    assert emulator.keys == (PUBLIC, "private-2")
    assert stored_parts(emulator.requests) == TEN
