"""One attempt: a request to one deployment, and the way of its answer to the job.

A worker opens an exchange, attaches the job's channel and is woken once, at the end; the bytes pass
in the callback of the upstream's socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from workers.base_url import joined_url
from workers.catalog.catalog import Deployment
from workers.errors import GatewayError, UpstreamError, UpstreamRejected
from workers.providers.formats import TRANSLATORS
from workers.providers.translator import Translator, UpstreamRequest
from workers.request.chat_request import ChatRequest
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
OTHER_CAP: dict[str, Literal["max_tokens", "max_completion_tokens"]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The member that still caps an answer where the upstream does not take the other one."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)

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
            self._job.finish(frames)
            self._exchange.release()  # the client does not wait for the end of the framing
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
        self._adapted: dict[str, Deployment] = {}
        """Deployments with what was learnt about them, by id: members that they do not take."""

    async def run(self, job: Job, assigned: Deployment) -> None:
        """Have the job answered by a deployment. Raises UpstreamError, or JobEnded.

        An upstream that refuses a member which the gateway has added gets the request once more
        without it. That is remembered for the deployment once it has answered.
        """
        deployment = first = self._adapted.get(assigned.id, assigned)
        refused: list[str] = []
        while True:
            try:
                await self._attempt(job, deployment)
                break
            except UpstreamRejected as error:
                adapted = without_member(deployment, job.request, error.refused_member)
                if adapted is None or job.ended:
                    raise
                error.with_traceback(None)
                refused.append(error.refused_member)
                deployment = adapted
        if deployment is not first:
            log.warning(
                "%s does not take %s, which the gateway adds: it is left out until the next start",
                deployment.id,
                " and ".join(refused),
            )
            self._adapted[deployment.id] = deployment

    async def _attempt(self, job: Job, deployment: Deployment) -> None:
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
                relay = Relay(
                    job, translator, clock, exchange, lambda: self._scheduler.note_content(job)
                )
                exchange.follow(relay.feed)
                await self._end_of_stream(exchange, translator)
                if not translator.done:  # the relay finishes a job whose answer has an end mark
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


def without_member(deployment: Deployment, request: ChatRequest, member: str) -> Deployment | None:
    """Return the deployment with quirks that leave out a member; None: it was not added here.

    A refusal of `stream_options` in which the client asks for more than usage may be about that. It
    must not end the reports of usage, on which all limits of the deployment's clients depend.
    """
    quirks = deployment.quirks
    if member == "stream_options" and request.stream and quirks.stream_options:
        if _asks_for_more_than_usage(request):
            return None
        return replace(deployment, quirks=replace(quirks, stream_options=False))
    obeyed = OTHER_CAP.get(member)
    if obeyed and request.cap is not None and quirks.max_tokens_field in ("", "both"):
        return replace(deployment, quirks=replace(quirks, max_tokens_field=obeyed))
    return None


def _asks_for_more_than_usage(request: ChatRequest) -> bool:
    sent = request.fields.get("stream_options", b"null")
    return any(name != "include_usage" for name in _MEMBERS.decode(sent) or ())


def offers_tools(fields: Mapping[str, bytes]) -> bool:
    """Return whether a request lets the model call tools, whose arguments may come in one piece."""
    if fields.keys().isdisjoint(TOOL_FIELDS):
        return False
    return any(bytes(fields.get(name, b"null")) not in NO_TOOLS for name in TOOL_FIELDS)
