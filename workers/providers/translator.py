"""What the engine asks of a provider's wire format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from workers.errors import UpstreamError
from workers.request.chat_request import Usage
from workers.units import MIB

DEFAULT_MAX_EVENT_BYTES = 8 * MIB


class UpstreamRequest(NamedTuple):
    """A request as an upstream wants it: `path` below the deployment's base URL, its headers."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Translator(Protocol):
    """One attempt to have one request answered by one deployment; sans I/O, never shared.

    `committed`: something that may not be taken back has been given out by `feed`.
    `done`: the answer is complete, what follows is ignored.
    `failure`: the answer has failed, but `feed` had frames to give out first; the next call raises
    it, and a caller that looks here need not wait for one.
    `usage` is as told upstream; `output_bytes` counts generated text as UTF-8, for an estimate.
    """

    committed: bool
    done: bool
    failure: UpstreamError | None
    usage: Usage | None
    finish_reason: str | None
    output_bytes: int

    def request(self) -> UpstreamRequest:
        """Write the request."""

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise UpstreamError unless an answer of the right kind follows."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a streamed answer; give whole OpenAI events for the client, or nothing yet.

        Raises UpstreamError for errors told in the stream, garbage and events that are too long.
        """

    def finish(self) -> bytes:
        """Take note that the body has ended; give the last events.

        Raises UpstreamDisconnected when the answer was cut. Not to be called once `done`.
        """

    def whole(self, body: bytes) -> bytes:
        """Check and translate an answer that is not streamed. Raises UpstreamError."""

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Map an answer with a status other than 200 to one of our errors."""
