"""Draw charts as SVG on the server: stacked bars, and the phases of a request.

Widths are percentages and heights are pixels, so that a chart fits every screen and its text keeps
its size. Colours are classes of the style sheet. All text is escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

PLOT_TOP = 10
PLOT_HEIGHT = 190
LABELS_HEIGHT = 26
CHART_HEIGHT = PLOT_TOP + PLOT_HEIGHT + LABELS_HEIGHT
AXIS_WIDTH = 56
MAX_TICKS = 4
MAX_LABELS = 4
"""More would touch each other on a phone."""
STEPS = (1, 2, 5, 10)


class Series(NamedTuple):
    """One colour of the bars: its name, its class and a value per bar."""

    name: str
    mark: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        """Return the sum of all bars."""
        return sum(self.values)


class BarChart(NamedTuple):
    """Stacked bars. `labels` are written below some of the bars, `names` are full.

    `write` formats a value with its unit, `write_tick` a value of the axis.
    """

    title: str
    description: str
    labels: Sequence[str]
    names: Sequence[str]
    series: Sequence[Series]
    write: Callable[[int], str]
    write_tick: Callable[[int], str]

    def totals(self) -> list[int]:
        """Return the height of each bar, in its unit."""
        return [sum(one.values[place] for one in self.series) for place in range(len(self.names))]


def ticks(most: int) -> list[int]:
    """Return evenly spaced round numbers, at most five, from 0 to `most` or just above it."""
    least = max(-(-most // MAX_TICKS), 1)
    magnitude = 10 ** (len(str(least)) - 1)
    step = next(one * magnitude for one in STEPS if one * magnitude >= least)
    return [step * number for number in range(-(-max(most, 1) // step) + 1)]


def stacked_bars(chart: BarChart) -> str:
    """Return the bars with their axis as SVG, with title and description."""
    marks = ticks(max(chart.totals(), default=0))
    top = marks[-1]
    axis = "".join(
        f'<text x="{AXIS_WIDTH - 8}" y="{_height(mark, top) + 4:g}" text-anchor="end">'
        f"{html.escape(chart.write_tick(mark))}</text>"
        for mark in marks
    )
    grid = "".join(
        f'<line class="grid" x1="0" x2="100%" y1="{y:g}" y2="{y:g}"/>'
        for y in (_height(mark, top) for mark in marks)
    )
    bars = "".join(_bar(chart, place, top) for place in range(len(chart.names)))
    return (
        f'<svg class="axis" width="{AXIS_WIDTH}" height="{CHART_HEIGHT}" aria-hidden="true">'
        f"{axis}</svg>"
        f'<svg class="plot" width="100%" height="{CHART_HEIGHT}" role="img"'
        ' aria-labelledby="chart-title" aria-describedby="chart-description">'
        f'<title id="chart-title">{html.escape(chart.title)}</title>'
        f'<desc id="chart-description">{html.escape(chart.description)}</desc>'
        f"{grid}{bars}{_labels(chart.labels)}</svg>"
    )


def _height(value: int, top: int) -> float:
    """Return the y coordinate of a value."""
    return round(PLOT_TOP + PLOT_HEIGHT * (1 - value / top), 2)


def _bar(chart: BarChart, place: int, top: int) -> str:
    slot = 100 / len(chart.names)
    width = slot * _fullness(len(chart.names))
    left = slot * place + (slot - width) / 2
    lines = [f"{chart.names[place]}: {chart.write(sum(s.values[place] for s in chart.series))}"]
    parts, below = [], 0
    for one in chart.series:
        value = one.values[place]
        if not value:
            continue
        lines.append(f"{one.name}: {chart.write(value)}")
        y, foot = _height(below + value, top), _height(below, top)
        below += value
        parts.append(
            f'<rect class="{html.escape(one.mark)}" x="{left:.3f}%" width="{width:.3f}%"'
            f' y="{y:g}" height="{foot - y:.2f}"/>'
        )
    return (
        f"<g><title>{html.escape(chr(10).join(lines))}</title>"
        f'<rect class="slot" x="{slot * place:.3f}%" width="{slot:.3f}%"'
        f' y="{PLOT_TOP}" height="{PLOT_HEIGHT}"/>{"".join(parts)}</g>'
    )


def _fullness(bars: int) -> float:
    """Return the share of its slot that a bar fills; a few wide bars would look like a wall."""
    if bars <= 10:
        return 0.45
    return 0.7 if bars <= 40 else 0.8


def _labels(labels: Sequence[str]) -> str:
    """Return some of the labels, evenly spaced, with the first and the last."""
    shown = min(len(labels), MAX_LABELS)
    places = [round(n * (len(labels) - 1) / max(shown - 1, 1)) for n in range(shown)]
    slot, parts = 100 / max(len(labels), 1), []
    for place in places:
        x, anchor = slot * (place + 0.5), "middle"
        if len(labels) > 10 and place == 0:
            x, anchor = 0.0, "start"
        elif len(labels) > 10 and place == len(labels) - 1:
            x, anchor = 100.0, "end"
        parts.append(
            f'<text x="{x:.3f}%" y="{CHART_HEIGHT - 6}" text-anchor="{anchor}">'
            f"{html.escape(labels[place])}</text>"
        )
    return "".join(parts)


class RequestPhase(NamedTuple):
    """A part of a request's time, in milliseconds from its arrival."""

    name: str
    mark: str
    start_ms: int
    end_ms: int

    @property
    def took_ms(self) -> int:
        """Return the duration."""
        return self.end_ms - self.start_ms

    def bar(self, total_ms: int) -> str:
        """Return a bar on a line that stands for `total_ms`; it is wide enough to be seen."""
        whole = max(total_ms, 1)
        width = max(self.took_ms / whole * 100, 0.5)
        left = min(self.start_ms / whole * 100, 100 - width)
        return (
            '<svg class="phase" width="100%" height="14" aria-hidden="true">'
            '<rect class="slot" x="0" width="100%" y="6" height="2"/>'
            f'<rect class="{html.escape(self.mark)}" x="{left:.2f}%" width="{width:.2f}%"'
            ' y="1" height="12" rx="2"/></svg>'
        )


def phases(
    queued_ms: int, ttft_ms: int | None, duration_ms: int, names: Mapping[str, str]
) -> list[RequestPhase]:
    """Split a request's time: in the queue, until the first token, writing.

    `names` are those of the marks `queued`, `waiting` and `writing`. The three times are rounded
    one by one, so they may overlap by a millisecond; here they are put in order. Without a first
    token there is no writing.
    """
    end = max(duration_ms, queued_ms, ttft_ms or 0)
    queued = min(queued_ms, end if ttft_ms is None else ttft_ms)
    waiting = RequestPhase(names["queued"], "queued", 0, queued)
    if ttft_ms is None:
        return [waiting, RequestPhase(names["waiting"], "waiting", queued, end)]
    return [
        waiting,
        RequestPhase(names["waiting"], "waiting", queued, ttft_ms),
        RequestPhase(names["writing"], "writing", ttft_ms, end),
    ]
