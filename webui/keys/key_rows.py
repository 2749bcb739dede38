"""Prepare the list of keys: the words and figures of each row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from server.accounting.counters import Budget, Counters
from server.store.key import Key, Limits, current_status
from server.store.rows import UsageDay
from webui.shell.figures import Figures
from webui.shell.texts import Language, fill
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
    """A key for display as a row; `shown_status` is a word for people."""

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
    keys: Iterable[Key],
    uses: Mapping[str, Use],
    counters: Counters,
    now: float,
    language: Language,
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
                shown_status=status_in_words(status, language.texts),
                tone=TONES[status],
                limits=limits_in_words(key.limits, language),
                models=models_in_words(key, language),
                use=use,
                spark=sparkline(use.requests, days, language),
                budget=standing.budget,
            )
        )
    return rows


def shown_status(key: Key, now: float | None = None) -> str:
    """Return a key's status for display: an active key past its expiry is "expired"."""
    return current_status(key.status, key.expires_at, time.time() if now is None else now)


def status_in_words(status: str, texts: Any) -> str:
    """Return the word for a key's status."""
    words = {
        "active": texts.keys.active,
        "disabled": texts.keys.disabled,
        "expired": texts.keys.expired,
        "revoked": texts.keys.revoked,
    }
    return str(words[status])


def add_up_by_key(days: Iterable[UsageDay]) -> dict[str, Use]:
    """Sum daily rows by key."""
    uses: dict[str, Use] = {}
    for row in days:
        use = uses.setdefault(row.key_id, Use({}))
        use.requests[row.day] = use.requests.get(row.day, 0) + row.requests
        use.cost_microusd += row.cost_microusd
        use.unpriced += row.unpriced_requests
    return uses


def sparkline(requests: Mapping[str, int], days: list[str], language: Language) -> Sparkline:
    """Draw a bar for each day; the busiest day has the full height."""
    counts = [requests.get(day, 0) for day in days]
    most, texts = max(counts), language.texts
    bars = [
        f"M{place * BAR_PX + BAR_PX // 2} {SPARK_PX}v-{max(1, round(count * SPARK_PX / most))}"
        for place, count in enumerate(counts)
        if count
    ]
    if not most:
        return Sparkline("", language.plural(texts.keys.no_requests, DAYS))
    title = language.plural(
        texts.keys.spark,
        sum(counts),
        days=DAYS,
        most=language.figures.count(most),
        day=language.figures.label_day(date.fromisoformat(days[counts.index(most)])),
    )
    return Sparkline("".join(bars), title)


def limits_in_words(limits: Limits, language: Language) -> str:
    """Return the limits in words that wrap only between limits: 60 req/min · 2 concurrent."""
    texts, figures = language.texts, language.figures
    parts = []
    if limits.requests_per_minute is not None:
        rate = figures.count(limits.requests_per_minute)
        parts.append(fill(texts.keys.per_minute, count=rate))
    if limits.tokens_per_minute is not None:
        rate = round_number(limits.tokens_per_minute, figures)
        parts.append(fill(texts.keys.tokens_per_minute_short, count=rate))
    if limits.concurrent_requests is not None:
        most = figures.count(limits.concurrent_requests)
        parts.append(fill(texts.keys.concurrent, count=most))
    if limits.budget_microusd is not None:
        amount = figures.written(in_full(limits.budget_microusd))
        forms = texts.keys.budget_per
        parts.append(language.by_period(forms, limits.budget_period, amount=amount))
    return " · ".join(part.replace(" ", NO_BREAK) for part in parts) or str(texts.keys.no_limits)


def round_number(number: int, figures: Figures) -> str:
    """Return a number in its shortest exact form: 1,234, 20K, 2M."""
    for size, unit in ((MILLION, "M"), (1_000, "K")):
        if number % size == 0:
            return figures.count(number // size) + unit
    return figures.count(number)


def models_in_words(key: Key, language: Language) -> str:
    """Return "all models", the only model, or the number of models."""
    texts = language.texts
    if key.models is None:
        return str(texts.keys.all_models)
    if len(key.models) == 1:
        return key.models[0]
    return language.plural(texts.keys.models_count, len(key.models))


class Moment(NamedTuple):
    """An instant for display, in UTC: its day, its minute and the second.

    `whole` is for programs, the rest for people.
    """

    day: str
    minute: str
    second: str
    whole: str

    @classmethod
    def of(cls, instant: float, figures: Figures) -> Moment:
        """Return the parts of an instant (Unix seconds)."""
        at = datetime.fromtimestamp(instant, UTC)
        return cls(
            figures.label_date(at.date()),
            f"{at:%H:%M}",
            f"{figures.name_moment(instant)} UTC",
            f"{at:%Y-%m-%dT%H:%M:%SZ}",
        )


def today() -> date:
    """Return the current UTC day."""
    return datetime.fromtimestamp(time.time(), UTC).date()
