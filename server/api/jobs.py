"""jobs/{id}: the state of a request, its answer again, and stopping it."""

from __future__ import annotations

from typing import Any

from server.answers.kept_answers import KeptAnswer
from server.api.base import BaseHandler
from server.api.streaming import ATTACHED, StreamHandler
from server.identity.authentication import Principal
from server.services import Services
from server.store.rows import UsageRow
from workers.errors import InvalidRequest, NotFound, Stopped
from workers.run.job import Job

NO_SUCH_JOB = "There is no such job, or it has ended."
NOT_KEPT = "There is no such answer, or it is not kept; X-Roxy-Keep: true keeps one."
LONGEST_NUMBER = 15


def find_job(
    services: Services, principal: Principal, job_id: str
) -> tuple[Job | None, KeptAnswer | None]:
    """Find a running job, its kept answer, or both. Raises NotFound, also for others' jobs."""
    job, answer = services.engine.jobs.get(job_id), services.answers.find(job_id)
    holder = job.holder if job is not None else answer.holder if answer is not None else None
    if holder is None or not (principal.is_owner or holder == principal.holder):
        raise NotFound(NO_SUCH_JOB)
    return job, answer


def describe_job(job: Job | None, answer: KeptAnswer | None) -> dict[str, Any]:
    """Return a job as the API shows it; its usage is known once it has ended."""
    place = job.place() if job is not None else None
    log = answer.log if answer is not None else None
    error = log.error if log is not None else None
    return {
        "id": job.id if job is not None else answer.id if answer is not None else "",
        "object": "job",
        "model": job.model.id if job is not None else answer.model_id if answer else "",
        "state": job.state if job is not None else "done",
        "position": place.position if place else None,
        "waiting": place.waiting if place else None,
        "expected_wait_s": round(place.expected_wait_s, 1) if place else None,
        "kept": log is not None,
        "first_event": log.first if log is not None else None,
        "last_event": log.last_event if log is not None else None,
        "error": error.body()["error"] if error is not None else None,
    } | describe_use(answer.row if answer is not None else None)


def describe_use(row: UsageRow | None) -> dict[str, Any]:
    """Return how a request ended and what it used, from its usage row."""
    if row is None:
        names = ("ending", "usage", "cost_microusd", "ttft_s", "duration_s", "queued_s")
        return dict.fromkeys((*names, "tokens_per_s"))
    usage = None
    if row.prompt_tokens is not None or row.completion_tokens is not None:
        usage = {
            "prompt_tokens": row.prompt_tokens,
            "completion_tokens": row.completion_tokens,
            "cached_tokens": row.cached_tokens,
            "reasoning_tokens": row.reasoning_tokens,
            "estimated": row.estimated,
        }
    return {
        "ending": row.status,
        "usage": usage,
        "cost_microusd": row.cost_microusd,
        "ttft_s": row.ttft_ms / 1000 if row.ttft_ms is not None else None,
        "duration_s": row.duration_ms / 1000,
        "queued_s": row.queued_ms / 1000,
        "tokens_per_s": row.tokens_per_s,
    }


class JobHandler(BaseHandler):
    """A request that is running, or whose answer is kept (`X-Roxy-Keep: true`).

    Its id is the `x-request-id` of its answer. To ask for it before the answer begins, send your
    own `X-Request-Id` with the request.
    """

    def get(self, job_id: str) -> None:
        """Return its state, with its place in the queue at first and its usage at the end."""
        assert self.principal is not None
        self.reply_json(describe_job(*find_job(self.services, self.principal, job_id)))

    def delete(self, job_id: str) -> None:
        """Stop it in any state; what was sent stays. Stopping twice is not an error."""
        assert self.principal is not None
        job, answer = find_job(self.services, self.principal, job_id)
        if job is not None:
            job.close("cancelled", Stopped())
        self.reply_json(describe_job(job, answer))


class JobStreamHandler(StreamHandler):
    """The answer of a request that was sent with `X-Roxy-Keep: true`."""

    async def get(self, job_id: str) -> None:
        """Stream its events after number `after` (0: all), then those to come, to its end."""
        assert self.principal is not None
        _, answer = find_job(self.services, self.principal, job_id)
        if answer is None or answer.holder != self.principal.holder:  # also for the owner
            raise NotFound(NOT_KEPT)
        self.model_id = answer.model_id
        place = answer.log.attach(self._after(), self.principal.credential)
        await self.follow(place, first=ATTACHED)

    def _after(self) -> int:
        text = self.get_query_argument("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
            raise InvalidRequest(
                "'after' must be the number of an event, 0 or more.", param="after"
            )
        return int(text)
