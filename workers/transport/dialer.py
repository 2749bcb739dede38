"""Connect to hosts by the rules of RFC 8305 ("happy eyeballs"), also through a proxy.

The addresses of a host are tried one after another, each `ATTEMPT_DELAY_S` after the one before it
or as soon as that one has failed; the first that connects is used. One that did not connect within
its turn is remembered and tried last, so that an address which drops packets costs the delay once.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from workers.transport.resolver import Resolver
from workers.units import KIB
from workers.upstream_route import Proxy

ATTEMPT_DELAY_S = 0.25
"""The "Connection Attempt Delay" that RFC 8305, section 5, recommends."""
REMEMBERED_S = 600.0
"""How long an address that was slow is tried last (RFC 8305, section 4: on the order of 10 min)."""
MAX_REMEMBERED = 1024
PROXY_HEAD_BYTES = 16 * KIB
CLOSED_AT_ONCE = "the connection was closed as soon as it was open"
CUT_SHORT = "the proxy's answer to CONNECT is incomplete"


class ProxyRefused(OSError):
    """The proxy did not open a tunnel; the message holds its status, never its credentials."""


class Dialer:
    """Open TCP connections, and remember for all origins which addresses were slow.

    A transport that is returned does not read: what has arrived is its next protocol's. The caller
    owns it. Nothing here has a time limit.
    """

    def __init__(self, resolver: Resolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._clock = clock
        self.attempt_delay_s = ATTEMPT_DELAY_S
        self._slow: dict[tuple[str, int], float] = {}

    async def open(self, host: str, port: int) -> asyncio.Transport:
        """Connect to the first address of a host that answers. Raises OSError."""
        addresses = deque(self._ordered(await self._resolver.find(host), port))
        attempts: dict[asyncio.Task[asyncio.Transport], str] = {}
        failure: BaseException | None = None
        try:
            while addresses or attempts:
                if addresses:
                    address = addresses.popleft()
                    attempts[_begin(address, port)] = address
                turn_s = self.attempt_delay_s if addresses else None
                done, _ = await asyncio.wait(
                    attempts, timeout=turn_s, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    address = attempts.pop(attempt)
                    failure = attempt.exception()
                    if failure is None:
                        self._slow.pop((address, port), None)
                        return attempt.result()
                    self._note_slow(address, port)
                if not done:
                    for address in attempts.values():
                        self._note_slow(address, port)
            self._resolver.forget(host)  # the host may have moved
            raise failure if failure is not None else OSError("the name has no address")
        finally:
            await _stop(attempts)
            failure = None  # the traceback of the exception holds this frame: a cycle

    async def open_unix(self, path: str) -> asyncio.Transport:
        """Connect to a Unix socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(_Held, path)
        transport.pause_reading()
        return transport

    async def open_tunnel(self, proxy: Proxy, host: str, port: int) -> asyncio.Transport:
        """Connect to `host` through the proxy (RFC 9110, section 9.3.6). Raises OSError."""
        transport = await self.open(proxy.host, proxy.port)
        answer = _TunnelAnswer()
        try:
            _hand_over(transport, answer)
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            transport.write(
                b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n"
                % (target.encode("ascii"), target.encode("ascii"), proxy.authorization)
            )
            transport.resume_reading()
            await answer.accepted
            if transport.is_closing():
                raise ProxyRefused(CUT_SHORT)
            transport.pause_reading()
        except BaseException:
            transport.abort()
            raise
        return transport

    def note_broken(self, transport: asyncio.Transport) -> None:
        """Try the address of a connection last: its TLS handshake was cut or did not end.

        That is typical of a path which drops large packets.
        """
        peer = transport.get_extra_info("peername")
        if peer:
            self._note_slow(peer[0], peer[1])

    def _ordered(self, addresses: Iterable[str], port: int) -> list[str]:
        """Return the addresses, those that were slow within `REMEMBERED_S` last."""
        past = self._clock() - REMEMBERED_S
        return sorted(addresses, key=lambda one: self._slow.get((one, port), past) > past)

    def _note_slow(self, address: str, port: int) -> None:
        self._slow[address, port] = self._clock()
        if len(self._slow) > MAX_REMEMBERED:
            del self._slow[next(iter(self._slow))]


async def begin_protocol(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext | None,
    host: str,
) -> None:
    """Start a protocol on an opened transport, under TLS with a context. Raises OSError.

    The transport is not created from a Python socket: in uvloop (0.23) a reset between
    `create_connection(sock=...)` and its return leaves a socket that closes its descriptor twice.
    """
    if context is None:
        _hand_over(transport, protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return
    if transport.is_closing():
        raise ConnectionResetError(CLOSED_AT_ONCE)
    secured = await asyncio.get_running_loop().start_tls(
        transport, protocol, context, server_hostname=host
    )
    assert secured is not None  # None only on a loop that is closing
    protocol.connection_made(secured)


class _Held(asyncio.Protocol):
    """Hold a connection until its protocol takes over; close it when the other side speaks first.

    Such bytes answer no request. They cannot be left unread: uvloop (0.23) begins to read after
    `connection_made`, even if that has paused the transport.
    """

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _data: bytes) -> None:
        self._transport.abort()


class _TunnelAnswer(asyncio.Protocol):
    """Read a proxy's answer to CONNECT; `accepted` raises ProxyRefused."""

    def __init__(self) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._end(_refusal(self._head))
        elif len(self._head) > PROXY_HEAD_BYTES:
            self._end(CUT_SHORT)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end(CUT_SHORT)

    def _end(self, refusal: str) -> None:
        if self.accepted.done():
            return
        if refusal:
            self.accepted.set_exception(ProxyRefused(refusal))
        else:
            self.accepted.set_result(None)


def _refusal(head: bytes) -> str:
    """Return why a proxy's answer opens no tunnel, or ""."""
    version, _, rest = head.partition(b" ")
    code = rest[:3].decode("ascii", "replace")
    if not version.startswith(b"HTTP/1.") or not (code.isascii() and code.isdigit()):
        return "the proxy does not speak HTTP"
    if not code.startswith("2"):
        return f"the proxy answered {code} to CONNECT"
    if not head.endswith(b"\r\n\r\n"):  # under TLS the client speaks first
        return "the proxy sent more than its answer to CONNECT"
    return ""


def _hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    if transport.is_closing():
        raise ConnectionResetError(CLOSED_AT_ONCE)
    transport.set_protocol(protocol)


def _begin(address: str, port: int) -> asyncio.Task[asyncio.Transport]:
    return asyncio.get_running_loop().create_task(_connect(address, port), name="connect")


async def _connect(address: str, port: int) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(_Held, address, port)
    transport.pause_reading()
    return transport


async def _stop(attempts: Iterable[asyncio.Task[asyncio.Transport]]) -> None:
    """End the attempts that another one was faster than."""
    left = list(attempts)
    for attempt in left:
        attempt.cancel()
    if left:
        await asyncio.wait(left)
    for attempt in left:
        if not attempt.cancelled() and attempt.exception() is None:
            attempt.result().abort()
