"""Handle `usage` (owner only): who used what, by day, key and model, as JSON or CSV."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import msgspec
from msgspec import Struct

from server.accounting.usage_sums import FIELD_OF, Grouping, Span, read_span
from server.api.base import BaseHandler
from server.http.query import read_number, refuse_unknown
from server.shapes.csv_cells import dollars, harmless
from server.shapes.usage_object import UsageGroup, UsageObject, columns, usage_group
from server.store.rows import UsageDay
from server.store.usage_queries import SumsQuery
from workers.errors import InvalidRequest

PARAMETERS = ("start", "end", "group_by", "key", "model", "format", "limit", "after")
MAX_ROWS = 10_000
CSV_ROWS = 1_000
"""Rows of one piece of a CSV file."""
MARKS = msgspec.json.Decoder(list[str])


class Asked(Struct, frozen=True):
    """Which sums a request asks for; `groups` in the order of FIELD_OF."""

    span: Span
    groups: tuple[Grouping, ...]
    key: str | None
    model: str | None

    @property
    def fields(self) -> list[str]:
        """Return the fields that rows are grouped by, in the order in which they are sorted."""
        return [field for group, field in FIELD_OF.items() if group in self.groups]


class UsageHandler(BaseHandler):
    """Sums of requests, tokens, money and times.

    Parameters: `start` and `end` (UTC days, both included; the last 30 by default), `group_by` (any
    of day, key, model; all three by default), `key`, `model`, `format` (json or csv), and for JSON
    `limit` (10000 by default and at most) and `after` (`next` of the page before).
    """

    access = "owner"

    async def get(self) -> None:
        """Return one row per group that had requests, sorted by day, key id and model.

        JSON comes in pages: `has_more` is true and `next` leads on until the last one.
        """
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        span = read_span(self._argument("start"), self._argument("end"))
        asked = Asked(span, self._groups(), self._argument("key"), self._argument("model"))
        limit = read_number("limit", self._argument("limit"), MAX_ROWS) or MAX_ROWS
        after = self._after(asked)
        style = self._argument("format") or "json"
        if style not in ("json", "csv"):
            raise InvalidRequest("'format' must be json or csv.", param="format")
        if style == "csv":
            name = f"usage-{span.first}-{span.last}.csv"
            headers = {
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{name}"',
            }
            await self.reply_in_pieces(self._csv(asked), headers)
            return
        rows = await self._read(asked, after, limit + 1)  # one more tells whether there is another
        names = await self._names(rows)
        # In a thread: encoding thousands of rows would hold up the answers that are streaming.
        self.reply(200, await asyncio.to_thread(_encode, asked, rows, limit, names))

    async def _read(
        self, asked: Asked, after: Sequence[str] | None, limit: int
    ) -> Sequence[UsageDay]:
        query = SumsQuery(
            *asked.span.texts,
            asked.fields,
            key_id=asked.key,
            model=asked.model,
            after=after,
            limit=limit,
        )
        return await self.services.store.usage_by(query)

    async def _names(self, rows: Sequence[UsageDay]) -> Mapping[str, str]:
        return await self.services.keys.names({row.key_id for row in rows if row.key_id})

    async def _csv(self, asked: Asked) -> AsyncIterator[bytes]:
        after: Sequence[str] | None = None
        while True:
            rows = await self._read(asked, after, CSV_ROWS)
            names = await self._names(rows)
            yield await asyncio.to_thread(_encode_csv, asked, rows, names, first=after is None)
            if len(rows) < CSV_ROWS or not asked.fields:
                return
            after = _marks(rows[-1], asked)

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

    def _after(self, asked: Asked) -> list[str] | None:
        text = self._argument("after")
        if text is None:
            return None
        try:
            marks = MARKS.decode(base64.b64decode(text, altchars=b"-_", validate=True))
        except (ValueError, msgspec.MsgspecError):
            marks = []
        if len(marks) != len(asked.fields):
            raise InvalidRequest(
                "'after' must be `next` of the page before, with the same `group_by`.",
                param="after",
            )
        return marks


def _marks(row: UsageDay, asked: Asked) -> list[str]:
    return [getattr(row, field) for field in asked.fields]


def _encode(asked: Asked, rows: Sequence[UsageDay], limit: int, names: Mapping[str, str]) -> bytes:
    """Encode one page as JSON; a row beyond `limit` tells that there is another."""
    shown, more = rows[:limit], len(rows) > limit
    marks = msgspec.json.encode(_marks(shown[-1], asked)) if more else b""
    return msgspec.json.encode(
        UsageObject(
            object="list",
            start=asked.span.first.isoformat(),
            end=asked.span.last.isoformat(),
            group_by=asked.groups,
            data=[usage_group(sums, asked.groups, names) for sums in shown],
            has_more=more,
            next=base64.urlsafe_b64encode(marks).decode() if more else None,
        )
    )


def _encode_csv(
    asked: Asked, rows: Sequence[UsageDay], names: Mapping[str, str], *, first: bool
) -> bytes:
    groups = [usage_group(sums, asked.groups, names) for sums in rows]
    return as_csv(groups, columns(asked.groups), header=first)


def as_csv(rows: Sequence[UsageGroup], names: Sequence[str], *, header: bool = True) -> bytes:
    """Return rows as CSV with a header line; `names` are those of members, or made of them.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(names)
    writer.writerows([_cell(row, name) for name in names] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def _cell(row: UsageGroup, name: str) -> object:
    """Return a cell; money is in dollars, exact and without a sign, so that it can be summed."""
    if name.endswith("_usd"):
        return dollars(getattr(row, name.removesuffix("_usd") + "_microusd"))
    value = getattr(row, name)
    return harmless(value) if isinstance(value, str) else value
