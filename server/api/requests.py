"""Handle `requests` and `requests/{id}` (owner only): the request log, one row per request."""

from __future__ import annotations

from typing import get_args

from server.api.base import BaseHandler
from server.http.query import read_choice, read_mark, read_number, refuse_unknown, show_mark
from server.shapes.request_object import RequestPage, request_object
from server.store.usage_queries import RowsQuery
from workers.errors import NotFound
from workers.run.job import Ending

ENDINGS: tuple[str, ...] = get_args(Ending)
FILTERS = ("key", "model", "status", "before", "limit")
MAX_ROWS = 1000
ROWS_SHOWN = 100


class RequestsHandler(BaseHandler):
    """The request log, newest first. A request appears in it about 250 ms after its end.

    Parameters: `key` (an id, "owner" or "guest"), `model`, `status` (how it ended), `before` (from
    the page before), `limit` (100 by default, 1000 at most).
    """

    access = "owner"

    async def get(self) -> None:
        """Return one page; its `before` leads to the next one and is null on the last."""
        refuse_unknown(self.request.query_arguments, FILTERS)
        limit = read_number("limit", self.get_query_argument("limit", None), MAX_ROWS)
        query = RowsQuery(
            key_id=self.get_query_argument("key", None) or None,
            model=self.get_query_argument("model", None) or None,
            status=self._ending(),
            before=read_mark("before", self.get_query_argument("before", None)),
            limit=limit or ROWS_SHOWN,
        )
        page = await self.services.store.usage_rows(query)
        names = await self.services.keys.names({row.key_id for row in page.rows})
        rows = [request_object(row, names) for row in page.rows]
        self.reply_json(RequestPage(object="list", data=rows, before=show_mark(page.before)))

    def _ending(self) -> str | None:
        status = self.get_query_argument("status", "")
        return read_choice("status", status, ("", *ENDINGS)) or None


class RequestHandler(BaseHandler):
    """One request."""

    access = "owner"

    async def get(self, request_id: str) -> None:
        """Return the request with its attempts; of several with the same id the newest."""
        services = self.services
        unsaved = services.ledger.find_unsaved(request_id)
        row = unsaved or await services.store.find_usage_row(request_id)
        if row is None:
            raise NotFound("There is no such request on record.")
        names = await services.keys.names((row.key_id,))
        self.reply_json(request_object(row, names))
