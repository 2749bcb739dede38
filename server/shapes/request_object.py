"""The request object of the API: one row of the request log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from server.store.rows import UsageRow
from workers.run.job import Attempt


class RequestObject(Struct, frozen=True, kw_only=True):
    """One request of the log. Unknown numbers are null; `cost_microusd` null: no known price.

    `attempts` lists the deployments that were tried, in order; null: none, or one that answered.
    An attempt ends as "answered", "cancelled" or with the code of an error: "upstream_rejected" for
    a refusal of the upstream itself, "upstream_rate_limited" for its rate limit.
    """

    id: str
    object: Literal["request"]
    at: float
    key_id: str
    model: str
    deployment: str | None
    status: str
    http_status: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool
    cost_microusd: int | None
    ttft_ms: int | None
    duration_ms: int
    queued_ms: int
    stream: bool
    attempts: tuple[Attempt, ...] | None
    key_name: str
    tokens_per_s: float | None


class RequestPage(Struct, frozen=True, kw_only=True):
    """A page of the request log; `before` asks for the next one, null: this is the last."""

    object: Literal["list"]
    data: list[RequestObject]
    before: str | None


def request_object(row: UsageRow, names: Mapping[str, str]) -> RequestObject:
    """Return one request as the API shows it; `names` are the keys' names by id."""
    same = {name: getattr(row, name) for name in row.__struct_fields__ if name != "request_id"}
    return RequestObject(
        id=row.request_id,
        object="request",
        **same,
        key_name=names.get(row.key_id, row.key_id),
        tokens_per_s=row.tokens_per_s,
    )
