"""The charts: true to their numbers, with round ticks, and safe whatever is written on them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zlib import crc32

import pytest

from server.accounting.usage_sums import Span
from server.store.rows import UsageDay
from webui.shell.charts import (
    PLOT_HEIGHT,
    BarChart,
    RequestPhase,
    Series,
    phases,
    stacked_bars,
    ticks,
)
from webui.shell.figures import exact_moment
from webui.shell.texts import languages
from webui.usage.calendar import (
    Month,
    day_start,
    local_day,
    month_span,
    read_offset,
    span_before,
)
from webui.usage.usage_chart import (
    COLOURS,
    MAX_SERIES,
    KeySums,
    bars_of,
    colours,
    draw,
    unit_of,
)
from workers.money import exactly, rounded

Day = tuple[int, int, int]
ENGLISH = languages()["en"]
NAMES = {"queued": "Queued", "waiting": "First token", "writing": "Writing"}
EVIL = "<script>alert('1')</script>&\""


def chart_of(*series: Series) -> BarChart:
    """Make a chart of as many bars as the series have."""
    names = [f"day {place}" for place in range(len(series[0].values))]
    return BarChart("Title", "Description", names, names, series, str, str)


def bars_in(svg: str) -> list[list[tuple[float, float]]]:
    """Read the y and height of each part of each bar."""
    (plot,) = [one for one in ET.fromstring(f"<x>{svg}</x>") if one.get("role") == "img"]
    return [
        [
            (float(rect.get("y", "")), float(rect.get("height", "")))
            for rect in bar.findall("rect")
            if rect.get("class") != "slot"
        ]
        for bar in plot.findall("g")
    ]


@pytest.mark.parametrize("most", [0, 1, 3, 4, 5, 7, 99, 100, 101, 12_345, 999_999_999, 10**15])
def test_ticks_are_round_even_and_reach_just_above_the_largest(most: int) -> None:
    marks = ticks(most)
    step = marks[1]
    assert marks == [step * n for n in range(len(marks))]
    assert marks[-1] >= most > marks[-2] or most == 0
    assert 2 <= len(marks) <= 5
    assert str(step).rstrip("0") in ("1", "2", "5")


def test_the_parts_of_a_bar_stand_on_each_other_and_add_up() -> None:
    one, other = Series("one", "s1", [10, 0, 7]), Series("other", "s2", [30, 0, 1])
    chart = chart_of(one, other)
    bars, top = bars_in(stacked_bars(chart)), ticks(40)[-1]
    for parts, total in zip(bars, chart.totals(), strict=True):
        assert sum(height for _, height in parts) == pytest.approx(
            PLOT_HEIGHT * total / top, abs=0.05
        )
    (low, low_height), (high, high_height) = bars[0]
    assert high + high_height == pytest.approx(low) and low_height < high_height
    assert bars[1] == []


def test_everything_on_a_chart_is_escaped() -> None:
    chart = BarChart(EVIL, EVIL, [EVIL], [EVIL], [Series(EVIL, EVIL, [5])], lambda _: EVIL, str)
    svg = stacked_bars(chart) + RequestPhase(EVIL, EVIL, 0, 1).bar(1)
    assert "<script" not in svg
    assert EVIL in "".join(ET.fromstring(f"<x>{svg}</x>").itertext())


def test_a_chart_needs_no_style_attribute() -> None:
    svg = stacked_bars(chart_of(Series("one", "s1", list(range(90)))))
    assert not re.search(r"\sstyle=|\son\w+=|<style", svg)
    assert len(bars_in(svg)) == 90


def test_days_without_use_are_there_and_small_models_share_a_colour() -> None:
    span = Span(date(2026, 11, 1), date(2026, 11, 3))
    days = [UsageDay("2026-11-02", "owner", f"m{n}", requests=20 - n) for n in range(11)]
    drawn = draw(days, span, "requests", ENGLISH)
    assert drawn.chart.totals() == [0, 165, 0]
    assert [(one.name, one.total) for one in drawn.chart.series][-2:] == [
        ("m7", 13),
        ("3 others", 12 + 11 + 10),
    ]
    name, values, total = drawn.rows()[1]
    assert (name, values[0], total) == ("2 November 2026", "20 requests", "165 requests")
    assert "165 requests in all; highest: 2 November 2026, 165 requests." in drawn.svg


def test_a_colour_stays_with_its_name_whatever_its_rank() -> None:
    names = ["zai/glm-4.5", "meta/llama-3.3-70b", "google/gemini-2.5-pro"]
    marks = colours(names)
    assert len(set(marks.values())) == 3
    assert colours(names[::-1]) == marks
    for name in names:
        assert colours([name]) == {name: f"c{crc32(name.encode()) % COLOURS}"}
    many = colours([f"model {n}" for n in range(MAX_SERIES)])
    assert len(set(many.values())) == MAX_SERIES, "no two with the same colour"


def test_a_chart_by_key_has_the_largest_keys_and_the_rest() -> None:
    span = Span(date(2026, 11, 1), date(2026, 11, 2))
    days = [UsageDay("2026-11-01", "", "m", cost_microusd=70), UsageDay("2026-11-02", "", "m")]
    keys = KeySums(
        [UsageDay("2026-11-01", "key_1", "", cost_microusd=60)], {"key_1": "Ada", "key_2": "b"}
    )
    drawn = draw(days, span, "cost", ENGLISH, keys)
    assert [(one.name, list(one.values)) for one in drawn.chart.series] == [
        ("Ada", [60, 0]),
        ("Other keys", [10, 0]),
    ]
    assert "Cost by day, stacked by key" in drawn.svg


@pytest.mark.parametrize(
    ("first", "unit", "bars"),
    [("2026-08-28", "day", 90), ("2025-11-26", "week", 53), ("2017-01-01", "month", 119)],
)
def test_long_spans_are_gathered_into_weeks_and_months(first: str, unit: str, bars: int) -> None:
    span = Span(date.fromisoformat(first), date(2026, 11, 25))
    assert unit_of(span) == unit
    assert len(bars_of(span, unit)) == bars
    days = [UsageDay(first, "owner", "m", requests=3), UsageDay("2026-11-25", "k", "m", requests=4)]
    totals = draw(days, span, "requests", ENGLISH).chart.totals()
    assert (totals[0], totals[-1], sum(totals)) == (3, 4, 7)


def test_the_first_days_of_the_calendar_can_be_drawn() -> None:
    span = Span(date(1, 1, 1), date(1, 12, 31))
    assert span.before() is None
    assert len(bars_of(span, unit_of(span))) == 53


def test_phases_follow_each_other_whatever_the_clocks_said() -> None:
    for queued, ttft, whole in [(5, 100, 900), (7, 6, 6), (0, 0, 0), (3, 50, 20)]:
        parts = phases(queued, ttft, whole, NAMES)
        assert parts[0].start_ms == 0
        assert all(a.end_ms == b.start_ms for a, b in pairwise(parts))
        assert all(part.took_ms >= 0 and part.bar(parts[-1].end_ms) for part in parts)
    assert [part.name for part in phases(5, None, 20, NAMES)][-1] == "First token"


def test_figures_are_written_as_people_read_them() -> None:
    figures = ENGLISH.figures
    assert [figures.short(n) for n in (0, 999, 1000, 1250, 131_000, 999_600, 2_500_000_000)] == [
        "0", "999", "1K", "1.2K", "131K", "1M", "2.5B",
    ]  # fmt: skip
    assert [rounded(n) for n in (0, 42, 4200, 1_500_000, 1_204_500_000)] == [
        "$0", "<$0.0001", "$0.0042", "$1.50", "$1,204.50",
    ]  # fmt: skip
    assert [exactly(n) for n in (0, 42, 2_000_000)] == ["$0", "$0.000042", "$2"]
    assert [figures.duration(n) for n in (84, 1240, 12_400, 125_000, 3_840_000)] == [
        "84 ms", "1.24 s", "12.4 s", "2 min 5 s", "1 h 4 min",
    ]  # fmt: skip
    assert [figures.size(n) for n in (84, 1229, 12_288, 1_572_864)] == [
        "84 B", "1.2 KB", "12 KB", "1.5 MB",
    ]  # fmt: skip
    assert [figures.change(now, 100) for now in (112, 50, 100)] == [
        "+12 %",
        "\u221250 %",
        "\xb10 %",
    ]
    assert (figures.change(2500, 100), figures.change(1, 0)) == ("\xd725", "")
    assert [figures.share(n, 1000) for n in (0, 4, 500, 1000)] == ["0 %", "0.4 %", "50 %", "100 %"]
    assert [figures.elapsed(n) for n in (0, 99, 100, 3840)] == [
        "0 s", "99 s", "1 min 40 s", "1 h 4 min",
    ]  # fmt: skip
    assert exact_moment(1_700_000_000.12) == "2023-11-14T22:13:20.120Z"


@pytest.mark.parametrize(
    ("code", "amount", "day", "month", "brief", "moment"),
    [
        ("en", "$1,204.50", "1 November 2026", "November 2026", "1 Nov", "14 Nov 2023, 22:13:20"),
        ("de", "$1.204,50", "1. November 2026", "November 2026", "1. Nov.",
         "14. Nov. 2023, 22:13:20"),
        ("es", "$1.204,50", "1 de noviembre de 2026", "noviembre de 2026", "1 nov",
         "14 nov 2023, 22:13:20"),
        ("ja", "$1,204.50", "2026年11月1日", "2026年11月", "11月1日", "2023年11月14日 22:13:20"),
    ],
)  # fmt: skip
def test_figures_and_days_follow_the_language(
    code: str, amount: str, day: str, month: str, brief: str, moment: str
) -> None:
    figures, first = languages()[code].figures, date(2026, 11, 1)
    assert figures.written(rounded(1_204_500_000)) == amount
    assert figures.size(1_572_864) == f"1{figures.decimal}5 MB"
    assert (figures.name_day(first), figures.name_month(first)) == (day, month)
    assert (figures.label_day(first), figures.name_moment(1_700_000_000)) == (brief, moment)


@pytest.mark.parametrize(
    ("month", "today", "span", "before"),
    [
        ("this", (2026, 11, 29), ((2026, 11, 1), (2026, 11, 29)), ((2026, 10, 1), (2026, 10, 29))),
        ("this", (2027, 3, 31), ((2027, 3, 1), (2027, 3, 31)), ((2027, 2, 1), (2027, 2, 28))),
        ("last", (2027, 1, 1), ((2026, 12, 1), (2026, 12, 31)), ((2026, 11, 1), (2026, 11, 30))),
    ],
)  # fmt: skip
def test_a_month_is_compared_with_the_same_days_of_the_month_before(
    month: Month, today: Day, span: tuple[Day, Day], before: tuple[Day, Day]
) -> None:
    found = month_span(month, date(*today))
    assert found == Span(date(*span[0]), date(*span[1]))
    assert span_before(found, month) == Span(date(*before[0]), date(*before[1]))


def test_the_clock_of_the_owner_decides_which_month_it_is() -> None:
    now = datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp()
    for cookie, day, begins in (
        ("roxy_utc_offset=60", date(2026, 12, 1), "01:00"),
        ("roxy_utc_offset=-300", date(2026, 11, 30), "19:00"),
        ("roxy_utc_offset=330", date(2026, 12, 1), "05:30"),
        ("roxy_utc_offset=9999", date(2026, 11, 30), ""),
        ("roxy_utc_offset=900", date(2026, 11, 30), ""),
        ("roxy_utc_offset=x", date(2026, 11, 30), ""),
        ("", date(2026, 11, 30), ""),
    ):
        offset = read_offset({"Cookie": cookie} if cookie else {})
        assert local_day(now, offset) == day, cookie
        assert day_start(offset) == begins, cookie
    assert day_start(timedelta(0)) == ""


def test_days_are_written_in_words() -> None:
    day = date(2026, 11, 1)
    in_words = ENGLISH.figures.name_days
    assert in_words(day, day) == "1 November 2026"
    assert in_words(day, date(2026, 11, 30)) == "1 to 30 November 2026"
    assert in_words(date(2025, 12, 31), day) == "31 December 2025 to 1 November 2026"
