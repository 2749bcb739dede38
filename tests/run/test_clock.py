"""The clocks of one attempt: first content, gap, total, and when they stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.builders.jobs import LONG, Client, Tap, stream_settings
from support.waiting import PATIENCE_S, in_idle_time

from workers.catalog.quirks import NO_CLOCKS, Clocks
from workers.errors import UpstreamTimeout
from workers.run.channel import HIGH_WATER, Channel
from workers.run.clock import REARM_FACTOR, WHOLE_FACTOR, Clock, StreamSettings


@contextmanager
def running(
    settings: StreamSettings,
    channel: Channel | None = None,
    *,
    streamed: bool = True,
    tools: bool = False,
) -> Iterator[tuple[Clock, Tap]]:
    """Start a clock on an exchange."""
    tap = Tap()
    channel = channel if channel is not None else Channel()
    clock = Clock(settings, channel, tap, streamed=streamed, tools=tools)
    try:
        yield clock, tap
    finally:
        clock.stop()


async def rung(tap: Tap) -> UpstreamTimeout:
    """Wait until a clock has run out."""
    async with asyncio.timeout(PATIENCE_S):
        await tap.aborted.wait()
    assert isinstance(tap.error, UpstreamTimeout)
    return tap.error


async def aside(seconds: float) -> None:
    """Wait until another timer of this length has run out."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


def now() -> float:
    """Return the time that clocks read."""
    return asyncio.get_running_loop().time()


def keep_touching(clock: Clock, tap: Tap, times: int) -> asyncio.Future[tuple[bool, float]]:
    """Touch a clock every 5 ms, in a callback as a socket would, until it rings or for so long.

    Gives whether it rang, and the time of the last touch.
    """
    over: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()

    def touch(left: int) -> None:
        touched_at = now()
        clock.touch()
        if left and not tap.aborted.is_set():
            asyncio.get_running_loop().call_later(0.005, touch, left - 1)
        else:
            over.set_result((tap.aborted.is_set(), touched_at))

    touch(times)
    return over


@pytest.mark.parametrize(
    ("settings", "content", "name", "code"),
    [
        (stream_settings(first_content_timeout_s=0.02), False, "first_content", "upstream_timeout"),
        (stream_settings(gap_timeout_s=0.02), True, "gap", "upstream_gap_timeout"),
        (stream_settings(total_timeout_s=0.02), False, "total", "upstream_total_timeout"),
        (stream_settings(total_timeout_s=0.02), True, "total", "upstream_total_timeout"),
        (stream_settings(0.02, LONG, 0.5), False, "first_content", "upstream_timeout"),
        (stream_settings(LONG, 0.02, 0.5), True, "gap", "upstream_gap_timeout"),
    ],
)
@in_idle_time
async def test_the_clock_that_runs_out_first_says_which_it_was(
    settings: StreamSettings, content: bool, name: str, code: str
) -> None:
    with running(settings) as (clock, tap):
        if content:
            clock.touch()
            clock.note_content()
        error = await rung(tap)
    assert (error.clock, error.code, error.status) == (name, code, 504)
    assert "0.02 s" in error.message
    assert tap.calls == ["abort"]


@in_idle_time
async def test_bytes_without_content_start_the_first_content_clock_again() -> None:
    with running(stream_settings(first_content_timeout_s=0.1)) as (clock, tap):
        rang, last = await keep_touching(clock, tap, 20)
        assert not rang
        assert (await rung(tap)).clock == "first_content"
        assert now() == pytest.approx(last + 0.1)


@in_idle_time
async def test_bytes_without_content_do_not_hold_an_answer_open_for_ever() -> None:
    began = now()
    with running(stream_settings(first_content_timeout_s=0.03)) as (clock, tap):
        rang, _ = await keep_touching(clock, tap, 5000)
        assert rang
        error = await rung(tap)
    assert error.clock == "first_content"
    assert f"{0.03 * REARM_FACTOR:g} s" in error.message
    assert now() == pytest.approx(began + 0.03 * REARM_FACTOR)


@in_idle_time
async def test_after_tools_were_offered_the_gap_is_longer() -> None:
    settings = stream_settings(gap_timeout_s=0.02, tools_gap_timeout_s=0.06)
    with running(settings, tools=True) as (clock, tap):
        clock.touch()
        clock.note_content()
        began = now()
        error = await rung(tap)
        assert now() == pytest.approx(began + 0.06)
    assert (error.clock, "0.06 s" in error.message) == ("gap", True)


@in_idle_time
async def test_a_gap_that_is_longer_than_that_for_tools_holds_with_tools_too() -> None:
    settings = stream_settings(gap_timeout_s=0.06, tools_gap_timeout_s=0.02)
    with running(settings, tools=True) as (clock, tap):
        clock.note_content()
        began = now()
        await rung(tap)
        assert now() == pytest.approx(began + 0.06)


@in_idle_time
async def test_a_whole_answer_with_tools_may_take_as_long_as_their_gap() -> None:
    settings = stream_settings(0.001, 0.001, tools_gap_timeout_s=0.06)
    began = now()
    with running(settings, streamed=False, tools=True) as (_, tap):
        error = await rung(tap)
        assert now() == pytest.approx(began + 0.06)
    assert error.clock == "first_content"


@in_idle_time
async def test_after_the_last_choice_has_finished_bytes_start_nothing_again() -> None:
    settings = stream_settings(gap_timeout_s=0.05, tools_gap_timeout_s=LONG)
    with running(settings, tools=True) as (clock, tap):
        clock.note_content()
        clock.note_finished()
        rang, _ = await keep_touching(clock, tap, 5000)
        assert rang
        assert (await rung(tap)).clock == "gap"


@in_idle_time
async def test_only_the_first_end_of_the_last_choice_starts_its_clock() -> None:
    with running(stream_settings(gap_timeout_s=0.05)) as (clock, tap):
        clock.note_finished()
        for _ in range(1000):
            clock.note_finished()
            await asyncio.sleep(0)
        began = now()
        while not tap.aborted.is_set():
            clock.note_finished()
            await aside(0.005)
            assert now() < began + PATIENCE_S


@in_idle_time
async def test_a_finished_answer_that_its_reader_holds_back_is_not_ended() -> None:
    channel = Channel()
    with running(stream_settings(gap_timeout_s=0.02), channel) as (clock, tap):
        clock.note_content()
        stalled(channel)
        clock.note_finished()
        await aside(0.08)
        assert not tap.aborted.is_set()


def test_a_models_own_clocks_replace_those_of_the_settings() -> None:
    settings = stream_settings(1.0, 2.0, 3.0, tools_gap_timeout_s=4.0)
    assert settings.with_clocks(NO_CLOCKS) is settings
    own = settings.with_clocks(Clocks(10.0, 20.0, 30.0))
    assert own == stream_settings(10.0, 20.0, 30.0, tools_gap_timeout_s=20.0)
    assert settings.with_clocks(Clocks(total_timeout_s=0.0)).total_timeout_s == 0.0
    assert settings.with_clocks(Clocks(gap_timeout_s=20.0)).first_content_timeout_s == 1.0


@in_idle_time
async def test_content_ends_the_first_content_clock() -> None:
    with running(stream_settings(first_content_timeout_s=0.02)) as (clock, tap):
        clock.touch()
        clock.note_content()
        await aside(0.06)
        assert not tap.aborted.is_set()


@in_idle_time
async def test_no_timer_is_set_per_read() -> None:
    with running(stream_settings()) as (clock, _):
        clock.note_content()
        timer = clock._timer
        clock.touch()
        clock.note_content()
        assert clock._timer is timer


@in_idle_time
async def test_content_brings_the_gap_clock_though_the_first_one_was_longer() -> None:
    with running(stream_settings(first_content_timeout_s=LONG, gap_timeout_s=0.02)) as (clock, tap):
        clock.touch()
        clock.note_content()
        assert (await rung(tap)).clock == "gap"


@in_idle_time
async def test_every_read_starts_the_gap_anew() -> None:
    with running(stream_settings(gap_timeout_s=0.05)) as (clock, tap):
        clock.note_content()
        rang, last = await keep_touching(clock, tap, 20)
        assert not rang
        assert (await rung(tap)).clock == "gap"
        assert now() == pytest.approx(last + 0.05)


@in_idle_time
async def test_the_total_clock_runs_on_whatever_comes() -> None:
    with running(stream_settings(gap_timeout_s=LONG, total_timeout_s=0.03)) as (clock, tap):
        clock.note_content()
        rang, _ = await keep_touching(clock, tap, 500)
        assert rang
        assert (await rung(tap)).clock == "total"


@in_idle_time
async def test_a_total_of_zero_is_none() -> None:
    with running(stream_settings(total_timeout_s=0.0)) as (_, tap):
        await aside(0.02)
        assert not tap.aborted.is_set()


@in_idle_time
async def test_an_answer_in_one_piece_has_longer_for_its_content() -> None:
    began = now()
    with running(stream_settings(first_content_timeout_s=0.01), streamed=False) as (_, tap):
        assert (await rung(tap)).clock == "first_content"
    assert now() == pytest.approx(began + 0.01 * WHOLE_FACTOR)


@in_idle_time
async def test_a_stopped_clock_never_rings() -> None:
    with running(stream_settings(0.01, 0.01, 0.01)) as (clock, tap):
        clock.stop()
        clock.stop()
        await aside(0.03)
        assert not tap.aborted.is_set()


def stalled(channel: Channel) -> Client:
    """Fill a channel until its upstream is paused."""
    client = Client(slow=True)
    channel.draw_from(Tap())
    channel.attach(client)
    channel.push(b"x")
    channel.push(b"y" * (HIGH_WATER + 1))
    assert channel.held_back
    return client


@in_idle_time
async def test_while_the_reader_holds_the_upstream_back_the_gap_clock_stands_still() -> None:
    channel = Channel()
    with running(stream_settings(gap_timeout_s=0.02), channel) as (clock, tap):
        clock.touch()
        clock.note_content()
        stalled(channel)
        await aside(0.08)
        assert not tap.aborted.is_set()


@in_idle_time
async def test_an_upstream_that_was_held_back_has_the_whole_gap_again() -> None:
    channel = Channel()
    with running(stream_settings(gap_timeout_s=0.1), channel) as (clock, tap):
        clock.touch()
        clock.note_content()
        client = stalled(channel)
        await aside(0.07)
        client.slow = False
        channel.resume()
        resumed = now()
        assert (await rung(tap)).clock == "gap"
        assert now() == pytest.approx(resumed + 0.1)


@in_idle_time
async def test_the_total_clock_runs_on_while_the_upstream_is_held_back() -> None:
    channel = Channel()
    with running(stream_settings(gap_timeout_s=0.01, total_timeout_s=0.05), channel) as (
        clock,
        tap,
    ):
        clock.note_content()
        stalled(channel)
        assert (await rung(tap)).clock == "total"
