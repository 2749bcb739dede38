"""The request log for the owner: a list to filter, and each request in full."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from server.handlers.queries import read_number, refuse_unknown
from server.handlers.requests import LARGEST
from server.store import UsageRow
from webui.charts import Phase, phases
from webui.filters import Choice, People, link, model_choices
from webui.pages import OwnerPageHandler
from workers.errors import InvalidRequest, NotFound
from workers.job import Attempt

ROWS_SHOWN = 50
PARAMETERS = ("key", "model", "status", "before")


class Ending(NamedTuple):
    """How a request ended: a word, its tone and what it means."""

    word: str
    tone: str
    meaning: str


ENDINGS = {
    "finished": Ending("Finished", "good", "Answered to its end."),
    "cancelled": Ending("Stopped", "", "The client left or stopped it."),
    "failed": Ending("Failed", "bad", "No provider could answer it."),
    "cut": Ending("Cut off", "bad", "The provider broke off within the answer."),
    "timed_out": Ending(
        "Timed out", "bad", "The provider, or the client, was silent for too long."
    ),
    "drained": Ending("Shut down", "warn", "The gateway was stopped meanwhile."),
    "refused": Ending("Refused", "warn", "It was not accepted, because the queue was full."),
}


def ending_of(row: UsageRow) -> Ending:
    """Tell how a request ended; a word that is not known here stands for itself."""
    return ENDINGS.get(row.status, Ending(row.status, "", ""))


class Tried(NamedTuple):
    """An attempt: its time on the clock, and how it ended as a word and a tone."""

    time: Phase
    word: str
    tone: str


def tried(attempt: Attempt) -> Tried:
    """Write an attempt out; what failed is told by its code, as in the gateway's log."""
    word, tone, mark = {
        "answered": ("Answered", "good", "writing"),
        "cancelled": ("Stopped", "", "waiting"),
    }.get(attempt.ending, (attempt.ending, "bad", "failed"))
    end_ms = attempt.start_ms + attempt.duration_ms
    return Tried(Phase(attempt.deployment, mark, attempt.start_ms, end_ms), word, tone)


def path_of(row: UsageRow) -> str:
    """Give the address of a request's page."""
    return f"/requests/{quote(row.request_id, safe='')}"


class RequestsPageHandler(OwnerPageHandler):
    """The list at `/requests`, newest first."""

    section = "Requests"

    async def get(self) -> None:
        """Show one page of it; all filters are in the address."""
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        wanted = {name: self.get_query_argument(name, "") for name in PARAMETERS}
        people = People(self.services.keys.list())
        people.check(wanted["key"])
        if wanted["status"] and wanted["status"] not in ENDINGS:
            raise InvalidRequest(f"'status' takes {', '.join(ENDINGS)}.", param="status")
        before = read_number("before", wanted.pop("before"), LARGEST)
        page = await self.services.store.usage_rows(
            key_id=wanted["key"] or None,
            model=wanted["model"] or None,
            status=wanted["status"] or None,
            before=before,
            limit=ROWS_SHOWN,
        )
        self.show(
            "requests/list.html",
            rows=page.rows,
            people=people,
            ending_of=ending_of,
            path_of=path_of,
            keys=people.choices(wanted["key"]),
            models=model_choices(self.services.catalog.models, wanted["model"]),
            statuses=[
                Choice(status, ending.word, status == wanted["status"])
                for status, ending in ENDINGS.items()
            ],
            filtered=any(wanted.values()),
            newest=link("/requests", **wanted) if before is not None else "",
            older=link("/requests", **wanted, before=page.before) if page.before else "",
            retention_days=self.services.config.usage.retention_days,
        )


class RequestPageHandler(OwnerPageHandler):
    """One request at `/requests/ID`."""

    section = "Requests"

    async def get(self, request_id: str) -> None:
        """Show it; of several with the same id the newest."""
        row = await self.services.store.find_usage_row(request_id)
        if row is None:
            raise NotFound(self._why_not(request_id))
        people = People(self.services.keys.list())
        parts = phases(row.queued_ms, row.ttft_ms, row.duration_ms)
        self.show(
            "requests/record.html",
            row=row,
            ending=ending_of(row),
            who_asked=people.name(row.key_id),
            who_state=people.state(row.key_id),
            key_link=link("/requests", key=row.key_id) if row.key_id in people else "",
            model_link=link("/requests", model=row.model),
            phases=parts,
            attempts=[tried(attempt) for attempt in row.attempts or ()],
            whole_ms=parts[-1].end_ms,
        )

    def _why_not(self, request_id: str) -> str:
        if request_id in self.services.engine.jobs:
            return "This request has not ended yet. It is on record within a second of its end."
        days = self.services.config.usage.retention_days
        return f"There is no such request on record. Requests stay on record for {days} days."
