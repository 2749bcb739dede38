"""GET models and models/{id}: the catalog as OpenAI's clients expect it, and what Roxy adds."""

from __future__ import annotations

from typing import Any

from server.api.base import BaseHandler
from server.identity.authentication import Principal
from workers.catalog.catalog import Model, Prices
from workers.errors import ModelNotFound
from workers.money import to_dollars


def describe_prices(prices: Prices | None) -> dict[str, Any] | None:
    """Give prices in US dollars per million tokens; None: unknown."""
    if prices is None:
        return None
    described: dict[str, Any] = {"currency": "USD", "per_tokens": 1_000_000}
    for name in ("prompt", "completion", "cached_prompt", "cache_write_prompt"):
        value = getattr(prices, name)
        if value is not None:
            described[name] = to_dollars(value)
    if prices.tiers:
        described["tiers"] = [
            {"above_prompt_tokens": tier.above_prompt_tokens}
            | {
                name: to_dollars(value)
                for name in ("prompt", "completion", "cached_prompt", "cache_write_prompt")
                if (value := getattr(tier, name)) is not None
            }
            for tier in prices.tiers
        ]
    return described


def describe_model(model: Model) -> dict[str, Any]:
    """Give the model object of the API; only its first four members are OpenAI's."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.released,
        "owned_by": model.owned_by,
        "name": model.name,
        "description": model.description,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "modalities": {
            "input": list(model.input_modalities),
            "output": list(model.output_modalities),
        },
        "prices": describe_prices(model.prices),
        "endpoints": list(model.endpoints),
        "available": bool(model.live_deployments()),
        "demo": model.served_by_demo,
    }


def may_use(principal: Principal, model_id: str, guest_models: tuple[str, ...]) -> bool:
    """Say whether a principal's allow list, if it has one, names a model."""
    if principal.kind == "guest":
        return not guest_models or model_id in guest_models
    key = principal.key
    return key is None or key.models is None or model_id in key.models


class ModelsHandler(BaseHandler):
    """The list of models the caller may use."""

    def get(self) -> None:
        """List them in the catalog's order."""
        assert self.principal is not None
        guest_models = tuple(self.services.config.guests.models)
        self.reply_json(
            {
                "object": "list",
                "data": [
                    describe_model(model)
                    for model in self.services.catalog
                    if may_use(self.principal, model.id, guest_models)
                ],
            }
        )


class ModelHandler(BaseHandler):
    """One model; its id may contain slashes, plain or as %2F."""

    def get(self, model_id: str) -> None:
        """Describe it."""
        assert self.principal is not None
        model = self.services.catalog.find(model_id)
        if not may_use(self.principal, model.id, tuple(self.services.config.guests.models)):
            raise ModelNotFound
        self.reply_json(describe_model(model))
