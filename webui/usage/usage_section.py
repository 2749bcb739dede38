"""Provide what the pages about usage share: the owner's clock, and the days in an address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, timedelta

from server.accounting.usage_sums import DAYS_SHOWN, Span, read_span
from server.http.query import read_choice
from webui.shell.pages import PageHandler
from webui.usage.calendar import MONTHS, local_day, month_span, read_offset
from workers.errors import InvalidRequest


class UsageSectionHandler(PageHandler):
    """A page about usage, which only the owner may see."""

    access = "owner"
    section = "usage"
    translated = True

    def read_query(self, names: Sequence[str]) -> dict[str, str]:
        """Return the parameters of the address; "" for one that is not there.

        Others are ignored: a bookmark may be older than the page.
        """
        return {name: self.get_query_argument(name, "") for name in names}

    @property
    def offset(self) -> timedelta:
        """Return how far the owner's clock is ahead of UTC."""
        return read_offset(self.request.headers)

    def today(self) -> date:
        """Return the owner's day."""
        return local_day(time.time(), self.offset)

    def read_days(self, month: str, start: str, end: str, days: int = DAYS_SHOWN) -> Span:
        """Return the chosen days: a month, else those from `start` to `end`, else the last `days`.

        Raises InvalidRequest, in the page's language, for days that cannot be shown.
        """
        if month:
            return month_span(read_choice("month", month, MONTHS), self.today())
        try:
            return read_span(start, end, days)
        except InvalidRequest:
            self.said = self.language().texts.usage.bad_days
            raise
