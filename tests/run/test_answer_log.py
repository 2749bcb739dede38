"""The log of one answer: every reader gets every event once, wherever it comes in."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from support.builders.jobs import Client, make_job
from support.waiting import in_idle_time

from workers.errors import AnswerGone, Conflict, GatewayError, InvalidRequest, UpstreamDisconnected
from workers.run.answer_log import MAX_READERS, SEGMENT_BYTES, AnswerLog


def event(number: int, size: int = 0) -> bytes:
    """Make an event that carries its number, and text that does not compress if it is long."""
    filler = random.Random(number).randbytes(size // 2).hex()
    return b"data: %d %b\n\n" % (number, filler.encode())


def numbers(client: Client) -> list[int]:
    """Read the numbers of the events that a reader was given."""
    return [int(one.split()[1]) for one in b"".join(client.writes).split(b"\n\n") if one]


def a_log(max_bytes: int = 1 << 20, grace_s: float | None = None) -> tuple[AnswerLog, list[int]]:
    """Make a log, and the list of what it says that it grew."""
    grown: list[int] = []
    return AnswerLog(max_bytes, grown.append, grace_s), grown


def follow(log: AnswerLog, after: int = 0, *, slow: bool = False) -> Client:
    """Attach a reader."""
    client = Client(slow=slow)
    log.attach(after).begin(client)
    return client


@pytest.mark.parametrize("size", [0, 30_000])
@pytest.mark.parametrize("come_at", [0, 1, 4, 6, 12])
async def test_a_reader_that_comes_at_any_time_gets_the_rest_once(size: int, come_at: int) -> None:
    log, _ = a_log(1 << 30)
    log.carry(make_job())
    readers: list[tuple[int, Client]] = []
    for batch in (1, 3, 2, 5):
        events = [event(log.last + one, size) for one in range(1, batch + 1)]
        if log.last <= come_at < log.last + batch:
            readers = [(after, follow(log, after)) for after in range(log.last + 1)]
        log.write(b"".join(events))
    log.end(None, event(12, size))
    if come_at == 12:
        readers = [(after, follow(log, after)) for after in range(13)]
    assert readers
    for after, reader in readers:
        assert numbers(reader) == list(range(after + 1, 13))
        assert reader.ends == [None]


def picture(number: int) -> bytes:
    """Make an event of 2 MB, which would compress to next to nothing."""
    return b"data: %d %b\n\n" % (number, b"A" * 2_000_000)


async def test_a_large_event_is_kept_as_it_is_because_compressing_it_would_stop_the_loop() -> None:
    log, grown = a_log(1 << 30)
    log.carry(make_job())
    log.write(event(1))
    before = log.size_bytes
    log.write(picture(2))
    assert log.size_bytes - before > 1_900_000
    log.write(event(3))
    log.end(None)
    assert log.size_bytes == sum(grown) > 2_000_000


@pytest.mark.parametrize("after", range(9))
async def test_large_events_between_small_ones_keep_their_order(after: int) -> None:
    log, grown = a_log(1 << 30)
    log.carry(make_job())
    live = follow(log)
    for frames in (
        picture(1),
        event(2) + event(3),
        picture(4),
        picture(5),
        event(6, 30_000),
        event(7, 60_000),
    ):
        log.write(frames)
    early = follow(log, min(after, 7))
    log.end(None, event(8))
    assert numbers(live) == list(range(1, 9))
    assert numbers(early) == list(range(min(after, 7) + 1, 9))
    assert numbers(follow(log, after)) == list(range(after + 1, 9))
    assert log.size_bytes == sum(grown)
    while log.drop_oldest():
        pass
    assert sum(grown) == 0


async def test_readers_follow_from_where_they_came_in_to_the_end() -> None:
    log, _ = a_log()
    log.carry(make_job())
    early = follow(log)
    log.write(event(1) + event(2))
    late, latest = follow(log, 1), follow(log, 2)
    log.write(event(3))
    log.end(None, event(4))
    assert numbers(early) == [1, 2, 3, 4]
    assert numbers(late) == [2, 3, 4]
    assert numbers(latest) == [3, 4]
    assert early.ends == late.ends == latest.ends == [None]


async def test_a_slow_reader_is_waited_for_by_nobody_and_misses_nothing() -> None:
    log, _ = a_log(1 << 30)
    log.carry(make_job())
    slow = Client(slow=True)
    attachment = log.attach(0)
    attachment.begin(slow)
    for number in range(1, 41):
        assert log.write(event(number, 10_000)) is True
    assert numbers(slow) == [1]
    log.end(None, event(41))
    assert slow.ends == []
    while not slow.ends:
        attachment.resume()
    assert numbers(slow) == list(range(1, 42))
    assert slow.ends == [None]


async def test_an_error_is_the_last_event_and_told_once() -> None:
    log, _ = a_log()
    log.carry(make_job())
    log.write(event(1))
    error = UpstreamDisconnected()
    live = follow(log, 1)
    log.end(error)
    assert live.ends == [error]
    assert (log.last, log.last_event) == (1, 2)
    assert follow(log, 0).ends == follow(log, 1).ends == [error]
    assert follow(log, 2).ends == [None], "it has seen the error"


async def test_a_number_that_never_was_is_refused() -> None:
    log, _ = a_log()
    log.carry(make_job())
    log.write(event(1))
    with pytest.raises(InvalidRequest) as caught:
        log.attach(2)
    assert caught.value.param == "after"


async def test_past_the_bound_the_oldest_events_go_and_are_told_to_be_gone() -> None:
    log, grown = a_log(4 * SEGMENT_BYTES)
    log.carry(make_job())
    live, stuck = follow(log), follow(log, slow=True)
    for number in range(1, 200):
        log.write(event(number, 20_000))
        assert log.size_bytes == sum(grown) <= 6 * SEGMENT_BYTES
    assert numbers(live) == list(range(1, 200))
    assert log.first > 1
    with pytest.raises(AnswerGone):
        log.attach(log.first - 2)
    assert numbers(follow(log, log.first - 1))[0] == log.first
    (attachment,) = [one for one in log._attached if one._reader is stuck]
    attachment.resume()
    assert [type(error) for error in stuck.ends] == [AnswerGone]


async def test_repetitive_events_take_a_fraction_of_their_size() -> None:
    log, _ = a_log()
    log.carry(make_job())
    chunk = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n'
    sent = sum(len(chunk % number) for number in range(20_000))
    for number in range(20_000):
        log.write(chunk % number)
    assert log.size_bytes < sent / 5
    assert log.first == 1


async def test_what_is_dropped_is_subtracted_to_nothing() -> None:
    log, grown = a_log()
    log.carry(make_job())
    for number in range(1, 50):
        log.write(event(number, 10_000))
    log.end(GatewayError())
    while log.drop_oldest():
        pass
    assert sum(grown) == log.size_bytes == 0
    assert log.first == log.last + 1
    with pytest.raises(AnswerGone):
        log.attach(0)


async def test_readers_are_not_without_number() -> None:
    log, _ = a_log()
    log.carry(make_job())
    places = [log.attach(0) for _ in range(MAX_READERS)]
    with pytest.raises(Conflict):
        log.attach(0)
    places[0].leave()
    log.attach(0)


async def test_a_reader_that_left_gets_nothing_more() -> None:
    log, _ = a_log()
    log.carry(make_job())
    client = Client()
    place = log.attach(0)
    place.begin(client)
    place.leave()
    place.leave()
    assert client.ends == [None]
    log.write(event(1))
    assert client.writes == []


@in_idle_time
async def test_only_an_answer_with_a_grace_is_stopped_when_nobody_reads() -> None:
    abandoned, kept = make_job(), make_job()
    for job, grace_s in ((abandoned, 0.05), (kept, None)):
        log, _ = a_log(grace_s=grace_s)
        log.carry(job)
        log.attach(0).leave()
        second = log.attach(0)
        second.leave()
    await asyncio.sleep(0.04)
    assert [job.ended for job in (abandoned, kept)] == [False, False]
    await asyncio.sleep(0.02)
    assert [job.ended for job in (abandoned, kept)] == [True, False]


@in_idle_time
async def test_a_reader_in_time_keeps_the_answer_alive() -> None:
    job = make_job()
    log, _ = a_log(grace_s=0.1)
    log.carry(job)
    log.attach(0).leave()
    client = follow(log)
    await asyncio.sleep(0.3)  # three graces
    assert not job.ended
    job.close("cancelled", GatewayError())
    assert client.told.status == 500


async def test_growth_is_told_step_by_step() -> None:
    log, grown = a_log()
    log.carry(make_job())
    sizes = []
    for number in range(1, 20):
        log.write(event(number, 10_000))
        sizes.append(sum(grown))
        assert sizes[-1] == log.size_bytes
    assert any(later < earlier for earlier, later in pairwise(sizes)), "compressed at some point"
