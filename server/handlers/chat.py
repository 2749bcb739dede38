"""POST chat/completions: parse, admit, queue, and carry the answer to the client."""

from __future__ import annotations

from tornado import httputil

from server.handlers.base import BaseHandler
from server.reply import StreamReply, WholeReply
from workers.errors import GatewayError, InvalidRequest
from workers.job import Job, Outcome
from workers.wire import parse_chat

MAX_WAIT_HEADER = "X-Roxy-Max-Wait"
QUEUE_UPDATES_HEADER = "X-Roxy-Queue-Updates"


class ChatHandler(BaseHandler):
    """Chat completions, streamed or whole.

    Two of the client's headers are read: `X-Roxy-Max-Wait` (seconds the request may wait in the
    queue) and `X-Roxy-Queue-Updates: true` (its place in the queue, as comments in the stream).
    """

    body_limit = None

    def initialize(self, *args: object, **kwargs: object) -> None:
        """Prepare a request without a job."""
        super().initialize(*args, **kwargs)  # type: ignore[arg-type]
        self.job: Job | None = None

    async def post(self) -> None:
        """Answer one chat completion."""
        job = await self._admit()
        if self.left:
            job.cancel()
            return
        try:
            self.services.engine.submit(job)
        except GatewayError as error:
            job.close("refused", error)
            raise
        if job.request.stream:
            await self._stream(job)
        else:
            await self._answer_whole(job)

    def on_connection_close(self) -> None:
        """Stop the upstream call: nobody waits for it any more."""
        super().on_connection_close()
        if self.job is not None:
            self.job.cancel()

    async def _admit(self) -> Job:
        assert self.principal is not None
        services, principal = self.services, self.principal
        max_wait_s = self._max_wait_s()
        request = parse_chat(self.take_body())
        model = services.catalog.find(request.model)
        self.model_id = model.id
        lease = await services.admission.admit(
            principal, model, request, self.request_id, streamed=request.stream
        )

        def settle(outcome: Outcome) -> None:
            services.ledger.settle(lease, outcome)

        self.job = Job(
            self.request_id,
            request,
            model,
            lane=principal.lane,
            weight=principal.weight,
            max_wait_s=max_wait_s,
            settle=settle,
        )
        return self.job

    async def _stream(self, job: Job) -> None:
        assert self.request.connection is not None
        reply = StreamReply(
            self.request.connection,
            job,
            self._stream_head,
            heartbeat_s=self.services.config.stream.heartbeat_s,
            queue_updates=self.request.headers.get(QUEUE_UPDATES_HEADER, "").lower()
            in ("true", "1"),
        )
        job.channel.attach(reply)
        await reply.done
        if not self.left:
            self._end_answer()

    async def _answer_whole(self, job: Job) -> None:
        reply = WholeReply()
        job.channel.attach(reply)
        body = await reply.done
        if not self.left:
            self.reply(200, body)

    def _stream_head(self) -> httputil.HTTPHeaders:
        self._status = 200
        headers = self.answer_headers()
        headers["Content-Type"] = "text/event-stream; charset=utf-8"
        headers["Cache-Control"] = "no-cache, no-transform"
        headers["X-Accel-Buffering"] = "no"
        return headers

    def _max_wait_s(self) -> float:
        most = self.services.config.queue.max_wait_s
        text = self.request.headers.get(MAX_WAIT_HEADER)
        if text is None:
            return most
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s < 1e6:
            raise InvalidRequest(
                f"{MAX_WAIT_HEADER} must be a number of seconds, 0 or more.", param=MAX_WAIT_HEADER
            )
        return min(wait_s, most)
