"""One attempt: a request to one deployment, and the way of its answer to the job.

A worker opens an exchange, attaches the job's channel and is woken once, at the end; the bytes pass
in the callback of the upstream's socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from workers.base_url import joined_url
from workers.catalog.catalog import Deployment
from workers.catalog.learnt import Lesson, lesson_of
from workers.catalog.quirks import NOTHING_LEARNT, Learnt
from workers.errors import GatewayError, UpstreamError
from workers.providers.formats import TRANSLATORS
from workers.providers.translator import Translator, UpstreamRequest
from workers.run.clock import Clock, StreamSettings
from workers.run.job import Job
from workers.run.scheduler import Scheduler
from workers.transport.transport import Transport, UpstreamExchange
from workers.units import KIB, MIB

REJECTION_BYTES = 64 * KIB
"""How much of an upstream's error answer is read to find its message."""
WHOLE_BYTES = 64 * MIB
"""The largest answer that is not streamed."""
TOOL_FIELDS = ("tools", "functions")
"""Members of a request that offer tools; the second is OpenAI's older one."""
NO_TOOLS = (b"null", b"[]")
MAX_LESSONS = 4
"""How many refusals of what the gateway writes one request may meet: each member, and two caps."""

log = logging.getLogger("roxy.workers")


class Relay:
    """The sink of a streamed exchange: it passes the answer through the translator to the job.

    `on_content` is called before the first frames.
    """

    __slots__ = ("_begun", "_clock", "_exchange", "_job", "_on_content", "_translator")

    def __init__(
        self,
        job: Job,
        translator: Translator,
        clock: Clock,
        exchange: UpstreamExchange,
        on_content: Callable[[], None],
    ) -> None:
        self._job = job
        self._translator = translator
        self._clock = clock
        self._exchange = exchange
        self._on_content = on_content
        self._begun = False

    def release(self) -> None:
        """Drop the exchange, which may hold this relay: a cycle would wait for the collector."""
        del self._exchange, self._clock, self._on_content

    def feed(self, data: bytes) -> None:
        """Translate the bytes of one read and pass them on; the exchange's sink."""
        self._clock.touch()
        frames = self._translator.feed(data)
        if self._translator.done:
            self._finish(frames)
            return
        if frames:
            if not self._begun:
                self._begun = True
                self._clock.note_content()
                self._on_content()
            self._job.push(frames)
        if self._translator.finished:
            self._note_finished()
        if self._translator.failure is not None:
            raise self._translator.failure

    def _finish(self, last: bytes) -> None:
        """Handle the end mark, or the usage after it; the client does not wait for the latter."""
        has_usage = self._translator.usage is not None
        if not self._job.ended:
            self._job.finish(last, usage_may_follow=not has_usage)
        elif has_usage:
            self._job.settle_owed(keep_connection=True)
        if self._job.owes_usage:
            self._clock.note_finished()
        else:
            self._exchange.release()

    def _note_finished(self) -> None:
        """Handle that only the usage and the end mark can follow."""
        self._clock.note_finished()
        if self._job.ended:
            self._job.note_usage()
            if not self._job.owes_usage:
                self._exchange.release()


class Attempts:
    """Have jobs answered by one deployment each, within a model's clocks."""

    def __init__(self, transport: Transport, scheduler: Scheduler, stream: StreamSettings) -> None:
        self._transport = transport
        self._scheduler = scheduler
        self._stream = stream
        self.learnt: dict[str, Learnt] = {}
        """What the refusals of deployments have taught, by their ids."""

    async def run(self, job: Job, deployment: Deployment) -> None:
        """Have the job answered by a deployment. Raises UpstreamError, or JobEnded.

        An upstream that refuses what the gateway has written gets the request once more without it.
        That is remembered for the deployment once it answers.
        """
        now = self.learnt.get(deployment.id, NOTHING_LEARNT)
        met = [now]
        lessons: list[Lesson] = []
        on_answer = partial(self._remember, deployment.id, lessons)
        while True:
            taught = deployment if now is NOTHING_LEARNT else replace(deployment, learnt=now)
            try:
                await self._attempt(job, taught, on_answer)
            except UpstreamError as error:
                lesson = lesson_of(taught, job.request, error)
                if lesson is None or job.ended or job.committed or not job.affords_another:
                    raise
                now = replace(now, **lesson.changes)
                if now in met or len(met) > MAX_LESSONS:  # it refuses either way
                    raise
                error.with_traceback(None)
                met.append(now)
                lessons.append(lesson)
            else:
                on_answer()
                return

    def _remember(self, deployment_id: str, lessons: Sequence[Lesson]) -> None:
        """Remember what was learnt of a deployment that now answers; log each fact once."""
        for lesson in lessons:
            known = self.learnt.get(deployment_id, NOTHING_LEARNT)
            learnt = replace(known, **lesson.changes)
            if lesson.lasting and learnt != known:
                self.learnt[deployment_id] = learnt
                log.warning("%s %s", deployment_id, lesson.words)

    async def _attempt(
        self, job: Job, deployment: Deployment, on_answer: Callable[[], None]
    ) -> None:
        stream = self._stream
        translator = TRANSLATORS[deployment.provider](
            job.request, job.model, deployment, stream.max_event_bytes
        )
        exchange = self._open(deployment, translator.request())
        clock = Clock(
            stream,
            job.channel,
            exchange,
            streamed=job.request.stream,
            tools=offers_tools(job.request.fields),
        )
        relay: Relay | None = None
        job.begin(deployment, translator, exchange, usage_wait_s=stream.usage_wait_s)
        try:
            head = await exchange.head()
            if head.status >= 300:
                # Of larger pages (a proxy's HTML, a request echoed back) the status still counts.
                page = await exchange.read_beginning(REJECTION_BYTES) if head.status >= 400 else b""
                rejection = translator.rejection(head.status, head.headers, page)
                rejection.upstream_status = head.status
                raise rejection
            translator.check_head(head.status, head.headers)
            if job.request.stream:
                begin = partial(self._begin, job, on_answer)
                relay = Relay(job, translator, clock, exchange, begin)
                exchange.follow(relay.feed)
                await self._end_of_stream(exchange, translator)
                if translator.done:  # the relay has finished a job whose answer has an end mark
                    job.settle_owed(keep_connection=True)
                else:
                    job.finish(translator.finish())
            else:
                job.finish(translator.whole(await self._whole_body(exchange, clock)))
        except GatewayError as error:
            exchange.abort(error)
            job.note_failure(error)
            raise
        finally:
            clock.stop()
            exchange.release()
            if relay is not None:
                relay.release()

    def _begin(self, job: Job, on_answer: Callable[[], None]) -> None:
        """Note the first content of a stream."""
        on_answer()
        self._scheduler.note_content(job)

    async def _end_of_stream(self, exchange: UpstreamExchange, translator: Translator) -> None:
        """Wait for the end of a stream. Raises UpstreamError, or JobEnded.

        An answer whose every choice has finished is complete, however its connection ends.
        """
        try:
            await exchange.end()
        except UpstreamError as error:
            if not translator.finished or translator.failure is not None:
                raise
            error.with_traceback(None)

    async def _whole_body(self, exchange: UpstreamExchange, clock: Clock) -> bytes:
        """Read the body of a whole answer; each read starts the first-content clock again.

        Slow upstreams pad it with white space meanwhile. Raises UpstreamError, or JobEnded.
        """
        pieces: list[bytes] = []
        room = WHOLE_BYTES
        while data := await exchange.pull():
            clock.touch()
            room -= len(data)
            if room < 0:
                exchange.abort(UpstreamError("The upstream's answer is too large."))
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _open(self, deployment: Deployment, request: UpstreamRequest) -> UpstreamExchange:
        url = joined_url(deployment.base_url, request.path)
        head = self._transport.request_head("POST", url, request.headers)
        return self._transport.exchange(url, head, request.body, deployment.route)


def offers_tools(fields: Mapping[str, bytes]) -> bool:
    """Return whether a request lets the model call tools, whose arguments may come in one piece."""
    if fields.keys().isdisjoint(TOOL_FIELDS):
        return False
    return any(bytes(fields.get(name, b"null")) not in NO_TOOLS for name in TOOL_FIELDS)
