"""Take root's powers away, so that file permissions count, and give a directory to try them in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def private_place() -> Iterator[Path]:
    """Run one test as an ordinary user, with an empty directory that only it can read."""
    root = os.geteuid() == 0
    place = Path(tempfile.mkdtemp(prefix="roxy-test-"))
    if root:
        os.chown(place, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield place
    finally:
        if root:
            os.seteuid(0)
        for path in (place, *place.rglob("*")):
            path.chmod(0o700)
        shutil.rmtree(place)
