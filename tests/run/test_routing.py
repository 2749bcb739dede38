"""Routing: which deployments are tried in which order, and which error the client gets."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from msgspec.structs import replace
from support.builders.jobs import make_deployment

from workers.catalog.catalog import Deployment, Model
from workers.errors import (
    NoDeployment,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.run.deployment_state import Slot
from workers.run.routing import Routing, worse


def model_of(*deployments: Deployment) -> Model:
    return Model(id="test/one", name="One", deployments=deployments)


def names(routing: Routing, model: Model) -> str:
    """Spell the candidates."""
    return "".join(one.id.partition("@")[2] for one in routing.candidates(model))


def test_a_lower_order_is_tried_first_whatever_the_weights() -> None:
    model = model_of(
        make_deployment("c", order=9, weight=1000),
        make_deployment("a", order=1),
        make_deployment("b", order=2, weight=1000),
    )
    assert {names(Routing(), model) for _ in range(50)} == {"abc"}


def test_among_equals_chance_decides_by_weight() -> None:
    random.seed(20261122)
    model = model_of(
        make_deployment("a", weight=1),
        make_deployment("b", weight=2),
        make_deployment("c", weight=7),
        make_deployment("z", order=2, weight=1000),
    )
    orders = Counter(names(Routing(), model) for _ in range(20_000))
    assert set(orders) == {"abcz", "acbz", "bacz", "bcaz", "cabz", "cbaz"}
    firsts = {
        name: sum(times for order, times in orders.items() if order[0] == name) / 20_000
        for name in "abc"
    }
    assert firsts == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.7}, abs=0.015)
    # Without the first, the others keep their proportion: P(cb.) = 0.7 x 2/3.
    assert orders["cbaz"] / 20_000 == pytest.approx(0.7 * 2 / 3, abs=0.015)


def taken(slot: Slot | None) -> str:
    """Spell the deployment of a slot."""
    return slot.deployment.id.partition("@")[2] if slot is not None else ""


def test_a_deployment_whose_slots_are_taken_is_passed_over_until_one_is_free() -> None:
    first, second = make_deployment("a", order=1, room=2), make_deployment("b", order=2, room=1)
    routing, model = Routing(), model_of(first, second)
    slots = [routing.take(model) for _ in range(4)]
    assert [taken(slot) for slot in slots] == ["a", "a", "b", ""]
    assert (routing.report(first).busy, routing.report(second).busy) == (2, 1)
    assert slots[1] is not None
    slots[1].free()
    slots[1].free()
    assert routing.report(first).busy == 1
    assert taken(routing.take(model)) == "a"
    assert routing.take(model) is None


def test_deployments_without_their_secret_or_translator_are_not_candidates() -> None:
    model = model_of(
        replace(make_deployment("a"), secret_env="A_KEY"),
        replace(make_deployment("b"), secret_env="B_KEY", secret="s3cret"),
        replace(make_deployment("c"), supported=False),
    )
    assert names(Routing(), model) == "b"


def test_a_model_nobody_can_serve_names_the_variables_that_would_help_and_no_other() -> None:
    model = model_of(
        replace(make_deployment("a"), secret_env="B_KEY"),
        replace(make_deployment("b"), secret_env="A_KEY"),
        replace(make_deployment("c"), secret_env="OF_NO_USE", supported=False),
        replace(make_deployment("d"), secret_env="IN_USE", secret="s3cret", supported=False),
    )
    with pytest.raises(NoDeployment) as raised:
        next(Routing().candidates(model))
    assert "test/one" in raised.value.message
    assert "A_KEY, B_KEY" in raised.value.message
    assert "OF_NO_USE" not in raised.value.message
    assert "IN_USE" not in raised.value.message
    assert "s3cret" not in raised.value.message
    assert raised.value.status == 503


def test_a_model_without_deployments_says_so_and_names_no_variable() -> None:
    with pytest.raises(NoDeployment) as raised:
        next(Routing().candidates(model_of()))
    assert "Set one of" not in raised.value.message


def limited(wait_s: float | None) -> UpstreamRateLimited:
    return UpstreamRateLimited(retry_after_s=wait_s)


SOON, LATE, SOME_TIME = limited(2.0), limited(30.0), limited(None)
DOWN, CUT, SLOW = UpstreamUnavailable(), UpstreamDisconnected(), UpstreamTimeout("connect", 10)


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([DOWN], DOWN),
        ([DOWN, CUT], CUT),
        ([CUT, SLOW, DOWN], DOWN),
        ([DOWN, SOON], SOON),
        ([SOON, DOWN], SOON),
        ([SOON, DOWN, CUT], SOON),
        ([LATE, SOON], SOON),
        ([SOON, LATE], SOON),
        ([LATE, DOWN, SOON, SLOW], SOON),
        ([SOON, SOME_TIME], SOON),
        ([SOME_TIME, DOWN], DOWN),
        ([DOWN, SOME_TIME], SOME_TIME),
    ],
)
def test_when_all_failed_a_wait_that_cures_is_told_before_a_failure(
    failures: list[UpstreamError], told: UpstreamError
) -> None:
    failure = None
    for each in failures:
        failure = worse(failure, each)
    assert failure is told


def test_a_deployment_that_fails_whenever_it_is_probed_is_waited_for_in_vain() -> None:
    routing = Routing(clock=lambda: 0.0)
    dead, other = make_deployment("a"), make_deployment("b", order=2)
    state = routing.state(dead)

    def fail_until_it_cools() -> None:
        while state.word != "cooling":
            state.note_error(UpstreamDisconnected(), state.epoch, 0.0)
        state.cooling_until = 5.0  # without the jitter

    fail_until_it_cools()
    assert routing.wait_s(model_of(dead)) == 5.0
    state.probe()
    fail_until_it_cools()
    assert routing.wait_s(model_of(dead)) == math.inf
    assert routing.wait_s(replace(model_of(dead, other), id="test/two")) == 0.0
    refusal = routing.refusal(model_of(dead))
    assert refusal is not None
    assert refusal.retry_after_s == 5.0
