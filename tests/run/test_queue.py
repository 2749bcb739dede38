"""The fair queue: whose turn it is, who is refused, and the place of waiting jobs."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders.jobs import (
    ClockedQueue,
    drained,
    fill,
    lanes_of,
    make_job,
    rest,
    served_lanes,
    take,
)

from workers.errors import Overloaded
from workers.run.job import Job
from workers.run.queue import FairQueue


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


async def test_a_keys_new_weight_counts_from_its_next_job_on() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "ab" * 50)
    fill(queue, "b", {"b": 4})
    assert lanes_of([await take(queue) for _ in range(50)]).count("b") == 40


async def test_a_burst_does_not_starve_a_key_that_comes_later() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 500)
    await take(queue)
    fill(queue, "b")
    assert (await served_lanes(queue)).index("b") <= 1


async def test_a_lane_gains_nothing_by_leaving_and_coming_back() -> None:
    queue = FairQueue(1000, 1)
    fill(queue, "a" * 50)
    mine_now = fill(queue, "b" * 10)
    served = []
    for _ in range(20):
        job = await take(queue)
        served.append(job)
        for mine in mine_now:
            mine.cancel()
        mine_now = fill(queue, "b" * 10)
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
    queue = ClockedQueue(64, workers)
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
    queue = ClockedQueue(64, 3)
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
    queue = ClockedQueue(64, 2)
    (job,) = fill(queue, "a")
    queue.note_service(4.0)
    assert queue.place(job).expected_wait_s == 2.0
    for _ in range(100):
        queue.note_service(10.0)
    assert queue.place(job).expected_wait_s == pytest.approx(5.0, rel=0.01)


async def test_the_time_in_which_workers_had_nothing_to_do_is_no_wait() -> None:
    queue = ClockedQueue(10, 1)
    queue.note_service(0.001)
    queue.at += 300.0
    second = make_job("b", max_wait_s=0.2)
    queue.note_start()  # a job that found a free slot has not been in the queue
    queue.put(second)  # not refused: the first has just been served
    second.close("cancelled")


async def test_the_wait_grows_while_no_job_ends_and_not_while_workers_rest() -> None:
    queue = ClockedQueue(10, 2)
    queue.note_service(0.001)
    job = make_job("a")
    queue.put(job)
    queue.at += 2.0
    assert queue.place(job).expected_wait_s == 2.0
    assert await take(queue) is job
    second = make_job("b", max_wait_s=0.9)
    queue.put(second)  # not refused: the worker has just begun
    assert queue.place(second).expected_wait_s == 0.0005
    second.close("cancelled")


# Overload


def jain(shares: list[float]) -> float:
    """Return Jain's fairness index of shares: 1 is perfectly fair."""
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


async def test_a_lane_that_is_kept_away_holds_up_no_other() -> None:
    queue = FairQueue(64, 1, seat=lambda job: job.lane != "a")
    fill(queue, "aabb")
    assert queue.take() is None, "what the first cannot use, no other can"
    queue.barred_lanes = frozenset("a")
    served = [queue.take(), queue.take()]
    assert [job.lane for job in served if job is not None] == ["b", "b"]
    assert queue.take() is None
    assert len(queue) == 2
    for job in list(queue):
        queue.remove(job)
