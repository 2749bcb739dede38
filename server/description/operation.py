"""Describe one operation of the API: its parameters, body, answers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from workers.errors import GatewayError


class Parameter(Struct, frozen=True):
    """A query parameter or a header; all are optional."""

    name: str
    type: Any
    doc: str
    place: Literal["query", "header"] = "query"


class Operation(Struct, frozen=True):
    """One method of one route. `answers` are JSON by status, `others` other media types.

    An answer of the type None has no body. `upload`: the body is a file.
    """

    answers: Mapping[int, Any]
    request: Any = None
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[GatewayError], ...] = ()
    others: Mapping[str, Any] = {}
    upload: bool = False
