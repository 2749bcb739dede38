"""Find the process that has a request: by the tag in its id, else by its claim.

The processes of one node serve each other on Unix sockets in a directory that only their user can
enter, named by their tags. Another node is reached at the URL that it reports, and passes the
request on to the right one of its processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import NamedTuple

from server.answers.peers import NodeSeen, PeerAddress
from server.http.request_id import process_tag_of
from server.nodes.peers.node_registry import NodeRegistry
from workers.errors import NodeUnavailable
from workers.upstream_route import UpstreamRoute

SUFFIX = ".sock"
NODES_KEPT_S = 1.0
"""How long the list of nodes is used again."""


class ProcessIdentity(NamedTuple):
    """Who a process is: its tag, its node, and the directory of the sockets of the node."""

    tag: str
    node_id: str
    sockets: Path | None = None

    @property
    def socket_path(self) -> Path | None:
        """Return where this process serves its siblings; None: it has none."""
        return self.sockets / f"{self.tag}{SUFFIX}" if self.sockets is not None else None


class ProcessPeers:
    """The `Peers` of one process."""

    def __init__(self, identity: ProcessIdentity, registry: NodeRegistry) -> None:
        self._identity = identity
        self._registry = registry
        self._claimed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._nodes: Sequence[NodeSeen] = ()
        self._nodes_at: float | None = None

    @property
    def tag(self) -> str:
        """Return the tag of this process."""
        return self._identity.tag

    @property
    def node_id(self) -> str:
        """Return the name of this node."""
        return self._identity.node_id

    async def find(self, request_id: str, *, nodes: bool) -> PeerAddress | None:
        """Find the process that may have a request. Raises NodeUnavailable."""
        tag = process_tag_of(request_id) or await self._registry.find(request_id)
        if tag is None or tag == self.tag:
            return None
        node = self._node_with(tag, await self.nodes())
        if node is None:
            self._nodes_at = None  # the process may be new
            node = self._node_with(tag, await self.nodes())
        if node is None:
            return None
        if node.id == self.node_id:
            return self._sibling(tag)
        if not nodes:
            return None
        if node.is_gone or not node.url:
            raise NodeUnavailable
        return PeerAddress(node.url)

    def claim(self, request_id: str) -> Awaitable[bool]:
        """Claim an id that a client has chosen; False: another process has it."""
        return self._claim(request_id)

    def release(self, request_id: str) -> None:
        """Release a claim in the background."""
        if request_id in self._claimed:
            self._claimed.discard(request_id)
            task = asyncio.get_running_loop().create_task(
                self._registry.release(request_id, self.tag), name="release of a request id"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def siblings(self) -> Sequence[PeerAddress]:
        """Return the other processes of this node."""
        tags = [tag for one in await self.nodes() if one.id == self.node_id for tag in one.tags]
        return [peer for tag in tags if tag != self.tag and (peer := self._sibling(tag))]

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes; asked at most once in `NODES_KEPT_S`."""
        now = asyncio.get_running_loop().time()
        if self._nodes_at is None or now - self._nodes_at > NODES_KEPT_S:
            self._nodes, self._nodes_at = await self._registry.nodes(), now
        return self._nodes

    async def aclose(self) -> None:
        """Wait for what is being released."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _claim(self, request_id: str) -> bool:
        free = await self._registry.claim(request_id, self.tag)
        if free:
            self._claimed.add(request_id)
        return free

    def _sibling(self, tag: str) -> PeerAddress | None:
        sockets = self._identity.sockets
        if sockets is None:
            return None
        path = str(sockets / f"{tag}{SUFFIX}")
        return PeerAddress(f"http://{tag}", UpstreamRoute(socket_path=path), sibling=True)

    @staticmethod
    def _node_with(tag: str, nodes: Sequence[NodeSeen]) -> NodeSeen | None:
        found = [node for node in nodes if tag in node.tags]
        return min(found, key=lambda node: node.seen_s, default=None)
