"""How `roxy check` finds out whether an upstream works, without I/O.

Each provider's package says what to request and how to read the answer. A probe generates no
tokens, so it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

ProbeResult: TypeAlias = Literal["works", "secret_rejected", "failing"]


class Probe(NamedTuple):
    """A request without a body: `path` is below the deployment's base URL.

    `read` gets the status of the answer and the body of a rejection. `names` gets the body of an
    answer, and returns the ids of the models that it lists; none if it is no such list.
    `completions` is the path of completions: an upstream without it serves no model.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    read: Callable[[int, bytes], ProbeResult]
    names: Callable[[bytes], frozenset[str]]
    completions: str
