"""Report this node to the registry: at once when its processes change, and periodically."""

from __future__ import annotations

import asyncio
import logging
import time

from server.answers.peers import NodeSeen
from server.nodes.peers.node_registry import HEARTBEAT_S, NodeRegistry
from server.version import version
from workers.errors import GatewayError

log = logging.getLogger("roxy.nodes")


class NodeReporter:
    """Report a node with the tags of its processes."""

    def __init__(self, registry: NodeRegistry, node_id: str, url: str) -> None:
        self._registry = registry
        self._node_id = node_id
        self._url = url
        self._tags: set[str] = set()
        self._ended: list[str] = []
        self._started_at = time.time()
        self._changed = asyncio.Event()
        self._fails = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="node reporter")

    def add(self, tag: str) -> None:
        """Report a process that has started."""
        self._tags.add(tag)
        self._changed.set()

    def remove(self, tag: str) -> None:
        """Report that a process has ended, and release what it had claimed."""
        self._tags.discard(tag)
        self._ended.append(tag)
        self._changed.set()

    async def aclose(self) -> None:
        """Stop reporting."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            while self._ended:
                await self._registry.drop(self._ended.pop())
            await self._report()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _report(self) -> None:
        node = NodeSeen(
            id=self._node_id,
            url=self._url,
            version=version(),
            started_at=self._started_at,
            tags=tuple(sorted(self._tags)),
        )
        try:
            await self._registry.report(node)
        except GatewayError as error:
            if not self._fails:
                log.error("this node cannot report itself to the others: %s", error)
            self._fails = True
        else:
            self._fails = False
