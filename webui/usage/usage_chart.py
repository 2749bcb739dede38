"""Draw the bars of the usage page: one per day, week or month, stacked by model or by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple
from zlib import crc32

from server.accounting.usage_sums import Span, add_up
from server.store.rows import UsageDay
from webui.shell.charts import BarChart, Series, stacked_bars
from webui.shell.texts import Language, fill
from workers.money import exactly, rounded

Metric = Literal["requests", "tokens", "cost"]
METRICS: tuple[Metric, ...] = ("requests", "tokens", "cost")
MAX_SERIES = 8
COLOURS = 12
"""The classes c0 to c11 of the style sheet."""
MAX_DAYS = 100
MAX_WEEK_DAYS = 731
Stacking = Literal["model", "key"]
STACKINGS: tuple[Stacking, ...] = ("model", "key")


class Drawing(NamedTuple):
    """A chart as a picture, with the data of its table; `brief` formats values in the legend.

    `unit` is the heading of the table's first column.
    """

    chart: BarChart
    svg: str
    heading: str
    unit: str
    brief: Callable[[int], str]

    def rows(self) -> list[tuple[str, list[str], str]]:
        """Return the table: for each bar its name, a figure per series and their sum."""
        write = self.chart.write
        return [
            (name, [write(one.values[place]) for one in self.chart.series], write(total))
            for place, (name, total) in enumerate(
                zip(self.chart.names, self.chart.totals(), strict=True)
            )
        ]

    def total(self) -> str:
        """Return the sum of all bars."""
        return self.chart.write(sum(self.chart.totals()))


FIELDS_OF: dict[Metric, tuple[str, ...]] = {
    "requests": ("requests",),
    "tokens": ("prompt_tokens", "completion_tokens"),
    "cost": ("cost_microusd",),
}
"""The sums that make up each metric."""


def value_of(sums: UsageDay, metric: Metric) -> int:
    """Return the value of a metric in sums of `add_up`."""
    return sum(getattr(sums, field) for field in FIELDS_OF[metric])


def metric_labels(texts: Any) -> dict[Metric, str]:
    """Return the labels of the metrics to choose from."""
    return {
        "requests": texts.usage.requests,
        "tokens": texts.usage.tokens,
        "cost": texts.usage.cost,
    }


def stacking_labels(texts: Any) -> dict[Stacking, str]:
    """Return the labels of what the colours may stand for."""
    return {"model": texts.usage.per_model, "key": texts.usage.per_key}


def writer(metric: Metric, language: Language) -> Callable[[int], str]:
    """Return the function that formats a value in full, with its unit."""
    if metric == "cost":
        return lambda value: language.figures.written(exactly(value))
    texts = language.texts
    forms = texts.usage.token_count if metric == "tokens" else texts.usage.request_count
    return lambda value: language.plural(forms, value)


def unit_of(span: Span) -> str:
    """Return the unit of a bar that keeps the number of bars readable."""
    if span.days <= MAX_DAYS:
        return "day"
    return "week" if span.days <= MAX_WEEK_DAYS else "month"


def bar_of(day: date, unit: str) -> date:
    """Return the first day of the bar that a day belongs to; weeks begin on Monday (ISO 8601)."""
    if unit == "week":  # not before 0001-01-01, the first day that `date` has
        return date.fromordinal(max(day.toordinal() - day.weekday(), 1))
    return day.replace(day=1) if unit == "month" else day


def bars_of(span: Span, unit: str) -> list[date]:
    """Return the bars of a span, those without usage too."""
    days = (span.first + timedelta(days=number) for number in range(span.days))
    return list(dict.fromkeys(bar_of(day, unit) for day in days))


class KeySums(NamedTuple):
    """The sums by day of the keys with the largest use, and their names by key id."""

    days: Sequence[UsageDay]
    names: Mapping[str, str]


def draw(
    days: Sequence[UsageDay],
    span: Span,
    metric: Metric,
    language: Language,
    keys: KeySums | None = None,
) -> Drawing:
    """Draw the chart of a metric from the sums by day and model; `keys`: stacked by key."""
    unit = unit_of(span)
    bars = bars_of(span, unit)
    if keys is None:
        series = stack(_values(days, "model", bars, unit, metric), len(bars), language)
    else:
        series = _stack_keys(days, keys, bars, unit, metric, language)
    figures, texts, write = language.figures, language.texts, writer(metric, language)
    names = [_name(bar, unit, language) for bar in bars]
    label = figures.label_month if unit == "month" else figures.label_day
    heading, column = _unit_words(unit, metric, texts)
    stacked = texts.usage.stacked_by_model if keys is None else texts.usage.stacked_by_key
    chart = BarChart(
        fill(stacked, heading=heading),
        "",
        [label(bar) for bar in bars],
        names,
        series,
        write,
        partial(_money_tick, language) if metric == "cost" else figures.short,
    )
    chart = chart._replace(description=_summary(chart, span, language))
    brief = (lambda value: figures.written(rounded(value))) if metric == "cost" else write
    return Drawing(chart, stacked_bars(chart), heading, column, brief)


def _unit_words(unit: str, metric: Metric, texts: Any) -> tuple[str, str]:
    """Return the heading of a chart, and that of the column with its bars."""
    form, column = {
        "day": (texts.usage.by_day, texts.usage.day),
        "week": (texts.usage.by_week, texts.usage.week),
        "month": (texts.usage.by_month, texts.usage.month),
    }[unit]
    return fill(form, metric=metric_labels(texts)[metric]), column


def _summary(chart: BarChart, span: Span, language: Language) -> str:
    """Return the sum and the highest bar in words."""
    texts, totals = language.texts, chart.totals()
    most, days = max(totals), language.figures.name_days(*span)
    total = chart.write(sum(totals))
    if not most:
        return fill(texts.usage.summary, days=days, total=total)
    bar = chart.names[totals.index(most)]
    return fill(texts.usage.summary_most, days=days, total=total, bar=bar, most=chart.write(most))


def stack(values: Mapping[str, list[int]], bars: int, language: Language) -> list[Series]:
    """Return a series per name, the largest first; the smallest share the last colour."""
    ranked = sorted(values.items(), key=lambda one: (-sum(one[1]), one[0]))
    shown = ranked[:MAX_SERIES]
    marks = colours([name for name, _ in shown])
    series = [Series(name, marks[name], own) for name, own in shown]
    others = [own for _, own in ranked[MAX_SERIES:]]
    if others:
        together = [sum(own[place] for own in others) for place in range(bars)]
        name = language.plural(language.texts.usage.others, len(others))
        series.append(Series(name, "s0", together))
    return series


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return the class of each name's colour, which depends on the name and not on its rank.

    Two names with the same colour in one chart would be confused: the second one in the order of
    the alphabet takes the next free colour.
    """
    marks: dict[str, str] = {}
    used: set[int] = set()
    for name in sorted(names):
        place = crc32(name.encode("utf-8", "replace")) % COLOURS
        while place in used and len(used) < COLOURS:
            place = (place + 1) % COLOURS
        used.add(place)
        marks[name] = f"c{place}"
    return marks


def _stack_keys(
    days: Sequence[UsageDay],
    keys: KeySums,
    bars: Sequence[date],
    unit: str,
    metric: Metric,
    language: Language,
) -> list[Series]:
    """Return a series per key, and one for what the other keys have used."""
    found = _values(keys.days, "key", bars, unit, metric)
    named = {keys.names[key_id]: own for key_id, own in found.items()}
    series = stack(named, len(bars), language)
    whole = _values(days, "", bars, unit, metric).get("", [0] * len(bars))
    rest = [
        max(total - sum(own.values[place] for own in series), 0)
        for place, total in enumerate(whole)
    ]
    if not any(rest):
        return series
    return [*series, Series(language.texts.usage.other_keys, "s0", rest)]


def _values(
    days: Sequence[UsageDay],
    group: Literal["model", "key", ""],
    bars: Sequence[date],
    unit: str,
    metric: Metric,
) -> dict[str, list[int]]:
    """Return the value of each bar, by model, by key id or of all together (as "")."""
    place_of = {bar: place for place, bar in enumerate(bars)}
    values: dict[str, list[int]] = {}
    for row in add_up(days, ("day", group) if group else ("day",)):
        mark = {"model": row.model, "key": row.key_id, "": ""}[group]
        place = place_of[bar_of(date.fromisoformat(row.day), unit)]
        values.setdefault(mark, [0] * len(bars))[place] += value_of(row, metric)
    return values


def _name(bar: date, unit: str, language: Language) -> str:
    figures = language.figures
    if unit == "week":
        return fill(language.texts.usage.week_of, day=figures.name_day(bar))
    return figures.name_month(bar) if unit == "month" else figures.name_day(bar)


def _money_tick(language: Language, microusd: int) -> str:
    figure = exactly(microusd)
    if "." in figure and len(figure.partition(".")[2]) == 1:
        figure += "0"
    return language.figures.written(figure)
