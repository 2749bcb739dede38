"""TLS: always verified, refused without details, and closed without waiting for anybody."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from support.builders.exchanges import BIG, Collector, fetch, outcome, send
from support.fakes.raw_upstream import Peer, RawUpstream, answer, chunked, descriptors
from support.waiting import eventually

from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamUnavailable
from workers.transport.origin import BAD_CERTIFICATE
from workers.transport.transport import Stats, Transport

STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return the upstream's side, with a certificate for its address."""
    return serve_as(authority, "127.0.0.1")


@pytest.fixture
async def transport(authority: trustme.CA) -> AsyncIterator[Transport]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    transport = Transport(ssl_context=context)
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


def serve_as(
    authority: trustme.CA, name: str, not_after: dt.datetime | None = None
) -> ssl.SSLContext:
    """Return an upstream's context with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(name, not_after=not_after).configure_cert(context)
    return context


async def serve(peer: Peer) -> None:
    """Answer every request with its own body."""
    while True:
        await peer.send(answer((await peer.request()).partition(b"\r\n\r\n")[2]))
        peer.requests.clear()


async def hang(peer: Peer) -> None:
    """Begin an answer and leave it at that."""
    await peer.request()
    await peer.send(STREAM, chunked(b"a"))
    await peer.gone()


async def test_a_verified_upstream_is_used_and_its_connection_kept(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async with RawUpstream(serve, tls=tls) as upstream:
        for body in (b"", b"ok", bytes(100_000), bytes(10_000_000), b"again"):
            assert (await fetch(transport, upstream.url, body))[1] == body
        assert len(upstream.peers) == 1
        writer = upstream.peers[0]._writer
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def refusal(transport: Transport, context: ssl.SSLContext) -> UpstreamUnavailable:
    """Return the error of an upstream that must not be talked to."""
    async with RawUpstream(serve, tls=context) as upstream:
        before = descriptors()
        errors = []
        for _ in range(20):
            exchange = send(transport, upstream.url)
            with pytest.raises(UpstreamUnavailable) as refused:
                await exchange.head()
            assert not exchange.sent
            errors.append(refused.value)
        await eventually(lambda: transport.stats == Stats(0, 0, 0) and descriptors() <= before)
        assert upstream.requests == []
        return errors[-1]


async def test_an_unknown_authority_is_refused_without_details(tls: ssl.SSLContext) -> None:
    transport = Transport()
    error = await refusal(transport, tls)
    assert (error.message, error.own_fault) == (BAD_CERTIFICATE, "certificate")
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    await transport.aclose()


async def test_another_hosts_certificate_is_refused(
    transport: Transport, authority: trustme.CA
) -> None:
    error = await refusal(transport, serve_as(authority, "other.example"))
    assert (error.message, error.own_fault) == (BAD_CERTIFICATE, "certificate")


async def test_an_expired_certificate_is_refused(
    transport: Transport, authority: trustme.CA
) -> None:
    past = dt.datetime(2011, 1, 1, tzinfo=dt.UTC)
    await refusal(transport, serve_as(authority, "127.0.0.1", past))


async def test_the_default_context_verifies(transport: Transport) -> None:
    context = await Transport()._find_tls("")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_an_upstream_that_does_not_speak_tls_is_unavailable(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    async with RawUpstream(script) as upstream:
        with pytest.raises(UpstreamUnavailable):
            await send(transport, upstream.url.replace("http", "https")).head()


async def test_an_upstream_that_speaks_only_tls_is_an_error(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async with RawUpstream(serve, tls=tls) as upstream:
        with pytest.raises(UpstreamError):
            await send(transport, upstream.url.replace("https", "http")).head()


async def test_a_close_within_the_handshake_is_unavailable(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        if peer.number % 2:
            peer.cut()

    async with RawUpstream(script) as upstream:
        for _ in range(20):
            with pytest.raises(UpstreamUnavailable):
                await send(transport, upstream.url.replace("http", "https")).head()


async def test_a_body_that_lasts_until_the_close_needs_a_proper_close(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if request.endswith(b"vanish"):
            peer.vanish()

    async with RawUpstream(script, tls=tls) as upstream:
        assert (await fetch(transport, upstream.url))[1] == b"hello"
        with pytest.raises(UpstreamDisconnected):
            await fetch(transport, upstream.url, b"vanish")


async def test_cut_answers_are_cut_under_tls_too(transport: Transport, tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        how = (await peer.request())[-5:]
        await peer.send(STREAM, chunked(b"hello"))
        if how == b"reset":
            peer.cut()
        elif how == b"break":
            peer.vanish()

    async with RawUpstream(script, tls=tls) as upstream:
        for how in (b"reset", b"break", b"close"):
            assert await outcome(send(transport, upstream.url, how)) is UpstreamDisconnected


async def test_a_kept_connection_found_closed_is_replaced(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"%d" % peer.number))
        await peer.request()
        peer.cut()

    async with RawUpstream(script, tls=tls) as upstream:
        assert (await fetch(transport, upstream.url))[1] == b"1"
        assert (await fetch(transport, upstream.url))[1] == b"2"


async def test_an_abort_does_not_wait_for_the_other_side(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async with RawUpstream(hang, tls=tls) as upstream:
        before = descriptors()
        for _ in range(100):
            exchange = send(transport, upstream.url)
            assert await exchange.pull() == b"a"
            exchange.abort(UpstreamUnavailable())
        await eventually(lambda: transport.stats == Stats(0, 0, 0) and upstream.open == 0)
        await eventually(lambda: descriptors() <= before)


async def test_closing_does_not_wait_for_idle_or_busy_connections(
    authority: trustme.CA, tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok") if peer.number > 1 else STREAM)
        await peer.gone()

    context = ssl.create_default_context()
    authority.configure_trust(context)
    transport = Transport(ssl_context=context)
    async with RawUpstream(script, tls=tls) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        await fetch(transport, upstream.url)
        assert transport.stats == Stats(open=2, idle=1, connecting=0)
        await transport.aclose()
        assert transport.stats == Stats(0, 0, 0)
        with pytest.raises(UpstreamUnavailable):
            await exchange.end()


async def test_a_paused_exchange_stops_the_upstream(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await peer.flood(chunked(bytes(50_000)))

    async with RawUpstream(script, tls=tls) as upstream:
        exchange = send(transport, upstream.url)
        sink = Collector(exchange.pause)
        exchange.follow(sink.feed)
        for _ in range(20):
            seen = sink.size
            await eventually(lambda: sink.size > seen)  # noqa: B023
            exchange.resume()
        assert upstream.peers[0].sent_bytes < sink.size + 16_000_000
        exchange.abort(UpstreamUnavailable())


async def test_a_request_the_upstream_does_not_read_is_not_encrypted_ahead(
    transport: Transport, tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=b"413 Content Too Large"))
        await peer.gone()

    async with RawUpstream(script, tls=tls) as upstream:
        exchange = send(transport, upstream.url, bytes(50_000_000))
        await eventually(lambda: exchange._connection is not None)
        connection = exchange._connection
        assert connection is not None
        unsent = connection._unsent
        assert unsent is not None
        assert unsent.nbytes > 30_000_000
        assert (await exchange.head()).status == 413
        assert await exchange.read(BIG) == b"no"
        assert not exchange.sent
