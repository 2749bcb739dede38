"""The other processes of this gateway: which of them has a request, and where it is reached.

An id that was made here carries the tag of its process. An id that a client has chosen is claimed
by the process that serves the request, so that no second one takes it and every process finds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from server.http.request_id import new_process_tag
from workers.upstream_route import DIRECT, UpstreamRoute

GONE_AFTER_S = 15.0
"""A node that was not seen for so long is gone."""


class PeerAddress(NamedTuple):
    """Another process: its URL and the way to it. `sibling`: on this node, over a Unix socket."""

    url: str
    route: UpstreamRoute = DIRECT
    sibling: bool = False


class NodeSeen(Struct, frozen=True, kw_only=True):
    """A node as it last reported itself; `seen_s` is how long ago, `tags` are its processes'."""

    id: str
    url: str
    version: str
    started_at: float
    tags: tuple[str, ...]
    seen_s: float = 0.0

    @property
    def is_gone(self) -> bool:
        """True if it has not reported itself lately."""
        return self.seen_s > GONE_AFTER_S


class Peers(Protocol):
    """The processes of one gateway, as one of them sees the others."""

    @property
    def tag(self) -> str:
        """Return the tag of this process, which the ids made here carry."""

    @property
    def node_id(self) -> str:
        """Return the name of this node."""

    async def find(self, request_id: str, *, nodes: bool) -> PeerAddress | None:
        """Find the process that may have a request; with `nodes`, also on other nodes.

        Raises NodeUnavailable if its node is gone.
        """

    def claim(self, request_id: str) -> Awaitable[bool] | None:
        """Claim an id that a client has chosen; False: another process has it. None: it is free."""

    def release(self, request_id: str) -> None:
        """Release a claim, when the request is neither running nor kept; else do nothing."""

    async def siblings(self) -> Sequence[PeerAddress]:
        """Return the other processes of this node."""

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes, this one included, and those that are gone for some time."""


class NoPeers:
    """A gateway in one process."""

    def __init__(self, node_id: str = "") -> None:
        self.tag = new_process_tag()
        self.node_id = node_id

    async def find(self, request_id: str, *, nodes: bool) -> PeerAddress | None:  # noqa: ARG002
        """Find nothing."""
        return None

    def claim(self, request_id: str) -> None:
        """Allow every id."""

    def release(self, request_id: str) -> None:
        """Do nothing."""

    async def siblings(self) -> Sequence[PeerAddress]:
        """Return nothing."""
        return ()

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return nothing: there is only this process."""
        return ()
