"""The owner tries one deployment of a model by its id."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from support.builders.children import family
from support.builders.jobs import make_deployment
from support.fakes.upstream import FakeUpstream, completion, refusal
from support.front_door import MODEL, OWNER, Door, bearer, front_door, request_body

from server.api.completions import DEPLOYMENT_HEADER
from workers.catalog.catalog import Model


async def ask(door: Door, deployment: str, *, key: str = OWNER) -> httpx.Response:
    """Ask one deployment of the test model."""
    return await door.client.post(
        "/api/v1/chat/completions",
        json=request_body(),
        headers=bearer(key) | {DEPLOYMENT_HEADER: deployment},
    )


async def states(door: Door) -> dict[str, str]:
    """Return the state of each deployment of the test model."""
    health = (await door.get("/api/v1/health")).json()
    (model,) = [one for one in health["models"] if one["id"] == MODEL]
    return {one["id"]: one["state"] for one in model["deployments"]}


async def test_the_named_deployment_alone_is_asked_even_while_it_cools(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(FakeUpstream())
        second = await stack.enter_async_context(FakeUpstream())
        door = await stack.enter_async_context(front_door(tmp_path, first, second))
        preferred, other = await states(door)
        second.plan(completion("From the second"))
        answer = await ask(door, other)
        assert answer.json()["choices"][0]["message"]["content"] == "From the second"
        assert not first.requests

        second.plan(refusal(401), completion("It works again"))
        refused = await ask(door, other)
        assert refused.status_code == 502, "the first one would have answered"
        assert (await states(door)) == {preferred: "ready", other: "cooling"}
        assert (await ask(door, other)).json()["choices"][0]["message"]["content"] == (
            "It works again"
        )
        assert (await states(door))[other] != "cooling"
        assert not first.requests
        rows = await door.usage_rows(3)
        assert {row.deployment for row in rows} == {other}


async def test_a_deployment_that_cannot_be_tried_is_refused_in_words(door: Door) -> None:
    unknown = await ask(door, "no/such@one")
    assert unknown.status_code == 400
    assert unknown.json()["error"]["param"] == DEPLOYMENT_HEADER
    (name,) = await states(door)
    assert name in unknown.json()["error"]["message"]
    assert (await ask(door, name, key=await door.mint())).status_code == 403
    lacking = await door.client.post(
        "/api/v1/chat/completions",
        json=request_body(model="zai/glm-4.5"),
        headers=bearer(OWNER) | {DEPLOYMENT_HEADER: "zai/glm-4.5@openrouter"},
    )
    assert lacking.status_code == 503
    assert "Set OPENROUTER_API_KEY" in lacking.json()["error"]["message"]


async def test_a_child_asks_its_keeper_for_the_named_deployment() -> None:
    async with FakeUpstream() as first, FakeUpstream() as second:
        deployments = tuple(
            make_deployment(name, base_url=one.base_url, order=order)
            for order, (name, one) in enumerate((("a", first), ("b", second)))
        )
        model = Model(id="test/one", name="One", deployments=deployments)
        async with family(model, 1) as running:
            (child,) = running.children
            _, client = await child.submit(only="test/one@b")
            await client.end_of_answer()
            assert (len(first.requests), len(second.requests)) == (0, 1)
