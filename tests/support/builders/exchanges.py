"""Exchanges as the tests of the transport make them."""

from __future__ import annotations

from collections.abc import Callable

from workers.transport.transport import Transport, UpstreamExchange, UpstreamHead, request_head

BIG = 1 << 30


def send(
    transport: Transport, url: str, body: bytes = b"{}", method: str = "POST"
) -> UpstreamExchange:
    """Begin an exchange."""
    return transport.exchange(url, request_head(method, url + "/v1/x"), body)


async def fetch(
    transport: Transport, url: str, body: bytes = b"{}", method: str = "POST"
) -> tuple[UpstreamHead, bytes]:
    """Carry an exchange to its end."""
    exchange = send(transport, url, body, method)
    try:
        head = await exchange.head()
        return head, await exchange.read(BIG)
    finally:
        exchange.release()


async def outcome(exchange: UpstreamExchange) -> tuple[int, bytes] | type[Exception]:
    """Return how an exchange ends: with a status and body, or with which error."""
    try:
        head = await exchange.head()
        return head.status, await exchange.read(BIG)
    except Exception as error:  # noqa: BLE001 - it is the result
        return type(error)
    finally:
        exchange.release()


class Collector:
    """A sink that keeps what it is fed; `then` is called after each piece."""

    def __init__(self, then: Callable[[], object] | None = None) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self._then = then

    def feed(self, data: bytes) -> None:
        """Keep data."""
        self.pieces.append(data)
        self.size += len(data)
        if self._then is not None:
            self._then()

    @property
    def body(self) -> bytes:
        """Return all that came."""
        return b"".join(self.pieces)
