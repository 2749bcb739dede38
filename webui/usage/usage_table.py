"""Rank the table of the usage page by model, by key or by day, with links to the details."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from server.accounting.usage_sums import FIELD_OF, Grouping
from server.store.rows import UsageDay
from webui.shell.filters import People, link
from webui.shell.texts import Language
from webui.usage.usage_chart import Metric, value_of
from webui.usage.usage_tiles import Sums

GROUPS: tuple[Grouping, ...] = ("model", "key", "day")
MAX_ROWS = 100
"""More would make the page larger than 300 kB."""


class RankedRow(NamedTuple):
    """One model, key or day; `sums` is what it used, `value` its part in the chosen metric."""

    name: str
    note: str
    href: str
    sums: UsageDay
    value: int
    share: str


class Ranking(NamedTuple):
    """Rows, the largest first (days: the newest first), and the sum of all.

    `more`: there are rows that are not shown.
    """

    rows: list[RankedRow]
    total: Sums
    value: int
    more: bool


def rank(
    groups: list[UsageDay],
    total: Sums,
    by: Grouping,
    metric: Metric,
    people: People,
    view_link: Callable[..., str],
    language: Language,
) -> Ranking:
    """Return the table for groups, of which the smallest may be missing."""
    field = FIELD_OF[by]
    whole = value_of(total, metric)
    if by == "day":
        ordered = sorted(groups, key=lambda group: group.day, reverse=True)
    else:
        ordered = sorted(
            groups, key=lambda group: (-value_of(group, metric), getattr(group, field))
        )
    figures, rows = language.figures, []
    for group in ordered[:MAX_ROWS]:
        mark, value = getattr(group, field), value_of(group, metric)
        rows.append(
            RankedRow(
                _row_name(by, mark, people, language),
                people.state(mark) if by == "key" else "",
                _way_on(by, mark, people, view_link),
                group,
                value,
                figures.share(value, whole),
            )
        )
    return Ranking(rows, total, whole, len(ordered) > len(rows))


def _row_name(by: str, mark: str, people: People, language: Language) -> str:
    if by == "day":
        return language.figures.name_day(date.fromisoformat(mark))
    return people.name(mark) if by == "key" else mark


def _way_on(by: str, mark: str, people: People, view_link: Callable[..., str]) -> str:
    """Return the link of a row: to its requests, or from a day to the usage of that day."""
    if by == "day":
        return view_link(days=30, start=mark, end=mark, by="model")
    if by == "key" and mark not in people:
        return ""
    return link("/requests", **{by: mark})
