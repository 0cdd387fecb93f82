"""What follows a failure, against the words of the manual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    IntegrityError,
    JournalWriteError,
    NetworkError,
    PartCorrupted,
    Refused,
    ServerTrouble,
    SourceError,
    UFileError,
)
from ufile_cli.multipart.retry import (
    BACK_AT_MOST,
    Decision,
    Outage,
    RetryPolicy,
    Trial,
    decide,
)

DEAD = NetworkError("the line is dead")


def trouble(retry_after: float | None = None) -> ServerTrouble:
    return ServerTrouble("busy", status=503, retry_after=retry_after)


def after(
    error: UFileError,
    *,
    attempt: int,
    policy: RetryPolicy | None = None,
    since: float | None = 100.0,
    active: bool = False,
    probes: int = 0,
    last_success: float | None = None,
    failed_first: float = 100.0,
    rounds: int = 0,
    now: float = 100.0,
    jitter: float = 1.0,
) -> Decision:
    return decide(
        error,
        Trial(attempt=attempt, failed_first=failed_first, rounds=rounds),
        Outage(since=since, active=active, probes=probes, last_success=last_success),
        policy or RetryPolicy(),
        now,
        jitter,
    )


def test_waits_double_with_jitter_up_to_a_minute() -> None:
    policy = RetryPolicy(interval=5)
    assert policy.wait(1, 0.0) == policy.wait(1, 1.0) == 5
    assert [policy.wait(n, 1.0) for n in range(2, 7)] == [10, 20, 40, 60, 60]
    assert [policy.wait(n, 0.0) for n in range(2, 7)] == [5, 10, 20, 30, 30]
    assert policy.wait(10**6, 1.0) == 60
    assert RetryPolicy(interval=0).wait(9, 1.0) == 0


@given(st.integers(1, 1000), st.floats(0, 100), st.floats(0, 1))
def test_waits_are_bounded(failures: int, interval: float, jitter: float) -> None:
    wait = RetryPolicy(interval=interval).wait(failures, jitter)
    assert min(interval, 30) <= wait <= 60


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", status=400),
        CredentialsRefused("who?", status=403),
        SourceError("gone"),
        IntegrityError("another object"),
        JournalWriteError("full"),
    ],
)
def test_what_is_not_transient_is_given_up(error: UFileError) -> None:
    assert after(error, attempt=1).action == "give_up"
    assert after(error, attempt=1, active=True).action == "give_up"


@pytest.mark.parametrize("error", [DEAD, trouble(), BadAnswer("?", status=200)])
def test_attempts_are_counted(error: UFileError) -> None:
    assert after(error, attempt=1) == Decision("retry", 5)
    assert after(error, attempt=2) == Decision("retry", 10)
    assert after(error, attempt=3).action == "probe"
    assert after(error, attempt=3, policy=RetryPolicy(patience=0)).action == "give_up"
    assert after(error, attempt=1, policy=RetryPolicy(attempts=1)).action == "probe"


def test_retry_after_counts_instead_up_to_the_patience() -> None:
    assert after(trouble(17), attempt=1).wait == 17
    assert after(trouble(1), attempt=2).wait == 1
    assert after(trouble(10**6), attempt=1).wait == 300
    assert after(trouble(10**6), attempt=1, now=250.0).wait == 150
    assert after(trouble(10**6), attempt=1, policy=RetryPolicy(patience=None)).wait == 10**6
    assert after(trouble(10**6), attempt=3, active=True, now=250.0).wait == 150
    backs = after(trouble(10**6), attempt=3, last_success=101.0, now=102.0)
    assert backs == Decision("back", 298)


def test_a_part_with_trouble_of_its_own_goes_to_the_back_ten_times() -> None:
    for rounds in range(BACK_AT_MOST):
        decision = after(DEAD, attempt=3, last_success=101.0, now=102.0, rounds=rounds)
        assert decision == Decision("back", 5)
    assert BACK_AT_MOST == 10
    decision = after(DEAD, attempt=3, last_success=101.0, now=102.0, rounds=10)
    assert decision.action == "give_up"


def test_success_before_the_first_failure_does_not_count_as_getting_through() -> None:
    assert after(DEAD, attempt=3, last_success=99.0).action == "probe"
    assert after(DEAD, attempt=3, last_success=None).action == "probe"


def test_success_at_the_moment_of_the_first_failure_says_nothing() -> None:
    assert after(DEAD, attempt=3, last_success=100.0).action == "probe"
    assert after(DEAD, attempt=3, last_success=100.5).action == "back"


def test_in_an_outage_one_probe_at_a_time_whoever_got_through_before() -> None:
    assert after(DEAD, attempt=3, last_success=101.0, active=True).action == "probe"


def test_a_trial_that_has_not_failed_in_this_round_is_no_part_with_trouble_of_its_own() -> None:
    decision = decide(DEAD, Trial(attempt=3), Outage(last_success=101.0), RetryPolicy(), 102.0, 1.0)
    assert decision == Decision("probe", 5)


def test_without_patience_nothing_is_tried_beyond_the_attempts() -> None:
    """Not even at the back of the queue; a second of patience is another matter."""
    none, little = RetryPolicy(patience=0), RetryPolicy(patience=1)
    assert after(DEAD, attempt=3, policy=none, last_success=101.0).action == "give_up"
    assert after(DEAD, attempt=3, policy=none, since=None).action == "give_up"
    assert after(DEAD, attempt=1, policy=none) == Decision("retry", 5)
    assert after(DEAD, attempt=3, policy=little) == Decision("probe", 1)


def test_a_new_round_forgets_the_attempts_but_not_the_rounds() -> None:
    trial = Trial()
    assert (trial.attempt, trial.rounds, trial.stale) == (0, 0, 0)
    trial = Trial(attempt=3, rounds=2, failed_first=9.0, stale=1)
    trial.anew()
    assert trial == Trial(attempt=0, rounds=2, failed_first=None, stale=1)


def test_an_outage_ends_with_patience() -> None:
    assert after(DEAD, attempt=9, active=True, now=399.0) == Decision("probe", 1)
    assert after(DEAD, attempt=9, active=True, now=400.0).action == "give_up"
    forever = RetryPolicy(patience=None)
    assert after(DEAD, attempt=9, active=True, now=1e9, probes=50, policy=forever) == Decision(
        "probe", 60
    )


def test_probes_back_off() -> None:
    waits = [after(DEAD, attempt=3, active=True, probes=n).wait for n in range(1, 6)]
    assert waits == [10, 20, 40, 60, 60]


def test_a_corrupted_part_is_tried_again_but_is_no_outage() -> None:
    error = PartCorrupted("damaged")
    assert after(error, attempt=1).action == "retry"
    assert after(error, attempt=3).action == "give_up"
    assert after(error, attempt=3, last_success=101.0).action == "give_up"
    # The first word that the server says after an outage may be a damaged part.
    assert after(error, attempt=1, active=True).action == "probe"


@given(
    error=st.sampled_from([DEAD, trouble(), trouble(0), trouble(1e9), PartCorrupted("damaged")]),
    attempt=st.integers(1, 20),
    attempts=st.integers(1, 5),
    patience=st.none() | st.floats(0, 1000),
    since=st.none() | st.floats(0, 1000),
    active=st.booleans(),
    rounds=st.integers(0, 12),
    last_success=st.none() | st.floats(0, 1000),
    now=st.floats(1000, 3000),
    jitter=st.floats(0, 1),
)
def test_no_decision_waits_beyond_patience(
    error: UFileError,
    attempt: int,
    attempts: int,
    patience: float | None,
    since: float | None,
    active: bool,
    rounds: int,
    last_success: float | None,
    now: float,
    jitter: float,
) -> None:
    policy = RetryPolicy(attempts=attempts, interval=5, patience=patience)
    decision = after(
        error,
        attempt=attempt,
        policy=policy,
        since=since,
        active=active,
        rounds=rounds,
        last_success=last_success,
        now=now,
        jitter=jitter,
    )
    assert decision.action in ("retry", "back", "probe", "give_up")
    assert decision.wait >= 0
    if decision.action == "retry":
        assert attempt < attempts
    if patience is not None and decision.action in ("probe", "back"):
        left = (since if since is not None else now) + patience - now
        assert decision.wait <= max(left, 0) + 1e-6
    if patience == 0 and attempt >= attempts:
        assert decision.action == "give_up"


def test_the_end_of_an_outage_says_how_long_it_was() -> None:
    outage = Outage()
    assert outage.succeeded(1.0) is None
    outage.failed(2.0)
    outage.failed(3.0)
    assert outage.since == 2.0
    assert outage.succeeded(4.0) is None
    outage.failed(5.0)
    outage.active, outage.probes = True, 3
    assert outage.succeeded(9.0) == 4.0
    assert outage == Outage(last_success=9.0)
