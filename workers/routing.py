"""Which deployments a job is offered to, in which order.

Lower `order` first; among equals chance decides by `weight`; a deployment whose slots are all taken
is passed over. Cooldowns and breakers will live here, behind `note`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from workers.catalog import Deployment, Model
from workers.errors import NoDeployment, UpstreamError, UpstreamRateLimited


class Routing:
    """Choose deployments and count the slots in use on each."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()

    def busy(self, deployment: Deployment) -> int:
        """Give how many exchanges a deployment carries now."""
        return self._busy[deployment.id]

    def candidates(self, model: Model) -> Iterator[Deployment]:
        """Yield the live deployments of a model in the order to try them, those with room only.

        Raises NoDeployment when the model has none that is live.
        """
        live = model.live_deployments()
        if not live:
            raise NoDeployment(no_deployment_message(model))
        ranked = sorted(live, key=lambda one: (one.order, -(random.random() ** (1 / one.weight))))
        for deployment in ranked:
            if self._busy[deployment.id] < deployment.max_concurrency:
                yield deployment

    def take(self, deployment: Deployment) -> None:
        """Occupy a slot."""
        self._busy[deployment.id] += 1

    def give_back(self, deployment: Deployment) -> None:
        """Free a slot."""
        self._busy[deployment.id] -= 1


def no_deployment_message(model: Model) -> str:
    """Say which variables would make a model servable."""
    missing = sorted({one.secret_env for one in model.deployments if one.secret_env})
    hint = f" Set one of: {', '.join(missing)}." if missing else ""
    return f"No upstream is configured for {model.id}.{hint} `roxy serve --demo` needs none."


def worse(first: UpstreamError | None, second: UpstreamError) -> UpstreamError:
    """Choose what the client is told when all deployments failed: a wait that cures comes first."""
    if isinstance(first, UpstreamRateLimited) and first.retry_after_s is not None:
        if not isinstance(second, UpstreamRateLimited) or second.retry_after_s is None:
            return first
        return min(first, second, key=lambda error: error.retry_after_s or 0.0)
    return second
