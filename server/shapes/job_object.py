"""The job object of the API: a request that runs, or has ended."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from server.answers.kept_answers import KeptAnswer
from server.store.rows import UsageRow
from workers.errors import ErrorDetails
from workers.run.answer_log import AnswerLog
from workers.run.job import Job, JobState
from workers.run.ticket import Place


class TokensUsed(Struct, frozen=True):
    """What a request used; `estimated` where the upstream sent no usage."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool


class JobObject(Struct, frozen=True, kw_only=True):
    """A request that runs or has ended: its place while it waits, its usage after its end.

    `first_event` and `last_event` are the numbers of the events that can be read again.
    `cost_microusd` is null for guests, and if the model has no known price.
    """

    id: str
    object: Literal["job"]
    model: str
    state: JobState
    position: int | None
    waiting: int | None
    expected_wait_s: float | None
    kept: bool
    first_event: int | None
    last_event: int | None
    error: ErrorDetails | None
    ending: str | None
    usage: TokensUsed | None
    cost_microusd: int | None
    ttft_s: float | None
    duration_s: float | None
    queued_s: float | None
    tokens_per_s: float | None


def job_object(job: Job | None, answer: KeptAnswer | None, *, costs: bool) -> JobObject:
    """Return a job, its kept answer, or both as the API shows them; one of them must be given.

    The cost is null without `costs`.
    """
    # A job leaves the engine at its end; its kept answer stays for some time.
    row, log = (answer.row, answer.log) if answer is not None else (None, None)
    if job is not None:
        place = job.place()
        return _object(job.id, job.model.id, job.state, row, costs=costs, place=place, log=log)
    assert answer is not None
    return _object(answer.id, answer.model_id, "done", row, costs=costs, log=log)


def ended_job(row: UsageRow, *, costs: bool) -> JobObject:
    """Return a request that has ended and is not kept, as its usage row has it."""
    return _object(row.request_id, row.model, "done", row, costs=costs)


def _object(
    request_id: str,
    model_id: str,
    state: JobState,
    row: UsageRow | None,
    *,
    costs: bool,
    place: Place | None = None,
    log: AnswerLog | None = None,
) -> JobObject:
    """Return the object of a request; `place` while it waits, `log` if its answer is kept."""
    error = log.error if log is not None else None
    return JobObject(
        id=request_id,
        object="job",
        model=model_id,
        state=state,
        position=place.position if place else None,
        waiting=place.waiting if place else None,
        expected_wait_s=round(place.expected_wait_s, 1) if place else None,
        kept=log is not None,
        first_event=log.first if log is not None else None,
        last_event=log.last_event if log is not None else None,
        error=error.body().error if error is not None else None,
        **_use(row, costs=costs),
    )


def _use(row: UsageRow | None, *, costs: bool) -> dict[str, Any]:
    """Return how a request ended and what it used, in the numbers of its usage row."""
    if row is None:
        names = ("ending", "usage", "cost_microusd", "ttft_s", "duration_s", "queued_s")
        return dict.fromkeys((*names, "tokens_per_s"))
    usage = None
    if row.prompt_tokens is not None or row.completion_tokens is not None:
        usage = TokensUsed(
            row.prompt_tokens,
            row.completion_tokens,
            row.cached_tokens,
            row.reasoning_tokens,
            row.estimated,
        )
    return {
        "ending": row.status,
        "usage": usage,
        "cost_microusd": row.cost_microusd if costs else None,
        "ttft_s": row.ttft_ms / 1000 if row.ttft_ms is not None else None,
        "duration_s": row.duration_ms / 1000,
        "queued_s": row.queued_ms / 1000,
        "tokens_per_s": row.tokens_per_s,
    }
