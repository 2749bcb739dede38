"""Which deployments a job is offered to, in which order.

Lower `order` first; among equals chance decides by `weight`; a deployment whose slots are all taken
is passed over. Cooldowns and breakers will live here, behind `note`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from workers.catalog.catalog import Deployment, Model
from workers.errors import NoDeployment, UpstreamError, UpstreamRateLimited


class Routing:
    """Choose deployments and count the slots in use on each."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()
        self._live: dict[str, tuple[Deployment, ...]] = {}

    def busy(self, deployment: Deployment) -> int:
        """Give how many exchanges a deployment carries now."""
        return self._busy[deployment.id]

    def candidates(self, model: Model) -> Iterator[Deployment]:
        """Yield the live deployments of a model in the order to try them, those with room only.

        Raises NoDeployment when the model has none that is live.
        """
        live = self._live.get(model.id)
        if live is None:
            live = self._live[model.id] = model.live_deployments()
        if not live:
            raise NoDeployment(no_deployment_message(model))
        for deployment in _ranked(live) if len(live) > 1 else live:
            if self._busy[deployment.id] < deployment.max_concurrency:
                yield deployment

    def take(self, deployment: Deployment) -> None:
        """Occupy a slot."""
        self._busy[deployment.id] += 1

    def give_back(self, deployment: Deployment) -> None:
        """Free a slot."""
        self._busy[deployment.id] -= 1


def _ranked(live: Sequence[Deployment]) -> list[Deployment]:
    """Order by `order`, among equals by a draw in which `weight` counts."""
    return sorted(live, key=lambda one: (one.order, -(random.random() ** (1 / one.weight))))


def no_deployment_message(model: Model) -> str:
    """Say which variables would make a model servable."""
    dark = [one for one in model.deployments if one.supported and not one.live]
    missing = sorted({one.secret_env for one in dark})
    hint = f" Set one of: {', '.join(missing)}." if missing else ""
    return f"No upstream is configured for {model.id}.{hint} `roxy serve --demo` needs none."


def worse(first: UpstreamError | None, second: UpstreamError) -> UpstreamError:
    """Choose what the client is told when all deployments failed: a wait that cures comes first."""
    if isinstance(first, UpstreamRateLimited) and first.retry_after_s is not None:
        if not isinstance(second, UpstreamRateLimited) or second.retry_after_s is None:
            return first
        return min(first, second, key=lambda error: error.retry_after_s or 0.0)
    return second
