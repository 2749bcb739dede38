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

    `read` gets the status of the answer and its body, which is empty for a status below 400.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    read: Callable[[int, bytes], ProbeResult]
