"""What can be asked of the usage on record: sums over days, single requests and percentiles.

Days are UTC days as text ("2026-11-22"); a span of them includes both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from msgspec import Struct

from server.store.rows import DAY_MARKS, UsageMark

Filters: TypeAlias = Mapping[str, str | Sequence[str] | None]
"""The wanted value of each column, or several of which one must match; None: any."""
NO_FILTERS: Filters = MappingProxyType({})


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Whose requests, of which model; None: all. `key_id` may be several ids."""

    key_id: str | Sequence[str] | None = None
    model: str | None = None

    @property
    def filters(self) -> Filters:
        """Return the wanted value of each column."""
        return {"key_id": self.key_id, "model": self.model}


class SumsQuery(UsageQuery, frozen=True):
    """Sums over a span of days, by some of DAY_MARKS and ordered by them.

    `after` holds the marks of the last group of the page before.
    """

    first_day: str
    last_day: str
    groups: Collection[str] = DAY_MARKS
    after: Sequence[str] | None = None
    limit: int | None = None


class RankingQuery(UsageQuery, frozen=True):
    """The groups of one of DAY_MARKS whose sums of the fields `by` are the largest."""

    first_day: str
    last_day: str
    group: str
    by: Sequence[str]
    limit: int

    @property
    def sums(self) -> SumsQuery:
        """Return the query of the sums of all groups."""
        return SumsQuery(
            self.first_day, self.last_day, (self.group,), key_id=self.key_id, model=self.model
        )


class RowsQuery(UsageQuery, frozen=True, kw_only=True):
    """Single requests, newest first; `before` is the row that ended the page before."""

    status: str | None = None
    before: UsageMark | None = None
    limit: int = 100

    @property
    def filters(self) -> Filters:
        """Return the wanted value of each column."""
        return {"key_id": self.key_id, "model": self.model, "status": self.status}


ALL_ROWS = RowsQuery()


class PercentileQuery(UsageQuery, frozen=True):
    """A percentile of the TTFT over the requests of a span of days that are still kept."""

    percent: int
    first_day: str
    last_day: str
