"""GET jobs/{id}: where a request of one's own is, from another connection."""

from __future__ import annotations

from server.handlers.base import BaseHandler
from workers.errors import NotFound


class JobHandler(BaseHandler):
    """A request that has not ended; its id is the `x-request-id` of its answer.

    A client that wants to ask while it waits sends its own `X-Request-Id` with the request.
    """

    def get(self, job_id: str) -> None:
        """Tell its state and, while it waits, its place in the queue."""
        assert self.principal is not None
        job = self.services.engine.jobs.get(job_id)
        if job is None or not (self.principal.is_owner or job.lane == self.principal.scope):
            raise NotFound("There is no such job, or it has ended.")
        place = job.place()
        self.reply_json(
            {
                "id": job.id,
                "object": "job",
                "model": job.model.id,
                "state": job.state,
                "position": place.position if place else None,
                "waiting": place.waiting if place else None,
                "expected_wait_s": round(place.expected_wait_s, 1) if place else None,
            }
        )
