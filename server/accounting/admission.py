"""Admission: decide whether a request may run, and take what it may use at most.

All checks come before any cost at an upstream: first the models that are allowed, then limits and
budget in one step of the counters. A lease holds what was taken; the ledger settles it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.accounting.counters import UNLIMITED, Counters, GuestLimits, Shared, Standing, Taken
from server.accounting.paid_extras import PaidExtras
from server.accounting.reserve import reserve_for
from workers.errors import Forbidden, InvalidKey, InvalidRequest, PayloadTooLarge
from workers.request.token_usage import BYTES_PER_TOKEN
from workers.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from server.config.settings import Guests
    from server.identity.authentication import Principal
    from server.store.key import Key, Limits
    from server.store.rows import UsageRow
    from workers.catalog.catalog import Model
    from workers.request.chat_request import ChatRequest

MAX_FILE_BYTES = 10 * MIB
"""The largest file that the web app may attach; for keys, only the size of the body is limited."""
ALL_GUESTS = "guests"
"""The scope that all guests share."""


class Lease:
    """What one admitted request holds, until the ledger settles it.

    `taken` is None for the owner, who has no limits. `choices` is the request's `n`. `on_settled`
    is called with the usage row. `noted_at` is the time of its last running note, 0: there was
    none. The request's body is not kept.
    """

    __slots__ = (
        "choices",
        "model",
        "noted_at",
        "on_settled",
        "principal",
        "prompt_bound",
        "prompt_estimate",
        "request_id",
        "settled",
        "streamed",
        "taken",
    )

    def __init__(
        self,
        principal: Principal,
        model: Model,
        request_id: str,
        request: ChatRequest,
        taken: Taken | None = None,
        *,
        streamed: bool = False,
    ) -> None:
        self.principal = principal
        self.model = model
        self.request_id = request_id
        self.choices = request.n
        self.prompt_estimate = request.prompt_estimate
        self.prompt_bound = request.prompt_bound
        self.taken = taken
        self.streamed = streamed
        self.on_settled: Callable[[UsageRow], None] | None = None
        self.settled = False
        self.noted_at = 0.0


class Admission:
    """Grant leases. When the queue then refuses the request, the lease is given back."""

    def __init__(self, counters: Counters, guests: Guests) -> None:
        self._counters = counters
        self._guests = guests
        self._paid_extras: dict[str, PaidExtras] = {}  # by model, which never changes
        self._guest_limits, together = guest_limits(guests)
        self._all_guests = Shared(ALL_GUESTS, together)

    async def admit(
        self,
        principal: Principal,
        model: Model,
        request: ChatRequest,
        request_id: str,
        *,
        streamed: bool = False,
    ) -> Lease:
        """Take what the request may use at most and grant a lease.

        A guest's request is changed to ask for at most `guests.max_output_tokens` over all choices.
        Raises InvalidRequest, Forbidden, RateLimited or BudgetExceeded; nothing is taken then.
        """
        taken = None
        self._add_extras(model, request)
        if not principal.is_owner:
            self._check_paid_extras(model, request)
        if principal.key is not None:
            self.check_model(principal, model)
            taken = await self._take_for_key(principal.key, model, request)
        elif not principal.is_owner:
            most = self.max_output_tokens(principal, model)
            if request.n > most:
                raise InvalidRequest(
                    f"All answers together may have {most} tokens, so {request.n} are too many. Ask"
                    " for fewer.",
                    param="n",
                )
            taken = await self._take_for_guest(principal, model)
            cap_answer(request, most // request.n)
        return Lease(principal, model, request_id, request, taken, streamed=streamed)

    async def refuse_early(self, principal: Principal) -> None:
        """Raise RateLimited now if the key's next request would be refused for its limits.

        Called before work that costs much more than the request has cost its sender.
        """
        key = principal.key
        if key is None or (await self._counters.standing(key.id, key.limits)).has_room:
            return
        self._counters.give_back(await self._counters.take(key.id, key.limits))

    async def count_document(self, principal: Principal) -> None:
        """Count a document to be read; only guests have limits for these.

        A guest may have as many documents read as they may send messages, and neither takes from
        the other. For all guests together both count. Raises RateLimited and InvalidKey.
        """
        if principal.kind != "guest":
            return
        if not self._guests.enabled:
            raise InvalidKey
        scope = f"{principal.scope}:documents"
        taken = await self._counters.take(scope, self._guest_limits, shared=self._all_guests)
        self._counters.settle(taken, 0, 0)

    def may_use(self, principal: Principal, model_id: str) -> bool:
        """Return True if a principal's allow list, if it has one, names the model."""
        allowed = self._allowed_models(principal)
        return allowed is None or model_id in allowed

    def check_model(self, principal: Principal, model: Model) -> None:
        """Raise Forbidden for a model that is not on the principal's allow list."""
        if self.may_use(principal, model.id):
            return
        message = f"Guests cannot use {model.id}. Sign in with a key to use it."
        if principal.kind != "guest":
            allowed = ", ".join(self._allowed_models(principal) or ()) or "no model"
            message = f"This key cannot use {model.id}. It can use: {allowed}."
        raise Forbidden(message, param="model", code="model_not_allowed")

    def max_output_tokens(self, principal: Principal, model: Model) -> int:
        """Return how many tokens an answer may have at most: the model's bound or a smaller one.

        A request of a key for more than its tokens per minute is refused, guests get less.
        """
        bounds = [model.max_output_tokens]
        if principal.kind == "guest":
            bounds.append(self._guests.max_output_tokens)
        elif principal.key is not None and principal.key.limits.tokens_per_minute is not None:
            bounds.append(principal.key.limits.tokens_per_minute)
        return min(bounds)

    async def standing(self, principal: Principal) -> Standing:
        """Return what remains of a principal's limits; the owner has none."""
        limits = self._limits_of(principal)
        return (
            UNLIMITED if limits is None else await self._counters.standing(principal.scope, limits)
        )

    def known_standing(self, principal: Principal) -> Standing | None:
        """Return what remains as far as this process knows; see `Counters.known_standing`."""
        limits = self._limits_of(principal)
        return (
            UNLIMITED if limits is None else self._counters.known_standing(principal.scope, limits)
        )

    def _limits_of(self, principal: Principal) -> Limits | None:
        if principal.key is not None:
            return principal.key.limits
        return None if principal.is_owner else self._guest_limits

    def _allowed_models(self, principal: Principal) -> Collection[str] | None:
        """Return the ids of the models that a principal may use, or None for all."""
        if principal.kind == "guest":
            return self._guests.models or None
        return principal.key.models if principal.key is not None else None

    def _check_paid_extras(self, model: Model, request: ChatRequest) -> None:
        """Raise Forbidden for what could bypass the key's models or budget upstream."""
        found = self._extras_of(model).find(request)
        if found is not None:
            what, param = found
            raise Forbidden(
                f"Only the owner may send {what} to {model.id}, because with it an upstream may"
                " use other models or cost more. Leave it out.",
                param=param,
            )

    def _add_extras(self, model: Model, request: ChatRequest) -> None:
        """Add what the model's deployments make of a request beyond what the client has sent."""
        extras = self._extras_of(model)
        if extras.added_bytes or extras.picture_tokens:
            request.prompt_estimate += extras.added_bytes // BYTES_PER_TOKEN
            request.prompt_bound += extras.added_bytes + request.pictures * extras.picture_tokens

    def _extras_of(self, model: Model) -> PaidExtras:
        extras = self._paid_extras.get(model.id)
        if extras is None:
            extras = self._paid_extras[model.id] = PaidExtras(model)
        return extras

    async def _take_for_key(self, key: Key, model: Model, request: ChatRequest) -> Taken:
        limits = key.limits
        if limits.tokens_per_minute is None and limits.budget_microusd is None:
            return await self._counters.take(key.id, limits)
        prices = model.prices if limits.budget_microusd is not None else None
        if prices is None and limits.budget_microusd is not None:
            raise _price_unknown(model)
        standing = await self._counters.standing(key.id, limits)
        most = reserve_for(request, model, prices, standing)
        taken = await self._counters.take(key.id, limits, most.tokens, most.cost_microusd)
        request.cap = most.cap
        request.cap_is_added = request.max_output_tokens is None
        return taken

    async def _take_for_guest(self, principal: Principal, model: Model) -> Taken:
        guests = self._guests
        if not guests.enabled:
            raise InvalidKey
        self.check_model(principal, model)
        return await self._counters.take(
            principal.scope, self._guest_limits, shared=self._all_guests
        )


def guest_limits(guests: Guests) -> tuple[GuestLimits, GuestLimits]:
    """Return the limits of each guest, and those of all guests together."""
    each = GuestLimits(
        requests_per_minute=guests.requests_per_minute,
        requests_per_day=guests.requests_per_day,
        concurrent_requests=guests.concurrent_requests,
    )
    together = GuestLimits(
        requests_per_minute=guests.total_requests_per_minute,
        requests_per_day=guests.total_requests_per_day,
    )
    return each, together


def check_files(request: ChatRequest) -> None:
    """Raise PayloadTooLarge when a request of the web app carries too large a file."""
    if request.largest_file_bytes > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"A file may have at most {MAX_FILE_BYTES // MIB} MiB.")


def cap_answer(request: ChatRequest, max_tokens: int) -> None:
    """Cap the answer at `max_tokens`; a request without a maximum gets this one."""
    asked = request.max_output_tokens
    request.max_output_tokens = request.cap = min(asked or max_tokens, max_tokens)
    request.cap_is_added = request.cap != asked


def _price_unknown(model: Model) -> Forbidden:
    return Forbidden(
        f"This key has a budget, but the price of {model.id} is not known, so the budget could not"
        " be kept. The owner can state the model's prices in roxy.toml or lift the key's budget.",
        param="model",
        code="price_unknown",
    )
