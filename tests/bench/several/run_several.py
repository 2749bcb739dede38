"""Measure several serving processes: `python tests/bench/several/run_several.py`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script finds modules beside itself; ours are those of the packages above it.
    tests = Path(__file__).resolve().parents[2]
    sys.path[0:1] = [str(tests), str(tests.parent)]
    runpy.run_module("bench.several.several", run_name="__main__")
