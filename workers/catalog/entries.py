"""The entries of models in `catalog.toml` and in the `[[models]]` of `roxy.toml`.

A field's `Meta` has its range and its description: the documentation is made from these Structs. A
field that an entry leaves out is UNSET: it keeps its known value or gets the described default.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import UNSET, Meta, Struct, UnsetType

from workers.catalog.quirks import CapField, Quirks
from workers.type_words import requirement

# Patterns end in \Z: `$` would also match before a line break at the end.
Provider = Literal["openai", "anthropic", "google"]
Modality = Literal["text", "image", "audio", "video", "file"]
ModelId = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z")
]
Line = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[^\r\n]*\Z")]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]

PromptPrice = Annotated[Dollars, Meta(description="Price of the prompt.")]
CompletionPrice = Annotated[Dollars, Meta(description="Price of the answer.")]
CachedPrice = Annotated[
    Dollars | None,
    Meta(description="Price of cached prompt tokens; default: that of prompt."),
]
CacheWritePrice = Annotated[
    Dollars | None,
    Meta(description="Price of prompt tokens that the upstream caches; default: that of prompt."),
]


class CatalogError(ValueError):
    """An entry is invalid; the message has its path, such as `$.models[0].deployments[1].order`."""


class TierEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Other prices for requests with a long prompt; they apply to the whole request."""

    above_prompt_tokens: Annotated[
        int, Meta(ge=0, description="The tier applies to prompts with more tokens than this.")
    ]
    prompt: PromptPrice
    completion: CompletionPrice
    cached_prompt: CachedPrice = None
    cache_write_prompt: CacheWritePrice = None


class PricesEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Prices in dollars per million tokens; they replace all known prices of the model."""

    prompt: PromptPrice
    completion: CompletionPrice
    cached_prompt: CachedPrice = None
    cache_write_prompt: CacheWritePrice = None
    tiers: Annotated[
        tuple[TierEntry, ...], Meta(description="Other prices for long prompts; see below.")
    ] = ()


class DeploymentEntry(Quirks, frozen=True, forbid_unknown_fields=True):
    """One way to serve the model; several may be tried for one request."""

    provider: Annotated[
        Provider,
        Meta(description="Wire format; `roxy check` shows whether this version supports it."),
    ]
    base_url: Annotated[
        str,
        Meta(
            description="Base URL, such as `https://api.openai.com/v1`, without credentials; a"
            " query, such as `?api-version=2024-10-21`, goes behind the path of each request."
        ),
    ]
    upstream_model: Annotated[Line, Meta(description="The model's id at the upstream.")]
    secret_env: Annotated[
        str,
        Meta(description="Environment variable with the secret; empty: the upstream needs none."),
    ] = ""
    order: Annotated[int, Meta(ge=0, le=1000, description="Lower ones are tried first.")] = 1
    weight: Annotated[
        int,
        Meta(ge=1, le=1000, description="Share of the requests among deployments of equal order."),
    ] = 1
    max_concurrency: Annotated[
        int, Meta(ge=1, le=10_000, description="Most requests at the same time; others wait.")
    ] = 64
    owner_only_fields: Annotated[
        tuple[Line, ...],
        Meta(
            description="Members of a request that only the owner may send, because with them this"
            " upstream would use other models or cost more."
        ),
    ] = ()


class HostEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """What the API of a known host wants where a deployment does not say; `*` at its beginning."""

    host: str
    max_tokens_field: CapField


class ModelEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A model. For a known id only the given fields change; a new one needs a deployment."""

    id: Annotated[ModelId, Meta(description="The id that clients send, such as `maker/model`.")]
    name: Annotated[Line | UnsetType, Meta(description="Display name; default: the id.")] = UNSET
    description: Annotated[
        Annotated[str, Meta(max_length=1000)] | UnsetType,
        Meta(description="What the model is best at, in one line."),
    ] = UNSET
    context_window: Annotated[
        Tokens | UnsetType, Meta(description="Most tokens of prompt and answer together.")
    ] = UNSET
    max_output_tokens: Annotated[
        Tokens | UnsetType,
        Meta(description="Most tokens of an answer; a value above context_window counts as that."),
    ] = UNSET
    input_modalities: Annotated[
        tuple[Modality, ...] | UnsetType, Meta(description="What the model accepts.")
    ] = UNSET
    output_modalities: Annotated[
        tuple[Modality, ...] | UnsetType, Meta(description="What the model produces.")
    ] = UNSET
    owned_by: Annotated[
        Line | UnsetType,
        Meta(description="The model's maker; default: the id up to its slash, or `local`."),
    ] = UNSET
    released: Annotated[
        Annotated[int, Meta(ge=0)] | dt.date | UnsetType,
        Meta(description="Release date, such as `2025-07-28`, or Unix seconds; 0: unknown."),
    ] = UNSET
    endpoints: Annotated[
        tuple[Literal["chat.completions"], ...] | UnsetType,
        Meta(description="What the model can be used for."),
    ] = UNSET
    prices: Annotated[
        PricesEntry | UnsetType,
        Meta(description="Prices; default: those of the release's price list, if any."),
    ] = UNSET
    first_content_timeout_s: Annotated[
        Seconds | UnsetType,
        Meta(description="Longest time to the first content; default: that of `[stream]`."),
    ] = UNSET
    gap_timeout_s: Annotated[
        Seconds | UnsetType,
        Meta(description="Longest silence within an answer; default: that of `[stream]`."),
    ] = UNSET
    total_timeout_s: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)] | UnsetType,
        Meta(description="Longest time of an answer, 0: none; default: that of `[stream]`."),
    ] = UNSET
    deployments: Annotated[
        tuple[DeploymentEntry, ...] | UnsetType,
        Meta(
            description="How the model is served; they replace all known deployments of the model."
        ),
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


SECRET_NAMES = ("api_key", "apikey", "key", "secret", "token", "password", "api_secret")
"""What people call a secret that they write into a deployment."""


def check_names(table: Any, path: str, struct: type[Struct] = ModelEntry) -> None:
    """Raise CatalogError for an unknown field, with the list of known ones; ignore types.

    `path` is that of the table, such as `$.models[0]`.
    """
    if not isinstance(table, Mapping):
        return
    for name, value in table.items():
        if name not in struct.__struct_fields__:
            if struct is DeploymentEntry and name.casefold() in SECRET_NAMES:
                raise CatalogError(
                    f"unknown field `{name}` - at `{path}`; put the secret into an environment"
                    " variable, and the name of the variable into `secret_env`"
                )
            known = ", ".join(struct.__struct_fields__)
            raise CatalogError(f"unknown field `{name}` - at `{path}`; the fields are {known}")
        inner = INNER.get(struct, {}).get(name)
        if inner is None:
            continue
        check_names(value, f"{path}.{name}", inner)
        for number, each in enumerate(value if isinstance(value, list) else ()):
            check_names(each, f"{path}.{name}[{number}]", inner)


def broken_rule(what: str, place: str) -> str:
    """Return the rule that an entry breaks, from msgspec's words and the path of the value.

    For one of a few words it lists them.
    """
    missing = what.removeprefix("Object missing required field ")
    if missing != what:
        return f"missing required field {missing}"
    if what.startswith("Invalid enum value"):
        name = place.rpartition(".")[2].partition("[")[0]
        wanted = [
            get_type_hints(each, include_extras=True).get(name)
            for each in (ModelEntry, DeploymentEntry)
        ]
        words = [json.dumps(word) for each in wanted for word in _choices(each)]
        found = what.removeprefix("Invalid enum value")
        return f"must be one of {', '.join(dict.fromkeys(words))}, not{found}"
    return requirement(what)


def _choices(wanted: Any) -> Iterator[str]:
    """Yield the words that a type allows: those of each Literal in it."""
    if get_origin(wanted) is Literal:
        yield from get_args(wanted)
        return
    for inner in get_args(wanted):
        yield from _choices(inner)
