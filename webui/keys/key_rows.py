"""Prepare the list of keys: the words and figures of each row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from server.accounting.counters import Budget, Counters
from server.store.key import Key, Limits, current_status
from server.store.rows import UsageDay
from webui.keys.key_form import PERIOD_WORDS
from webui.shell.figures import plural
from workers.money import in_full
from workers.units import MILLION

DAYS = 30
BAR_PX = 3
SPARK_PX = 24
TONES = {"active": "good", "disabled": "warn", "expired": "warn", "revoked": "bad"}
"""The tone of each status; the word is always shown too, as colours alone are not accessible."""
NO_BREAK = "\N{NO-BREAK SPACE}"


class Sparkline(NamedTuple):
    """Requests per day: bars as an SVG path, and a description in words."""

    path: str
    title: str
    width: int = DAYS * BAR_PX
    height: int = SPARK_PX


class Use(Struct):
    """The usage of a key on the days shown; `requests` is by day."""

    requests: dict[str, int]
    cost_microusd: int = 0
    unpriced: int = 0


class KeyRow(NamedTuple):
    """A key for display as a row."""

    key: Key
    shown_status: str
    tone: str
    limits: str
    models: str
    use: Use
    spark: Sparkline
    budget: Budget | None


def last_days(now: float) -> list[str]:
    """Return the UTC days that are shown, today last."""
    today = datetime.fromtimestamp(now, UTC).date()
    return [(today - timedelta(days=back)).isoformat() for back in range(DAYS - 1, -1, -1)]


async def rows_of(
    keys: Iterable[Key], uses: Mapping[str, Use], counters: Counters, now: float
) -> list[KeyRow]:
    """Return the rows of keys, in the order of the keys."""
    days = last_days(now)
    rows = []
    keys = list(keys)
    standings = await asyncio.gather(*[counters.standing(key.id, key.limits) for key in keys])
    for key, standing in zip(keys, standings, strict=True):
        use = uses.get(key.id) or Use({})
        status = shown_status(key, now)
        rows.append(
            KeyRow(
                key=key,
                shown_status=status,
                tone=TONES[status],
                limits=limits_in_words(key.limits),
                models=models_in_words(key),
                use=use,
                spark=sparkline(use.requests, days),
                budget=standing.budget,
            )
        )
    return rows


def shown_status(key: Key, now: float | None = None) -> str:
    """Return a key's status for display: an active key past its expiry is "expired"."""
    return current_status(key.status, key.expires_at, time.time() if now is None else now)


def add_up_by_key(days: Iterable[UsageDay]) -> dict[str, Use]:
    """Sum daily rows by key."""
    uses: dict[str, Use] = {}
    for row in days:
        use = uses.setdefault(row.key_id, Use({}))
        use.requests[row.day] = use.requests.get(row.day, 0) + row.requests
        use.cost_microusd += row.cost_microusd
        use.unpriced += row.unpriced_requests
    return uses


def sparkline(requests: Mapping[str, int], days: list[str]) -> Sparkline:
    """Draw a bar for each day; the busiest day has the full height."""
    counts = [requests.get(day, 0) for day in days]
    most = max(counts)
    bars = [
        f"M{place * BAR_PX + BAR_PX // 2} {SPARK_PX}v-{max(1, round(count * SPARK_PX / most))}"
        for place, count in enumerate(counts)
        if count
    ]
    if not most:
        return Sparkline("", f"No requests in {DAYS} days")
    when = days[counts.index(most)]
    title = f"{plural(sum(counts), 'request')} in {DAYS} days, {most:,} on the busiest, {when}"
    return Sparkline("".join(bars), title)


def limits_in_words(limits: Limits) -> str:
    """Return the limits in words that wrap only between limits: 60 req/min · 2 concurrent."""
    parts = []
    if limits.requests_per_minute is not None:
        parts.append(f"{limits.requests_per_minute:,} req/min")
    if limits.tokens_per_minute is not None:
        parts.append(f"{round_number(limits.tokens_per_minute)} tokens/min")
    if limits.concurrent_requests is not None:
        parts.append(f"{limits.concurrent_requests:,} concurrent")
    if limits.budget_microusd is not None:
        parts.append(f"{in_full(limits.budget_microusd)} {PERIOD_WORDS[limits.budget_period]}")
    return " · ".join(part.replace(" ", NO_BREAK) for part in parts) or "no limits"


def round_number(count: int) -> str:
    """Return a number in its shortest exact form: 1,234, 20K, 2M."""
    for size, unit in ((MILLION, "M"), (1_000, "K")):
        if count % size == 0:
            return f"{count // size:,}{unit}"
    return f"{count:,}"


def models_in_words(key: Key) -> str:
    """Return "all models", the only model, or the number of models."""
    if key.models is None:
        return "all models"
    return key.models[0] if len(key.models) == 1 else f"{len(key.models)} models"


class Moment(NamedTuple):
    """An instant for display: its day and minute (UTC), and the whole of it."""

    day: str
    minute: str
    whole: str

    @classmethod
    def of(cls, instant: float) -> Moment:
        """Return the parts of an instant (Unix seconds)."""
        at = datetime.fromtimestamp(instant, UTC)
        return cls(f"{at:%Y-%m-%d}", f"{at:%H:%M}", f"{at:%Y-%m-%dT%H:%M:%SZ}")


def today() -> date:
    """Return the current UTC day."""
    return datetime.fromtimestamp(time.time(), UTC).date()
