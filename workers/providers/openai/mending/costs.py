"""Remove what an upstream states about money, for clients that get no prices.

OpenRouter: `usage.cost`, `usage.cost_details` and `usage.is_byok`; the Vercel AI Gateway:
`provider_metadata.gateway.cost` and `marketCost`; Perplexity: an object of costs in the usage.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from workers.providers.openai.mending.usage_places import decoded

_NAMES = re.compile("cost|price|pricing|byok", re.IGNORECASE)
_TRACES = re.compile(_NAMES.pattern.encode(), re.IGNORECASE)
_MAX_DEPTH = 64


def without_costs(payload: bytes) -> bytes:
    """Return JSON without the members whose names speak of costs; texts stay as they are."""
    if _TRACES.search(payload) is None:
        return payload
    sent = decoded(payload)
    made = _without(sent, 0)
    return payload if made == sent else msgspec.json.encode(made)


def _without(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_without(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without(one, depth + 1) for name, one in value.items() if _NAMES.search(name) is None
    }
