"""Announce to every child what others have changed in the store, before the change is answered.

When the DELETE of a key is answered, all children must refuse the key. So the keeper passes on a
change of one child to all the others, which acknowledge it once their key rings and sessions have
it. The keeper waits for no child longer than ACKNOWLEDGED_WITHIN_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from server.identity.wrong_keys import BY_ALL, WINDOW_S
from server.nodes.counter_calls import TROUBLES, WRONG_KEY, Troubles, WrongKey
from server.nodes.link import Link
from server.nodes.store_calls import CHANGED
from server.store.rows import StoreChanges
from workers.errors import GatewayError

log = logging.getLogger("roxy.nodes")

ACKNOWLEDGED_WITHIN_S = 1.0
MAX_WRONG_KEYS = 2 * BY_ALL
"""As many as count: those of the API and those of the form for signing in."""


class Announcements:
    """The links of all children; `aclose` waits for announcements under way.

    `own` takes over changes that a child has made: the keeper's key ring, which writes the export.
    A change waits for `acknowledged_s` at most until all children know it.
    """

    def __init__(
        self,
        own: Callable[[StoreChanges], None],
        *,
        acknowledged_s: float = ACKNOWLEDGED_WITHIN_S,
    ) -> None:
        self._own = own
        self._acknowledged_s = acknowledged_s
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wrong_keys: deque[tuple[float, WrongKey]] = deque(maxlen=MAX_WRONG_KEYS)
        self._troubles = Troubles(None, None)

    def add(self, link: Link) -> None:
        """Announce to a child from now on, until its link is lost."""
        self._links.add(link)
        link.on_lost(lambda: self._links.discard(link))
        self._forget_old()
        for _, wrong in self._wrong_keys:
            link.report(WRONG_KEY, wrong)
        link.report(TROUBLES, self._troubles)

    async def aclose(self) -> None:
        """Wait for announcements under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def announce(self, changes: StoreChanges, maker: Link | None = None) -> None:
        """Send changes to the keeper and all children but their maker, and wait for these."""
        self._own(changes)
        await self._announce([link for link in self._links if link is not maker], changes)

    def announce_foreign(self, changes: StoreChanges) -> None:
        """Send to all children what another gateway has changed in a shared store."""
        task = asyncio.create_task(
            self._announce(list(self._links), changes), name="changes of other nodes"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def announce_troubles(self, troubles: Troubles) -> None:
        """Report to all children, and to later ones, what is wrong now; once per change."""
        if troubles != self._troubles:
            self._troubles = troubles
            for link in self._links:
                link.report(TROUBLES, troubles)

    def pass_on_wrong_key(self, wrong: WrongKey, maker: Link) -> None:
        """Report a wrong key to all other children, and to those that start within its time."""
        self._forget_old()
        self._wrong_keys.append((time.monotonic(), wrong))
        for link in self._links:
            if link is not maker:
                link.report(WRONG_KEY, wrong)

    def _forget_old(self) -> None:
        since = time.monotonic() - WINDOW_S
        while self._wrong_keys and self._wrong_keys[0][0] < since:
            self._wrong_keys.popleft()

    async def _announce(self, links: list[Link], changes: StoreChanges) -> None:
        within_s = self._acknowledged_s
        known = await asyncio.gather(*(_acknowledged(link, changes, within_s) for link in links))
        if not all(known):
            log.warning(
                "%d processes have not acknowledged a change of keys or sessions within %g s",
                len(known) - sum(known),
                within_s,
            )


async def _acknowledged(link: Link, changes: StoreChanges, within_s: float) -> bool:
    """Return whether a child knows the changes, or has ended."""
    try:
        async with asyncio.timeout(within_s):
            await link.call(CHANGED, changes)
    except TimeoutError:
        return False
    except GatewayError:
        return link.is_lost
    return True
