"""Declare the registry of nodes: which there are, and which process has an id that a client chose.

`MemoryRegistry` is for a gateway on one node: its keeper holds it and answers the children from it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from server.answers.peers import NodeSeen

HEARTBEAT_S = 5.0
"""How often a node reports itself."""
FORGOTTEN_AFTER_S = 300.0
"""How long a node that is gone is still shown."""


class NodeRegistry(Protocol):
    """The nodes, and the claims of ids by the tags of processes."""

    async def report(self, node: NodeSeen) -> None:
        """Report that a node is there; repeated every `HEARTBEAT_S`."""

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes that were seen within `FORGOTTEN_AFTER_S`."""

    async def claim(self, request_id: str, tag: str) -> bool:
        """Claim an id for a process; False: another one has it."""

    async def release(self, request_id: str, tag: str) -> None:
        """Release the claim of a process; that of another one stays."""

    async def find(self, request_id: str) -> str | None:
        """Return the tag of the process that has claimed an id."""

    async def drop(self, tag: str) -> None:
        """Release all claims of a process that has ended."""


def with_own(nodes: Sequence[NodeSeen], own: NodeSeen | None) -> Sequence[NodeSeen]:
    """Return the nodes with what this one has reported last, whether or not that was stored.

    Its processes find each other by it, also while the store of the registry is away.
    """
    if own is None:
        return nodes
    seen_s = next((node.seen_s for node in nodes if node.id == own.id), 0.0)
    others = [node for node in nodes if node.id != own.id]
    return [replace(own, seen_s=seen_s), *others]


class MemoryRegistry:
    """The registry of a gateway on one node."""

    def __init__(self) -> None:
        self._claims: dict[str, str] = {}
        self._nodes: dict[str, tuple[NodeSeen, float]] = {}

    async def report(self, node: NodeSeen) -> None:
        """Keep what a node reports."""
        self._nodes[node.id] = (node, time.monotonic())

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return the nodes with the time since they were seen."""
        now = time.monotonic()
        return [replace(node, seen_s=now - at) for node, at in self._nodes.values()]

    async def claim(self, request_id: str, tag: str) -> bool:
        """Claim an id for a process; False: another one has it."""
        return self._claims.setdefault(request_id, tag) == tag

    async def release(self, request_id: str, tag: str) -> None:
        """Release the claim of a process; that of another one stays."""
        if self._claims.get(request_id) == tag:
            del self._claims[request_id]

    async def find(self, request_id: str) -> str | None:
        """Return the tag of the process that has claimed an id."""
        return self._claims.get(request_id)

    async def drop(self, tag: str) -> None:
        """Release all claims of a process that has ended."""
        for request_id in [one for one, holder in self._claims.items() if holder == tag]:
            del self._claims[request_id]
