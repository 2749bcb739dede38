"""Find the address of a client, also behind reverse proxies.

Only `X-Forwarded-For` is read, and only if the peer is one of the configured proxies. It is read
from the right: proxies append, so the client may have invented everything left of the first address
that is not a proxy's. `Forwarded` and `X-Real-Ip` are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = IPv4Address(0)
"""The address of a peer that has none, as on a Unix socket."""

GUEST_PREFIX = "guest:"
"""Begins the scope of each guest."""
_LOOPBACK = (f"{GUEST_PREFIX}127.0.0.1", f"{GUEST_PREFIX}::/64")
_PASSED_ON = ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via")
MAX_HOPS = 32
MAX_ADDRESS_CHARS = 64
MAPPED_BITS = 96
"""The prefix length of ::ffff:0:0/96, which maps IPv4 into IPv6 (RFC 4291, section 2.5.5.2)."""


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is trusted, each an address or CIDR."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        self._networks = tuple(parse_network(proxy) for proxy in proxies)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def client_address(peer: str, headers: Mapping[str, str], proxies: TrustedProxies) -> Address:
    """Find the client behind the proxies; `peer` is the other end of the socket.

    Several headers count as one, joined by commas. The search ends before an entry that is no
    address: the client is then the proxy that sent it.
    """
    nearest = parse_address(peer) or UNKNOWN
    if nearest not in proxies:
        return nearest
    hops = headers.get("X-Forwarded-For", "").rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    for hop in reversed(hops):
        address = parse_address(hop)
        if address is None:
            break
        nearest = address
        if nearest not in proxies:
            break
    return nearest


def guest_scope(address: Address) -> str:
    """Return a guest's scope: an IPv4 address or an IPv6 /64, the least that is assigned."""
    if isinstance(address, IPv4Address):
        return f"{GUEST_PREFIX}{address}"
    return f"{GUEST_PREFIX}{IPv6Network((int(address) >> 64 << 64, 64))}"


def is_this_machine(scope: str, headers: Mapping[str, str], *, is_own: bool = False) -> bool:
    """Return whether the client with this scope runs on this machine, and no proxy passed it on.

    A proxy on this machine that is not a configured one still leaves one of these headers.
    `is_own`: the client has the address at which the gateway listens.
    """
    return (scope in _LOOPBACK or is_own) and not any(name in headers for name in _PASSED_ON)


def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this machine for whoever opens it."""
    address = parse_address(host)
    named = host == "localhost" or host.endswith(".localhost")
    return named if address is None else address.is_loopback


def parse_network(text: str) -> Network:
    """Parse an address or CIDR; mapped IPv4 becomes IPv4. Raises ValueError for anything else."""
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))
    return network


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Parse an address, with or without port and brackets; None if it is not an address."""
    text = text.strip()
    if not 0 < len(text) <= MAX_ADDRESS_CHARS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # A zone (fe80::1%eth0) names an interface of this machine, not a part of the address.
    return address.ipv4_mapped or IPv6Address(int(address))
