"""Look up prices in the `genai-prices` package: a script that runs once, in a process of its own.

Importing that package takes 0.2 s and 17 MB that a gateway would keep for nothing, so
`workers.catalog.prices` starts this file as a short child. It imports nothing of ours: it is run
by path.

In: a JSON array of `{"model", "base_url", "upstream_model"}`, best first. Out: a JSON object, model
to prices in micro-dollars per million tokens. Models without a known price are left out.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

MILLION = 1_000_000
KINDS = {
    "prompt": "input_mtok",
    "completion": "output_mtok",
    "cached_prompt": "cache_read_mtok",
    "cache_write_prompt": "cache_write_mtok",
}
"""Our names and those of the package, whose `mtok` prices are dollars per million tokens."""


def look_up(wanted: list[dict[str, str]], now: datetime) -> dict[str, dict[str, Any]]:
    """Find each model's price where the first of its deployments has one that holds at `now`."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    found: dict[str, dict[str, Any]] = {}
    for each in wanted:
        if each["model"] in found:
            continue
        try:
            _, info = snapshot.find_provider_model(
                each["upstream_model"], None, None, each["base_url"]
            )
        except LookupError:
            continue
        prices = as_prices(info.get_prices(now))
        if prices is not None:
            found[each["model"]] = prices
    return found


def as_prices(listed: Any) -> dict[str, Any] | None:
    """Turn the package's `ModelPrice` into ours; None when it has no price per token."""
    if listed.input_mtok is None or listed.output_mtok is None:
        return None
    rates = {ours: getattr(listed, theirs) for ours, theirs in KINDS.items()}
    # A threshold of any kind of token opens a tier that states all prices above it.
    starts = sorted({tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())})
    return {
        **{kind: rate_above(rate, -1) for kind, rate in rates.items()},
        "tiers": [
            {
                "above_prompt_tokens": start,
                **{kind: rate_above(rate, start) for kind, rate in rates.items()},
            }
            for start in starts
        ],
    }


def rate_above(rate: Any, threshold: int) -> int | None:
    """Give the micro-dollars per million tokens of a prompt longer than `threshold`."""
    if rate is None or isinstance(rate, Decimal):
        return _microusd(rate)
    price = rate.base
    for tier in rate.tiers:
        if tier.start <= threshold:
            price = tier.price
    return _microusd(price)


def _microusd(dollars: Decimal | None) -> int | None:
    return None if dollars is None else int((dollars * MILLION).to_integral_value(ROUND_CEILING))


if __name__ == "__main__":
    json.dump(look_up(json.load(sys.stdin), datetime.now(UTC)), sys.stdout)
