"""The registry of nodes that share PostgreSQL and have no Redis.

Nodes and claims are rows of the table `leases`, which expire by the clock of the server: the clocks
of two nodes may differ. Claims that come while a statement runs share the next one, so that many
requests with ids of their own cost few commits.

While the database is away, ids are claimed in this process only, and the nodes are those known
last, as in `redis_registry.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from server.answers.peers import NodeSeen
from server.nodes.peers.node_registry import FORGOTTEN_AFTER_S, with_own
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from asyncpg import Record

    from server.store.postgres.connector import Connection
    from server.store.postgres.postgres_connections import Connections

log = logging.getLogger("roxy.nodes")

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

CLAIM_S = 60
RENEW_S = 20.0
AT_ONCE = 1000
"""Claims that one statement renews."""
NODE = "node:"
REQUEST = "request:"

# Sorted, so that two nodes that write the same rows wait for each other and do not deadlock.
CLAIM = (
    "INSERT INTO leases (name, holder, expires_at)"
    f" SELECT name, holder, now() + interval '{CLAIM_S} s'"
    " FROM unnest($1::text[], $2::text[]) AS new (name, holder) ORDER BY name"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
    " WHERE leases.holder = excluded.holder OR leases.expires_at < now() RETURNING name"
)
RELEASE = (
    "DELETE FROM leases USING unnest($1::text[], $2::text[]) AS old (name, holder)"
    " WHERE leases.name = old.name AND leases.holder = old.holder"
)
FIND = "SELECT holder FROM leases WHERE name = $1 AND expires_at > now()"
DROP = f"DELETE FROM leases WHERE name LIKE '{REQUEST}%' AND holder = ANY ($1)"
REPORT = (
    "INSERT INTO leases (name, holder, expires_at)"
    f" VALUES ($1, $2, now() + interval '{FORGOTTEN_AFTER_S} s')"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
)
NODES = (
    f"SELECT holder, {FORGOTTEN_AFTER_S} - extract(epoch FROM expires_at - now()) AS age_s"
    f" FROM leases WHERE name LIKE '{NODE}%' AND expires_at > now()"
)
PRUNE = (
    f"DELETE FROM leases WHERE name LIKE ANY (ARRAY['{NODE}%', '{REQUEST}%'])"
    " AND expires_at < now()"
)


class Gathered(Generic[Item, Result]):
    """Pass items to `run` in groups: those that come while one group runs are the next.

    `run` returns a result for each item, or raises StoreUnavailable: then all get `otherwise`.
    """

    def __init__(
        self, run: Callable[[list[Item]], Awaitable[Sequence[Result]]], otherwise: Result
    ) -> None:
        self._run = run
        self._otherwise = otherwise
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """Return the result for an item."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = loop.create_task(self._drain(), name="registry of nodes")
        return await answer

    async def aclose(self) -> None:
        """Wait for what is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            results: Sequence[Result] = [self._otherwise] * len(group)
            try:
                results = await self._run([item for item, _ in group])
            except StoreUnavailable as error:
                log.debug("the registry of nodes cannot be asked: %s", error)
            finally:
                for (_, answer), result in zip(group, results, strict=True):
                    if not answer.done():
                        answer.set_result(result)
        self._task = None


class PostgresRegistry:
    """The `NodeRegistry` in PostgreSQL. `start` before use, `aclose` at the end."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._claims: dict[str, str] = {}
        self._nodes: Sequence[NodeSeen] = ()
        self._own: NodeSeen | None = None
        self._claiming = Gathered(self._claim_all, otherwise=True)
        self._releasing = Gathered(self._release_all, otherwise=None)
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep the claims of this node from expiring, from now on."""
        loop = asyncio.get_running_loop()
        self._renewing = loop.create_task(self._renew(), name="renewal of claims")

    async def aclose(self) -> None:
        """Release all claims of this node."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self._claiming.aclose()
        await self._releasing.aclose()
        tags, self._claims = set(self._claims.values()), {}
        await self._drop(tags)

    async def report(self, node: NodeSeen) -> None:
        """Report that a node is there. Raises StoreUnavailable."""
        self._own = node
        values = (NODE + node.id, msgspec.json.encode(node).decode())
        await self._connections.run(lambda db: db.execute(REPORT, *values))

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes; while the database is away those known last, as they were then."""
        rows = await self._ask(lambda db: db.fetch(NODES))
        found = []
        for row in rows if rows is not None else ():
            # A newer version of the gateway may report more; an unreadable report is left out.
            with contextlib.suppress(msgspec.DecodeError):
                node = msgspec.json.decode(row["holder"], type=NodeSeen)
                found.append(replace(node, seen_s=max(float(row["age_s"]), 0.0)))
        if rows is not None:
            self._nodes = found
        return with_own(self._nodes, self._own)

    async def claim(self, request_id: str, tag: str) -> bool:
        """Claim an id for a process; False: another one has it."""
        if self._claims.setdefault(request_id, tag) != tag:
            return False
        free = await self._claiming.ask((REQUEST + request_id, tag))
        if not free and self._claims.get(request_id) == tag:
            del self._claims[request_id]
        return free

    async def release(self, request_id: str, tag: str) -> None:
        """Release the claim of a process; that of another one stays."""
        if self._claims.get(request_id) == tag:
            del self._claims[request_id]
            await self._releasing.ask((REQUEST + request_id, tag))

    async def find(self, request_id: str) -> str | None:
        """Return the tag of the process that has claimed an id."""
        own = self._claims.get(request_id)
        if own is not None or "\0" in request_id:
            return own
        return await self._ask(lambda db: db.fetchval(FIND, REQUEST + request_id))

    async def drop(self, tag: str) -> None:
        """Release all claims of a process that has ended."""
        self._claims = {one: holder for one, holder in self._claims.items() if holder != tag}
        await self._drop({tag})

    async def _drop(self, tags: set[str]) -> None:
        if tags:
            await self._ask(lambda db: db.execute(DROP, list(tags)))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            claims = [(REQUEST + one, tag) for one, tag in self._claims.items()]
            for start in range(0, len(claims), AT_ONCE):
                with contextlib.suppress(StoreUnavailable):
                    await self._claim_all(claims[start : start + AT_ONCE])
            await self._ask(lambda db: db.execute(PRUNE))

    async def _claim_all(self, claims: list[tuple[str, str]]) -> list[bool]:
        names, tags = map(list, zip(*claims, strict=True))
        work = partial(_fetch, CLAIM, names, tags)
        had = {row["name"] for row in await self._connections.run(work)}
        return [name in had for name in names]

    async def _release_all(self, claims: list[tuple[str, str]]) -> list[None]:
        # An id that was claimed again meanwhile stays.
        over = [one for one in claims if one[0].removeprefix(REQUEST) not in self._claims]
        if over:
            names, tags = map(list, zip(*over, strict=True))
            await self._connections.run(lambda db: db.execute(RELEASE, names, tags))
        return [None] * len(claims)

    async def _ask(self, work: Callable[[Connection], Awaitable[T]]) -> T | None:
        """Return what `work` does, or None while the database is away."""
        try:
            return await self._connections.run(work)
        except StoreUnavailable as error:
            log.debug("the registry of nodes cannot be asked: %s", error)
            return None


async def _fetch(statement: str, names: Any, tags: Any, db: Connection) -> list[Record]:
    return await db.fetch(statement, names, tags)
