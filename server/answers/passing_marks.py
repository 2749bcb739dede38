"""Mark requests that one process passes on to another, and check the marks.

A mark carries what only the first process can know: the client's address, the host that it asked
for and whether it used TLS. It is signed with a secret of the store and bound to the request and
its credentials, so that it proves nothing about another request. No clock is compared: those of two
nodes may differ by an hour. A mark that cannot be checked still ends the passing on: two gateways
that are configured as each other's nodes would pass a request on for ever.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, unquote

from msgspec import Struct

MARK_HEADER = "X-Roxy-Passed-On"
MAX_HOPS = 2
"""From the first process to a node, and there to the process that has the request."""
CREDENTIALS = ("Authorization", "X-Api-Key", "Cookie")
PURPOSE = b"requests passed on between processes"


class PassedOn(Struct, frozen=True):
    """What is known of a request that another process has passed on; `hops` so many times.

    `trusted`: the mark is this gateway's. Otherwise only `hops` counts.
    """

    hops: int
    client: str = ""
    host: str = ""
    secure: bool = False
    trusted: bool = True


class PassingMarks:
    """Sign and check marks; `shared_secret` is the same in all processes of the gateway."""

    def __init__(self, shared_secret: bytes) -> None:
        self._secret = hmac.new(shared_secret, PURPOSE, hashlib.sha256).digest()

    def sign(self, passed: PassedOn, method: str, target: str, headers: Mapping[str, str]) -> str:
        """Return the mark for a request with these headers."""
        fields = _written(passed)
        return f"{fields};{self._mac(fields, method, target, headers)}"

    def read(self, method: str, target: str, headers: Mapping[str, str]) -> PassedOn | None:
        """Return what the mark of a request says, or None for a request without one."""
        mark = headers.get(MARK_HEADER)
        if mark is None:
            return None
        fields, _, mac = mark.rpartition(";")
        expected = self._mac(fields, method, target, headers)
        if not hmac.compare_digest(mac.encode(), expected.encode()):
            return PassedOn(MAX_HOPS, trusted=False)
        hops, client, host, secure = fields.split(";")
        return PassedOn(int(hops), unquote(client), unquote(host), secure == "1")

    def _mac(self, fields: str, method: str, target: str, headers: Mapping[str, str]) -> str:
        parts = [fields, method, target, *(headers.get(name, "") for name in CREDENTIALS)]
        # Each part by its own digest, so that no part can continue in the next.
        digests = b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
        return hmac.new(self._secret, digests, hashlib.sha256).hexdigest()


def _written(passed: PassedOn) -> str:
    client, host = quote(passed.client, safe=":"), quote(passed.host, safe=":")
    return f"{passed.hops};{client};{host};{int(passed.secure)}"
