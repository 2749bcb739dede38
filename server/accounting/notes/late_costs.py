"""Find what the saved sums of a budget do not know: the rows of usage are right.

A process that is killed may have saved the sums of a budget without the row of a request, or the
other way round. What a key has spent on the last day that its sums know, and since, is compared
with the daily sums of its rows; older days were compared when that day's sums were begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.accounting.limits import period_named
from server.store.row_values import midnight
from server.store.rows import CounterRow

if TYPE_CHECKING:
    from server.store.sqlite.sqlite_store import SqliteStore

DAY_KIND = "budget_day"


def find_late_costs(
    store: SqliteStore, key_id: str, saved: Sequence[CounterRow]
) -> list[tuple[float, int]]:
    """Return the costs that the saved sums of a key lack, negative where they have too much.

    Each comes with the beginning of its day. Raises StoreUnavailable.
    """
    last, known = "", 0
    for row in saved:
        if row.kind == DAY_KIND and period_named("day", row.period) is not None:
            last, known = row.period, int(row.value)
    costs = dict(store.find_costs(key_id, last))
    if last:
        costs[last] = costs.get(last, 0) - known
    return [(midnight(day), cost) for day, cost in costs.items() if cost]
