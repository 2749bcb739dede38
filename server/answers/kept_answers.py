"""Keep answers while they run and for some time after, by request id.

Their total size is bounded. Past `max_total_bytes`, the events of the answers that ended first are
dropped first, then the oldest events of the largest running answer. After its end, an answer's
outcome and usage are those of the row that the ledger wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from server.config.settings import Answers
from workers.run.answer_log import AnswerLog, Attachment

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from server.store.rows import UsageRow
    from workers.run.job import Job

MAX_KEPT = 10_000
"""How many ended answers are kept, whatever their size: each takes memory beside its events."""


class KeptAnswer:
    """One answer: its log, its holder, and its usage row once it has ended."""

    __slots__ = ("ended_at", "holder", "id", "log", "model_id", "row")

    def __init__(self, job: Job, log: AnswerLog) -> None:
        self.id = job.id
        self.holder = job.holder
        self.model_id = job.model.id
        self.log = log
        self.row: UsageRow | None = None
        self.ended_at = 0.0


class KeptAnswers:
    """All kept answers. `close` stops their timers.

    `on_forgotten` is called with the id of an answer that is no longer kept.
    """

    def __init__(self, settings: Answers) -> None:
        self._settings = settings
        self._answers: dict[str, KeptAnswer] = {}
        self._ended: dict[str, KeptAnswer] = {}  # in the order of their ends
        self._with_events: dict[str, KeptAnswer] = {}  # those of `_ended` that still hold events
        self._timer: asyncio.TimerHandle | None = None
        self.size_bytes = 0
        self.on_forgotten: Callable[[str], None] = lambda _request_id: None

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, request_id: str) -> KeptAnswer | None:
        """Find an answer, running or ended."""
        return self._answers.get(request_id)

    def keep(self, job: Job, lease: Lease) -> KeptAnswer:
        """Keep the answer of a job, from before its first frame; its id must not be in use."""
        guest = lease.principal.kind == "guest"
        log = AnswerLog(
            self._settings.max_answer_bytes,
            self._grew,
            self._settings.guest_grace_s if guest else None,
        )
        answer = self._answers[job.id] = KeptAnswer(job, log)

        def settled(row: UsageRow) -> None:
            answer.row = row
            self._note_end(answer)

        lease.on_settled = settled
        log.carry(job)
        return answer

    def readers(self, holder: str) -> list[Attachment]:
        """Return the readers that are attached to answers of one holder."""
        own = [one.log for one in self._answers.values() if one.holder == holder]
        return [attachment for log in own for attachment in log.attached]

    def close(self) -> None:
        """Stop all timers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for answer in self._answers.values():
            answer.log.close()

    def _note_end(self, answer: KeptAnswer) -> None:
        loop = asyncio.get_running_loop()
        answer.ended_at = loop.time()
        self._ended[answer.id] = self._with_events[answer.id] = answer
        if len(self._ended) > MAX_KEPT:
            self._forget(next(iter(self._ended.values())))
        if self._timer is None:
            self._timer = loop.call_later(self._settings.keep_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        due = loop.time() - self._settings.keep_s
        for answer in list(self._ended.values()):
            if answer.ended_at > due:
                wait_s = answer.ended_at - due
                self._timer = loop.call_later(wait_s, self._expire)
                return
            self._forget(answer)

    def _forget(self, answer: KeptAnswer) -> None:
        self._empty(answer)
        del self._ended[answer.id], self._answers[answer.id]
        self.on_forgotten(answer.id)

    def _empty(self, answer: KeptAnswer) -> None:
        self._with_events.pop(answer.id, None)
        while answer.log.drop_oldest():
            pass

    def _grew(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if size_bytes > 0 and self.size_bytes > self._settings.max_total_bytes:
            self._make_room()

    def _make_room(self) -> None:
        for answer in list(self._with_events.values()):
            self._empty(answer)
            if self.size_bytes <= self._settings.max_total_bytes:
                return
        running = [one.log for one in self._answers.values() if one.row is None]
        for log in sorted(running, key=lambda one: one.size_bytes, reverse=True):
            while self.size_bytes > self._settings.max_total_bytes:
                if not log.drop_oldest():
                    break
