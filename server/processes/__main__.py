"""Run a serving process; only the keeper starts it.

    python -m server.processes DESCRIPTOR [spare]

A spare loads its modules, a second of work, with a low priority: requests come first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

LOW_PRIORITY = 5
"""On a busy core a quarter of the time: with 19, a spare was missing for half a minute."""


def main() -> int:
    """Serve over the link with the descriptor; return the exit code."""
    descriptor, *kind = sys.argv[1:]
    if kind and sys.platform == "linux":
        thread = threading.Thread(target=_load_quietly)
        thread.start()
        thread.join()
    import uvloop

    from server.http.listening import ListenFailure
    from server.processes.child import serve_for_keeper
    from workers.errors import GatewayError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_for_keeper(int(descriptor)))
    except (GatewayError, ListenFailure) as error:
        sys.stderr.write(f"roxy: {error}\n")
        return 1
    return 0


def _load_quietly() -> None:
    """Load all modules in a thread of low priority.

    On Linux threads have priorities of their own (setpriority(2), "C library/kernel differences"),
    and no one but root can raise that of a process again.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
    import server.processes.child  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
