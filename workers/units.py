"""Sizes, times and money in the units that names carry: `_bytes`, `_s`, `_microusd`."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

MINUTE_S = 60
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S

MILLION = 1_000_000
"""Micro-dollars in a dollar, and the number of tokens that prices are stated for."""
