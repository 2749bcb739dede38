"""Rows of the store as its tests make them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from server.store.key import Key
from server.store.rows import UsageRow

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


def a_key(number: int = 1, **fields: Any) -> Key:
    """Make a key; every number has its own id and digest."""
    key = Key(
        id=f"key_{number:016}",
        name=f"key {number}",
        redacted="roxy_ab12…wxyz",
        digest=number.to_bytes(32, "big"),
        created_at=1_700_000_000 + number,
    )
    return structs.replace(key, **fields)


def a_row(number: int = 1, **fields: Any) -> UsageRow:
    """Make the row of a request that went well, at noon."""
    row = UsageRow(
        request_id=f"req_{number}",
        at=NOON,
        key_id="key_1",
        model="zai/glm-4.5",
        deployment="zai/glm-4.5@openrouter",
        status="finished",
        http_status=200,
        prompt_tokens=10,
        completion_tokens=20,
        cached_tokens=4,
        cache_write_tokens=None,
        reasoning_tokens=3,
        estimated=False,
        cost_microusd=50,
        ttft_ms=100,
        duration_ms=900,
        queued_ms=5,
        stream=True,
    )
    return structs.replace(row, **fields)
