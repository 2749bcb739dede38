"""Serve the table of the usage page as a CSV file for a spreadsheet, in the owner's language.

It begins with a byte order mark, without which Excel takes UTF-8 for another encoding. Where a
comma is the decimal mark, numbers have it too and semicolons separate the cells: spreadsheets of
these languages expect both. `GET /api/v1/usage?format=csv` has the same sums for programs.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from server.accounting.usage_sums import FIELD_OF, Grouping, Span
from server.http.query import read_choice, refuse_unknown
from server.shapes.csv_cells import dollars, harmless
from server.store.rows import UsageDay
from server.store.usage_queries import SumsQuery
from webui.shell.filters import People
from webui.shell.texts import Language
from webui.usage.usage_section import UsageSectionHandler
from webui.usage.usage_table import GROUPS

PARAMETERS = ("month", "start", "end", "by", "model", "key")
PIECE_ROWS = 1_000
BYTE_ORDER_MARK = "\ufeff"

Column = tuple[str, Callable[[UsageDay], object]]


class UsageFileHandler(UsageSectionHandler):
    """The file at `/usage/file`: one row per model, key or day of the chosen days."""

    async def get(self) -> None:
        """Send the rows; those of models and keys with the highest cost first."""
        # A wrong sum is worse than none: what is misspelt is refused.
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        stated = self.read_query(PARAMETERS)
        by = read_choice("by", stated["by"] or "model", GROUPS)
        span = self.read_days(stated["month"], stated["start"], stated["end"])
        name = f"usage-{span.first}-{span.last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        await self.reply_in_pieces(self._pieces(span, by, stated), headers)

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of a page, with the content type of the file."""
        super().add_headers(headers)
        if "Content-Disposition" in headers:
            headers["Content-Type"] = "text/csv; charset=utf-8"

    async def _pieces(
        self, span: Span, by: Grouping, stated: dict[str, str]
    ) -> AsyncIterator[bytes]:
        field, language = FIELD_OF[by], self.language()
        after: list[str] | None = None
        while True:
            query = SumsQuery(
                *span.texts,
                (field,),
                key_id=stated["key"] or None,
                model=stated["model"] or None,
                after=after,
                limit=PIECE_ROWS,
            )
            rows = await self.services.store.usage_by(query)
            is_whole = after is None and len(rows) < PIECE_ROWS
            if is_whole and by != "day":
                rows = sorted(rows, key=lambda one: (-one.cost_microusd, getattr(one, field)))
            ids = {row.key_id for row in rows if row.key_id}
            people = await People.find(self.services.keys, ids, language.texts)
            columns = columns_of(by, people, language)
            yield await asyncio.to_thread(encoded, rows, columns, language, first=after is None)
            if len(rows) < PIECE_ROWS:
                return
            after = [getattr(rows[-1], field)]


def columns_of(by: Grouping, people: People, language: Language) -> list[Column]:
    """Return the headings of the file and what stands below them."""
    texts: Any = language.texts
    named: dict[Grouping, Column] = {
        "model": (texts.usage.model, lambda row: row.model),
        "key": (texts.usage.key, lambda row: people.label(row.key_id)),
        "day": (texts.usage.day, lambda row: row.day),
    }
    return [
        named[by],
        (texts.usage.requests, lambda row: row.requests),
        (texts.usage.failed, lambda row: row.failed),
        (texts.usage.tokens_in, lambda row: row.prompt_tokens),
        (texts.usage.tokens_out, lambda row: row.completion_tokens),
        (texts.usage_file.cached, lambda row: row.cached_tokens),
        (texts.usage_file.reasoning, lambda row: row.reasoning_tokens),
        (texts.usage_file.cost, lambda row: dollars(row.cost_microusd)),
        (texts.usage_file.estimated_cost, lambda row: dollars(row.estimated_cost_microusd)),
        (texts.usage_file.estimated_requests, lambda row: row.estimated_requests),
        (texts.usage_file.unpriced, lambda row: row.unpriced_requests),
        *(
            [(texts.usage_file.secret, lambda row: people.redacted(row.key_id))]
            if by == "key"
            else []
        ),
    ]


def encoded(
    rows: Sequence[UsageDay], columns: Sequence[Column], language: Language, *, first: bool
) -> bytes:
    """Return rows as lines of the file, the first ones below the headings."""
    comma = language.figures.decimal == ","
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";" if comma else ",", lineterminator="\r\n")
    if first:
        out.write(BYTE_ORDER_MARK)
        writer.writerow([heading for heading, _ in columns])
    amounts = {language.texts.usage_file.cost, language.texts.usage_file.estimated_cost}
    for row in rows:
        cells = []
        for heading, value_of in columns:
            value = value_of(row)
            if heading in amounts:
                value = str(value).replace(".", language.figures.decimal)
            elif isinstance(value, str):
                value = harmless(value)
            cells.append(value)
        writer.writerow(cells)
    return out.getvalue().encode("utf-8", "replace")
