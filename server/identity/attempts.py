"""How often a wrong key may be tried: so many times a minute per address, and by all together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from workers.errors import RateLimited

PER_ADDRESS = 10
BY_ALL = 100
WINDOW_S = 60.0


class Attempts:
    """Count failures of the last minute; at most `by_all` are remembered."""

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
        self._failures: deque[tuple[float, str]] = deque()

    def check(self, address: str, said: str = "Too many wrong keys were tried.") -> None:
        """Raise RateLimited when an address, or all of them, have failed too often lately."""
        now = self._clock()
        while self._failures and now - self._failures[0][0] >= WINDOW_S:
            self._failures.popleft()
        own = [at for at, whose in self._failures if whose == address]
        if len(own) >= self._per_address:
            oldest = own[-self._per_address]
        elif len(self._failures) >= self._by_all:
            oldest = self._failures[-self._by_all][0]
        else:
            return
        wait_s = max(oldest + WINDOW_S - now, 0.001)
        raise RateLimited(
            f"{said} Try again in {int(wait_s) + 1} s.",
            limit="attempts",
            retry_after_s=wait_s,
            should_retry=False,  # an SDK would wait and send the same wrong key again
        )

    def note_failure(self, address: str) -> None:
        """Count a wrong key, after `check`."""
        self._failures.append((self._clock(), address))

    def count(self, address: str) -> None:
        """Count a wrong key, or raise RateLimited when there have been too many lately."""
        self.check(address, "This API key is incorrect, as were too many before it.")
        self.note_failure(address)
