"""The models that clients can name, their prices and their deployments.

A **model** is a name that clients send (`zai/glm-4.5`). It has one or more **deployments**, each
one way to serve it: a wire format, a base URL, the model's id there, and the environment variable
that holds the secret. All of this is frozen: it is made once at start
(`workers.catalog.catalog_file`) and only read afterwards.

Money is integer micro-dollars; a price is micro-dollars per million tokens
($0.60 per million is 600,000).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from workers.catalog.quirks import NO_CLOCKS, NO_QUIRKS, NOTHING_LEARNT, Clocks, Learnt, Quirks
from workers.errors import ModelNotFound
from workers.units import MILLION
from workers.upstream_route import DIRECT, UpstreamRoute

if TYPE_CHECKING:
    from workers.request.token_usage import Usage

CHAT_COMPLETIONS = "chat.completions"


class PriceTier(Struct, frozen=True):
    """Prices of a request with a prompt above a threshold; None: the price of the prompt."""

    above_prompt_tokens: int
    prompt: int
    completion: int
    cached_prompt: int | None = None
    cache_write_prompt: int | None = None


class Prices(Struct, frozen=True):
    """Prices of a model, in micro-dollars per million tokens.

    `cached_prompt` and `cache_write_prompt` are None where such tokens cost as much as others. A
    tier applies to the whole request, not only to the tokens above its threshold. `tiers` ascend.
    """

    prompt: int
    completion: int
    cached_prompt: int | None = None
    cache_write_prompt: int | None = None
    tiers: tuple[PriceTier, ...] = ()

    def cost_microusd(self, usage: Usage) -> int:
        """Return the cost of the usage, rounded up to a whole micro-dollar."""
        prompt = usage.prompt_tokens or 0
        rates = self._rates(prompt)
        # Counts come from the upstream and may contradict each other: cap the parts.
        cached = min(usage.cached_tokens or 0, prompt)
        written = min(usage.cache_write_tokens or 0, prompt - cached)
        plain = prompt - cached - written
        total = plain * rates.prompt + (usage.completion_tokens or 0) * rates.completion
        total += cached * _either(rates.cached_prompt, rates.prompt)
        total += written * _either(rates.cache_write_prompt, rates.prompt)
        return _whole(total)

    def worst_case_microusd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return the highest cost of up to this many tokens: the dearest tier, of each kind."""
        prompt, completion = self.dearest(prompt_tokens)
        return _whole(prompt_tokens * prompt + completion_tokens * completion)

    def dearest(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the highest prices of prompt and answer with up to this many prompt tokens."""
        reached = [tier for tier in self.tiers if prompt_tokens > tier.above_prompt_tokens]
        rates: list[Prices | PriceTier] = [self, *reached]
        prompt = max(
            max(rate.prompt, rate.cached_prompt or 0, rate.cache_write_prompt or 0)
            for rate in rates
        )
        return prompt, max(rate.completion for rate in rates)

    def _rates(self, prompt_tokens: int) -> Prices | PriceTier:
        for tier in reversed(self.tiers):
            if prompt_tokens > tier.above_prompt_tokens:
                return tier
        return self


class Deployment(Struct, frozen=True):
    """One way to serve a model.

    `secret` is the value of the variable `secret_env` ("" when it is not set); an upstream with
    `secret_env` "" needs none. `supported` is False when this version has no translator for the
    wire format. With the request members in `owner_only_fields` this upstream would use other
    models or cost more: the models and budgets of keys hold only if just the owner may send them.
    `cap_field_assumed`: its `max_tokens_field` was not stated, it is the usual one of the host.
    `learnt` is what its refusals have taught since the start.
    """

    id: str
    provider: str
    base_url: str
    upstream_model: str
    secret_env: str = ""
    secret: str = ""
    order: int = 1
    weight: int = 1
    max_concurrency: int = 64
    owner_only_fields: tuple[str, ...] = ()
    demo: bool = False
    supported: bool = True
    quirks: Quirks = NO_QUIRKS
    headers: tuple[tuple[str, str], ...] = ()
    route: UpstreamRoute = DIRECT
    unset_variables: tuple[str, ...] = ()
    cap_field_assumed: bool = False
    learnt: Learnt = NOTHING_LEARNT

    @property
    def has_secret(self) -> bool:
        """True if its secret and the variables of its headers are set, or none are needed."""
        return not self.missing_variables

    @property
    def missing_variables(self) -> tuple[str, ...]:
        """The environment variables that must be set before it can be used."""
        if self.secret_env and not self.secret:
            return (self.secret_env, *self.unset_variables)
        return self.unset_variables

    @property
    def live(self) -> bool:
        """True if it can be tried: its provider is supported and it has its secret."""
        return self.supported and self.has_secret

    def __repr__(self) -> str:
        """Return a short form without the secret."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Deployment({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the same for pretty printers, which would otherwise read all fields."""
        return [
            ("id", self.id),
            ("base_url", self.base_url.partition("?")[0]),
            ("live", self.live),
            ("order", self.order),
        ]


class Model(Struct, frozen=True):
    """A model of the catalog. `released`: Unix seconds, 0: unknown. `prices`: None: unknown."""

    id: str
    name: str
    description: str = ""
    context_window: int = 131_072
    max_output_tokens: int = 8_192
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    owned_by: str = ""
    released: int = 0
    endpoints: tuple[str, ...] = (CHAT_COMPLETIONS,)
    prices: Prices | None = None
    deployments: tuple[Deployment, ...] = ()
    clocks: Clocks = NO_CLOCKS

    def live_deployments(self) -> tuple[Deployment, ...]:
        """Return the deployments that can be tried, lowest `order` first, equals in file order."""
        return tuple(sorted((d for d in self.deployments if d.live), key=_order))

    def missing_secrets(self) -> tuple[str, ...]:
        """Return the variables that would make another deployment live, best first."""
        dark = sorted((d for d in self.deployments if d.supported and not d.has_secret), key=_order)
        return tuple(dict.fromkeys(name for each in dark for name in each.missing_variables))

    @property
    def max_concurrency(self) -> int:
        """The number of requests that its live deployments carry at the same time."""
        return sum(deployment.max_concurrency for deployment in self.live_deployments())

    @property
    def served_by_demo(self) -> bool:
        """True if only the scripted demo upstream would answer."""
        live = self.live_deployments()
        return bool(live) and all(deployment.demo for deployment in live)


class Catalog:
    """All models, in file order."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models: Mapping[str, Model] = MappingProxyType({model.id: model for model in models})

    def __iter__(self) -> Iterator[Model]:
        """Iterate over the models in file order."""
        return iter(self.models.values())

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.models)

    def find(self, model_id: str) -> Model:
        """Return the model with this id. Raises ModelNotFound."""
        model = self.models.get(model_id)
        if model is None:
            name = f"model {model_id[:100]!r}" if model_id.isprintable() else "such model"
            raise ModelNotFound(
                f"There is no {name}. GET /api/v1/models lists what there is.", param="model"
            )
        return model

    def priced(self, prices: Mapping[str, Prices]) -> Catalog:
        """Return a catalog in which models without stated prices have those found for their id."""
        return Catalog(
            replace(model, prices=prices[model.id])
            if model.prices is None and model.id in prices
            else model
            for model in self
        )

    def with_demo(self, base_url: str, secret: str) -> Catalog:
        """Return a catalog in which the demo serves the models that no upstream can, at no cost.

        A model with an upstream of its own never gets a scripted answer, which would look like the
        model's.
        """
        return Catalog(
            model
            if model.live_deployments()
            else replace(
                model,
                prices=Prices(prompt=0, completion=0),
                deployments=(*model.deployments, _demo(model.id, base_url, secret)),
            )
            for model in self
        )


def _demo(model_id: str, base_url: str, secret: str) -> Deployment:
    return Deployment(
        id=f"{model_id}@demo",
        provider="openai",
        base_url=base_url,
        upstream_model=model_id,
        secret=secret,
        demo=True,
    )


def _order(deployment: Deployment) -> int:
    return deployment.order


def _either(price: int | None, default: int) -> int:
    return default if price is None else price


def _whole(token_microusd: int) -> int:
    """Convert (micro-dollars per million tokens) x tokens to micro-dollars, rounded up."""
    return -(-token_microusd // MILLION)
