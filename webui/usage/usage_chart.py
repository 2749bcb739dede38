"""Draw the bars of the usage page: one per day, week or month, stacked by model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple

from server.accounting.usage_sums import Span, add_up
from server.store.rows import UsageDay
from webui.shell.charts import BarChart, Series, stacked_bars
from webui.shell.figures import count, plural, short
from workers.money import exactly, rounded

Metric = Literal["requests", "tokens", "cost"]
METRICS: dict[Metric, str] = {"requests": "Requests", "tokens": "Tokens", "cost": "Cost"}
MOST_COLOURS = 6
MOST_DAYS = 100
MOST_WEEK_DAYS = 731
OTHERS = "others"


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


def draw(days: Sequence[UsageDay], span: Span, metric: Metric) -> Drawing:
    """Draw the chart of a metric."""
    unit = unit_of(span)
    bars = bars_of(span, unit)
    series = stack(days, bars, unit, metric)
    write, noun = writer(metric), METRICS[metric]
    names = [_name(bar, unit) for bar in bars]
    labels = [bar.isoformat()[:7] if unit == "month" else bar.isoformat()[5:] for bar in bars]
    tick = _money_tick if metric == "cost" else short
    title = f"{noun} by {unit}, stacked by model"
    chart = BarChart(title, "", labels, names, series, write, tick)
    totals = chart.totals()
    most = max(totals)
    summary = f"{span.first} to {span.last}, UTC: {write(sum(totals))} in all"
    if most:
        summary += f"; the most on {names[totals.index(most)]}: {write(most)}"
    chart = chart._replace(description=f"{summary}. The table after the chart has every number.")
    return Drawing(chart, stacked_bars(chart), unit, rounded if metric == "cost" else write)


def stack(
    days: Sequence[UsageDay], bars: Sequence[date], unit: str, metric: Metric
) -> list[Series]:
    """Return a series per model, the largest first; the smallest models share the last colour."""
    place_of = {bar: place for place, bar in enumerate(bars)}
    values: dict[str, list[int]] = {}
    for row in add_up(days, ("day", "model")):
        place = place_of[bar_of(date.fromisoformat(row.day), unit)]
        values.setdefault(row.model, [0] * len(bars))[place] += value_of(row, metric)
    ranked = sorted(values.items(), key=lambda one: (-sum(one[1]), one[0]))
    shown = min(len(ranked), MOST_COLOURS)
    series = [Series(name, f"s{n}", own) for n, (name, own) in enumerate(ranked[:shown], 1)]
    rest = [own for _, own in ranked[shown:]]
    if rest:
        together = [sum(column) for column in zip(*rest, strict=True)]
        series.append(Series(f"{count(len(rest))} {OTHERS}", "s0", together))
    return series


def _name(bar: date, unit: str) -> str:
    if unit == "week":
        return f"week of {bar}"
    return bar.isoformat()[:7] if unit == "month" else bar.isoformat()


def _money_tick(microusd: int) -> str:
    figure = exactly(microusd)
    return figure + "0" if "." in figure and len(figure.partition(".")[2]) == 1 else figure
