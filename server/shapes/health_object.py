"""The answers of `/healthz` and `/readyz`, and of the health API."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.services import Services
from workers.catalog.catalog import Deployment, Model
from workers.run.deployment_state import DeploymentReport
from workers.run.scheduler import ModelReport

DeploymentWords = Literal["ready", "cooling", "probing", "off"]


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
    what of its configuration was refused (`credentials`, `credit`, `model`); `probing`, with at
    most `limit` requests at the same time since it has cooled; `off`, because its secret is not set
    or its provider is not supported. `failures` counts those in a row.
    """

    id: str
    state: DeploymentWords
    reason: str | None
    cooling_s: float | None
    failures: int
    busy: int
    limit: int


class ModelHealthObject(Struct, frozen=True, kw_only=True):
    """How a model has answered in the last hour; `ttft_ms` is the median, null: not measured.

    `failing`: at least half of its newest requests have failed.
    """

    id: str
    requests: int
    failures: int
    ttft_ms: int | None
    failing: bool
    deployments: list[DeploymentHealth]


class HealthReport(Struct, frozen=True, kw_only=True):
    """The health of every model of the catalog and of its deployments."""

    object: Literal["health"]
    models: list[ModelHealthObject]


async def health_report(services: Services) -> HealthReport:
    """Return the health of every model of the catalog."""
    reports = await services.engine.scheduler.report(services.catalog)
    models = zip(services.catalog, reports, strict=True)
    return HealthReport(
        object="health", models=[_model(services, model, report) for model, report in models]
    )


def _model(services: Services, model: Model, report: ModelReport) -> ModelHealthObject:
    measured = services.health.find(model.id)
    states = zip(model.deployments, report.deployments, strict=True)
    return ModelHealthObject(
        id=model.id,
        requests=measured.requests if measured is not None else 0,
        failures=measured.failures if measured is not None else 0,
        ttft_ms=measured.ttft_ms if measured is not None else None,
        failing=measured is not None and measured.failing,
        deployments=[deployment_health(one, state) for one, state in states],
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
    )
