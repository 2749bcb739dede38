"""Format numbers and times with their units in a language, in the same way as scripts do."""

from __future__ import annotations

from datetime import UTC, date, datetime

from msgspec import Struct

from workers.units import HOUR_S, KIB, MIB

UNITS = ("", "K", "M", "B", "T")
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
NONE = "\N{EN DASH}"
"""Shown in place of an unknown figure."""
MAX_PERCENT = 1000
"""A larger growth is shown as a factor."""


class Figures(Struct, frozen=True, forbid_unknown_fields=True):
    """How a language writes figures: the group `figures` of its texts."""

    decimal: str
    thousands: str
    ms: str
    s: str
    min_s: str
    h_min: str
    percent: str
    months: str
    """The names of the months, with spaces between them."""
    brief_months: str
    full_day: str
    days_of_month: str
    days: str
    full_month: str
    brief_day: str
    brief_date: str
    brief_month: str
    instant: str

    def written(self, figure: str) -> str:
        """Return a figure of Python's, such as 1,204.5, with the marks of the language."""
        return "".join({",": self.thousands, ".": self.decimal}.get(one, one) for one in figure)

    def count(self, number: int) -> str:
        """Return a number in full: 1,204."""
        return self.written(f"{number:,}")

    def short(self, number: int) -> str:
        """Return a short number: 131K, 1.3K, 1M."""
        value, place = float(number), 0
        while value >= 999.5 and place < len(UNITS) - 1:
            value /= 1000
            place += 1
        if place == 0:
            return str(number)
        figure = f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
        return self.written(figure.removesuffix(".0")) + UNITS[place]

    def size(self, size_bytes: int) -> str:
        """Return a size: 84 B, 1.2 KB, 12 KB, 1.2 MB."""
        if size_bytes < KIB:
            return f"{size_bytes} B"
        if size_bytes < MIB:
            digits = 1 if size_bytes < 10 * KIB else 0
            return self.written(f"{size_bytes / KIB:.{digits}f}") + " KB"
        return self.written(f"{size_bytes / MIB:,.1f}") + " MB"

    def duration(self, ms: int) -> str:
        """Return a duration: 84 ms, 1.24 s, 12.4 s, 2 min 5 s, 1 h 4 min."""
        if ms < 1000:
            return self.ms.format(value=ms)
        if ms < 99_950:
            figure = f"{ms / 1000:.2f}" if ms < 9_995 else f"{ms / 1000:.1f}"
            return self.s.format(value=self.written(figure))
        seconds = round(ms / 1000)
        if seconds < HOUR_S:
            return self.min_s.format(minutes=seconds // 60, seconds=seconds % 60)
        return self.h_min.format(
            hours=self.count(seconds // HOUR_S), minutes=seconds % HOUR_S // 60
        )

    def elapsed(self, seconds: int) -> str:
        """Return whole seconds as text: 12 s, 2 min 5 s, 1 h 4 min."""
        return self.s.format(value=seconds) if seconds < 100 else self.duration(seconds * 1000)

    def name_day(self, day: date) -> str:
        """Return a day: 1 November 2026."""
        return self.full_day.format(day=day.day, month=self._month(day), year=day.year)

    def name_days(self, first: date, last: date) -> str:
        """Return the days of a span: 1 to 29 November 2026, or both days in full."""
        if first == last:
            return self.name_day(first)
        if (first.year, first.month) != (last.year, last.month):
            return self.days.format(first=self.name_day(first), last=self.name_day(last))
        month = self._month(first)
        return self.days_of_month.format(
            first=first.day, last=last.day, month=month, year=first.year
        )

    def name_month(self, day: date) -> str:
        """Return the month of a day: November 2026."""
        return self.full_month.format(month=self._month(day), year=day.year)

    def label_day(self, day: date) -> str:
        """Return a day for little space: 1 Nov."""
        return self.brief_day.format(day=day.day, month=self._brief_month(day))

    def label_date(self, day: date) -> str:
        """Return a day of any year for little space: 1 Nov 2026."""
        return self.brief_date.format(day=day.day, month=self._brief_month(day), year=day.year)

    def label_month(self, day: date) -> str:
        """Return the month of a day for little space: Nov 2026."""
        return self.brief_month.format(month=self._brief_month(day), year=day.year)

    def name_moment(self, at: float) -> str:
        """Return an instant (Unix seconds) in UTC: 25 Nov 2026, 03:57:45."""
        moment = datetime.fromtimestamp(at, UTC)
        return self.instant.format(
            day=moment.day,
            month=self._brief_month(moment),
            year=moment.year,
            time=f"{moment:%H:%M:%S}",
        )

    def _month(self, day: date) -> str:
        return self.months.split()[day.month - 1]

    def _brief_month(self, day: date) -> str:
        return self.brief_months.split()[day.month - 1]

    def change(self, now: int, before: int) -> str:
        """Return the growth since before: +12 %, 25 times; "" when there was nothing before."""
        if before <= 0:
            return ""
        percent = (now - before) * 100 / before
        if abs(percent) < 0.5:
            return "±" + self.percent.format(value=0)
        if percent >= MAX_PERCENT:
            return TIMES + self.written(f"{now / before:,.0f}")
        sign = MINUS if percent < 0 else "+"
        return sign + self.percent.format(value=f"{abs(percent):.0f}")

    def share(self, part: int, whole: int) -> str:
        """Return a part of a whole: 12 %, 0.4 %."""
        percent = part * 100 / whole if whole else 0.0
        if 0 < percent < 0.1:
            return "<" + self.percent.format(value=self.written("0.1"))
        figure = f"{percent:.1f}" if 0 < percent < 9.95 else f"{percent:.0f}"
        return self.percent.format(value=self.written(figure))


def exact_moment(at: float) -> str:
    """Return an instant as ISO 8601 with milliseconds: 2026-11-25T03:57:45.120Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
