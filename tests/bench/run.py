"""Run the benchmark: `python tests/bench/run.py`, or with `--help` to see what can be chosen."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script finds modules beside itself; ours are those of the package one folder up.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    runpy.run_module("bench.main", run_name="__main__")
