"""GET requests and requests/{id} (owner): the request log, one usage row per request."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from server.api.keys import OwnerHandler
from server.http.query import read_number, refuse_unknown
from server.store.rows import UsageRow
from workers.errors import NotFound

FILTERS = ("key", "model", "status", "before", "limit")
MOST_ROWS = 1000
ROWS_SHOWN = 100
LARGEST = 2**62


def describe_request(row: UsageRow, names: dict[str, str]) -> dict[str, Any]:
    """Show one request as the API does; `names` are the keys' names by id."""
    fields = structs.asdict(row)
    request_id = fields.pop("request_id")
    return {
        "id": request_id,
        "object": "request",
        **fields,
        "key_name": names.get(row.key_id, row.key_id),
        "tokens_per_s": row.tokens_per_s,
    }


class LogHandler(OwnerHandler):
    """A handler of the request log."""

    def key_names(self) -> dict[str, str]:
        """Give every key's name by its id."""
        return {key.id: key.name for key in self.services.keys.list()}


class RequestsHandler(LogHandler):
    """The request log, newest first. A request is in it some 250 ms after its end.

    Parameters: `key` (an id, "owner" or "guest"), `model`, `status` (how it ended), `before` (from
    the page before), `limit` (100 by default, 1000 at most).
    """

    async def get(self) -> None:
        """Answer with one page; `before` in it leads to the next, null: there is no more."""
        refuse_unknown(self.request.query_arguments, FILTERS)
        page = await self.services.store.usage_rows(
            key_id=self.get_query_argument("key", None) or None,
            model=self.get_query_argument("model", None) or None,
            status=self.get_query_argument("status", None) or None,
            before=self._number("before", LARGEST),
            limit=self._number("limit", MOST_ROWS) or ROWS_SHOWN,
        )
        names = self.key_names()
        rows = [describe_request(row, names) for row in page.rows]
        self.reply_json({"object": "list", "data": rows, "before": page.before})

    def _number(self, name: str, most: int) -> int | None:
        return read_number(name, self.get_query_argument(name, ""), most)


class RequestHandler(LogHandler):
    """One request."""

    async def get(self, request_id: str) -> None:
        """Show it with what was tried for it; of several with the same id the newest."""
        row = await self.services.store.find_usage_row(request_id)
        if row is None:
            raise NotFound("There is no such request on record.")
        self.reply_json(describe_request(row, self.key_names()))
