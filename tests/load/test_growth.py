"""The bench of many keys and rows works, on few of them. No times here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GROWTH = str(Path(__file__).parents[1] / "bench" / "growth.py")


def test_it_fills_starts_and_measures(tmp_path: Path) -> None:
    sizes = ("--keys", "300", "--rows", "900", "--active", "50", "--requests", "5")
    done = subprocess.run(
        [sys.executable, GROWTH, *sizes, "--starts", "1", "--directory", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("start: ", "a request costs ", "/usage?days=90&by=key", "streamed", "memory: "):
        assert words in done.stdout
    assert "WRONG" not in done.stdout
    assert not (tmp_path / "data").exists()
