"""The answer of the live API: what runs and waits at this moment, per model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from server.answers.passing import RequestOrigin
from server.answers.peers import NodeSeen
from server.services import Services
from server.shapes.fan_out import ask_everywhere
from server.shapes.health_object import STATES, DeploymentWords, deployment_health
from workers.catalog.catalog import Deployment, Model
from workers.request.token_usage import BYTES_PER_TOKEN
from workers.run.deployment_state import DeploymentReport
from workers.run.job import Job, JobState
from workers.run.scheduler import ModelReport

JOBS_SHOWN = 200
"""The oldest jobs of one model; a queue may hold thousands."""


class LiveJob(Struct, frozen=True, kw_only=True):
    """A request that runs or waits; `tokens` is an estimate, `started_s` its age in seconds.

    `node` is where it runs, if there are several; its `position` is that in the queue there.
    """

    id: str
    state: JobState
    who: str
    who_name: str
    position: int | None
    started_s: float
    tokens: int
    kept: bool
    deployment: str | None
    attempts: int
    node: str | None = None


class LiveDeployment(Struct, frozen=True, kw_only=True):
    """One way to serve a model, how many requests it carries, and whether it is used.

    `state`, `reason` and `cooling_s` are those of the health API.
    """

    id: str
    live: bool
    demo: bool
    busy: int
    max_concurrency: int
    state: DeploymentWords
    reason: str | None
    cooling_s: float | None


class LiveModel(Struct, frozen=True, kw_only=True):
    """What happens at one model; `expected_wait_s` is the estimate for a new request."""

    id: str
    queued: int
    running: int
    workers: int
    expected_wait_s: float
    jobs: list[LiveJob]
    jobs_left_out: int
    deployments: list[LiveDeployment]


class LiveNode(Struct, frozen=True, kw_only=True):
    """A node of the gateway; `seen_s` is how long ago it was seen, in seconds.

    `state`: `here` answers this request; `up`; `silent` did not answer it; `gone` was not seen for
    some time. `running` and `waiting` count requests.
    """

    id: str
    state: Literal["here", "up", "silent", "gone"]
    url: str | None
    version: str
    started_at: float
    seen_s: float
    processes: int
    running: int
    waiting: int


class Live(Struct, frozen=True, kw_only=True):
    """Everything that runs and waits now; `nodes` is empty on a gateway in one process.

    `away`: the shared stores that cannot be reached, in words. `kept` counts the kept answers,
    `kept_bytes` is their size.
    """

    object: Literal["live"]
    models: list[LiveModel]
    kept: int
    kept_bytes: int
    nodes: list[LiveNode]
    away: list[str]


async def live_everywhere(services: Services, asked: RequestOrigin) -> Live:
    """Return what happens in all processes of all nodes, as far as they can be reached."""
    here = await _live_here(services)
    others = await ask_everywhere(services, asked, "/api/v1/live", Live)
    here = _merged([here, *others.siblings], shared=True)
    if not others.nodes:
        return here
    lives = {node.id: live for node, live in others.nodes}
    own = services.peers.node_id
    lives[own] = here
    nodes = [_node(node, lives.get(node.id), own) for node, _ in others.nodes]
    if len(nodes) > 1:
        lives = {node: _placed(live, node) for node, live in lives.items() if live is not None}
    total = _merged([live for live in lives.values() if live is not None], shared=False)
    return replace(total, nodes=sorted(nodes, key=lambda one: (one.state == "gone", one.id)))


def _node(node: NodeSeen, live: Live | None, own: str) -> LiveNode:
    state: Literal["here", "up", "silent", "gone"] = "silent" if live is None else "up"
    if node.id == own:
        state = "here"
    elif node.is_gone:
        state = "gone"
    models = live.models if live is not None else ()
    return LiveNode(
        id=node.id,
        state=state,
        url=node.url or None,
        version=node.version,
        started_at=node.started_at,
        seen_s=round(node.seen_s, 1),
        processes=len(node.tags),
        running=sum(model.running for model in models),
        waiting=sum(model.queued for model in models),
    )


def _placed(live: Live, node: str) -> Live:
    """Return a copy in which every job names its node."""
    models = [
        replace(model, jobs=[replace(job, node=node) for job in model.jobs])
        for model in live.models
    ]
    return replace(live, models=models)


def _merged(lives: Sequence[Live], *, shared: bool) -> Live:
    """Sum up; `shared`: the processes have one queue and one set of slots per model."""
    if len(lives) == 1:
        return lives[0]
    models: dict[str, list[LiveModel]] = {}
    for live in lives:
        for model in live.models:
            models.setdefault(model.id, []).append(model)
    return Live(
        object="live",
        models=[_merged_model(parts, shared=shared) for parts in models.values()],
        kept=sum(live.kept for live in lives),
        kept_bytes=sum(live.kept_bytes for live in lives),
        nodes=[],
        away=sorted({one for live in lives for one in live.away}),
    )


def _merged_model(parts: Sequence[LiveModel], *, shared: bool) -> LiveModel:
    first = parts[0]
    jobs = sorted((job for part in parts for job in part.jobs), key=lambda one: one.position or 0)
    shown = jobs[:JOBS_SHOWN]
    deployments: dict[str, list[LiveDeployment]] = {}
    for part in parts:
        for one in part.deployments:
            deployments.setdefault(one.id, []).append(one)
    return LiveModel(
        id=first.id,
        queued=sum(part.queued for part in parts),
        running=sum(part.running for part in parts),
        workers=first.workers if shared else sum(part.workers for part in parts),
        expected_wait_s=max(part.expected_wait_s for part in parts),
        jobs=shown,
        jobs_left_out=sum(part.jobs_left_out for part in parts) + len(jobs) - len(shown),
        deployments=[
            same[0] if shared else _merged_deployment(same) for same in deployments.values()
        ],
    )


def _merged_deployment(parts: Sequence[LiveDeployment]) -> LiveDeployment:
    """Sum up a deployment over nodes; its state is the best one, where requests are served."""
    best = min(parts, key=lambda one: (STATES.index(one.state), one.cooling_s or 0.0))
    return replace(
        best,
        busy=sum(one.busy for one in parts),
        max_concurrency=sum(one.max_concurrency for one in parts),
    )


async def _live_here(services: Services) -> Live:
    """Return what happens in this process at every model, running jobs before waiting ones."""
    reports = await services.engine.scheduler.report(services.catalog)
    jobs: dict[str, list[Job]] = {}
    for job in services.engine.jobs.values():
        jobs.setdefault(job.model.id, []).append(job)
    names = await services.keys.names({job.lane for job in services.engine.jobs.values()})
    return Live(
        object="live",
        models=[
            _model(services, model, jobs.get(model.id, []), report, names)
            for model, report in zip(services.catalog, reports, strict=True)
        ],
        kept=len(services.answers),
        kept_bytes=services.answers.size_bytes,
        nodes=[],
        away=services.away(),
    )


def _model(
    services: Services,
    model: Model,
    jobs: Sequence[Job],
    report: ModelReport,
    names: Mapping[str, str],
) -> LiveModel:
    running = sum(job.state != "queued" for job in jobs)
    states = zip(model.deployments, report.deployments, strict=True)
    shown = [_job(services, job, names) for job in jobs[:JOBS_SHOWN]]
    return LiveModel(
        id=model.id,
        queued=len(jobs) - running,
        running=running,
        workers=model.max_concurrency,
        expected_wait_s=round(report.expected_wait_s, 1),
        jobs=sorted(shown, key=lambda one: one.position or 0),
        jobs_left_out=len(jobs) - len(shown),
        deployments=[_deployment(*one) for one in states],
    )


def _deployment(deployment: Deployment, report: DeploymentReport) -> LiveDeployment:
    health = deployment_health(deployment, report)
    return LiveDeployment(
        id=deployment.id,
        live=deployment.live,
        demo=deployment.demo,
        busy=health.busy,
        max_concurrency=deployment.max_concurrency,
        state=health.state,
        reason=health.reason,
        cooling_s=health.cooling_s,
    )


def _job(services: Services, job: Job, names: Mapping[str, str]) -> LiveJob:
    place = job.place()
    return LiveJob(
        id=job.id,
        state=job.state,
        who=job.lane,
        who_name=names.get(job.lane, job.lane),
        position=place.position if place is not None else None,
        started_s=round(asyncio.get_running_loop().time() - job.created, 1),
        tokens=-(-job.output_bytes // BYTES_PER_TOKEN),  # rounded up
        kept=job.id in services.answers,
        deployment=job.deployment.id if job.deployment is not None else None,
        attempts=job.attempt_count,
    )
