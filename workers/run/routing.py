"""Which deployments are tried for a job, and in which order.

Lower `order` first; among equals a random draw by `weight`. A deployment without a free slot is
skipped.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from workers.catalog.catalog import Deployment, Model
from workers.errors import NoDeployment, UpstreamError, UpstreamRateLimited


class Routing:
    """Choose deployments and count the slots in use of each."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()
        self._live: dict[str, tuple[Deployment, ...]] = {}

    def busy(self, deployment: Deployment) -> int:
        """Return how many exchanges a deployment carries now."""
        return self._busy[deployment.id]

    def candidates(self, model: Model) -> Iterator[Deployment]:
        """Yield the live deployments of a model that have room, in the order to try them.

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
    """Sort by `order`, equals by a random draw by `weight`.

    The largest of random() ** (1 / weight) is each one's with a chance in proportion to its weight
    (Efraimidis and Spirakis, 2006).
    """
    return sorted(live, key=lambda one: (one.order, -(random.random() ** (1 / one.weight))))


def no_deployment_message(model: Model) -> str:
    """Return the message for a model without a live deployment: which variables would help."""
    missing = sorted(model.missing_secrets())
    hint = f" Set one of: {', '.join(missing)}." if missing else ""
    return f"No upstream is configured for {model.id}.{hint} `roxy serve --demo` needs none."


def worse(first: UpstreamError | None, second: UpstreamError) -> UpstreamError:
    """Choose the error for the client when all deployments failed.

    A rate limit with a known wait comes first, the shortest of them, then the latest error.
    """
    if isinstance(first, UpstreamRateLimited) and first.retry_after_s is not None:
        if not isinstance(second, UpstreamRateLimited) or second.retry_after_s is None:
            return first
        return min(first, second, key=lambda error: error.retry_after_s or 0.0)
    return second
