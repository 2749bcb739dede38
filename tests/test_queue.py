"""The fair queue: whose turn it is, who is refused, and what waiting jobs are told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import Client, drained, make_job, take

from workers.errors import Overloaded
from workers.job import Job, Outcome
from workers.queue import FairQueue


def fill(queue: FairQueue, lanes: str, weights: dict[str, int] | None = None) -> list[Job]:
    """Queue one job for every letter, each letter a lane."""
    jobs = [make_job(lane, weight=(weights or {}).get(lane, 1)) for lane in lanes]
    for job in jobs:
        queue.put(job)
    return jobs


def lanes_of(jobs: list[Job]) -> str:
    """Spell the lanes of jobs; the owner is O."""
    return "".join("O" if job.lane == "owner" else job.lane for job in jobs)


def rest(queue: FairQueue) -> tuple[int, int, int]:
    """Count what a queue still holds: jobs, lanes, timers."""
    return len(queue), len(queue._lanes), len(queue._timers)


async def served_lanes(queue: FairQueue) -> str:
    return lanes_of(await drained(queue))


@pytest.mark.parametrize(
    ("arrivals", "served"),
    [
        ("aaa", "aaa"),
        ("abc", "abc"),
        ("aaabbb", "ababab"),
        ("aaaaab", "abaaaa"),
        ("aaabcbc", "abcabca"),
    ],
)
async def test_keys_take_turns_in_the_order_they_came(arrivals: str, served: str) -> None:
    queue = FairQueue(64, 1)
    fill(queue, arrivals)
    assert await served_lanes(queue) == served
    assert rest(queue) == (0, 0, 0)


async def test_within_a_lane_first_come_is_first_served() -> None:
    queue = FairQueue(64, 1)
    jobs = fill(queue, "aaaa")
    assert await drained(queue) == jobs


async def test_the_owner_goes_before_everybody() -> None:
    queue = FairQueue(64, 1)
    fill(queue, "abab")
    owners = [make_job("owner"), make_job("owner")]
    for job in owners:
        queue.put(job)
    order = await drained(queue)
    assert order[:2] == owners
    assert lanes_of(order) == "OOabab"


async def test_weights_are_shares() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 300 + "b" * 300 + "c" * 300, {"a": 1, "b": 2, "c": 3})
    served = Counter(lanes_of([await take(queue) for _ in range(300)]))
    assert served == {"a": 50, "b": 100, "c": 150}


@pytest.mark.parametrize("weight", [1, 2, 3, 7, 10, 33, 64, 99, 100])
async def test_every_weight_gets_its_share(weight: int) -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 5 + "b" * 501, {"b": weight})
    served = lanes_of([await take(queue) for _ in range(5 * (weight + 1))])
    assert served.count("b") in (5 * weight, 5 * weight + 1)


async def test_a_burst_does_not_starve_a_key_that_comes_later() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 500)
    await take(queue)
    fill(queue, "b")
    assert (await served_lanes(queue)).index("b") <= 1


async def test_a_lane_gains_nothing_by_leaving_and_coming_back() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 50 + "b" * 10)
    served = []
    for _ in range(20):
        job = await take(queue)
        served.append(job)
        for mine in [one for one in queue._lanes["b"].jobs] if "b" in queue._lanes else []:
            mine.cancel()
        fill(queue, "b" * 10)
    assert lanes_of(served).count("b") <= 10


async def test_a_long_quiet_lane_has_saved_up_no_turns() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "b" + "a" * 100)
    for _ in range(60):
        await take(queue)
    fill(queue, "b" * 40)
    assert lanes_of([await take(queue) for _ in range(20)]).count("b") == 10


async def test_all_guests_share_one_turn() -> None:
    queue = FairQueue(64, 1)
    guests = [make_job("guests") for _ in range(4)]
    for job in guests:
        queue.put(job)
    fill(queue, "aa")
    order = await drained(queue)
    assert [job.lane for job in order] == ["guests", "a", "guests", "a", "guests", "guests"]
    assert [job for job in order if job.lane == "guests"] == guests


# Places


async def test_a_job_that_does_not_wait_has_no_place() -> None:
    queue = FairQueue(64, 1)
    job = make_job()
    assert job.place() is None
    queue.put(job)
    place = job.place()
    assert place is not None
    assert (place.position, place.waiting) == (1, 1)
    await take(queue)
    assert job.place() is None
    job.cancel()
    assert job.place() is None


async def test_the_owner_is_told_its_place_among_the_owners_jobs() -> None:
    queue = FairQueue(64, 1)
    first, second = make_job("owner"), make_job("owner")
    (other,) = fill(queue, "a")
    queue.put(first)
    queue.put(second)
    assert [queue.place(job).position for job in (first, second, other)] == [1, 2, 3]


async def test_equal_lanes_are_told_different_places() -> None:
    queue = FairQueue(64, 1)
    jobs = fill(queue, "abc")
    assert [queue.place(job).position for job in jobs] == [1, 2, 3]


LANES = ["owner", "guests", "a", "b", "c", "d"]
arrival = st.tuples(
    st.just("arrive"), st.sampled_from(LANES), st.sampled_from([1, 1, 1, 2, 3, 7, 10, 99, 100])
)
leaving = st.tuples(st.sampled_from(["leave", "serve"]), st.integers(0, 30), st.just(0))
happenings = st.lists(st.one_of(arrival, arrival, leaving), max_size=60)


async def happen(queue: FairQueue, steps: list[tuple[str, str | int, int]]) -> list[Job]:
    """Play arrivals, leavings and servings; give the jobs that still wait."""
    waiting: list[Job] = []
    for what, value, weight in steps:
        if what == "arrive":
            job = make_job(str(value), weight=weight)
            queue.put(job)
            waiting.append(job)
        elif waiting and what == "leave":
            waiting.pop(int(value) % len(waiting)).cancel()
        elif waiting:
            waiting.remove(await take(queue))
    return waiting


@given(steps=happenings, workers=st.integers(1, 8), service_s=st.floats(0.01, 100))
async def test_places_and_waits_told_are_those_that_come(
    steps: list[tuple[str, str | int, int]], workers: int, service_s: float
) -> None:
    queue = FairQueue(64, workers)
    queue.note_service(service_s)
    waiting = await happen(queue, steps)
    told = {job: queue.place(job) for job in waiting}
    order = await drained(queue)
    assert len(order) == len(waiting)
    for number, job in enumerate(order, 1):
        assert (told[job].position, told[job].waiting) == (number, len(order))
        # Busy workers that began one after the other: one is free every service_s / workers.
        assert told[job].expected_wait_s == pytest.approx(number * service_s / workers)
    assert rest(queue) == (0, 0, 0)


@given(steps=happenings, lane=st.sampled_from(LANES), weight=st.sampled_from([1, 2, 3, 10, 100]))
async def test_a_job_is_refused_exactly_when_its_place_would_cost_more_than_it_may_wait(
    steps: list[tuple[str, str | int, int]], lane: str, weight: int
) -> None:
    queue = FairQueue(64, 3)
    queue.note_service(2.0)
    await happen(queue, steps)
    patient = make_job(lane, weight=weight)
    queue.put(patient)
    wait_s = queue.place(patient).expected_wait_s
    patient.cancel()
    with pytest.raises(Overloaded) as refused:
        queue.put(make_job(lane, weight=weight, max_wait_s=wait_s * 0.999))
    assert refused.value.retry_after_s is not None
    assert max(wait_s, 1.0) <= refused.value.retry_after_s <= max(wait_s, 1.0) * 1.1
    queue.put(make_job(lane, weight=weight, max_wait_s=wait_s * 1.001))
    for job in await drained(queue):
        job.cancel()
    assert rest(queue) == (0, 0, 0)


async def test_the_wait_told_follows_how_long_jobs_last() -> None:
    queue = FairQueue(64, 2)
    (job,) = fill(queue, "a")
    queue.note_service(4.0)
    assert queue.place(job).expected_wait_s == 2.0
    for _ in range(100):
        queue.note_service(10.0)
    assert queue.place(job).expected_wait_s == pytest.approx(5.0, rel=0.01)


# Room


async def test_past_its_bound_the_queue_refuses_with_an_honest_wait() -> None:
    queue = FairQueue(4, 2)
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
    queue = FairQueue(4, 1)
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


async def test_nobody_is_pushed_out_by_a_lane_as_long_or_nearly_as_long() -> None:
    queue = FairQueue(4, 1)
    jobs = fill(queue, "aaab")
    fill(queue, "b")  # 3 and 1: fair
    assert jobs[2].ended
    for lane in "ab":  # 2 and 2
        with pytest.raises(Overloaded):
            fill(queue, lane)
    assert await served_lanes(queue) == "abab"


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
    assert await queue.get() is job
    job.cancel()
    assert rest(queue) == (0, 0, 0)


# Deadlines


async def end_of(job: Job) -> None:
    """Wait until a job has ended."""
    ended = asyncio.Event()
    job.on_end = lambda _job: ended.set()
    async with asyncio.timeout(5):
        await ended.wait()


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
    assert outcomes[0].queued_s >= 0.009
    assert await served_lanes(queue) == "ab"


async def test_a_job_that_was_taken_in_time_is_not_ended_by_its_waiting_time() -> None:
    queue = FairQueue(8, 1)
    taken, left = make_job("a", max_wait_s=0.01), make_job("a", max_wait_s=0.01)
    queue.put(taken)
    queue.put(left)
    await take(queue)
    await end_of(left)
    assert not taken.ended
    assert rest(queue) == (0, 0, 0)


# Workers


async def idle(queue: FairQueue, number: int) -> list[asyncio.Task[Job | None]]:
    """Let workers wait for jobs."""
    workers = []
    for count in range(1, number + 1):
        workers.append(asyncio.get_running_loop().create_task(queue.get()))
        while queue.idle_workers < count:
            await asyncio.sleep(0)
    return workers


async def test_an_idle_worker_gets_a_job_without_queueing_and_the_last_to_rest_first() -> None:
    queue = FairQueue(0, 3)
    workers = await idle(queue, 3)
    jobs = [make_job(), make_job("owner"), make_job("guests")]
    for left, job in enumerate(jobs, 1):
        queue.put(job)
        assert len(queue) == 0
        assert queue.idle_workers == 3 - left
    assert await asyncio.gather(*workers) == jobs[::-1]
    assert rest(queue) == (0, 0, 0)


async def test_a_job_handed_over_that_ends_at_once_still_wakes_its_worker() -> None:
    queue = FairQueue(4, 1)
    (worker,) = await idle(queue, 1)
    job = make_job()
    queue.put(job)
    job.cancel()
    assert await worker is job
    assert job.ended
    fill(queue, "b")
    assert await served_lanes(queue) == "b"


async def test_a_worker_that_was_cancelled_while_idle_is_not_counted_nor_given_jobs() -> None:
    queue = FairQueue(4, 2)
    first, second = await idle(queue, 2)
    second.cancel()
    await asyncio.wait([second])
    assert queue.idle_workers == 1
    job = make_job()
    queue.put(job)
    assert await first is job


@pytest.mark.parametrize("lane", ["owner", "a"])
async def test_a_job_handed_to_a_worker_that_vanishes_goes_to_the_next(lane: str) -> None:
    queue = FairQueue(4, 2)
    first, second = await idle(queue, 2)
    jobs = [make_job(lane), make_job(lane)]
    for job in jobs:
        queue.put(job)
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])
    assert len(queue) == 2
    assert set(await drained(queue)) == set(jobs)
    assert rest(queue) == (0, 0, 0)


async def test_a_job_whose_worker_vanishes_is_handed_to_an_idle_one() -> None:
    queue = FairQueue(4, 2)
    first, second = await idle(queue, 2)
    job = make_job()
    queue.put(job)
    second.cancel()
    assert await first is job
    assert rest(queue) == (0, 0, 0)


async def test_a_job_that_ended_is_not_queued_again_when_its_worker_vanishes() -> None:
    queue = FairQueue(4, 1)
    (worker,) = await idle(queue, 1)
    job = make_job()
    queue.put(job)
    job.cancel()
    worker.cancel()
    await asyncio.wait([worker])
    assert rest(queue) == (0, 0, 0)
    assert job.ended


async def test_a_closed_queue_lets_every_worker_go() -> None:
    queue = FairQueue(4, 2)
    workers = await idle(queue, 2)
    queue.close()
    assert await asyncio.gather(*workers) == [None, None]
    assert await queue.get() is None
    assert queue.idle_workers == 0


# Overload


def jain(shares: list[float]) -> float:
    """Give Jain's fairness index of shares: 1 is perfectly fair."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("max_waiting", [20, 64, 512])
async def test_ten_keys_in_overload_share_evenly_whatever_their_load(
    seed: int, max_waiting: int
) -> None:
    """Four jobs are served per tick; each key alone asks for 0.5 to 8 per tick."""
    dice = random.Random(seed)
    queue = FairQueue(max_waiting, 4)
    queue.note_service(1.0)
    loads = {f"key_{number}": 0.5 + number * 0.83 for number in range(10)}
    served: Counter[str] = Counter()
    refused = 0
    for _ in range(400):
        arrivals = [lane for lane, load in loads.items() for _ in range(int(load + dice.random()))]
        dice.shuffle(arrivals)
        for lane in arrivals:
            try:
                queue.put(make_job(lane))
            except Overloaded:
                refused += 1
        assert len(queue) <= max_waiting
        for _ in range(4):
            served[(await take(queue)).lane] += 1
    assert refused > 0
    assert sum(served.values()) == 1600
    assert jain([served[lane] for lane in loads]) >= 0.98
    for job in await drained(queue):
        job.cancel()
    assert rest(queue) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_in_overload_quiet_keys_are_served_in_full_and_the_owner_always(seed: int) -> None:
    """Two keys flood, three ask for less than their share, the owner asks now and then."""
    dice = random.Random(seed)
    queue = FairQueue(64, 4)
    queue.note_service(1.0)
    loads = {"loud_1": 10.0, "loud_2": 20.0, "quiet_1": 0.3, "quiet_2": 0.5, "guests": 0.6}
    asked: Counter[str] = Counter()
    served: Counter[str] = Counter()
    for tick in range(400):
        arrivals = [lane for lane, load in loads.items() for _ in range(int(load + dice.random()))]
        dice.shuffle(arrivals)
        for lane in [*arrivals, *(["owner"] if tick % 3 == 0 else [])]:
            asked[lane] += 1
            try:
                queue.put(make_job(lane))
            except Overloaded:
                assert lane.startswith("loud")
        for _ in range(4):
            served[(await take(queue)).lane] += 1
    for lane in ("owner", "quiet_1", "quiet_2", "guests"):
        assert served[lane] >= asked[lane] - 5
    assert jain([served["loud_1"], served["loud_2"]]) >= 0.99
    for job in await drained(queue):
        job.cancel()
