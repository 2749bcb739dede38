"""How to reach an upstream: through which proxy, and which authorities may sign its certificate."""

from __future__ import annotations

from typing import NamedTuple


class UpstreamRoute(NamedTuple):
    """The way to an upstream; origins with different routes share no connections.

    `ca_file`: a PEM file whose certificates replace the usual authorities ("": the usual ones).
    `proxy`: the URL of an HTTP proxy, which may hold credentials ("": none).
    """

    ca_file: str = ""
    proxy: str = ""

    def __repr__(self) -> str:
        """Return a short form without the proxy's credentials."""
        return f"UpstreamRoute(ca_file={self.ca_file!r}, proxied={bool(self.proxy)})"


DIRECT = UpstreamRoute()
"""No proxy, and the usual authorities."""
