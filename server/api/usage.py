"""Handle `usage` (owner only): who used what, by day, key and model, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import cast

from server.accounting.usage_sums import FIELD_OF, Grouping, add_up, read_span
from server.api.base import BaseHandler
from server.http.query import refuse_unknown
from server.shapes.usage_object import UsageGroup, UsageObject, columns, usage_group
from workers.errors import InvalidRequest

FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets run cells that begin so as formulas (OWASP, "CSV Injection")."""
PARAMETERS = ("start", "end", "group_by", "key", "model", "format")


class UsageHandler(BaseHandler):
    """Sums of requests, tokens, money and times.

    Parameters: `start` and `end` (UTC days, both included; the last 30 by default), `group_by` (any
    of day, key, model; all three by default), `key`, `model`, `format` (json or csv).
    """

    access = "owner"

    async def get(self) -> None:
        """Return one row per group that had requests."""
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
        names = self.services.keys.names()
        rows = [usage_group(sums, groups, names) for sums in add_up(days, groups)]
        if style == "csv":
            self.reply(
                200,
                as_csv(rows, columns(groups)),
                {
                    "Content-Type": "text/csv; charset=utf-8",
                    "Content-Disposition": f'attachment; filename="usage-{first}-{last}.csv"',
                },
            )
        else:
            self.reply_json(
                UsageObject(object="list", start=first, end=last, group_by=groups, data=rows)
            )

    def _argument(self, name: str) -> str | None:
        value = self.get_query_argument(name, None)
        return value or None

    def _groups(self) -> tuple[Grouping, ...]:
        text = self._argument("group_by")
        groups = tuple(dict.fromkeys(text.split(","))) if text else tuple(FIELD_OF)
        for group in groups:
            if group not in FIELD_OF:
                raise InvalidRequest(
                    "'group_by' takes day, key and model, separated by commas.", param="group_by"
                )
        return cast(tuple[Grouping, ...], groups)


def as_csv(rows: Sequence[UsageGroup], names: Sequence[str]) -> bytes:
    """Return rows as CSV with a header line of the members' names.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_harmless(getattr(row, name)) for name in names] for row in rows)
    return out.getvalue().encode()


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_START):
        return "'" + value
    return value
