"""How to reach an upstream: its proxy, its certificate authorities and the headers it may get.

A proxy's URL may hold credentials, so messages never repeat it.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

PORTS = {"http": 80, "https": 443}

_FRAMING = (
    "accept-encoding connection content-length expect host keep-alive proxy-authorization"
    " proxy-connection te trailer transfer-encoding upgrade"
)
FRAMING_HEADERS = frozenset(_FRAMING.split())
"""Headers about the connection and the framing: only the transport sets them."""


class UpstreamRoute(NamedTuple):
    """The way to an upstream; origins with different routes share no connections.

    `ca_file`: a PEM file whose certificates replace the usual authorities ("": the usual ones).
    `proxy`: the URL of an HTTP proxy, which may hold credentials ("": none). `socket_path`: a Unix
    socket to connect to in place of the host ("": none), for other processes of this gateway.
    """

    ca_file: str = ""
    proxy: str = ""
    socket_path: str = ""

    def __repr__(self) -> str:
        """Return a short form without the proxy's credentials."""
        return f"UpstreamRoute(ca_file={self.ca_file!r}, proxied={bool(self.proxy)})"


DIRECT = UpstreamRoute()
"""No proxy, and the usual authorities."""


class Proxy(NamedTuple):
    """An HTTP proxy; `authorization` is its header line, or b""."""

    host: str
    port: int
    authorization: bytes

    def __repr__(self) -> str:
        """Return a short form without the credentials."""
        return f"Proxy({self.host}:{self.port})"


@lru_cache(maxsize=64)
def parse_proxy(url: str) -> Proxy:
    """Read the URL of a proxy, such as `http://user:password@proxy.example:3128`.

    Raises ValueError for other kinds of proxies, such as SOCKS.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the URL of the proxy has no valid host and port") from None
    if not url.isascii() or not url.isprintable() or parts.scheme != "http" or not host:
        raise ValueError("the URL of the proxy must begin with http:// and name a host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("the URL of the proxy must end after its host and port")
    authorization = b""
    if parts.username is not None:
        pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = b"proxy-authorization: Basic %b\r\n" % base64.b64encode(pair)
    return Proxy(host, port or PORTS["http"], authorization)


def environment_proxy(environ: Mapping[str, str], base_url: str) -> str:
    """Return the proxy that the environment names for a URL, or "" for none.

    Read as curl reads them: `https_proxy` or `http_proxy` by the scheme, else `all_proxy`, unless
    `no_proxy` names the host; in lower or upper case. Raises ValueError when it is no HTTP proxy.
    """
    parts = urlsplit(base_url)
    url = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    host = parts.hostname or ""
    if not url or _excluded(host, parts.port or PORTS[parts.scheme], environ):
        return ""
    if "://" not in url:  # curl takes a bare host for an HTTP proxy
        url = f"http://{url}"
    parse_proxy(url)
    return url


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _excluded(host: str, port: int, environ: Mapping[str, str]) -> bool:
    """Return whether `no_proxy` names the host: `*`, a domain, an address or a network."""
    entries = _variable(environ, "no_proxy").replace(",", " ").split()
    return any(entry == "*" or _matches(entry.lower(), host, port) for entry in entries)


def _matches(entry: str, host: str, port: int) -> bool:
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and _port_free(name):
        return int(number) == port and _matches(name, host, port)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain, host = entry.removeprefix("*").strip("."), host.rstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # the entry is a name
        return False


def _port_free(name: str) -> bool:
    """Return whether what stands before the last colon is a whole host, not part of an IPv6 one."""
    return ":" not in name or name.endswith("]")
