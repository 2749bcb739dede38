"""Run a serving process; only the keeper starts it."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from server.http.listening import ListenFailure
from server.processes.child import serve_for_keeper
from workers.errors import GatewayError


def main() -> int:
    """Serve over the link whose descriptor is the only argument; return the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_for_keeper(int(sys.argv[1])))
    except (GatewayError, ListenFailure) as error:
        sys.stderr.write(f"roxy: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
