"""What every handler shares: authentication on the head, bounded bodies, one shape of error.

The order is fixed: principal, then size, then body. A request refused on its head is answered
before its body was read; the rest is swallowed up to a cap so that the client gets to read why
(closing at once would reset the connection under its hands).
"""

from __future__ import annotations

import logging
import time
from http.client import responses
from typing import Any, ClassVar

import msgspec
from tornado import httputil
from tornado.web import HTTPError, RequestHandler, stream_request_body

from server.addresses import client_address, guest_scope
from server.auth import Principal
from server.log import AccessLine
from server.request_id import client_request_id, new_request_id
from server.services import Services
from workers.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)

log = logging.getLogger("roxy.http")

SWALLOW_BYTES = 64 * 1024 * 1024
"""How much of a refused body is read and dropped before the connection is closed."""
SMALL_BODY_BYTES = 256 * 1024
JSON = "application/json"
METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")


@stream_request_body
class BaseHandler(RequestHandler):
    """One request. Subclasses set `access` and define the methods they take."""

    access: ClassVar[str] = "key"
    """Who may call: "anyone", "key" (any principal) or "owner"."""
    body_limit: ClassVar[int | None] = SMALL_BODY_BYTES
    """The largest body in bytes; None: the configured one for chat requests."""
    error_type: ClassVar[str] = JSON

    def initialize(self, services: Services) -> None:
        """Take what the composition root has built."""
        self.services = services
        self._auto_finish = False  # answers are written to the connection, not through finish()
        self.ui = {}  # type: ignore[assignment]  # templates are not used here; it holds a reference cycle
        self.started = time.monotonic()
        self.method = self.request.method or "GET"
        offered = client_request_id(self.request.headers.get("X-Request-Id"))
        in_use = offered is not None and offered in services.engine.jobs
        self.request_id = new_request_id() if offered is None or in_use else offered
        self.principal: Principal | None = None
        self.model_id: str | None = None
        self.left = False
        self.answered = False
        self._refusal: GatewayError | None = None
        self._status = 0
        self._error_code: str | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._room = 0
        self._max_body = self.body_limit or services.bodies.max_body_bytes

    def prepare(self) -> None:
        """Authenticate and check the announced size, before the body."""
        try:
            self._check_head()
        except GatewayError as error:
            self._refuse(error)

    def data_received(self, chunk: bytes) -> None:
        """Gather the body, or drop it when the request is refused already."""
        self._body_size += len(chunk)
        if self._refusal is not None:
            if self._body_size > SWALLOW_BYTES and not self.answered:
                self._end_answer()
            return
        try:
            if self._body_size > self._room:
                self.services.bodies.check(self._body_size, self._max_body)
                self._take_room(len(chunk))
            self._body.append(chunk)
        except GatewayError as error:
            self._body.clear()
            self._refuse(error)

    def take_body(self) -> bytes:
        """Give the whole body, once: it is not kept."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return body

    def refused(self, *_args: str) -> None:
        """End a request that was refused on its head: the body has been read by now."""
        assert self._refusal is not None
        if self.request.connection is None or self.answered:
            return
        if self._status:
            self._end_answer()
        else:
            self.reply_error(self._refusal)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer whole; JSON unless `headers` say otherwise."""
        if self.answered:
            return
        self._write_whole(status, body, headers)
        self._end_answer()

    def reply_json(
        self, value: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Answer with a value as JSON."""
        self.reply(status, msgspec.json.encode(value), headers)

    def reply_error(self, error: GatewayError) -> None:
        """Answer with an error in OpenAI's shape."""
        self._error_code = error.code or error.type
        body, content_type = self.render_error(error)
        self.reply(error.status, body, {"Content-Type": content_type} | error.headers())

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Give an error's body and content type; pages override this."""
        return error.encoded(), JSON

    def answer_headers(self) -> httputil.HTTPHeaders:
        """Give the headers that every answer carries."""
        headers = httputil.HTTPHeaders()
        headers["X-Request-Id"] = self.request_id
        headers["X-Content-Type-Options"] = "nosniff"
        if self.services.engine.draining:
            headers["Connection"] = "close"
        for name, value in self.limit_headers().items():
            headers[name] = value
        return headers

    def limit_headers(self) -> dict[str, str]:
        """Give the rate-limit headers of whoever asks; the owner has none."""
        if self.principal is None or self.principal.is_owner:
            return {}
        return self.services.admission.standing(self.principal).headers()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer a failure that Tornado caught, in the API's shape."""
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if not isinstance(error, GatewayError):
            error = self._error_for(status_code)
        if self._status:  # the head has left: nothing but the end can be said
            self._end_answer()
        elif not self.left:
            self.reply_error(error)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log what is a bug; refusals and upstream failures are in the access log."""
        if type(value) is GatewayError or not isinstance(value, (GatewayError, HTTPError)):
            log.error("request %s failed", self.request_id, exc_info=(typ, value, tb))  # type: ignore[arg-type]

    def on_connection_close(self) -> None:
        """Note that the client has left."""
        self.left = True
        super().on_connection_close()
        self._note_end()

    def allowed(self) -> tuple[str, ...]:
        """List the methods this path takes."""
        cls = type(self)
        return tuple(
            name
            for name in METHODS
            if getattr(cls, name.lower()) is not getattr(RequestHandler, name.lower())
        )

    def compute_etag(self) -> None:
        """Hash no answers."""

    def _check_head(self) -> None:
        if self.method not in self.allowed():
            raise MethodNotAllowed(self.allowed())
        if self.access != "anyone":
            self.principal = self._authenticate()
            if self.access == "owner" and not self.principal.is_owner:
                raise Forbidden("This needs the owner key.")
        length = self.request.headers.get("Content-Length")
        if length:
            self.services.bodies.check(int(length), self._max_body)
            self._take_room(int(length))

    def _authenticate(self) -> Principal:
        headers = self.request.headers
        address = client_address(self.request.remote_ip or "", headers, self.services.proxies)
        return self.services.authentication.authenticate(headers, guest_scope(address), time.time())

    def _take_room(self, size: int) -> None:
        self.services.bodies.take(size)
        self._room += size

    def _refuse(self, error: GatewayError) -> None:
        """Answer now when a body is still coming, else when Tornado calls the method."""
        self._refusal = error
        headers = self.request.headers
        if "Content-Length" in headers or "Transfer-Encoding" in headers:
            self._error_code = error.code or error.type
            body, content_type = self.render_error(error)
            self._write_whole(error.status, body, {"Content-Type": content_type} | error.headers())
            if headers.get("Expect", "").lower() == "100-continue":
                self._end_answer()  # the client holds its body back until it is asked for
        self.request.method = (
            "REFUSED"  # Tornado dispatches on it: to `refused`, once the body is read
        )

    def _write_whole(self, status: int, body: bytes, extra: dict[str, str] | None) -> None:
        assert self.request.connection is not None
        self._status = status
        headers = self.answer_headers()
        headers["Content-Type"] = JSON
        headers["Content-Length"] = str(len(body))
        for name, value in (extra or {}).items():
            headers[name] = value
        start_line = httputil.ResponseStartLine(
            "HTTP/1.1", status, responses.get(status, "Unknown")
        )
        self.request.connection.write_headers(
            start_line, headers, b"" if self.method == "HEAD" else body
        )

    def _end_answer(self) -> None:
        assert self.request.connection is not None
        self.answered = True
        self._finished = True  # Tornado's own finish() is bypassed: it would build the answer again
        self.request.connection.finish()
        self._note_end()

    def _note_end(self) -> None:
        """Give the body's room back and log the request, once."""
        if self._room:
            self.services.bodies.give_back(self._room)
            self._room = 0
        if self.started < 0:
            return
        self.services.access_log.add(
            AccessLine(
                at=time.time(),
                request_id=self.request_id,
                method=self.method,
                path=self.request.path,
                status=499 if self.left and not self.answered else self._status,
                duration_ms=(time.monotonic() - self.started) * 1000,
                who=self.principal.log_name if self.principal is not None else "-",
                model=self.model_id,
                retry_count=self.request.headers.get("X-Stainless-Retry-Count"),
                error=self._error_code,
            )
        )
        self.started = -1.0

    def _error_for(self, status: int) -> GatewayError:
        if status == 404:
            return NotFound()
        if status == 405:
            return MethodNotAllowed(self.allowed())
        if 400 <= status < 500:
            return InvalidRequest()
        return GatewayError()


class NotFoundHandler(BaseHandler):
    """Any path of the API that does not exist."""

    access = "anyone"

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        self._refuse(NotFound(f"There is no {self.method} {self.request.path[:200]!r} here."))
