"""What every handler shares: authentication on the head, bounded bodies, one shape of error.

The order is fixed: principal, then size, then body. A request refused on its head is answered
before its body was read; the rest is swallowed up to a cap so that the client gets to read why
(closing at once would reset the connection under its hands).
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import Any, ClassVar

import msgspec
from tornado.web import HTTPError, RequestHandler, stream_request_body

from server.http.answer_head import CLOSE, header_lines, status_line
from server.http.request_id import client_request_id, new_request_id
from server.identity.authentication import GUEST_LANE, Principal, presented_key
from server.identity.client_addresses import client_address, guest_scope
from server.keys.secret import without_secrets
from server.log import AccessLine
from server.services import Services
from workers.errors import (
    Forbidden,
    GatewayError,
    InvalidKey,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from workers.units import KIB, MIB

log = logging.getLogger("roxy.http")

SWALLOW_BYTES = 64 * MIB
"""How much of a refused body is read and dropped before the connection is closed."""
SMALL_BODY_BYTES = 256 * KIB
LOGGED_CHARS = 200
JSON = "application/json"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")


def plain(text: str) -> str:
    """Make what a stranger sent fit for a line of the log: short, printable, without keys."""
    short = without_secrets(text)[:LOGGED_CHARS]
    return short if short.isascii() and short.isprintable() else ascii(short)[1:-1]


class AnyMethod(tuple[str, ...]):
    """Let Tornado pass every method on: `_check_head` refuses, and so lets the body be read."""

    __slots__ = ()

    def __contains__(self, method: object) -> bool:
        return True


@stream_request_body
class BaseHandler(RequestHandler):
    """One request. Subclasses set `access` and define the methods they take."""

    access: ClassVar[str] = "key"
    """Who may call: "anyone", "key" (any principal) or "owner"."""
    body_limit: ClassVar[int | None] = SMALL_BODY_BYTES
    """The largest body in bytes; None: the configured one for chat requests."""
    SUPPORTED_METHODS = AnyMethod()

    def initialize(self, services: Services) -> None:
        """Take what the composition root has built."""
        self.services = services
        self._auto_finish = False  # answers are written to the connection, not through finish()
        self.ui = {}  # type: ignore[assignment]  # templates are not used here; it holds a reference cycle
        self.started = time.monotonic()
        self.method = self.request.method or "GET"
        offered = client_request_id(self.request.headers.get("X-Request-Id"))
        in_use = offered is not None and (
            offered in services.engine.jobs or offered in services.answers
        )
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
            self.services.bodies.check(self._body_size, self._max_body)
            self.services.bodies.take(len(chunk), self._lane)
            self._room += len(chunk)
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

    def clear(self) -> None:
        """Keep no response state: Tornado would build headers that are never sent."""
        self._status_code = 200

    def answer_head(self, status: int, headers: dict[str, str]) -> bytes:
        """Give the head of an answer up to its last header, without the blank line."""
        self._status = status
        self.add_headers(headers)
        headers["X-Request-Id"] = self.request_id
        head = status_line(status) + header_lines(headers | self.limit_headers())
        if self.services.engine.draining or self._client_closes():
            head += CLOSE
        return head

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add what every answer of this kind of handler carries; pages override this."""

    def limit_headers(self) -> dict[str, str]:
        """Give the rate-limit headers of whoever asks; the owner has none."""
        if self.principal is None or self.principal.is_owner:
            return {}
        return self.services.admission.standing(self.principal).headers()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer a failure that Tornado caught, in the API's shape."""
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if isinstance(error, GatewayError):
            error.__traceback__ = None  # a reply's future holds the error, these frames the reply
        else:
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

    @classmethod
    @cache
    def allowed(cls) -> tuple[str, ...]:
        """List the methods this path takes."""
        unset = RequestHandler
        return tuple(n for n in METHODS if getattr(cls, n.lower()) is not getattr(unset, n.lower()))

    def compute_etag(self) -> None:
        """Hash no answers."""

    def _check_head(self) -> None:
        if self.method not in self.allowed():
            raise MethodNotAllowed(self.allowed())
        if self.access != "anyone":
            self.principal = self._authenticate()
            if self.access == "owner" and not self.principal.is_owner:
                raise Forbidden("This needs the owner key.")
        headers = self.request.headers
        if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
            raise InvalidRequest(
                "Bodies are taken as they are: send it without Content-Encoding.",
                param="Content-Encoding",
            )
        length = headers.get("Content-Length")
        if length:
            self.services.bodies.check(int(length), self._max_body)

    def _authenticate(self) -> Principal:
        headers = self.request.headers
        try:
            return self.services.authentication.authenticate(
                headers,
                self._guest_scope,
                time.time(),
                safe=self.method in SAFE_METHODS,
                secure=self.is_secure,
            )
        except InvalidKey:
            if presented_key(headers):
                self.services.wrong_keys.count(self._guest_scope())
            raise

    def is_secure(self) -> bool:
        """Say whether clients come over TLS, ours or that of a proxy in front."""
        base_url = self.services.config.server.base_url
        return self.request.protocol == "https" or base_url.startswith("https://")

    def _guest_scope(self) -> str:
        """Name whom a guest's use is counted on: the address."""
        request = self.request
        proxies = self.services.proxies
        return guest_scope(client_address(request.remote_ip or "", request.headers, proxies))

    @property
    def _lane(self) -> str:
        """Name on whom the body's room is counted: all who show no key are one."""
        return self.principal.lane if self.principal is not None else GUEST_LANE

    def _give_back_room(self) -> None:
        if self._room:
            self.services.bodies.give_back(self._room, self._lane)
            self._room = 0

    def _refuse(self, error: GatewayError) -> None:
        """Answer now when a body is still coming, else when Tornado calls the method."""
        self._refusal = error
        self._give_back_room()
        headers = self.request.headers
        if "Content-Length" in headers or "Transfer-Encoding" in headers:
            self._error_code = error.code or error.type
            body, content_type = self.render_error(error)
            self._write_whole(error.status, body, {"Content-Type": content_type} | error.headers())
            if self._body_is_held_back():
                self._end_answer()
        self.request.method = (
            "REFUSED"  # Tornado dispatches on it: to `refused`, once the body is read
        )

    def _write_whole(self, status: int, body: bytes, extra: dict[str, str] | None) -> None:
        assert self.request.connection is not None
        headers = {"Content-Type": JSON, "Content-Length": str(len(body))}
        if extra:
            headers |= extra
        head = self.answer_head(status, headers) + b"\r\n"
        self.request.connection.write(head if self.method == "HEAD" else head + body)

    def _end_answer(self) -> None:
        assert self.request.connection is not None
        self.answered = True
        self._finished = True  # Tornado's own finish() is bypassed: it would build the answer again
        self.request.connection.finish()
        self._note_end()

    def _note_end(self) -> None:
        """Give the body's room back and log the request, once."""
        self._give_back_room()
        if self.started < 0:
            return
        retry_count = self.request.headers.get("X-Stainless-Retry-Count")
        self.services.access_log.add(
            AccessLine(
                at=time.time(),
                request_id=self.request_id,
                method=plain(self.method),
                path=plain(self.request.path),
                status=499 if self.left and not self.answered else self._status,
                duration_ms=(time.monotonic() - self.started) * 1000,
                who=self.principal.log_name if self.principal is not None else "-",
                model=self.model_id,
                retry_count=plain(retry_count) if retry_count else None,
                error=self._error_code,
            )
        )
        self.started = -1.0

    def _client_closes(self) -> bool:
        if self._refusal is not None and self._body_is_held_back():
            return True
        return self.request.headers.get("Connection", "").lower() == "close"

    def _body_is_held_back(self) -> bool:
        """Say whether the client waits to be asked for its body."""
        return self.request.headers.get("Expect", "").lower() == "100-continue"

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
        self._refuse(
            NotFound(
                f"There is no {self.method} {self.request.path[:200]!r} here. Completions are at"
                " POST /api/v1/chat/completions; GET /api/v1/openapi.json lists every route."
            )
        )
