"""What is tried again: the budget of second attempts, and what one job has tried."""

from __future__ import annotations

import pytest

from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.run.retries import (
    BACK_OFF_S,
    EXTRA_LOAD,
    FIRST_TOKENS,
    MAX_TOKENS,
    RetryBudget,
    Tries,
    is_repeatable,
)

NOW = 100.0


def granted(budget: RetryBudget) -> int:
    """Count how many second attempts a budget still allows."""
    count = 0
    while budget.take():
        count += 1
    return count


def test_a_budget_begins_small_and_grows_by_a_share_of_the_requests() -> None:
    budget = RetryBudget()
    assert granted(budget) == int(FIRST_TOKENS)
    for _ in range(4):
        budget.note_request()
    assert granted(budget) == 0
    budget.note_request()
    assert granted(budget) == 1


def test_quiet_times_do_not_save_up_more_than_a_few_attempts() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.note_request()
    assert granted(budget) in (int(MAX_TOKENS), int(MAX_TOKENS + EXTRA_LOAD))


@pytest.mark.parametrize(
    ("error", "reached", "repeatable"),
    [
        (UpstreamUnavailable(), False, True),  # no connection
        (UpstreamUnavailable(), True, False),  # it may have been processed
        (UpstreamUnavailable(retry_after_s=3.0), True, True),
        (UpstreamOverloaded(), True, True),
        (UpstreamRateLimited(), True, True),
        (UpstreamRateLimited(retry_after_s=3.0), True, True),
        (UpstreamDisconnected(), True, False),
        (UpstreamTimeout("first_content", 1.0), True, False),
        (UpstreamTimeout("connect", 1.0), False, False),
        (UpstreamError(), True, False),
        (UpstreamUnavailable(own_fault="credentials"), True, False),
        (UpstreamUnavailable(own_fault="certificate"), False, False),
        (UpstreamUnavailable(own_fault="credit", retry_after_s=3.0), True, False),
    ],
)
def test_only_what_was_certainly_not_processed_may_be_sent_again(
    error: UpstreamError, reached: bool, repeatable: bool
) -> None:
    assert is_repeatable(error, reached=reached) is repeatable


def test_another_deployment_can_be_tried_at_once_and_the_same_one_only_when_granted() -> None:
    tries = Tries()
    tries.note_failure("a", repeatable=True)
    assert (tries.wait_s("a", NOW), tries.wait_s("b", NOW)) == (None, 0.0)
    tries.grant(NOW)
    wait_s = tries.wait_s("a", NOW)
    assert wait_s is not None
    assert BACK_OFF_S / 2 <= wait_s <= BACK_OFF_S
    assert tries.wait_s("a", NOW + BACK_OFF_S) == 0.0


def test_pauses_differ() -> None:
    pauses = set()
    for _ in range(20):
        tries = Tries()
        tries.grant(NOW)
        pauses.add(tries.not_before)
    assert len(pauses) > 10


def test_one_job_has_one_second_attempt() -> None:
    tries = Tries()
    for name in ("a", "b"):
        tries.note_attempt(name)
        tries.note_failure(name, repeatable=True)
    repeatable = [tries.repeatable]
    tries.grant(NOW)
    tries.note_attempt("b")
    tries.note_failure("b", repeatable=True)
    repeatable.append(tries.repeatable)
    assert repeatable == [True, False]
    assert [tries.wait_s(name, NOW + 9) for name in ("a", "b", "c")] == [None, None, 0.0]


def test_what_may_have_been_processed_is_not_tried_again_beside_what_may() -> None:
    tries = Tries()
    tries.note_failure("processed", repeatable=False)
    repeatable = [tries.repeatable]
    tries.note_failure("put off", repeatable=True)
    repeatable.append(tries.repeatable)
    assert repeatable == [False, True]
    tries.grant(NOW)
    assert tries.wait_s("processed", NOW + 9) is None
    assert tries.wait_s("put off", NOW + 9) == 0.0
