"""What may be written about a model in `catalog.toml` and in the `[[models]]` of `roxy.toml`.

A field's `Meta` carries its range and its description: the documentation is made of these Structs.
What an entry leaves out is UNSET: it stays as it is, or becomes what the description says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Provider = Literal["openai", "anthropic", "google"]
Modality = Literal["text", "image", "audio", "video", "file"]
ModelId = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z")
]
Line = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[^\r\n]*\Z")]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]

PromptPrice = Annotated[Dollars, Meta(description="Price of what is sent.")]
CompletionPrice = Annotated[Dollars, Meta(description="Price of what is answered.")]
CachedPrice = Annotated[
    Dollars | None, Meta(description="Price of what the upstream had cached; else that of prompt.")
]
CacheWritePrice = Annotated[
    Dollars | None, Meta(description="Price of what it puts into its cache; else that of prompt.")
]


class CatalogError(ValueError):
    """An entry is wrong; the message names its path, as in `$.models[0].deployments[1].order`."""


class TierEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Other prices for requests with a long prompt; they hold for the whole of such a request."""

    above_prompt_tokens: Annotated[
        int, Meta(ge=0, description="The tier is for prompts of more tokens than this.")
    ]
    prompt: PromptPrice
    completion: CompletionPrice
    cached_prompt: CachedPrice = None
    cache_write_prompt: CacheWritePrice = None


class PricesEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Prices in dollars per million tokens; they replace all known ones of the model."""

    prompt: PromptPrice
    completion: CompletionPrice
    cached_prompt: CachedPrice = None
    cache_write_prompt: CacheWritePrice = None
    tiers: Annotated[
        tuple[TierEntry, ...], Meta(description="Other prices for long prompts; see below.")
    ] = ()


class DeploymentEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to serve the model; several may be tried for one request."""

    provider: Annotated[
        Provider,
        Meta(description="Wire format of the upstream; `roxy check` tells if it is not spoken."),
    ]
    base_url: Annotated[
        str, Meta(description="Where its API is, as `https://api.openai.com/v1`; no credentials.")
    ]
    upstream_model: Annotated[Line, Meta(description="What the upstream calls the model.")]
    secret_env: Annotated[
        str,
        Meta(
            description="Environment variable with the secret; empty: the upstream asks for none."
        ),
    ] = ""
    order: Annotated[int, Meta(ge=0, le=1000, description="Lower ones are tried first.")] = 1
    weight: Annotated[
        int, Meta(ge=1, le=1000, description="Share of the requests among those of equal order.")
    ] = 1
    max_concurrency: Annotated[
        int, Meta(ge=1, le=10_000, description="Requests at the same time; more of them wait.")
    ] = 64
    owner_only_fields: Annotated[
        tuple[Line, ...],
        Meta(
            description="Members of a request that only the owner may send: by them this upstream"
            " would use other models or cost more."
        ),
    ] = ()


class ModelEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A model. For a known id only what is named changes; a new one needs a deployment."""

    id: Annotated[ModelId, Meta(description="What clients ask for, as `maker/model`.")]
    name: Annotated[Line | UnsetType, Meta(description="Name for people; else the id.")] = UNSET
    description: Annotated[
        Annotated[str, Meta(max_length=1000)] | UnsetType,
        Meta(description="What it is best at, in a line."),
    ] = UNSET
    context_window: Annotated[
        Tokens | UnsetType, Meta(description="Tokens of prompt and answer together.")
    ] = UNSET
    max_output_tokens: Annotated[
        Tokens | UnsetType,
        Meta(description="Tokens of the longest answer; at most context_window where not said."),
    ] = UNSET
    input_modalities: Annotated[
        tuple[Modality, ...] | UnsetType, Meta(description="What it can be shown.")
    ] = UNSET
    output_modalities: Annotated[
        tuple[Modality, ...] | UnsetType, Meta(description="What it can make.")
    ] = UNSET
    owned_by: Annotated[
        Line | UnsetType,
        Meta(description="Its maker; else what the id has before its slash, or `local`."),
    ] = UNSET
    released: Annotated[
        Annotated[int, Meta(ge=0)] | dt.date | UnsetType,
        Meta(description="Day of its release, as `2025-07-28`, or in Unix seconds; 0: unknown."),
    ] = UNSET
    endpoints: Annotated[
        tuple[Literal["chat.completions"], ...] | UnsetType,
        Meta(description="What may be asked of it."),
    ] = UNSET
    prices: Annotated[
        PricesEntry | UnsetType,
        Meta(description="Prices; else those of the release's price list, or none."),
    ] = UNSET
    deployments: Annotated[
        tuple[DeploymentEntry, ...] | UnsetType,
        Meta(description="Who serves it; they replace all known ones of the model."),
    ] = UNSET


ENTRY_TABLES: dict[str, type[Struct]] = {
    "[[models]]": ModelEntry,
    "[[models.deployments]]": DeploymentEntry,
    "[models.prices]": PricesEntry,
    "[[models.prices.tiers]]": TierEntry,
}
"""The tables of an entry by their headings in TOML, in the order of the documentation."""

INNER: dict[type[Struct], dict[str, type[Struct]]] = {
    ModelEntry: {"prices": PricesEntry, "deployments": DeploymentEntry},
    PricesEntry: {"tiers": TierEntry},
}


def check_names(table: Any, path: str, struct: type[Struct] = ModelEntry) -> None:
    """Raise CatalogError for a field that is none, naming those there are; types are not looked at.

    `path` is where the table stands, as in `$.models[0]`.
    """
    if not isinstance(table, Mapping):
        return
    for name, value in table.items():
        if name not in struct.__struct_fields__:
            known = ", ".join(struct.__struct_fields__)
            raise CatalogError(f"unknown field `{name}` - at `{path}`; the fields are {known}")
        inner = INNER.get(struct, {}).get(name)
        if inner is None:
            continue
        check_names(value, f"{path}.{name}", inner)
        for number, each in enumerate(value if isinstance(value, list) else ()):
            check_names(each, f"{path}.{name}[{number}]", inner)
