"""The fair queue: who finds room, how long a job may wait, and which one a slot is for."""

from __future__ import annotations

import asyncio

import pytest
from support.builders.jobs import (
    Client,
    ClockedQueue,
    drained,
    fill,
    make_job,
    rest,
    served_lanes,
    take,
)
from support.waiting import PATIENCE_S, in_idle_time

from workers.errors import Overloaded, UpstreamOverloaded
from workers.run.job import Job, Outcome
from workers.run.queue import FairQueue
from workers.run.retries import Tries
from workers.run.ticket import Ticket

# Room


async def test_past_its_bound_the_queue_refuses_with_an_honest_wait() -> None:
    queue = ClockedQueue(4, 2)
    queue.note_service(6.0)
    fill(queue, "aaaa")
    with pytest.raises(Overloaded) as refused:
        fill(queue, "a")
    assert refused.value.retry_after_s is not None
    assert 5 * 3.0 <= refused.value.retry_after_s <= 5 * 3.0 * 1.1
    assert refused.value.status == 503
    assert len(queue) == 4


async def test_the_owners_room_is_apart_and_bounded_too() -> None:
    queue = FairQueue(2, 1)
    fill(queue, "ab")
    for _ in range(2):
        queue.put(make_job("owner"))
    with pytest.raises(Overloaded):
        queue.put(make_job("owner"))
    assert await served_lanes(queue) == "OOab"


async def test_a_full_queue_makes_room_at_the_cost_of_the_longest_lanes_newest_job() -> None:
    queue = ClockedQueue(4, 1)
    queue.note_service(2.0)
    outcomes: list[Outcome] = []
    fill(queue, "aa")
    victim, client = make_job("a", settle=outcomes.append), Client()
    victim.channel.attach(client)
    queue.put(victim)
    fill(queue, "bc")
    assert client.told.status == 503
    assert client.told.retry_after_s is not None
    assert 4 * 2.0 <= client.told.retry_after_s <= 4 * 2.0 * 1.1
    assert [outcome.ending for outcome in outcomes] == ["refused"]
    assert not outcomes[0].prompt_sent
    assert await served_lanes(queue) == "abca"
    assert rest(queue) == (0, 0, 0)


@pytest.mark.parametrize("waiting", ["aab", "abab", "ab", "aabbc"])
async def test_nobody_is_pushed_out_by_a_lane_as_long_or_nearly_as_long(waiting: str) -> None:
    queue = FairQueue(len(waiting), 1)
    jobs = fill(queue, waiting)
    for lane in "ab":
        with pytest.raises(Overloaded):
            fill(queue, lane)
    assert not any(job.ended for job in jobs)
    for job in jobs:
        job.cancel()


async def test_a_job_that_is_refused_for_its_own_deadline_pushes_nobody_out() -> None:
    queue = FairQueue(4, 1)
    queue.note_service(60.0)
    jobs = fill(queue, "aaaa")
    with pytest.raises(Overloaded):
        queue.put(make_job("b", max_wait_s=1.0))
    assert not any(job.ended for job in jobs)


async def test_a_job_that_pushes_another_out_is_judged_by_its_own_turn() -> None:
    queue = FairQueue(100, 1)
    queue.note_service(1.0)
    fill(queue, "a" * 100)
    queue.put(make_job("b", max_wait_s=5.0))  # second in turn, whatever waits behind
    assert (await served_lanes(queue))[:2] == "ab"


async def test_before_anything_was_measured_nobody_is_refused_for_a_guess() -> None:
    queue = FairQueue(4, 1)
    queue.put(make_job(max_wait_s=0.5))
    assert len(queue) == 1
    for job in await drained(queue):
        job.cancel()


async def test_a_client_that_leaves_frees_its_place_at_once() -> None:
    queue = FairQueue(2, 1)
    first, _ = fill(queue, "aa")
    first.cancel()
    fill(queue, "a")
    assert len(await drained(queue)) == 2
    assert rest(queue) == (0, 0, 0)


@pytest.mark.parametrize("lane", ["owner", "a"])
async def test_a_job_taken_out_that_ends_before_it_is_picked_up_harms_nothing(lane: str) -> None:
    queue = FairQueue(4, 1)
    job = make_job(lane)
    queue.put(job)
    assert queue.take() is job
    job.cancel()
    assert rest(queue) == (0, 0, 0)


# Deadlines


async def end_of(job: Job) -> None:
    """Wait until a job has ended."""
    ended = asyncio.Event()
    job.on_end = lambda _job: ended.set()
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()


@in_idle_time
async def test_a_job_that_has_waited_too_long_is_ended_with_the_wait_still_ahead() -> None:
    queue = FairQueue(8, 1)
    fill(queue, "ab")
    outcomes: list[Outcome] = []
    job, client = make_job("a", max_wait_s=0.01, settle=outcomes.append), Client()
    job.channel.attach(client)
    queue.put(job)
    queue.note_service(7.0)
    await end_of(job)
    assert isinstance(client.told, Overloaded)
    assert client.told.retry_after_s is not None
    assert 3 * 7.0 <= client.told.retry_after_s <= 3 * 7.0 * 1.1
    assert [outcome.ending for outcome in outcomes] == ["refused"]
    assert outcomes[0].queued_s == pytest.approx(0.01)
    assert await served_lanes(queue) == "ab"


@in_idle_time
async def test_a_job_that_was_taken_in_time_is_not_ended_by_its_waiting_time() -> None:
    queue = FairQueue(8, 1)
    taken, left = make_job("a", max_wait_s=0.01), make_job("a", max_wait_s=0.01)
    queue.put(taken)
    queue.put(left)
    await take(queue)
    await end_of(left)
    await asyncio.sleep(1.0)
    assert not taken.ended
    assert rest(queue) == (0, 0, 0)


# Slots of deployments


class Seats:
    """Slots as a test hands them out: jobs of these lanes can be seated, others cannot."""

    def __init__(self, lanes: str = "") -> None:
        self.lanes = lanes
        self.asked: list[Ticket] = []

    def __call__(self, job: Ticket) -> bool:
        """Return whether a job can be seated."""
        self.asked.append(job)
        return job.lane in self.lanes


async def test_without_a_slot_a_job_waits() -> None:
    seats = Seats()
    queue = FairQueue(8, 1, seat=seats)
    job = make_job("a")
    queue.put(job)
    assert (job.state, len(queue), queue.take()) == ("queued", 1, None)
    seats.lanes = "a"
    assert queue.take() is job
    assert rest(queue) == (0, 0, 0)


async def test_a_job_without_a_slot_holds_up_those_behind_it() -> None:
    seats = Seats("b")
    queue = FairQueue(8, 1, seat=seats)
    first, _ = fill(queue, "ab")
    assert queue.take() is None
    assert seats.asked == [first], "the others have the same needs: one question is enough"
    seats.lanes = "ab"
    assert await served_lanes(queue) == "ab"


async def test_a_job_that_came_back_is_first_in_its_lane_and_has_other_needs() -> None:
    seats = Seats()
    queue = FairQueue(2, 1, seat=seats)
    fill(queue, "ab")
    back = make_job("c")
    back.pick_up()
    back.tries = Tries()
    queue.put_back(back)
    assert (back.state, len(queue)) == ("queued", 3), "the bound of the queue is for new jobs"
    seats.lanes = "c"
    assert queue.take() is back
    seats.lanes = "b"
    assert queue.take() is None, "the first cannot be seated, and no other has other needs"
    seats.lanes = "ab"
    assert await served_lanes(queue) == "ab"
    assert rest(queue) == (0, 0, 0)


@pytest.mark.parametrize("lane", ["owner", "a"])
async def test_a_job_that_came_back_goes_before_the_others_of_its_lane(lane: str) -> None:
    queue = FairQueue(8, 1)
    waiting = [make_job(lane), make_job(lane)]
    for job in waiting:
        queue.put(job)
    back = make_job(lane)
    back.pick_up()
    back.tries = Tries()
    queue.put_back(back)
    assert await drained(queue) == [back, *waiting]


@in_idle_time
async def test_a_job_that_came_back_keeps_the_rest_of_its_patience() -> None:
    queue = FairQueue(8, 1)
    job, client = make_job("a", max_wait_s=30.0), Client()
    job.channel.attach(client)
    job.created -= 20
    job.pick_up()
    assert job.patience_s == pytest.approx(10.0)
    await asyncio.sleep(9)  # while it is carried it does not wait
    job.tries = Tries()
    queue.put_back(job)
    await end_of(job)
    assert isinstance(client.told, Overloaded)
    assert asyncio.get_running_loop().time() == pytest.approx(9.0 + 10.0)


@in_idle_time
async def test_a_job_whose_deployments_cool_is_ended_with_the_reason() -> None:
    reason = UpstreamOverloaded("cooling", retry_after_s=60.0)
    queue = FairQueue(8, 1, seat=Seats(), excuse=lambda _job: reason)
    outcomes: list[Outcome] = []
    job, client = make_job("a", max_wait_s=0.01, settle=outcomes.append), Client()
    job.channel.attach(client)
    queue.put(job)
    await end_of(job)
    assert client.told is reason
    assert [outcome.ending for outcome in outcomes] == ["refused"]


async def test_while_nothing_is_served_the_expected_wait_counts_that_time_too() -> None:
    queue = ClockedQueue(8, 2)
    queue.note_service(4.0)
    (job,) = fill(queue, "a")
    queue.opens_at = queue.at + 60.0
    place = queue.place(job)
    assert place.expected_wait_s == 60.0
    with pytest.raises(Overloaded):
        queue.put(make_job("a", max_wait_s=50.0))
