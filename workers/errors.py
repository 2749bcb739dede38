"""The errors that a caller can receive, as one tree.

    GatewayError               500 server_error             a bug: logged, details not sent
    ├─ InvalidRequest          400 invalid_request_error    `param` names the field
    │  └─ DocumentUnreadable   400 document_unreadable      an attached file, no request
    ├─ InvalidKey              401 invalid_api_key          missing, unknown, ended
    │  └─ SessionEnded         401 session_ended            a page's visitor is another one now
    ├─ Forbidden               403 permission_denied        the key lacks the permission
    ├─ NotFound                404 not_found                no such route, key or job
    │  └─ ModelNotFound        404 model_not_found
    ├─ MethodNotAllowed        405 method_not_allowed       with Allow
    ├─ RequestTimeout          408 request_timeout          head or body arrived too slowly
    ├─ Conflict                409 conflict
    │  ├─ SettingsChanged      409 settings_changed         on another device
    │  └─ ConversationChanged  409 conversation_changed     on another device
    ├─ AnswerGone              410 answer_gone              events that are no longer kept
    ├─ ConversationErased      410 conversation_erased      it was deleted for good
    ├─ PayloadTooLarge         413 request_too_large
    ├─ HistoryFull             413 history_full             the chat history has no room left
    ├─ HeadTooLarge            431 headers_too_large
    ├─ Stopped                 499 stopped                  stopped through the API or a page
    ├─ RateLimited             429 rate_limit_exceeded      Retry-After unless it can never fit
    ├─ BudgetExceeded          429 insufficient_quota       do not retry
    ├─ Overloaded              503 server_is_overloaded     always with Retry-After
    │  ├─ Draining             503 server_is_draining
    │  ├─ NodeUnavailable      503 node_unavailable         the node with the request is away
    │  ├─ StoreUnavailable     503 store_unavailable
    │  └─ LimitsUnavailable    503 limits_unavailable       the shared counters are away
    ├─ NoDeployment            503 no_upstream_configured   lists the missing variables
    └─ UpstreamError           502 upstream_error
       ├─ UpstreamUnavailable  502 upstream_unavailable     refused, reset, 5xx, bad secret
       │  └─ UpstreamOverloaded 503 upstream_overloaded     its 503 and 529, with their wait
       ├─ UpstreamDisconnected 502 upstream_disconnected    the answer is incomplete
       ├─ UpstreamRejected     4xx (the upstream's code)    the upstream's own message
       ├─ UpstreamRateLimited  429 rate_limit_exceeded
       └─ UpstreamTimeout      504 upstream_timeout         one code per clock

Status, `type` and `code` follow OpenAI's error guide and the `Error` schema of its OpenAPI file:
all four keys are always present, `code` is a string or null. Raise the class; the base handler
renders all of them. `message` says what the caller can do next.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import msgspec

OwnFault: TypeAlias = Literal["", "credentials", "credit", "model", "base_url", "certificate"]
"""What of a deployment's own configuration an upstream refuses: its secret, its account's credit,
its model id or its address (`base_url`: nothing is found there); or its TLS certificate is not
accepted here; "": none of them."""

LONG_WAIT_S = 60.0
"""Longer waits carry `x-should-retry: false`.

openai-python 1.x ignores a Retry-After of more than 60 s and retries within 8 s instead
(`_calculate_retry_timeout` in `_base_client.py`); 3.57 accepts up to 120 s.
"""


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
    """An error answer. `message` goes to the caller: it holds no secrets, hosts or prompts.

    `retry_after_s` is the estimated wait in seconds. `should_retry` sets `x-should-retry` for SDKs
    (None: no header, the SDK decides); it is False for errors that are `permanent`, which the same
    request would meet again. `retryable` is true if routing may try another deployment before the
    first frame was sent.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retryable: bool = False
    permanent: ClassVar[bool] = False
    summary: ClassVar[str] = (
        "Internal error. Try again; if it persists, send the request id to the owner."
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
        self.should_retry = False if should_retry is None and self.permanent else should_retry

    def body(self) -> Error:
        """Return the error in OpenAI's shape."""
        return Error(ErrorDetails(self.message, self.type, self.param, self.code))

    @property
    def own_code(self) -> str:
        """Return the gateway's own code, never an upstream's, for the log and the usage rows."""
        return self.code or self.type

    @property
    def reason(self) -> str:
        """Return the first sentence of the message and the cause: for the log, not for clients.

        The cause may name hosts. The rest of the message is advice for the caller.
        """
        if self.__cause__ is None:
            return self.message
        return f"{self.message.partition('. ')[0].rstrip('.')}: {self.__cause__}"

    def encoded(self) -> bytes:
        """Return `body()` as JSON bytes."""
        return msgspec.json.encode(self.body())

    def headers(self) -> dict[str, str]:
        """Return the headers by which SDKs time their retries (openai-python `_base_client`)."""
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
    """The request is not valid; `param` is the path of the field, such as `messages[0].role`."""

    status, type = 400, "invalid_request_error"
    permanent = True
    summary = "The request is not valid. Correct it and send it again."


class DocumentUnreadable(InvalidRequest):
    """No text can be read from a document; the message says what to do."""

    code = "document_unreadable"
    summary = "The document cannot be read: it is protected, damaged or too complex."


class InvalidKey(GatewayError):
    """The key is missing or unknown, or it is disabled, expired or revoked.

    Who sends the secret of a key that has ended learns so; all wrong secrets look the same.
    """

    status, type, code = 401, "invalid_request_error", "invalid_api_key"
    permanent = True
    summary = (
        "Missing or incorrect API key. Send a valid key as 'Authorization: Bearer KEY' or"
        " 'x-api-key: KEY'."
    )


class SessionEnded(InvalidKey):
    """A page's call by another principal than the one that the page was made for."""

    code = "session_ended"
    summary = "You've been signed out. Sign in again to continue."


class Forbidden(GatewayError):
    """The key is valid but lacks the permission."""

    status, type, code = 403, "permission_error", "permission_denied"
    permanent = True
    summary = (
        "This key does not have permission for this request. Use another key or ask the owner."
    )


class NotFound(GatewayError):
    """No such route, key or job."""

    status, type, code = 404, "invalid_request_error", "not_found"
    permanent = True
    summary = "Not found. GET /api/v1/openapi.json lists every route."


class ModelNotFound(NotFound):
    """The catalog has no such model."""

    code = "model_not_found"
    summary = "No such model. GET /api/v1/models lists the available ones."


class MethodNotAllowed(GatewayError):
    """The route exists but does not support the method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"
    permanent = True
    summary = "This path does not support the method. The Allow header lists those it supports."

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"Method not allowed. Use {' or '.join(allow)}.")
        self.allow = allow

    def headers(self) -> dict[str, str]:
        """Return the retry headers and `Allow`."""
        return super().headers() | {"Allow": ", ".join(self.allow)}


class RequestTimeout(GatewayError):
    """The request's head or body arrived too slowly."""

    status, type, code = 408, "invalid_request_error", "request_timeout"
    summary = "The request took too long to arrive. Send it again."


class Conflict(GatewayError):
    """The request conflicts with the current state."""

    status, type, code = 409, "invalid_request_error", "conflict"
    summary = "The request conflicts with the current state. Fetch the state and try again."


class SettingsChanged(Conflict):
    """The settings have another version than the one that a change was made from."""

    code = "settings_changed"
    permanent = True
    summary = "The settings were changed on another device. Read them and try again."


class ConversationChanged(Conflict):
    """The conversation has another version than the one that was to be erased."""

    code = "conversation_changed"
    permanent = True
    summary = "The conversation was changed on another device. Read it and decide again."


class AnswerGone(GatewayError):
    """The requested events were dropped because the answer exceeded the size kept."""

    status, type, code = 410, "invalid_request_error", "answer_gone"
    permanent = True
    summary = "These events are no longer kept. Read from a later event or send the request again."


class ConversationErased(GatewayError):
    """The conversation was deleted for good, on this device or another one."""

    status, type, code = 410, "invalid_request_error", "conversation_erased"
    permanent = True
    summary = "This conversation was deleted. Save its text in a new one."


class HistoryFull(GatewayError):
    """The chat history of this person has no room left; nothing was written."""

    status, type, code = 413, "invalid_request_error", "history_full"
    permanent = True
    summary = "Your chat history is full. Delete conversations you no longer need, then try again."


class PayloadTooLarge(GatewayError):
    """The body exceeds the limit, or a file from the web app exceeds 10 MB."""

    status, type, code = 413, "invalid_request_error", "request_too_large"
    permanent = True
    summary = "The request body is too large. Shorten the conversation or send smaller files."


class HeadTooLarge(GatewayError):
    """The request line and headers exceed the limit."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"
    permanent = True
    summary = "The request line and headers are too large. Shorten the URL or send fewer headers."


class Stopped(GatewayError):
    """The request was stopped on purpose, or a kept answer lost its last reader."""

    status, type, code = 499, "request_stopped", "stopped"
    permanent = True
    summary = "The request was stopped."


class RateLimited(GatewayError):
    """A limit of the key or guest is used up for now, or reserved by its running requests.

    `limit` is `requests`, `tokens`, `concurrency`, `budget` or `wrong_keys`.
    `retry_after_s` is None for a request that can never fit.
    """

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    summary = "Too many requests. Wait for the time in Retry-After."

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        retry_after_s: float | None,
        should_retry: bool | None = None,
    ) -> None:
        if retry_after_s is None and should_retry is None:
            should_retry = False  # the request can never fit
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)
        if limit in ("requests", "tokens"):
            self.type = limit
        self.limit = limit


class BudgetExceeded(GatewayError):
    """The key's budget cannot cover the request; waiting a moment does not help."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"
    permanent = True
    summary = (
        "The budget of this key is used up or smaller than the request may cost. Do not retry."
    )

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Overloaded(GatewayError):
    """The gateway has no capacity now; Retry-After is an estimate from measured times."""

    status, type, code = 503, "service_unavailable_error", "server_is_overloaded"
    summary = "The gateway is overloaded. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Draining(Overloaded):
    """The gateway is stopping and accepts no new requests."""

    code = "server_is_draining"
    summary = "The gateway is stopping. Try again shortly."


class NodeUnavailable(Overloaded):
    """Another node or process of this gateway has the request, and cannot be reached."""

    code = "node_unavailable"
    summary = "The node of this gateway that has the request cannot be reached. Try again shortly."


class StoreUnavailable(Overloaded):
    """The database cannot be written at the moment; nothing was changed."""

    code = "store_unavailable"
    summary = "The gateway cannot write its database. Nothing was changed. Try again shortly."


class LimitsUnavailable(Overloaded):
    """The shared counters cannot be reached, so a limit cannot be checked; nothing was taken."""

    code = "limits_unavailable"
    summary = (
        "The gateway cannot check limits at the moment. Nothing was counted. Try again shortly."
    )


class NoDeployment(GatewayError):
    """The model is in the catalog but has no deployment with a secret."""

    status, type, code = 503, "service_unavailable_error", "no_upstream_configured"
    permanent = True
    summary = "No upstream is configured for this model. Choose another model or ask the owner."


class RefusedCap(NamedTuple):
    """How many tokens an upstream takes that refused a cap as too large; 0: it does not say.

    `lasting`: it takes no more for any request, and not because of the length of this prompt.
    """

    most: int
    lasting: bool


class UpstreamError(GatewayError):
    """The upstream failed. Its host, secret and error page are never sent to the client.

    `own_fault` names a fault of the deployment's configuration, which each of its requests would
    meet: such an error is final for clients, and routing may put the deployment aside.
    `refused_member` is the member of the request, added by the gateway, that the upstream does not
    know, `refused_cap` a cap of the answer that is too large. `upstream_status` is the status of
    its rejection; 0: there was none. `upstream_words` are its own words about a fault of its own
    or of the deployment, without secrets and without what the request holds: for the log and the
    owner, never for clients.
    `reached`: False if no connection was made, so that the request cannot be the cause.
    """

    status, type = 502, "upstream_error"
    code: str | None = "upstream_error"
    retryable = True
    own_fault: OwnFault = ""
    refused_member: str = ""
    refused_cap: RefusedCap | None = None
    upstream_status = 0
    upstream_words = ""
    reached = True
    summary = "The upstream sent an invalid answer. Try again or choose another model."

    @property
    def own_reason(self) -> str:
        """Return the deployment's own fault, else the error code."""
        return self.own_fault or self.own_code

    @property
    def details(self) -> str:
        """Return what the owner reads beside the reason: the upstream's words, or the cause."""
        return self.upstream_words or str(self.__cause__ or "")


class UpstreamUnavailable(UpstreamError):
    """The upstream refused or reset the connection, sent a 5xx, or rejected the secret."""

    code = "upstream_unavailable"
    summary = "The upstream of this model is unavailable. Try again later or choose another model."

    def __init__(
        self,
        message: str | None = None,
        *,
        own_fault: OwnFault = "",
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        if own_fault and should_retry is None:
            should_retry = False
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)
        self.own_fault = own_fault


class UpstreamOverloaded(UpstreamUnavailable):
    """The upstream has no capacity now (its status 503 or 529); its wait is passed on."""

    status, type, code = 503, "service_unavailable_error", "upstream_overloaded"
    summary = "The upstream of this model is overloaded. Try again later or choose another model."


class UpstreamDisconnected(UpstreamError):
    """The upstream closed the connection before its answer was complete."""

    code = "upstream_disconnected"
    summary = "The connection to the upstream was lost. The answer is incomplete; try again."


class UpstreamRejected(UpstreamError):
    """The upstream's own 4xx about the request; other upstreams would reject it too.

    With `retryable` another deployment may accept it: what is missing is a feature of this one.
    """

    type = "invalid_request_error"
    code: str | None = None
    retryable = False
    permanent = True
    summary = "The upstream rejected the request. Correct it or choose another model."

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code
        self.retryable = retryable

    @property
    def own_code(self) -> str:
        """Return one code for all rejections: the upstream's own codes vary."""
        return "upstream_rejected"


class UpstreamRateLimited(UpstreamError):
    """The upstream's own rate limit; its Retry-After is passed on, up to a maximum."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    summary = "The upstream of this model is rate limited. Try again later or choose another model."

    @property
    def own_code(self) -> str:
        """Return a code that differs from that of the gateway's own limits."""
        return "upstream_rate_limited"


class UpstreamTimeout(UpstreamError):
    """A time limit passed: connect, first content, gap, total, or one of the upstream's own.

    `clock` names it. `after_s` is its length, unknown (0) for the upstream's own.
    """

    status, type, code = 504, "timeout", "upstream_timeout"
    summary = "The upstream did not answer in time. Try again or choose another model."

    CODES: ClassVar[dict[str, str]] = {
        "connect": "upstream_connect_timeout",
        "first_content": "upstream_timeout",
        "gap": "upstream_gap_timeout",
        "total": "upstream_total_timeout",
        "upstream": "upstream_timeout",
    }
    CAUSES: ClassVar[dict[str | None, str]] = {
        "upstream_connect_timeout": "Connecting to the upstream took too long. Try again later.",
        "upstream_timeout": "The upstream sent no content in time, or reported its own timeout."
        " Try again or choose another model.",
        "upstream_gap_timeout": "The upstream sent nothing for too long in the middle of an answer."
        " The answer is incomplete; try again.",
        "upstream_total_timeout": "The whole answer took too long. Ask for a shorter one.",
    }
    """What each code means, for the documentation."""

    def __init__(
        self, clock: str, after_s: float = 0.0, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(
            {
                "connect": f"No connection to the upstream within {after_s:g} s. Try again later.",
                "first_content": f"The upstream sent no content within {after_s:g} s. Try again.",
                "gap": f"The upstream sent nothing for {after_s:g} s. The answer is incomplete.",
                "total": f"The answer took longer than {after_s:g} s. Ask for a shorter one.",
                "upstream": "The upstream of this model timed out. Try again.",
            }[clock],
            code=self.CODES[clock],
            retry_after_s=retry_after_s,
        )
        self.clock = clock
