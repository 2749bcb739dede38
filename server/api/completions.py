"""POST chat/completions: parse, admit, queue, and send the answer to the client."""

from __future__ import annotations

import math
import time

from server.accounting.admission import Lease, check_files
from server.answers.reply import WholeReply
from server.api.streaming import UPDATES_HEADER, StreamHandler
from server.history.stored_files import SCHEME, RequestWithFiles
from server.identity.authentication import Principal, presented_key
from workers.catalog.catalog import Model
from workers.errors import Conflict, Forbidden, GatewayError, InvalidRequest, NoDeployment
from workers.request.chat_request import ChatRequest, parse_chat
from workers.run.job import Job, Outcome

MAX_WAIT_HEADER = "X-Roxy-Max-Wait"
KEEP_HEADER = "X-Roxy-Keep"
DEPLOYMENT_HEADER = "X-Roxy-Deployment"


class ChatHandler(StreamHandler):
    """Chat completions, streamed or whole.

    These request headers are optional: `X-Roxy-Max-Wait` (how many seconds the request may wait in
    the queue), `X-Roxy-Queue-Updates: true` (its place in the queue, as comments in the stream) and
    `X-Roxy-Keep: true` (a streamed answer continues without the client, which may read it later).
    The owner may name the one deployment to try with `X-Roxy-Deployment`; if it cools, its cooldown
    ends.
    """

    body_limit = None

    def initialize(self, *args: object, **kwargs: object) -> None:
        """Prepare a request, which has no job yet."""
        super().initialize(*args, **kwargs)  # type: ignore[arg-type]
        self.job: Job | None = None

    async def post(self) -> None:
        """Answer one chat completion."""
        job, lease = await self._admit()
        if job.ended:
            return
        keep = job.request.stream and self.asks_for(KEEP_HEADER)
        try:
            if keep and job.id in self.services.answers:
                raise Conflict("Another request with this X-Request-Id is still kept.")
            if self.has_client_id:
                await self._claim_id()
            # Where limits are counted elsewhere the take has waited: the key can have ended since.
            authentication = self.services.authentication
            if not authentication.is_current(lease.principal, time.time()):
                await authentication.confirm(lease.principal, time.time())
            decided = self.services.engine.submit(job)
            if decided is not None:
                await decided
        except GatewayError as error:
            job.close("refused", error)
            self._release_id()
            raise
        if self.left:
            return
        if keep:
            log = self.services.answers.keep(job, lease).log
            await self.follow(log.attach(0, job.credential))
        elif job.request.stream:
            await self._stream(job)
        else:
            await self._answer_whole(job)

    def on_connection_close(self) -> None:
        """Cancel the upstream call. A kept answer continues without its client."""
        super().on_connection_close()
        self._cancel_job()

    def failed(self, error: BaseException) -> GatewayError:
        """Cancel the job too: nothing reads its answer after its handler has failed."""
        self._cancel_job()
        return super().failed(error)

    def _cancel_job(self) -> None:
        if self.job is not None and self.attachment is None:
            self.job.cancel()

    async def _admit(self) -> tuple[Job, Lease]:
        assert self.principal is not None
        services = self.services
        # The body may have taken long to arrive: the key can have ended or changed since the head.
        authentication, principal = services.authentication, self.principal
        if not authentication.is_current(principal, time.time()):
            principal = self.principal = await authentication.confirm(principal, time.time())
        max_wait_s = self._max_wait_s()
        body = self.take_body()
        if principal.kind == "guest" or SCHEME not in body or not services.config.history.enabled:
            return await self._admit_body(principal, body, max_wait_s)
        async with services.filling_turns.of(principal.scope):
            body = await self._with_files(principal, body)
            return await self._admit_body(principal, body, max_wait_s)

    async def _with_files(self, principal: Principal, body: bytes) -> bytes:
        """Return the body with the files of the caller's chat history that it names.

        Whatever can be refused without them is refused before they are read.
        """
        services = self.services
        request = RequestWithFiles(body)
        if request.model_id is not None:
            model = services.catalog.find(request.model_id)
            self.model_id = model.id
            services.admission.check_model(principal, model)
        await services.admission.refuse_early(principal)
        return await request.filled(services.history, principal.scope, self.grow_body)

    async def _admit_body(
        self, principal: Principal, body: bytes, max_wait_s: float
    ) -> tuple[Job, Lease]:
        services = self.services
        request = parse_chat(body)
        request.hides_costs = not principal.sees_costs
        if request.largest_file_bytes and not presented_key(self.request.headers):
            check_files(request)
        model = services.catalog.find(request.model)
        self.model_id = model.id
        only = self._chosen_deployment(model)
        lease = await services.admission.admit(
            principal, model, request, self.request_id, streamed=request.stream
        )
        self.after_take = lease.taken.standing if lease.taken is not None else None

        def settle(outcome: Outcome) -> None:
            services.ledger.settle(lease, outcome)

        self.job = Job(
            self.request_id,
            request,
            model,
            lane=principal.lane,
            holder=principal.holder,
            credential=principal.credential,
            budgeted=lease.taken is not None and lease.taken.cost_microusd > 0,
            weight=principal.weight,
            max_wait_s=max_wait_s,
            only=only,
            status_s=self._status_s(request),
            settle=settle,
            free_body=self.take_room().release,
        )
        services.ledger.follow(lease, self.job.so_far)
        if self.left:
            self.job.cancel()
        return self.job, lease

    async def _claim_id(self) -> None:
        """Claim an id that the client has chosen. Raises Conflict if another process has it."""
        claim = self.services.peers.claim(self.request_id)
        if claim is not None and not await claim:
            raise Conflict("Another request with this X-Request-Id has not ended yet.")

    def _release_id(self) -> None:
        services, request_id = self.services, self.request_id
        if request_id not in services.engine.jobs and request_id not in services.answers:
            services.peers.release(request_id)

    async def _stream(self, job: Job) -> None:
        reply = self.open_reply(job)
        job.channel.attach(reply)
        await reply.done

    async def _answer_whole(self, job: Job) -> None:
        reply = WholeReply()
        job.channel.attach(reply)
        body = await reply.done
        if not self.left:
            self.reply(200, body)

    def _chosen_deployment(self, model: Model) -> str:
        """Return the id of the one deployment to try, "" for any.

        Raises Forbidden for others than the owner, InvalidRequest, and NoDeployment for one that
        lacks its secret.
        """
        wanted = self.request.headers.get(DEPLOYMENT_HEADER)
        if wanted is None:
            return ""
        if self.principal is None or not self.principal.is_owner:
            raise Forbidden(f"Only the owner may send {DEPLOYMENT_HEADER}.")
        chosen = next((one for one in model.deployments if one.id == wanted), None)
        if chosen is None:
            known = ", ".join(one.id for one in model.deployments) or "none"
            raise InvalidRequest(
                f"{DEPLOYMENT_HEADER} must be the id of a deployment of {model.id}: {known}.",
                param=DEPLOYMENT_HEADER,
            )
        if not chosen.live:
            missing = " and ".join(chosen.missing_variables)
            raise NoDeployment(
                f"{chosen.id} is not configured. Set {missing}, then restart the gateway."
                if missing
                else f"This version has no translator for {chosen.provider}."
            )
        return chosen.id

    def _status_s(self, request: ChatRequest) -> float:
        """Return how long an error can be a status: a heartbeat begins a stream with status 200.

        Who asks for queue updates waits with the stream open.
        """
        if not request.stream or self.asks_for(UPDATES_HEADER):
            return math.inf
        return self.services.config.stream.heartbeat_s

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
