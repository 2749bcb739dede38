"""Probe an OpenAI-shaped upstream by its list of models."""

from __future__ import annotations

from workers.catalog.catalog import Deployment
from workers.providers.probe import Probe, ProbeResult
from workers.providers.problem import find_problem
from workers.providers.rejections import secret_rejected


def openai_probe(deployment: Deployment) -> Probe:
    """Return the request for the list of models."""
    secret = deployment.secret
    headers = (("authorization", f"Bearer {secret}"),) if secret else ()
    return Probe("GET", "/models", headers, _read)


def _read(status: int, body: bytes) -> ProbeResult:
    """Return what the answer shows.

    All other rejections count as working: some upstreams serve completions and no list (404).
    """
    if secret_rejected(status, find_problem(body)):
        return "secret_rejected"
    return "failing" if status >= 500 else "works"
