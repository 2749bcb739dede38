"""Write the prices of the `genai-prices` package as the data file `price_list.json`.

    python workers/catalog/price_list.py > workers/catalog/price_list.json

Run it at a release, with the newest package installed; a test compares the file with the package.
A gateway runs it as a short child process only where a newer package is installed beside it: the
import takes 0.2 s and 17 MB, and brings pydantic along. It is run by path, so it imports no module
of Roxy.

Only what a look-up needs is written: per provider the pattern of its API's URL, and per model the
rule that recognizes its names and its prices in micro-dollars per million tokens, each with the
UTC day from which it holds. Of prices by the time of day the dearest is written.
"""

from __future__ import annotations

import json
import sys
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import metadata
from typing import Any

PACKAGE = "genai-prices"
KINDS = {
    "prompt": "input_mtok",
    "completion": "output_mtok",
    "cached_prompt": "cache_read_mtok",
    "cache_write_prompt": "cache_write_mtok",
}
"""Our names and those of the package, whose `mtok` prices are dollars per million tokens."""
MICROUSD_PER_DOLLAR = 1_000_000


def price_list() -> dict[str, Any]:
    """Return the whole data file as JSON values."""
    from genai_prices.data_snapshot import get_snapshot

    about = metadata(PACKAGE)
    providers = get_snapshot().providers
    return {
        "package": PACKAGE,
        "version": about["Version"],
        "licence": about["License-Expression"],
        "providers": {each.id: as_provider(each) for each in providers},
    }


def as_provider(provider: Any) -> dict[str, Any]:
    """Return one provider; `others` are the providers whose models it offers as well."""
    models = [
        {"match": as_rule(model.match), "prices": as_dated_prices(model.prices)}
        for model in provider.models
    ]
    return {
        "api": provider.api_pattern,
        "models": models,
        "others": provider.fallback_model_providers or [],
    }


def as_rule(clause: Any) -> dict[str, Any]:
    """Return a rule as one member: `{"starts_with": "gpt-"}`, `{"or": [...]}`."""
    ((name, value),) = vars(clause).items()
    if isinstance(value, list):
        return {name.rstrip("_"): [as_rule(each) for each in value]}
    return {name: value}


def as_dated_prices(listed: Any) -> list[dict[str, Any]]:
    """Return prices with the day each holds from, the latest last; "" for always."""
    if not isinstance(listed, list):
        prices = as_prices(listed)
        return [] if prices is None else [{"from": "", "prices": prices}]
    found: dict[str, dict[str, Any]] = {}
    for each in listed:
        prices = as_prices(each.prices)
        day = str(getattr(each.constraint, "start_date", ""))
        if prices is not None and (day not in found or dearness(prices) > dearness(found[day])):
            found[day] = prices
    return [{"from": day, "prices": prices} for day, prices in sorted(found.items())]


def dearness(prices: dict[str, Any]) -> int:
    """Return what a prompt token and a completion token cost together."""
    return int(prices["prompt"] + prices["completion"])


def as_prices(listed: Any) -> dict[str, Any] | None:
    """Return one `ModelPrice` in micro-dollars, or None when it has no price per token."""
    if listed.input_mtok is None or listed.output_mtok is None:
        return None
    rates = {ours: getattr(listed, theirs) for ours, theirs in KINDS.items()}
    # A threshold of any kind of token opens a tier that states all prices above it.
    starts = sorted({tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())})
    prices: dict[str, Any] = rates_above(rates, -1)
    if starts:
        prices["tiers"] = [
            {"above_prompt_tokens": start} | rates_above(rates, start) for start in starts
        ]
    return prices


def rates_above(rates: dict[str, Any], threshold: int) -> dict[str, Any]:
    """Return what holds for a prompt longer than `threshold`, without the kinds not priced."""
    found = {kind: rate_above(rate, threshold) for kind, rate in rates.items()}
    return {kind: price for kind, price in found.items() if price is not None}


def rate_above(rate: Any, threshold: int) -> int | None:
    """Return the micro-dollars per million tokens of a prompt longer than `threshold`."""
    if rate is None or isinstance(rate, Decimal):
        return as_microusd(rate)
    price = rate.base
    for tier in rate.tiers:
        if tier.start <= threshold:
            price = tier.price
    return as_microusd(price)


def as_microusd(dollars: Decimal | None) -> int | None:
    """Return micro-dollars, rounded up."""
    if dollars is None:
        return None
    return int((dollars * MICROUSD_PER_DOLLAR).to_integral_value(ROUND_CEILING))


def write(listed: dict[str, Any]) -> str:
    """Return the text of the data file: a line per provider, so that a renewal can be read."""
    head = {name: value for name, value in listed.items() if name != "providers"}
    lines = [
        f"{json.dumps(name)}: {json.dumps(each, separators=(',', ':'))}"
        for name, each in listed["providers"].items()
    ]
    return json.dumps(head)[:-1] + ', "providers": {\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    sys.stdout.write(write(price_list()))
