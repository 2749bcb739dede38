"""Find the prices of models whose catalog entry states none.

`price_list.json` holds the figures of the `genai-prices` package as they were at the release (see
`workers.catalog.price_list`). Where a newer version of that package is installed beside the
gateway, its figures are used. Nothing is fetched from the network.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from workers.catalog.catalog import Deployment, Model, Prices

PACKAGE = "genai-prices"
TIMEOUT_S = 30.0
SCRIPT = Path(__file__).with_name("price_list.py")
COMPACT_DATE = re.compile(r"(?<=-)(20\d{2})(\d{2})(\d{2})(?!\d)")
"""The date in `gpt-5.2-20251211`, as some gateways write it; the price list has hyphens in it."""

log = logging.getLogger("roxy.prices")


class DatedPrices(Struct, frozen=True, rename={"since": "from"}):
    """Prices and the UTC day they hold from as ISO 8601; "" for always."""

    since: str
    prices: Prices


class ListedModel(Struct, frozen=True):
    """A model of a price list; without prices it is not sold by the token."""

    match: dict[str, Any]
    prices: tuple[DatedPrices, ...]


class ListedProvider(Struct, frozen=True):
    """A provider: the pattern of its API's URL, its models, and whose models it offers too."""

    api: str
    models: tuple[ListedModel, ...]
    others: tuple[str, ...]


Place = tuple[str, str]
"""The base URL of an upstream, and the upstream's name of a model."""
Places = tuple[tuple[str, tuple[Place, ...]], ...]
"""The id of each model, and its places in the order in which they are searched."""


class PriceList(Struct, frozen=True):
    """All of `price_list.json`."""

    package: str
    version: str
    licence: str
    providers: dict[str, ListedProvider]

    def find_all(self, places: Places, today: date) -> Mapping[str, Prices]:
        """Return by model id the price at the first place that has one."""
        found = {}
        for model_id, each in places:
            prices = (self.find(*place, today) for place in each)
            if first := next(filter(None, prices), None):
                found[model_id] = first
        return found

    def find(self, base_url: str, upstream_model: str, today: date) -> Prices | None:
        """Return what the upstream asks for the model on that day, or None when it is not known."""
        provider = next((p for p in self.providers.values() if re.match(p.api, base_url)), None)
        if provider is None:
            return None
        name = upstream_model.lower()
        model = self._find_model(provider, name)
        hyphenated = COMPACT_DATE.sub(r"\1-\2-\3", name)
        if model is None and hyphenated != name:
            model = self._find_model(provider, hyphenated)
        if model is None or not model.prices:
            return None
        due = [each for each in model.prices if each.since <= today.isoformat()]
        return (due or model.prices)[-1 if due else 0].prices

    def _find_model(self, provider: ListedProvider, name: str) -> ListedModel | None:
        others = (self.providers[each] for each in provider.others if each in self.providers)
        for each in (provider, *others):
            for model in each.models:
                if matches(model.match, name):
                    return model
        return None


class PriceListFailure(Exception):
    """The newer package could not be read; the message says why, for the log."""


def matches(rule: Mapping[str, Any], name: str) -> bool:
    """Return whether a rule of the list recognizes the name of a model, in lower case."""
    ((kind, value),) = rule.items()
    if isinstance(value, list):
        return {"or": any, "and": all}[kind](matches(each, name) for each in value)
    text = str(value)
    if kind == "regex":
        return re.search(text, name) is not None
    text = text.lower()
    if kind == "starts_with":
        return name.startswith(text)
    if kind == "ends_with":
        return name.endswith(text)
    if kind == "contains":
        return text in name
    return kind == "equals" and name == text


async def find_prices(
    models: Iterable[Model], *, script: Path = SCRIPT, timeout_s: float = TIMEOUT_S
) -> Mapping[str, Prices]:
    """Return the prices that the catalog does not state, by model id; unknown ones are left out.

    Raises nothing but its own cancellation, which ends the child running `script`.
    """
    places = tuple((model.id, _places(model)) for model in models if model.prices is None)
    if not places:
        return {}
    today = datetime.now(UTC).date()
    version, bundled = installed_version(PACKAGE), bundled_version()
    if newer(version, bundled):
        try:
            return (await _read_package(script, timeout_s)).find_all(places, today)
        except PriceListFailure as error:
            log.warning(
                "%s %s is installed and cannot be read: %s. The prices of %s are used.",
                PACKAGE,
                version,
                error,
                bundled,
            )
    return _bundled_prices(places, today)


# Cached: to decode the list and search it takes 25 ms, and a reload asks for the same models.
@functools.lru_cache(maxsize=2)
def _bundled_prices(places: Places, today: date) -> Mapping[str, Prices]:
    return bundled_list().find_all(places, today)


class _Version(Struct, frozen=True):
    version: str


def bundled_version() -> str:
    """Return the version of `price_list.json`, without decoding its figures."""
    return msgspec.json.decode(_bundled(), type=_Version).version


def bundled_list() -> PriceList:
    """Read `price_list.json` of the installed package."""
    return msgspec.json.decode(_bundled(), type=PriceList)


def _bundled() -> bytes:
    return files("workers.catalog").joinpath("price_list.json").read_bytes()


def installed_version(package: str) -> str:
    """Return the version of a package, or "" when it is not installed. Imports nothing of it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def newer(version: str, than: str) -> bool:
    """Return whether a version is higher, by its leading numbers; "" is lower than all others."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _places(model: Model) -> tuple[Place, ...]:
    """List where a model's price is searched: live deployments first, they are paid for."""
    deployments = sorted(model.deployments, key=_preference)
    return tuple((one.base_url, one.upstream_model) for one in deployments if not one.demo)


def _preference(deployment: Deployment) -> tuple[bool, int]:
    return (not deployment.live, deployment.order)


async def _read_package(script: Path, timeout_s: float) -> PriceList:
    """Return the figures of the installed package, which a child process imports."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _run(script)
        return msgspec.json.decode(answer, type=PriceList)
    except TimeoutError as error:
        raise PriceListFailure(f"it took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise PriceListFailure(f"the process could not be started: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PriceListFailure("its figures have another form") from error


async def _run(script: Path) -> bytes:
    """Run the script with our module path and nothing else of our environment: no secret."""
    # By path and with -P: no module that lies in the current directory can be imported by it.
    module_path = os.pathsep.join(filter(None, sys.path))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": module_path},
    )
    try:
        answer, complaint = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise PriceListFailure(f"the process ended with {child.returncode}: {last_line[:200]}")
    return answer
