"""Check base URLs: those of upstreams, the gateway's own, and those shown in shell examples.

Also origins of pages. Messages never repeat the URL of an upstream: it may hold a secret.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SAFE_IN_A_SHELL = re.compile(r"https?://[A-Za-z0-9._~:/@+\[\]-]+", re.ASCII)


def checked_base_url(url: str) -> str:
    """Return the URL without a trailing slash; raise ValueError unless it is plain http(s)."""
    checked = checked_upstream_url(url)
    if "?" in url:
        raise ValueError("the URL must not have a query")
    return checked


def checked_upstream_url(url: str) -> str:
    """Return the same for an upstream, whose URL may have a query: `?api-version=2024-10-21`."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the URL must be plain ASCII without spaces")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both properties raise ValueError when malformed
    except ValueError as error:
        raise ValueError("the URL has no valid host and port") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("the URL must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold credentials; name their variable in secret_env")
    if "#" in url:
        raise ValueError("the URL must not have a fragment")
    path, mark, query = url.partition("?")
    return path.rstrip("/") + (mark + query if query else "")


def joined_url(base_url: str, path: str) -> str:
    """Return the URL of a path below a checked base URL: the path comes before the query."""
    if "?" not in base_url:
        return base_url + path
    base, _, query = base_url.partition("?")
    return f"{base}{path}?{query}"


def is_safe_in_a_shell(url: str) -> bool:
    """Return True if a URL may stand unquoted in an example that people paste into a shell.

    The gateway's own URL may come from a client's Host header.
    """
    return SAFE_IN_A_SHELL.fullmatch(url) is not None


def checked_origin(origin: str) -> str:
    """Return an origin as browsers send it. Raises ValueError."""
    url = urlsplit(origin)
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise ValueError(f"{origin!r} is not an origin, such as https://app.example")
    if f"{url.scheme}://{url.netloc}" != origin or origin != origin.lower():
        raise ValueError(f"{origin!r} must be in lower case and without a path")
    if "*" in origin or not origin.isascii():
        raise ValueError(f"{origin!r} must be one origin, with an international name as xn--")
    if url.port == {"http": 80, "https": 443}[url.scheme]:
        raise ValueError(f"{origin!r}: leave the port out, as browsers do")
    return origin
