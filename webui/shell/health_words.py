"""Describe how well a model has answered in the last hour, and why a deployment is not used."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from server.accounting.model_health import Health, ModelHealth
from server.identity.authentication import Principal
from server.shapes.model_object import model_object
from workers.catalog.catalog import Model
from workers.catalog.makers import maker_name

WORTH_SHOWING = 0.05
"""The share of failures from which on it is shown."""


OWN_FAULTS = {
    "credentials": "its secret was refused",
    "credit": "its account has no credit",
    "model": "it does not know the model",
}
"""What of a deployment's own configuration its upstream refuses."""
CAUSES = {
    "upstream_rate_limited": "the upstream's rate limit was reached",
    "upstream_overloaded": "the upstream is overloaded",
    "upstream_unavailable": "the upstream cannot be reached or answers with an error",
    "upstream_disconnected": "the upstream closed the connection",
    "upstream_connect_timeout": "connecting took too long",
    "upstream_timeout": "no content came in time",
    "upstream_gap_timeout": "an answer stopped in the middle",
    "upstream_error": "the upstream sent an invalid answer",
}


class HealthWords(NamedTuple):
    """`mark` is the dot's colour as in `.state` of the pages, `about` the figures in full."""

    mark: str
    words: str
    about: str


def describe_card(
    model: Model, health: ModelHealth, visitor: Principal | None = None
) -> dict[str, Any]:
    """Return a model as the API shows it, with its maker's name, and its health if it is available.

    Prices are for those who have a key; what a model lacks (`missing`: variables) for the owner.
    """
    priced = visitor is not None and visitor.sees_costs
    described: dict[str, Any] = msgspec.to_builtins(model_object(model, priced=priced))
    words = health_words(health.find(model.id)) if described["available"] else None
    described["health"] = words._asdict() if words is not None else None
    described["maker"] = maker_name(model.owned_by)
    is_owner = visitor is not None and visitor.is_owner
    lacks = is_owner and not described["available"]
    described["missing"] = model.missing_secrets() if lacks else ()
    return described


def sees(visitor: Principal | None, model: Model) -> bool:
    """Return True if a visitor sees a model: those without an upstream are for the owner."""
    return bool(model.live_deployments()) or (visitor is not None and visitor.is_owner)


def health_words(health: Health | None) -> HealthWords | None:
    """Return a model's health in words, or None when there is nothing to report."""
    if health is None:
        return None
    share = health.failures / health.requests
    about = f"Last hour: {health.requests:,} measured, {share * 100:.0f} % failed"
    speed = first_token(health.ttft_ms) if health.ttft_ms is not None else ""
    if speed:
        about += f", half of the streams began within {speed}"
    if health.failing:
        return HealthWords("bad", "failing", about)
    words = f"{speed} to first token" if speed else ""
    if share >= WORTH_SHOWING and (words or health.failures > 1):
        failed = f"{share * 100:.0f} % failed"
        return HealthWords("warn", f"{words}, {failed}" if words else failed, about)
    return HealthWords("good", words, about) if words else None


def first_token(ttft_ms: int) -> str:
    """Return a time to first token in words: 0.4 s, 12 s."""
    if ttft_ms < 100:
        return "<0.1 s"
    return f"{ttft_ms / 1000:.1f} s" if ttft_ms < 9_950 else f"{ttft_ms / 1000:.0f} s"


def reason_of(reason: str | None) -> str:
    """Return the reason that the health API gives, in words."""
    if reason is None:
        return "an error"
    return (
        OWN_FAULTS.get(reason)
        or CAUSES.get(reason)
        or reason.removeprefix("upstream_").replace("_", " ")
    )
