"""Serve the request log: a list with filters, and a page for each request."""

from __future__ import annotations

from server.http.query import read_choice, read_mark, show_mark
from server.store.usage_queries import RowsQuery
from webui.requests.request_rows import (
    STATUSES,
    attempt_rows,
    ending_of,
    endings,
    facts_of,
    phase_rows,
    request_row,
)
from webui.shell.charts import phases
from webui.shell.filters import People, SelectOption, link, model_choices, read_key_filter
from webui.shell.pages import PageHandler
from webui.shell.texts import DEFAULT, Language, languages
from workers.errors import NotFound

ROWS_SHOWN = 50
FILTERS = ("key", "model", "status")


class RequestsPageHandler(PageHandler):
    """The list at `/requests`, newest first."""

    access = "owner"
    section = "requests"
    translated = True

    async def get(self) -> None:
        """Show one page of the list; all filters are in the URL. Unknown ones are ignored."""
        wanted = {name: self.get_query_argument(name, "") for name in FILTERS}
        read_choice("status", wanted["status"], ("", *STATUSES))
        before = read_mark("before", self.get_query_argument("before", None))
        key_filter = await read_key_filter(
            self, wanted["key"], lambda key: link("/requests", **(wanted | {"key": key}))
        )
        if key_filter is None:
            return
        wanted["key"] = key_filter.chosen
        query = RowsQuery(
            key_id=wanted["key"] or None,
            model=wanted["model"] or None,
            status=wanted["status"] or None,
            before=before,
            limit=ROWS_SHOWN,
        )
        page = await self.services.store.usage_rows(query)
        language, older = self.language(), show_mark(page.before)
        key_ids = {row.key_id for row in page.rows}
        people = await People.find(self.services.keys, key_ids, language.texts)
        self.show(
            "requests/list.html",
            rows=[request_row(row, people, language) for row in page.rows],
            key_filter=key_filter,
            models=model_choices(self.services.catalog.models, wanted["model"]),
            statuses=[
                SelectOption(status, ending.word, status == wanted["status"])
                for status, ending in endings(language.texts).items()
            ],
            filtered=any(wanted.values()),
            newest=link("/requests", **wanted) if before is not None else "",
            older=link("/requests", **wanted, before=older) if older else "",
            retention_days=self.services.config.usage.retention_days,
        )


class RequestPageHandler(PageHandler):
    """One request at `/requests/ID`."""

    access = "owner"
    section = "requests"
    translated = True

    async def get(self, request_id: str) -> None:
        """Show the request; of several with the same id the newest."""
        row = await self.services.store.find_usage_row(request_id)
        if row is None:
            self.said = self._why_not(request_id, self.language())
            raise NotFound(self._why_not(request_id, languages()[DEFAULT]))
        language = self.language()
        texts = language.texts
        people = await People.find(self.services.keys, (row.key_id,), texts)
        parts = phases(
            row.queued_ms,
            row.ttft_ms,
            row.duration_ms,
            {
                "queued": texts.requests.queued,
                "waiting": texts.requests.first_token,
                "writing": texts.requests.writing,
            },
        )
        whole_ms = parts[-1].end_ms
        self.show(
            "requests/record.html",
            request_id=row.request_id,
            ending=ending_of(row, texts),
            facts=facts_of(row, people, language),
            is_estimated=row.estimated,
            phases=phase_rows(parts, whole_ms, language),
            attempts=attempt_rows(row.attempts or (), whole_ms, language),
            took=language.figures.duration(row.duration_ms),
        )

    def _why_not(self, request_id: str, language: Language) -> str:
        texts = language.texts
        if request_id in self.services.engine.jobs:
            return str(texts.requests.still_running)
        days = self.services.config.usage.retention_days
        return language.plural(texts.requests.not_on_record, days)
