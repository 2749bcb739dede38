"""Format numbers and times with their units, in the same way as the scripts of the pages."""

from __future__ import annotations

from datetime import UTC, datetime

from workers.units import HOUR_S

UNITS = ("", "K", "M", "B", "T")
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
NONE = "\N{EN DASH}"
"""Shown in place of an unknown figure."""
PERIOD_NOW = {"day": "today", "week": "this week", "month": "this month", "total": "in total"}
"""The current period of a budget."""
MOST_PERCENT = 1000
"""A larger growth is shown as a factor."""


def count(number: int) -> str:
    """Return a number in full: 1,204."""
    return f"{number:,}"


def plural(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun: 1 request, 2 requests."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def short(number: int) -> str:
    """Return a short number: 131K, 1.3K, 1M."""
    value, place = float(number), 0
    while value >= 999.5 and place < len(UNITS) - 1:
        value /= 1000
        place += 1
    if place == 0:
        return str(number)
    figure = f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
    return figure.removesuffix(".0") + UNITS[place]


def duration(ms: int) -> str:
    """Return a duration: 84 ms, 1.24 s, 12.4 s, 2 min 5 s, 1 h 4 min."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 99_950:
        return f"{ms / 1000:.2f} s" if ms < 9_995 else f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < HOUR_S:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // HOUR_S:,} h {seconds % HOUR_S // 60} min"


def change(now: int, before: int) -> str:
    """Return the growth since before: +12 %, 25 times; "" when there was nothing before."""
    if before <= 0:
        return ""
    percent = (now - before) * 100 / before
    if abs(percent) < 0.5:
        return "±0 %"
    if percent >= MOST_PERCENT:
        return f"{TIMES}{now / before:,.0f}"
    return f"{MINUS if percent < 0 else '+'}{abs(percent):.0f} %"


def share(part: int, whole: int) -> str:
    """Return a part of a whole: 12 %, 0.4 %."""
    percent = part * 100 / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


def moment(at: float) -> str:
    """Return an instant (Unix seconds) in UTC: 2026-11-25 03:57:45."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def exact_moment(at: float) -> str:
    """Return an instant as ISO 8601 with milliseconds: 2026-11-25T03:57:45.120Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
