"""Carry the levels of limits that were counted in memory into Redis: `roxy migrate --from`.

Only the buckets: what keys have spent is counted from the usage in the database when a node first
asks, and nothing runs. The larger level wins, so that a repeated copy changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from hiredis import ReplyError

from server.accounting.account import WINDOW_S, Account
from server.accounting.counters import lease_ids
from server.accounting.redis_counters.known_scopes import Argument, KnownScope, bucket_levels
from server.accounting.redis_counters.redis_connection import Lost
from server.accounting.redis_counters.redis_link import RedisLink
from server.accounting.redis_counters.redis_scripts import SEED
from server.store.key import Limits
from server.store.rows import CounterRow
from server.store.store import StoreFailure

AT_ONCE = 1000
"""Scopes on their way at the same time."""


async def carry_levels(
    link: RedisLink, rows: Sequence[CounterRow], limits_of: Callable[[str], Limits | None]
) -> int:
    """Write the levels of saved counters, and return how many scopes there are.

    `limits_of` returns the limits of a scope; None: it is not counted any more.
    Raises StoreFailure.
    """
    scopes = [
        (KnownScope(name).keys, bucket_levels(account, 0.0))
        for name, account in _accounts(rows, limits_of).items()
    ]
    numbers = lease_ids()
    for start in range(0, len(scopes), AT_ONCE):
        some = scopes[start : start + AT_ONCE]
        await asyncio.gather(*(_seed(link, *one, next(numbers)) for one in some))
    return len(scopes)


def _accounts(
    rows: Sequence[CounterRow], limits_of: Callable[[str], Limits | None]
) -> dict[str, Account]:
    """Return the accounts whose buckets hold anything now, which is 0.0 by their clock."""
    wall = time.time()
    found: dict[str, Account] = {}
    for row in rows:
        if wall - row.updated_at < WINDOW_S.get(row.kind, 0.0):
            found.setdefault(row.scope, Account()).restore(row, 0.0, wall)
    for scope in list(found):
        limits = limits_of(scope)
        if limits is None:
            del found[scope]
        else:
            found[scope].adopt(limits, 0.0)
    return found


async def _seed(
    link: RedisLink, keys: tuple[str, ...], levels: tuple[Argument, ...], number: str
) -> None:
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    link.run(SEED, keys, ("", number, *levels, ""), answer.set_result)
    reply = await answer
    if isinstance(reply, Lost | ReplyError):
        raise StoreFailure(
            f"the levels of limits cannot be written to Redis ({reply}); repeat the command"
        )
