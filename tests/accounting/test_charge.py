"""What a request is charged, by how it ended and what its upstream reported."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from server.accounting.admission import Lease
from server.accounting.charge import (
    FADING,
    MAX_TOKENS_PER_S,
    UNSEEN_TOKENS_PER_S,
    Speeds,
    charge_for,
)
from server.accounting.counters import Taken
from server.accounting.ledger import make_row
from server.identity.authentication import OWNER
from workers.catalog.catalog import Model, Prices, PriceTier
from workers.request.chat_request import parse_chat
from workers.request.token_usage import Usage
from workers.run.job import Outcome

MODEL = Model("zai/glm-4.5", "GLM 4.5", max_output_tokens=1_000, prices=Prices(600_000, 2_200_000))
REQUEST = parse_chat(
    msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x" * 400}]})
)
PROMPT, BOUND = REQUEST.prompt_estimate, REQUEST.prompt_bound
USED = Usage(1_000, 500, 1_500, cached_tokens=10, reasoning_tokens=20)
PLENTY = 10**9


def lease(reserved_microusd: int = 0, model: Model = MODEL) -> Lease:
    """Make the lease of a key; `reserved_microusd` 0: it has no budget."""
    return Lease(OWNER, model, "req_1", REQUEST, Taken("key_a", 0, reserved_microusd))


ESTIMATE = Usage(PROMPT, 3)
AND_ONE = Usage(1_000 + PROMPT, 500, cached_tokens=10, reasoning_tokens=20)


@pytest.mark.parametrize(
    ("outcome", "usage", "estimated"),
    [
        (Outcome("finished", USED, 90, prompt_sent=True), USED, False),
        (Outcome("finished", None, 9, prompt_sent=True), ESTIMATE, True),
        (Outcome("finished", None, 0, prompt_sent=True), Usage(PROMPT, 0), True),
        (Outcome("finished", Usage(1_000), 9, prompt_sent=True), Usage(1_000, 3), True),
        (Outcome("finished", Usage(1_000, 0), 9, prompt_sent=True), Usage(1_000, 3), True),
        (Outcome("finished", Usage(1_000, 0), 0, prompt_sent=True), Usage(1_000, 0), False),
        (Outcome("finished", Usage(None, 5), 9, prompt_sent=True), Usage(PROMPT, 5), True),
        (Outcome("finished", Usage(None, None, 50), 9, prompt_sent=True), Usage(47, 3), True),
        (Outcome("cut", USED, 9, prompt_sent=True), USED, False),
        (Outcome("cut", None, 9, prompt_sent=True), ESTIMATE, True),
        (Outcome("timed_out", None, 12, prompt_sent=True), ESTIMATE, True),
        (Outcome("timed_out", None, 0, prompt_sent=False), None, False),
        (Outcome("drained", None, 10, prompt_sent=True), ESTIMATE, True),
        (Outcome("drained", None, 0, prompt_sent=False), None, False),
        (Outcome("cancelled", None, 9, prompt_sent=True), ESTIMATE, True),
        (Outcome("cancelled", None, 0, prompt_sent=True), Usage(PROMPT, 0), True),
        (Outcome("cancelled", None, 0, prompt_sent=False), None, False),  # left the queue
        (Outcome("failed", None, 0, prompt_sent=True), None, False),
        (Outcome("failed", None, 0, prompt_sent=False), None, False),
        (Outcome("failed", None, 9, prompt_sent=True), None, False),  # begun, none delivered
        (Outcome("failed", USED, 9, prompt_sent=True), None, False),
        (Outcome("failed", prompt_sent=True, timed_out_prompts=1), Usage(PROMPT, 0), True),
        (Outcome("failed", prompt_sent=True, timed_out_prompts=2), Usage(2 * PROMPT, 0), True),
        (Outcome("cancelled", timed_out_prompts=1), Usage(PROMPT, 0), True),
        (Outcome("finished", USED, prompt_sent=True, timed_out_prompts=1), AND_ONE, True),
        (Outcome("refused", None, 0, prompt_sent=False), None, False),
        (Outcome("refused", USED, 9, prompt_sent=True), None, False),
    ],
)
def test_true_usage_counts_else_an_estimate_and_what_delivered_nothing_is_free(
    outcome: Outcome, usage: Usage | None, estimated: bool
) -> None:
    charge = charge_for(lease(), outcome)
    assert (charge.usage, charge.estimated) == (usage, estimated)


@pytest.mark.parametrize(
    ("outcome", "max_tokens"),
    [
        (Outcome("cancelled", prompt_sent=True), (BOUND, 0)),
        (Outcome("cancelled", None, 90, prompt_sent=True), (BOUND, 90)),
        (Outcome("cut", None, 90, prompt_sent=True), (BOUND, 90)),
        (Outcome("failed", prompt_sent=True, timed_out_prompts=1), (BOUND, 0)),
        (Outcome("finished", None, 90, prompt_sent=True), (BOUND, 90)),
    ],
)
def test_of_a_budget_an_estimate_takes_one_token_a_byte_but_no_more_than_was_reserved(
    outcome: Outcome, max_tokens: tuple[int, int]
) -> None:
    assert MODEL.prices is not None
    most = MODEL.prices.worst_case_microusd(*max_tokens)
    assert charge_for(lease(PLENTY), outcome).cost_microusd == most
    bounded = charge_for(lease(most - 1), outcome)
    assert bounded.paid is not None and bounded.cost_microusd is not None
    assert bounded.cost_microusd == MODEL.prices.cost_microusd(bounded.paid)
    assert most - 4 < bounded.cost_microusd <= most - 1
    unbound = charge_for(lease(), outcome)
    assert unbound.usage is not None
    assert unbound.cost_microusd == MODEL.prices.cost_microusd(unbound.usage)
    assert 0 < unbound.cost_microusd < most


PRICED = Prices(600_000, 2_200_000, 60_000)
ESTIMATED = (
    Outcome("cancelled", None, 108, prompt_sent=True, duration_s=45.0),
    Outcome("cancelled", Usage(500, cached_tokens=300), 9, prompt_sent=True, duration_s=4.0),
    Outcome("cancelled", Usage(500, 1), 900, prompt_sent=True, timed_out_prompts=1, duration_s=9.0),
    Outcome("cut", None, 90, prompt_sent=True),
    Outcome("failed", prompt_sent=True, timed_out_prompts=2),
    Outcome("finished", Usage(None, 5), 9, prompt_sent=True),
)


@pytest.mark.parametrize("outcome", ESTIMATED)
@pytest.mark.parametrize("reserved", [0, 400, 900, 2_000, PLENTY])
def test_the_tokens_of_a_row_times_the_prices_are_its_cost(outcome: Outcome, reserved: int) -> None:
    held = lease(reserved, msgspec.structs.replace(MODEL, prices=PRICED))
    charge = charge_for(held, outcome)
    row = make_row(held, outcome, charge, 0.0)
    assert row.estimated
    shown = Usage(row.prompt_tokens, row.completion_tokens, cached_tokens=row.cached_tokens)
    # What was reported and what was estimated are rounded up to a micro-dollar each.
    assert row.cost_microusd is not None
    assert 0 <= row.cost_microusd - PRICED.cost_microusd(shown) <= 1
    reported = outcome.usage or Usage()
    assert row.cost_microusd <= max(reserved or PLENTY, PRICED.cost_microusd(reported))


def test_what_a_model_did_unseen_is_estimated_by_the_time_it_took_where_a_client_leaves() -> None:
    assert MODEL.prices is not None
    prompt = MODEL.prices.worst_case_microusd(BOUND, 0)
    left = Outcome("cancelled", prompt_sent=True, duration_s=12.0, queued_s=2.0)
    unseen = pytest.approx(prompt + 10 * 200 * 2.2, abs=1)
    assert charge_for(lease(PLENTY), left).cost_microusd == unseen
    seen = msgspec.structs.replace(left, output_bytes=8)
    assert charge_for(lease(PLENTY), seen).cost_microusd == unseen, "it may have thought before"
    much = msgspec.structs.replace(left, output_bytes=4000)
    assert charge_for(lease(PLENTY), much).cost_microusd == pytest.approx(prompt + 8800, abs=1)
    cut = msgspec.structs.replace(seen, ending="cut")
    assert charge_for(lease(PLENTY), cut).cost_microusd == pytest.approx(prompt + 8 * 2.2, abs=1)
    assert charge_for(lease(prompt + 50), left).cost_microusd == pytest.approx(prompt + 50, abs=3)


FAST = Outcome("finished", Usage(10, 6_000, 6_010), 9, duration_s=5.0, queued_s=2.0, deployment="a")


def test_leaving_a_deployment_that_was_seen_to_be_faster_costs_by_its_speed() -> None:
    assert MODEL.prices is not None
    speeds = Speeds()
    speeds.note(FAST)
    assert (speeds.tokens_per_s("a"), speeds.tokens_per_s("b")) == (2_000, UNSEEN_TOKENS_PER_S)
    left = Outcome("cancelled", prompt_sent=True, duration_s=3.0, deployment="a")
    prompt = MODEL.prices.worst_case_microusd(BOUND, 0)
    cost_microusd = charge_for(lease(PLENTY), left, speeds.tokens_per_s("a")).cost_microusd
    assert cost_microusd == pytest.approx(prompt + 6_000 * 2.2, abs=1)
    speeds.note(msgspec.structs.replace(FAST, duration_s=7.0))
    assert speeds.tokens_per_s("a") == 2_000 * FADING, "a slower answer is no proof"


@pytest.mark.parametrize(
    ("changes", "speed"),
    [
        ({"usage": Usage(10, 99)}, UNSEEN_TOKENS_PER_S),  # hardly longer than the first token
        ({"usage": None}, UNSEEN_TOKENS_PER_S),
        ({"ending": "cancelled"}, UNSEEN_TOKENS_PER_S),
        ({"deployment": None}, UNSEEN_TOKENS_PER_S),
        ({"duration_s": 2.0}, MAX_TOKENS_PER_S),  # from a cache, at once
    ],
)
def test_a_speed_is_learnt_from_whole_reported_answers_within_reason(
    changes: dict[str, Any], speed: float
) -> None:
    speeds = Speeds()
    speeds.note(msgspec.structs.replace(FAST, **changes))
    assert speeds.tokens_per_s("a") == speed


def test_a_token_limit_counts_what_was_written_unseen_within_what_was_reserved() -> None:
    left = Outcome("cancelled", prompt_sent=True, duration_s=12.0, queued_s=2.0)
    for reserved, counted in ((50_000, PROMPT + 2_000), (1_000, 1_000), (0, PROMPT)):
        held = Lease(OWNER, MODEL, "req_1", REQUEST, Taken("key_a", reserved))
        charge = charge_for(held, left)
        assert (charge.tokens, charge.usage) == (counted, Usage(PROMPT, 0))
        seen = msgspec.structs.replace(left, output_bytes=8)
        assert charge_for(held, seen).tokens == PROMPT + 2, "what was seen is counted instead"


@pytest.mark.parametrize("ending", ["cancelled", "cut", "timed_out", "drained"])
def test_a_report_from_the_beginning_of_an_answer_does_not_count_for_all_of_it(
    ending: Any,
) -> None:
    begun = Outcome(ending, Usage(10, 1, 11), 4000, prompt_sent=True)
    charge = charge_for(lease(), begun)
    assert charge.usage == Usage(10, 1000)
    assert charge.estimated
    assert charge_for(lease(PLENTY), begun).cost_microusd == 6 + 8800
    counted_up = msgspec.structs.replace(begun, usage=Usage(10, 900, 910))
    assert charge_for(lease(PLENTY), counted_up).cost_microusd == 6 + 1980
    complete = msgspec.structs.replace(begun, complete=True)
    assert charge_for(lease(PLENTY), complete) == (Usage(10, 1, 11), 9, False, 0, None)
    assert charge_for(lease(), msgspec.structs.replace(begun, output_bytes=0)).usage == (
        Usage(10, 1)
    ), "what was reported counts in any case"


@pytest.mark.parametrize(
    ("n", "counted", "charged"),
    [
        (1, 500, 500),
        (2, 500, 1000),
        (2, 999, 1000),
        (2, 1000, 1000),
        (4, 1999, 1999),
        (4, 2000, 2000),
    ],
)
def test_a_report_of_one_choice_does_not_count_for_several(
    n: int, counted: int, charged: int
) -> None:
    held = lease()
    held.choices = n
    begun = Outcome("cancelled", Usage(10, counted), 4000, prompt_sent=True)
    charge = charge_for(held, begun)
    assert charge.usage == Usage(10, charged)
    assert charge.estimated is (counted * 8 < 4000 * n)
    assert charge_for(held, msgspec.structs.replace(begun, complete=True)).usage == begun.usage


def test_every_prompt_that_timed_out_is_charged() -> None:
    twice = Outcome("failed", prompt_sent=True, timed_out_prompts=2)
    once = Outcome("failed", prompt_sent=True, timed_out_prompts=1)
    cost_microusd = charge_for(lease(PLENTY), once).cost_microusd
    assert cost_microusd is not None
    both = charge_for(lease(PLENTY), twice).cost_microusd
    assert both in (2 * cost_microusd, 2 * cost_microusd - 1), "rounded up once"


def test_reported_usage_is_charged_as_reported_even_above_what_was_reserved() -> None:
    assert MODEL.prices is not None
    cost_microusd = MODEL.prices.cost_microusd(USED)
    assert charge_for(lease(1), Outcome("finished", USED)).cost_microusd == cost_microusd
    lost = Outcome("finished", USED, prompt_sent=True, timed_out_prompts=1)
    assert charge_for(lease(1), lost).cost_microusd == cost_microusd
    assert charge_for(lease(PLENTY), lost).cost_microusd == (
        cost_microusd + MODEL.prices.worst_case_microusd(BOUND, 0)
    )


def test_an_estimate_of_a_prompt_counts_its_dearest_tier_and_kind() -> None:
    tier = PriceTier(above_prompt_tokens=BOUND - 1, prompt=3_000_000, completion=9_000_000)
    prices = Prices(600_000, 2_200_000, cache_write_prompt=4_000_000, tiers=(tier,))
    model = msgspec.structs.replace(MODEL, prices=prices)
    charge = charge_for(lease(PLENTY, model), Outcome("cancelled", None, 10, prompt_sent=True))
    assert charge.cost_microusd == BOUND * 4 + 90


def test_the_context_window_bounds_what_a_prompt_can_cost() -> None:
    model = msgspec.structs.replace(MODEL, context_window=100)
    charge = charge_for(lease(PLENTY, model), Outcome("cancelled", prompt_sent=True))
    assert charge.cost_microusd == 60


@pytest.mark.parametrize("usage", [USED, None, Usage(10, None)])
@pytest.mark.parametrize("model", [MODEL, msgspec.structs.replace(MODEL, prices=None)])
def test_an_authoritative_cost_is_charged_in_place_of_the_prices(
    usage: Usage | None, model: Model
) -> None:
    outcome = Outcome("finished", usage, 9, prompt_sent=True, stated_cost_microusd=77)
    charge = charge_for(lease(0, model), outcome)
    assert charge.cost_microusd == 77
    assert charge.estimated is (usage is not USED)


def test_without_a_price_the_cost_stays_unknown() -> None:
    model = msgspec.structs.replace(MODEL, prices=None)
    for outcome in (Outcome("finished", USED), Outcome("cut", None, 9, prompt_sent=True)):
        assert charge_for(lease(0, model), outcome).cost_microusd is None
