"""Gather what the rounds measured, and print medians with their range and the ratios to nginx.

A ratio is taken within each round, where both were measured within seconds of each other, and then
the median over the rounds; the same holds for what a contender adds to asking the upstream itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from bench.contenders import Contender
from bench.scenarios import Run, Scenario

COUNTS = ("errors", "unfinished", "out_of_order", "doubled", "missing", "extra_calls", "hangups")
"""What must be zero: in answers as the client saw them, then in calls as the upstream saw them."""

NOISY = 0.02


@dataclass(frozen=True)
class Row:
    """A line of the table: `figure` in its unit divided by `scale`; `added` is added to direct."""

    label: str
    figure: str
    scale: float = 1
    digits: int = 1
    added: bool = False


def rows(names: list[str]) -> list[Row]:
    """List the lines for these scenarios."""
    streams = [name.removeprefix("paced") for name in names if name.startswith("paced")]
    ms = 1000.0
    most = max(streams, key=int, default="")
    return [
        Row("CPU per JSON request, us", "json.cpu_us"),
        Row("JSON requests/s", "json.per_s", digits=0),
        *(Row(f"CPU per paced event at {n} streams, us", f"paced{n}.cpu_us") for n in streams),
        *(Row(f"events/s at {n} streams", f"paced{n}.per_s", digits=0) for n in streams),
        *(Row(f"share of a core at {n} streams, %", f"paced{n}.core", 0.01) for n in streams),
        Row("CPU per burst event, us", "burst.cpu_us"),
        Row("burst events/s", "burst.per_s", digits=0),
        *(
            Row(f"TTFT added at {n} streams, {p}, ms", f"paced{n}.{p}_us", ms, 2, added=True)
            for n in streams
            for p in ("p50", "p99")
        ),
        *(
            Row(f"lag per delta at {n} streams, {p}, ms", f"paced{n}.lag_{p}_us", ms, 2)
            for n in streams
            for p in ("p50", "p99")
        ),
        Row("latency added at 100 rps, p50, ms", "rate100.p50_us", ms, 2, added=True),
        Row("latency added at 100 rps, p99, ms", "rate100.p99_us", ms, 2, added=True),
        Row("GET models/s", "models.per_s", digits=0),
        Row("CPU per GET models, us", "models.cpu_us"),
        Row("CPU per 2 MB image request, ms", "image.cpu_us", ms, 2),
        Row("RSS idle, MB", "rss_idle_mb"),
        Row(f"RSS with {most} streams open, MB", "rss_open_mb"),
        Row("RSS at its peak, MB", "rss_peak_mb"),
        Row("start to first healthy answer, s", "start_s", digits=2),
    ]


class Results:
    """Every figure of every round, and the counts of everything that went wrong."""

    def __init__(self, contenders: list[Contender], plan: list[Scenario]) -> None:
        self.names = [contender.name for contender in contenders]
        self.rows = rows([scenario.name for scenario in plan])
        self.samples: dict[str, dict[str, list[float]]] = {
            name: defaultdict(list) for name in self.names
        }
        self.counts: dict[str, dict[str, int]] = {
            name: dict.fromkeys(("requests", "completed", "events", *COUNTS), 0)
            for name in self.names
        }
        self.first_error: dict[str, str] = dict.fromkeys(self.names, "")
        self.stolen: list[float] = []
        self.foreign: list[float] = []
        self.late_us: list[float] = []
        self._most_open: dict[str, int] = {}

    def count(self, contender: str, run: Run) -> None:
        """Add the counts of a run, a warm-up too."""
        counts = self.counts[contender]
        for name in counts.keys() - {"requests"}:
            counts[name] += getattr(run, name, 0) or getattr(run.load, name, 0)
        counts["requests"] += run.load.issued
        self.first_error[contender] = self.first_error[contender] or run.load.first_error

    def note(self, contender: str, scenario: Scenario, run: Run) -> None:
        """Add the figures of a measured run."""
        load, name = run.load, scenario.name
        units = load.events if scenario.kind == "stream" else load.completed
        spread = load.ttft_us if scenario.kind == "stream" else load.latency_us
        known = {
            "per_s": units / load.seconds if load.seconds else None,
            "p50_us": spread.p50,
            "p99_us": spread.p99,
            "lag_p50_us": load.lag_us.p50,
            "lag_p99_us": load.lag_us.p99,
            "cpu_us": run.cpu_us / units if run.cpu_us is not None and units else None,
            "core": run.cpu_us / load.seconds / 1e6 if run.cpu_us and load.seconds else None,
        }
        for figure, value in known.items():
            if value is not None:
                self.samples[contender][f"{name}.{figure}"].append(value)
        self.stolen.append(run.stolen)
        self.foreign.append(run.foreign)
        if load.late_us.p99 is not None:
            self.late_us.append(load.late_us.p99)
        self._note_memory(contender, load.max_open, run.most_kib)

    def _note_memory(self, contender: str, max_open: int, most_kib: int | None) -> None:
        """Keep the memory of the first run that had the most streams open: later ones inherit."""
        if most_kib is not None and max_open > self._most_open.get(contender, 0):
            self._most_open[contender] = max_open
            self.samples[contender]["rss_open_mb"] = [most_kib / 1024]

    def finish(self, contender: Contender) -> None:
        """Add what is known of a contender at its end."""
        samples = self.samples[contender.name]
        if contender.start_s:
            samples["start_s"] = contender.start_s
        if contender.pid and contender.idle_kib is not None:
            samples["rss_idle_mb"] = [contender.idle_kib / 1024]
            samples["rss_peak_mb"] = [contender.memory_kib("VmHWM") / 1024]

    @property
    def clean(self) -> bool:
        """Return whether every request was answered, once and in order."""
        return not any(counts[name] for counts in self.counts.values() for name in COUNTS)

    def values(self, contender: str, row: Row) -> list[float]:
        """Return a row's figures, one a round, in the row's unit."""
        found = self.samples[contender].get(row.figure, [])
        if row.added and contender != "direct":
            direct = self.samples.get("direct", {}).get(row.figure, [])
            found = [mine - theirs for mine, theirs in zip(found, direct, strict=False)]
        return [value / row.scale for value in found]

    def ratios(self, contender: str, row: Row) -> list[float]:
        """Return a row's ratio to nginx in each round."""
        nginx = self.samples.get("nginx", {}).get(row.figure, [])
        if row.added or contender in ("direct", "nginx"):
            return []
        mine = self.samples[contender].get(row.figure, [])
        return [a / b for a, b in zip(mine, nginx, strict=False) if b]

    def table(self) -> str:
        """Lay out everything for people."""
        compared = [name for name in self.names if name not in ("direct", "nginx")]
        head = ["", *self.names, *(f"{name} / nginx" for name in compared)]
        lines = [head]
        for row in self.rows:
            cells = [_cell(self.values(name, row), row.digits) for name in self.names]
            lines.append(
                [row.label, *cells, *(_cell(self.ratios(name, row), 2) for name in compared)]
            )
        counted = [
            [name.replace("_", " "), *(str(self.counts[who][name]) for who in self.names)]
            for name in ("requests", "completed", "events", *COUNTS)
        ]
        counted.insert(0, ["", *self.names])
        return "\n".join([*_columns(lines), "", *_columns(counted), "", *self._remarks()])

    def _remarks(self) -> list[str]:
        found = [
            f"{name}: first error: {error}" for name, error in self.first_error.items() if error
        ]
        noise = {"the hypervisor": self._usual(self.stolen), "others": self._usual(self.foreign)}
        found += [f"{who} took {share:.1%} of the machine" for who, share in noise.items()]
        if max(noise.values()) > NOISY:
            found.append("a noisy sitting: believe only ratios, and those with caution")
        if self.late_us:
            found.append(f"load started late by {median(self.late_us):.0f} us (median of p99)")
        return found

    @staticmethod
    def _usual(values: list[float]) -> float:
        return median(values) if values else 0.0

    def as_json(self) -> dict[str, object]:
        """Return the same for programs: medians, ranges and every round's value."""
        return {
            "version": 1,
            "clean": self.clean,
            "figures": {
                name: {row.figure: _summary(self.values(name, row), row) for row in self.rows}
                for name in self.names
            },
            "ratios_to_nginx": {
                name: {
                    row.figure: _summary(found, row)
                    for row in self.rows
                    if (found := self.ratios(name, row))
                }
                for name in self.names
                if name not in ("direct", "nginx")
            },
            "counts": self.counts,
            "first_error": self.first_error,
            "noise": {"stolen": self._usual(self.stolen), "foreign": self._usual(self.foreign)},
        }


def _summary(values: list[float], row: Row) -> dict[str, object] | None:
    if not values:
        return None
    return {
        "label": row.label,
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "rounds": values,
    }


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _columns(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
