"""Limit the memory for request bodies: each one, and all that are in memory together.

Bytes count when they arrive, not when Content-Length announces them, and until the body is dropped:
that of a job which retries may outlive its client. One lane (a key, or all guests and unknown
clients together) may hold at most half of the room; the last quarter is the owner's.
"""

from __future__ import annotations

from server.identity.authentication import OWNER_SCOPE
from workers.errors import Overloaded, PayloadTooLarge


class BodyRoom:
    """Room for request bodies, in bytes."""

    def __init__(self, max_body_bytes: int, max_bodies_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._free = max_bodies_bytes
        self._owners = min(max_bodies_bytes // 4, max_bodies_bytes - max_body_bytes)
        self._most = max(max_bodies_bytes // 2, max_body_bytes)
        self._taken: dict[str, int] = {}

    def check(self, size: int, limit: int) -> None:
        """Raise PayloadTooLarge when a body of `size` bytes is over `limit`."""
        if size > limit:
            raise PayloadTooLarge(
                f"The request body is larger than {limit} bytes, the most this path takes."
            )

    def share(self, lane: str) -> BodyShare:
        """Return the room of one body, which has taken nothing yet."""
        return BodyShare(self, lane)

    def take(self, size: int, lane: str) -> None:
        """Take room. Raises Overloaded when the bodies in memory leave too little."""
        taken = self._taken.get(lane, 0)
        room = self._free
        if lane != OWNER_SCOPE:
            room = min(room - self._owners, self._most - taken)
        if size > room:
            raise Overloaded("Too many large requests are being received. Try again shortly.")
        self._free -= size
        self._taken[lane] = taken + size

    def give_back(self, size: int, lane: str) -> None:
        """Return room."""
        self._free += size
        left = self._taken[lane] - size
        if left:
            self._taken[lane] = left
        else:
            del self._taken[lane]


class BodyShare:
    """The room that one body holds, from its first byte until whoever holds the body drops it."""

    __slots__ = ("_lane", "_room", "size")

    def __init__(self, room: BodyRoom, lane: str) -> None:
        self.size = 0
        self._room = room
        self._lane = lane

    def grow(self, size: int) -> None:
        """Take room for the next piece. Raises Overloaded."""
        self._room.take(size, self._lane)
        self.size += size

    def release(self) -> None:
        """Return all of it; idempotent."""
        size, self.size = self.size, 0
        if size:
            self._room.give_back(size, self._lane)
