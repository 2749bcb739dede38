"""The ledger: settle every lease once, whatever the ending, and write usage to the store later.

`settle` does no I/O: it corrects the counters and queues a usage row. Rows, counters and last uses
are written in one transaction, `FLUSH_AFTER_S` after the first of them or at `FLUSH_ROWS` rows, by
a task that exists only while there is something to write.

While the store fails (`degraded`), rows are kept and the write is retried with back-off: first the
batch that failed, as it was, because the store may have written it and only its answer was lost.
Beyond `MAX_ROWS` the oldest are dropped, counted in `lost_rows` and logged as an error: their
requests are missing from the usage pages, and budgets know them until the next start.

Running requests and rows that are not saved yet are also noted in files, so that they are booked
after a kill (`server/accounting/notes`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from server.accounting.charge import Charge, Speeds, charge_for
from server.accounting.notes.note_files import NoteFiles, RequestNote
from server.accounting.notes.running_notes import RunningNotes
from server.store.rows import Batch, UsageRow
from workers.errors import Conflict, Draining, GatewayError, StoreUnavailable
from workers.request.token_usage import Usage

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from server.accounting.counters import Counters, UnsavedCounters
    from server.keys.key_ring import KeyRing
    from workers.run.job import Outcome

log = logging.getLogger("roxy.ledger")

FLUSH_AFTER_S = 0.2
"""Leaves 50 ms for the transaction: usage is documented to be saved within 250 ms."""
FLUSH_ROWS = 500
MAX_BATCH_ROWS = 5_000
"""Bounds the time of one transaction, and so the wait of key changes, after a long failure."""
MAX_ROWS = 100_000
"""Rows kept in memory while the store fails."""
FIRST_RETRY_S = 0.25
MAX_RETRY_S = 5.0

NOTHING = Usage()
KILLED = Draining("The gateway ended while it answered.")
"""How the rows of requests end whose process was killed."""
CLIENT_LEFT = 499
"""The status in rows and logs when a client has left: nginx's, since RFC 9110 has none."""


class Ledger:
    """Settle leases. `aclose` writes what remains; call it after the last job has ended.

    `record` writes a batch in one transaction, as `Store.record` does. `unsaved` are the counters
    that are written with it, where the store keeps them. `on_row` is called with every row when it
    is settled. `notes` are the files of this process for what a kill must not lose.
    """

    def __init__(
        self,
        record: Callable[[Batch], Awaitable[None]],
        counters: Counters,
        keys: KeyRing,
        *,
        unsaved: UnsavedCounters | None = None,
        wall: Callable[[], float] = time.time,
        max_rows: int = MAX_ROWS,
        on_row: Callable[[UsageRow], None] | None = None,
        notes: NoteFiles | None = None,
    ) -> None:
        self._record = record
        self._counters = counters
        self._unsaved = unsaved
        self._keys = keys
        self._wall = wall
        self._max_rows = max_rows
        self._on_row = on_row
        self._rows: deque[UsageRow] = deque()
        self._failed: Batch | None = None
        self._written: Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._again = False
        self._closing = asyncio.Event()
        self._losing = False
        self._notes = RunningNotes(notes, self._note)
        self._speeds = Speeds()
        self.degraded = False
        self.lost_rows = 0
        if unsaved is not None:
            unsaved.on_unsaved(self._flush_soon)

    def follow(self, lease: Lease, so_far: Callable[[GatewayError], Outcome]) -> None:
        """Note a request while it runs; `so_far` returns its outcome if an error cut it now."""
        self._notes.add(lease, partial(so_far, KILLED))

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """Correct the counters to the true usage and record it; only the first call counts."""
        if lease.settled:
            log.warning("request %s was settled twice", lease.request_id)
            return
        lease.settled = True  # first of all: an error below must not settle the lease again
        if isinstance(outcome.error, Conflict):
            self._notes.end(lease, None)
            # It had the id of another request: with a row, that id would lead to the refusal.
            if lease.taken is not None:
                self._counters.give_back(lease.taken)
            return
        self._speeds.note(outcome)
        charge = self._charge(lease, outcome)
        if lease.taken is not None:
            if charge.usage is None and not outcome.reached_upstream:
                self._counters.give_back(lease.taken)
            else:
                self._counters.settle(lease.taken, charge.tokens, charge.cost_microusd or 0)
        wall = self._wall()
        if lease.principal.key is not None:
            self._keys.touch(lease.principal.key.id, wall)
        # A clock that was set back must not make the row older than the note of the same request,
        # by which the next start knows that it is booked.
        row = make_row(lease, outcome, charge, max(wall, lease.noted_at))
        self._notes.end(lease, RequestNote(row, lease.taken, charge.tokens))
        self._add(row)
        if self._on_row is not None:
            self._on_row(row)
        if lease.on_settled is not None:
            lease.on_settled(row)

    def find_unsaved(self, request_id: str) -> UsageRow | None:
        """Return the newest row of a request that is not in the store yet."""
        batches = [batch.rows for batch in (self._written, self._failed) if batch is not None]
        for rows in (self._rows, *batches):
            for row in reversed(rows):
                if row.request_id == request_id:
                    return row
        return None

    async def aclose(self) -> None:
        """Write what remains; rows that could not be written wait for the next start."""
        self._closing.set()
        self._stop_timer()
        if self._flusher is not None:
            await self._flusher
        while (batch := self._collect()) is not None:
            if not await self._write(batch):
                break
        kept = await self._notes.aclose()
        if left := self._unsaved_rows:
            end = "wait for the next start" if kept else "are lost"
            log.error("%d usage rows could not be saved and %s", left, end)

    def _note(self, lease: Lease, outcome: Outcome) -> RequestNote | None:
        """Return the note of a request; None: it has used nothing so far."""
        charge = self._charge(lease, outcome)
        if charge.usage is None:
            return None
        lease.noted_at = self._wall()
        row = make_row(lease, outcome, charge, lease.noted_at)
        return RequestNote(row, lease.taken, charge.tokens)

    def _charge(self, lease: Lease, outcome: Outcome) -> Charge:
        return charge_for(lease, outcome, self._speeds.tokens_per_s(outcome.deployment))

    # Collecting

    def _add(self, row: UsageRow) -> None:
        self._rows.append(row)
        if self._failed is not None or len(self._rows) > self._max_rows:
            self._drop_oldest()
        if len(self._rows) >= FLUSH_ROWS and self._flusher is None:
            self._flush_now()
        else:
            self._flush_soon()

    def _drop_oldest(self) -> None:
        excess = self._unsaved_rows - self._max_rows
        if excess <= 0:
            return
        if not self._losing:
            self._losing = True
            log.error("the database has failed for so long that the oldest usage rows are dropped")
        self.lost_rows += excess
        if self._failed is not None:
            failed = self._failed.rows
            self._failed = structs.replace(self._failed, rows=failed[excess:])
            excess -= min(excess, len(failed))
        for _ in range(excess):
            self._rows.popleft()
        written = self._written if self._failed is None else None
        self._notes.keep(self._unsaved_rows + (len(written.rows) if written is not None else 0))

    @property
    def _unsaved_rows(self) -> int:
        return len(self._rows) + (len(self._failed.rows) if self._failed is not None else 0)

    def _collect(self) -> Batch | None:
        """Collect what one transaction writes; None: there is nothing."""
        self._again = False
        if self._failed is not None:
            return self._failed
        size = min(len(self._rows), MAX_BATCH_ROWS)
        rows = [self._rows.popleft() for _ in range(size)]
        counters = self._unsaved.take_unsaved() if self._unsaved is not None else ()
        last_used = self._keys.take_touched()
        return Batch(rows, counters, last_used) if rows or counters or last_used else None

    # Writing

    def _flush_soon(self) -> None:
        if self._flusher is not None:
            self._again = True
        # One timer until it fires: a transaction for many rows costs little more than for one.
        elif self._timer is None and not self._closing.is_set():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_AFTER_S, self._flush_now)

    def _flush_now(self) -> None:
        self._stop_timer()
        if self._flusher is None and not self._closing.is_set():
            loop = asyncio.get_running_loop()
            self._flusher = loop.create_task(self._flush(), name="ledger")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _flush(self) -> None:
        """Write until fewer than FLUSH_ROWS remain; while the store fails, wait and retry."""
        retry_s = FIRST_RETRY_S
        while (batch := self._collect()) is not None:
            if await self._write(batch):
                retry_s = FIRST_RETRY_S
                if len(self._rows) < FLUSH_ROWS:
                    break
                continue
            if await self._closes_within(retry_s):
                break
            retry_s = min(retry_s * 2, MAX_RETRY_S)
        self._flusher = None
        if self._again or self._rows:
            self._flush_soon()

    async def _write(self, batch: Batch) -> bool:
        self._written = batch
        try:
            await self._record(batch)
        except Exception as error:  # noqa: BLE001 - a bug in the store must not lose rows
            self._failed = batch
            self._drop_oldest()
            self._note_failure(error)
            return False
        finally:
            self._written = None
        self._failed = None
        self._notes.keep(self._unsaved_rows)
        if self.degraded:
            self.degraded = self._losing = False
            log.warning("usage is saved again; rows lost so far: %d", self.lost_rows)
        return True

    def _note_failure(self, error: Exception) -> None:
        if self.degraded:
            return
        self.degraded = True
        # Draining: the keeper of this process has ended, which is logged by itself.
        bug = None if isinstance(error, StoreUnavailable | Draining) else error
        log.warning("usage cannot be saved; it is kept and retried: %s", error, exc_info=bug)

    async def _closes_within(self, wait_s: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), wait_s)
        except TimeoutError:
            return False
        return True


def make_row(lease: Lease, outcome: Outcome, charge: Charge, at: float) -> UsageRow:
    """Return the usage row; `at` is the time of settling, which also decides the budget period."""
    error, ttft_s = outcome.error, outcome.ttft_s
    if error is not None:
        status = error.status
    else:
        status = CLIENT_LEFT if outcome.ending == "cancelled" else 200
    usage = charge.paid or charge.usage or NOTHING
    return UsageRow(
        lease.request_id,
        at,
        lease.principal.log_name,
        lease.model.id,
        outcome.deployment,
        outcome.ending,
        status,
        prompt_tokens=usage.prompt_tokens if charge.usage is not None else None,
        completion_tokens=usage.completion_tokens if charge.usage is not None else None,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=charge.estimated,
        cost_microusd=charge.cost_microusd,
        ttft_ms=int(ttft_s * 1000) if ttft_s is not None else None,
        duration_ms=int(outcome.duration_s * 1000),
        queued_ms=int(outcome.queued_s * 1000),
        stream=lease.streamed,
        attempts=outcome.attempts or None,
    )
