"""Room for request bodies: each is capped, and so are all that are in memory at once."""

from __future__ import annotations

from workers.errors import Overloaded, PayloadTooLarge


class BodyRoom:
    """Hand out room for bodies in bytes."""

    def __init__(self, max_body_bytes: int, max_bodies_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._free = max_bodies_bytes

    def check(self, size: int, limit: int) -> None:
        """Raise PayloadTooLarge when a body of `size` bytes is over `limit`."""
        if size > limit:
            raise PayloadTooLarge(
                f"The request body is larger than {limit} bytes, the most this path takes."
            )

    def take(self, size: int) -> None:
        """Take room; raises Overloaded when the bodies now in memory leave too little."""
        if size > self._free:
            raise Overloaded("Too many large requests are being received. Try again shortly.")
        self._free -= size

    def give_back(self, size: int) -> None:
        """Give room back."""
        self._free += size
