"""A short run of `tests/bench/chaos.py`, which breaks nodes and stores under load."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.chaos import report, run

SEED = 9
SECONDS = 10.0


@pytest.mark.time_limit(240)
async def test_nothing_is_lost_whatever_breaks(tmp_path: Path) -> None:
    figures, faults = await run(tmp_path, SECONDS, SEED)
    print(report(figures, faults))
    assert not faults
    assert figures.admitted["free"] and figures.admitted["limited"] and figures.admitted["budgeted"]
