"""Look up the addresses of hosts: shared per host, remembered, each in a thread of its own.

uvloop's own look-ups run in libuv's pool of four threads. A name whose servers do not answer holds
a thread for half a minute (resolv.conf(5): 5 s, twice, per server), so four such names would stop
every other look-up. Here a look-up in progress is shared by all who need it, and `MAX_THREADS`
different names are looked up at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

FOUND_S = 60.0
"""How long addresses are used before the name is looked up again."""
FAILED_S = 3.0
"""How long a failed look-up is not repeated."""
MAX_KNOWN = 1024
"""How many results are remembered; then the oldest is dropped."""
MAX_THREADS = 64

LookUp: TypeAlias = Callable[[str], Sequence[tuple[int, object]]]
"""Return the family and the address of each result. May block. Raises OSError, UnicodeError."""


class LookUpFailed(OSError):
    """The name has no address, or its servers did not answer."""


class Result(NamedTuple):
    """What a look-up has found: addresses, or why there are none, until `expires_at`."""

    addresses: tuple[str, ...]
    failure: str
    expires_at: float


def system_look_up(host: str) -> list[tuple[int, object]]:
    """Look up a host as the system is configured to: hosts file, DNS."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [(family, sockaddr[0]) for family, *_, sockaddr in found]


def in_turn(found: Sequence[tuple[int, object]]) -> list[str]:
    """Return each address once, alternating between families, otherwise in the order found.

    So that a host without a working IPv6 route costs one attempt (RFC 8305, section 4).
    """
    families: dict[int, dict[str, None]] = {}
    for family, address in found:
        families.setdefault(family, {})[str(address)] = None
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, which needs no look-up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError):
            socket.inet_pton(family, host)
            return True
    return False


class Resolver:
    """The look-ups of one transport. `close` forgets those in progress."""

    def __init__(
        self, look_up: LookUp = system_look_up, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._known: dict[str, Result] = {}
        self._pending: dict[str, asyncio.Future[Result]] = {}
        self._waiting: deque[str] = deque()
        self._threads = 0

    async def find(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a host, in the order in which to try them. Raises OSError.

        A caller that is cancelled does not stop the look-up: its result serves the next one.
        """
        if is_address(host):
            return (host,)
        result = self._known.get(host)
        if result is None or result.expires_at <= self._clock():
            result = await asyncio.shield(self._ask(host))
        if result.failure:
            raise LookUpFailed(result.failure)
        return result.addresses

    def forget(self, host: str) -> None:
        """Look the host up again next time: none of its addresses could be reached."""
        self._known.pop(host, None)

    def close(self) -> None:
        """Cancel the look-ups. Their threads end by themselves and do not delay the exit."""
        self._waiting.clear()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            future.cancel()

    def _ask(self, host: str) -> asyncio.Future[Result]:
        pending = self._pending.get(host)
        if pending is None:
            pending = self._pending[host] = asyncio.get_running_loop().create_future()
            self._waiting.append(host)
            self._start_next()
        return pending

    def _start_next(self) -> None:
        while self._waiting and self._threads < MAX_THREADS:
            host = self._waiting.popleft()
            self._threads += 1
            # A daemon: the interpreter waits at its exit for threads of an executor.
            threading.Thread(
                target=self._run,
                args=(asyncio.get_running_loop(), host),
                name=f"look up {host}",
                daemon=True,
            ).start()

    def _run(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        """Look up in a thread; everything else of this class runs in the loop."""
        addresses: list[str] = []
        failure = ""
        try:
            addresses = in_turn(self._look_up(host))
            failure = "" if addresses else "the name has no address"
        except (OSError, UnicodeError) as error:  # no such name; a label of more than 63 bytes
            failure = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: the waiters need an end
            failure = repr(error)
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._note, host, tuple(addresses), failure)

    def _note(self, host: str, addresses: tuple[str, ...], failure: str) -> None:
        self._threads -= 1
        pending = self._pending.pop(host, None)
        if pending is not None:
            lasts_s = FAILED_S if failure else FOUND_S
            result = Result(addresses, failure, self._clock() + lasts_s)
            self._known.pop(host, None)
            self._known[host] = result
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            if not pending.cancelled():
                pending.set_result(result)
        self._start_next()
