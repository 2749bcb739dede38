"""Allow pages of named origins to call the API with a key (CORS, WHATWG Fetch, section 3.2).

Closed by default: without `server.allowed_origins` no header is sent. Origins are compared exactly.
`Access-Control-Allow-Credentials` is never sent, and a cookie counts only in requests of this
server's own pages (`authentication.from_own_page`): no session can be used from another origin.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

EXPOSED = (
    "X-Request-Id, Retry-After, Retry-After-Ms, X-Should-Retry,"
    " X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests,"
    " X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens"
)
"""Headers of an answer that scripts may read; a browser hides all others."""
MAX_AGE_S = 7200
"""How long browsers may keep the answer to a preflight; Chromium keeps it no longer."""

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")


def origin_headers(headers: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """Return the headers by which a browser lets a page of an allowed origin read an answer.

    `Vary` is on every answer, so that no cache gives that of one origin to another.
    """
    if not allowed:
        return {}
    origin = headers.get("Origin")
    if origin is None or origin not in allowed:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": EXPOSED,
    }


def is_preflight(method: str, headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Return whether a browser asks whether a page of an allowed origin may send a request."""
    return (
        bool(allowed)
        and method == "OPTIONS"
        and "Access-Control-Request-Method" in headers
        and headers.get("Origin") in allowed
    )


def preflight_headers(headers: Mapping[str, str], methods: Collection[str]) -> dict[str, str]:
    """Return what a preflight is answered with, besides `origin_headers`.

    Every header is allowed: SDKs send many of their own (`x-stainless-...`).
    """
    asked = headers.get("Access-Control-Request-Headers", "")
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": (
            asked if _NAMES.fullmatch(asked) else "Authorization, Content-Type, X-Api-Key"
        ),
        "Access-Control-Max-Age": str(MAX_AGE_S),
    }
