"""Names and addresses: one dead name or address costs itself, and nothing else for long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest
from support.builders.exchanges import fetch, outcome, send
from support.fakes.clocks import Clocks
from support.fakes.raw_upstream import (
    Peer,
    RawUpstream,
    always,
    answer,
    deaf_upstream,
    descriptors,
)
from support.network.ports import free_port
from support.waiting import PATIENCE_S, eventually

from workers.errors import UpstreamUnavailable
from workers.transport.resolver import FAILED_S, FOUND_S, MAX_KNOWN, Resolver
from workers.transport.transport import Stats, Transport

IPV4 = socket.AF_INET.value


class Names:
    """A look-up with given results, which can hang."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.dead: set[str] = set()
        self.over = threading.Event()

    def look_up(self, host: str) -> list[tuple[int, object]]:
        """Return the given addresses; a dead name hangs until the test is over."""
        self.asked.append(host)
        if host in self.dead:
            self.over.wait()
        if host not in self.addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(IPV4, address) for address in self.addresses[host]]


@pytest.fixture
def clock() -> Clocks:
    return Clocks()


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    names = Names()
    yield names
    names.over.set()
    running = [one for one in threading.enumerate() if one.name.startswith("look up")]
    for thread in running:
        await asyncio.to_thread(thread.join, PATIENCE_S)


@pytest.fixture
async def transport(names: Names, clock: Clocks) -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=PATIENCE_S, look_up=names.look_up, clock=clock.now)
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


# Names


async def test_names_that_hang_do_not_stop_the_others(transport: Transport, names: Names) -> None:
    names.dead = {f"dead-{number}.example" for number in range(40)}
    names.addresses["alive.example"] = ["127.0.0.1"]
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        hanging = [send(transport, f"http://{host}") for host in names.dead]
        assert (await fetch(transport, f"http://alive.example:{upstream.port}"))[1] == b"ok"
        for exchange in hanging:
            exchange.abort(UpstreamUnavailable())


async def test_the_requests_of_a_moment_share_one_look_up(
    transport: Transport, names: Names
) -> None:
    names.addresses["alive.example"] = ["127.0.0.1"]
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        url = f"http://alive.example:{upstream.port}"
        await asyncio.gather(*[fetch(transport, url) for _ in range(20)])
        assert len(upstream.peers) == 20
        assert names.asked == ["alive.example"]


async def test_a_request_that_stops_waiting_leaves_the_look_up_to_the_others(
    transport: Transport, names: Names
) -> None:
    names.dead.add("slow.example")
    names.addresses["slow.example"] = ["127.0.0.1"]
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        url = f"http://slow.example:{upstream.port}"
        first, second = send(transport, url), send(transport, url)
        await eventually(lambda: names.asked == ["slow.example"])
        first.abort(UpstreamUnavailable())
        names.over.set()
        assert await outcome(second) == (200, b"ok")
        assert names.asked == ["slow.example"]


async def test_addresses_are_looked_up_again_after_a_minute(names: Names, clock: Clocks) -> None:
    names.addresses["a.example"] = ["127.0.0.1"]
    resolver = Resolver(names.look_up, clock.now)
    assert await resolver.find("a.example") == ("127.0.0.1",)
    names.addresses["a.example"] = ["127.0.0.2"]
    clock.pass_s(FOUND_S - 1)
    assert await resolver.find("a.example") == ("127.0.0.1",)
    clock.pass_s(2)
    assert await resolver.find("a.example") == ("127.0.0.2",)


async def test_a_failed_look_up_is_repeated_after_some_seconds(names: Names, clock: Clocks) -> None:
    resolver = Resolver(names.look_up, clock.now)
    for _ in range(3):
        with pytest.raises(OSError, match="not known"):
            await resolver.find("b.example")
    assert len(names.asked) == 1
    names.addresses["b.example"] = ["127.0.0.1"]
    clock.pass_s(FAILED_S + 0.1)
    assert await resolver.find("b.example") == ("127.0.0.1",)
    assert FAILED_S < FOUND_S


async def test_the_memory_of_names_is_bounded(names: Names, clock: Clocks) -> None:
    resolver = Resolver(names.look_up, clock.now)
    for number in range(MAX_KNOWN + 10):
        names.addresses[f"{number}.example"] = ["127.0.0.1"]
        await resolver.find(f"{number}.example")
    assert len(resolver._known) == MAX_KNOWN


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::1"])
async def test_an_address_needs_no_look_up(names: Names, host: str) -> None:
    assert await Resolver(names.look_up).find(host) == (host,)
    assert names.asked == []


async def test_a_look_up_that_fails_in_an_unexpected_way_ends_too() -> None:
    def broken(host: str) -> list[tuple[int, object]]:
        raise KeyError(host)

    with pytest.raises(OSError, match="KeyError"):
        await Resolver(broken).find("a.example")


async def test_a_name_that_leads_nowhere_is_looked_up_again(
    transport: Transport, names: Names
) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        names.addresses["moved.example"] = ["127.0.0.9"]
        url = f"http://moved.example:{upstream.port}"
        assert await outcome(send(transport, url)) is UpstreamUnavailable
        names.addresses["moved.example"] = ["127.0.0.1"]
        assert await outcome(send(transport, url)) == (200, b"ok")


# Addresses


def be_patient(transport: Transport) -> None:
    """Try an address only when those before it have failed, however slow the machine is."""
    transport._settings.dialer.attempt_delay_s = PATIENCE_S


async def test_an_address_that_drops_packets_is_tried_last_for_ten_minutes(
    transport: Transport, names: Names, clock: Clocks
) -> None:
    names.addresses["two.example"] = ["127.0.0.2", "127.0.0.1"]
    async with RawUpstream(always(answer(b"first", b"connection: close"))) as working:
        url = f"http://two.example:{working.port}"
        with deaf_upstream("127.0.0.2", working.port):
            assert await outcome(send(transport, url)) == (200, b"first")
        be_patient(transport)
        async with RawUpstream(
            always(answer(b"second")), host="127.0.0.2", port=working.port
        ) as healed:
            clock.pass_s(590)
            assert await outcome(send(transport, url)) == (200, b"first")
            assert not healed.peers
            clock.pass_s(20)
            assert await outcome(send(transport, url)) == (200, b"second")


async def test_an_address_that_refuses_is_followed_by_the_next(
    transport: Transport, names: Names
) -> None:
    names.addresses["many.example"] = [f"127.0.0.{last}" for last in range(99, 0, -1)]
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        assert (await fetch(transport, f"http://many.example:{upstream.port}"))[1] == b"ok"


async def test_when_all_addresses_refuse_the_last_reason_is_kept(
    transport: Transport, names: Names
) -> None:
    names.addresses["none.example"] = ["127.0.0.1", "127.0.0.2"]
    exchange = send(transport, f"http://none.example:{free_port()}")
    with pytest.raises(UpstreamUnavailable) as refusal:
        await exchange.head()
    assert isinstance(refusal.value.__cause__, ConnectionRefusedError)


async def test_an_abort_during_several_attempts_leaves_nothing_open(
    transport: Transport, names: Names
) -> None:
    names.addresses["deaf.example"] = [f"127.0.0.{last}" for last in range(1, 5)]
    with contextlib.ExitStack() as stack:
        port = int(stack.enter_context(deaf_upstream()).rpartition(":")[2])
        for last in range(2, 5):
            stack.enter_context(deaf_upstream(f"127.0.0.{last}", port))
        # libuv opens a spare descriptor with its first connection.
        refused = send(transport, f"http://127.0.0.1:{free_port()}")
        assert await outcome(refused) is UpstreamUnavailable
        before = descriptors()
        exchange = send(transport, f"http://deaf.example:{port}")
        await eventually(lambda: descriptors() == before + 4)
        exchange.abort(UpstreamUnavailable())
        await eventually(lambda: descriptors() == before)


async def test_the_attempts_that_were_slower_are_closed(transport: Transport, names: Names) -> None:
    names.addresses["two.example"] = ["127.0.0.2", "127.0.0.1"]
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        with deaf_upstream("127.0.0.2", upstream.port):
            before = descriptors()
            assert (await fetch(transport, f"http://two.example:{upstream.port}"))[1] == b"ok"
            await eventually(lambda: descriptors() == before + 2)  # both ends of the kept one


async def test_an_address_whose_handshake_is_cut_is_tried_last(
    transport: Transport, names: Names
) -> None:
    async def cut(peer: Peer) -> None:
        peer.cut()

    async def hang(peer: Peer) -> None:
        await peer.gone()

    be_patient(transport)
    names.addresses["two.example"] = ["127.0.0.1", "127.0.0.2"]
    async with (
        RawUpstream(cut) as broken,
        RawUpstream(hang, host="127.0.0.2", port=broken.port) as other,
    ):
        url = f"https://two.example:{broken.port}"
        assert await outcome(send(transport, url)) is UpstreamUnavailable
        exchange = send(transport, url)
        await eventually(lambda: len(other.peers) == 1)
        exchange.abort(UpstreamUnavailable())
        assert len(broken.peers) == 1
