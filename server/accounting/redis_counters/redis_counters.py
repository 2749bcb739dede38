"""Counters in Redis, shared by all nodes; see `server.accounting.counters.Counters`.

Every take is one script, which checks all limits and counts in one atomic step, by the clock of the
server. A running request is a lease there: it expires after 30 s unless this process renews
it, so that the places and reserves of a node that died come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from hiredis import ReplyError

from server.accounting.account import Account
from server.accounting.counters import Shared, Standing, Taken, lease_ids
from server.accounting.redis_counters.known_scopes import (
    MAX_SCOPES,
    MICROS,
    NO_BUCKETS,
    Argument,
    Held,
    KnownScope,
    KnownScopes,
    standing_arguments,
    take_arguments,
)
from server.accounting.redis_counters.local_shares import LocalShares
from server.accounting.redis_counters.redis_connection import Lost, RedisConnection
from server.accounting.redis_counters.redis_link import UNABLE, RedisLink, run_script
from server.accounting.redis_counters.redis_scripts import (
    BEAT,
    RENEW,
    SEED,
    STANDING,
    TAKE,
    Script,
)
from server.accounting.redis_counters.report_queue import ReportQueue
from server.config.redis_address import RedisAddress
from server.config.settings import WhenDown
from server.store.key import BudgetPeriod, Limits
from server.store.patience import StorePatience
from workers.errors import GatewayError, LimitsUnavailable

log = logging.getLogger("roxy.limits")

BEAT_S = 10.0
"""A node that is silent for three beats is gone: the other nodes share its part."""
TRIES = 3
NODES_KEY = "roxy:{nodes}"
LEFT_EPOCH = "*"
"""Stands for the data in which a process took that was killed: `settle.lua` knows it."""
SEND_REST_WITHIN_S = 2.0
PERIODS: tuple[BudgetPeriod, ...] = ("day", "week", "month", "total")

Spent = Callable[[str], Awaitable[Mapping[BudgetPeriod, int]]]
"""Returns the sums of a scope in the current periods, as the database knows them."""


class RedisCounters:
    """Count in Redis. `start` before use; `aclose` sends what is not acknowledged.

    `clock` replaces the server's clock, in Unix seconds, for tests. `beat_s` is the time between
    two signs of life, `max_scopes` how many scopes without running requests are remembered.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        node_id: str,
        when_down: WhenDown,
        spent: Spent,
        clock: Callable[[], float] | None = None,
        beat_s: float = BEAT_S,
        max_scopes: int = MAX_SCOPES,
        patience: StorePatience | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._when_down = when_down
        self._spent = spent
        self._given_clock = clock
        self._beat_s = beat_s
        self._lease_ids = lease_ids()
        self._name = f"{node_id}#{next(self._lease_ids)[:8]}"
        self._patience = patience or StorePatience()
        self._link = RedisLink(
            address, f"roxy-{node_id}", self._first_beat, self._changed, self._patience
        )
        self._reports = ReportQueue(self._link, self._clock, clock or self._loop.time)
        self._scopes = KnownScopes(max_scopes)
        self._shares = LocalShares(when_down)
        self._seeding: dict[str, tuple[asyncio.Task[None], float]] = {}
        self._beating: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._nodes: tuple[str, ...] = (self._name,)
        self._seen: dict[str, float] = {}

    async def start(self) -> None:
        """Connect. Raises StoreFailure with one line that says what to do."""
        await self._link.start()
        self._beating = self._loop.create_task(self._beat(), name="redis-beat")

    async def aclose(self) -> None:
        """Send what is not acknowledged, for a bounded time, and leave."""
        for task in (self._beating, *(task for task, _ in self._seeding.values())):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
        if len(self._reports):
            await self._reports.wait_empty(SEND_REST_WITHIN_S)
        if self._link.trouble is None:
            with contextlib.suppress(Lost, ReplyError):
                await self._run(BEAT, (NODES_KEY,), (self._clock(), self._name, ""))
        await self._link.aclose()

    @property
    def trouble(self) -> str | None:
        """One phrase while Redis is away, else None."""
        if self._link.trouble is None:
            return None
        return f"Redis is away: {self._link.trouble}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The node ids of all processes that lived at the last beat, this one among them."""
        return tuple(sorted(name.rpartition("#")[0] for name in self._nodes))

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take everything or nothing; see the protocol."""
        known = self._scopes.open(scope)
        together = self._scopes.open(shared.scope) if shared is not None else None
        counted = tokens if limits.tokens_per_minute is not None else None
        lease = next(self._lease_ids)
        member = f"{cost_microusd}:{'' if counted is None else counted}:{lease}"
        found: tuple[Standing, str] | None = None
        if self._link.trouble is None:
            try:
                found = await self._take_there(
                    (known, limits), (together, shared), lease, (tokens, cost_microusd)
                )
            except (Lost, asyncio.CancelledError) as error:
                keys = known.keys + (together.keys if together is not None else ())
                self._reports.give_back(keys, member, unsure=True)
                if not isinstance(error, Lost):
                    raise
                lease = next(self._lease_ids)
                member = f"{member.rpartition(':')[0]}:{lease}"
            except ReplyError as error:
                self._refused_by_server(error)
        if found is None:
            use, nodes = (tokens, cost_microusd), len(self._seen)
            alone = self._shares.take(known, limits, use, shared, nodes, self._loop.time())
            found = (alone, "")
        standing, epoch = found
        # Opened again: it may have been dropped for others while this take waited.
        self._scopes.open(scope).leases[lease] = Held(
            member, epoch, together, None if epoch else limits
        )
        name = together.name if together is not None else ""
        return Taken(scope, counted, cost_microusd, name, lease, standing)

    def settle(self, taken: Taken, tokens: int, cost_microusd: int) -> None:
        """Replace what was taken by the true usage; see the protocol."""
        found = self._end(taken)
        if found is not None:
            known, held, keys = found
            self._shares.settle(taken, tokens, self._loop.time())
            lease, use = (held.member, held.epoch), (tokens, cost_microusd)
            money = not known.is_guest
            self._reports.settle(keys, lease, use, held.limits, counts_money=money)

    def settle_left(
        self, taken: Taken, tokens: int, cost_microusd: int, ago_s: float = 0.0
    ) -> None:
        """Settle a lease of a process that was killed, unless it has ended before.

        The request ended `ago_s` before. What its process took while Redis was away is not known.
        """
        known = KnownScope(taken.scope)
        shared = KnownScope(taken.shared).keys if taken.shared else ()
        counted = "" if taken.tokens is None else taken.tokens
        member = f"{taken.cost_microusd}:{counted}:{taken.lease}"
        lease, use = (member, LEFT_EPOCH), (tokens, cost_microusd)
        self._reports.settle(
            known.keys + shared,
            lease,
            use,
            NO_BUCKETS,
            counts_money=not known.is_guest,
            ago_s=ago_s,
        )

    def give_back(self, taken: Taken) -> None:
        """Return everything that was taken; see the protocol."""
        found = self._end(taken)
        if found is not None:
            _, held, keys = found
            self._shares.give_back(taken, self._loop.time())
            self._reports.give_back(keys, held.member)

    async def standing(self, scope: str, limits: Limits) -> Standing:
        """Return what remains now; while Redis is away, as far as it is known here."""
        known = self._scopes.find(scope) or KnownScope(scope)
        if self._link.trouble is None:
            with contextlib.suppress(Lost, ReplyError, LimitsUnavailable):
                return await self._standing_there(known, limits)
        found = known.standing(limits, self._loop.time())
        return Account().with_limits(limits, 0.0).standing(0.0, 0.0) if found is None else found

    def known_standing(self, scope: str, limits: Limits) -> Standing | None:
        """Return what remains as far as it is known in this process; None: nothing is known."""
        known = self._scopes.find(scope)
        return known.standing(limits, self._loop.time()) if known is not None else None

    # Asking Redis

    async def _run(self, script: Script, keys: tuple[str, ...], args: tuple[Argument, ...]) -> Any:
        """Run a script and return its reply. Raises Lost or ReplyError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._link.run(script, keys, args, partial(_resolve, answer))
        reply = await answer
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _take_there(
        self,
        own: tuple[KnownScope, Limits],
        other: tuple[KnownScope | None, Shared | None],
        lease: str,
        use: tuple[int, int],
    ) -> tuple[Standing, str]:
        """Take in Redis, which is asked once, and again after it was seeded.

        Returns the standing and the epoch of the data that hold the lease.
        """
        known, limits = own
        together, shared = other
        for _ in range(TRIES):
            keys: tuple[str, ...] = known.keys
            args: tuple[Argument, ...] = (self._clock(), lease, *use)
            args += take_arguments(known, limits)
            if together is not None and shared is not None:
                keys = known.keys + together.keys
                args += take_arguments(together, shared.limits)
            replies = await self._run(TAKE, keys, args)
            status = replies[0][0]
            if status == b"seed":
                await self._seed(known, limits, replies[0])
                if together is not None and shared is not None:
                    await self._seed(together, shared.limits, replies[1])
                continue
            now = self._loop.time()
            known.learn(replies[0], limits, now)
            if together is not None and shared is not None:
                together.learn(replies[1], shared.limits, now)
            if status == b"taken":
                return _exact(known.standing(limits, now)), known.epoch
            if status == b"refused":
                raise _refusal(known, use, now, together=False)
            if status == b"together" and together is not None:
                raise _refusal(together, (0, 0), now, together=True)
            break
        raise LimitsUnavailable(retry_after_s=1.0)

    async def _standing_there(self, known: KnownScope, limits: Limits) -> Standing:
        for _ in range(TRIES):
            args = (self._clock(), *standing_arguments(known, limits))
            reply = await self._run(STANDING, known.keys, args)
            if reply[0] != b"seed":
                shown = KnownScope(known.name)
                shown.learn(reply, limits, self._loop.time())
                return _exact(shown.standing(limits, shown.at))
            await self._seed(known, limits, reply)
        raise LimitsUnavailable(retry_after_s=1.0)

    async def _seed(self, known: KnownScope, limits: Limits, reply: list[bytes | int]) -> None:
        """Bring what this node and the database know into Redis; once for all that wait for it."""
        lost = known.epoch not in ("", _text(reply[1]))
        if not lost and limits.budget_microusd is None:
            return
        task, until = self._seeding_of(known, limits, lost=lost)
        try:
            async with asyncio.timeout_at(until):
                await asyncio.shield(task)
        except TimeoutError as error:
            raise LimitsUnavailable(retry_after_s=1.0) from error

    def _seeding_of(
        self, known: KnownScope, limits: Limits | None, *, lost: bool
    ) -> tuple[asyncio.Task[None], float]:
        """Return the task that seeds a scope, a new one if none runs, and when waiting ends."""
        found = self._seeding.get(known.name)
        if found is None:
            seeding = self._seed_once(known, limits, lost=lost)
            task = self._loop.create_task(seeding, name="redis-seed")
            until = self._loop.time() + self._patience.sums_s
            found = self._seeding[known.name] = (task, until)
            task.add_done_callback(partial(self._seeded, known))
        return found

    async def _seed_once(self, known: KnownScope, limits: Limits | None, *, lost: bool) -> None:
        """Write the sums of the database, and the levels known here if Redis has lost them.

        A key without a budget needs no sums, and so no database, which may be away as well. They
        are read when it is given one.
        """
        args: tuple[Argument, ...] = (self._clock(), next(self._lease_ids))
        sums: tuple[Argument, ...] = ("",)
        without = limits is not None and limits.budget_microusd is None
        if not known.is_guest and not without:
            try:
                spent = await self._spent(known.name)
            except GatewayError as error:
                raise LimitsUnavailable(retry_after_s=1.0) from error
            sums = ("1", *(spent.get(period, 0) for period in PERIODS))
        # What this node saw last may be old; it is better than nothing, and only than that.
        args += known.levels(self._loop.time()) if lost else ("",) * 6
        args += sums
        known.epoch = _text(await self._run(SEED, known.keys, args))
        self._renew(known)

    # Leases

    def _end(self, taken: Taken) -> tuple[KnownScope, Held, tuple[str, ...]] | None:
        """End a lease of this process; None: it has ended before."""
        known = self._scopes.find(taken.scope)
        held = known.leases.pop(taken.lease, None) if known is not None else None
        if known is None or held is None:
            return None
        return known, held, known.keys + (held.shared.keys if held.shared is not None else ())

    def _renew(self, known: KnownScope) -> None:
        """Renew all leases on a scope; those that Redis has lost are taken up again."""
        if not known.leases or self._link.trouble is not None:
            return
        sent = list(known.leases.values())
        args: list[Argument] = [self._clock(), known.epoch]
        for held in sent:
            args += (held.epoch, held.member, *held.limits)
        self._link.run(RENEW, known.keys, tuple(args), partial(self._renewed, known, sent))
        # The scope of all guests has no limit of running requests, so nothing is renewed there.

    def _renewed(self, known: KnownScope, sent: list[Held], reply: Any) -> None:
        if isinstance(reply, ReplyError):
            self._refused_by_server(reply)
        elif isinstance(reply, bytes) and reply:
            for held in sent:
                held.epoch = reply.decode()
        elif isinstance(reply, bytes):
            self._seeding_of(known, known.limits, lost=True)

    def _seeded(self, known: KnownScope, task: asyncio.Task[None]) -> None:
        self._seeding.pop(known.name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("what is known of %s could not be written to Redis: %s", known.name, error)

    # Signs of life

    async def _first_beat(self, connection: RedisConnection) -> None:
        """Write once through a new connection: a server that cannot write is away."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        args = (self._clock(), self._name, int(3 * self._beat_s * MICROS))
        run_script(connection, BEAT, (NODES_KEY,), args, partial(_resolve, answer))
        reply = await answer
        if isinstance(reply, Exception):
            raise reply
        self._meet(reply)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            if self._link.trouble is not None:
                continue
            for known in self._scopes:
                self._renew(known)
            args = (self._clock(), self._name, int(3 * self._beat_s * MICROS))
            with contextlib.suppress(Lost, ReplyError):
                self._meet(await self._run(BEAT, (NODES_KEY,), args))

    def _meet(self, names: list[bytes]) -> None:
        """Note who lives. A Redis that was restarted empty knows only who has beaten since."""
        now = self._loop.time()
        self._nodes = tuple(map(_text, names))
        since = now - 3 * self._beat_s
        seen = {name: at for name, at in self._seen.items() if at > since}
        self._seen = seen | dict.fromkeys(self._nodes, now)

    def _changed(self, trouble: str | None) -> None:
        """Note that Redis went away or is back."""
        if trouble is not None:
            self._away_since = self._loop.time()
            log.error(
                'Redis at %s is away: %s; limits.when_store_is_down is "%s"',
                self._address,
                trouble,
                self._when_down,
            )
            return
        self._shares.clear()
        if self._away_since is not None:
            away_s = self._loop.time() - self._away_since
            self._away_since = None
            log.warning(
                "Redis at %s is back after %.1f s; %d requests of that time are counted now",
                self._address,
                away_s,
                len(self._reports),
            )
        # Before any later take: what was kept, then the running leases.
        self._reports.send_kept()
        for known in self._scopes:
            self._renew(known)

    def _refused_by_server(self, error: ReplyError) -> None:
        """Treat an error reply as a server that is away: it cannot do what it must."""
        if not str(error).startswith(UNABLE):
            log.error("Redis refused a script: %s", error)
        self._link.fail(str(error))

    def _clock(self) -> Argument:
        return "" if self._given_clock is None else round(self._given_clock() * MICROS)


def _resolve(answer: asyncio.Future[Any], reply: Any) -> None:
    """Hand a reply to who waits for it, unless it has left."""
    if not answer.done():
        answer.set_result(reply)


def _refusal(
    known: KnownScope, use: tuple[int, int], now: float, *, together: bool
) -> GatewayError:
    """Return the error for a scope that has just refused, made as counters in memory make it."""
    account = known.account()
    assert account is not None
    tokens, cost_microusd = use
    return account.refusal(tokens, cost_microusd, now, known.wall_at(now), together=together)


def _exact(standing: Standing | None) -> Standing:
    assert standing is not None
    return standing


def _text(value: bytes | int) -> str:
    assert isinstance(value, bytes)
    return value.decode()
