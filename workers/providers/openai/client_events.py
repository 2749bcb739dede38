"""The events of one streamed answer that wait until they are sent to the client."""

from __future__ import annotations

import msgspec

from workers.providers.openai.mending.chunk_mender import ChunkMender
from workers.providers.openai.mending.costs import without_costs
from workers.units import MIB

MAX_HELD_BYTES = MIB
MAX_HELD_EVENTS = 1000
"""How much is held back before the first content; above either the answer is committed anyway."""


class ClientEvents:
    """Hold payloads, and release them as server-sent events.

    `held` is open to the translator, which adds to it for each chunk. Chunks that came before the
    id and time of the answer get them on release. With `hides_costs`, they are sent without what
    the upstream states about money.
    """

    __slots__ = ("_bytes", "_hides_costs", "_mender", "_nameless", "held")

    def __init__(self, mender: ChunkMender, *, hides_costs: bool) -> None:
        self.held: list[bytes] = []
        self._mender = mender
        self._hides_costs = hides_costs
        self._bytes = 0
        self._nameless: list[int] = []

    def note_nameless(self) -> None:
        """Record that the next payload lacks the name of the answer, unless that is known."""
        if not self._mender.named:
            self._nameless.append(len(self.held))

    def has_room(self, first_new: int) -> bool:
        """Return whether more may be held back; `held` has new payloads from `first_new` on."""
        self._bytes += sum(map(len, self.held[first_new:]))
        return self._bytes <= MAX_HELD_BYTES and len(self.held) <= MAX_HELD_EVENTS

    def release(self) -> bytes:
        """Return everything that is held as events, or b""."""
        if not self.held:
            return b""
        return b"data: " + b"\n\ndata: ".join(self.take()) + b"\n\n"

    def take(self) -> list[bytes]:
        """Return the payloads that are held, and hold nothing any more."""
        if self._nameless:
            self._name()
        taken = list(map(without_costs, self.held)) if self._hides_costs else self.held[:]
        self.held.clear()
        return taken

    def _name(self) -> None:
        """Add id and time to the chunks that came before they were known."""
        self._mender.make_name()
        for place in self._nameless:
            named = self._mender.with_name(msgspec.json.decode(self.held[place]))
            self.held[place] = msgspec.json.encode(named)
        self._nameless.clear()
