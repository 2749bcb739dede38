"""The answer of the usage API: sums by day, key and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.accounting.usage_sums import FIELD_OF, Grouping
from server.store.rows import UsageDay


class UsageGroup(Struct, frozen=True, kw_only=True):
    """Sums of one group, with the members it is grouped by. Means are null without data.

    Tokens and cost include those of requests whose usage was estimated because the upstream did not
    report it; `estimated_tokens` (in and out) and `estimated_cost_microusd` are their share.
    """

    day: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated_requests: int
    unpriced_requests: int
    cost_microusd: int
    key_name: str | UnsetType = UNSET
    mean_ttft_ms: int | None
    mean_duration_ms: int | None
    estimated_tokens: int
    estimated_cost_microusd: int


class UsageObject(Struct, frozen=True, kw_only=True):
    """Usage from `start` to `end`, both included; `next` is null on the last page."""

    object: Literal["list"]
    start: str
    end: str
    group_by: tuple[Grouping, ...]
    data: list[UsageGroup]
    has_more: bool
    next: str | None


WITHOUT_KEY = {"owner": "Owner", "guest": "Guests"}
"""The names of callers without a key of their own, by the key id of their rows."""
SUMMED = UsageGroup.__struct_fields__[len(FIELD_OF) :]


def usage_group(sums: UsageDay, groups: Sequence[Grouping], names: Mapping[str, str]) -> UsageGroup:
    """Return one group of `add_up` as the API shows it; `names` are the keys' names by id."""
    marks = {FIELD_OF[group]: getattr(sums, FIELD_OF[group]) for group in groups}
    if "key" in groups:
        marks["key_name"] = names.get(sums.key_id) or WITHOUT_KEY.get(sums.key_id, sums.key_id)
    return UsageGroup(
        **marks,
        **{name: getattr(sums, name) for name in SUMMED if name != "key_name"},
    )


def columns(groups: Sequence[Grouping]) -> list[str]:
    """Return the columns of the CSV: what people read first, money in dollars, ids last.

    A column that ends in `_usd` is a member that ends in `_microusd`.
    """
    marks = ["key_name" if group == "key" else FIELD_OF[group] for group in groups]
    summed = [
        name.replace("_microusd", "_usd") if name.endswith("_microusd") else name
        for name in SUMMED
        if name != "key_name"
    ]
    return [*marks, *summed, *(["key_id"] if "key" in groups else [])]
