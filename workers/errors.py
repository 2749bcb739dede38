"""The errors a caller can meet, as one tree.

    GatewayError               500 server_error             a bug: logged, never shown
    ├─ InvalidRequest          400 invalid_request_error    names the field in `param`
    ├─ InvalidKey              401 invalid_api_key          missing, unknown, revoked: alike
    ├─ Forbidden               403 permission_denied        the key may not do this
    ├─ NotFound                404 not_found                no such route, key or job
    │  └─ ModelNotFound        404 model_not_found
    ├─ MethodNotAllowed        405 method_not_allowed
    ├─ RequestTimeout          408 request_timeout          head or body came too slowly
    ├─ Conflict                409 conflict
    ├─ AnswerGone              410 answer_gone              events that are no longer kept
    ├─ PayloadTooLarge         413 request_too_large
    ├─ HeadTooLarge            431 headers_too_large
    ├─ Stopped                 499 stopped                  on purpose, by whom it belongs to
    ├─ RateLimited             429 rate_limit_exceeded      always with Retry-After
    ├─ BudgetExceeded          429 insufficient_quota       never to be retried
    ├─ Overloaded              503 server_is_overloaded     always with Retry-After
    │  ├─ Draining             503 server_is_draining
    │  └─ StoreUnavailable     503 store_unavailable
    ├─ NoDeployment            503 no_upstream_configured   says which variables would help
    └─ UpstreamError           502 upstream_error
       ├─ UpstreamUnavailable  502 upstream_unavailable     refused, reset, 5xx, our credentials
       ├─ UpstreamDisconnected 502 upstream_disconnected    the answer was cut
       ├─ UpstreamRejected     4xx (the upstream's code)    its own words about the request
       ├─ UpstreamRateLimited  429 rate_limit_exceeded
       └─ UpstreamTimeout      504 upstream_timeout         one code per clock

Status, `type` and `code` follow OpenAI's error guide and the `Error` schema of its OpenAPI file:
all four keys always present, `code` a string or null. Raise the class; one place renders them all.
"""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

LONG_WAIT_S = 60.0
"""Waits longer than this carry `x-should-retry: false`: official SDKs would retry far too early."""


class ErrorDetails(msgspec.Struct, frozen=True):
    """What went wrong. `param` is the path of the field, `code` stable, each null where unknown."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct, frozen=True):
    """Any answer other than success, and the event that ends a stream which failed."""

    error: ErrorDetails


class GatewayError(Exception):
    """An answer other than success. `message` is for the caller: no secrets, hosts or prompts.

    `retry_after_s` is the honest wait in seconds, `should_retry` what the SDKs are told explicitly
    (None: they decide). `retryable` says whether routing may try another deployment before the
    first frame was sent.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retryable: bool = False
    summary: ClassVar[str] = (
        "The gateway failed to answer. Try again; the request id finds it in the log."
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        self.message = message or self.summary
        super().__init__(self.message)
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry

    def body(self) -> Error:
        """Return the error in OpenAI's shape."""
        return Error(ErrorDetails(self.message, self.type, self.param, self.code))

    @property
    def own_code(self) -> str:
        """Give the gateway's own word for it, never an upstream's: for what is kept."""
        return self.code or self.type

    @property
    def reason(self) -> str:
        """Give the message with what is behind it, hosts included: for the owner's eyes only."""
        return f"{self.message} {self.__cause__}" if self.__cause__ else self.message

    def encoded(self) -> bytes:
        """Give `body()` as JSON bytes."""
        return msgspec.json.encode(self.body())

    def headers(self) -> dict[str, str]:
        """Give the headers that tell SDKs when to retry (openai-python `_base_client`)."""
        headers: dict[str, str] = {}
        should_retry = self.should_retry
        if self.retry_after_s is not None:
            wait_s = max(self.retry_after_s, 0.001)
            headers["Retry-After"] = str(math.ceil(wait_s))
            headers["Retry-After-Ms"] = str(math.ceil(wait_s * 1000))
            if wait_s > LONG_WAIT_S:
                should_retry = False
        if should_retry is not None:
            headers["X-Should-Retry"] = "true" if should_retry else "false"
        return headers


class InvalidRequest(GatewayError):
    """The request is wrong; `param` is the path of the field, as in `messages[0].role`."""

    status, type, code = 400, "invalid_request_error", None
    summary = "The request is not valid."


class InvalidKey(GatewayError):
    """No, an unknown, an expired or a revoked key: all look the same from outside."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"
    summary = (
        "Missing or incorrect API key. Send a valid key as 'Authorization: Bearer KEY' or"
        " 'x-api-key: KEY'."
    )


class Forbidden(GatewayError):
    """The key is good but may not do this."""

    status, type, code = 403, "permission_error", "permission_denied"
    summary = "This key may not do that."


class NotFound(GatewayError):
    """No such route, key or job."""

    status, type, code = 404, "invalid_request_error", "not_found"
    summary = "There is nothing at this path."


class ModelNotFound(NotFound):
    """The catalog has no such model."""

    code = "model_not_found"
    summary = "No such model. GET /api/v1/models lists what there is."


class MethodNotAllowed(GatewayError):
    """The route exists, the method does not."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"
    summary = "This path does not take that method."

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"This path takes {', '.join(allow)} only.")
        self.allow = allow

    def headers(self) -> dict[str, str]:
        """Give the retry headers and `Allow`."""
        return super().headers() | {"Allow": ", ".join(self.allow)}


class RequestTimeout(GatewayError):
    """The request's head or body came too slowly."""

    status, type, code = 408, "invalid_request_error", "request_timeout"
    summary = "The request arrived too slowly and was given up."


class Conflict(GatewayError):
    """The request contradicts the present state."""

    status, type, code = 409, "invalid_request_error", "conflict"
    summary = "This contradicts the present state."


class AnswerGone(GatewayError):
    """Events that a reader asks for were dropped: the answer was too long to be kept whole."""

    status, type, code = 410, "invalid_request_error", "answer_gone"
    summary = "These events of the answer are no longer kept."


class PayloadTooLarge(GatewayError):
    """The body is over the cap, or a file sent by the web app over 10 MB."""

    status, type, code = 413, "invalid_request_error", "request_too_large"
    summary = "The request body is too large."


class HeadTooLarge(GatewayError):
    """The request line and headers are over the cap."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"
    summary = "The request line and headers are too large."


class Stopped(GatewayError):
    """Somebody who may stop the request did, or nobody was left to read its answer."""

    status, type, code = 499, "request_stopped", "stopped"
    summary = "The request was stopped."


class RateLimited(GatewayError):
    """A limit of the key or guest is used up for now, or held by what it has running.

    `limit` is `requests`, `tokens`, `concurrency` or `budget`; `attempts` for wrong keys.
    """

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    summary = "Too many requests."

    def __init__(
        self, message: str, *, limit: str, retry_after_s: float, should_retry: bool | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)
        if limit in ("requests", "tokens"):
            self.type = limit
        self.limit = limit


class BudgetExceeded(GatewayError):
    """The key's budget cannot cover the request, or never could."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"
    summary = "The budget of this key is used up, or smaller than what the request may cost."

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s, should_retry=False)


class Overloaded(GatewayError):
    """No room now; Retry-After is the honest estimate."""

    status, type, code = 503, "service_unavailable_error", "server_is_overloaded"
    summary = "The gateway is overloaded. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Draining(Overloaded):
    """The gateway is stopping and takes no new work."""

    code = "server_is_draining"
    summary = "The gateway is restarting. Try again shortly."


class StoreUnavailable(Overloaded):
    """The database cannot be written now."""

    code = "store_unavailable"
    summary = "The gateway cannot write its database now. Nothing was changed; try again shortly."


class NoDeployment(GatewayError):
    """The model is in the catalog but nothing can serve it."""

    status, type, code = 503, "service_unavailable_error", "no_upstream_configured"
    summary = "No upstream is configured for this model."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, should_retry=False)


class UpstreamError(GatewayError):
    """The upstream failed; its hosts, credentials and error pages never reach the client."""

    status, type = 502, "upstream_error"
    code: str | None = "upstream_error"
    retryable = True
    summary = "The upstream answered with something that is not a completion."


class UpstreamUnavailable(UpstreamError):
    """Refused, reset before an answer, 5xx, or our credentials were not accepted."""

    code = "upstream_unavailable"
    summary = "The upstream of this model cannot be reached or is failing."


class UpstreamDisconnected(UpstreamError):
    """The upstream closed before its answer was complete."""

    code = "upstream_disconnected"
    summary = "The upstream cut the answer before it was complete."


class UpstreamRejected(UpstreamError):
    """The upstream's own 4xx about the request, in its words; others would say the same."""

    type = "invalid_request_error"
    code: str | None = None
    retryable = False
    summary = "The upstream rejected the request."

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code

    @property
    def own_code(self) -> str:
        """Give the same word whatever the upstream called it."""
        return "upstream_rejected"


class UpstreamRateLimited(UpstreamError):
    """The upstream's own rate limit; its Retry-After is handed on, capped."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    summary = "The upstream of this model is rate limited at the moment."

    @property
    def own_code(self) -> str:
        """Tell it from a limit of the gateway's, which has the same code."""
        return "upstream_rate_limited"


class UpstreamTimeout(UpstreamError):
    """One of the clocks ran out: connect, first content, gap, total or the upstream's own.

    `clock` names it. How long the upstream's own is only the upstream knows.
    """

    status, type, code = 504, "timeout", "upstream_timeout"
    summary = "The upstream did not answer in time."

    CODES: ClassVar[dict[str, str]] = {
        "connect": "upstream_connect_timeout",
        "first_content": "upstream_timeout",
        "gap": "upstream_gap_timeout",
        "total": "upstream_total_timeout",
        "upstream": "upstream_timeout",
    }

    def __init__(
        self, clock: str, after_s: float = 0.0, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(
            {
                "connect": f"The upstream could not be reached within {after_s:g} s.",
                "first_content": f"The upstream sent no content within {after_s:g} s.",
                "gap": f"The upstream went silent for {after_s:g} s in the middle of its answer.",
                "total": f"The answer took longer than {after_s:g} s.",
                "upstream": "The upstream of this model timed out.",
            }[clock],
            code=self.CODES[clock],
            retry_after_s=retry_after_s,
        )
        self.clock = clock
