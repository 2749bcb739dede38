"""The states of one request, from its head to the end of its answer.

    HEAD ---> BODY ---> METHOD ---> ANSWERED
      |         |
      +---------+-----> REFUSED --> ANSWERED         LEFT: from any state but ANSWERED

A request refused on its head is answered before its body has arrived. The rest of the body is read
and dropped, up to a cap: closing with unread data resets the connection, and most clients then
discard the answer unread (RFC 9112, section 9.6).

`RequestLifecycle` takes the place of Tornado's own `_HandlerDelegate` and `RequestHandler._execute`
(6.6). Those start one task per request before its head is checked, resume it for the body, and call
the method even after `prepare` has refused. Here a task exists only while a coroutine method runs.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable
from typing import Any, Protocol

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application, RequestHandler

from server.http.client_exchange import ClientExchange
from workers.errors import GatewayError
from workers.units import MIB

MAX_DROPPED_BYTES = 64 * MIB
"""How much of a refused body is read and dropped: twice the default of `server.max_body_bytes`."""


class RequestState(enum.Enum):
    """How far a request has come."""

    HEAD = 1
    """The head is being checked."""
    BODY = 2
    """The body is arriving."""
    METHOD = 3
    """The body is complete and the handler's method runs."""
    REFUSED = 4
    """The request is refused; what still arrives of its body is dropped."""
    ANSWERED = 5
    """The answer is complete."""
    LEFT = 6
    """The client closed the connection before the answer was complete."""


class RequestSteps(Protocol):
    """What a handler does in each state.

    A Protocol, because handlers live in a room above this one; tests drive a lifecycle with a
    handler that is not Tornado's.
    """

    def check_head(self) -> Awaitable[None] | None:
        """Raise an error to refuse the request before its body is read.

        An awaitable is returned where something must be read from the store first.
        """

    def keep_body(self, piece: bytes) -> None:
        """Keep a piece of the body. Raise GatewayError to refuse the request."""

    def call_method(self) -> Awaitable[None] | None:
        """Call the method that answers the request."""

    def failed(self, error: BaseException) -> GatewayError:
        """Log an exception if it is a bug, and return the error to answer with."""

    def write_failure(self, error: GatewayError) -> None:
        """Write a whole error answer, without ending it."""

    def on_connection_close(self) -> None:
        """Stop what runs for the client, which has left."""

    def on_end(self) -> None:
        """Release what the request holds and log it. Called once."""


class RequestLifecycle(HTTPMessageDelegate):
    """Call the steps of one handler in order, and end its answer exactly once.

    `has_body`: the head announces a body. `awaits_continue`: the client sends its body only after
    100 Continue (RFC 9110, section 10.1.1). `status` is the status of the head that was written,
    0 before that; whoever writes the head sets it.
    """

    def __init__(
        self,
        handler: RequestSteps,
        connection: ClientExchange,
        *,
        has_body: bool,
        awaits_continue: bool,
    ) -> None:
        # The handler refers to its lifecycle too. This side of the cycle is cut at the end, so that
        # reference counting frees the request and its body without the garbage collector.
        self._handler: RequestSteps | None = handler
        self._connection = connection
        self._has_body = has_body
        self.awaits_continue = awaits_continue
        self.state = RequestState.HEAD
        self.status = 0
        self._refusal: GatewayError | None = None
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """True if nothing more can be written: the answer is complete or the client has left."""
        return self.state is RequestState.ANSWERED or self.state is RequestState.LEFT

    @property
    def refused_unsent(self) -> bool:
        """True if the request is refused and its client still waits for 100 Continue."""
        return self.awaits_continue and self._refusal is not None

    # Events of the connection

    def headers_received(
        self, _start_line: RequestStartLine | ResponseStartLine, _headers: HTTPHeaders
    ) -> None:
        """Check the head and refuse the request, or wait for its body."""
        handler = self._handler
        assert handler is not None
        try:
            waits = handler.check_head()
        except Exception as error:  # noqa: BLE001  # `failed` logs it, here and below
            self._refuse(handler, handler.failed(error))
            return
        if waits is None:
            self.state = RequestState.BODY
        else:
            self._connection.hold()
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._finish_check(handler, waits))

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body, or drop it if the request is refused."""
        handler = self._handler
        if self.state is RequestState.REFUSED:
            self._dropped += len(chunk)
            if self._dropped > MAX_DROPPED_BYTES:
                self.end_answer()
        elif handler is not None:
            try:
                handler.keep_body(chunk)
            except GatewayError as error:
                self._refuse(handler, error)

    def finish(self) -> None:
        """Call the method, now that the body is complete, or end the answer of a refusal."""
        handler = self._handler
        if handler is None:
            return
        if self._refusal is not None:
            if not self.status:
                handler.write_failure(self._refusal)
            self.end_answer()
            return
        self.state = RequestState.METHOD
        try:
            running = handler.call_method()
        except Exception as error:  # noqa: BLE001
            self._fail(handler, error)
        else:
            if running is not None:
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(self._await(handler, running))

    def on_connection_close(self) -> None:
        """Note that the client has left, and let the handler stop its work."""
        handler, self._handler = self._handler, None
        if handler is not None:
            self.state = RequestState.LEFT
            handler.on_end()
            handler.on_connection_close()

    # Calls of the handler

    def end_answer(self) -> None:
        """End the answer; later calls have no effect."""
        handler, self._handler = self._handler, None
        if handler is not None:
            self.state = RequestState.ANSWERED
            self._connection.finish()
            handler.on_end()

    def _refuse(self, handler: RequestSteps, error: GatewayError) -> None:
        """Answer now if a body is still to come, else once the request is complete."""
        self.state = RequestState.REFUSED
        self._refusal = error
        if self._has_body:
            handler.write_failure(error)
            if self.awaits_continue:
                self.end_answer()

    async def _finish_check(self, handler: RequestSteps, waits: Awaitable[None]) -> None:
        """Wait for the rest of the check, then for the body."""
        try:
            await waits
        except Exception as error:  # noqa: BLE001
            failure = handler.failed(error)
            if not self.ended:
                self._refuse(handler, failure)
        else:
            if not self.ended:
                self.state = RequestState.BODY
        self._connection.release()

    async def _await(self, handler: RequestSteps, running: Awaitable[None]) -> None:
        try:
            await running
        except asyncio.CancelledError as error:
            self._fail(handler, error)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the gateway ends; otherwise a future that the method awaited was cancelled
        except Exception as error:  # noqa: BLE001
            self._fail(handler, error)

    def _fail(self, handler: RequestSteps, error: BaseException) -> None:
        """Answer with an error; a head that was written can only be followed by the end."""
        failure = handler.failed(error)
        if self.ended:
            return
        if not self.status:
            handler.write_failure(failure)
        self.end_answer()


class GatewayApplication(Application):
    """Tornado's routes, each request driven by a `RequestLifecycle`."""

    def get_handler_delegate(  # type: ignore[override]  # annotated with a private class (6.6)
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,  # noqa: ARG002  # no route has named groups
    ) -> HTTPMessageDelegate:
        """Make the handler of a request and return its lifecycle."""
        handler: Any = target_class(self, request, **(target_kwargs or {}))
        handler.encoded_path_args = path_args or ()
        lifecycle: RequestLifecycle = handler.lifecycle
        return lifecycle
