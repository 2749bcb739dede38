"""Write the lines of a child's log through its keeper, so that lines of several never mix."""

from __future__ import annotations

import asyncio
import sys
import threading

from server.nodes.link import Link
from server.processes.child_calls import LINES, Lines


class ChildOutput:
    """An output for whole lines: that of the keeper, or standard error when it has ended."""

    def __init__(self, link: Link, *, is_log: bool) -> None:
        self._link = link
        self._is_log = is_log
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def write(self, text: str, dropped: int = 0) -> None:
        """Write lines soon; `dropped` more were dropped by the caller."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.write, text, dropped)
        elif not self._link.is_lost:
            if text or dropped:
                self._link.report(LINES, Lines(text, dropped, self._is_log))
        elif self._is_log:
            sys.stderr.write(text)

    def drain(self, _timeout_s: float) -> None:
        """Do nothing: what is unsent leaves with the link."""
