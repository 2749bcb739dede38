"""What every provider's wire format must implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from workers.errors import UpstreamError
from workers.request.token_usage import Usage


class UpstreamRequest(NamedTuple):
    """A request for an upstream: `path` is below the deployment's base URL."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Translator(Protocol):
    """One attempt to have one request answered by one deployment; no I/O, never shared.

    `tests/providers/test_contract.py` holds every implementation to these rules.

    `committed`: `feed` has returned content, so no other deployment can be tried.
    `finished`: every choice requested has its finish reason; only usage and the end mark follow.
    `done`: the answer is complete; further bytes are ignored.
    `failure`: the answer has failed, but `feed` returned frames first. The next call raises it; the
    caller can raise it at once.
    `output_bytes` counts generated text as UTF-8, for an estimate.
    """

    committed: bool
    finished: bool
    done: bool
    failure: UpstreamError | None
    finish_reason: str | None
    output_bytes: int

    @property
    def usage(self) -> Usage | None:
        """The usage as reported upstream so far; of several reports the larger counts."""

    @property
    def stated_cost_microusd(self) -> int | None:
        """The cost that the upstream states, if its deployment says that this is what is paid."""

    def request(self) -> UpstreamRequest:
        """Return the request for the upstream."""

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise UpstreamError unless an answer of the right kind follows."""

    def feed(self, data: bytes) -> bytes:
        """Read bytes of a streamed answer; return whole OpenAI events for the client, or b"".

        Raises UpstreamError for errors in the stream, invalid events and events that are too long.
        """

    def finish(self) -> bytes:
        """Handle the end of the body; return the last events.

        Raises UpstreamDisconnected when the answer was cut. Must not be called once `done`.
        """

    def whole(self, body: bytes) -> bytes:
        """Check and translate a whole answer. Raises UpstreamError."""

    def rejection(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Return the error for an answer with a status other than 200."""
