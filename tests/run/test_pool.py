"""Workers: nothing that ends early, twice or badly may cost one of them, or a job."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from msgspec.structs import replace
from support.builders.jobs import Client, Tap, make_deployment, make_job, stream_settings
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    chunk,
    event,
    refusal,
    refusing_url,
    silence,
    stream_of,
    streaming,
)
from support.waiting import PATIENCE_S, eventually

from workers.catalog.catalog import Model
from workers.errors import (
    Conflict,
    Draining,
    GatewayError,
    Overloaded,
    UpstreamError,
    UpstreamTimeout,
)
from workers.providers.formats import TRANSLATORS
from workers.run.job import Job, Outcome
from workers.run.pool import Engine
from workers.run.scheduler import LocalScheduler
from workers.transport.transport import Transport


@dataclass
class Bench:
    """An engine with one model on a scripted upstream."""

    engine: Engine
    scheduler: LocalScheduler
    upstream: FakeUpstream
    transport: Transport
    model: Model

    def submit(self, lane: str = "key_a", *, max_wait_s: float = 1000.0) -> tuple[Job, Client]:
        """Submit a job with a client that listens."""
        job, client = make_job(lane, model=self.model, max_wait_s=max_wait_s), Client()
        job.channel.attach(client)
        self.engine.submit(job)
        return job, client

    async def answer(self) -> bytes:
        """Have one job answered."""
        _, client = self.submit()
        return await client.end_of_answer()

    @property
    def busy(self) -> int:
        """Count the slots in use."""
        report = self.scheduler.schedule(self.model).report(self.model)
        return sum(one.busy for one in report.deployments)

    @property
    def waiting(self) -> int:
        """Count the jobs in the queue."""
        return len(self.scheduler.schedule(self.model).queue)


@asynccontextmanager
async def bench(*, room: int = 1, max_waiting: int = 8) -> AsyncIterator[Bench]:
    """Run an engine, and see that it leaves nothing behind."""
    async with FakeUpstream() as upstream:
        deployment = make_deployment(room=room, base_url=upstream.base_url)
        model = Model(id="test/one", name="One", deployments=(deployment,))
        transport = Transport()
        scheduler = LocalScheduler(max_waiting)
        engine = Engine(transport, stream_settings(), scheduler)
        running = Bench(engine, scheduler, upstream, transport, model)
        try:
            yield running
        finally:
            await engine.aclose()
            await transport.aclose()
        assert not engine.jobs
        assert (running.busy, running.waiting) == (0, 0)
        for pool in engine:
            assert pool.idle_workers == 0


async def test_workers_are_started_when_they_are_needed_and_then_kept() -> None:
    async with bench(room=2) as it:
        for _ in range(3):
            assert (await it.answer()).endswith(b"data: [DONE]\n\n")
        assert it.engine.pool(it.model).idle_workers == 1
        assert it.upstream.connections == 1


async def test_jobs_past_the_workers_wait_and_all_are_answered() -> None:
    async with bench(room=2) as it:
        clients = [it.submit(lane)[1] for lane in ("a", "b", "a", "b", "owner", "a")]
        assert it.waiting == 4
        for client in clients:
            assert (await client.end_of_answer()).endswith(b"data: [DONE]\n\n")
        assert it.upstream.connections <= 2


async def test_jobs_that_end_between_hand_over_and_pick_up_neither_stall_nor_lose_a_worker() -> (
    None
):
    async with bench() as it:
        first, client = it.submit()
        first.cancel()  # its worker is started, but has not run yet
        assert client.ends == [None]
        await it.answer()
        handed_over, _ = it.submit()  # to the idle worker
        waiting, _ = it.submit()
        _, last = it.submit()
        handed_over.cancel()
        waiting.cancel()
        assert (await last.end_of_answer()).endswith(b"data: [DONE]\n\n")
        assert len(it.upstream.requests) == 2
        assert it.engine.pool(it.model).idle_workers <= 1


async def test_a_client_that_leaves_gives_its_slot_to_the_next_at_once() -> None:
    async with bench() as it:
        it.upstream.plan(silence(), stream_of(["lo"]))
        job, _ = it.submit()
        _, next_client = it.submit()
        request = await it.upstream.request()
        job.cancel()
        assert (await next_client.end_of_answer()).endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(PATIENCE_S):
            await request.left.wait()


async def test_a_client_found_to_have_left_at_pick_up_costs_no_upstream_call() -> None:
    async with bench() as it:
        job, client = it.submit()
        job.on_progress = job.cancel
        await client.end_of_answer()
        await it.answer()
        assert len(it.upstream.requests) == 1


async def test_a_reader_that_raises_costs_its_own_job_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench() as it:
        it.upstream.plan(streaming([event(chunk({"content": "Hel"}))], end="hang"), stream_of([]))
        outcomes: list[Outcome] = []
        job, client = make_job(model=it.model, settle=outcomes.append), Client()
        client.fault = OSError("a mistake of ours")
        job.channel.attach(client)
        it.engine.submit(job)
        await client.end_of_answer()
        assert type(client.told) is GatewayError
        assert [outcome.ending for outcome in outcomes] == ["cut"]  # there was content for it
        assert (await it.answer()).endswith(b"data: [DONE]\n\n")
    assert "failed in the gateway" in caplog.text


async def test_an_idle_worker_does_not_keep_the_last_job_in_memory() -> None:
    async with bench() as it:
        await it.answer()
        job, client = it.submit()
        await client.end_of_answer()
        seen = weakref.ref(job)
        del job, client
        while not it.engine.pool(it.model).idle_workers:
            await asyncio.sleep(0)
        gc.collect()
        assert seen() is None


async def test_an_error_told_behind_content_ends_the_answer_though_the_upstream_stays() -> None:
    async with bench() as it:
        first_read = Pause(asyncio.Event())
        more_and_error = event(chunk({"content": "lo"})) + event({"error": {"message": "broke"}})
        pieces: list[bytes | Pause] = [event(chunk({"content": "Hel"})), first_read, more_and_error]
        it.upstream.plan(streaming(pieces, end="hang"))
        _, client = it.submit()
        while not client.writes:
            await asyncio.sleep(0)
        first_read.event.set()
        assert b"lo" in await client.end_of_answer()
        assert isinstance(client.told, UpstreamError)


def workers() -> list[asyncio.Task[object]]:
    """Return the tasks of the workers, the oldest first."""
    found = [one for one in asyncio.all_tasks() if one.get_name() == "worker test/one"]
    return sorted(found, key=str)


async def test_a_job_given_to_a_worker_that_vanishes_is_carried_by_another() -> None:
    async with bench(room=2) as it:
        await it.answer()
        (worker,) = workers()
        _, client = it.submit()  # to the idle worker, which is cancelled before it runs
        worker.cancel()
        assert (await client.end_of_answer()).endswith(b"data: [DONE]\n\n")
        assert it.busy == 0


async def test_the_worker_that_frees_a_slot_takes_the_next_job_itself() -> None:
    async with bench(room=2, max_waiting=64) as it:
        seen = set()
        clients = []
        for _ in range(20):
            job, client = it.submit()
            job.on_progress = lambda: seen.add(asyncio.current_task())
            clients.append(client)
        for client in clients:
            await client.end_of_answer()
        assert len(seen) == 2


async def test_workers_past_the_size_of_the_pool_end_with_their_jobs() -> None:
    """After a reload the keeper may have more slots than a process that is replaced has workers."""
    async with bench() as it:
        await it.answer()
        (small,) = it.model.deployments
        it.scheduler.adopt([replace(it.model, deployments=(replace(small, max_concurrency=3),))])
        hold = Pause(asyncio.Event())
        last = [event(chunk(finish="stop")), event("[DONE]")]
        it.upstream.plan(streaming([event(chunk("x")), hold, *last]))
        clients = [it.submit()[1] for _ in range(3)]
        await it.upstream.request(3)
        assert len(workers()) == 3
        hold.event.set()
        for client in clients:
            assert (await client.end_of_answer()).endswith(b"data: [DONE]\n\n")
        await eventually(lambda: len(workers()) == 1)
        assert it.engine.pool(it.model).idle_workers == 1


async def test_a_worker_that_was_cancelled_while_idle_is_given_no_job() -> None:
    async with bench() as it:
        await it.answer()
        (worker,) = workers()
        worker.cancel()
        await asyncio.wait([worker])
        assert it.engine.pool(it.model).idle_workers == 0
        await it.answer()


# What the outcome says of upstreams that were reached in vain


async def failed_attempts(*urls: str) -> Outcome:
    """Return the outcome of a job that no deployment at these URLs answers."""
    deployments = tuple(make_deployment(url, order=n, base_url=url) for n, url in enumerate(urls))
    model = Model(id="test/one", name="One", deployments=deployments)
    transport, outcomes = Transport(), list[Outcome]()
    engine = Engine(transport, stream_settings(), LocalScheduler(8))
    job, client = make_job(model=model, settle=outcomes.append), Client()
    job.channel.attach(client)
    engine.submit(job)
    await client.end_of_answer()
    await engine.aclose()
    await transport.aclose()
    (outcome,) = outcomes
    return outcome


async def test_a_request_that_was_rejected_or_dropped_has_reached_an_upstream() -> None:
    for answer in (refusal(500), Answer(raw=True, end="reset")):
        async with FakeUpstream() as upstream:
            upstream.plan(answer)
            outcome = await failed_attempts(upstream.base_url)
        assert (outcome.ending, outcome.reached_upstream) == ("failed", True)
        assert outcome.timed_out_prompts == 0


async def test_an_earlier_attempt_that_reached_its_upstream_counts() -> None:
    async with FakeUpstream() as upstream:
        upstream.plan(refusal(500))
        with refusing_url() as nowhere:
            outcome = await failed_attempts(upstream.base_url, nowhere)
    assert (outcome.reached_upstream, outcome.prompt_sent) == (True, False)


async def test_a_request_without_a_connection_has_reached_no_upstream() -> None:
    with refusing_url() as nowhere:
        outcome = await failed_attempts(nowhere)
    assert (outcome.reached_upstream, outcome.timed_out_prompts) == (False, 0)


async def test_a_timeout_that_the_upstream_reports_itself_is_an_ordinary_rejection() -> None:
    async with FakeUpstream() as upstream:
        upstream.plan(refusal(504))
        outcome = await failed_attempts(upstream.base_url)
    assert (outcome.reached_upstream, outcome.timed_out_prompts) == (True, 0)


async def test_a_prompt_whose_answer_stopped_after_content_is_not_counted_as_timed_out() -> None:
    outcomes: list[Outcome] = []
    job, tap = make_job(settle=outcomes.append), Tap()
    translator = TRANSLATORS["openai"](job.request, job.model, make_deployment(), 1 << 20)
    tap.connected_at = 1.0
    job.begin(make_deployment(), translator, tap)
    job.push(b"data: x\n\n")
    gap = UpstreamTimeout("gap", 1.0)
    job.note_failure(gap)
    job.close("timed_out", gap)
    assert (outcomes[0].reached_upstream, outcomes[0].timed_out_prompts) == (True, 0)


async def test_a_burst_whose_deployment_dies_delays_its_own_key_only() -> None:
    """Jobs that come back wait in their lanes: a key that comes later has its turn."""
    async with FakeUpstream() as dying, FakeUpstream() as small:
        first = make_deployment("a", order=1, room=4, base_url=dying.base_url)
        second = make_deployment("b", order=2, room=1, base_url=small.base_url)
        model = Model(id="test/one", name="One", deployments=(first, second))
        transport = Transport()
        engine = Engine(transport, stream_settings(), LocalScheduler(64))
        die, go_on = Pause(asyncio.Event()), Pause(asyncio.Event())
        dying.plan(Answer(raw=True, pieces=[die], end="reset"))
        text = [event(chunk("Hi")), event(chunk(finish="stop")), event("[DONE]")]
        small.plan(streaming([go_on, *text]), streaming(text))
        served: list[str] = []
        clients = []

        def submit(lane: str) -> None:
            job, client = make_job(lane, model=model), Client()
            job.channel.attach(client)
            job.on_progress = lambda: served.append(lane)
            engine.submit(job)
            clients.append(client)

        for _ in range(4):
            submit("burst")
        await dying.request(3)
        served.clear()
        die.event.set()
        await small.request()
        while [job.state for job in engine.jobs.values()].count("queued") < 3:
            await asyncio.sleep(0)
        submit("late")
        served.clear()
        go_on.event.set()
        for client in clients:
            assert (await client.end_of_answer()).endswith(b"data: [DONE]\n\n")
        await engine.aclose()
        await transport.aclose()
    assert [lane for lane in served if lane][:4].index("late") <= 2
    assert len(small.requests) == 5


# Draining


async def test_draining_refuses_new_jobs_and_waits_for_those_that_run() -> None:
    async with bench() as it:
        _, client = it.submit()
        await asyncio.gather(it.engine.drain(20), client.end_of_answer())
        assert client.ends == [None]
        with pytest.raises(Draining):
            it.submit()


async def test_what_outlasts_the_drain_is_ended_queued_or_running() -> None:
    async with bench() as it:
        it.upstream.plan(silence())
        clients = [it.submit()[1] for _ in range(3)]
        await it.upstream.request()
        await it.engine.drain(0.01)
        assert [type(client.told) for client in clients] == [Draining] * 3


async def test_a_second_drain_does_not_make_the_first_wait() -> None:
    async with bench() as it:
        it.upstream.plan(silence())
        _, client = it.submit()
        await it.upstream.request()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(it.engine.drain(1000), it.engine.drain(0.01))
        assert isinstance(client.told, Draining)


async def test_a_job_whose_id_is_in_use_is_refused_so_that_every_job_can_be_found() -> None:
    async with bench() as it:
        it.upstream.plan(silence())
        first, _ = it.submit()
        twin = make_job(model=it.model)
        twin.id = first.id
        with pytest.raises(Conflict):
            it.engine.submit(twin)
        twin.cancel()
        assert it.engine.jobs == {first.id: first}


async def test_a_refused_job_is_not_kept() -> None:
    async with bench(max_waiting=0) as it:
        it.upstream.plan(silence())
        it.submit()
        with pytest.raises(Overloaded):
            it.submit()
        assert len(it.engine.jobs) == 1
