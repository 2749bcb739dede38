"""HTTP/1.1 to upstreams over kept-alive connections, with two interfaces.

Workers use `Transport.exchange`, which pushes body bytes to a sink. Other code uses the same
connections through `httpx.AsyncClient(transport=...)`. TLS is verified; redirects are not followed,
variables of the environment are not read and no content encoding is requested. An `UpstreamRoute`
names the proxy and the CA file of an upstream. Only this module imports httpx.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import httpx

from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamTimeout
from workers.transport.dialer import Dialer
from workers.transport.origin import ConnectionSettings, Origin, OriginAddress
from workers.transport.resolver import LookUp, Resolver, system_look_up
from workers.transport.upstream_connection import UpstreamHead
from workers.transport.upstream_exchange import UpstreamExchange
from workers.upstream_route import DIRECT, FRAMING_HEADERS, PORTS, UpstreamRoute

__all__ = [
    "DIRECT",
    "Stats",
    "Transport",
    "UpstreamExchange",
    "UpstreamHead",
    "UpstreamRoute",
    "request_head",
    "single_request_head",
]

T = TypeVar("T")

KNOWN_URLS = 1024
"""How many URLs are remembered with their origin; then the memory is cleared."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Stats(NamedTuple):
    """Connections by state; `idle` ones are open too, `connecting` ones are not yet."""

    open: int
    idle: int
    connecting: int


@lru_cache(maxsize=256)
def request_head(method: str, url: str, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Build the head of a request, all but its Content-Length and the blank line.

    The result is cached. Headers of the framing are left out. Raises ValueError for a URL or header
    that cannot be sent; the message never contains a value, which may be a secret.
    """
    return _request_head(method, _parse(url), headers)


def single_request_head(method: str, url: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Build the head of a request that is sent once, as `request_head` does, without the cache."""
    return _request_head(method, _parse(url), headers)


def _request_head(method: str, url: httpx.URL, headers: Iterable[tuple[str, str]]) -> bytes:
    if not _TOKEN.fullmatch(method):
        raise ValueError("not an HTTP method")
    lines = [
        b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n"
        % (method.encode(), url.raw_path, url.netloc)
    ]
    named = False
    for name, value in headers:
        key = name.lower()
        if not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"the header {name!r} cannot be sent: check it for line breaks")
        named = named or key == "user-agent"
        if key not in FRAMING_HEADERS:
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    if not named:
        lines.append(b"user-agent: roxy-ai\r\n")  # some CDNs refuse requests without one
    return b"".join(lines)


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    if parsed.scheme not in PORTS or not parsed.host or not 0 < (parsed.port or 80) < 65536:
        raise ValueError("not an http or https URL")
    return parsed


class Transport(httpx.AsyncBaseTransport):
    """All connections of this process to upstreams. `aclose` leaves none open.

    Times are in seconds. `ssl_context` replaces the default one, which trusts certifi's bundle.
    `look_up` finds the addresses of a host; `clock` measures how long results are used.
    """

    request_head = staticmethod(request_head)

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10.0,
        idle_s: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
        look_up: LookUp = system_look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = Resolver(look_up, clock)
        self._settings = ConnectionSettings(
            connect_timeout_s, idle_s, self._find_tls, Dialer(self._resolver, clock)
        )
        self._tls: dict[str, ssl.SSLContext] = {}
        self._tls_lock = asyncio.Lock()
        if ssl_context is not None:
            ssl_context.set_alpn_protocols(["http/1.1"])
            self._tls[""] = ssl_context
        self._origins: dict[OriginAddress, Origin] = {}
        self._by_url: dict[tuple[str, UpstreamRoute], Origin] = {}
        self._closed = False

    @property
    def stats(self) -> Stats:
        """Count the connections by state."""
        origins = self._origins.values()
        return Stats(
            open=sum(len(origin.open) for origin in origins),
            idle=sum(len(origin.idle) for origin in origins),
            connecting=sum(len(origin.connecting) for origin in origins),
        )

    def exchange(
        self, url_base: str, head: bytes, body: bytes = b"", route: UpstreamRoute = DIRECT
    ) -> UpstreamExchange:
        """Begin an exchange with the origin of `url_base`; it connects in the background.

        `head` comes from `request_head`; Content-Length is added here. The caller must `release`
        or `abort` the exchange. Raises ValueError when `url_base` is not an http(s) URL.
        """
        origin = self._by_url.get((url_base, route)) or self._find_origin(url_base, route)
        if body or not head.startswith((b"GET ", b"HEAD ")):
            return origin.exchange(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body)
        return origin.exchange(head + b"\r\n", body)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx, with its exceptions and its connect and read timeouts."""
        body = await request.aread()
        url = request.url
        raw = (
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
        )
        try:
            head = _request_head(request.method, url, raw)
            exchange = self.exchange(f"{url.scheme}://{url.netloc.decode('ascii')}", head, body)
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error
        return await _Answer(exchange, request).begin()

    async def aclose(self) -> None:
        """Close every connection and stop opening others; exchanges under way fail."""
        self._closed = True
        for origin in tuple(self._origins.values()):
            await origin.aclose()
        self._resolver.close()
        await asyncio.sleep(0)  # the loop closes the socket of a cut TLS handshake one turn later

    def _find_origin(self, url: str, route: UpstreamRoute) -> Origin:
        parsed = _parse(url)
        tls = parsed.scheme == "https"
        address = OriginAddress(
            parsed.raw_host.decode("ascii"), parsed.port or PORTS[parsed.scheme], tls, route
        )
        origin = self._origins.get(address)
        if origin is None:
            origin = self._origins[address] = Origin(address, self._settings, closed=self._closed)
        if len(self._by_url) >= KNOWN_URLS:
            self._by_url.clear()
        self._by_url[url, route] = origin
        return origin

    async def _find_tls(self, ca_file: str) -> ssl.SSLContext:
        """Return the TLS context for a CA file, or the usual one for "".

        Loading the usual certificates takes 40 ms, once, in a thread. Raises OSError when a CA file
        cannot be read.
        """
        context = self._tls.get(ca_file)
        if context is None:
            async with self._tls_lock:
                context = self._tls.get(ca_file)
                if context is None:
                    context = self._tls[ca_file] = await asyncio.to_thread(_make_tls, ca_file)
        return context


def _make_tls(ca_file: str) -> ssl.SSLContext:
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Answer(httpx.AsyncByteStream):
    """The answer of an exchange as httpx reads it: pulled, with httpx's timeouts and exceptions."""

    def __init__(self, exchange: UpstreamExchange, request: httpx.Request) -> None:
        clocks = request.extensions.get("timeout", {})
        self._exchange = exchange
        self._request = request
        self._connect_s: float | None = clocks.get("connect")
        self._read_s: float | None = clocks.get("read")

    async def begin(self) -> httpx.Response:
        """Wait for the head and return the response."""
        unlimited = self._connect_s is None or self._read_s is None
        limit_s = None if unlimited else (self._connect_s or 0) + (self._read_s or 0)
        try:
            head = await self._within(limit_s, self._exchange.head())
        except BaseException:
            await self.aclose()
            raise
        return httpx.Response(head.status, headers=dict(head.headers), stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._within(self._read_s, self._exchange.pull()):
            yield data

    async def aclose(self) -> None:
        """Stop the exchange unless the answer is complete."""
        self._exchange.abort(UpstreamDisconnected("The answer was closed."))

    async def _within(self, limit_s: float | None, wait: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await wait
        except TimeoutError as error:
            raise httpx.ReadTimeout("the upstream was silent", request=self._request) from error
        except UpstreamTimeout as error:
            raise httpx.ConnectTimeout(error.message, request=self._request) from error
        except UpstreamError as error:
            connected = self._exchange.connected_at is not None
            kind = httpx.RemoteProtocolError if connected else httpx.ConnectError
            raise kind(error.message, request=self._request) from error
