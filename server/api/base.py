"""The base of all handlers: authentication on the head, bounded bodies, one shape of error.

The order is fixed: principal, then size, then body. `RequestLifecycle` calls the steps in that
order and ends the answer; this class only says what each step does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import cache
from typing import ClassVar

import msgspec
from tornado.web import HTTPError, RequestHandler

from server.accounting.body_room import BodyShare
from server.accounting.counters import Standing
from server.accounting.ledger import CLIENT_LEFT
from server.http.answer_head import CHUNKED, LAST_CHUNK, NO_STORE, answer_head, chunk
from server.http.client_exchange import ClientExchange
from server.http.request_id import client_request_id, new_request_id
from server.http.request_lifecycle import RequestLifecycle, RequestState
from server.identity.allowed_origins import is_preflight, origin_headers, preflight_headers
from server.identity.authentication import GUEST_LANE, EndedKey, Principal, presented_key
from server.identity.client_addresses import client_address, guest_scope
from server.keys.read_through import Unread, when_read
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
from workers.units import KIB

log = logging.getLogger("roxy.http")

CUT = b"cut\r\n"
"""No size of a chunk (RFC 9112, section 7.1): the client sees that the answer is not whole."""
SMALL_BODY_BYTES = 256 * KIB
LOGGED_CHARS = 200
JSON = "application/json"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")


def loggable(text: str) -> str:
    """Return text from a client as the log may hold it: short, printable, without secrets."""
    short = without_secrets(text)[:LOGGED_CHARS]
    return short if short.isascii() and short.isprintable() else ascii(short)[1:-1]


class BaseHandler(RequestHandler):
    """One request. Subclasses set `access` and define the methods they take."""

    access: ClassVar[str] = "key"
    """Who may call: "anyone", "key" (any principal) or "owner"."""
    body_limit: ClassVar[int | None] = SMALL_BODY_BYTES
    """The largest body in bytes; None: `server.max_body_bytes`."""
    cross_origin: ClassVar[bool] = True
    """Whether pages of `server.allowed_origins` may call it; pages and their forms: never."""
    encoded_path_args: Sequence[bytes] = ()
    """The variable parts of the path, as `GatewayApplication` sets them."""

    def initialize(self, services: Services) -> None:
        """Prepare a request; `services` is what the composition root has built."""
        request = self.request
        headers = request.headers
        self.exchange: ClientExchange = request.connection  # type: ignore[assignment]
        # The only internal of Tornado (6.6) that is changed: template modules in `ui` refer to the
        # handler, a cycle that would leave every request to the garbage collector. No handler
        # renders templates through Tornado.
        self.ui = {}  # type: ignore[assignment]
        self.services = services
        self.started = time.monotonic()
        self.method = request.method or "GET"
        offered = client_request_id(headers.get("X-Request-Id"))
        in_use = offered is not None and (
            offered in services.engine.jobs or offered in services.answers
        )
        self.has_client_id = offered is not None and not in_use
        self.request_id = (
            new_request_id(services.peers.tag) if offered is None or in_use else offered
        )
        self.principal: Principal | None = None
        self.after_take: Standing | None = None
        self.model_id: str | None = None
        self.lifecycle = RequestLifecycle(
            self,
            self.exchange,
            has_body="Content-Length" in headers or "Transfer-Encoding" in headers,
            awaits_continue=headers.get("Expect", "").lower() == "100-continue",
        )
        self.error_code: str | None = None
        self._body: list[bytes] = []
        self._share: BodyShare | None = None
        self._max_body = self.body_limit or services.bodies.max_body_bytes

    @property
    def left(self) -> bool:
        """True if the client has left before its answer was complete."""
        return self.lifecycle.state is RequestState.LEFT

    # The steps of a request

    def check_head(self) -> Awaitable[None] | None:
        """Check the head, at once or after what that needs is read from the store."""
        try:
            self.refuse_head()
        except Unread as unread:
            return self._check_after(unread)
        return None

    def refuse_head(self) -> None:
        """Check method, principal and announced size, in this order; may be called again.

        Raises GatewayError to refuse the request, and Unread.
        """
        self.path_args = [self.decode_argument(part) for part in self.encoded_path_args]
        if self.method == "OPTIONS" and self._is_preflight():
            return
        if self.method not in self.allowed():
            raise MethodNotAllowed(self.allowed())
        if self.access != "anyone":
            self.principal = self._authenticate()
            if self.access == "owner" and not self.principal.is_owner:
                raise Forbidden("This needs the owner key.")
        headers = self.request.headers
        if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
            raise InvalidRequest(
                "Compressed bodies are not supported: send the body without Content-Encoding.",
                param="Content-Encoding",
            )
        length = headers.get("Content-Length")
        if length:
            self.services.bodies.check(int(length), self._max_body)

    def keep_body(self, piece: bytes) -> None:
        """Keep a piece of the body, within its limit and the room for all bodies."""
        try:
            self.grow_body(len(piece))
        except GatewayError:
            self._body = []
            raise
        self._body.append(piece)

    def call_method(self) -> Awaitable[None] | None:
        """Call the handler's method with the variable parts of the path.

        HEAD is answered as GET; what writes the answer omits the body (RFC 9110, section 9.3.2).
        """
        if self.method == "OPTIONS" and self._is_preflight():
            self.reply(200, b"", preflight_headers(self.request.headers, self.allowed()))
            return None
        method = getattr(self, "get" if self.method == "HEAD" else self.method.lower())
        result: Awaitable[None] | None = method(*self.path_args)
        return result

    def failed(self, error: BaseException) -> GatewayError:
        """Log an exception if it is a bug, and return the error to answer with."""
        if isinstance(error, HTTPError):  # Tornado's, for arguments that cannot be decoded
            return self._error_for(error.status_code)
        if isinstance(error, GatewayError):
            if type(error) is GatewayError:
                self._log_bug(error)
            # A reply's future holds the error, and the frames of its traceback hold the reply.
            error.__traceback__ = None
            return error
        self._log_bug(error)
        return GatewayError()

    def write_failure(self, error: GatewayError) -> None:
        """Write an error in OpenAI's shape."""
        self.error_code = error.code or error.type
        body, content_type = self.render_error(error)
        self._write_whole(error.status, body, {"Content-Type": content_type} | error.headers())

    def on_end(self) -> None:
        """Release the body's room, unless the body was handed on, and log the request."""
        if self._share is not None:
            self._share.release()
        retry_count = self.request.headers.get("X-Stainless-Retry-Count")
        self.services.access_log.add(
            AccessLine(
                at=time.time(),
                request_id=self.request_id,
                method=loggable(self.method),
                path=loggable(self.logged_path()),
                status=CLIENT_LEFT if self.left else self.lifecycle.status,
                duration_ms=(time.monotonic() - self.started) * 1000,
                who=self.principal.log_name if self.principal is not None else "-",
                model=self.model_id,
                retry_count=loggable(retry_count) if retry_count else None,
                error=self.error_code,
            )
        )

    def logged_path(self) -> str:
        """Return the path for the access log; handlers whose paths hold a secret override this."""
        return self.request.path

    # What methods call

    def grow_body(self, size: int) -> None:
        """Take room for so many bytes more of the body.

        Raises PayloadTooLarge and Overloaded; the room is given back then.
        """
        bodies = self.services.bodies
        share = self._share
        if share is None:
            share = self._share = bodies.share(self._lane)
        try:
            bodies.check(share.size + size, self._max_body)
            share.grow(size)
        except GatewayError:
            share.release()
            raise

    def take_body(self) -> bytes:
        """Return the whole body and forget it; a second call returns nothing."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return body

    def base_url(self) -> str:
        """Return the URL of this gateway as clients reach it."""
        request = self.request
        return self.services.config.server.base_url or f"{request.protocol}://{request.host}"

    def take_room(self) -> BodyShare:
        """Return the body's room and forget it: the caller releases it together with the body."""
        share, self._share = self._share, None
        return share if share is not None else self.services.bodies.share(self._lane)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer; JSON unless `headers` name another type."""
        if not self.lifecycle.ended:
            self._write_whole(status, body, headers)
            self.lifecycle.end_answer()

    def reply_json(
        self, value: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a value as JSON."""
        self.reply(status, msgspec.json.encode(value), headers)

    async def reply_in_pieces(self, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        """Send a long answer with status 200, each piece when the client has taken the one before.

        An error before the first piece is raised before anything is sent; a later one cuts the
        answer.
        """
        first = await anext(pieces)
        if self.lifecycle.ended:
            return
        connection, chunked = self.request.connection, self.request.version == "HTTP/1.1"
        assert connection is not None
        framing = CHUNKED if chunked else b""
        head = self.begin_answer(200, NO_STORE | headers) + framing + b"\r\n"
        if self.method == "HEAD":
            connection.write(head)
            self.lifecycle.end_answer()
            return
        try:
            await connection.write(head + (chunk(first) if chunked else first))
            async for piece in pieces:
                if piece:
                    await connection.write(chunk(piece) if chunked else piece)
        except asyncio.CancelledError:
            if not self.left:  # a client that leaves cancels what waits for its socket
                raise
            return
        except Exception:
            connection.write(CUT if chunked else b"")
            raise
        connection.write(LAST_CHUNK if chunked else b"")
        self.lifecycle.end_answer()

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Return an error's body and content type; pages override this."""
        return error.encoded(), JSON

    def begin_answer(self, status: int, headers: dict[str, str]) -> bytes:
        """Record the answer's status; return its head up to the last header, to be written next."""
        self.add_headers(headers)
        if self._origins:
            headers |= origin_headers(self.request.headers, self._origins)
        headers["X-Request-Id"] = self.request_id
        close = (
            self.services.engine.leaving or self.exchange.ends_connection() or self._client_closes()
        )
        head = answer_head(status, headers | self.limit_headers(), close=close)
        self.lifecycle.status = status
        return head

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of all answers of this kind of handler; pages override this."""

    def limit_headers(self) -> dict[str, str]:
        """Return the rate-limit headers for the principal; the owner has none."""
        if self.principal is None or self.principal.is_owner:
            return {}
        standing = self.services.admission.known_standing(self.principal) or self.after_take
        return standing.headers() if standing is not None else {}

    def clear(self) -> None:
        """Skip Tornado's response headers, which are built for each request and not used here."""

    @classmethod
    @cache
    def allowed(cls) -> tuple[str, ...]:
        """Return the methods that this path takes; HEAD wherever GET is one."""
        defined = {
            n for n in METHODS if getattr(cls, n.lower()) is not getattr(RequestHandler, n.lower())
        }
        if "GET" in defined:
            defined.add("HEAD")
        return tuple(name for name in METHODS if name in defined)

    def is_secure(self) -> bool:
        """Return whether clients use TLS, to this server or to a proxy in front of it."""
        base_url = self.services.config.server.base_url
        return self.request.protocol == "https" or base_url.startswith("https://")

    @property
    def _origins(self) -> tuple[str, ...]:
        return self.services.config.server.allowed_origins if self.cross_origin else ()

    def _is_preflight(self) -> bool:
        return is_preflight(self.method, self.request.headers, self._origins)

    def _authenticate(self) -> Principal:
        headers = self.request.headers
        try:
            return self.services.authentication.authenticate(
                headers,
                self.client_scope,
                time.time(),
                safe=self.method in SAFE_METHODS,
                secure=self.is_secure,
            )
        except EndedKey:  # its holder had the right secret: this is no guess
            raise
        except InvalidKey:
            if presented_key(headers):
                self.services.wrong_keys.count(self.client_scope())
            raise
        except Unread:
            if presented_key(headers):  # looking up made-up keys must not load the store
                self.services.wrong_keys.check(self.client_scope())
            raise

    async def _check_after(self, unread: Unread) -> None:
        await unread.read()
        await when_read(self.refuse_head)

    def client_scope(self) -> str:
        """Return the scope on which a guest's use is counted: the client's address."""
        request = self.request
        proxies = self.services.proxies
        return guest_scope(client_address(request.remote_ip or "", request.headers, proxies))

    @property
    def _lane(self) -> str:
        """Return the lane on which the body's room is counted; callers without a key share one."""
        return self.principal.lane if self.principal is not None else GUEST_LANE

    def _write_whole(self, status: int, body: bytes, extra: dict[str, str] | None) -> None:
        assert self.request.connection is not None
        headers = {"Content-Type": JSON, "Content-Length": str(len(body))} | NO_STORE
        if extra:
            headers |= extra
        head = self.begin_answer(status, headers) + b"\r\n"
        self.request.connection.write(head if self.method == "HEAD" else head + body)

    def _client_closes(self) -> bool:
        """Return whether the connection ends with this answer."""
        if self.lifecycle.refused_unsent:  # the body may come or not: the framing is lost
            return True
        return self.request.headers.get("Connection", "").lower() == "close"

    def _error_for(self, status: int) -> GatewayError:
        """Return the gateway's error for a status that Tornado has chosen."""
        return InvalidRequest() if 400 <= status < 500 else GatewayError()

    def _log_bug(self, error: BaseException) -> None:
        log.error("request %s failed", self.request_id, exc_info=error)


class NotFoundHandler(BaseHandler):
    """Any path of the API that does not exist."""

    access = "anyone"

    def refuse_head(self) -> None:
        """Refuse every method."""
        raise NotFound(
            f"There is no {self.method} {self.request.path[:200]!r} here. Completions are at"
            " POST /api/v1/chat/completions; GET /api/v1/openapi.json lists every route."
        )
