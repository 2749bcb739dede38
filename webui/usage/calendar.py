"""Months on the usage page: which month it is where the owner is, in UTC days.

Sums are kept by UTC day, and budgets and the bills of providers go by UTC days too. So a month has
the UTC days of its name; the owner's clock decides only which month is the current one. A script
keeps the offset of that clock in a cookie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from server.accounting.usage_sums import Span
from server.identity.authentication import find_cookie

OFFSET_COOKIE = "roxy_utc_offset"
MAX_OFFSET_MINUTES = 14 * 60
"""The largest offset of a time zone: UTC+14."""
Month = Literal["", "this", "last"]
MONTHS: tuple[Month, ...] = ("", "this", "last")
"""The months to choose from; "": the days are chosen in another way."""


def read_offset(headers: Mapping[str, str]) -> timedelta:
    """Return how far the owner's clock is ahead of UTC; without a valid cookie it is not."""
    text = find_cookie(headers, OFFSET_COOKIE) or ""
    minutes = int(text) if re.fullmatch(r"-?[0-9]{1,3}", text, re.ASCII) else 0
    return timedelta(minutes=minutes if abs(minutes) <= MAX_OFFSET_MINUTES else 0)


def local_day(now: float, offset: timedelta) -> date:
    """Return the day of an instant (Unix seconds) on a clock that is ahead of UTC."""
    return (datetime.fromtimestamp(now, UTC) + offset).date()


def month_span(month: Month, today: date) -> Span:
    """Return the days of the current month until today, or all of the last month."""
    first = today.replace(day=1)
    if month == "this":
        return Span(first, today)
    end = first - timedelta(days=1)
    return Span(end.replace(day=1), end)


def span_before(span: Span, month: Month) -> Span | None:
    """Return the days to compare with: of a month, the same days of the month before it."""
    if not month:
        return span.before()
    end = span.first - timedelta(days=1)
    first = end.replace(day=1)
    if month == "last":
        return Span(first, end)
    return Span(first, min(first + timedelta(days=span.days - 1), end))


def month_labels(texts: Any) -> dict[Month, str]:
    """Return the labels of the months to choose from."""
    return {"this": texts.usage.this_month, "last": texts.usage.last_month}


def day_start(offset: timedelta) -> str:
    """Return when a UTC day begins on the owner's clock: 01:00; "" if at midnight."""
    if not offset:
        return ""
    minutes = offset // timedelta(minutes=1) % (24 * 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"
