"""Settlements and give-backs on their way to Redis, each sent until it is acknowledged.

The scripts count a lease's end once, so repeating one whose acknowledgement was lost is safe.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from hiredis import ReplyError

from server.accounting.redis_counters.known_scopes import Argument
from server.accounting.redis_counters.redis_connection import Lost
from server.accounting.redis_counters.redis_link import UNABLE, RedisLink
from server.accounting.redis_counters.redis_scripts import GIVE_BACK, SETTLE, Script

log = logging.getLogger("roxy.limits")

MAX_REPORTS = 100_000
"""About 50 MB. Beyond it the oldest is dropped and logged."""
AT_ONCE = 1_000
"""Reports on their way at the same time after Redis was away."""


class Report:
    """The end of one lease. `settled_at` is by the clock of the queue."""

    __slots__ = ("after", "before", "keys", "script", "settled_at")

    def __init__(
        self,
        script: Script,
        keys: tuple[str, ...],
        before: tuple[Argument, ...],
        after: tuple[Argument, ...] = (),
        settled_at: float | None = None,
    ) -> None:
        self.script = script
        self.keys = keys
        self.before = before
        self.after = after
        self.settled_at = settled_at

    def arguments(self, now: float) -> tuple[Argument, ...]:
        """Return the script's arguments, with the time since the lease ended."""
        if self.settled_at is None:
            return self.before
        return (*self.before, f"{(now - self.settled_at) * 1e6:.0f}", *self.after)


class ReportQueue:
    """Send reports in order and keep those that are not acknowledged.

    `clock` returns what scripts take as the time; `now` measures seconds.
    """

    def __init__(
        self, link: RedisLink, clock: Callable[[], Argument], now: Callable[[], float]
    ) -> None:
        self._link = link
        self._clock = clock
        self._now = now
        self._kept: dict[int, Report] = {}
        self._unsent: deque[int] = deque()
        self._on_their_way = 0
        self._number = 0
        self._emptied: asyncio.Event = asyncio.Event()
        self._emptied.set()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def settle(
        self,
        keys: tuple[str, ...],
        lease: tuple[str, str],
        use: tuple[int, int],
        limits: tuple[Argument, ...],
        *,
        counts_money: bool,
        ago_s: float = 0.0,
    ) -> None:
        """Report the true tokens and cost of a lease, given by its member and epoch."""
        before, after = (*lease, *use), ("1" if counts_money else "", *limits)
        self._add(Report(SETTLE, keys, before, after, self._now() - ago_s))

    def give_back(self, keys: tuple[str, ...], member: str, *, unsure: bool = False) -> None:
        """Report that a lease's request never ran; `unsure`: the take may not have been counted."""
        self._add(Report(GIVE_BACK, keys, (member, "1" if unsure else "")))

    def send_kept(self) -> None:
        """Send what is kept; call it when Redis is back."""
        self._unsent = deque(self._kept)
        self._send_more()

    async def wait_empty(self, within_s: float) -> None:
        """Wait until everything was acknowledged, or for `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self._emptied.wait()
        except TimeoutError:
            log.error("%d settled requests could not be sent to Redis", len(self._kept))

    def _add(self, report: Report) -> None:
        self._number += 1
        self._kept[self._number] = report
        self._emptied.clear()
        self._unsent.append(self._number)
        self._send_more()
        if len(self._kept) > MAX_REPORTS:
            if not self.dropped:
                log.error("Redis has been away for so long that the oldest settlements are dropped")
            self.dropped += 1
            self._forget(next(iter(self._kept)))

    def _send_more(self) -> None:
        while self._unsent and self._link.trouble is None and self._on_their_way < AT_ONCE:
            number = self._unsent.popleft()
            if (report := self._kept.get(number)) is not None:
                self._on_their_way += 1
                args = (self._clock(), *report.arguments(self._now()))
                self._link.run(report.script, report.keys, args, partial(self._answered, number))

    def _answered(self, number: int, reply: Any) -> None:
        self._on_their_way -= 1
        if isinstance(reply, Lost):
            return  # kept, and sent again when Redis is back
        if isinstance(reply, ReplyError) and str(reply).startswith(UNABLE):
            self._link.fail(str(reply))
            return
        if isinstance(reply, ReplyError):
            log.error("Redis did not accept the end of a request: %s", reply)
        self._forget(number)
        self._send_more()

    def _forget(self, number: int) -> None:
        self._kept.pop(number, None)
        if not self._kept:
            self._unsent.clear()
            self._emptied.set()
