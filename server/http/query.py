"""Read the query parameters of the owner's lists: known names only, days, numbers.

The API and the pages use the same functions, so both accept and refuse the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from workers.errors import InvalidRequest

DAYS_SHOWN = 30
LONGEST_SPAN_DAYS = 3660


class Span(NamedTuple):
    """A span of UTC days, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """Return the number of days."""
        return (self.last - self.first).days + 1

    def before(self) -> Span | None:
        """Return the span of equal length that ends the day before; None before the year 1."""
        if self.first.toordinal() <= self.days:
            return None
        length = timedelta(days=self.days)
        return Span(self.first - length, self.last - length)


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise InvalidRequest for an unknown query parameter, most often a misspelt one."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequest(
            f"There is no parameter {unknown[0]!r}; there are {', '.join(known)}.",
            param=unknown[0],
        )


def read_span(start: str | None, end: str | None, days: int = DAYS_SHOWN) -> Span:
    """Return a span of days. It ends today by default, and is `days` long by default.

    Raises InvalidRequest.
    """
    last = _read_day("end", end) if end else datetime.fromtimestamp(time.time(), UTC).date()
    if start:
        first = _read_day("start", start)
    else:
        first = date.fromordinal(max(last.toordinal() - days + 1, 1))
    if first > last or (last - first).days > LONGEST_SPAN_DAYS:
        raise InvalidRequest(
            "'start' must not be after 'end', nor ten years before it.", param="start"
        )
    return Span(first, last)


def _read_day(name: str, text: str) -> date:
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"'{name}' must be a day, as in 2026-11-22.", param=name) from error


def read_number(name: str, text: str, most: int) -> int | None:
    """Return a number from 1 to `most`, or None if it is not given. Raises InvalidRequest."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= most):
        raise InvalidRequest(f"'{name}' must be a number from 1 to {most}.", param=name)
    return int(text)
