"""Admission: who may use what, how much is set aside, and that a refusal costs nothing."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from support.fakes.clocks import Clocks

from server.accounting.admission import Admission, Lease
from server.accounting.counters import UNLIMITED
from server.accounting.memory_counters import MemoryCounters
from server.config.settings import Guests
from server.identity.authentication import OWNER, Principal
from server.store.key import Key, Limits
from workers.catalog.catalog import Deployment, Model, Prices
from workers.catalog.quirks import NO_QUIRKS, Quirks
from workers.errors import Forbidden, GatewayError, InvalidKey, InvalidRequest, RateLimited
from workers.providers.openai.request_body import request_body
from workers.request.chat_request import ChatRequest, parse_chat

GLM = Model("zai/glm-4.5", "GLM 4.5", max_output_tokens=1_000, prices=Prices(600_000, 2_200_000))
FREE = Model("local/free", "Free", prices=Prices(0, 0))
UNPRICED = Model("local/unpriced", "Unpriced")


@pytest.fixture
def counters() -> MemoryCounters:
    clocks = Clocks()
    return MemoryCounters(clock=clocks.now, wall=clocks.wall)


@pytest.fixture
def admission(counters: MemoryCounters) -> Admission:
    return Admission(counters, Guests())


def holder(limits: Limits | None = None, models: tuple[str, ...] | None = None) -> Principal:
    key = Key(
        id="key_a",
        name="a",
        redacted="roxy_a",
        digest=bytes(32),
        created_at=0,
        models=models,
        limits=limits or Limits(),
    )
    return Principal("key", key.id, key)


def guest(number: int = 1) -> Principal:
    return Principal("guest", f"guest:10.0.0.{number}")


def ask(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}], **fields}
    return parse_chat(msgspec.json.encode(body))


async def leases(
    admission: Admission, principal: Principal, model: Model, many: int, **fields: object
) -> list[Lease]:
    """Ask in parallel and give the leases of those that were let in."""
    ends = await asyncio.gather(
        *(admission.admit(principal, model, ask(**fields), f"req_{n}") for n in range(many)),
        return_exceptions=True,
    )
    assert all(isinstance(end, Lease | GatewayError) for end in ends)
    return [end for end in ends if isinstance(end, Lease)]


async def test_200_parallel_requests_of_a_key_are_admitted_up_to_exactly_its_limit(
    admission: Admission,
) -> None:
    assert len(await leases(admission, holder(Limits(requests_per_minute=37)), GLM, 200)) == 37


async def test_the_owner_is_not_limited_and_leaves_no_count(
    admission: Admission, counters: MemoryCounters
) -> None:
    got = await leases(admission, OWNER, UNPRICED, 200)
    assert len(got) == 200
    assert all(lease.taken is None for lease in got)
    assert len(counters) == 0
    assert await admission.standing(OWNER) is UNLIMITED


async def test_a_key_may_use_the_models_on_its_list_only(admission: Admission) -> None:
    await admission.admit(holder(models=(GLM.id,)), GLM, ask(), "req_1")
    limited = holder(Limits(requests_per_minute=5), models=(GLM.id,))
    with pytest.raises(Forbidden, match=r"It can use: zai/glm-4\.5") as refusal:
        await admission.admit(limited, FREE, ask(), "req_1")
    assert refusal.value.body().error.code == "model_not_allowed"
    assert refusal.value.param == "model"
    assert (await admission.standing(limited)).headers()["x-ratelimit-remaining-requests"] == "5"


async def test_the_tokens_of_every_answer_that_is_asked_for_are_set_aside(
    admission: Admission,
) -> None:
    key = holder(Limits(tokens_per_minute=10_000))
    for fields, answers in (
        ({"max_tokens": 100}, 100),
        ({}, GLM.max_output_tokens),
        ({"max_completion_tokens": 100, "n": 3}, 300),
    ):
        request = ask(**fields)
        lease = await admission.admit(key, GLM, request, "req_1")
        assert lease.taken is not None
        assert lease.taken.tokens == request.prompt_estimate + answers


async def test_the_worst_case_is_reserved_from_a_budget(admission: Admission) -> None:
    key = holder(Limits(budget_microusd=1_000_000))
    prices = GLM.prices
    assert prices is not None
    for fields, answers in (({}, 1_000), ({"max_tokens": 10}, 10), ({"n": 2}, 2_000)):
        request = ask(**fields)
        lease = await admission.admit(key, GLM, request, "req_1")
        assert lease.taken is not None
        most = prices.worst_case_microusd(request.prompt_bound, answers)
        assert lease.taken.cost_microusd == most


async def test_a_prediction_is_reserved_as_an_answer_because_its_refused_parts_are_paid(
    admission: Admission,
) -> None:
    limits = Limits(budget_microusd=10**9)
    costs = []
    for name in ("prediction", "other"):
        request = ask(max_tokens=10, **{name: {"type": "content", "content": "x" * 1000}})
        lease = await admission.admit(holder(limits), GLM, request, "req_1")
        assert lease.taken is not None
        costs.append(lease.taken.cost_microusd)
    assert GLM.prices is not None
    tokens = len('{"type":"content","content":""}') + 1000
    assert costs[0] - costs[1] >= tokens * GLM.prices.completion // 1_000_000


async def test_a_prompt_reserves_no_more_than_the_context_window(admission: Admission) -> None:
    narrow = msgspec.structs.replace(GLM, context_window=100)
    lease = await admission.admit(
        holder(Limits(budget_microusd=1_000_000)), narrow, ask(max_tokens=10), "req_1"
    )
    assert GLM.prices is not None
    assert lease.taken is not None
    assert lease.taken.cost_microusd == GLM.prices.worst_case_microusd(100, 10)


@pytest.mark.parametrize(
    ("left_for_answers", "n", "cap"),
    [
        (50_000, 1, 5_000),  # the model's maximum
        (8_000, 1, 4_000),  # half, so that others find room
        (8_000, 4, 1_024),
        (1_500, 1, 1_024),  # little may be used up
        (700, 1, 700),
        (700, 7, 100),
    ],
)
async def test_an_answer_without_a_cap_gets_a_share_of_what_the_limit_still_allows(
    counters: MemoryCounters, left_for_answers: int, n: int, cap: int
) -> None:
    admission = Admission(counters, Guests())
    request, model = ask(n=n), msgspec.structs.replace(GLM, max_output_tokens=5_000)
    prompt = request.prompt_estimate
    limits = Limits(tokens_per_minute=100_000)
    await counters.take("key_a", limits, 100_000 - prompt - left_for_answers)
    await admission.admit(holder(limits), model, request, "req_1")
    assert request.cap == cap
    cost = GLM.prices.worst_case_microusd(request.prompt_bound, 0) if GLM.prices else 0
    budget = Limits(budget_microusd=cost + left_for_answers * 22 // 10 + 1)
    request = ask(n=n)
    await Admission(MemoryCounters(), Guests()).admit(holder(budget), model, request, "req_1")
    assert request.cap == cap


async def test_parallel_requests_cannot_overspend(admission: Admission) -> None:
    one = await admission.admit(holder(Limits(budget_microusd=10**9)), GLM, ask(), "req_0")
    assert one.taken is not None
    tight = Limits(budget_microusd=one.taken.cost_microusd * 5 + 1)
    assert len(await leases(admission, holder(tight), GLM, 200)) == 4
    with pytest.raises(RateLimited, match="lower max_tokens"):
        await admission.admit(holder(tight), GLM, ask(), "req_1")


async def test_a_budget_refuses_what_it_cannot_price_and_says_what_helps(
    admission: Admission,
) -> None:
    with pytest.raises(Forbidden, match=r"price of local/unpriced is not known.*roxy\.toml") as no:
        await admission.admit(holder(Limits(budget_microusd=10**9)), UNPRICED, ask(), "req_1")
    assert no.value.code == "price_unknown"
    await admission.admit(holder(), UNPRICED, ask(), "req_1")
    await admission.admit(holder(Limits(budget_microusd=1)), FREE, ask(), "req_1")


async def test_guests_are_limited_alone_and_together(counters: MemoryCounters) -> None:
    admission = Admission(counters, Guests(total_requests_per_minute=5, concurrent_requests=3))
    assert len(await leases(admission, guest(1), GLM, 200)) == 3
    assert len(await leases(admission, guest(2), GLM, 200)) == 2
    with pytest.raises(RateLimited, match="all guests together"):
        await admission.admit(guest(3), GLM, ask(), "req_1")


async def test_a_guest_sees_what_is_left(admission: Admission) -> None:
    await admission.admit(guest(), GLM, ask(), "req_1")
    assert (await admission.standing(guest())).headers() == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "6s",
    }


async def test_guests_can_be_switched_off_or_kept_to_some_models(
    counters: MemoryCounters,
) -> None:
    with pytest.raises(InvalidKey):
        await Admission(counters, Guests(enabled=False)).admit(guest(), GLM, ask(), "req_1")
    some = Admission(counters, Guests(models=(FREE.id,)))
    with pytest.raises(Forbidden, match="Guests cannot use"):
        await some.admit(guest(), GLM, ask(), "req_1")
    await some.admit(guest(), FREE, ask(), "req_1")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, 200),
        ({"max_tokens": 100}, 100),
        ({"max_tokens": 201}, 200),
        ({"max_completion_tokens": 9_999}, 200),
        ({"n": 4, "max_tokens": 9_999}, 50),
        ({"n": 128}, 1),
        ({"max_completion_tokens": 9_999, "max_tokens": 9_999}, 200),
        ({"max_tokens": -1}, 200),
        ({"max_tokens": 0}, 200),
    ],
)
async def test_a_guest_gets_no_longer_an_answer_than_guests_may(
    counters: MemoryCounters, asked: dict[str, int], sent: int
) -> None:
    admission = Admission(counters, Guests(max_output_tokens=200))
    request = ask(**asked)
    await admission.admit(guest(), GLM, request, "req_1")
    body = msgspec.json.decode(request_body(request, "m", NO_QUIRKS))
    assert (body["max_tokens"], body["max_completion_tokens"]) == (sent, sent)
    assert request.max_output_tokens == sent


async def test_a_guest_who_asks_for_more_answers_than_tokens_is_refused_and_counts_nothing(
    counters: MemoryCounters,
) -> None:
    admission = Admission(counters, Guests(max_output_tokens=5))
    with pytest.raises(InvalidRequest, match="5 tokens, so 6 are too many") as refusal:
        await admission.admit(guest(), GLM, ask(n=6), "req_1")
    assert refusal.value.param == "n"
    assert (await admission.standing(guest())).running == 0
    request = ask(n=5)
    await admission.admit(guest(), GLM, request, "req_2")
    assert request.cap == 1


async def test_what_a_deployment_adds_to_a_request_is_reserved(counters: MemoryCounters) -> None:
    added = {"system": "x" * 9_987}  # 10,000 bytes with the rest of it
    plain = Deployment("a", "openai", "http://a", "glm")
    adding = msgspec.structs.replace(plain, quirks=Quirks(add_fields=added))
    admission = Admission(counters, Guests())
    limits = Limits(tokens_per_minute=10**6, budget_microusd=10**9)
    tokens, costs = [], []
    for number, deployment in enumerate((plain, adding)):
        model = msgspec.structs.replace(GLM, id=f"m{number}", deployments=(deployment,))
        lease = await admission.admit(holder(limits), model, ask(max_tokens=10), "req_1")
        assert lease.taken is not None
        tokens.append(lease.taken.tokens or 0)
        costs.append(lease.taken.cost_microusd)
    assert tokens[1] - tokens[0] == 2_500
    assert costs[1] - costs[0] == 10_000 * 600_000 // 10**6


async def test_a_key_holders_request_is_left_as_it_was_sent(admission: Admission) -> None:
    request = ask()
    await admission.admit(holder(), GLM, request, "req_1")
    assert "max_tokens" not in msgspec.json.decode(request_body(request, "m", NO_QUIRKS))


async def test_only_the_owner_sends_fields_by_which_an_upstream_uses_other_models(
    admission: Admission, counters: MemoryCounters
) -> None:
    ways = (
        Deployment("a", "openai", "http://a", "glm", owner_only_fields=("models", "route")),
        Deployment("b", "openai", "http://b", "glm", owner_only_fields=("plugins",)),
        Deployment("c", "openai", "http://c", "glm", secret_env="C", owner_only_fields=("user",)),
    )
    model = Model("zai/glm-4.5", "GLM 4.5", prices=GLM.prices, deployments=ways)
    key = holder(Limits(requests_per_minute=1))
    for name in ("models", "route", "plugins", "Models", "ROUTE", "plugin\u017f"):
        for principal in (key, guest()):
            with pytest.raises(Forbidden) as refused:
                await admission.admit(principal, model, ask(**{name: ["x"]}), "req")
            assert refused.value.param == name
        await admission.admit(OWNER, model, ask(**{name: ["x"]}), "req")
    # What does not serve here guards nothing; and what was refused has cost nothing.
    await admission.admit(key, model, ask(user="me"), "req")


@pytest.mark.parametrize(
    ("paid", "kind", "refused"),
    [
        (("*",), "web_search", True),
        (("*",), "function", False),
        (("*",), "custom", False),
        (("web_search*",), "web_search_20250305", True),
        (("web_search*",), "web_fetch", False),
        (("code_interpreter",), "code_interpreter", True),
        (("code_interpreter",), "code_interpreter_2", False),
        ((), "web_search", False),
    ],
)
async def test_tools_that_cost_more_than_tokens_are_the_owners(
    admission: Admission, paid: tuple[str, ...], kind: str, refused: bool
) -> None:
    quirks = Quirks(owner_only_tools=paid)
    ways = (Deployment("a", "openai", "http://a", "glm", quirks=quirks),)
    model = Model("zai/glm-4.5", "GLM 4.5", prices=GLM.prices, deployments=ways)
    plain = {"type": "function", "function": {"name": "f"}}
    tool = plain if kind == "function" else {"type": kind}
    for principal in (holder(), guest()):
        request = ask(tools=[plain, tool])
        if refused:
            with pytest.raises(Forbidden, match=kind) as no:
                await admission.admit(principal, model, request, "req")
            assert no.value.param == "tools[1].type"
        else:
            await admission.admit(principal, model, request, "req")
    await admission.admit(OWNER, model, ask(tools=[tool]), "req")
