"""Format the four figures at the top of the usage page, each compared with the days before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from server.accounting.usage_sums import add_up
from server.store.rows import UsageDay
from webui.shell.figures import (
    NONE,
    change,
    count,
    duration,
    plural,
    share,
    short,
)
from workers.money import exactly, rounded

NO_DAY = UsageDay("", "", "")


class Sums(UsageDay, frozen=True):
    """The sums of a span of days; `ttft_p95_ms` None: not known."""

    ttft_p95_ms: int | None = None

    @classmethod
    def of(cls, days: Sequence[UsageDay]) -> Sums:
        """Add up daily rows."""
        total, *_ = add_up(days, ()) or [NO_DAY]
        return cls(*structs.astuple(total))

    @property
    def tokens(self) -> int:
        """Return the tokens in and out together."""
        return self.prompt_tokens + self.completion_tokens


class Tile(NamedTuple):
    """A figure; `exact` is the full number, `more` a note about it."""

    label: str
    figure: str
    exact: str
    change: str
    more: str


def tiles(now: Sums, before: Sums | None, earlier: str) -> list[Tile]:
    """Return the four figures; `earlier` says what they are compared with."""

    def against(value: int, other: int | None) -> str:
        if other is None:
            return "No earlier days"
        if not other:
            return f"No data for {earlier}"
        return f"{change(value, other)} on {earlier}"

    return [
        Tile(
            "Requests",
            count(now.requests),
            plural(now.requests, "request"),
            against(now.requests, before.requests if before else None),
            f"{count(now.failed)} failed ({share(now.failed, now.requests)})"
            if now.requests
            else "",
        ),
        Tile(
            "Tokens in, out",
            f"{short(now.prompt_tokens)} in · {short(now.completion_tokens)} out",
            f"{count(now.prompt_tokens)} in, {count(now.completion_tokens)} out",
            against(now.tokens, before.tokens if before else None),
            f"≈ {plural(now.estimated_requests, 'request')} estimated,"
            f" {share(now.estimated_tokens, now.tokens)} of the tokens"
            if now.estimated_requests
            else "",
        ),
        Tile(
            "Cost",
            rounded(now.cost_microusd),
            exactly(now.cost_microusd),
            against(now.cost_microusd, before.cost_microusd if before else None),
            _cost_notes(now),
        ),
        _first_token(now, before, earlier),
    ]


def _cost_notes(now: Sums) -> str:
    """Return how much of the cost is an estimate, and how many requests are not in it."""
    notes = []
    if now.estimated_cost_microusd:
        part = share(now.estimated_cost_microusd, now.cost_microusd)
        notes.append(f"≈ {rounded(now.estimated_cost_microusd)} estimated ({part})")
    if now.unpriced_requests:
        notes.append(f"+ {plural(now.unpriced_requests, 'request')} of unknown price")
    return " · ".join(notes)


def _first_token(now: Sums, before: Sums | None, earlier: str) -> Tile:
    """Return the time to the first token: the 95th percentile if known, else the mean."""
    name, value, other = "p95", now.ttft_p95_ms, before.ttft_p95_ms if before else None
    if value is None:
        name, value, other = "mean", now.mean_ttft_ms, before.mean_ttft_ms if before else None
    label = "Time to first token"
    if value is None:
        return Tile(label, NONE, "", "", "No answers")
    compared = f"{change(value, other)} on {earlier}" if other else f"No data for {earlier}"
    return Tile(
        f"{label}, {name}",
        duration(value),
        f"{count(value)} ms",
        compared,
        f"Over {plural(now.ttft_count, 'answer')}",
    )
