"""What can be asked for, at what price, and who serves it.

A **model** is a name that clients send (`zai/glm-4.5`). It has one or more **deployments**, each
one way to serve it: a wire format, a base URL, the model's id there, and the environment variable
that holds the secret. Everything here is frozen: it is made once at start
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

from workers.errors import ModelNotFound
from workers.units import MILLION

if TYPE_CHECKING:
    from workers.request.token_usage import Usage

CHAT_COMPLETIONS = "chat.completions"
DEMO_ORDER = 99


class PriceTier(Struct, frozen=True):
    """Prices of a request with a prompt above a threshold; None: priced like the prompt."""

    above_prompt_tokens: int
    prompt: int
    completion: int
    cached_prompt: int | None = None
    cache_write_prompt: int | None = None


class Prices(Struct, frozen=True):
    """Prices of a model, in micro-dollars per million tokens.

    `cached_prompt` and `cache_write_prompt` are None where such tokens cost what others do. A tier
    holds for the whole request, not only for the tokens above its threshold; `tiers` ascend.
    """

    prompt: int
    completion: int
    cached_prompt: int | None = None
    cache_write_prompt: int | None = None
    tiers: tuple[PriceTier, ...] = ()

    def cost_microusd(self, usage: Usage) -> int:
        """Price what was used, rounded up to a whole micro-dollar."""
        rates = self._rates(usage.prompt_tokens)
        # Counts come from upstream: never let the parts exceed the whole.
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        written = min(usage.cache_write_tokens or 0, usage.prompt_tokens - cached)
        plain = usage.prompt_tokens - cached - written
        total = plain * rates.prompt + usage.completion_tokens * rates.completion
        total += cached * _either(rates.cached_prompt, rates.prompt)
        total += written * _either(rates.cache_write_prompt, rates.prompt)
        return _whole(total)

    def worst_case_microusd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Price the request as if every prompt token were of the dearest kind."""
        rates = self._rates(prompt_tokens)
        dearest = max(rates.prompt, rates.cached_prompt or 0, rates.cache_write_prompt or 0)
        return _whole(prompt_tokens * dearest + completion_tokens * rates.completion)

    def _rates(self, prompt_tokens: int) -> Prices | PriceTier:
        for tier in reversed(self.tiers):
            if prompt_tokens > tier.above_prompt_tokens:
                return tier
        return self


class Deployment(Struct, frozen=True):
    """One way to serve a model.

    `secret` is the value of the variable `secret_env` ("" when it is not set); `secret_env` ""
    means that the upstream asks for none. `supported` is False where this version speaks no such
    wire format. `owner_only_fields` are members of a request by which this upstream would use other
    models or cost more: keys' models and budgets hold only if nobody but the owner may send them.
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

    @property
    def live(self) -> bool:
        """Whether its secret is at hand or none is needed."""
        return self.secret_env == "" or self.secret != ""

    def __repr__(self) -> str:
        """Show everything but the secret."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Deployment({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same to pretty printers, which would otherwise read the fields."""
        return [
            ("id", self.id),
            ("base_url", self.base_url),
            ("live", self.live),
            ("order", self.order),
        ]


class Model(Struct, frozen=True):
    """A catalog entry. `released` is in Unix seconds (0: unknown); `prices` None: not known."""

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

    def live_deployments(self) -> tuple[Deployment, ...]:
        """Give the deployments that can be tried now, lowest `order` first, equals as written."""
        return tuple(sorted((d for d in self.deployments if d.supported and d.live), key=_order))

    def missing_secrets(self) -> tuple[str, ...]:
        """Return the variables each of which would make another deployment live, best first."""
        dark = sorted((d for d in self.deployments if d.supported and not d.live), key=_order)
        return tuple(dict.fromkeys(deployment.secret_env for deployment in dark))

    @property
    def owner_only_fields(self) -> frozenset[str]:
        """Members of a request that nobody but the owner may send, whichever deployment answers."""
        return frozenset().union(*(one.owner_only_fields for one in self.live_deployments()))

    @property
    def served_by_demo(self) -> bool:
        """Whether only the scripted demo upstream would answer."""
        live = self.live_deployments()
        return bool(live) and all(deployment.demo for deployment in live)


class Catalog:
    """All models, in file order."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models: Mapping[str, Model] = MappingProxyType({model.id: model for model in models})

    def __iter__(self) -> Iterator[Model]:
        """Walk the models in file order."""
        return iter(self.models.values())

    def __len__(self) -> int:
        """Count the models."""
        return len(self.models)

    def find(self, model_id: str) -> Model:
        """Look up what a client named; raises ModelNotFound."""
        model = self.models.get(model_id)
        if model is None:
            named = f"model {model_id[:100]!r}" if model_id.isprintable() else "such model"
            raise ModelNotFound(
                f"There is no {named}. GET /api/v1/models lists what there is.", param="model"
            )
        return model

    def priced(self, prices: Mapping[str, Prices]) -> Catalog:
        """Give a catalog in which models without a stated price have the one found for their id."""
        return Catalog(
            replace(model, prices=prices[model.id])
            if model.prices is None and model.id in prices
            else model
            for model in self
        )

    def with_demo(self, base_url: str, secret: str) -> Catalog:
        """Return a catalog in which every model has the demo upstream as its last deployment."""
        return Catalog(
            replace(model, deployments=(*model.deployments, _demo(model.id, base_url, secret)))
            for model in self
        )


def _demo(model_id: str, base_url: str, secret: str) -> Deployment:
    return Deployment(
        id=f"{model_id}@demo",
        provider="openai",
        base_url=base_url,
        upstream_model=model_id,
        secret=secret,
        order=DEMO_ORDER,
        demo=True,
    )


def _order(deployment: Deployment) -> int:
    return deployment.order


def _either(price: int | None, default: int) -> int:
    return default if price is None else price


def _whole(token_microusd: int) -> int:
    """Round micro-dollars per million tokens times tokens up to micro-dollars."""
    return -(-token_microusd // MILLION)
