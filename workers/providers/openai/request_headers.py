"""The headers by which the gateway identifies itself to an OpenAI-shaped upstream."""

from __future__ import annotations

from workers.catalog.catalog import Deployment


def access_headers(deployment: Deployment) -> tuple[tuple[str, str], ...]:
    """Return the secret as a bearer token, and the deployment's own headers.

    A header of the deployment replaces the gateway's: some upstreams take their key as
    `Authorization: Api-Key ...`.
    """
    headers = deployment.headers
    if deployment.secret and not any(name.lower() == "authorization" for name, _ in headers):
        return (("authorization", f"Bearer {deployment.secret}"), *headers)
    return headers
