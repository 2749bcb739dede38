"""The registry of the keeper, as its children use it."""

from __future__ import annotations

from collections.abc import Sequence

from server.answers.peers import NodeSeen
from server.nodes.link import Link
from server.nodes.peers.node_registry import NodeRegistry
from server.nodes.procedure import Procedure, Service, procedure

CLAIM: Procedure[str, bool] = procedure("claim", str, bool)
RELEASE: Procedure[str, None] = procedure("release", str)
FIND: Procedure[str, str | None] = procedure("find", str, str | None)
NODES: Procedure[None, Sequence[NodeSeen]] = procedure("nodes", None, list[NodeSeen])


def answer_registry(service: Service, registry: NodeRegistry, tag: str) -> None:
    """Answer what the child with a tag asks the registry of the keeper."""

    async def claim(request_id: str) -> bool:
        return await registry.claim(request_id, tag)

    async def release(request_id: str) -> None:
        await registry.release(request_id, tag)

    async def nodes(_: None) -> Sequence[NodeSeen]:
        return await registry.nodes()

    service.answer(CLAIM, claim)
    service.answer(RELEASE, release)
    service.answer(FIND, registry.find)
    service.answer(NODES, nodes)


class KeeperRegistry:
    """The keeper's registry. The keeper knows which process asks, and reports the node itself."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def report(self, node: NodeSeen) -> None:
        """Do nothing."""

    async def nodes(self) -> Sequence[NodeSeen]:
        """Return all nodes."""
        return await self._link.call(NODES, None)

    async def claim(self, request_id: str, tag: str) -> bool:  # noqa: ARG002
        """Claim an id for this process; False: another one has it."""
        return await self._link.call(CLAIM, request_id)

    async def release(self, request_id: str, tag: str) -> None:  # noqa: ARG002
        """Release a claim of this process."""
        self._link.report(RELEASE, request_id)

    async def find(self, request_id: str) -> str | None:
        """Return the tag of the process that has claimed an id."""
        return await self._link.call(FIND, request_id)

    async def drop(self, tag: str) -> None:
        """Do nothing: the keeper notices the end of a process."""
