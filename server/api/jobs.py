"""jobs/{id}: the state of a request, its answer again, and stopping it."""

from __future__ import annotations

from server.answers.job_access import find_job
from server.answers.kept_answers import KeptAnswer
from server.api.streaming import ATTACHED, PassableHandler
from server.shapes.job_object import ended_job, job_object
from server.store.rows import UsageRow
from workers.errors import InvalidRequest, NotFound, Stopped
from workers.run.job import Job

NOT_KEPT = "There is no such answer, or it is not kept; X-Roxy-Keep: true keeps one."
MAX_DIGITS = 15


class JobHandler(PassableHandler):
    """A request that is running, or has ended.

    Its id is the `x-request-id` of its answer. To ask for it before the answer begins, send your
    own `X-Request-Id` with the request.
    """

    async def get(self, job_id: str) -> None:
        """Return its state, with its place in the queue at first and its usage at the end.

        For a guest, only while it runs or its answer is kept (`X-Roxy-Keep: true`).
        """
        if await self.pass_on(job_id):
            return
        try:
            found = self.find(job_id)
        except NotFound:
            # Another process may have answered it, or this gateway before it was started again.
            row = await self._row(job_id)
            if row is None:
                raise
            self.reply_json(ended_job(row, costs=True))
            return
        self._describe(*found)

    async def _row(self, job_id: str) -> UsageRow | None:
        """Return the usage row of a request of the caller's; rows of guests name none of them."""
        principal = self.principal
        if principal is None or principal.kind == "guest":
            return None
        services = self.services
        row = services.ledger.find_unsaved(job_id) or await services.store.find_usage_row(job_id)
        if row is None or not (principal.is_owner or row.key_id == principal.log_name):
            return None
        return row

    async def delete(self, job_id: str) -> None:
        """Stop it in any state; what was sent stays. Stopping twice is not an error."""
        if await self.pass_on(job_id):
            return
        job, answer = self.find(job_id)
        if job is not None:
            job.close("cancelled", Stopped())
        self._describe(job, answer)

    def _describe(self, job: Job | None, answer: KeptAnswer | None) -> None:
        assert self.principal is not None
        self.reply_json(job_object(job, answer, costs=self.principal.sees_costs))

    def find(self, job_id: str) -> tuple[Job | None, KeptAnswer | None]:
        """Find a job of the caller's. Raises NotFound."""
        assert self.principal is not None
        services = self.services
        return find_job(services.engine, services.answers, self.principal, job_id)


class JobStreamHandler(PassableHandler):
    """The answer of a request that was sent with `X-Roxy-Keep: true`."""

    async def get(self, job_id: str) -> None:
        """Stream its events after number `after` (0: all), then those to come, to its end."""
        assert self.principal is not None
        if await self.pass_on(job_id):
            return
        services = self.services
        _, answer = find_job(services.engine, services.answers, self.principal, job_id)
        if answer is None or answer.holder != self.principal.holder:  # the owner reads their own
            raise NotFound(NOT_KEPT)
        self.model_id = answer.model_id
        after = self._after()
        if self.method == "HEAD":
            self.send_head()  # without an attachment, which would count as a reader
            return
        place = answer.log.attach(after, self.principal.credential)
        await self.follow(place, first=ATTACHED)

    def _after(self) -> int:
        text = self.get_query_argument("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
            raise InvalidRequest(
                "'after' must be the number of an event, 0 or more.", param="after"
            )
        return int(text)
