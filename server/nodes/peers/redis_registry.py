"""The registry of nodes that share Redis.

Claims are keys that are set only where they are absent and that expire, so that those of a node
that died come back; a store in which every node can ask "is it mine" in one step is needed anyway,
and Redis answers it without a transaction or a table to clean up. Nodes are rows of one hash, with
the time of the server at which they were seen: the clocks of two nodes may differ.

While Redis is away, ids are claimed in this process only: that two requests have one id is the
lesser harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from hiredis import ReplyError
from msgspec.structs import replace

from server.accounting.redis_counters.redis_connection import Lost, RedisConnection
from server.accounting.redis_counters.redis_link import RedisLink
from server.accounting.redis_counters.redis_scripts import Script
from server.answers.peers import NodeSeen
from server.config.redis_address import RedisAddress
from server.nodes.peers.node_registry import FORGOTTEN_AFTER_S, with_own
from server.store.patience import StorePatience

log = logging.getLogger("roxy.nodes")

CLAIM_S = 60
RENEW_S = 20.0
NODES_KEY = "roxy:{registry}:nodes"
SEEN_KEY = "roxy:{registry}:seen"


def _script(name: str, text: str) -> Script:
    # SHA-1 is what EVALSHA takes (redis.io/commands/evalsha); nothing secret depends on it.
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


CLAIM = _script(
    "claim",
    """-- Claim an id. KEYS: the claim. ARGV: the process, seconds. Returns the process that has it.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return ARGV[1] end
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return holder""",
)
RELEASE = _script(
    "release",
    """-- Release a claim. KEYS: the claim. ARGV: the process.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1""",
)
FIND = _script("find", "return redis.call('GET', KEYS[1])")
REGISTER = _script(
    "register",
    """-- Note that a node was seen and return all with their age. KEYS: nodes, times. ARGV: the
-- node, what it reports ('' only reads), and seconds after which a node is forgotten.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now))
end
local found = {}
for _, node in ipairs(redis.call('HKEYS', KEYS[2])) do
  local age = now - tonumber(redis.call('HGET', KEYS[2], node))
  if age > tonumber(ARGV[3]) * 1000 then
    redis.call('HDEL', KEYS[1], node)
    redis.call('HDEL', KEYS[2], node)
  else
    local said = redis.call('HGET', KEYS[1], node)
    if said then found[#found + 1] = {said, string.format('%.0f', age)} end
  end
end
return found""",
)


class RedisRegistry:
    """The `NodeRegistry` in Redis. `start` before use, `aclose` at the end."""

    def __init__(
        self, address: RedisAddress, node_id: str, patience: StorePatience | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        name = f"roxy-registry-{node_id}"
        self._link = RedisLink(address, name, _load, lambda _reason: None, patience)
        self._claims: dict[str, str] = {}
        self._nodes: Sequence[NodeSeen] = ()
        self._own: NodeSeen | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises StoreFailure."""
        await self._link.start()
        self._renewing = self._loop.create_task(self._renew(), name="renewal of claims")

    async def aclose(self) -> None:
        """Release all claims of this node and disconnect."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        for tag in set(self._claims.values()):
            await self.drop(tag)
        await self._link.aclose()

    async def report(self, node: NodeSeen) -> None:
        """Report that a node is there."""
        self._own = node
        await self._register(node.id, msgspec.json.encode(node).decode())

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes; while Redis is away those known last, as they were then.

        They do not age meanwhile: no node can report itself, so that all would count as gone.
        """
        await self._register("", "")
        return with_own(self._nodes, self._own)

    async def claim(self, request_id: str, tag: str) -> bool:
        """Claim an id for a process; False: another one has it."""
        if self._claims.setdefault(request_id, tag) != tag:
            return False
        holder = await self._ask(CLAIM, _key(request_id), tag, CLAIM_S)
        if holder is None or holder == tag.encode():
            return True
        if self._claims.get(request_id) == tag:
            del self._claims[request_id]
        return False

    async def release(self, request_id: str, tag: str) -> None:
        """Release the claim of a process; that of another one stays."""
        if self._claims.get(request_id) == tag:
            del self._claims[request_id]
            await self._ask(RELEASE, _key(request_id), tag)

    async def find(self, request_id: str) -> str | None:
        """Return the tag of the process that has claimed an id."""
        own = self._claims.get(request_id)
        if own is not None:
            return own
        holder = await self._ask(FIND, _key(request_id))
        return holder.decode() if isinstance(holder, bytes) else None

    async def drop(self, tag: str) -> None:
        """Release all claims of a process that has ended."""
        for request_id in [one for one, holder in self._claims.items() if holder == tag]:
            await self.release(request_id, tag)

    async def _renew(self) -> None:
        """Keep the claims from expiring, in pieces that do not hold up the loop."""
        while True:
            await asyncio.sleep(RENEW_S)
            for number, (request_id, tag) in enumerate(list(self._claims.items())):
                if self._claims.get(request_id) == tag:
                    await self._ask(CLAIM, _key(request_id), tag, CLAIM_S)
                if number % 100 == 0:
                    await asyncio.sleep(0)

    async def _register(self, node_id: str, said: str) -> None:
        keys = (NODES_KEY, SEEN_KEY)
        reply = await self._run(REGISTER, keys, (node_id, said, int(FORGOTTEN_AFTER_S)))
        if reply is None:
            return
        found = []
        for sent, age_ms in reply:
            # A newer version of the gateway may report more; an unreadable report is left out.
            with contextlib.suppress(msgspec.DecodeError):
                node = msgspec.json.decode(sent, type=NodeSeen)
                found.append(replace(node, seen_s=int(age_ms) / 1000))
        self._nodes = found

    async def _ask(self, script: Script, key: str, *args: str | int) -> Any:
        return await self._run(script, (key,), args)

    async def _run(
        self, script: Script, keys: tuple[str, ...], args: tuple[str | int, ...]
    ) -> Any | None:
        """Return the reply of a script, or None while Redis is away."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._link.run(
            script, keys, args, lambda reply: None if answer.done() else answer.set_result(reply)
        )
        reply = await answer
        if isinstance(reply, Lost | ReplyError):
            log.debug("the registry of nodes cannot be asked: %s", reply)
            return None
        return reply


def _key(request_id: str) -> str:
    return f"roxy:{{claim:{request_id}}}"


async def _load(connection: RedisConnection) -> None:
    """Load the scripts: one that is missing is sent again, behind what was asked after it.

    A release would then end the claim that was made after it.
    """
    for script in (CLAIM, RELEASE, FIND, REGISTER):
        await connection.ask("SCRIPT", "LOAD", script.text)
