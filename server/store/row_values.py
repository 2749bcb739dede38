"""The values of rows as the columns of every store hold them: integers of 64 bits, text, JSON.

A row with a number that no column holds would make its whole batch fail, so such numbers are
capped. What one database alone needs stands in its own folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from msgspec import structs

from server.store.rows import (
    DAY_MARKS,
    NOT_FAILED,
    CounterRow,
    UsageDay,
    UsageRow,
)
from workers.run.job import Attempt

log = logging.getLogger("roxy.store")

Values = tuple[Any, ...]

NAMED = 20
"""The names of rows that a log line has at most."""

MAX_PER_REQUEST = 10**12
"""Upper bound for tokens, money or time of one request. Larger numbers are an upstream's error, and
from 2**63 on they do not fit into a column."""
MAX_INTEGER = 2**63 - 1
MAX_SUM = 2**62
"""Where sums of a day stop."""
EPOCH = date(1970, 1, 1)

USAGE_COLUMNS = ", ".join(UsageRow.__struct_fields__)
DAY_SUMS = UsageDay.__struct_fields__[len(DAY_MARKS) :]
INVITATION_COLUMNS = "id, sha256, key_id, created_at, expires_at, gives_key, ending, ended_at"
MODELS = msgspec.json.Decoder(tuple[str, ...])
ATTEMPTS = msgspec.json.Decoder(tuple[Attempt, ...])


def usable(row: UsageRow) -> tuple[UsageRow, tuple[int, ...]]:
    """Return a row that the columns can hold, and what it adds to its day."""
    amounts = _day_amounts(row)
    numbers = (*amounts, row.cache_write_tokens or 0, row.queued_ms)
    if min(numbers) < 0 or max(numbers) > MAX_PER_REQUEST:
        row = _capped(row)
        amounts = _day_amounts(row)
    return row, amounts


def _day_amounts(row: UsageRow) -> tuple[int, ...]:
    """Return what a row adds to its day, in the order of DAY_SUMS."""
    used_tokens = row.prompt_tokens is not None or row.completion_tokens is not None
    tokens = (row.prompt_tokens or 0) + (row.completion_tokens or 0)
    return (
        1,
        row.status not in NOT_FAILED,
        row.prompt_tokens or 0,
        row.completion_tokens or 0,
        row.cached_tokens or 0,
        row.reasoning_tokens or 0,
        row.estimated,
        row.cost_microusd is None and used_tokens,
        row.cost_microusd or 0,
        row.ttft_ms or 0,
        row.ttft_ms is not None,
        row.duration_ms,
        tokens if row.estimated else 0,
        (row.cost_microusd or 0) if row.estimated else 0,
    )


def _capped(row: UsageRow) -> UsageRow:
    """Cap impossible numbers: one that no column can hold would make its whole batch fail."""
    log.warning("request %s reported impossible usage; it was capped", row.request_id)
    numbers = {
        name: min(max(value, 0), MAX_PER_REQUEST)
        for name, value in structs.asdict(row).items()
        if type(value) is int
    }
    return structs.replace(row, **numbers)


class LeftOut:
    """Counts and logs what no column could hold; `count` is since the start."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, names: Sequence[str]) -> None:
        """Count and log the rows of a batch that were left out, by their names."""
        if not names:
            return
        self.count += len(names)
        log.error(
            "%d rows could not be stored and were left out (%d since the start): %s",
            len(names),
            self.count,
            ascii(", ".join(names[:NAMED])),
        )


def counter_values(row: CounterRow) -> Values:
    """Return the values of a counter; an integer that no column can hold is capped.

    A counter is a limit's state: without its row, a restart would forget what was spent.
    """
    value = row.value
    if isinstance(value, int):
        value = max(min(value, MAX_INTEGER), -MAX_INTEGER)
    return (row.scope, row.kind, value, row.period, row.updated_at)


def usage_values(row: UsageRow) -> Values:
    """Return the values of a usage row in the order of its fields."""
    values = structs.astuple(row)  # `attempts`, the only field that is not a plain value, is last
    if row.attempts is not None:
        return (*values[:-1], msgspec.json.encode(row.attempts).decode())
    return values


def usage_row(row: Values) -> UsageRow:
    """Return the usage row of a database row; not strict, because SQLite has no booleans."""
    fields = dict(zip(UsageRow.__struct_fields__, row, strict=True))
    if row[-1] is not None:
        fields["attempts"] = ATTEMPTS.decode(row[-1])
    return msgspec.convert(fields, UsageRow, strict=False)


def midnight(day: str) -> float:
    """Return the Unix time at which a UTC day begins."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
