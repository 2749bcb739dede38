"""Measure the gateway beside nginx as a bare proxy, in one sitting, on one core.

    python tests/bench/run.py                 three rounds, about six minutes
    python tests/bench/run.py --quick         one short round: does everything work?

Whoever is measured runs on one CPU, the fake upstream and the load generator on another. Contenders
take turns scenario by scenario, after a warm-up each. Absolute figures depend on the machine and
its neighbours: believe ratios. Exits with 1 when an answer was wrong, late, doubled or missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.contenders import Contender, Tools, build, nginx, peer, roxy, upstream
from bench.processes import BenchError, pick_cpus, raise_file_limit
from bench.report import Results
from bench.scenarios import Scenario, measure, scenarios

KNOWN = ("direct", "nginx", "roxy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; gives the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with tempfile.TemporaryDirectory(prefix="roxy-bench-") as directory:
            try:
                results = _bench(options, Path(directory))
            finally:
                if options.keep:
                    shutil.copytree(directory, options.keep, dirs_exist_ok=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    print(results.table())
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    return 0 if results.clean else 1


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round; its times mean nothing")
    add("--rounds", type=int, choices=range(1, 21), metavar="N", help="rounds (default 3)")
    add("--only", type=_names, default=KNOWN, metavar="A,B", help="some of direct,nginx,roxy")
    add("--scenarios", type=lambda text: text.split(","), metavar="A,B", help="only these, as json")
    add(
        "--paced",
        type=_paces,
        default=[(100, 20.0), (1000, 100.0)],
        metavar="NxMS,...",
        help="paced streams and the ms between their events (default 100x20,1000x100)",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures there too")
    add("--keep", type=Path, metavar="DIR", help="copy logs, configuration and data there")
    add("--upstream-port", type=int, default=0, metavar="PORT", help="for the peers to find it")
    add(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="NAME=URL,KEY,MODEL[,PID]",
        help="a running gateway on 127.0.0.1 whose upstream is the fake one (http://127.0.0.1:PORT/v1);"
        " pin it yourself (taskset -c); with its process id its CPU and memory are measured",
    )
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(KNOWN):
        raise argparse.ArgumentTypeError(f"choose from {','.join(KNOWN)}")
    return names


def _paces(text: str) -> list[tuple[int, float]]:
    pairs = [pair.split("x") for pair in text.split(",")]
    paces = [(int(streams), float(ms)) for streams, ms in pairs]
    if not all(10 <= streams <= 4000 and 1 <= ms <= 1000 for streams, ms in paces):
        raise argparse.ArgumentTypeError("10 to 4000 streams, 1 to 1000 ms")
    return paces


def _peer(text: str) -> str:
    """Check the form now; the peer is looked at when everything else is up."""
    if "=http://127." not in text or text.count(",") not in (2, 3):
        raise argparse.ArgumentTypeError("expected NAME=http://127.x.x.x:PORT/...,KEY,MODEL[,PID]")
    return text


def _bench(options: argparse.Namespace, directory: Path) -> Results:
    """Start everyone, run the rounds, and end everyone."""
    raise_file_limit()
    gateway_cpu, load_cpu = pick_cpus()
    tools = build(directory, gateway_cpu, load_cpu)
    if gateway_cpu == load_cpu:
        print("bench: one CPU for everything: the figures mean little", file=sys.stderr)
    os.sched_setaffinity(0, {load_cpu})
    rounds = options.rounds or (1 if options.quick else 3)
    plan = scenarios(options.paced, options.quick)
    if options.scenarios:
        plan = [scenario for scenario in plan if scenario.name in options.scenarios]
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(upstream(tools, options.upstream_port))
        contenders = [direct] if "direct" in options.only else []
        if "nginx" in options.only:
            contenders.append(stack.enter_context(nginx(tools, direct.port)))
        if "roxy" in options.only:
            contenders.append(stack.enter_context(roxy(tools, direct.port, starts=rounds)))
        contenders += [peer(text) for text in options.peer]
        return _rounds(contenders, plan, rounds, direct, tools)


def _rounds(
    contenders: list[Contender],
    plan: list[Scenario],
    rounds: int,
    direct: Contender,
    tools: Tools,
) -> Results:
    """Run the contenders in turns, a different one first each time."""
    results = Results(contenders, plan)
    turn = 0
    for number in range(rounds):
        for scenario in plan:
            turn += 1
            print(f"bench: round {number + 1}/{rounds}: {scenario.name}", file=sys.stderr)
            for place in range(len(contenders)):
                contender = contenders[(turn + place) % len(contenders)]
                warm_up, run = measure(scenario, contender, direct, tools)
                results.count(contender.name, warm_up)
                results.count(contender.name, run)
                results.note(contender.name, scenario, run)
    for contender in contenders:
        results.finish(contender)
    return results


if __name__ == "__main__":
    sys.exit(main())
