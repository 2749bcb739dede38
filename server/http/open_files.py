"""The operating system's limit of open files, which bounds the number of connections."""

from __future__ import annotations

import contextlib
import logging
import resource

log = logging.getLogger("roxy")

MOST_FILES = 1 << 16
"""Hard limits can be a billion; some systems reserve memory for each file that is allowed."""
SPARE_FILES = 64
"""Open files that are no connections: the database, the export, the log, the event loop's own."""


def raise_limit() -> None:
    """Raise the soft limit of this process towards the hard one, where that is permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_FILES)), hard))


def connections_within_limit(wanted: int) -> int:
    """Return how many client connections fit into the limit of open files, at most `wanted`.

    Each may need a second one to an upstream; without a file for that it could not be answered.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitting = (files - SPARE_FILES) // 2
    if files == resource.RLIM_INFINITY or fitting >= wanted:
        return wanted
    log.info("at most %d client connections: the system allows %d open files", fitting, files)
    return max(fitting, 1)
