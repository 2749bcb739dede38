"""What every store must do; each test runs against every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations, product

import pytest
from msgspec import structs
from support.builders.rows import NOON, a_key, a_row
from support.builders.store_backends import Backend

from server.store.key import Limits
from server.store.rows import (
    DAY_MARKS,
    Batch,
    CounterRow,
    InvitationRow,
    KeyQuery,
    Percentile,
    SessionRow,
    UsageDay,
    UsageRow,
)
from server.store.store import Store
from server.store.usage_queries import PercentileQuery, RankingQuery, RowsQuery, SumsQuery
from workers.run.job import Attempt

DAY_S = 86_400.0


# Keys and facts


async def test_a_key_comes_back_as_it_was_put_also_after_a_restart(backend: Backend) -> None:
    full = a_key(
        1,
        name="Zoë's 'key' \"1\"; --",
        last_used_at=5,
        expires_at=6,
        status="disabled",
        models=("a/b", "c/d"),
        limits=Limits(1, 2, 3, 10**15, "week"),
        weight=100,
        previous_digest=b"p" * 32,
        previous_until=7,
        note="Line one\nline two, 漢字",
    )
    bare = a_key(2)
    async with backend() as store:
        await store.add_keys([full])
        await store.add_keys([bare])
        assert sorted(await store.load_keys(), key=lambda key: key.id) == [full, bare]
    async with backend() as store:
        assert sorted(await store.load_keys(), key=lambda key: key.id) == [full, bare]


async def test_a_last_use_never_goes_back(store: Store) -> None:
    await store.add_keys([a_key(last_used_at=100)])
    await store.record(Batch(last_used={a_key().id: 300, "key_unknown": 1}))
    assert await store.replace_key(a_key(last_used_at=100, name="changed meanwhile", version=2))
    await store.record(Batch(last_used={a_key().id: 200}))
    changed = a_key(last_used_at=300, name="changed meanwhile", version=2)
    assert await store.load_keys() == [changed]


# Lists of keys

LISTED = [
    a_key(1, name="Zoë's laptop", created_at=100),
    a_key(2, name="100% tests_x", created_at=100, status="revoked"),
    a_key(3, name="ci", redacted="roxy_zzzz…QRST", created_at=50, previous_digest=b"p" * 32),
    a_key(4, name="ci", created_at=200, status="disabled"),
    a_key(5, name="100 testsyx", created_at=150, expires_at=1),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (KeyQuery(), "31254"),
        (KeyQuery(descending=True), "45213"),
        (KeyQuery(revoked=True), "2"),
        (KeyQuery(revoked=False, descending=True), "4513"),
        (KeyQuery(limit=2, offset=1), "12"),
        (KeyQuery(after=a_key(1).id), "254"),
        (KeyQuery(after=a_key(2).id, descending=True), "13"),
        (KeyQuery(after="key_unknown"), ""),
        (KeyQuery(search="CI"), "34"),
        (KeyQuery(search="CI", revoked=False, limit=1), "3"),
        (KeyQuery(search="ZOË"), "1"),
        (KeyQuery(search="0%"), "2"),
        (KeyQuery(search="s_x"), "2"),
        (KeyQuery(search="!"), ""),
        (KeyQuery(search="zzzz...qrst"), "3"),
        (KeyQuery(search="000005"), "5"),
        (KeyQuery(search="'; --"), ""),
        (KeyQuery(name="ci"), "34"),
        (KeyQuery(name="ci", search="zzzz"), "3"),
        (KeyQuery(name="c"), ""),
    ],
)
async def test_keys_are_listed_and_searched(store: Store, query: KeyQuery, found: str) -> None:
    await store.add_keys(LISTED)
    keys = [LISTED[int(number) - 1] for number in found]
    assert await store.list_keys(query) == keys
    if query == KeyQuery(search=query.search, revoked=query.revoked):
        assert await store.count_keys(query) == len(keys)


SORTED = [
    a_key(1, name="beta", last_used_at=50, note="Team Müller"),
    a_key(2, name="Alpha", last_used_at=90),
    a_key(3, name="alpha two", note="50% of the budget"),
    a_key(4, name="Gamma", last_used_at=70),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (KeyQuery(order="name"), "2314"),
        (KeyQuery(order="name", descending=True, limit=2), "41"),
        (KeyQuery(order="used"), "3142"),
        (KeyQuery(order="used", descending=True, limit=2, offset=1), "41"),
        (KeyQuery(order="spent", descending=True, since="2026-11-22"), "4132"),
        (KeyQuery(order="spent", descending=True, since="2026-11-22", limit=1, offset=1), "1"),
        (KeyQuery(order="spent", descending=True, since="2026-11-23"), "4321"),
        (KeyQuery(order="spent", search="ALPHA", since=""), "23"),
        (KeyQuery(search="müller"), "1"),
        (KeyQuery(search="50%", order="name"), "3"),
    ],
)
async def test_keys_are_sorted_and_their_notes_searched(
    store: Store, query: KeyQuery, found: str
) -> None:
    await store.add_keys(SORTED)
    costs = {1: 7, 3: 1, 4: 9}
    rows = [a_row(n, key_id=a_key(n).id, cost_microusd=cost) for n, cost in costs.items()]
    await store.record(Batch(rows))
    assert await store.list_keys(query) == [SORTED[int(number) - 1] for number in found]


INVITED = [
    InvitationRow(f"inv_{n}", bytes([n]) * 32, f"key_{n}", 10_000_000 + n, 10_001_000, n == 1)
    for n in (1, 2)
]


async def test_an_invitation_ends_once_and_old_ones_are_deleted(backend: Backend) -> None:
    one, other = INVITED
    async with backend() as store:
        await store.add_invitations(INVITED)
        assert await store.find_invitation(one.digest) == one
        assert await store.find_invitation(one.id) == one
        for unknown in (b"x" * 32, "inv_unknown", "inv\0"):
            assert await store.find_invitation(unknown) is None
        ended = await asyncio.gather(
            *(store.end_invitation(one.id, "used", 10_000_500) for _ in range(5))
        )
        assert sorted(ended) == [False] * 4 + [True]
        assert not await store.end_invitation(one.id, "revoked", 10_000_600)
        assert not await store.end_invitation(other.id, "used", 10_001_000), "it has expired"
        assert not await store.end_invitation("inv_unknown", "used", 1)
    async with backend() as store:
        used = structs.replace(one, ending="used", ended_at=10_000_500)
        assert await store.list_invitations() == [other, used]
        late = structs.replace(
            one, id="inv_3", digest=b"3" * 32, created_at=20_000_000, expires_at=20_000_001
        )
        await store.add_invitations([late])
        assert await store.list_invitations() == [late]


async def test_a_key_is_found_by_its_id_and_by_both_digests(store: Store) -> None:
    await store.add_keys(LISTED)
    key = LISTED[2]
    assert await store.find_key(key.id) == key
    assert await store.find_key("key_unknown") is None
    assert await store.find_key_by_digest(key.digest) == key
    assert await store.find_key_by_digest(b"p" * 32) == key
    assert await store.find_key_by_digest(b"q" * 32) is None
    revoked = structs.replace(key, status="revoked", previous_digest=None, version=2)
    assert await store.replace_key(revoked)
    found = await store.find_key(key.id)
    assert found is not None and found.status == "revoked"
    assert await store.find_key_by_digest(b"p" * 32) is None


async def test_the_prefixes_are_those_of_every_digest(store: Store) -> None:
    keys = [a_key(n, digest=bytes([n % 256] * 16 + [n // 256] * 16)) for n in range(1, 12_000, 57)]
    await store.add_keys([*keys, a_key(99_999, previous_digest=b"previous" * 4)])
    prefixes = await store.key_prefixes()
    found = sorted(prefixes[at : at + 8] for at in range(0, len(prefixes), 8))
    digests = [key.digest for key in keys] + [a_key(99_999).digest, b"previous" * 4]
    assert found == sorted(digest[:8] for digest in digests)


async def test_several_keys_are_found_by_their_ids_and_shared_names_are_known(
    store: Store,
) -> None:
    many = [a_key(n, name=f"name {n // 2}") for n in range(2, 1203)]
    await store.add_keys(many)
    ids = [key.id for key in many[::2]]
    found = await store.find_keys([*ids, "key_unknown"])
    assert sorted(found, key=lambda key: key.id) == many[::2]
    assert await store.shared_names(["name 1", "name 601", "none"]) == {"name 1"}
    assert await store.find_keys([]) == []


async def test_a_fact_is_kept_until_it_is_replaced(backend: Backend) -> None:
    async with backend() as store:
        assert await store.load_meta("owner") is None
        await store.put_meta("owner", b"\x00\xff one")
        await store.put_meta("owner", b"two")
    async with backend() as store:
        assert await store.load_meta("owner") == b"two"
        assert await store.load_meta("other") is None


# Counters


async def test_counters_come_back_with_whole_money(backend: Backend) -> None:
    rows = [
        CounterRow("key_1", "budget_month", 9_007_199_254_740_993, "2026-11", NOON),
        CounterRow("key_1", "requests", 2.25, "", NOON),
        CounterRow("guests", "requests_day", 7, "", NOON),
    ]
    async with backend() as store:
        await store.record(Batch(counters=rows))
        newer = structs.replace(rows[1], value=3.5, updated_at=NOON + 1)
        await store.record(Batch(counters=[newer]))
    async with backend() as store:
        loaded = {(row.scope, row.kind): row for row in await store.load_counters()}
    assert list(loaded.values()) and len(loaded) == 3
    assert loaded["key_1", "budget_month"] == rows[0]
    assert loaded["key_1", "requests"] == newer


async def test_old_counters_are_dropped_but_never_the_budget_of_a_key(store: Store) -> None:
    old, new = NOON - 3 * DAY_S, NOON
    await store.record(
        Batch(
            counters=[
                CounterRow("guest:1.2.3.4", "requests_day", 7, "", old),
                CounterRow("guest:1.2.3.4", "budget_total", 7, "", old),
                CounterRow("guest:1.2.3.5", "requests_day", 7, "", new),
                CounterRow("key_1", "budget_total", 8, "", old),
            ]
        )
    )
    assert await store.drop_counters(NOON - DAY_S) == 2
    assert {row.scope for row in await store.load_counters()} == {"guest:1.2.3.5", "key_1"}


# Usage


async def test_a_usage_row_comes_back_as_it_was_recorded(store: Store) -> None:
    known = a_row(1)
    unknown = a_row(
        2,
        deployment=None,
        status="refused",
        http_status=429,
        prompt_tokens=None,
        completion_tokens=None,
        cached_tokens=None,
        reasoning_tokens=None,
        estimated=True,
        cost_microusd=None,
        ttft_ms=None,
        stream=False,
    )
    tried = a_row(
        3,
        attempts=(
            Attempt("zai/glm-4.5@vercel", 6, 40, "upstream_unavailable"),
            Attempt("zai/glm-4.5@openrouter", 46, 854, "answered"),
        ),
    )
    await store.record(Batch(rows=[known, unknown, tried]))
    page = await store.usage_rows()
    assert page.rows == [tried, unknown, known]
    assert page.before is None


async def test_daily_sums_equal_the_rows(store: Store) -> None:
    rows = [
        a_row(
            number,
            at=NOON + (number % 3) * DAY_S,
            key_id=("owner", "guest", "key_1")[number % 5 % 3],
            model=("a/b", "c/d")[number % 2],
            status=("finished", "failed", "cancelled", "cut", "timed_out")[number % 5],
            prompt_tokens=number if number % 7 else None,
            completion_tokens=number if number % 7 else None,
            cached_tokens=number % 4 or None,
            estimated=number % 6 == 0,
            cost_microusd=number if number % 11 else None,
            ttft_ms=number if number % 13 else None,
        )
        for number in range(1000)
    ]
    await store.record(Batch(rows=rows[:500]))
    await store.record(Batch(rows=rows[500:]))
    assert await store.usage_by(SumsQuery("2026-01-01", "2026-12-31")) == added_up(rows)


def added_up(rows: list[UsageRow]) -> list[UsageDay]:
    """Add rows up the slow and plain way."""
    groups: dict[tuple[str, str, str], list[UsageRow]] = {}
    for row in rows:
        day = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d")
        groups.setdefault((day, row.key_id, row.model), []).append(row)
    return [
        UsageDay(
            day=day,
            key_id=key_id,
            model=model,
            requests=len(group),
            failed=sum(row.status not in ("finished", "cancelled") for row in group),
            prompt_tokens=sum(row.prompt_tokens or 0 for row in group),
            completion_tokens=sum(row.completion_tokens or 0 for row in group),
            cached_tokens=sum(row.cached_tokens or 0 for row in group),
            reasoning_tokens=sum(row.reasoning_tokens or 0 for row in group),
            estimated_requests=sum(row.estimated for row in group),
            unpriced_requests=sum(
                row.cost_microusd is None and row.prompt_tokens is not None for row in group
            ),
            cost_microusd=sum(row.cost_microusd or 0 for row in group),
            ttft_ms_sum=sum(row.ttft_ms or 0 for row in group),
            ttft_count=sum(row.ttft_ms is not None for row in group),
            duration_ms_sum=sum(row.duration_ms for row in group),
            estimated_tokens=sum(
                (row.prompt_tokens or 0) + (row.completion_tokens or 0)
                for row in group
                if row.estimated
            ),
            estimated_cost_microusd=sum(row.cost_microusd or 0 for row in group if row.estimated),
        )
        for (day, key_id, model), group in sorted(groups.items())
    ]


def grouped(rows: list[UsageRow], groups: Sequence[str]) -> list[UsageDay]:
    """Add rows up by some of the marks, the slow and plain way."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for day in added_up(rows):
        mark = tuple(getattr(day, one) if one in groups else "" for one in DAY_MARKS)
        amounts = structs.astuple(day)[len(DAY_MARKS) :]
        known = sums.setdefault(mark, [0] * len(amounts))
        sums[mark] = [one + other for one, other in zip(known, amounts, strict=True)]
    return [UsageDay(mark[0], mark[1], mark[2], *sums[mark]) for mark in sorted(sums)]


MANY = [
    a_row(
        number,
        at=NOON + (number % 3) * DAY_S,
        key_id=f"key_{number % 7}",
        model=("a/b", "c/d")[number % 2],
        estimated=number % 6 == 0,
        cost_microusd=number,
    )
    for number in range(300)
]
GROUPINGS = [
    groups for size in range(len(DAY_MARKS) + 1) for groups in combinations(DAY_MARKS, size)
]


@pytest.mark.parametrize("groups", GROUPINGS)
async def test_sums_by_any_marks_equal_the_rows_page_by_page(
    store: Store, groups: tuple[str, ...]
) -> None:
    await store.record(Batch(rows=MANY))
    span = ("2026-11-22", "2026-11-24")
    assert await store.usage_by(SumsQuery(*span, groups)) == grouped(MANY, groups)
    some = [row for row in MANY if row.key_id == "key_3"]
    assert await store.usage_by(SumsQuery(*span, groups, key_id="key_3")) == grouped(some, groups)
    few = [row for row in MANY if row.key_id in ("key_3", "key_5")]
    found = await store.usage_by(SumsQuery(*span, groups, key_id=("key_3", "key_5")))
    assert found == grouped(few, groups)
    one = [row for row in MANY if row.model == "a/b"]
    assert await store.usage_by(SumsQuery(*span, groups, model="a/b")) == grouped(one, groups)
    paged: list[UsageDay] = []
    while groups:
        after = [getattr(paged[-1], mark) for mark in groups] if paged else None
        page = await store.usage_by(SumsQuery(*span, groups, after=after, limit=3))
        paged += page
        if len(page) < 3:
            assert paged == grouped(MANY, groups)
            break


async def test_a_ranking_begins_with_the_largest_sums(store: Store) -> None:
    await store.record(Batch(rows=MANY))
    span = ("2026-11-22", "2026-11-24")
    for group in DAY_MARKS:
        for by in (["cost_microusd"], ["prompt_tokens", "completion_tokens"]):
            expected = sorted(
                grouped(MANY, (group,)),
                key=lambda day: (-sum(getattr(day, one) for one in by), getattr(day, group)),
            )
            found = await store.usage_ranking(RankingQuery(*span, group, by, limit=4))
            assert found == expected[:4]
    days = ("2026-11-23", "2026-11-23")  # a small part of the days on record, and one model
    some = [row for row in MANY if row.at == NOON + DAY_S and row.model == "c/d"]
    expected = sorted(grouped(some, ("key_id",)), key=lambda day: (-day.requests, day.key_id))
    assert (
        await store.usage_ranking(RankingQuery(*days, "key_id", ["requests"], model="c/d", limit=9))
        == expected
    )
    (most,) = await store.usage_ranking(
        RankingQuery(*span, "key_id", ["requests"], key_id="key_2", model="a/b", limit=9)
    )
    assert most.key_id == "key_2"


async def test_no_usage_has_no_sums(store: Store) -> None:
    for groups in GROUPINGS:
        assert await store.usage_by(SumsQuery("2026-11-22", "2026-11-24", groups)) == []


async def test_sums_beyond_64_bits_stay_whole_numbers(store: Store) -> None:
    most = 10**12
    rows = [a_row(n, prompt_tokens=most, key_id=f"key_{n}", cost_microusd=3) for n in range(5)]
    for _ in range(3):
        await store.record(Batch(rows=rows))
    (day,) = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22", ()))
    assert (day.prompt_tokens, day.cost_microusd) == (15 * most, 45)


async def test_a_day_ends_at_midnight_utc(store: Store) -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    await store.record(Batch(rows=[a_row(1, at=midnight - 0.001), a_row(2, at=midnight)]))
    days = await store.usage_by(SumsQuery("2026-11-01", "2026-11-30"))
    assert [(day.day, day.requests) for day in days] == [("2026-11-22", 1), ("2026-11-23", 1)]


async def test_usage_is_found_by_day_key_and_model(store: Store) -> None:
    rows = [
        a_row(number, at=NOON + day * DAY_S, key_id=key_id, model=model)
        for number, (day, key_id, model) in enumerate(
            (day, key_id, model) for day in range(3) for key_id in ("k1", "k2") for model in "ab"
        )
    ]
    await store.record(Batch(rows=rows))
    assert len(await store.usage_by(SumsQuery("2026-11-22", "2026-11-24"))) == 12
    assert len(await store.usage_by(SumsQuery("2026-11-23", "2026-11-23"))) == 4
    assert await store.usage_by(SumsQuery("2026-11-25", "2026-12-31")) == []
    of_key = await store.usage_by(SumsQuery("2026-11-22", "2026-11-24", key_id="k1"))
    assert {day.key_id for day in of_key} == {"k1"} and len(of_key) == 6
    (one,) = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22", key_id="k2", model="b"))
    assert (one.key_id, one.model, one.requests) == ("k2", "b", 1)
    assert len((await store.usage_rows(RowsQuery(key_id="k1", model="a"))).rows) == 3


async def test_a_percentile_of_the_ttft_is_that_of_the_rows_asked_for(store: Store) -> None:
    day = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    rows = [a_row(n, at=day + n, ttft_ms=n * 10, model="ab"[n % 2]) for n in range(1, 101)]
    silent = a_row(200, at=day, ttft_ms=None)
    others = [a_row(201, at=day - 0.001, ttft_ms=9_999), a_row(202, at=day + DAY_S, ttft_ms=9_999)]
    await store.record(Batch(rows=[*reversed(rows), silent, *others]))
    on_that_day = ("2026-11-22", "2026-11-22")
    for query, expected in (
        (PercentileQuery(95, *on_that_day), Percentile(950, 100)),
        (PercentileQuery(100, *on_that_day), Percentile(1000, 100)),
        (PercentileQuery(1, *on_that_day), Percentile(10, 100)),
        (PercentileQuery(50, *on_that_day, model="a"), Percentile(500, 50)),
        # Rank 47.5 of 50 is the 48th.
        (PercentileQuery(95, *on_that_day, model="b"), Percentile(950, 50)),
        (PercentileQuery(50, *on_that_day, key_id="k9"), Percentile(None, 0)),
    ):
        assert await store.ttft_percentile(query) == expected, query
    all_days = PercentileQuery(50, "2026-11-21", "2026-11-23")
    assert (await store.ttft_percentile(all_days)).requests == 102


async def test_rows_are_paged_from_the_newest_without_gaps(store: Store) -> None:
    await store.record(Batch(rows=[a_row(number) for number in range(25)]))
    seen: list[str] = []
    before = None
    while True:
        page = await store.usage_rows(RowsQuery(key_id="key_1", before=before, limit=10))
        seen += [row.request_id for row in page.rows]
        await store.record(Batch(rows=[a_row(99)]))  # newer rows shift nothing
        if (before := page.before) is None:
            break
    assert seen == [f"req_{number}" for number in reversed(range(25))]


async def test_pruning_deletes_rows_and_keeps_the_sums(store: Store) -> None:
    old = [a_row(number, at=NOON - 2 * DAY_S) for number in range(4500)]
    edge = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    await store.record(Batch(rows=[*old, a_row(5000, at=edge - 0.001), a_row(5001, at=edge)]))
    before = await store.usage_by(SumsQuery("2026-01-01", "2026-12-31"))
    assert await store.prune("2026-11-22") == 4501
    assert [row.request_id for row in (await store.usage_rows()).rows] == ["req_5001"]
    assert await store.usage_by(SumsQuery("2026-01-01", "2026-12-31")) == before
    assert await store.prune("2026-11-22") == 0


async def test_absurd_numbers_hold_nothing_up(store: Store) -> None:
    absurd = a_row(1, prompt_tokens=10**30, completion_tokens=-5, cost_microusd=2**70)
    await store.record(Batch(rows=[absurd, a_row(2)]))
    (day,) = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22"))
    assert day.requests == 2
    assert day.prompt_tokens == 10**12 + 10
    assert day.completion_tokens == 20


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    await store.record(Batch())
    await store.check_writable()


# Sessions


async def test_sessions_outlive_the_store_until_they_end(backend: Backend) -> None:
    kept, ended = (
        SessionRow(bytes([number]) * 32, "owner", b"c" * 32, 1000, 1000) for number in (1, 2)
    )
    async with backend() as store:
        for session in (kept, ended):
            await store.put_session(session)
        await store.note_sessions({kept.digest: 2000, bytes(32): 2000}, [ended.digest])
        await store.note_sessions({kept.digest: 1500}, [bytes(32)])
    async with backend() as store:
        assert await store.load_sessions() == [structs.replace(kept, seen_at=2000)]


# Single requests


async def test_a_request_is_found_by_its_id_the_newest_of_several(store: Store) -> None:
    rows = [a_row(1, model="a"), a_row(2), a_row(1, model="b")]
    await store.record(Batch(rows))
    assert await store.find_usage_row("req_1") == rows[2]
    assert await store.find_usage_row("req_2") == rows[1]
    assert await store.find_usage_row("req_3") is None
    times = await store.usage_times({"req_1", "req_3", *(f"other_{n}" for n in range(1_000))})
    assert times == {"req_1": rows[2].at}


async def test_requests_are_listed_by_time_under_every_filter(store: Store) -> None:
    rows = [
        a_row(
            number,
            at=NOON + (number * 37 % 50) // 2,  # out of order, and two at each instant
            key_id=f"key_{number % 3}",
            model="ab"[number % 2],
            status=("finished", "failed", "cut")[number % 5 % 3],
        )
        for number in range(50)
    ]
    await store.record(Batch(rows))
    newest_first = sorted(rows, key=lambda row: (row.at, int(row.request_id[4:])), reverse=True)
    for key_id, model, status in product(
        (None, "key_1"), (None, "a"), (None, "finished", "failed", "cut", "none")
    ):
        wanted = [
            row.request_id
            for row in newest_first
            if key_id in (None, row.key_id)
            and model in (None, row.model)
            and status in (None, row.status)
        ]
        seen: list[str] = []
        before = None
        while True:
            page = await store.usage_rows(
                RowsQuery(key_id=key_id, model=model, status=status, before=before, limit=4)
            )
            seen += [row.request_id for row in page.rows]
            if (before := page.before) is None:
                break
        assert seen == wanted


async def test_a_page_after_a_row_that_was_deleted_is_the_last(store: Store) -> None:
    await store.record(Batch([a_row(n, at=NOON - n * DAY_S) for n in range(10)]))
    page = await store.usage_rows(RowsQuery(limit=4))
    await store.prune("2026-11-22")
    rest = await store.usage_rows(RowsQuery(before=page.before))
    assert (rest.rows, rest.before) == ([], None)


async def test_requests_are_found_by_how_they_ended(store: Store) -> None:
    await store.record(Batch([a_row(1), a_row(2, status="failed"), a_row(3, status="failed")]))
    page = await store.usage_rows(RowsQuery(status="failed", limit=1))
    assert [row.request_id for row in page.rows] == ["req_3"]
    rest = await store.usage_rows(RowsQuery(status="failed", before=page.before))
    assert [row.request_id for row in rest.rows] == ["req_2"]
