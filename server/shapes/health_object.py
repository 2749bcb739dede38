"""The answer of `/healthz` and `/readyz`."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class HealthObject(Struct, frozen=True):
    """Whether the gateway is ready, and the reasons if it is not."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] | UnsetType = UNSET
