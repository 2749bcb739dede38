"""Fan a request of the API out to all processes of a gateway, and collect their answers.

`live_object` and `health_object` sum them up: what runs, and how upstreams answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from server.answers.passing import Passing, RequestOrigin
from server.answers.passing_marks import MAX_HOPS
from server.answers.peers import NodeSeen, PeerAddress
from server.identity.authentication import XSRF_HEADER
from server.services import Services
from workers.errors import NodeUnavailable

T = TypeVar("T")

ANSWERS_WITHIN_S = 1.0
"""A process that takes longer is shown as not answering: the others must not wait for it."""
LESS_PER_HOP_S = 0.3
"""A node that is asked waits for less, so that its own answer comes in time."""


class Everywhere(NamedTuple, Generic[T]):
    """What the other processes of this node have answered, and what other nodes have.

    `nodes` are all nodes with their answers: None for this node, and for one that did not answer.
    """

    siblings: Sequence[T]
    nodes: Sequence[tuple[NodeSeen, T | None]]


async def ask_everywhere(
    services: Services, asked: RequestOrigin, target: str, kind: type[T]
) -> Everywhere[T]:
    """Ask the other processes that the request has not come through."""
    if asked.hops >= MAX_HOPS:
        return Everywhere((), ())
    nodes = await services.peers.nodes() if asked.hops == 0 else ()
    siblings = await services.peers.siblings()
    others = [one for one in nodes if one.id != services.peers.node_id and not one.is_gone]
    found = await asyncio.gather(
        *(_ask(services.passing, one, asked, MAX_HOPS, target, kind) for one in siblings),
        *(_ask(services.passing, PeerAddress(one.url), asked, 1, target, kind) for one in others),
    )
    answers = dict(zip((one.id for one in others), found[len(siblings) :], strict=True))
    return Everywhere(
        [one for one in found[: len(siblings)] if one is not None],
        [(one, answers.get(one.id)) for one in nodes],
    )


async def _ask(
    passing: Passing,
    peer: PeerAddress,
    asked: RequestOrigin,
    hops: int,
    target: str,
    kind: type[T],
) -> T | None:
    """Return the object of one process, or None if it cannot be reached or refuses."""
    if not peer.url:
        return None
    # The page of a navigation asks (`Sec-Fetch-Site: none`); its visitor was checked here.
    headers = {name: value for name, value in asked.headers.items() if name != XSRF_HEADER}
    headers["Sec-Fetch-Site"] = "same-origin"
    within_s = ANSWERS_WITHIN_S - LESS_PER_HOP_S * asked.hops
    try:
        answer = await passing.ask(peer, "GET", target, headers, asked.passed_on(hops), within_s)
        return msgspec.json.decode(answer.body, type=kind) if answer.status == 200 else None
    except (NodeUnavailable, msgspec.DecodeError, ValueError):
        return None
