"""Probe an OpenAI-shaped upstream by its list of models."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from workers.catalog.catalog import Deployment
from workers.providers.openai.request_headers import access_headers
from workers.providers.probe import Probe, ProbeResult
from workers.providers.problem import find_problem
from workers.providers.rejections import secret_rejected


class _ListedModel(Struct):
    """One model of the list; all but its id is ignored."""

    id: str


class _ModelList(Struct):
    """What `GET /models` answers."""

    data: list[_ListedModel]


def openai_probe(deployment: Deployment) -> Probe:
    """Return the request for the list of models."""
    headers = access_headers(deployment)
    return Probe("GET", "/models", headers, _read, _names, "/chat/completions")


def _read(status: int, body: bytes) -> ProbeResult:
    """Return what the answer shows.

    All other rejections count as working: some upstreams serve completions and no list (404).
    """
    if secret_rejected(status, find_problem(body)):
        return "secret_rejected"
    return "failing" if status >= 500 else "works"


def _names(body: bytes) -> frozenset[str]:
    try:
        listed = msgspec.json.decode(body, type=_ModelList).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(one.id for one in listed)
