"""Whether the PostgreSQL database can be used, as its calls and the watch have found it."""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("roxy.store")


class DatabaseState:
    """Whether the database can be used; each change is one log line.

    `away` is why no call works, `read_only` and `failing` why writes do not; None: they work. Calls
    that fail set `wake`, so that `ChangeWatch` looks at once.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.away: str | None = None
        self.read_only: str | None = None
        self.failing: str | None = None
        self.wake = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Return the current trouble, or None."""
        return self.away or self.read_only or self.failing

    def note(self, *, away: str | None = None, read_only: str | None = None) -> None:
        """Keep what a look at the database has found."""
        before = self.trouble
        self.away, self.read_only = away, read_only
        self._tell(before)

    def note_write(self, failing: str | None) -> None:
        """Keep why the last write failed, of those that reached the database; None: it did not."""
        before = self.trouble
        self.failing = failing
        self._tell(before)

    def _tell(self, before: str | None) -> None:
        """Log the first failure and the recovery, not each call between."""
        if self.trouble is not None and before is None:
            log.error("the database %s cannot be used: %s", self.address, self.trouble)
        elif self.trouble is None and before is not None:
            log.warning("the database %s can be used again", self.address)
