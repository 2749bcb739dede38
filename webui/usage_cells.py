"""The table of the usage page as its template shows it: every cell as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import structs

from webui.figures import NONE, count, duration, exact_money, money, plural
from webui.usage_table import Ranking, Row
from webui.usage_tiles import Sums


class Cells(NamedTuple):
    """What a row, or the whole table, used. `estimated` says how many requests were estimated."""

    requests: str
    failed: str
    estimated: str
    tokens_in: str
    tokens_out: str
    cost: str
    exact_cost: str
    unpriced: str
    mean_ttft: str
    mean_duration: str


class RowCells(NamedTuple):
    """A row: its name and what it used; `note` is the state of a key."""

    name: str
    note: str
    href: str
    cells: Cells
    value: int
    share: str


def row_cells(row: Row) -> RowCells:
    """Return the cells of a row."""
    return RowCells(row.name, row.note, row.href, cells_of(row.sums), row.value, row.share)


def total_cells(ranking: Ranking) -> Cells:
    """Return the cells of the last row."""
    return cells_of(sums_of(ranking.total))


def sums_of(total: Sums) -> dict[str, Any]:
    """Return sums with their means, as the API has them."""
    means = {"mean_ttft_ms": total.mean_ttft_ms, "mean_duration_ms": total.mean_duration_ms}
    return structs.asdict(total) | means


def cells_of(sums: Mapping[str, Any]) -> Cells:
    """Return sums as text."""
    estimated, unpriced = sums["estimated_requests"], sums["unpriced_requests"]
    mark = "≈ " if estimated else ""
    return Cells(
        requests=count(sums["requests"]),
        failed=count(sums["failed"]),
        estimated=f"{plural(estimated, 'request')} estimated" if estimated else "",
        tokens_in=mark + count(sums["prompt_tokens"]),
        tokens_out=mark + count(sums["completion_tokens"]),
        cost=money(sums["cost_microusd"]),
        exact_cost=exact_money(sums["cost_microusd"]),
        unpriced=f"+ {count(unpriced)} unpriced" if unpriced else "",
        mean_ttft=_duration(sums["mean_ttft_ms"]),
        mean_duration=_duration(sums["mean_duration_ms"]),
    )


def _duration(ms: int | None) -> str:
    return NONE if ms is None else duration(ms)
