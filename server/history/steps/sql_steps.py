"""What steps are made of: statements that a database runs, one after another.

    def count(person: str) -> Steps[int]:
        rows = yield "SELECT count(*) FROM history_files WHERE person = ?", (person,)
        return int(rows[0][0])

The SQL is what SQLite 3.24 and PostgreSQL have in common, with "?" for each value. A store runs all
steps of an operation in one transaction; an error that they raise rolls it back.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from workers.errors import HistoryFull

Result = TypeVar("Result")

SqlStatement: TypeAlias = tuple[str, Sequence[Any]]
"""A statement with its values; a list of value rows runs it once for each."""
Rows: TypeAlias = Sequence[Sequence[Any]]
Steps: TypeAlias = Generator[SqlStatement, Rows, Result]

IDS_AT_ONCE = 400
"""Ids in one statement."""

ADD_PERSON = (
    "INSERT INTO history_people (person, seq, forgotten, used_bytes) VALUES (?, 0, 0, 0)"
    " ON CONFLICT (person) DO NOTHING"
)
LOCK_PERSON = "UPDATE history_people SET seq = seq WHERE person = ?"
FIND_PERSON = "SELECT seq, forgotten, used_bytes FROM history_people WHERE person = ?"
CHANGE_PERSON = "UPDATE history_people SET seq = ?, used_bytes = ? WHERE person = ?"


class PersonCounter(NamedTuple):
    """The counter of a person's writes, and the bytes that their history takes."""

    seq: int
    forgotten: int
    used_bytes: int


NEW_PERSON = PersonCounter(0, 0, 0)


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def find_person(person: str) -> Steps[PersonCounter]:
    """Read the counter of a person."""
    rows = yield FIND_PERSON, (person,)
    return PersonCounter(*rows[0]) if rows else NEW_PERSON


def lock_person(person: str) -> Steps[PersonCounter]:
    """Read the counter of a person; until the commit others who write wait.

    So the numbers of the writes are in the order of their commits, and no cursor skips one.
    """
    yield ADD_PERSON, (person,)
    yield LOCK_PERSON, (person,)
    rows = yield FIND_PERSON, (person,)
    return PersonCounter(*rows[0])


def finish_write(
    person: str, before: PersonCounter, grown: int, quota_bytes: int = 0
) -> Steps[int]:
    """Write the number of this transaction and return it. Raises HistoryFull.

    `grown` is by how many bytes the history grows; `quota_bytes` 0: it may in any case.
    """
    used = max(before.used_bytes + grown, 0)
    if grown > 0 and quota_bytes and used > quota_bytes:
        raise HistoryFull
    yield CHANGE_PERSON, (before.seq + 1, used, person)
    return before.seq + 1


def size_of(*texts: str | None) -> int:
    """Return the bytes that texts take of the quota: whatever a person can choose counts."""
    return sum(len(text.encode()) for text in texts if text is not None)


def pieces_of(ids: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Return ids in pieces, each with its question marks."""
    for start in range(0, len(ids), IDS_AT_ONCE):
        piece = ids[start : start + IDS_AT_ONCE]
        yield ", ".join("?" * len(piece)), piece
