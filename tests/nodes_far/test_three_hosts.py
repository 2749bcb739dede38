"""Two nodes on hosts of their own, with clocks an hour apart, keep one truth."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from support.fakes.upstream import USAGE, Answer, Pause, Request, completion
from support.front_door import OWNER, bearer
from support.servers.cluster import HOUR_AHEAD, Cluster
from support.waiting import eventually, soon

PARALLEL = 200
COST_MICROUSD = USAGE["prompt_tokens"] + 2 * USAGE["completion_tokens"]


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Run the cluster; the clock of the second node is an hour ahead."""
    assert HOUR_AHEAD["LD_PRELOAD"], "libfaketime is not installed: run tests/provision.py"
    path = tmp_path_factory.mktemp("cluster")
    async with Cluster.started(path, environ=HOUR_AHEAD) as running:
        print(f"the hosts are {running.hosts.kind}")
        yield running


async def statuses(cluster: Cluster, secret: str, user: str, **body: object) -> Counter[int]:
    """Ask PARALLEL times at once through the balancer, and count the statuses."""
    asking = (cluster.chat(secret, user, **body) for _ in range(PARALLEL))
    return Counter(answer.status_code for answer in await asyncio.gather(*asking))


def asked(cluster: Cluster, user: str) -> int:
    """Return how many requests of a user the upstream has got."""
    return sum(request.json.get("user") == user for request in cluster.upstream.requests)


async def test_the_clocks_of_the_nodes_are_an_hour_apart(cluster: Cluster) -> None:
    made = [(await cluster.create_at(node))["created_at"] for node in cluster.nodes]
    assert 3500 < made[1] - made[0] < 3700


async def test_200_parallel_requests_admit_exactly_the_limit(cluster: Cluster) -> None:
    limit = 6
    key = (await cluster.mint(requests_per_minute=limit))["key"]
    began = time.monotonic()
    got = await statuses(cluster, key, "requests")
    came_back = (time.monotonic() - began) * limit / 60
    assert limit <= got[200] <= limit + came_back
    assert got == {200: got[200], 429: PARALLEL - got[200]}
    assert asked(cluster, "requests") == got[200]


async def test_200_parallel_requests_run_no_more_at_once_than_allowed(cluster: Cluster) -> None:
    limit = 5
    key = (await cluster.mint(concurrent_requests=limit, requests_per_minute=None))["key"]
    hold = asyncio.Event()

    def held(_request: Request) -> Answer:
        json = {"content-type": "application/json"}
        return Answer(pieces=[Pause(hold), *completion().pieces], headers=json)

    cluster.upstream.plan(held)
    asking = asyncio.create_task(statuses(cluster, key, "concurrent"))
    await eventually(lambda: asked(cluster, "concurrent") == limit)
    # The others are refused while these run, on whichever node they are.
    for _ in cluster.nodes:
        assert (await cluster.chat(key, "concurrent")).status_code == 429
    assert asked(cluster, "concurrent") == limit
    hold.set()
    got = await soon(asking)
    assert got == {200: got[200], 429: PARALLEL - got[200]}
    cluster.upstream.plan(completion())


async def test_a_budget_is_never_passed_and_is_used_up(cluster: Cluster) -> None:
    budget = 100 * COST_MICROUSD
    key = (await cluster.mint(budget_microusd=budget, requests_per_minute=None))["key"]
    cluster.upstream.plan(completion(usage=USAGE))
    while (await statuses(cluster, key, "budgeted", max_tokens=7))[200]:
        assert asked(cluster, "budgeted") * COST_MICROUSD <= budget
    # What is left does not pay for what one more request may cost at most.
    assert asked(cluster, "budgeted") * COST_MICROUSD > budget / 2


async def test_a_key_that_is_revoked_on_one_node_is_refused_by_the_other(cluster: Cluster) -> None:
    made = await cluster.mint()
    for node in cluster.nodes:
        assert (await cluster.ask_node(node, "/api/v1/key", made["key"])).status_code == 200
    gone = await cluster.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    assert gone.status_code == 200

    async def refused_everywhere() -> None:
        for node in cluster.nodes:
            while (await cluster.ask_node(node, "/api/v1/key", made["key"])).status_code != 401:
                await asyncio.sleep(0.02)  # the change is on its way to the other node

    await soon(refused_everywhere())
