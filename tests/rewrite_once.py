"""Rewrite the assertions of all tests once, before several processes would each do it.

pytest keeps what it has rewritten beside the modules. In a fresh clone that is not there yet, and
every process that tests are spread over takes 12 s of CPU for what one of them could have done.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest


def main(arguments: list[str]) -> None:
    """Collect the tests; whatever is wrong with them shows when they run."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main(["--collect-only", "-q", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
