"""The arithmetic of limits: exact counts, true waits, periods that never refill twice."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.accounting.limits import (
    Bucket,
    Meter,
    Tally,
    format_duration,
    period_at,
    period_named,
    rate_limit_headers,
)
from server.store.key import BudgetPeriod
from workers.units import DAY_S, MINUTE_S


class ArrivalTimes:
    """GCRA in its other form, a theoretical arrival time, in exact fractions: the model."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.interval = Fraction(60, limit)
        self.next_at = Fraction(0)

    def wait(self, amount: int, now: Fraction) -> Fraction:
        """Return how long until `amount` fits."""
        start = max(self.next_at, now)
        return max(Fraction(0), start + amount * self.interval - now - 60)

    def take(self, amount: int, now: Fraction) -> None:
        """Count `amount`."""
        self.next_at = max(max(self.next_at, now) + amount * self.interval, now)


steps = st.lists(
    st.tuples(
        st.integers(0, 40_000), st.sampled_from(["take", "take", "settle"]), st.integers(1, 9)
    ),
    max_size=60,
)


@given(limit=st.integers(1, 1_000), steps=steps)
def test_a_bucket_decides_like_exact_arrival_times(
    limit: int, steps: list[tuple[int, str, int]]
) -> None:
    bucket, model = Bucket(limit, MINUTE_S, 1_000.0), ArrivalTimes(limit)
    passed_ms = 0
    for gap_ms, action, wanted in steps:
        passed_ms += gap_ms
        now, exact = 1_000 + passed_ms / 1000, Fraction(passed_ms, 1000)
        amount = min(wanted, limit)
        if action == "settle":  # more was used than was estimated: no question asked
            bucket.add(amount, now)
            model.take(amount, exact)
            continue
        wait_s = bucket.wait_s(amount, now)
        assert wait_s == pytest.approx(float(model.wait(amount, exact)), abs=1e-6)
        assert (wait_s == 0) == (model.wait(amount, exact) == 0)
        if wait_s == 0:
            bucket.add(amount, now)
            model.take(amount, exact)


@given(limit=st.integers(1, 5_000), start=st.floats(0, 1e7))
def test_takes_at_one_moment_are_admitted_up_to_exactly_the_limit(limit: int, start: float) -> None:
    bucket = Bucket(limit, MINUTE_S, start)
    admitted = 0
    for _ in range(limit + 3):
        if not bucket.wait_s(1, start):
            bucket.add(1, start)
            admitted += 1
    assert admitted == limit


@given(limit=st.integers(1, 10**9), taken=st.integers(0, 10**9), amount=st.integers(1, 10**6))
def test_after_the_told_wait_the_take_fits(limit: int, taken: int, amount: int) -> None:
    bucket = Bucket(limit, MINUTE_S, 10.0)
    bucket.add(taken, 10.0)
    amount = min(amount, limit)
    wait_s = bucket.wait_s(amount, 10.0)
    assert bucket.wait_s(amount, 10.0 + wait_s + 1e-6) == 0


def test_a_full_window_brings_everything_back_and_no_more() -> None:
    bucket = Bucket(7, MINUTE_S, 0.0)
    bucket.add(7, 0.0)
    assert bucket.meter(60.0) == Meter(7, 7, 0.0)
    assert bucket.meter(6_000.0) == Meter(7, 7, 0.0)


def test_a_debt_shows_as_nothing_left_and_a_reset_that_tells_the_truth() -> None:
    bucket = Bucket(100, MINUTE_S, 0.0)
    bucket.add(250, 0.0)
    assert bucket.meter(0.0) == Meter(100, 0, 150.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(90.6)


def test_giving_back_never_makes_more_than_a_full_bucket() -> None:
    bucket = Bucket(5, MINUTE_S, 0.0)
    bucket.add(2, 0.0)
    bucket.add(-4, 0.0)
    assert bucket.meter(0.0) == Meter(5, 5, 0.0)


@pytest.mark.parametrize(
    ("level", "old", "new", "kept"),
    [
        (5, 10, 20, 5),  # raised: what was used stays used
        (5, 10, 6, 5),  # lowered, still within
        (50, 100, 10, 10),  # lowered below what was used: locked for one request's time
        (200, 100, 10, 20),  # a debt of one window stays one window
        (150, 100, 120, 150),  # raised while in debt: the debt is not raised with it
        (150, 100, 200, 150),
    ],
)
def test_a_changed_limit_keeps_what_was_used_and_locks_nobody_out_for_longer(
    level: int, old: int, new: int, kept: int
) -> None:
    bucket = Bucket(old, MINUTE_S, 0.0)
    bucket.add(level, 0.0)
    bucket.resize(new, 0.0)
    assert bucket.drain(0.0) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (1e-10, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9995, "1s"),
        (1, "1s"),
        (1.0000000001, "1s"),
        (1.5, "1.5s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (90.25, "1m30.25s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86_399.001, "23h59m59.001s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_headers_come_only_for_the_limits_there_are() -> None:
    assert rate_limit_headers(None, None) == {}
    assert rate_limit_headers(Meter(60, 59, 1.0), None) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    }
    assert rate_limit_headers(None, Meter(150_000, 0, 360.0)) == {
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("kind", "at", "label", "starts", "ends"),
    [
        ("day", "2026-11-22T23:59:59.999", "2026-11-22", "2026-11-22", "2026-11-23"),
        ("day", "2026-11-23T00:00:00", "2026-11-23", "2026-11-23", "2026-11-24"),
        ("week", "2026-11-22T23:59:59", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00:00", "2026-W48", "2026-11-23", "2026-11-30"),
        ("week", "2027-01-01T12:00:00", "2026-W53", "2026-12-28", "2027-01-04"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T00:00:00", "2028-02", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_begin_and_end_at_midnight_utc(
    kind: BudgetPeriod, at: str, label: str, starts: str, ends: str
) -> None:
    period = period_at(kind, moment(at))
    assert period == (label, moment(starts), moment(ends))
    assert period_named(kind, label) == period


@pytest.mark.parametrize("label", ["", "yesterday", "2026-13", "2026-W60", "2026-11-22"])
def test_a_label_that_names_no_month_is_no_period(label: str) -> None:
    assert period_named("month", label) is None


def test_all_time_has_no_end() -> None:
    assert period_at("total", 0.0).ends_at == math.inf
    assert Tally("total", 0.0, 0.0).left_s(0.0, 0.0) is None


def test_money_begins_again_at_0_with_the_next_period() -> None:
    wall = moment("2026-11-22T23:59:59")
    tally = Tally("day", wall, 0.0)
    tally.spent_microusd = 7
    tally.roll(wall + 0.5, 0.5)
    assert tally.spent_microusd == 7
    assert tally.left_s(wall + 0.5, 0.5) == 0.5
    tally.roll(wall + 1, 1.0)
    assert tally.spent_microusd == 0


def test_a_clock_that_is_set_back_and_forth_does_not_refill_twice() -> None:
    wall = moment("2026-11-22T23:30")
    tally = Tally("day", wall, 0.0)
    tally.roll(wall + 3600, 1.0)  # set forward into the next day: that day's money
    tally.spent_microusd = 7
    tally.roll(wall, 2.0)  # and back
    assert tally.spent_microusd == 7
    tally.roll(wall + 3600, 3600.0)  # the next day really begins
    assert tally.spent_microusd == 7


def test_a_clock_that_was_set_back_locks_for_no_longer_than_one_period() -> None:
    wall = moment("2027-11-22T12:00")
    tally = Tally("day", wall, 0.0)
    tally.spent_microusd = 7
    a_year_ago = wall - 365 * DAY_S
    tally.roll(a_year_ago, 10.0)
    assert tally.spent_microusd == 7
    assert tally.left_s(a_year_ago, 10.0) == DAY_S - 10
    tally.roll(a_year_ago + DAY_S, DAY_S)
    assert tally.spent_microusd == 0
    assert tally.period.label == "2026-11-23"


def test_a_saved_sum_counts_only_in_its_own_period() -> None:
    wall = moment("2026-11-22T12:00")
    for label, spent in (("2026-11-21", 0), ("2026-11-22", 9), ("2026-11-23", 9), ("junk", 0)):
        tally = Tally("day", wall, 0.0)
        tally.restore(label, 9)
        assert tally.spent_microusd == spent, label
