"""GET live (owner): what runs and waits at this moment, per model, and where it is carried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from server.accounting.ledger import BYTES_PER_TOKEN
from server.api.keys import OwnerHandler
from server.services import Services
from workers.catalog.catalog import Model
from workers.run.job import Job
from workers.run.pool import ModelPool

JOBS_SHOWN = 200
"""Of one model: the oldest ones."""


class LiveHandler(OwnerHandler):
    """The engine room: running and waiting requests, workers, deployments."""

    def get(self) -> None:
        """Show every model of the catalog, and its jobs, the running ones first."""
        self.reply_json({"object": "live", "models": describe_live(self.services)})


def describe_live(services: Services) -> list[dict[str, Any]]:
    """Tell what happens at every model of the catalog, its running jobs before the waiting ones."""
    jobs: dict[str, list[Job]] = {}
    for job in services.engine.jobs.values():
        jobs.setdefault(job.model.id, []).append(job)
    pools = {pool.model.id: pool for pool in services.engine}
    names = {key.id: key.name for key in services.keys.list()}
    return [
        _model(services, model, jobs.get(model.id, []), pools.get(model.id), names)
        for model in services.catalog
    ]


def _model(
    services: Services,
    model: Model,
    jobs: Sequence[Job],
    pool: ModelPool | None,
    names: Mapping[str, str],
) -> dict[str, Any]:
    running = sum(job.state != "queued" for job in jobs)
    workers = sum(one.max_concurrency for one in model.live_deployments())
    wait_s = 0.0
    if pool is not None and running >= workers:
        wait_s = pool.queue.expected_wait_s(len(pool.queue))
    shown = [_job(services, job, names) for job in jobs[:JOBS_SHOWN]]
    return {
        "id": model.id,
        "queued": len(jobs) - running,
        "running": running,
        "workers": workers,
        "expected_wait_s": round(wait_s, 1),
        "jobs": sorted(shown, key=lambda one: one["position"] or 0),
        "jobs_left_out": len(jobs) - len(shown),
        "deployments": [
            {
                "id": one.id,
                "live": one.live and one.supported,
                "demo": one.demo,
                "busy": services.engine.routing.busy(one),
                "max_concurrency": one.max_concurrency,
            }
            for one in model.deployments
        ],
    }


def _job(services: Services, job: Job, names: Mapping[str, str]) -> dict[str, Any]:
    place = job.place()
    return {
        "id": job.id,
        "state": job.state,
        "who": job.lane,
        "who_name": names.get(job.lane, job.lane),
        "position": place.position if place is not None else None,
        "started_s": round(asyncio.get_running_loop().time() - job.created, 1),
        "tokens": -(-job.output_bytes // BYTES_PER_TOKEN),
        "kept": job.id in services.answers,
        "deployment": job.deployment.id if job.deployment is not None else None,
        "attempts": job.attempts,
    }
