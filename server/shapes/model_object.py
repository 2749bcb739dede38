"""The model object of the API: OpenAI's four members, and what Roxy adds."""

from __future__ import annotations

from typing import Literal, TypedDict

from msgspec import UNSET, Struct, UnsetType

from workers.catalog.catalog import Model, Prices, PriceTier
from workers.money import to_dollars
from workers.units import MILLION


class PriceTierObject(Struct, frozen=True, kw_only=True):
    """Prices of requests whose prompt is longer than `above_prompt_tokens`."""

    above_prompt_tokens: int
    prompt: float
    completion: float
    cached_prompt: float | UnsetType = UNSET
    cache_write_prompt: float | UnsetType = UNSET


class PricesObject(Struct, frozen=True, kw_only=True):
    """Prices in US dollars per `per_tokens` tokens."""

    currency: Literal["USD"]
    per_tokens: int
    prompt: float
    completion: float
    cached_prompt: float | UnsetType = UNSET
    cache_write_prompt: float | UnsetType = UNSET
    tiers: list[PriceTierObject] | UnsetType = UNSET


class Modalities(Struct, frozen=True):
    """The kinds of input and output of a model: text, image, audio, file, ..."""

    input: tuple[str, ...]
    output: tuple[str, ...]


class ModelObject(Struct, frozen=True, kw_only=True):
    """A model of the catalog; the first four members are OpenAI's.

    `prices` is null for guests, and for a model whose prices are unknown. `max_output_tokens` is
    what the caller may ask for: guests, and keys with tokens per minute, may have less.

    The context window has three names: clients look for `context_length` (as at OpenRouter) or
    `max_model_len` (as at vLLM).
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    description: str
    context_window: int
    context_length: int
    max_model_len: int
    max_output_tokens: int
    modalities: Modalities
    prices: PricesObject | None
    endpoints: tuple[str, ...]
    available: bool
    demo: bool


class ModelList(Struct, frozen=True, kw_only=True):
    """The models the caller may use."""

    object: Literal["list"]
    data: list[ModelObject]


class _Rates(TypedDict):
    prompt: float
    completion: float
    cached_prompt: float | UnsetType
    cache_write_prompt: float | UnsetType


def model_object(
    model: Model, *, priced: bool, max_output_tokens: int | None = None
) -> ModelObject:
    """Return a model as the API shows it, with its prices if `priced`.

    `max_output_tokens` is the caller's bound; None: the model's.
    """
    prices = model.prices if priced else None
    return ModelObject(
        id=model.id,
        object="model",
        created=model.released,
        owned_by=model.owned_by,
        name=model.name,
        description=model.description,
        context_window=model.context_window,
        context_length=model.context_window,
        max_model_len=model.context_window,
        max_output_tokens=max_output_tokens or model.max_output_tokens,
        modalities=Modalities(model.input_modalities, model.output_modalities),
        prices=prices_object(prices) if prices is not None else None,
        endpoints=model.endpoints,
        available=bool(model.live_deployments()),
        demo=model.served_by_demo,
    )


def prices_object(prices: Prices) -> PricesObject:
    """Return prices in US dollars per million tokens."""
    tiers = [
        PriceTierObject(above_prompt_tokens=tier.above_prompt_tokens, **_rates(tier))
        for tier in prices.tiers
    ]
    return PricesObject(currency="USD", per_tokens=MILLION, **_rates(prices), tiers=tiers or UNSET)


def _rates(prices: Prices | PriceTier) -> _Rates:
    return {
        "prompt": to_dollars(prices.prompt),
        "completion": to_dollars(prices.completion),
        "cached_prompt": _rate(prices.cached_prompt),
        "cache_write_prompt": _rate(prices.cache_write_prompt),
    }


def _rate(microusd: int | None) -> float | UnsetType:
    return UNSET if microusd is None else to_dollars(microusd)
