"""/healthz, /readyz and health: whether the process, the gateway and its upstreams work."""

from __future__ import annotations

import contextlib

from msgspec import UNSET

from server.api.base import BaseHandler
from server.api.streaming import PassableHandler
from server.identity.client_addresses import is_this_machine
from server.keys.command_proof import CHALLENGE_CHARS, CHALLENGE_HEADER, PROOF_HEADER
from server.shapes.health_object import HealthObject, health_everywhere
from workers.errors import StoreUnavailable


class HealthHandler(BaseHandler):
    """Liveness: the event loop runs."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200 as long as the process runs."""
        self.reply_json(HealthObject("ok"), headers=self._proof())

    def _proof(self) -> dict[str, str]:
        """Return the answer to the challenge of a command on this machine."""
        request = self.request
        challenge = request.headers.get(CHALLENGE_HEADER, "")
        if len(challenge) != CHALLENGE_CHARS:
            return {}
        is_own = request.remote_ip == self.services.config.server.host
        if not is_this_machine(self.client_scope(), request.headers, is_own=is_own):
            return {}
        proof = self.services.keys.owner.prove(challenge)
        return {PROOF_HEADER: proof} if proof else {}


class ReadyHandler(BaseHandler):
    """Readiness: usage can be saved, and the gateway is not draining."""

    access = "anyone"

    async def get(self) -> None:
        """Answer 200, with the shared stores that are away, or 503 with the reasons."""
        if self.services.unready():
            # A gateway that gets no work writes nothing, so a failed store would stay failed.
            with contextlib.suppress(StoreUnavailable):
                await self.services.store.check_writable()
        reasons = self.services.unready()
        if reasons:
            self.reply_json(HealthObject("unavailable", reasons), 503, {"Retry-After": "1"})
        else:
            self.reply_json(HealthObject("ok", away=self.services.away() or UNSET))


class UpstreamHealthHandler(PassableHandler):
    """How the models have answered lately, and which deployments are used."""

    access = "owner"

    async def get(self) -> None:
        """List every model of the catalog with its last hour and the state of its deployments."""
        self.reply_json(await health_everywhere(self.services, self.asked()))
