"""The backends of a store: the same tests run against each of them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from server.store.store import Store


class Backend(Protocol):
    """Opens the same store again and again, as restarts do."""

    def __call__(self) -> AbstractAsyncContextManager[Store]:
        """Open it; the block closes it."""
