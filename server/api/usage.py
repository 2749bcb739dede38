"""GET usage (owner): who used what, by day, key and model, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any

from msgspec import structs

from server.api.keys import OwnerHandler
from server.http.query import read_span, refuse_unknown
from server.store.rows import UsageDay
from workers.errors import InvalidRequest

GROUPS = ("day", "key", "model")
FIELD_OF = {"day": "day", "key": "key_id", "model": "model"}
NO_DAY = UsageDay("", "", "")
FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
SUMS = UsageDay.__struct_fields__[len(FIELD_OF) :]
PARAMETERS = ("start", "end", "group_by", "key", "model", "format")


class UsageHandler(OwnerHandler):
    """Sums of requests, tokens, money and times.

    Parameters: `start` and `end` (UTC days, both included; the last 30 by default), `group_by` (any
    of day, key, model; all three by default), `key`, `model`, `format` (json or csv).
    """

    async def get(self) -> None:
        """Answer with one row per group that had requests."""
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        span = read_span(self._argument("start"), self._argument("end"))
        first, last = span.first.isoformat(), span.last.isoformat()
        groups = self._groups()
        style = self._argument("format") or "json"
        if style not in ("json", "csv"):
            raise InvalidRequest("'format' must be json or csv.", param="format")
        days = await self.services.store.usage_by(
            first, last, key_id=self._argument("key"), model=self._argument("model")
        )
        names = {key.id: key.name for key in self.services.keys.list()}
        rows = [describe_group(group, names) for group in add_up(days, groups)]
        if style == "csv":
            self.reply(
                200,
                as_csv(rows, groups),
                {
                    "Content-Type": "text/csv; charset=utf-8",
                    "Content-Disposition": f'attachment; filename="usage-{first}-{last}.csv"',
                },
            )
        else:
            self.reply_json(
                {
                    "object": "list",
                    "start": first,
                    "end": last,
                    "group_by": list(groups),
                    "data": rows,
                }
            )

    def _argument(self, name: str) -> str | None:
        value = self.get_query_argument(name, None)
        return value or None

    def _groups(self) -> tuple[str, ...]:
        text = self._argument("group_by")
        groups = tuple(dict.fromkeys(text.split(","))) if text else GROUPS
        for group in groups:
            if group not in GROUPS:
                raise InvalidRequest(
                    "'group_by' takes day, key and model, separated by commas.", param="group_by"
                )
        return groups


def describe_group(group: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Show one group of `add_up` as the API does; `names` are the keys' names by id."""
    if "key_id" in group:
        group["key_name"] = names.get(group["key_id"], group["key_id"])
    count = group.pop("ttft_count")
    ttft_ms = group.pop("ttft_ms_sum")
    duration_ms = group.pop("duration_ms_sum")
    group["mean_ttft_ms"] = round(ttft_ms / count) if count else None
    group["mean_duration_ms"] = (
        round(duration_ms / group["requests"]) if group["requests"] else None
    )
    return group


def add_up(days: Iterable[UsageDay], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Sum daily rows by the given groups, in the order they first appear."""
    fields = [FIELD_OF[group] for group in groups]
    places = [UsageDay.__struct_fields__.index(field) for field in fields]
    sums: dict[tuple[str, ...], Sequence[int]] = {}
    for day in days:
        row = structs.astuple(day)
        mark = tuple([row[place] for place in places])
        amounts = row[len(FIELD_OF) :]
        known = sums.get(mark)
        sums[mark] = amounts if known is None else list(map(add, known, amounts))
    return [
        dict(zip((*fields, *SUMS), (*mark, *total), strict=True)) for mark, total in sums.items()
    ]


def as_csv(rows: Sequence[dict[str, Any]], groups: Sequence[str]) -> bytes:
    """Write rows as CSV with a header line; text a spreadsheet would run as a formula is quoted."""
    names = list(rows[0] if rows else describe_group(add_up([NO_DAY], groups)[0], {}))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue().encode()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA_START):
        return "'" + value
    return value
