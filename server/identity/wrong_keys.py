"""Limit how often a wrong key may be tried: per minute, by one address and by all together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from workers.errors import RateLimited

PER_ADDRESS = 10
BY_ALL = 100
WINDOW_S = 60.0


class WrongKeyLimit:
    """Count the wrong keys of the last minute.

    API requests are counted only once their key has proved wrong, so the right key always works.
    The sign-in form checks first: its answers must not confirm a guess. Keys are added only after
    a check, so at most `by_all` are remembered.
    """

    def __init__(
        self,
        per_address: int = PER_ADDRESS,
        by_all: int = BY_ALL,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_address = per_address
        self._by_all = by_all
        self._clock = clock
        self._wrong: deque[tuple[float, str]] = deque()

    def check(self, address: str, message: str = "Too many wrong keys were tried.") -> None:
        """Raise RateLimited if one address, or all of them, tried too many in the last minute."""
        now = self._clock()
        while self._wrong and now - self._wrong[0][0] >= WINDOW_S:
            self._wrong.popleft()
        own = [at for at, whose in self._wrong if whose == address]
        if len(own) >= self._per_address:
            oldest = own[-self._per_address]
        elif len(self._wrong) >= self._by_all:
            oldest = self._wrong[-self._by_all][0]
        else:
            return
        wait_s = max(oldest + WINDOW_S - now, 0.001)
        raise RateLimited(
            f"{message} Try again in {int(wait_s) + 1} s.",
            limit="wrong_keys",
            retry_after_s=wait_s,
            should_retry=False,  # an SDK would wait and send the same wrong key again
        )

    def add(self, address: str) -> None:
        """Count a wrong key."""
        self._wrong.append((self._clock(), address))

    def count(self, address: str) -> None:
        """Count a wrong key, or raise RateLimited if there were too many in the last minute."""
        self.check(
            address, "This API key is incorrect, and too many wrong keys were sent before it."
        )
        self.add(address)
