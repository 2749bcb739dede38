"""What is measured, and how one contender is put through it once.

| scenario   | what happens                                                             |
|------------|--------------------------------------------------------------------------|
| json       | 64 connections ask again and again, 1 KB each way                        |
| rate100    | 100 requests a second, evenly but for a random place in each 10 ms       |
| pacedN     | N streams open at a time, an event every so many ms each                 |
| burst      | 8 streams as fast as the sockets take, one upstream write an event       |
| models     | 64 connections list the models                                           |
| image      | 4 connections send a 2 MB image each, again and again                    |

Paced streams start over a ramp of 2 s, one at a random place in each of N equal gaps, and last at
least as long: all N are open together, yet no thousand first tokens are awaited at one moment. A
stream takes an idle connection if there is one and else opens one; TTFT counts from the planned
start, so connecting is part of it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from bench.contenders import Contender, Tools, ask
from bench.processes import BenchError, Clocks, child

SETTLE_S = 0.3
"""Closing connections and the group commit of usage (250 ms) still count for what caused them."""

QUICK_SETTLE_S = 0.05

POLL_S = 0.05
RAMP_S = 2.0
ENOUGH_STREAMS = 300


class Spread(msgspec.Struct, frozen=True):
    """Percentiles of `n` samples, in microseconds; None when there were none."""

    n: int = 0
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


class Load(msgspec.Struct, frozen=True):
    """The line that load.c prints."""

    issued: int
    completed: int
    errors: int
    unfinished: int
    out_of_order: int
    doubled: int
    missing: int
    events: int
    max_open: int
    seconds: float
    first_error: str
    latency_us: Spread
    ttft_us: Spread
    lag_us: Spread
    late_us: Spread


@dataclass(frozen=True)
class Scenario:
    """Options of load.c: those measured, and a shorter version to warm up with."""

    name: str
    kind: str
    options: Mapping[str, float]
    warm_up: Mapping[str, float]
    settle_s: float


@dataclass(frozen=True)
class Run:
    """One scenario, once, through one contender. CPU in microseconds, memory in KiB."""

    load: Load
    cpu_us: float | None
    most_kib: int | None
    stolen: float
    """Share of the machine's time that its hypervisor gave to others."""
    foreign: float
    """Share of the machine's time that processes of others used."""
    extra_calls: int
    """Upstream calls beyond one for each completion asked for."""
    hangups: int
    """Upstream answers that the contender broke off."""


def closed(name: str, kind: str, seconds: float, quick: bool, **options: float) -> Scenario:
    """Ask again as soon as there is an answer."""
    measured = options | {"seconds": seconds / 10 if quick else seconds}
    warm_up = options | {"seconds": 0.1 if quick else 0.5}
    return Scenario(name, kind, measured, warm_up, QUICK_SETTLE_S if quick else SETTLE_S)


def paced(streams: int, interval_ms: float, quick: bool) -> Scenario:
    """Open `streams` streams over the ramp, each sending an event every `interval_ms`."""
    few = streams < ENOUGH_STREAMS
    ramp_s = RAMP_S / 4 if quick else RAMP_S
    length_s = ramp_s * 1.2 if quick or few else ramp_s * 3
    count = streams if quick else max(streams, ENOUGH_STREAMS)
    options = {
        "rate": streams / ramp_s,
        "count": count,
        "conns": count,
        "events": max(2, round(length_s * 1000 / interval_ms)),
        "interval-us": round(interval_ms * 1000),
    }
    short = options | {"rate": streams / ramp_s * 2, "count": streams // (10 if quick else 1)}
    settle_s = QUICK_SETTLE_S if quick else SETTLE_S
    return Scenario(f"paced{streams}", "stream", options, short | {"events": 4}, settle_s)


def scenarios(paces: list[tuple[int, float]], quick: bool) -> list[Scenario]:
    """List all scenarios; the image comes last because memory remembers it."""
    count, settle_s = (50, QUICK_SETTLE_S) if quick else (800, SETTLE_S)
    steady = {"rate": 100, "conns": 64}
    return [
        closed("json", "json", 3, quick, conns=64),
        Scenario("rate100", "json", steady | {"count": count}, steady | {"count": 20}, settle_s),
        *(paced(streams, interval_ms, quick) for streams, interval_ms in paces),
        closed("burst", "stream", 2, quick, conns=8, **{"events": 1000, "interval-us": 0}),
        closed("models", "get", 2, quick, conns=64),
        closed("image", "image", 2, quick, conns=4, size=2_000_000),
    ]


def measure(
    scenario: Scenario, contender: Contender, upstream: Contender, tools: Tools
) -> list[Run]:
    """Warm up and measure; gives the warm-up first: its figures are worthless, its errors not."""
    return [
        _run(scenario, options, contender, upstream, tools)
        for options in (scenario.warm_up, scenario.options)
    ]


def _run(
    scenario: Scenario,
    options: Mapping[str, float],
    contender: Contender,
    upstream: Contender,
    tools: Tools,
) -> Run:
    pids = {*contender.pids, *upstream.pids}
    before, clocks = _counts(upstream), Clocks.read([*pids])
    cpu_before = contender.cpu_ns()
    load, most_kib = _drive(scenario.kind, options, contender, tools)
    time.sleep(scenario.settle_s)
    cpu_us = (contender.cpu_ns() - cpu_before) / 1000
    after, (stolen, foreign) = _counts(upstream), Clocks.read([*pids]).noise_since(clocks)
    asked = 0 if scenario.kind == "get" else load.issued
    measured = contender.pid is not None and contender is not upstream
    return Run(
        load,
        cpu_us if measured else None,
        most_kib if measured else None,
        stolen,
        foreign,
        extra_calls=after["posts"] - before["posts"] - asked,
        hangups=after["hangups"] - before["hangups"],
    )


def _drive(
    kind: str, options: Mapping[str, float], contender: Contender, tools: Tools
) -> tuple[Load, int]:
    """Run the load generator once; gives its figures and the contender's highest memory seen."""
    path = "/models" if kind == "get" else "/chat/completions"
    command = [
        *(str(tools.load), "--kind", kind, "--host", contender.host, "--port", str(contender.port)),
        *("--path", contender.prefix + path, "--key", contender.key, "--model", contender.model),
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]
    most_kib = contender.memory_kib()
    log = tools.directory / "load.log"
    with (
        log.open("wb") as errors,
        child(
            command, tools.load_cpu, cwd=tools.directory, log=errors, stdout=subprocess.PIPE
        ) as process,
    ):
        while process.poll() is None:  # it prints one line at its end, and ends in bounded time
            time.sleep(POLL_S)
            most_kib = max(most_kib, contender.memory_kib())
        printed = process.stdout.read() if process.stdout else b""
    if process.returncode:
        raise BenchError(f"the load generator failed: {log.read_text(errors='replace')}")
    return msgspec.json.decode(printed, type=Load), most_kib


def _counts(upstream: Contender) -> dict[str, int]:
    try:
        _, body = ask(upstream.port, "/stats")
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"the upstream is gone: {error}") from error
    counts: dict[str, int] = json.loads(body)
    return counts
