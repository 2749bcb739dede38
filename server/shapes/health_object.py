"""The answers of `/healthz` and `/readyz`, and of the health API."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.services import Services
from workers.catalog.catalog import Deployment, Model
from workers.run.routing import Routing

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


def health_report(services: Services) -> HealthReport:
    """Return the health of every model of the catalog."""
    return HealthReport(
        object="health", models=[_model(services, model) for model in services.catalog]
    )


def _model(services: Services, model: Model) -> ModelHealthObject:
    measured = services.health.find(model.id)
    routing = services.engine.routing
    return ModelHealthObject(
        id=model.id,
        requests=measured.requests if measured is not None else 0,
        failures=measured.failures if measured is not None else 0,
        ttft_ms=measured.ttft_ms if measured is not None else None,
        failing=measured is not None and measured.failing,
        deployments=[deployment_health(routing, one) for one in model.deployments],
    )


def deployment_health(routing: Routing, deployment: Deployment) -> DeploymentHealth:
    """Return whether a deployment is used now, and why not."""
    state = routing.state(deployment)
    cooling_s = routing.cooling_s(deployment)
    cause = state.cause if state.word != "ready" else None
    limits = {"ready": deployment.max_concurrency, "probing": state.limit, "cooling": 0}
    return DeploymentHealth(
        id=deployment.id,
        state=state.word if deployment.live else "off",
        reason=cause.reason if cause is not None else None,
        cooling_s=round(cooling_s, 1) if cooling_s else None,
        failures=state.failures,
        busy=state.busy,
        limit=limits[state.word] if deployment.live else 0,
    )
