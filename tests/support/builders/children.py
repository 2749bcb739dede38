"""Several engines that share one scheduler over links, as the children of a keeper do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from support.builders.jobs import Client, make_job, stream_settings

from server.nodes.link import Link, open_link
from server.nodes.procedure import Service
from server.nodes.scheduling.child_scheduler import ChildScheduler
from server.nodes.scheduling.child_tickets import ChildTickets
from workers.catalog.catalog import Model
from workers.errors import GatewayError
from workers.run.job import Job, Outcome
from workers.run.pool import Engine
from workers.run.scheduler import LocalScheduler
from workers.transport.transport import Transport


class Child:
    """One engine, its end of the link and the keeper's."""

    def __init__(self, engine: Engine, near: Link, far: Link, model: Model) -> None:
        self.engine = engine
        self.near = near
        self.far = far
        self.model = model
        self.outcomes: list[Outcome] = []

    async def submit(
        self, lane: str = "key_a", *, max_wait_s: float = 1000.0, weight: int = 1, only: str = ""
    ) -> tuple[Job, Client]:
        """Submit a job with a client that listens; raises a refusal."""
        job = make_job(
            lane,
            model=self.model,
            max_wait_s=max_wait_s,
            weight=weight,
            only=only,
            settle=self.outcomes.append,
        )
        client = Client()
        job.channel.attach(client)
        try:
            decided = self.engine.submit(job)
            if decided is not None:
                await decided
        except GatewayError as error:
            job.close("refused", error)
            raise
        return job, client

    async def answer(self, lane: str = "key_a") -> bytes:
        """Have one job answered."""
        _, client = await self.submit(lane)
        return await client.end_of_answer()


async def join(
    keeper: LocalScheduler, model: Model, transport: Transport, *, of_keeper: Model | None = None
) -> Child:
    """Connect an engine to the scheduler of a keeper, which may know the model differently."""
    near, far = socket.socketpair()
    at_child, at_keeper = Service(), Service()
    scheduler = ChildScheduler()
    scheduler.answer(at_child)
    tickets = ChildTickets(keeper)
    tickets.answer(at_keeper)
    child_link = await open_link(near, at_child)
    keeper_link = await open_link(far, at_keeper)
    scheduler.connect(child_link, [of_keeper or model])
    tickets.connect(keeper_link)
    return Child(Engine(transport, stream_settings(), scheduler), child_link, keeper_link, model)


class Family:
    """A scheduler and the children that share it."""

    def __init__(self, scheduler: LocalScheduler, children: list[Child], model: Model) -> None:
        self.scheduler = scheduler
        self.children = children
        self.model = model

    @property
    def waiting(self) -> int:
        """Count the jobs that wait, of all children."""
        return self.scheduler.schedule(self.model).report(self.model).waiting

    @property
    def busy(self) -> int:
        """Count the slots in use, of all children."""
        report = self.scheduler.schedule(self.model).report(self.model)
        return sum(one.busy for one in report.deployments)


@asynccontextmanager
async def family(model: Model, children: int, *, max_waiting: int = 512) -> AsyncIterator[Family]:
    """Run a scheduler with children, and see that they leave nothing behind."""
    scheduler = LocalScheduler(max_waiting)
    async with AsyncExitStack() as stack:
        stack.callback(scheduler.close)
        joined = []
        for _ in range(children):
            transport = Transport()
            child = await join(scheduler, model, transport)
            joined.append(child)
            stack.push_async_callback(child.far.aclose)
            stack.push_async_callback(child.near.aclose)
            stack.push_async_callback(transport.aclose)
            stack.push_async_callback(child.engine.aclose)
        running = Family(scheduler, joined, model)
        yield running
        await asyncio.gather(*(child.engine.aclose() for child in joined))
        for child in joined:
            await child.near.aclose()
            await child.far.aclose()
        assert (running.busy, running.waiting) == (0, 0)
