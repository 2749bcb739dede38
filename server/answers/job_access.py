"""Find jobs and kept answers for a caller who may see them."""

from __future__ import annotations

from server.answers.kept_answers import KeptAnswer, KeptAnswers
from server.identity.authentication import Principal
from workers.errors import NotFound
from workers.run.job import Job
from workers.run.pool import Engine

NO_SUCH_JOB = "There is no such job, or it has ended."


def find_job(
    engine: Engine, answers: KeptAnswers, principal: Principal, job_id: str
) -> tuple[Job | None, KeptAnswer | None]:
    """Find a running job, its kept answer, or both.

    The owner may see every job. Raises NotFound for other callers' jobs too, so that ids cannot be
    probed.
    """
    job, answer = engine.jobs.get(job_id), answers.find(job_id)
    holder = job.holder if job is not None else answer.holder if answer is not None else None
    if holder is None or not (principal.is_owner or holder == principal.holder):
        raise NotFound(NO_SUCH_JOB)
    return job, answer
