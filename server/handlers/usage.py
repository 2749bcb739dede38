"""GET usage (owner): who used what, by day, key and model, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from msgspec import structs

from server.handlers.keys import OwnerHandler
from server.store import UsageDay
from workers.errors import InvalidRequest

GROUPS = ("day", "key", "model")
FIELD_OF = {"day": "day", "key": "key_id", "model": "model"}
DAYS_SHOWN = 30
LONGEST_SPAN_DAYS = 3660
FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
SUMS = tuple(name for name in UsageDay.__struct_fields__ if name not in FIELD_OF.values())
PARAMETERS = ("start", "end", "group_by", "key", "model", "format")


class UsageHandler(OwnerHandler):
    """Sums of requests, tokens, money and times.

    Parameters: `start` and `end` (UTC days, both included; the last 30 by default), `group_by` (any
    of day, key, model; all three by default), `key`, `model`, `format` (json or csv).
    """

    async def get(self) -> None:
        """Answer with one row per group that had requests."""
        unknown = sorted(set(self.request.query_arguments) - set(PARAMETERS))
        if unknown:
            raise InvalidRequest(
                f"There is no parameter {unknown[0]!r}; there are {', '.join(PARAMETERS)}.",
                param=unknown[0],
            )
        first, last = self._span()
        groups = self._groups()
        style = self._argument("format") or "json"
        if style not in ("json", "csv"):
            raise InvalidRequest("'format' must be json or csv.", param="format")
        days = await self.services.store.usage_by(
            first, last, key_id=self._argument("key"), model=self._argument("model")
        )
        names = {key.id: key.name for key in self.services.keys.list()}
        rows = [self._row(group, names) for group in add_up(days, groups)]
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

    def _span(self) -> tuple[str, str]:
        today = datetime.fromtimestamp(time.time(), UTC).date()
        last = self._day("end", today)
        earliest = max(last.toordinal() - DAYS_SHOWN + 1, 1)
        first = self._day("start", date.fromordinal(earliest))
        if first > last or (last - first).days > LONGEST_SPAN_DAYS:
            raise InvalidRequest(
                "'start' must not be after 'end', nor ten years before it.", param="start"
            )
        return first.isoformat(), last.isoformat()

    def _day(self, name: str, default: date) -> date:
        text = self._argument(name)
        if text is None:
            return default
        try:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                raise ValueError(text)
            return date.fromisoformat(text)
        except ValueError as error:
            raise InvalidRequest(
                f"'{name}' must be a day, as in 2026-11-22.", param=name
            ) from error

    def _groups(self) -> tuple[str, ...]:
        text = self._argument("group_by")
        groups = tuple(dict.fromkeys(text.split(","))) if text else GROUPS
        for group in groups:
            if group not in GROUPS:
                raise InvalidRequest(
                    "'group_by' takes day, key and model, separated by commas.", param="group_by"
                )
        return groups

    def _row(self, group: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
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
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for day in days:
        row = structs.asdict(day)
        mark = tuple(row[field] for field in fields)
        total = sums.setdefault(mark, dict(zip(fields, mark, strict=True)) | dict.fromkeys(SUMS, 0))
        for name in SUMS:
            total[name] += row[name]
    return list(sums.values())


def as_csv(rows: Sequence[dict[str, Any]], groups: Sequence[str]) -> bytes:
    """Write rows as CSV with a header line; text a spreadsheet would run as a formula is quoted."""
    empty = add_up([UsageDay("", "", "")], groups)[0]
    names = list(rows[0]) if rows else [n for n in empty if not n.startswith(("ttft", "duration"))]
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
