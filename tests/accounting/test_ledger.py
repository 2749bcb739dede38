"""The ledger: every lease is settled once, by what was really used, and nothing is lost quietly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.fakes.clocks import NOON, Clocks
from support.fakes.stores import FlakyStore
from support.waiting import PATIENCE_S, eventually

from server.accounting.admission import Admission, Lease
from server.accounting.ledger import FLUSH_ROWS, Ledger
from server.accounting.memory_counters import MemoryCounters
from server.accounting.notes.left_notes import LeftNotes
from server.accounting.notes.note_files import NoteFiles, note_files
from server.config.settings import Guests
from server.identity.authentication import OWNER, Principal
from server.keys.key_ring import KeyRing
from server.store.key import Limits, NewKey
from server.store.rows import UsageRow
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store
from server.store.usage_queries import RowsQuery
from workers.catalog.catalog import Model, Prices
from workers.errors import Conflict, InvalidKey, Overloaded, StoreUnavailable, UpstreamUnavailable
from workers.request.chat_request import parse_chat
from workers.request.token_usage import Usage
from workers.run.job import Ending, Outcome

GLM = Model("zai/glm-4.5", "GLM 4.5", max_output_tokens=1_000, prices=Prices(600_000, 2_200_000))
FREE = Model("local/free", "Free", prices=Prices(0, 0))
UNPRICED = Model("local/unpriced", "Unpriced")

LIMITS = Limits(
    requests_per_minute=100,
    tokens_per_minute=10_000,
    concurrent_requests=50,
    budget_microusd=10**9,
)
USED = Usage(1_000, 500, 1_500, cached_tokens=10, reasoning_tokens=20)
DONE = Outcome(
    "finished",
    usage=USED,
    output_bytes=90,
    prompt_sent=True,
    deployment="zai/glm-4.5@openrouter",
    ttft_s=0.25,
    duration_s=2.0,
    queued_s=0.1,
)
BODY = msgspec.json.encode(
    {"model": "m", "messages": [{"role": "user", "content": "x" * 400}], "stream": True}
)
PROMPT = parse_chat(BODY).prompt_estimate
BOUND = parse_chat(BODY).prompt_bound


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


class House:
    """A ledger with all that it writes to and counts on."""

    def __init__(self, store: Store, clocks: Clocks, max_rows: int = 1_000) -> None:
        self.store = store
        self.disk = FlakyStore(store)
        self.clocks = clocks
        self.keys = KeyRing(store, wall=clocks.wall)
        self.counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
        self.admission = Admission(self.counters, Guests())
        self.ledger = Ledger(
            self.disk.record,
            self.counters,
            self.keys,
            unsaved=self.counters,
            wall=clocks.wall,
            max_rows=max_rows,
        )
        self.asked = 0

    def noting(self, files: NoteFiles) -> Ledger:
        """Return a ledger that notes what is not saved yet."""
        return Ledger(
            self.disk.record,
            self.counters,
            self.keys,
            unsaved=self.counters,
            wall=self.clocks.wall,
            notes=files,
        )

    async def holder(self, limits: Limits = LIMITS) -> Principal:
        """Make a key."""
        key, _ = await self.keys.create(NewKey(name="a", limits=limits))
        return Principal("key", key.id, key)

    async def lease(self, principal: Principal = OWNER, model: Model = GLM) -> Lease:
        """Admit one request."""
        self.asked += 1
        request = parse_chat(BODY)
        return await self.admission.admit(
            principal, model, request, f"req_{self.asked}", streamed=request.stream
        )

    def is_flushing(self) -> bool:
        """Return whether there is a task that writes."""
        return self.ledger._flusher is not None

    def is_degraded(self) -> bool:
        """Return what /readyz would report."""
        return self.ledger.degraded

    async def rows(self) -> list[UsageRow]:
        """Read what is in the database, oldest first."""
        page = await self.store.usage_rows(RowsQuery(limit=1_000))
        return list(reversed(page.rows))

    async def settled(
        self, outcome: Outcome, principal: Principal = OWNER, model: Model = GLM
    ) -> UsageRow:
        """Settle one request and give its row as the database has it."""
        self.ledger.settle(await self.lease(principal, model), outcome)
        await self.ledger.aclose()
        (row,) = await self.rows()
        return row


@pytest.fixture
async def house(store: SqliteStore, clocks: Clocks) -> AsyncIterator[House]:
    house = House(store, clocks)
    yield house
    await house.ledger.aclose()


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("the disk is full")


async def test_a_request_with_the_id_of_another_is_given_back_and_leaves_no_row(
    house: House,
) -> None:
    holder = await house.holder()
    house.ledger.settle(await house.lease(holder), Outcome("refused", error=Conflict()))
    assert holder.key is not None
    standing = await house.counters.standing(holder.scope, holder.key.limits)
    assert standing.requests is not None
    assert (standing.running, standing.requests.remaining) == (0, 100)
    await house.settled(DONE, holder)  # one row: that of the finished request


async def test_a_finished_request_is_recorded_with_its_true_use_and_cost(
    house: House, clocks: Clocks
) -> None:
    holder = await house.holder()
    clocks.pass_s(5)
    assert await house.settled(DONE, holder) == UsageRow(
        request_id="req_1",
        at=NOON + 5,
        key_id=holder.scope,
        model="zai/glm-4.5",
        deployment="zai/glm-4.5@openrouter",
        status="finished",
        http_status=200,
        prompt_tokens=1_000,
        completion_tokens=500,
        cached_tokens=10,
        cache_write_tokens=None,
        reasoning_tokens=20,
        estimated=False,
        cost_microusd=1_700,
        ttft_ms=250,
        duration_ms=2_000,
        queued_ms=100,
        stream=True,
    )
    standing = await house.admission.standing(holder)
    assert standing.budget is not None
    assert (standing.budget.spent_microusd, standing.budget.reserved_microusd) == (1_700, 0)
    assert standing.headers()["x-ratelimit-remaining-tokens"] == "8500"
    assert standing.running == 0


@pytest.mark.parametrize("ending", ["refused", "failed", "cancelled", "timed_out", "drained"])
async def test_what_never_got_anywhere_gives_everything_back(house: House, ending: Ending) -> None:
    holder = await house.holder()
    before = await house.admission.standing(holder)
    row = await house.settled(Outcome(ending), holder)
    assert await house.admission.standing(holder) == before
    assert (row.prompt_tokens, row.completion_tokens, row.cost_microusd) == (None, None, 0)
    assert not row.estimated


async def test_a_client_that_left_in_the_middle_pays_for_what_was_generated(house: House) -> None:
    holder = await house.holder()
    row = await house.settled(Outcome("cancelled", None, 401, prompt_sent=True), holder)
    # The row has the tokens that are paid, the limit counts the likely ones.
    assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (BOUND, 401, True)
    assert row.http_status == 499
    standing = await house.admission.standing(holder)
    assert standing.tokens is not None
    assert standing.tokens.remaining == 10_000 - PROMPT - 101


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome("failed", error=UpstreamUnavailable()), 502),
        (Outcome("refused", error=Overloaded()), 503),
        (Outcome("cancelled", error=InvalidKey()), 401),
    ],
)
async def test_a_row_carries_the_status_of_its_error(
    house: House, outcome: Outcome, status: int
) -> None:
    assert (await house.settled(outcome)).http_status == status


@pytest.mark.parametrize(("model", "cost"), [(UNPRICED, None), (FREE, 0), (GLM, 1_700)])
async def test_an_unknown_price_is_not_the_same_as_none(
    house: House, model: Model, cost: int | None
) -> None:
    row = await house.settled(DONE, await house.holder(Limits()), model)
    assert row.cost_microusd == cost


async def test_the_owners_use_is_recorded_and_not_limited(house: House) -> None:
    assert (await house.settled(DONE)).key_id == "owner"
    assert len(house.counters) == 0


async def test_a_guest_is_recorded_without_an_address(house: House) -> None:
    assert (await house.settled(DONE, Principal("guest", "guest:1.2.3.4"))).key_id == "guest"
    assert (await house.counters.standing("guest:1.2.3.4", LIMITS)).running == 0


async def test_a_lease_is_settled_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    holder = await house.holder()
    lease = await house.lease(holder)
    house.ledger.settle(lease, DONE)
    before = await house.admission.standing(holder)
    house.ledger.settle(lease, Outcome("failed"))
    assert await house.admission.standing(holder) == before
    assert "req_1 was settled twice" in caplog.text
    await house.ledger.aclose()
    assert len(await house.rows()) == 1


# Written behind


async def test_what_gathers_is_written_in_one_transaction(house: House) -> None:
    holder = await house.holder()
    for _ in range(100):
        house.ledger.settle(await house.lease(holder), Outcome("failed"))
    await house.disk.wrote(100)
    (batch,) = house.disk.batches
    assert len(batch.rows) == 100
    assert {row.scope for row in batch.counters} == {holder.scope}
    assert [row.request_id for row in await house.rows()] == [f"req_{n + 1}" for n in range(100)]


async def test_a_full_batch_does_not_wait(house: House) -> None:
    lease = [await house.lease() for _ in range(FLUSH_ROWS)]
    for one in lease[:-1]:
        house.ledger.settle(one, DONE)
    assert not house.is_flushing()
    house.ledger.settle(lease[-1], DONE)
    assert house.is_flushing()
    assert house.ledger._timer is None
    await house.disk.wrote(FLUSH_ROWS)


async def test_what_is_settled_while_a_batch_is_written_comes_next(house: House) -> None:
    house.disk.gate.clear()
    house.ledger.settle(await house.lease(), DONE)
    await house.disk.saw(1)
    house.ledger.settle(await house.lease(), DONE)
    house.disk.gate.set()
    await house.disk.wrote(2)
    assert [len(batch.rows) for batch in house.disk.batches] == [1, 1]


async def test_nothing_runs_while_there_is_nothing_to_write(house: House) -> None:
    tasks = asyncio.all_tasks()
    house.ledger.settle(await house.lease(), DONE)
    await house.disk.wrote(1)
    if house.ledger._flusher is not None:
        await house.ledger._flusher
    assert house.ledger._timer is None
    assert asyncio.all_tasks() == tasks


async def test_what_a_running_request_took_is_safe_before_it_ends(
    house: House, store: SqliteStore
) -> None:
    holder = await house.holder()
    await house.lease(holder)
    await house.disk.saw(1)
    await house.ledger.aclose()
    saved = {row.kind: row.value for row in await store.load_counters()}
    assert saved["requests"] == 1
    assert saved["tokens"] == PROMPT + GLM.max_output_tokens


async def test_counts_go_on_after_a_restart(
    house: House, store: SqliteStore, clocks: Clocks
) -> None:
    holder = await house.holder(Limits(requests_per_minute=5, budget_microusd=10_000_000))
    for _ in range(3):
        house.ledger.settle(await house.lease(holder), DONE)
    before = await house.admission.standing(holder)
    await house.ledger.aclose()
    again = House(store, clocks)
    again.counters.restore(await store.load_counters())
    assert await again.admission.standing(holder) == before
    assert before.requests is not None
    assert before.requests.remaining == 2
    assert before.budget is not None
    assert before.budget.spent_microusd == 3 * 1_700


async def test_a_keys_last_use_reaches_the_store(
    house: House, store: SqliteStore, clocks: Clocks
) -> None:
    holder = await house.holder()
    clocks.pass_s(60)
    await house.settled(DONE, holder)
    (key,) = await store.load_keys()
    assert key.last_used_at == NOON + 60


# When the store fails


async def test_a_failing_store_loses_nothing_and_is_tried_until_it_heals(
    house: House, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    holder = await house.holder()
    house.disk.fail(unavailable(), times=2)
    for _ in range(3):
        house.ledger.settle(await house.lease(holder), DONE)
    await house.disk.saw(2)
    assert house.is_degraded()
    house.ledger.settle(await house.lease(holder), DONE)
    await house.disk.wrote(4)
    await house.ledger.aclose()
    assert not house.is_degraded()
    assert [row.request_id for row in await house.rows()] == ["req_1", "req_2", "req_3", "req_4"]
    assert {row.kind for row in await store.load_counters()} >= {"requests", "tokens"}
    (key,) = await store.load_keys()
    assert key.last_used_at == NOON
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "cannot be saved; it is kept and retried: the disk is full" in caplog.text
    assert "is saved again" in caplog.text


async def test_an_unexpected_failure_keeps_the_rows_and_shows_where_it_came_from(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.disk.fail(ZeroDivisionError("a bug"))
    house.ledger.settle(await house.lease(), DONE)
    await house.disk.wrote(1)
    assert caplog.records[0].exc_info is not None


async def test_past_the_cap_the_oldest_rows_go_and_it_is_said_loudly(
    store: SqliteStore, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(store, clocks, max_rows=10)
    holder = await house.holder(Limits(budget_microusd=10**9))
    house.disk.gate.clear()
    house.disk.fail(unavailable())
    for _ in range(8):
        house.ledger.settle(await house.lease(holder), DONE)
    await house.disk.saw(1)
    for _ in range(17):
        house.ledger.settle(await house.lease(holder), DONE)
    house.disk.gate.set()
    await house.disk.wrote(10)
    await house.ledger.aclose()
    assert house.ledger.lost_rows == 15
    assert [row.request_id for row in await house.rows()] == [f"req_{n}" for n in range(16, 26)]
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["the database has failed for so long that the oldest usage rows are dropped"]
    assert "rows lost so far: 15" in caplog.text
    standing = await house.admission.standing(holder)
    assert standing.budget is not None
    assert standing.budget.spent_microusd == 25 * 1_700  # money is not lost with the rows


async def test_the_rows_of_a_write_that_failed_count_towards_the_cap(
    store: SqliteStore, clocks: Clocks
) -> None:
    house = House(store, clocks, max_rows=10)
    house.disk.fail(unavailable(), times=2)
    for _ in range(8):
        house.ledger.settle(await house.lease(), DONE)
    await house.disk.saw(2)  # the first has failed, and its rows are kept
    for _ in range(5):
        house.ledger.settle(await house.lease(), DONE)
    assert house.ledger.lost_rows == 3
    await house.disk.wrote(10)
    await house.ledger.aclose()
    assert [row.request_id for row in await house.rows()] == [f"req_{n}" for n in range(4, 14)]


async def test_closing_writes_what_is_left(house: House) -> None:
    house.ledger.settle(await house.lease(), DONE)
    await house.ledger.aclose()
    assert len(await house.rows()) == 1
    assert house.ledger._timer is None


async def test_closing_does_not_wait_for_a_store_that_stays_broken(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.disk.fail(unavailable(), times=1_000)
    house.ledger.settle(await house.lease(), DONE)
    await house.disk.saw(1)
    await house.ledger.aclose()
    assert "1 usage rows could not be saved and are lost" in caplog.text


async def test_a_clock_that_was_set_back_books_no_request_of_a_killed_process_twice(
    house: House, tmp_path: Path
) -> None:
    files = note_files(tmp_path, "one")
    ledger = house.noting(files)
    lease = await house.lease(await house.holder())
    ledger.follow(lease, lambda error: msgspec.structs.replace(DONE, ending="cut", error=error))
    await eventually(files.running.exists)
    noted = files.running.read_bytes()
    house.clocks.set_wall(NOON - 3600)
    ledger.settle(lease, DONE)
    await ledger.aclose()
    files.running.write_bytes(noted)  # as a process leaves it that is killed now
    await LeftNotes(tmp_path, house.store).book_all()
    assert [row.status for row in (await house.store.usage_rows()).rows] == ["finished"]


async def test_what_has_ended_while_the_store_fails_is_booked_by_the_next_start(
    house: House, tmp_path: Path
) -> None:
    files = note_files(tmp_path, "one")
    ledger = house.noting(files)
    house.disk.fail(unavailable(), times=1_000)
    for _ in range(3):
        ledger.settle(await house.lease(await house.holder()), DONE)
    await eventually(lambda: len(files.read()) == 3)  # here the process could be killed
    await LeftNotes(tmp_path, house.store).book_all()
    assert [row.request_id for row in await house.rows()] == ["req_1", "req_2", "req_3"]
    ledger.settle(await house.lease(), DONE)
    await ledger.aclose()
    await LeftNotes(tmp_path, house.store).book_all()
    assert [row.request_id for row in await house.rows()] == [f"req_{n}" for n in range(1, 5)]


async def test_what_is_saved_or_dropped_is_not_noted_any_more(house: House, tmp_path: Path) -> None:
    files = note_files(tmp_path, "one")
    ledger = house.noting(files)
    ledger._max_rows = 5
    house.disk.fail(unavailable(), times=2)
    for _ in range(8):
        ledger.settle(await house.lease(), DONE)
    await house.disk.saw(2)
    ledger.settle(await house.lease(), DONE)
    assert [note.row.request_id for note in ledger._notes._ended.notes] == [
        f"req_{number}" for number in range(5, 10)
    ]
    await house.disk.wrote(5)
    await ledger.aclose()
    assert not files.exist()
