"""Draw the bars of the usage page: one per day, week or month, stacked by model or by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple
from zlib import crc32

from server.accounting.usage_sums import Span, add_up
from server.store.rows import UsageDay
from webui.shell.charts import BarChart, Series, stacked_bars
from webui.shell.figures import count, plural, short
from workers.money import exactly, rounded

Metric = Literal["requests", "tokens", "cost"]
METRICS: dict[Metric, str] = {"requests": "Requests", "tokens": "Tokens", "cost": "Cost"}
MOST_SERIES = 8
COLOURS = 12
"""The classes c0 to c11 of the style sheet."""
MOST_DAYS = 100
MOST_WEEK_DAYS = 731
Stacking = Literal["model", "key"]
STACKINGS: dict[Stacking, str] = {"model": "By model", "key": "By key"}


class Drawing(NamedTuple):
    """A chart as a picture, with the data of its table; `brief` formats values in the legend."""

    chart: BarChart
    svg: str
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


def writer(metric: Metric) -> Callable[[int], str]:
    """Return the function that formats a value in full, with its unit."""
    if metric == "cost":
        return exactly
    return lambda value: plural(value, "token" if metric == "tokens" else "request")


def unit_of(span: Span) -> str:
    """Return the unit of a bar that keeps the number of bars readable."""
    if span.days <= MOST_DAYS:
        return "day"
    return "week" if span.days <= MOST_WEEK_DAYS else "month"


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
    days: Sequence[UsageDay], span: Span, metric: Metric, keys: KeySums | None = None
) -> Drawing:
    """Draw the chart of a metric from the sums by day and model; `keys`: stacked by key."""
    unit = unit_of(span)
    bars = bars_of(span, unit)
    if keys is None:
        series = stack(_values(days, "model", bars, unit, metric), len(bars))
    else:
        series = _stack_keys(days, keys, bars, unit, metric)
    write, noun = writer(metric), METRICS[metric]
    names = [_name(bar, unit) for bar in bars]
    labels = [bar.isoformat()[:7] if unit == "month" else bar.isoformat()[5:] for bar in bars]
    tick = _money_tick if metric == "cost" else short
    title = f"{noun} by {unit}, stacked by {'model' if keys is None else 'key'}"
    chart = BarChart(title, "", labels, names, series, write, tick)
    totals = chart.totals()
    most = max(totals)
    summary = f"{span.first} to {span.last}, UTC: {write(sum(totals))} in all"
    if most:
        summary += f"; the most on {names[totals.index(most)]}: {write(most)}"
    chart = chart._replace(description=f"{summary}. The table after the chart has every number.")
    return Drawing(chart, stacked_bars(chart), unit, rounded if metric == "cost" else write)


def stack(values: Mapping[str, list[int]], bars: int) -> list[Series]:
    """Return a series per name, the largest first; the smallest share the last colour."""
    ranked = sorted(values.items(), key=lambda one: (-sum(one[1]), one[0]))
    shown = ranked[:MOST_SERIES]
    marks = colours([name for name, _ in shown])
    series = [Series(name, marks[name], own) for name, own in shown]
    others = [own for _, own in ranked[MOST_SERIES:]]
    if others:
        together = [sum(own[place] for own in others) for place in range(bars)]
        series.append(Series(f"{count(len(others))} others", "s0", together))
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
    days: Sequence[UsageDay], keys: KeySums, bars: Sequence[date], unit: str, metric: Metric
) -> list[Series]:
    """Return a series per key, and one for what the other keys have used."""
    found = _values(keys.days, "key", bars, unit, metric)
    series = stack({keys.names[key_id]: own for key_id, own in found.items()}, len(bars))
    whole = _values(days, "", bars, unit, metric).get("", [0] * len(bars))
    rest = [
        max(total - sum(own.values[place] for own in series), 0)
        for place, total in enumerate(whole)
    ]
    return [*series, Series("Other keys", "s0", rest)] if any(rest) else series


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


def _name(bar: date, unit: str) -> str:
    if unit == "week":
        return f"week of {bar}"
    return bar.isoformat()[:7] if unit == "month" else bar.isoformat()


def _money_tick(microusd: int) -> str:
    figure = exactly(microusd)
    return figure + "0" if "." in figure and len(figure.partition(".")[2]) == 1 else figure
