"""The state of a deployment: when it cools, how long, and how it comes back."""

from __future__ import annotations

import pytest
from msgspec import structs
from support.builders.jobs import make_deployment
from support.fakes.upstream import Answer, FakeUpstream, Request, completion, refusal
from support.front_door import MODEL, Door

from workers.errors import (
    GatewayError,
    OwnFault,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.run.deployment_state import (
    ASIDE_S,
    FAILURES_IN_A_ROW,
    FIRST_COOLDOWN_S,
    FIRST_LIMITED_S,
    JITTER,
    MAX_COOLDOWN_S,
    MAX_LIMITED_S,
    MAX_WAIT_S,
    DeploymentState,
    Slot,
)

NOW = 1000.0


def state(room: int = 64) -> DeploymentState:
    return DeploymentState(make_deployment(room=room))


def own_fault(kind: OwnFault) -> UpstreamError:
    return UpstreamUnavailable(own_fault=kind)


def fail(
    it: DeploymentState,
    error: GatewayError | None = None,
    *,
    now: float = NOW,
    lane: str = "",
) -> bool:
    """Make an attempt that fails."""
    epoch = it.take()
    cooled = it.note_error(error or UpstreamUnavailable(), epoch, now, lane)
    it.give_back(epoch)
    return cooled


def answer(it: DeploymentState, lane: str = "") -> None:
    """Make an attempt that is answered."""
    epoch = it.take()
    it.note_content(epoch)
    it.note_success(epoch, lane)
    it.give_back(epoch)


def cooled(it: DeploymentState, now: float = NOW) -> DeploymentState:
    """Make a deployment cool by failures in a row."""
    while it.word != "cooling":
        fail(it, now=now)
    return it


FAILURES = [
    UpstreamError(),
    UpstreamUnavailable(),
    UpstreamDisconnected(),
    UpstreamTimeout("connect", 1.0),
    UpstreamTimeout("first_content", 1.0),
    UpstreamTimeout("gap", 1.0),
    UpstreamTimeout("upstream"),
    own_fault("model"),
]
HARMLESS = [
    UpstreamRejected("bad prompt", status=400),
    UpstreamRejected("moderated", code="content_filter"),
    UpstreamTimeout("total", 1.0),
    GatewayError(),
]


@pytest.mark.parametrize("error", FAILURES)
def test_so_many_failures_in_a_row_cool_a_deployment_and_no_fewer(error: GatewayError) -> None:
    it = state()
    assert [fail(it, error) for _ in range(FAILURES_IN_A_ROW)] == [False] * 4 + [True]
    assert FIRST_COOLDOWN_S <= it.wait_s(NOW) <= FIRST_COOLDOWN_S * (1 + JITTER)
    assert not it.has_room


@pytest.mark.parametrize("error", HARMLESS)
def test_what_says_nothing_about_the_upstream_never_cools_it(error: GatewayError) -> None:
    it = state()
    assert not any(fail(it, error) for _ in range(100))
    assert (it.word, it.has_room) == ("ready", True)


def test_a_rejected_request_shows_that_the_upstream_works() -> None:
    it = state()
    for _ in range(FAILURES_IN_A_ROW - 1):
        fail(it)
    fail(it, UpstreamRejected("bad prompt"))
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert not fail(it)


def test_one_success_ends_a_row_of_failures() -> None:
    it = state()
    for _ in range(FAILURES_IN_A_ROW - 1):
        fail(it)
    answer(it)
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert not fail(it)


def test_failures_in_half_of_the_newest_attempts_cool_a_deployment() -> None:
    it = state()
    for _ in range(4):
        answer(it)
        assert not fail(it)
    answer(it)
    assert fail(it), "the fifth of ten"


def test_failures_in_fewer_than_half_do_not() -> None:
    it = state()
    for _ in range(30):
        answer(it)
        answer(it)
        assert not fail(it)


@pytest.mark.parametrize("kind", ["credentials", "credit"])
def test_a_refused_secret_or_an_empty_account_puts_it_aside_at_once(kind: OwnFault) -> None:
    it = state()
    assert fail(it, own_fault(kind))
    assert it.wait_s(NOW) >= ASIDE_S
    assert it.cause is not None
    assert it.cause.own_fault == kind


def test_a_bad_certificate_cools_it_at_once_but_not_for_long() -> None:
    it = state()
    assert fail(it, own_fault("certificate"))
    assert FIRST_COOLDOWN_S <= it.wait_s(NOW) <= FIRST_COOLDOWN_S * (1 + JITTER)
    assert it.cause is not None
    assert it.cause.reason == "certificate"


@pytest.mark.parametrize(
    "error",
    [UpstreamRateLimited(retry_after_s=30.0), UpstreamUnavailable(retry_after_s=30.0)],
)
def test_a_stated_wait_is_kept_exactly(error: GatewayError) -> None:
    it = state()
    assert fail(it, error)
    assert it.wait_s(NOW) == 30.0
    assert it.wait_s(NOW + 29.0) == 1.0
    assert it.wait_s(NOW + 31.0) == 0.0


@pytest.mark.parametrize(("told", "left"), [(10.0, 30.0), (29.0, 30.0), (60.0, 60.0)])
def test_a_wait_is_extended_and_never_shortened(told: float, left: float) -> None:
    it = state()
    late = it.take()
    fail(it, UpstreamRateLimited(retry_after_s=30.0))
    assert not it.note_error(UpstreamRateLimited(retry_after_s=told), late, NOW)
    assert it.wait_s(NOW) == left


def test_no_upstream_can_ask_for_more_than_an_hour() -> None:
    it = state()
    fail(it, UpstreamRateLimited(retry_after_s=1e9))
    assert it.wait_s(NOW) == MAX_WAIT_S


def test_other_failures_while_it_cools_change_nothing() -> None:
    it = state()
    late = [it.take() for _ in range(10)]
    fail(it, UpstreamRateLimited(retry_after_s=3.0))
    for epoch in late:
        assert not it.note_error(UpstreamUnavailable(), epoch, NOW)
        assert not it.note_error(UpstreamRateLimited(), epoch, NOW)
    assert it.wait_s(NOW) == 3.0


def test_answers_that_began_before_do_not_end_the_cooldown() -> None:
    it = state()
    late = [it.take() for _ in range(10)]
    fail(it, UpstreamRateLimited(retry_after_s=3.0))
    for epoch in late:
        assert not it.note_content(epoch)
        it.note_success(epoch)
    assert (it.word, it.has_room) == ("cooling", False)
    it.probe()
    assert not it.note_content(late[0]), "nor do they widen the probes"
    assert not it.note_error(UpstreamUnavailable(), late[1], NOW), "nor fail them"
    assert (it.word, it.limit) == ("probing", 1)


def test_rate_limits_without_a_wait_cool_for_longer_each_time() -> None:
    it, waits = state(), []
    for _ in range(9):
        assert fail(it, UpstreamRateLimited())
        waits.append(it.wait_s(NOW))
        it.probe()
    for number, wait_s in enumerate(waits):
        least = min(FIRST_LIMITED_S * 2**number, MAX_LIMITED_S)
        assert least <= wait_s <= least * (1 + JITTER)


def test_after_the_cooldown_one_request_is_let_through_and_then_twice_as_many_each_time() -> None:
    it = cooled(state(room=8))
    it.probe()
    for limit in (1, 2, 4):
        taken = []
        while it.has_room:
            taken.append(it.take())
        assert len(taken) == limit
        assert it.note_content(taken[0])
        for epoch in taken:
            it.give_back(epoch)
    assert (it.word, it.limit, it.cause) == ("ready", 8, None)


def test_a_deployment_with_one_slot_is_ready_after_one_success() -> None:
    it = cooled(state(room=1))
    it.probe()
    answer(it)
    assert it.word == "ready"


def test_a_probe_that_fails_cools_for_twice_as_long_up_to_a_bound() -> None:
    it = cooled(state())
    for number in range(1, 9):
        it.probe()
        assert fail(it)
        least = min(FIRST_COOLDOWN_S * 2**number, MAX_COOLDOWN_S)
        assert least <= it.wait_s(NOW) <= least * (1 + JITTER)


def test_a_probe_that_says_nothing_frees_its_place_for_another() -> None:
    it = cooled(state())
    it.probe()
    epoch = it.take()
    assert not it.has_room
    it.give_back(epoch)
    assert (it.word, it.has_room) == ("probing", True)


def test_what_is_ready_again_has_a_clean_record() -> None:
    it = cooled(state(room=1))
    it.probe()
    answer(it)
    assert [fail(it) for _ in range(FAILURES_IN_A_ROW)] == [False] * 4 + [True]
    assert it.wait_s(NOW) <= FIRST_COOLDOWN_S * (1 + JITTER)


def test_attempts_from_before_hold_slots_but_no_places_of_probes() -> None:
    it = state(room=2)
    old = it.take()
    cooled(it)
    it.probe()
    room = [it.has_room]
    probe = it.take()
    room.append(it.has_room)
    it.give_back(old)
    room.append(it.has_room)
    assert room == [True, False, False], "the probe is still out"
    it.give_back(probe)
    assert it.busy == 0


def test_only_one_that_failed_again_when_it_was_probed_is_not_worth_waiting_for() -> None:
    it = cooled(state())
    seen = [it.is_failing(NOW)]
    it.probe()
    fail(it)
    seen.append(it.is_failing(NOW))
    it.probe()
    seen.append(it.is_failing(NOW))  # somebody has to try it
    fail(it, UpstreamRateLimited(retry_after_s=3.0))
    seen.append(it.is_failing(NOW))  # a stated wait ends
    assert seen == [False, True, False, False]


def test_an_answer_ends_the_count_of_failed_probes() -> None:
    it = cooled(state(room=1))
    it.probe()
    answer(it)
    assert not cooled(it).is_failing(NOW)


def test_a_fault_that_a_request_asks_the_demo_for_cools_it_for_nobody() -> None:
    it = DeploymentState(structs.replace(make_deployment(), demo=True))
    for _ in range(2 * FAILURES_IN_A_ROW):
        assert not fail(it)
        assert not fail(it, UpstreamRateLimited(retry_after_s=2.0))
    assert (it.word, it.failures, it.has_room) == ("ready", 0, True)


# Failures of one lane alone


def barred(it: DeploymentState, lane: str, now: float = NOW) -> DeploymentState:
    """Make a lane fail until it is kept away."""
    while not it.is_barred(lane, now):
        assert not fail(it, now=now, lane=lane)
    return it


def test_failures_of_one_lane_alone_close_it_to_that_lane_only() -> None:
    it = state()
    assert not any(fail(it, lane="bad") for _ in range(FAILURES_IN_A_ROW - 1))
    assert not it.is_barred("bad", NOW)
    assert not fail(it, lane="bad")
    assert (it.word, it.has_room, it.wait_s(NOW), it.failures) == ("ready", True, 0.0, 0)
    assert [it.is_barred(lane, NOW) for lane in ("bad", "good", "")] == [True, False, False]
    assert FIRST_COOLDOWN_S <= it.wait_s(NOW, "bad") <= FIRST_COOLDOWN_S * (1 + JITTER)


def test_failures_of_one_lane_among_answers_of_others_close_it_to_that_lane_only() -> None:
    it = state()
    for _ in range(50):
        answer(it, "good")
        assert not fail(it, lane="bad")
    assert it.word == "ready"
    assert not it.is_barred("good", NOW)


def test_one_failure_of_another_lane_is_no_proof_and_two_are() -> None:
    for others, word in ((1, "ready"), (2, "cooling")):
        it = state()
        for _ in range(others):
            fail(it, lane="good")
        for _ in range(FAILURES_IN_A_ROW - others):
            fail(it, lane="bad")
        assert it.word == word
        assert it.is_barred("bad", NOW) is (word == "ready")


def test_a_second_lane_that_fails_while_the_first_is_kept_away_is_proof_for_all() -> None:
    it = barred(state(), "first")
    assert [fail(it, lane="second") for _ in range(FAILURES_IN_A_ROW)] == [False] * 4 + [True]
    assert (it.word, it.bars) == ("cooling", {})


def test_connections_that_cannot_be_made_are_proof_whoever_asks() -> None:
    it, refused = state(), UpstreamUnavailable()
    refused.reached = False
    assert [fail(it, refused, lane="one") for _ in range(FAILURES_IN_A_ROW)] == [False] * 4 + [True]


def test_a_lane_whose_probe_fails_is_kept_away_and_the_next_lane_probes() -> None:
    it = cooled(state())
    it.probe()
    assert not fail(it, lane="bad")
    assert (it.word, it.has_room, it.is_barred("bad", NOW)) == ("probing", True, True)
    assert fail(it, lane="second"), "two lanes have failed"


def test_a_lane_that_is_let_in_again_gets_one_request_at_a_time_and_is_then_free() -> None:
    it = barred(state(), "bad")
    later = NOW + 2 * FIRST_COOLDOWN_S
    assert not it.is_barred("bad", later)
    slot = Slot(it, "bad")
    assert it.is_barred("bad", later)
    assert not it.is_barred("good", later)
    it.note_success(slot.epoch, "bad")
    slot.free()
    assert it.bars == {}


def test_a_lane_that_fails_again_is_kept_away_for_twice_as_long_up_to_a_bound() -> None:
    it, now = state(), NOW
    for number in range(8):
        barred(it, "bad", now)
        wait_s = it.wait_s(now, "bad")
        least = min(FIRST_COOLDOWN_S * 2**number, MAX_COOLDOWN_S)
        assert least <= wait_s <= least * (1 + JITTER)
        assert it.is_failing(now, "bad") is (number > 0), "waiting for it would be in vain"
        now += wait_s


def test_an_answer_of_another_lane_does_not_let_it_in() -> None:
    it = barred(state(), "bad")
    answer(it, "good")
    assert it.is_barred("bad", NOW)


async def test_one_user_alone_cannot_put_a_deployment_aside_for_others(
    upstream: FakeUpstream, door: Door
) -> None:
    def reply(request: Request) -> Answer:
        return refusal(500) if b"crash" in request.body else completion("Hello")

    upstream.plan(reply)
    bad, good = await door.mint(), await door.mint()
    for number in range(4 * FAILURES_IN_A_ROW):
        failed = await door.chat(f"crash {number}", key=bad, max_wait_s=0)
        assert failed.status_code in (502, 503)
        if number % 2:
            assert (await door.chat("Hi", key=good, max_wait_s=0)).status_code == 200
    health = (await door.get("/api/v1/health")).json()
    (states,) = [one["deployments"] for one in health["models"] if one["id"] == MODEL]
    assert [one["state"] for one in states] == ["ready"]
    crashes = [one for one in upstream.requests if b"crash" in one.body]
    assert len(crashes) < 4 * FAILURES_IN_A_ROW, "it is closed to who makes it fail"
    assert len(upstream.requests) == len(crashes) + 2 * FAILURES_IN_A_ROW, "and to no other"
