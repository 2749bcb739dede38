"""The answer of the live API: what runs and waits at this moment, per model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from server.services import Services
from server.shapes.health_object import DeploymentWords, deployment_health
from workers.catalog.catalog import Deployment, Model
from workers.request.token_usage import BYTES_PER_TOKEN
from workers.run.deployment_state import DeploymentReport
from workers.run.job import Job, JobState
from workers.run.scheduler import ModelReport

JOBS_SHOWN = 200
"""The oldest jobs of one model; a queue may hold thousands."""


class LiveJob(Struct, frozen=True, kw_only=True):
    """A request that runs or waits; `tokens` is an estimate, `started_s` its age in seconds."""

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


class Live(Struct, frozen=True, kw_only=True):
    """Everything that runs and waits now."""

    object: Literal["live"]
    models: list[LiveModel]


async def live_object(services: Services) -> Live:
    """Return what happens at every model of the catalog, running jobs before waiting ones."""
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
