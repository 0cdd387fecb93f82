"""The coordinator in a simulated world: its own clock, jobs that take simulated seconds.

`World` takes the place of threads and inbox. A job is run when it is handed out, and its outcome
arrives after the seconds that the job says it takes; where nothing is due, waiting makes the clock
go on. So every order of events is known, and nothing waits for real time.
"""

from __future__ import annotations

import heapq
import signal
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, pairwise
from queue import Empty, SimpleQueue

import pytest

from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    JournalWriteError,
    NetworkError,
    Refused,
    ServerTrouble,
    Stopped,
    UFileError,
)
from ufile_cli.multipart.concurrency import START
from ufile_cli.multipart.drive import GRACE, Drive, Task
from ufile_cli.multipart.retry import RetryPolicy
from ufile_cli.multipart.workers import Crew, Outcome, Stop
from ufile_cli.progress.events import Event, Notice, OutageBegan, OutageEnded, PartFailed


class Bell(SimpleQueue[object]):
    """An inbox on the world's clock."""

    world: World
    restless = 0

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        world = self.world
        assert timeout is not None and timeout >= 0
        if not self.empty():
            return super().get()
        if world.due and world.due[0][0] <= world.now + timeout:
            at, _, message = heapq.heappop(world.due)
            world.now = max(world.now, at)
            return message() if callable(message) else message
        self.restless = 0 if timeout else self.restless + 1
        assert self.restless < 5, "it loops without rest"
        world.now += max(timeout, 1e-6)
        assert world.now < 1e7, "it waits for ever"
        raise Empty


class Hands(Crew):
    """Workers of the world: an outcome comes after the job's seconds."""

    def __init__(self, world: World) -> None:
        super().__init__(world.bell)
        self._world = world
        self.most = 0

    def submit(self, token: object, job: Callable[[], object]) -> None:
        world = self._world
        self.busy += 1
        self.most = max(self.most, self.busy)
        world.seconds = 1.0
        value, failure = None, None
        try:
            value = job()
        except BaseException as error:
            failure = error
        world.after(world.seconds, Outcome(token, value, failure))

    def dismiss(self) -> None:
        pass


@dataclass
class World:
    """Time, threads and what was told."""

    now: float = 1000.0
    seconds: float = 1.0
    due: list[tuple[float, int, object]] = field(default_factory=list)
    order: count[int] = field(default_factory=count)
    events: list[Event] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    ticks: list[float] = field(default_factory=list)
    tick_error: UFileError | None = None

    def __post_init__(self) -> None:
        self.bell = Bell()
        self.bell.world = self

    def after(self, seconds: float, message: object) -> None:
        heapq.heappush(self.due, (self.now + seconds, next(self.order), message))

    def tick(self) -> None:
        self.ticks.append(self.now)
        if self.tick_error is not None:
            raise self.tick_error

    def drive(
        self,
        threads: int = 2,
        policy: RetryPolicy | None = None,
        rotated: Callable[[str | None], bool] = lambda _tag: False,
        auto: bool = False,
    ) -> Drive:
        drive = Drive(
            threads=threads,
            auto=auto,
            policy=policy or RetryPolicy(),
            stop=Stop(),
            emit=self.events.append,
            rotated=rotated,
            tick=self.tick,
            clock=lambda: self.now,
            wall=lambda: self.now + 1e6,
            jitter=lambda: 1.0,
        )
        drive.inbox = self.bell
        drive._crew = self.hands = Hands(self)
        drive._stop = self.stop
        self.stop.watch(self.bell)
        return drive

    def told(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


DEAD = "the line is dead"


@dataclass
class Parts:
    """A feed of parts, each with a script: errors to raise, then success."""

    world: World
    scripts: dict[int, list[UFileError | float]]
    begun: list[tuple[float, int, int]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    messages: list[object] = field(default_factory=list)
    down: tuple[float, float] = (0.0, 0.0)
    watch: Callable[[], None] = lambda: None
    size: int = 0

    def __post_init__(self) -> None:
        self.queue = deque(sorted(self.scripts))

    def exhausted(self) -> bool:
        return not self.queue

    def message(self, message: object) -> None:
        self.messages.append(message)

    def next(self) -> Task | None:
        if not self.queue:
            return None
        number = self.queue.popleft()

        def job() -> int:
            script = self.scripts[number]
            if script and isinstance(script[0], float):
                seconds = script.pop(0)
                assert isinstance(seconds, float)
                self.world.seconds = seconds
            if self.down[0] <= self.world.now < self.down[1]:
                raise NetworkError(DEAD)
            if script:
                error = script.pop(0)
                assert isinstance(error, UFileError)
                raise error
            self.acknowledged.append(number)
            return number

        def begun(attempt: int) -> None:
            self.begun.append((self.world.now - 1000, number, attempt))
            self.watch()

        def done(_: object) -> None:
            self.sent.append(number)

        return Task(job, done, f"part {number}", number, begun, size=self.size)


def dead(times: int = 1) -> list[UFileError | float]:
    return [NetworkError(DEAD) for _ in range(times)]


def test_everything_goes_well() -> None:
    world = World()
    parts = Parts(world, {number: [] for number in range(7)})
    world.drive(threads=3).run(parts)
    assert sorted(parts.sent) == list(range(7))
    assert world.hands.most == 3
    assert world.now == 1003.0
    assert [attempt for _, _, attempt in parts.begun] == [1] * 7
    assert world.events == []


def test_attempts_and_waits() -> None:
    world = World()
    parts = Parts(world, {0: dead(2)})
    world.drive().run(parts)
    # One second each, then 5 s, then twice that.
    assert parts.begun == [(0, 0, 1), (6, 0, 2), (17, 0, 3)]
    assert world.told(PartFailed) == [
        PartFailed(0, 1, 3, DEAD, 5.0),
        PartFailed(0, 2, 3, DEAD, 10.0),
    ]


def test_a_failing_part_holds_no_slot() -> None:
    world = World()
    parts = Parts(world, {0: dead(1), **{number: [] for number in range(1, 9)}})
    world.drive(threads=1).run(parts)
    assert parts.sent[:3] == [1, 2, 3]
    assert sorted(parts.sent) == list(range(9))
    assert (6, 0, 2) in parts.begun


def test_retry_after_counts_instead() -> None:
    world = World()
    parts = Parts(world, {0: [ServerTrouble("busy", status=503, retry_after=17)]})
    world.drive().run(parts)
    assert parts.begun == [(0, 0, 1), (18, 0, 2)]


def test_used_up_attempts_with_others_getting_through_go_to_the_back() -> None:
    world = World()
    scripts: dict[int, list[UFileError | float]] = {number: [] for number in range(1, 900)}
    parts = Parts(world, {0: dead(33), **scripts})
    with pytest.raises(NetworkError) as caught:
        world.drive().run(parts)
    assert caught.value.part == 0
    attempts = [attempt for _, number, attempt in parts.begun if number == 0]
    assert attempts == [1, 2, 3] * 11, "three attempts, then ten times at the back"
    assert world.told(OutageBegan) == []


def test_patience_zero_ends_with_the_attempts() -> None:
    world = World()
    parts = Parts(world, {0: dead(5), 1: [], 2: []})
    with pytest.raises(NetworkError):
        world.drive(policy=RetryPolicy(attempts=2, interval=1, patience=0)).run(parts)
    assert [a for _, n, a in parts.begun if n == 0] == [1, 2]
    assert world.told(PartFailed)[-1] == PartFailed(0, 2, 2, DEAD, None)


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_where_nothing_gets_through_few_parts_are_tried(threads: int) -> None:
    """A refused connection takes no time: thousands of parts would be tried, and wait."""
    world = World()
    scripts: dict[int, list[UFileError | float]] = {n: [0.001] for n in range(5000)}
    parts = Parts(world, scripts, down=(1000.0, 1100.0))
    world.drive(threads=threads).run(parts)
    before = {number for at, number, _ in parts.begun if at < 100}
    assert threads < len(before) <= max(8, 2 * threads) + threads
    assert parts.sent and sorted(parts.sent) == list(range(5000))


def test_an_outage_is_one_probe_at_a_time_and_ends() -> None:
    world = World()
    parts = Parts(world, {number: [] for number in range(12)}, down=(1002.0, 1100.0))
    world.drive(threads=4).run(parts)
    assert sorted(parts.sent) == list(range(12))
    (began,) = world.told(OutageBegan)
    assert isinstance(began, OutageBegan)
    assert (began.reason, began.since) == (DEAD, 1003.0 + 1e6)
    assert began.until == began.since + 300
    (ended,) = world.told(OutageEnded)
    assert isinstance(ended, OutageEnded)
    outage = [(at, number) for at, number, _ in parts.begun if 20 < at <= ended.seconds + 2]
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(outage)]
    assert len(outage) >= 3
    assert all(gap > 5 for gap in gaps), f"more than one probe at a time: {outage}"
    # Afterwards all go on at once, with attempts as if nothing had been.
    last = max(at for at, _, _ in parts.begun)
    assert last < ended.seconds + 3 + 5
    assert all(attempt == 1 for at, _, attempt in parts.begun if at > ended.seconds + 3)


def test_an_outage_does_not_leave_auto_with_one_thread() -> None:
    world = World()
    parts = Parts(world, {number: [] for number in range(20)}, down=(1000.0, 1100.0), size=4096)
    drive = world.drive(threads=64, auto=True)
    numbers: list[int] = []
    parts.watch = lambda: numbers.append(drive.threads)
    drive.run(parts)
    assert min(numbers) < START
    assert drive.threads >= START


def test_auto_is_told_how_long_parts_took_and_how_many_were_in_flight() -> None:
    world = World()
    parts = Parts(world, {number: [] for number in range(200)}, size=4096)
    drive = world.drive(threads=64, auto=True)
    drive.run(parts)
    # However many there are, each takes its second: the line is never full.
    assert drive.settled == 64


def test_a_probe_that_hangs_is_the_only_one() -> None:
    world = World()
    parts = Parts(world, {number: [1.0, *dead(1), 90.0, *dead(1), 90.0] for number in range(4)})
    drive = world.drive(threads=4, policy=RetryPolicy(attempts=1, patience=None))
    drive.call("Initiate", lambda: "id")
    world.hands.most = 0
    flying: list[int] = []
    parts.watch = lambda: flying.append(world.hands.busy)
    drive.run(parts)
    assert sorted(parts.sent) == [0, 1, 2, 3]
    (ended,) = world.told(OutageEnded)
    assert isinstance(ended, OutageEnded)
    assert flying[:4] == [0, 1, 2, 3]
    assert flying[4:9] == [0] * 5, "one at a time"


def test_a_call_in_an_outage_is_told_once() -> None:
    world = World()
    drive = world.drive(policy=RetryPolicy(attempts=1))
    drive.call("Initiate", lambda: "id")
    script = dead(6)

    def job() -> str:
        if script:
            raise script.pop()  # type: ignore[misc]
        return "done"

    assert drive.call("Finish", job) == "done"
    assert world.told(Notice) == [Notice(f"{DEAD}; trying again in 5 s")]
    assert len(world.told(OutageBegan)) == len(world.told(OutageEnded)) == 1


def test_an_outage_ends_the_upload_with_patience() -> None:
    world = World()
    parts = Parts(world, {number: [] for number in range(6)}, down=(1002.0, 1e9))
    with pytest.raises(NetworkError) as caught:
        world.drive(policy=RetryPolicy(patience=100)).run(parts)
    words = f"nothing got through for 101 s: paused (part {caught.value.part}: {DEAD})"
    assert caught.value.message == str(caught.value) == words
    assert 1100 <= world.now <= 1110
    assert len(parts.sent) == 4


def test_patience_for_ever() -> None:
    world = World()
    parts = Parts(world, {0: []}, down=(0.0, 1e6))
    drive = world.drive(policy=RetryPolicy(patience=None))
    drive.run(parts)
    assert parts.sent == [0]
    (began,) = world.told(OutageBegan)
    assert isinstance(began, OutageBegan) and began.until is None
    assert world.now < 1e6 + 65, "probes come once a minute"


def test_where_nothing_ever_got_through_a_call_is_not_patient() -> None:
    world = World()
    attempts: list[float] = []

    def job() -> None:
        attempts.append(world.now - 1000)
        raise NetworkError(DEAD)

    with pytest.raises(NetworkError):
        world.drive().call("Initiate", job)
    assert attempts == [0, 6, 17]
    notices = [event.text for event in world.events if isinstance(event, Notice)]
    assert len(notices) == 2
    assert all(DEAD in text for text in notices)
    assert [text.rsplit(" in ", 1)[1] for text in notices] == ["5 s", "10 s"]


def test_after_a_success_a_call_is_patient() -> None:
    world = World()
    drive = world.drive()
    assert drive.call("Initiate", lambda: "id") == "id"

    def job() -> str:
        if world.now < 1200:
            raise NetworkError(DEAD)
        return "done"

    assert drive.call("Finish", job) == "done"
    assert len(world.told(OutageBegan)) == len(world.told(OutageEnded)) == 1


def test_work_without_the_server_is_no_sign_of_life() -> None:
    world = World()
    drive = world.drive()
    assert drive.call("hashing", lambda: 1, remote=False) == 1
    assert drive._outage.last_success is None


def test_stale_connections_are_no_attempts() -> None:
    world = World()
    stale: list[UFileError | float] = [NetworkError("stale", stale=True) for _ in range(3)]
    parts = Parts(world, {0: stale})
    world.drive(threads=2).run(parts)
    assert parts.begun == [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)]
    assert world.events == []


def test_a_server_that_drops_every_connection_is_no_endless_loop() -> None:
    world = World()
    stale: list[UFileError | float] = [NetworkError("stale", stale=True) for _ in range(100)]
    parts = Parts(world, {0: stale})
    with pytest.raises(NetworkError):
        world.drive(threads=2, policy=RetryPolicy(patience=0)).run(parts)
    assert len(parts.begun) == 12


def test_credentials_that_were_rotated() -> None:
    world = World()
    asked: list[str | None] = []

    def rotated(tag: str | None) -> bool:
        asked.append(tag)
        return tag == "old"

    def refused(tag: str) -> UFileError:
        return CredentialsRefused("no", status=403, credentials_tag=tag)

    parts = Parts(world, {0: [refused("old")], 1: [refused("old")]})
    world.drive(rotated=rotated).run(parts)
    assert sorted(parts.sent) == [0, 1]
    assert asked == ["old", "old"]
    assert all(attempt == 1 for _, _, attempt in parts.begun)
    parts = Parts(world, {0: [refused("old"), refused("new")]})
    with pytest.raises(CredentialsRefused) as caught:
        world.drive(rotated=rotated).run(parts)
    assert caught.value.part == 0


def test_the_first_fatal_error_wins_and_acknowledgements_in_flight_count() -> None:
    world = World()
    first, second = Refused("first", status=400), Refused("second", status=400)
    parts = Parts(world, {0: [1.0, first], 1: [2.0, second], 2: [2.5], 3: [], 4: []})
    with pytest.raises(Refused, match="first"):
        world.drive(threads=3).run(parts)
    assert parts.sent == [2]
    assert len(parts.begun) == 3, "nothing new is begun"
    assert world.now == 1002.5


def test_grace_ends() -> None:
    world = World()
    parts = Parts(world, {0: [1.0, Refused("no", status=400)], 1: [100.0]})
    with pytest.raises(Refused):
        world.drive().run(parts)
    assert world.now == pytest.approx(1001 + GRACE)
    assert parts.sent == []


def test_an_error_while_draining_does_not_hide_the_first() -> None:
    world = World()

    def full(_: object) -> None:
        raise JournalWriteError("full")

    tasks = deque(
        [
            Task(lambda: 1, full, "the part list"),
            *[Task(lambda: 1, lambda _: drained.append(1), f"part {n}", n) for n in (1, 2)],
        ]
    )
    drained: list[int] = []

    class Feed(Parts):
        def next(self) -> Task | None:
            return tasks.popleft() if tasks else None

    parts = Feed(world, {})
    world.after(0.5, lambda: world.stop.ask(signal.SIGINT))
    with pytest.raises(Stopped):
        world.drive(threads=3).run(parts)
    assert drained == [1, 1]


def test_outcomes_of_an_earlier_run_are_ignored() -> None:
    world = World()
    drive = world.drive(threads=2)
    parts = Parts(world, {0: [1.0, Refused("no", status=400)], 1: [50.0]})
    with pytest.raises(Refused):
        drive.run(parts)
    later = Parts(world, {number: [30.0] for number in range(10, 14)})
    drive.run(later)
    assert sorted(later.sent) == [10, 11, 12, 13]
    assert parts.sent == []
    assert drive._crew.busy == 0


def test_a_worker_that_never_comes_home_holds_nothing_up() -> None:
    world = World()
    drive = world.drive(threads=2)
    parts = Parts(world, {0: [1.0, Refused("no", status=400)], 1: [1e9]})
    with pytest.raises(Refused):
        drive.run(parts)
    before = world.now
    assert drive.call("the part list", lambda: "page") == "page"
    assert world.now < before + 2


@pytest.mark.parametrize("waiting", ["for a worker", "for a retry", "in an outage"])
def test_a_signal_is_heard(waiting: str) -> None:
    world = World()
    script: list[UFileError | float] = [500.0] if waiting == "for a worker" else dead(1)
    down = (0.0, 1e6) if waiting == "in an outage" else (0.0, 0.0)
    parts = Parts(world, {0: script, 1: [1500.0]}, down=down)

    def ask() -> object:
        world.stop.ask(signal.SIGTERM)
        return world.bell.get(timeout=1)

    world.after(50.5 if waiting == "in an outage" else 3.5, ask)
    with pytest.raises(Stopped) as caught:
        world.drive(threads=1).run(parts)
    assert caught.value.code == 143
    assert world.now <= 1000 + 51 + GRACE


def test_a_signal_that_comes_while_an_error_is_drained_is_heard_next() -> None:
    world = World()
    drive = world.drive(threads=2)
    parts = Parts(world, {0: [1.0, Refused("dead id", status=400)], 1: [2.0]})
    world.after(1.5, lambda: world.stop.ask(signal.SIGINT))
    with pytest.raises(Refused):
        drive.run(parts)
    with pytest.raises(Stopped) as caught:
        drive.call("the part list", lambda: pytest.fail("asked the server"))
    assert caught.value.code == 130


def test_the_journal_is_flushed_about_once_a_second() -> None:
    world = World()
    parts = Parts(world, {number: [0.1] for number in range(100)})
    world.drive(threads=1).run(parts)
    assert 9 <= len(world.ticks) <= 11
    world.tick_error = JournalWriteError("full")
    with pytest.raises(JournalWriteError):
        world.drive(threads=1).run(Parts(world, {number: [0.5] for number in range(100)}))


def test_what_is_not_the_drives_reaches_the_feed() -> None:
    world = World()
    parts = Parts(world, {0: [5.0]})
    world.after(1, "a part was read")
    world.drive().run(parts)
    assert parts.messages == ["a part was read"]


def test_a_bug_in_a_job_comes_out_as_it_is() -> None:
    world = World()

    def job() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.drive().call("Initiate", job)


def test_an_answer_that_makes_no_sense_is_tried_again() -> None:
    world = World()
    parts = Parts(world, {0: [BadAnswer("?", status=200)]})
    world.drive().run(parts)
    assert parts.sent == [0]


def test_with_real_threads() -> None:
    seen: set[str] = set()

    class Feed:
        left = 40
        done = 0

        def next(self) -> Task | None:
            if not self.left:
                return None
            self.left -= 1
            return Task(
                lambda: seen.add(threading.current_thread().name), self._done, "part", self.left
            )

        def _done(self, _: object) -> None:
            self.done += 1

        def exhausted(self) -> bool:
            return not self.left

        def message(self, message: object) -> None:
            raise AssertionError(message)

    drive = Drive(threads=3, policy=RetryPolicy(), stop=Stop(), emit=lambda _: None)
    feed = Feed()
    drive.run(feed)
    drive.close()
    assert feed.done == 40
    assert seen <= {"part-1", "part-2", "part-3"}
