"""Read the built-in catalog and the owner's changes to it.

`catalog.toml` beside this file and the `[[models]]` of `roxy.toml` have the same format, which is
checked strictly. An entry for a known id overrides only the fields that it has; its deployments, if
any, replace the known ones. An entry with a new id adds a model and needs at least one deployment.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import functools
import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from workers.base_url import checked_upstream_url
from workers.catalog.catalog import (
    CHAT_COMPLETIONS,
    Catalog,
    Deployment,
    Model,
    Prices,
    PriceTier,
)
from workers.catalog.deployment_access import (
    Access,
    check_headers,
    check_proxy,
    check_upstream_url,
    find_access,
)
from workers.catalog.deployment_checks import (
    check_members,
    check_tool_types,
    checked_secret,
    checked_secret_env,
    host_label,
)
from workers.catalog.entries import (
    CatalogError,
    HostEntry,
    ModelEntry,
    PricesEntry,
    broken_rule,
    check_names,
)
from workers.catalog.quirks import CapField, Clocks, Quirks
from workers.money import to_microusd
from workers.type_words import split_fault

DEFAULT = Model(id="", name="")
"""The defaults of a new model."""

T = TypeVar("T")
Entry: TypeAlias = ModelEntry | Mapping[str, Any]


def load_catalog(
    overrides: Sequence[Entry] = (),
    environ: Mapping[str, str] | None = None,
    *,
    formats: Container[str],
) -> Catalog:
    """Build the catalog from the built-in file, the owner's entries and the secrets in `environ`.

    `formats` are the providers with a translator; deployments of others are never used. Prices
    that are not stated stay None; see `workers.catalog.prices` and `Catalog.priced`.
    Raises CatalogError.
    """
    entries = merged_entries(overrides)
    return Catalog(_model(entry, environ or {}, formats) for entry in entries)


def merged_entries(overrides: Sequence[Entry]) -> tuple[ModelEntry, ...]:
    """Merge the owner's entries into the built-in ones. Raises CatalogError."""
    entries = {entry.id: entry for entry in built_in_entries()}
    for number, entry in enumerate(parse_entries(overrides)):
        known = entries.get(entry.id)
        if known is None and not _or(entry.deployments, ()):
            raise CatalogError(
                f"the new model {entry.id!r} needs at least one [[models.deployments]] table "
                f"- at `$.models[{number}]`"
            )
        entries[entry.id] = entry if known is None else _override(known, entry)
    return tuple(entries.values())


@functools.cache
def built_in_entries() -> tuple[ModelEntry, ...]:
    """Return the models of `catalog.toml`."""
    return parse_entries(_built_in()["models"])


@functools.cache
def known_hosts() -> tuple[HostEntry, ...]:
    """Return what `catalog.toml` says about the APIs of known hosts."""
    return msgspec.convert(tuple(_built_in()["hosts"]), tuple[HostEntry, ...])


def _built_in() -> dict[str, Any]:
    """Read `catalog.toml` of the installed package."""
    text = files("workers.catalog").joinpath("catalog.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def parse_entries(entries: Sequence[Entry]) -> tuple[ModelEntry, ...]:
    """Check each entry, and that no id occurs twice. Raises CatalogError."""
    parsed = tuple(
        _parse_named(entry, f"$.models[{number}]") for number, entry in enumerate(entries)
    )
    seen: set[str] = set()
    for number, entry in enumerate(parsed):
        if entry.id in seen:
            raise CatalogError(
                f"the model id {entry.id!r} occurs twice - at `$.models[{number}].id`"
            )
        seen.add(entry.id)
    return parsed


def _parse_named(entry: Entry, path: str) -> ModelEntry:
    """Check an entry; a fault names the model, which is easier to find in a file than a number."""
    try:
        return _parse_entry(entry, path)
    except CatalogError as error:
        name = entry.get("id") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name:
            raise CatalogError(f"model {name[:100]!r}: {error}") from error
        raise


def _parse_entry(entry: Entry, path: str) -> ModelEntry:
    if isinstance(entry, ModelEntry):
        return entry
    check_names(entry, path)
    try:
        parsed = msgspec.convert(dict(entry), ModelEntry)
    except msgspec.ValidationError as error:
        what, place = split_fault(error)
        where = f"{path}.{place}" if place else path
        raise CatalogError(f"{broken_rule(what, place)} - at `{where}`") from error
    for number, deployment in enumerate(_or(parsed.deployments, ())):
        where = f"{path}.deployments[{number}]"
        _check(check_upstream_url, deployment.base_url, f"{where}.base_url")
        _check(checked_secret_env, deployment.secret_env, f"{where}.secret_env")
        _check(check_headers, deployment.headers, f"{where}.headers")
        _check(check_proxy, deployment.proxy, f"{where}.proxy")
        _check(check_members, deployment.add_fields, f"{where}.add_fields")
        _check(check_members, deployment.drop_fields, f"{where}.drop_fields")
        _check(check_tool_types, deployment.owner_only_tools, f"{where}.owner_only_tools")
    return parsed


def _check(check: Any, value: Any, path: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise CatalogError(f"{error} - at `{path}`") from error


def _override(known: ModelEntry, entry: ModelEntry) -> ModelEntry:
    named = {
        field: value
        for field in ModelEntry.__struct_fields__
        if (value := getattr(entry, field)) is not UNSET
    }
    return replace(known, **named)


def _model(entry: ModelEntry, environ: Mapping[str, str], formats: Container[str]) -> Model:
    """Return the model of an entry, with defaults for the fields that it leaves out."""
    context_window = _or(entry.context_window, DEFAULT.context_window)
    return Model(
        id=entry.id,
        name=_or(entry.name, entry.id),
        description=_or(entry.description, ""),
        context_window=context_window,
        max_output_tokens=min(
            _or(entry.max_output_tokens, DEFAULT.max_output_tokens), context_window
        ),
        input_modalities=_or(entry.input_modalities, DEFAULT.input_modalities),
        output_modalities=_or(entry.output_modalities, DEFAULT.output_modalities),
        owned_by=_or(entry.owned_by, _owner(entry.id)),
        released=_unix_seconds(entry.released),
        endpoints=_or(entry.endpoints, (CHAT_COMPLETIONS,)),
        prices=None if entry.prices is UNSET else _prices(entry.prices),
        deployments=tuple(_deployments(entry, environ, formats)),
        clocks=Clocks(
            *(_or(getattr(entry, name), None) for name in Clocks.__struct_fields__),
        ),
    )


def _deployments(
    entry: ModelEntry, environ: Mapping[str, str], formats: Container[str]
) -> Iterable[Deployment]:
    labels: dict[str, int] = {}
    for each in _or(entry.deployments, ()):
        base_url = checked_upstream_url(each.base_url)
        label = host_label(base_url)
        labels[label] = labels.get(label, 0) + 1
        quirks = Quirks(**{name: getattr(each, name) for name in Quirks.__struct_fields__})
        assumed = "" if quirks.max_tokens_field else _usual_cap_field(base_url)
        if assumed:
            quirks = replace(quirks, max_tokens_field=assumed)
        access = _access(entry, quirks, base_url, environ)
        yield Deployment(
            id=f"{entry.id}@{label}" + (f"#{labels[label]}" if labels[label] > 1 else ""),
            provider=each.provider,
            base_url=base_url,
            upstream_model=each.upstream_model,
            secret_env=each.secret_env,
            secret=_secret(each.secret_env, environ),
            order=each.order,
            weight=each.weight,
            max_concurrency=each.max_concurrency,
            owner_only_fields=each.owner_only_fields,
            supported=each.provider in formats,
            quirks=quirks,
            headers=access.headers,
            route=access.route,
            unset_variables=access.unset,
            cap_field_assumed=bool(assumed),
        )


def _usual_cap_field(base_url: str) -> CapField:
    """Return the member by which a known host caps an answer; "" for others."""
    host = urlsplit(base_url).hostname or ""
    for known in known_hosts():
        if fnmatch.fnmatchcase(host, known.host):
            return known.max_tokens_field
    return ""


def _access(entry: ModelEntry, quirks: Quirks, base_url: str, environ: Mapping[str, str]) -> Access:
    try:
        return find_access(quirks, base_url, environ)
    except ValueError as error:
        raise CatalogError(f"the model {entry.id}: {error}") from error


def _secret(name: str, environ: Mapping[str, str]) -> str:
    try:
        return checked_secret(environ.get(name, "")) if name else ""
    except ValueError as error:
        raise CatalogError(f"the environment variable {name} {error}") from error


def _prices(entry: PricesEntry) -> Prices:
    return Prices(
        prompt=to_microusd(entry.prompt),
        completion=to_microusd(entry.completion),
        cached_prompt=_microusd_or_none(entry.cached_prompt),
        cache_write_prompt=_microusd_or_none(entry.cache_write_prompt),
        tiers=tuple(
            PriceTier(
                above_prompt_tokens=tier.above_prompt_tokens,
                prompt=to_microusd(tier.prompt),
                completion=to_microusd(tier.completion),
                cached_prompt=_microusd_or_none(tier.cached_prompt),
                cache_write_prompt=_microusd_or_none(tier.cache_write_prompt),
            )
            for tier in sorted(entry.tiers, key=lambda tier: tier.above_prompt_tokens)
        ),
    )


def _microusd_or_none(dollars: float | None) -> int | None:
    return None if dollars is None else to_microusd(dollars)


def _owner(model_id: str) -> str:
    owner, slash, _ = model_id.partition("/")
    return owner if slash else "local"


def _unix_seconds(released: int | dt.date | UnsetType) -> int:
    if isinstance(released, UnsetType):
        return 0
    if isinstance(released, int):
        return released
    return int(dt.datetime(released.year, released.month, released.day, tzinfo=dt.UTC).timestamp())


def _or(value: T | UnsetType, default: T) -> T:
    return default if isinstance(value, UnsetType) else value
