"""Declare the calls between a child and its keeper about the child: its start, its log, its end."""

from __future__ import annotations

from msgspec import Struct

from server.config.loading import Config
from server.nodes.procedure import Procedure, procedure
from workers.catalog.catalog import Catalog, Prices


class Welcome(Struct, array_like=True):
    """What a child needs to start.

    `sockets` are the descriptors that the children of all seats listen on. `tag` is part of the
    ids that the child makes. `inner_sockets` is the directory of the sockets at which children
    take the requests that others pass on. `config` has the child's part of what is limited, and
    not the owner key.
    """

    sockets: list[int]
    tag: str
    node_id: str
    inner_sockets: str
    config: Config
    prices: dict[str, Prices]


class GivenSeat(Struct, array_like=True):
    """The seat of a child: its number, from 1, and the descriptors that it listens on."""

    number: int
    sockets: list[int]


class Lines(Struct, array_like=True):
    """Whole lines for an output of the keeper, and how many more were dropped."""

    text: str
    dropped: int
    is_log: bool


class Ready(Struct, array_like=True):
    """A child accepts connections; it serves some of the models in the catalog."""

    served_models: int
    models: int

    @classmethod
    def of(cls, catalog: Catalog) -> Ready:
        """Return how many models of a catalog are served: those with a live deployment."""
        served = [model for model in catalog if model.live_deployments()]
        return cls(len(served), len(catalog))


HELLO: Procedure[int, Welcome] = procedure("hello", int, Welcome)
"""The first call of a child, with its process id."""
WARM: Procedure[None, None] = procedure("warm", None)
"""A call of a child that has built everything, and accepts connections once it has a seat."""
SEAT: Procedure[GivenSeat, None] = procedure("seat", GivenSeat)
"""A report of the keeper, once for each child, and late for a spare."""
READY: Procedure[Ready, None] = procedure("ready", Ready)
LINES: Procedure[Lines, None] = procedure("lines", Lines)
STOP: Procedure[None, None] = procedure("stop", None)
"""A report of the keeper: drain and end."""
RETIRE: Procedure[None, None] = procedure("retire", None)
"""A report of the keeper: another child serves new connections; end with those that are open."""
