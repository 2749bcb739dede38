"""The answers of `/healthz` and `/readyz`, and of the health API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from server.answers.model_health import Health
from server.answers.passing import RequestOrigin
from server.services import Services
from server.shapes.fan_out import ask_everywhere
from workers.catalog.catalog import Deployment, Model
from workers.run.deployment_state import DeploymentReport, LastFailure
from workers.run.scheduler import ModelReport

DeploymentWords = Literal["ready", "cooling", "probing", "off"]
STATES: tuple[DeploymentWords, ...] = ("ready", "probing", "cooling", "off")
"""The states of a deployment, the best first."""


class HealthObject(Struct, frozen=True):
    """Whether the gateway is ready, and the reasons if it is not.

    `away`: the shared stores that cannot be reached. A node serves without them as far as it can,
    so it stays ready.
    """

    status: Literal["ok", "unavailable"]
    reasons: list[str] | UnsetType = UNSET
    away: list[str] | UnsetType = UNSET


class DeploymentHealth(Struct, frozen=True, kw_only=True):
    """Whether a deployment is used now.

    `state`: `ready`; `cooling`, for `cooling_s` more seconds because of `reason`: an error code, or
    what of its configuration was refused (`credentials`, `credit`, `model`), or `certificate`;
    `probing`, with at most `limit` requests at the same time since it has cooled; `off`, because
    its secret is not set or its provider is not supported. `failures` counts those in a row.
    `requests` are those that it was the last to have in the last hour; `ttft_ms` and `tokens_per_s`
    are medians of their streams, null: not measured. `last_failure` is how the last request has
    failed, null: it has not. `learnt` is what its refusals have taught since the start, as lines
    for `roxy.toml`.
    """

    id: str
    state: DeploymentWords
    reason: str | None
    cooling_s: float | None
    failures: int
    busy: int
    limit: int
    requests: int = 0
    ttft_ms: int | None = None
    tokens_per_s: float | None = None
    last_failure: LastFailure | None = None
    learnt: list[str] = []


class ModelHealthObject(Struct, frozen=True, kw_only=True):
    """How a model has answered in the last hour.

    `ttft_ms` and `tokens_per_s` are medians of its streams, null: not measured. Over several
    processes they are the means of their medians, by their requests. `failing`: at least
    half of the newest requests of a process have failed.
    """

    id: str
    requests: int
    failures: int
    ttft_ms: int | None
    failing: bool
    deployments: list[DeploymentHealth]
    tokens_per_s: float | None = None


Measured: TypeAlias = DeploymentHealth | ModelHealthObject


class HealthReport(Struct, frozen=True, kw_only=True):
    """The health of every model of the catalog and of its deployments."""

    object: Literal["health"]
    models: list[ModelHealthObject]


async def health_everywhere(services: Services, asked: RequestOrigin) -> HealthReport:
    """Return the health of every model in all processes of all nodes that can be reached."""
    here = await _health_here(services)
    others = await ask_everywhere(services, asked, "/api/v1/health", HealthReport)
    here = _merged([here, *others.siblings], shared=True)
    return _merged([here, *(one for _, one in others.nodes if one is not None)], shared=False)


def _merged(reports: Sequence[HealthReport], *, shared: bool) -> HealthReport:
    """Sum up; `shared`: the processes have one state of each deployment."""
    if len(reports) == 1:
        return reports[0]
    models: dict[str, list[ModelHealthObject]] = {}
    for report in reports:
        for model in report.models:
            models.setdefault(model.id, []).append(model)
    merged = [_merged_model(parts, shared=shared) for parts in models.values()]
    return HealthReport(object="health", models=merged)


def _merged_model(parts: Sequence[ModelHealthObject], *, shared: bool) -> ModelHealthObject:
    deployments: dict[str, list[DeploymentHealth]] = {}
    for part in parts:
        for one in part.deployments:
            deployments.setdefault(one.id, []).append(one)
    return ModelHealthObject(
        id=parts[0].id,
        requests=sum(part.requests for part in parts),
        failures=sum(part.failures for part in parts),
        ttft_ms=_mean_ttft(parts),
        failing=any(part.failing for part in parts),
        deployments=[_merged_deployment(same, shared=shared) for same in deployments.values()],
        tokens_per_s=_mean_speed(parts),
    )


def _mean_ttft(parts: Sequence[Measured]) -> int | None:
    mean = _mean([(part.ttft_ms, part.requests) for part in parts])
    return None if mean is None else round(mean)


def _mean_speed(parts: Sequence[Measured]) -> float | None:
    mean = _mean([(part.tokens_per_s, part.requests) for part in parts])
    return None if mean is None else round(mean, 1)


def _mean(values: Sequence[tuple[float | None, int]]) -> float | None:
    """Return the mean of the values that are known, by their weights."""
    known = [(value, weight) for value, weight in values if value is not None]
    whole = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / whole if whole else None


def _merged_deployment(parts: Sequence[DeploymentHealth], *, shared: bool) -> DeploymentHealth:
    """Sum up a deployment; over nodes its state is the best one, where requests are served."""
    best = parts[0]
    if not shared:
        best = min(parts, key=lambda one: (STATES.index(one.state), one.cooling_s or 0.0))
        busy, limit = sum(one.busy for one in parts), sum(one.limit for one in parts)
        failures = [one.last_failure for one in parts if one.last_failure is not None]
        newest = max(failures, key=lambda one: one.at, default=None)
        best = replace(best, busy=busy, limit=limit, last_failure=newest)
    return replace(
        best,
        requests=sum(one.requests for one in parts),
        ttft_ms=_mean_ttft(parts),
        tokens_per_s=_mean_speed(parts),
        learnt=list(dict.fromkeys(line for one in parts for line in one.learnt)),
    )


async def _health_here(services: Services) -> HealthReport:
    """Return the health of every model as this process has measured it."""
    reports = await services.engine.scheduler.report(services.catalog)
    models = zip(services.catalog, reports, strict=True)
    return HealthReport(
        object="health", models=[_model(services, model, report) for model, report in models]
    )


def _model(services: Services, model: Model, report: ModelReport) -> ModelHealthObject:
    measured = services.health.find(model.id)
    states = zip(model.deployments, report.deployments, strict=True)
    learnt = services.engine.learnt(model.id)
    return ModelHealthObject(
        id=model.id,
        requests=measured.requests if measured is not None else 0,
        failures=measured.failures if measured is not None else 0,
        ttft_ms=measured.ttft_ms if measured is not None else None,
        failing=measured is not None and measured.failing,
        deployments=[
            replace(
                _measured(deployment_health(one, state), services.health.find_deployment(one.id)),
                learnt=learnt[one.id].lines() if one.id in learnt else [],
            )
            for one, state in states
        ],
        tokens_per_s=measured.tokens_per_s if measured is not None else None,
    )


def _measured(health: DeploymentHealth, measured: Health | None) -> DeploymentHealth:
    """Add what a deployment has answered in the last hour."""
    if measured is None:
        return health
    return replace(
        health,
        requests=measured.requests,
        ttft_ms=measured.ttft_ms,
        tokens_per_s=measured.tokens_per_s,
    )


def deployment_health(deployment: Deployment, report: DeploymentReport) -> DeploymentHealth:
    """Return whether a deployment is used now, and why not."""
    return DeploymentHealth(
        id=deployment.id,
        state=report.state if deployment.live else "off",
        reason=report.reason,
        cooling_s=round(report.cooling_s, 1) if report.cooling_s else None,
        failures=report.failures,
        busy=report.busy,
        limit=report.limit if deployment.live else 0,
        last_failure=report.last_failure,
    )
