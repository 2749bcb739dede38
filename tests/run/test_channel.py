"""The channel of one answer: straight through to a reader that keeps up, else bounded."""

from __future__ import annotations

import pytest
from support.builders.jobs import Client, Tap

from workers.errors import GatewayError, UpstreamDisconnected
from workers.run.channel import HIGH_WATER, Channel


def joined(slow: bool = False) -> tuple[Channel, Client, Tap]:
    """Make a channel with both of its ends."""
    channel, client, tap = Channel(), Client(slow=slow), Tap()
    channel.draw_from(tap)
    channel.attach(client)
    return channel, client, tap


async def test_a_reader_that_keeps_up_gets_one_write_per_push() -> None:
    channel, client, tap = joined()
    frames = [b"data: %d\n\n" % number for number in range(100)]
    for each in frames:
        channel.push(each)
    assert client.writes == frames
    assert client.writes[0] is frames[0]  # not copied
    assert channel.waiting_bytes == 0
    assert tap.calls == []
    channel.end()
    assert client.ends == [None]


async def test_a_full_reader_gets_what_waited_in_one_write() -> None:
    channel, client, tap = joined(slow=True)
    for each in (b"a", b"b", b"c", b"d"):
        channel.push(each)
    assert client.writes == [b"a"]
    assert channel.waiting_bytes == 3
    channel.resume()
    assert client.writes == [b"a", b"bcd"]
    assert channel.waiting_bytes == 0
    channel.push(b"e")  # full again
    assert client.writes == [b"a", b"bcd"]
    client.slow = False
    channel.resume()
    channel.push(b"f")
    assert client.writes == [b"a", b"bcd", b"e", b"f"]
    assert tap.calls == []


async def test_past_the_high_water_mark_the_upstream_waits_until_the_reader_caught_up() -> None:
    channel, client, tap = joined(slow=True)
    channel.push(b"x")
    channel.push(b"y" * HIGH_WATER)
    assert tap.calls == []
    before = channel.held_back
    channel.push(b"z")
    channel.push(b"z")
    assert tap.calls == ["pause"]
    assert (before, channel.held_back) == (False, True)
    channel.resume()  # taken, but the reader is full again
    assert client.writes[1:] == [b"y" * HIGH_WATER + b"zz"]
    assert tap.calls == ["pause"]
    client.slow = False
    channel.resume()
    assert tap.calls == ["pause", "resume"]
    channel.resume()
    assert tap.calls == ["pause", "resume"]


async def test_without_a_reader_bytes_wait_bounded_and_leave_when_it_attaches() -> None:
    channel, client, tap = Channel(), Client(), Tap()
    channel.draw_from(tap)
    channel.push(b"a" * HIGH_WATER)
    channel.push(b"b")
    assert tap.calls == ["pause"]
    channel.attach(client)
    assert client.writes == [b"a" * HIGH_WATER + b"b"]
    assert tap.calls == ["pause", "resume"]


async def test_another_source_starts_unpaused() -> None:
    channel, _, first = joined(slow=True)
    channel.push(b"x")
    channel.push(b"y" * (HIGH_WATER + 1))
    second = Tap()
    channel.draw_from(second)
    assert not channel.held_back
    channel.push(b"z")
    assert (first.calls, second.calls) == (["pause"], ["pause"])


@pytest.mark.parametrize("error", [None, UpstreamDisconnected()])
async def test_the_end_comes_after_the_last_waiting_byte_and_once(
    error: GatewayError | None,
) -> None:
    channel, client, _ = joined(slow=True)
    channel.push(b"a")
    channel.push(b"b")
    channel.end(error)
    channel.end(GatewayError())
    assert client.ends == []
    channel.resume()
    assert client.writes == [b"a", b"b"]
    assert client.ends == []  # the reader is full: what it was given has not left yet
    channel.resume()
    channel.resume()
    assert client.ends == [error]


async def test_the_last_frames_come_with_the_end() -> None:
    channel, client, _ = joined()
    channel.push(b"a")
    channel.end(last=b"z")
    channel.end(last=b"again")
    assert client.writes == [b"a", b"z"]
    assert client.ends == [None]


async def test_the_last_frames_come_after_what_waited() -> None:
    channel, client, _ = joined(slow=True)
    channel.push(b"a")
    channel.push(b"b")
    channel.end(last=b"z")
    for _ in range(3):
        channel.resume()
    assert client.writes == [b"a", b"b", b"z"]
    assert client.ends == [None]


async def test_a_full_reader_with_nothing_waiting_is_told_the_end_at_once() -> None:
    channel, client, _ = joined(slow=True)
    channel.push(b"a")
    channel.end()
    assert client.ends == [None]


@pytest.mark.parametrize("error", [None, UpstreamDisconnected()])
async def test_a_reader_that_attaches_after_the_end_gets_everything(
    error: GatewayError | None,
) -> None:
    channel, client = Channel(), Client()
    channel.push(b"a")
    channel.push(b"b")
    channel.end(error, b"z")
    channel.attach(client)
    assert client.writes == [b"ab", b"z"]
    assert client.ends == [error]
    assert channel.waiting_bytes == 0


async def test_the_source_is_let_go_at_the_end() -> None:
    channel, client, tap = joined(slow=True)
    channel.push(b"x")
    channel.push(b"y" * (HIGH_WATER + 1))
    channel.end()
    client.slow = False
    channel.resume()
    assert tap.calls == ["pause"]
    assert client.ends == [None]


async def test_a_source_that_pushes_while_it_is_resumed_loses_nothing() -> None:
    channel, client, _ = joined(slow=True)

    class Eager(Tap):
        def resume(self) -> None:
            client.slow = True
            channel.push(b"more")
            channel.push(b" and more")
            channel.end()

    channel.draw_from(Eager())
    channel.push(b"x")
    channel.push(b"y" * (HIGH_WATER + 1))
    client.slow = False
    channel.resume()
    assert client.writes[-1] == b"more"
    assert client.ends == []
    channel.resume()
    channel.resume()
    assert client.writes[-1] == b" and more"
    assert client.ends == [None]


async def test_what_a_reader_raises_reaches_whoever_pushes() -> None:
    channel, client, _ = joined()
    client.fault = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        channel.push(b"a")
    channel.end(GatewayError())
    assert len(client.ends) == 1


async def test_a_reader_that_raises_when_it_should_go_on_leaves_nothing_paused_or_waiting() -> None:
    channel, client, tap = joined(slow=True)
    channel.push(b"x")
    channel.push(b"y" * (HIGH_WATER + 1))
    client.fault = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        channel.resume()
    assert tap.calls == ["pause", "resume"]  # the next push raises where it ends the exchange
    assert channel.waiting_bytes == 0
    with pytest.raises(OSError, match="gone"):
        channel.push(b"z")


async def test_a_reader_that_raises_on_the_last_bytes_is_told_the_end_all_the_same() -> None:
    channel, client, _ = joined(slow=True)
    channel.push(b"a")
    channel.push(b"b")
    channel.end()
    client.fault = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        channel.resume()
    assert client.ends == [None]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_reader_that_has_left_is_told_the_end_at_once_and_what_waited_is_dropped(
    ended: bool,
) -> None:
    channel, client, _ = joined(slow=True)
    channel.push(b"a")
    channel.push(b"b")
    if ended:
        channel.end(last=b"z")
    channel.abandon()
    channel.abandon()
    assert client.ends == [None]
    assert client.writes == [b"a"]
    assert channel.waiting_bytes == 0
    channel.resume()
    assert client.writes == [b"a"]
    assert client.ends == [None]
