"""When nodes found Redis away, as their logs say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from support.servers.cluster import Node

ARRIVES_S = 3.0
"""What a node has admitted reaches the upstream within this time."""


class Outage(NamedTuple):
    """From when to when one process found Redis away, in Unix seconds."""

    began: float
    ended: float

    def has(self, at: float) -> bool:
        """Return whether a request that arrived at this time may have been admitted meanwhile."""
        return self.began <= at <= self.ended + ARRIVES_S

    def overlaps(self, other: tuple[float, float]) -> bool:
        """Return whether another span of time has a moment of this one."""
        return self.began <= other[1] and other[0] <= self.ended


def outages_of(nodes: Iterable[Node], now: float) -> list[Outage]:
    """Return the outages of all processes that the nodes have run."""
    found: list[Outage] = []
    for node in nodes:
        for log, ended in zip([*node.logs, node.log], [*node.ends, now], strict=True):
            found += _outages_in(log, ended)
    return found


def _outages_in(log: str, ended: float) -> Iterable[Outage]:
    """Read the log of a process that has ended then."""
    began: float | None = None
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        at, said = float(record["at"]), str(record["message"])
        if said.startswith("Redis at ") and " is away: " in said:
            began = at
        elif said.startswith("Redis at ") and " is back after " in said and began is not None:
            yield Outage(began, at)
            began = None
    if began is not None:
        yield Outage(began, ended)
