"""One queue and one set of slots over all processes of a gateway, and what a killed one leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from support.builders.children import Child, Family, family, join
from support.builders.jobs import make_deployment
from support.fakes.gauge import Gauge
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    chunk,
    event,
    refusal,
    refusing_url,
    silence,
    streaming,
)
from support.waiting import PATIENCE_S, eventually, soon

from workers.catalog.catalog import Model
from workers.errors import (
    Draining,
    GatewayError,
    ModelNotFound,
    NoDeployment,
    Overloaded,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from workers.run.deployment_state import FAILURES_IN_A_ROW
from workers.run.scheduler import LocalScheduler
from workers.transport.transport import Transport

DONE = b"data: [DONE]\n\n"


@asynccontextmanager
async def shared(
    *, children: int = 2, room: int = 1, max_waiting: int = 512
) -> AsyncIterator[tuple[Family, FakeUpstream]]:
    """Run children in front of one upstream."""
    async with FakeUpstream() as upstream:
        deployment = make_deployment(room=room, base_url=upstream.base_url)
        model = Model(id="test/one", name="One", deployments=(deployment,))
        async with family(model, children, max_waiting=max_waiting) as running:
            yield running, upstream


async def test_two_hundred_requests_over_four_children_never_exceed_the_slots() -> None:
    async with shared(children=4, room=7) as (it, upstream):
        gauge = Gauge(upstream)
        answers = await soon(
            asyncio.gather(*(it.children[n % 4].answer(f"key_{n % 5}") for n in range(200)))
        )
        assert all(answer.endswith(DONE) for answer in answers)
        assert gauge.most == 7
        assert len(upstream.requests) == 200


async def turns(it: Family, upstream: FakeUpstream, arrivals: list[tuple[int, str]]) -> list[str]:
    """Return the lanes in the order in which they were served, one at a time."""
    go_on = Pause(asyncio.Event())
    upstream.plan(streaming([go_on, event(chunk(finish="stop")), event("[DONE]")]), _short())
    served: list[str] = []
    _, first = await it.children[0].submit("first")
    await upstream.request()
    clients = []
    for number, lane in arrivals:
        job, client = await it.children[number].submit(lane)
        job.on_progress = lambda lane=lane: served.append(lane)
        clients.append(client)
    assert it.waiting == len(arrivals)
    go_on.event.set()
    for client in [first, *clients]:
        assert (await client.end_of_answer()).endswith(DONE)
    return served


def _short() -> Answer:
    return streaming([event(chunk("Hi")), event(chunk(finish="stop")), event("[DONE]")])


async def test_a_key_on_all_children_has_no_more_turns_than_a_key_on_one() -> None:
    async with shared(children=4) as (it, upstream):
        spread = [(n % 4, "spread") for n in range(12)]
        single = [(0, "single") for _ in range(12)]
        served = await turns(it, upstream, [*spread, *single])
        assert Counter(served[:12]) == {"spread": 6, "single": 6}


async def test_the_owner_goes_first_whichever_child_is_asked() -> None:
    async with shared(children=3) as (it, upstream):
        waiting = [(n % 2, f"key_{n}") for n in range(6)]
        served = await turns(it, upstream, [*waiting, (2, "owner"), (0, "owner")])
        assert served[:2] == ["owner", "owner"]
        assert len(served) == 8


async def test_weights_count_over_all_children() -> None:
    async with shared(children=2) as (it, upstream):
        upstream.plan(silence(), _short())
        held, _ = await it.children[0].submit("first")
        await upstream.request()
        served: list[str] = []
        clients = []
        for n in range(12):
            for lane, weight in (("light", 1), ("heavy", 3)):
                job, client = await it.children[n % 2].submit(lane, weight=weight)
                job.on_progress = lambda lane=lane: served.append(lane)
                clients.append(client)
        held.cancel()
        for client in clients:
            await client.end_of_answer()
        assert Counter(served[:12]) == {"heavy": 9, "light": 3}


# A child that is gone


async def test_a_killed_child_frees_its_slots_and_its_places_at_once() -> None:
    async with shared(children=3, room=2) as (it, upstream):
        upstream.plan(silence(), silence(), _short())
        dead, alive, other = it.children
        for _ in range(5):
            await dead.submit("key_a")  # two run, three wait
        _, client = await alive.submit("key_b")
        _, last = await other.submit("key_c")
        assert (it.busy, it.waiting) == (2, 5)
        dead.near.close()
        for one in (client, last):
            assert (await one.end_of_answer()).endswith(DONE)
        await eventually(lambda: (it.busy, it.waiting) == (0, 0))
        assert len(upstream.requests) == 4, "nothing of the dead child was sent afterwards"


async def test_when_the_keeper_is_gone_what_waits_ends_and_what_runs_goes_on() -> None:
    async with shared(children=1) as (it, upstream):
        go_on = Pause(asyncio.Event())
        pieces: list[bytes | Pause] = [event(chunk("Hi")), go_on, event("[DONE]")]
        upstream.plan(streaming(pieces))
        (child,) = it.children
        _, running = await child.submit()
        await upstream.request()
        _, waiting = await child.submit()
        child.far.close()
        await waiting.end_of_answer()
        assert isinstance(waiting.told, Draining)
        with pytest.raises(Draining):
            await child.submit()
        go_on.event.set()
        assert (await running.end_of_answer()).endswith(DONE)


# Grants, cancellations and refusals that cross


async def test_a_grant_that_crosses_a_cancelled_job_is_returned() -> None:
    async with shared(children=2) as (it, upstream):
        for _ in range(20):
            one, other = it.children
            upstream.plan(_short())
            _, first = await one.submit()
            job, _ = await other.submit()  # it waits
            await first.end_of_answer()  # the keeper is about to grant
            job.cancel()
            assert (await other.answer()).endswith(DONE)
            await eventually(lambda: (it.busy, it.waiting) == (0, 0))


async def test_a_job_that_is_cancelled_before_the_keeper_has_answered_holds_nothing() -> None:
    async with shared(children=1) as (it, upstream):
        (child,) = it.children
        submitted = asyncio.ensure_future(child.submit())
        await asyncio.sleep(0)
        (job,) = child.engine.jobs.values()
        job.cancel()
        await submitted
        assert (await child.answer()).endswith(DONE)
        assert len(upstream.requests) == 1
        assert not child.engine.jobs


async def refused(child: Child, **options: float) -> GatewayError:
    """Return the error with which a new job is refused."""
    with pytest.raises(GatewayError) as error:
        await child.submit(**options)  # type: ignore[arg-type]
    return error.value


async def test_a_full_queue_refuses_with_the_honest_wait_on_every_child() -> None:
    async with shared(children=2, max_waiting=2) as (it, upstream):
        upstream.plan(silence())
        one, other = it.children
        for _ in range(3):
            await one.submit()
        error = await refused(other)
        assert isinstance(error, Overloaded)
        assert (error.retry_after_s or 0) >= 1.0
        assert not other.engine.jobs


async def test_a_job_that_is_pushed_out_by_another_childs_ends_with_the_wait() -> None:
    async with shared(children=2, max_waiting=2) as (it, upstream):
        upstream.plan(silence())
        one, other = it.children
        await one.submit()
        await one.submit()
        _, newest = await one.submit()
        await other.submit("key_b")
        await newest.end_of_answer()
        assert isinstance(newest.told, Overloaded)
        assert one.outcomes[-1].ending == "refused"


async def test_a_wait_that_is_too_long_ends_on_the_child() -> None:
    async with shared(children=2) as (it, upstream):
        upstream.plan(silence())
        one, other = it.children
        await one.submit()
        _, client = await other.submit(max_wait_s=0.05)
        await client.end_of_answer()
        assert isinstance(client.told, Overloaded)


async def test_places_are_those_in_the_one_queue_and_renewed() -> None:
    async with shared(children=2) as (it, upstream):
        upstream.plan(silence())
        one, other = it.children
        running, _ = await one.submit("key_a")
        await upstream.request()
        first, _ = await one.submit("key_b")
        second, _ = await other.submit("key_c")
        place = second.place()
        assert place is not None
        assert (place.position, place.waiting) == (2, 2)
        first.cancel()
        await eventually(lambda: (now := second.place()) and (now.position, now.waiting) == (1, 1))
        running.cancel()
        await eventually(lambda: second.state == "connecting")
        assert second.place() is None


# Deployments have one state


async def test_what_one_child_finds_failing_cools_for_all() -> None:
    wait_s = 20 * PATIENCE_S
    wait = {"retry-after": f"{wait_s:g}"}
    async with shared(children=2, room=4) as (it, upstream):
        upstream.plan(refusal(429, headers=wait))
        one, other = it.children
        _, client = await one.submit(max_wait_s=5.0)
        await client.end_of_answer()
        assert isinstance(client.told, UpstreamRateLimited)
        error = await refused(other, max_wait_s=5.0)
        assert isinstance(error, UpstreamRateLimited)
        assert wait_s - PATIENCE_S < (error.retry_after_s or 0) <= wait_s
        assert len(upstream.requests) == 1
        (report,) = await other.engine.scheduler.report([it.model])
        (state,) = report.deployments
        assert (state.state, state.busy, state.limit) == ("cooling", 0, 0)
        assert wait_s - PATIENCE_S < state.cooling_s <= wait_s


async def test_after_cooling_one_child_probes_and_its_content_opens_the_rest() -> None:
    async with shared(children=2, room=2) as (it, upstream):
        go_on, hold = Pause(asyncio.Event()), Pause(asyncio.Event())
        rest = [event(chunk(finish="stop")), event("[DONE]")]
        pieces: list[bytes | Pause] = [go_on, event(chunk("Hi")), hold, *rest]
        upstream.plan(refusal(429, headers={"retry-after": "0.05"}), streaming(pieces), _short())
        one, other = it.children
        _, first = await one.submit()  # fails, and waits until it is probed
        await upstream.request(1)
        second, client = await other.submit()
        assert second.state == "queued", "one probe at a time, whichever child asks"
        go_on.event.set()
        await upstream.request(2)  # while the first is still being answered
        hold.event.set()
        for each in (first, client):
            assert (await each.end_of_answer()).endswith(DONE)
        (report,) = await one.engine.scheduler.report([it.model])
        assert [state.state for state in report.deployments] == ["ready"]


async def test_answers_that_are_cut_for_one_child_cool_the_deployment_for_all() -> None:
    async with shared(children=2, room=8) as (it, upstream):
        upstream.plan(streaming([event(chunk("Hi"))], end="reset"))
        one, other = it.children
        for _ in range(FAILURES_IN_A_ROW):
            await one.answer()
        error = await refused(other, max_wait_s=0.0)
        assert type(error) is UpstreamUnavailable and error.retry_after_s
        assert {outcome.ending for outcome in one.outcomes} == {"cut"}


async def test_a_child_with_a_new_configuration_brings_its_slots() -> None:
    async with shared(children=1, room=1) as (it, upstream):
        upstream.plan(silence())
        (old,) = it.children
        await old.submit()
        waiting, _ = await old.submit()
        assert it.waiting == 1
        wider = replace(
            it.model, deployments=(make_deployment(room=2, base_url=upstream.base_url),)
        )
        transport = Transport()
        new = await join(it.scheduler, wider, transport)
        await upstream.request(1)
        assert (it.waiting, waiting.state) == (0, "connecting")
        await new.engine.aclose()
        for link in (new.near, new.far):
            await link.aclose()
        await transport.aclose()


async def test_a_failed_attempt_goes_to_the_next_deployment_with_one_budget_for_all() -> None:
    with refusing_url() as url:
        async with FakeUpstream() as upstream:
            first = make_deployment("a", order=1, room=8, base_url=url)
            second = make_deployment("b", order=2, room=8, base_url=upstream.base_url)
            model = Model(id="test/one", name="One", deployments=(first, second))
            async with family(model, 2) as it:
                for child in it.children:
                    assert (await child.answer()).endswith(DONE)
                    (outcome,) = child.outcomes
                    assert outcome.deployment == second.id
                    assert len(outcome.attempts) == 2


async def test_when_no_deployment_is_left_the_child_is_told_the_upstreams_error() -> None:
    with refusing_url() as url:
        model = Model(
            id="test/one", name="One", deployments=(make_deployment(room=8, base_url=url),)
        )
        async with family(model, 2) as it:
            for n in range(FAILURES_IN_A_ROW - 1):
                _, client = await it.children[n % 2].submit(max_wait_s=0.0)
                await client.end_of_answer()
                assert isinstance(client.told, UpstreamError)
            endings = {one.ending for child in it.children for one in child.outcomes}
            assert endings == {"failed"}


# Configurations that differ for a while


async def test_models_and_deployments_that_only_one_side_knows_are_refused() -> None:
    known = make_deployment("a", base_url="http://127.0.0.1:1/v1")
    model = Model(id="test/one", name="One", deployments=(known,))
    new = replace(model, deployments=(replace(known, id="test/one@new"),))
    scheduler, transport = LocalScheduler(8), Transport()
    child = await join(scheduler, model, transport, of_keeper=new)
    error = await refused(child)
    assert isinstance(error, UpstreamUnavailable)
    (report,) = await child.engine.scheduler.report([model])
    assert [one.id for one in report.deployments] == [known.id]
    (held,) = await scheduler.report([new])
    assert [one.busy for one in held.deployments] == [0]
    other = Model(id="test/other", name="Other", deployments=(known,))
    child.model = other
    with pytest.raises(ModelNotFound):
        await child.submit()
    child.model = replace(model, deployments=())
    await child.engine.aclose()
    for link in (child.near, child.far):
        await link.aclose()
    scheduler.close()
    await transport.aclose()


async def test_a_model_without_a_deployment_names_what_would_help() -> None:
    model = Model(id="test/one", name="One")
    async with family(model, 1) as it:
        assert isinstance(await refused(it.children[0]), NoDeployment)


async def test_a_new_configuration_changes_the_slots_of_what_runs_already() -> None:
    async with shared(children=2, room=1) as (it, upstream):
        upstream.plan(silence())
        one, other = it.children
        running, _ = await one.submit()
        waiting, _ = await other.submit()
        third, _ = await other.submit()
        wider = make_deployment(room=2, base_url=upstream.base_url)
        it.scheduler.adopt([replace(it.model, deployments=(wider,))])
        await upstream.request(1)
        assert (waiting.state, third.state) == ("connecting", "queued")
        running.cancel()
        await upstream.request(2)
        assert (it.busy, it.waiting) == (2, 0)
