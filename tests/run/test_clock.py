"""The clocks of one attempt: first content, gap, total, and when they stand still."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.builders.jobs import (
    BODY,
    LONG,
    Client,
    Tap,
    make_deployment,
    make_job,
    make_request,
    stream_settings,
)
from support.fakes.answers import chunk, completion, event, events_of
from support.waiting import PATIENCE_S, in_idle_time

from workers.catalog.catalog import Model
from workers.catalog.quirks import NO_CLOCKS, Clocks
from workers.errors import UpstreamTimeout
from workers.run.channel import HIGH_WATER, Channel
from workers.run.clock import REARM_FACTOR, WHOLE_FACTOR, Clock, StreamSettings
from workers.run.job import Outcome
from workers.run.pool import Engine
from workers.run.scheduler import LocalScheduler
from workers.transport.transport import DIRECT, Transport, UpstreamExchange, UpstreamHead
from workers.upstream_route import UpstreamRoute


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


# Whole attempts, against an upstream that sends its pieces after pauses


class PlayedTransport(Transport):
    """A transport without sockets: each answer is a pause in seconds and bytes, again and again.

    After the last piece the upstream is silent, unless that is the end mark. Without pieces not
    even a head comes.
    """

    def __init__(self, played: Iterable[tuple[float, bytes]]) -> None:
        super().__init__()
        self._played = played

    def exchange(
        self, url_base: str, head: bytes, body: bytes = b"", route: UpstreamRoute = DIRECT
    ) -> UpstreamExchange:
        """Begin an exchange that is connected at once."""
        exchange = UpstreamExchange(self._connect, head, body)
        exchange.open(None)
        return exchange

    def _connect(self, exchange: UpstreamExchange) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._play(exchange))

    async def _play(self, exchange: UpstreamExchange) -> None:
        exchange.connected_at = now()
        exchange.on_sent()
        begun = False
        for pause_s, data in self._played:
            if not begun:
                exchange.on_head(UpstreamHead(200, {}))
                begun = True
            await asyncio.sleep(pause_s)
            if data == THE_END:
                exchange.on_end()
                return
            exchange.on_data(data)


THE_END = b""
"""In place of a piece: the answer ends well."""
FUNCTION = {"name": "write", "parameters": {"type": "object"}}
TOOLS: dict[str, Any] = {
    "tools": [{"type": "function", "function": FUNCTION}],
    "functions": [FUNCTION],
}


@dataclass
class Ended:
    """What an attempt came to: what its client was sent, when it ended and with which outcome."""

    sent: bytes
    at_s: float
    outcome: Outcome
    fault: UpstreamTimeout | None = None


async def carried(
    settings: StreamSettings, *played: tuple[float, bytes], deployments: int = 1, **body: Any
) -> Ended:
    """Have a job carried; each deployment sends the pieces. `body` adds members to the request."""
    outcomes: list[Outcome] = []
    places = tuple(make_deployment(str(order), order=order) for order in range(deployments))
    job = make_job(
        model=Model(id="test/one", name="One", deployments=places), settle=outcomes.append
    )
    job.request = make_request(json.dumps(json.loads(BODY) | body).encode())
    client, transport = Client(), PlayedTransport(played)
    engine = Engine(transport, settings, LocalScheduler(8))
    job.channel.attach(client)
    engine.submit(job)
    began = now()
    sent = await client.end_of_answer()
    at_s = now() - began
    (outcome,) = outcomes
    ended = Ended(sent, at_s, outcome)
    (error,) = client.ends
    if error is not None:
        assert isinstance(error, UpstreamTimeout)
        ended.fault = error
    await engine.aclose()
    await transport.aclose()
    return ended


def text(content: str) -> bytes:
    """Return the events of an answer, to its end mark."""
    return b"".join(events_of([content]))


PROGRESS = {
    "comment": b": processing\n\n",
    "role": event(chunk({"role": "assistant"})),
    "empty": event(chunk({"content": ""})),
    "ping": b"event: ping\ndata: {}\n\n",
}


@pytest.mark.parametrize("progress", PROGRESS.values(), ids=PROGRESS)
@in_idle_time
async def test_an_upstream_that_shows_that_it_works_has_longer_for_its_first_content(
    progress: bytes,
) -> None:
    settings = stream_settings(first_content_timeout_s=0.6)
    ended = await carried(settings, *[(0.4, progress)] * 4, (0.1, text("late")))
    assert b"late" in ended.sent and ended.sent.endswith(b"data: [DONE]\n\n")
    assert ended.at_s == pytest.approx(1.7)
    silent = await carried(settings, (0.4, progress), (0.7, text("too late")))
    assert silent.fault is not None and silent.fault.clock == "first_content"
    assert silent.at_s == pytest.approx(1.0)


@in_idle_time
async def test_a_whole_answer_padded_with_white_space_has_longer_too() -> None:
    (body,) = completion("late").pieces
    assert isinstance(body, bytes)
    settings = stream_settings(first_content_timeout_s=0.2)
    pause_s = 0.9 * WHOLE_FACTOR * 0.2
    padded = [(pause_s, b"\n")] * 2
    ended = await carried(settings, *padded, (pause_s, body), (0.0, THE_END), stream=False)
    assert json.loads(ended.sent)["choices"][0]["message"]["content"] == "late"
    assert ended.at_s == pytest.approx(3 * pause_s)


@pytest.mark.parametrize("member", TOOLS)
@in_idle_time
async def test_with_tools_silence_longer_than_the_gap_is_normal(member: str) -> None:
    settings = stream_settings(gap_timeout_s=0.3, tools_gap_timeout_s=60.0)
    first, rest = event(chunk({"content": "one"})), text("two")
    ended = await carried(settings, (0.1, first), (50.0, rest), **{member: TOOLS[member]})
    assert ended.sent.endswith(b"data: [DONE]\n\n") and ended.at_s == pytest.approx(50.1)
    none: dict[str, Any] = {member: []}
    without = await carried(settings, (0.1, first), (50.0, rest), **none)
    assert without.fault is not None and without.fault.clock == "gap"
    assert without.at_s == pytest.approx(0.4)


@in_idle_time
async def test_the_total_clock_ends_an_answer_that_never_stops() -> None:
    settings = stream_settings(gap_timeout_s=0.1, total_timeout_s=0.3)
    pieces = itertools.repeat((0.01, event(chunk({"content": "x"}))), 100)
    ended = await carried(settings, *pieces)
    assert ended.fault is not None and ended.fault.code == "upstream_total_timeout"
    assert ended.at_s == pytest.approx(0.3)


@in_idle_time
async def test_every_prompt_that_a_silent_upstream_has_received_is_counted() -> None:
    ended = await carried(stream_settings(first_content_timeout_s=0.2), deployments=2)
    assert (ended.outcome.ending, ended.outcome.timed_out_prompts) == ("failed", 2)
    assert ended.at_s == pytest.approx(0.4)
