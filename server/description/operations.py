"""List the parameters, bodies, answers and errors of each route, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from server.api.keys import MAX_KEYS
from server.api.requests import MAX_ROWS
from server.api.usage import MAX_ROWS as MAX_GROUPS
from server.description.chat_types import ChatCompletion, ChatCompletionChunk, ChatRequest
from server.description.error_table import tree
from server.description.history_operations import HISTORY_OPERATIONS
from server.description.operation import Operation, Parameter
from server.keys.key_requests import KEY_CHANGES, NEW_INVITATION, NEW_KEY, ROTATION
from server.shapes.document_object import DocumentObject
from server.shapes.health_object import HealthObject, HealthReport
from server.shapes.invitation_object import (
    InvitationList,
    InvitationObject,
    InvitationWithLink,
)
from server.shapes.job_object import JobObject
from server.shapes.key_object import Caller, DeletedKey, KeyList, KeyObject, KeyWithSecret
from server.shapes.live_object import Live
from server.shapes.model_object import ModelList, ModelObject
from server.shapes.request_object import RequestObject, RequestPage
from server.shapes.usage_object import UsageObject
from workers.errors import (
    AnswerGone,
    BudgetExceeded,
    Conflict,
    DocumentUnreadable,
    Forbidden,
    ModelNotFound,
    NoDeployment,
    NotFound,
    Overloaded,
    RateLimited,
    Stopped,
    StoreUnavailable,
    UpstreamError,
)

Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Natural = Annotated[int, Meta(ge=0)]


UPDATES = Parameter(
    "X-Roxy-Queue-Updates",
    Literal["true"],
    "Send comments in the stream with the position of the request while it waits.",
    "header",
)
CHAT = Operation(
    {200: ChatCompletion},
    ChatRequest,
    (
        Parameter(
            "X-Request-Id",
            Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._:-]{7,63}$")],
            "Your own id for the request.",
            "header",
        ),
        Parameter(
            "X-Roxy-Max-Wait",
            Annotated[float, Meta(ge=0)],
            "The longest time that the request may wait in the queue, in seconds.",
            "header",
        ),
        UPDATES,
        Parameter(
            "X-Roxy-Keep",
            Literal["true"],
            "Keep the streamed answer when the client disconnects, so that it can be read again.",
            "header",
        ),
        Parameter(
            "X-Roxy-Deployment",
            str,
            "For the owner: the id of the one deployment to try. Its cooldown, if any, ends.",
            "header",
        ),
    ),
    (
        Forbidden,
        ModelNotFound,
        Conflict,
        RateLimited,
        BudgetExceeded,
        Stopped,
        NoDeployment,
        *tree(Overloaded),
        *tree(UpstreamError),
    ),
    {"text/event-stream": ChatCompletionChunk},
)
USAGE = Operation(
    {200: UsageObject},
    parameters=(
        Parameter("start", Day, "The first day (UTC). Default: 29 days before `end`."),
        Parameter("end", Day, "The last day (UTC). Default: today."),
        Parameter("group_by", str, "Any of `day`, `key` and `model`, separated by commas."),
        Parameter("key", str, "Only this key: its id, `owner` or `guest`."),
        Parameter("model", str, "Only this model."),
        Parameter("format", Literal["json", "csv"], "The format of the answer."),
        Parameter("limit", Annotated[int, Meta(ge=1, le=MAX_GROUPS)], "Rows per page of JSON."),
        Parameter("after", str, "The `next` of the previous page."),
    ),
    errors=(StoreUnavailable,),
    others={"text/csv": str},
)
KEYS = Operation(
    {200: KeyList},
    parameters=(
        Parameter("limit", Annotated[int, Meta(ge=1, le=MAX_KEYS)], "Keys per page."),
        Parameter("after", str, "The `last_id` of the previous page."),
        Parameter("search", str, "Only keys whose name, redacted secret or id contains this."),
    ),
    errors=(StoreUnavailable,),
)
REQUESTS = Operation(
    {200: RequestPage},
    parameters=(
        Parameter("key", str, "Only this key: its id, `owner` or `guest`."),
        Parameter("model", str, "Only this model."),
        Parameter("status", str, "Only this ending: finished, failed, cancelled, ..."),
        Parameter("before", Annotated[int, Meta(ge=1)], "The `before` of the previous page."),
        Parameter("limit", Annotated[int, Meta(ge=1, le=MAX_ROWS)], "Rows per page."),
    ),
    errors=(StoreUnavailable,),
)
STREAM = Operation(
    {},
    parameters=(
        Parameter("after", Natural, "The number of the last event received."),
        UPDATES,
    ),
    errors=(NotFound, Conflict, AnswerGone),
    others={"text/event-stream": ChatCompletionChunk},
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("post", "chat/completions"): CHAT,
    ("post", "documents"): Operation(
        {200: DocumentObject},
        errors=(DocumentUnreadable, RateLimited, *tree(Overloaded)),
        upload=True,
    ),
    ("get", "models"): Operation(
        {200: ModelList},
        parameters=(
            Parameter(
                "all",
                Literal["true", "false"],
                "`true`: also the models that cannot be used now. For the owner only.",
            ),
        ),
        errors=(Forbidden,),
    ),
    ("get", "models/{model}"): Operation({200: ModelObject}, errors=(ModelNotFound,)),
    ("get", "key"): Operation({200: Caller}),
    ("get", "keys"): KEYS,
    ("post", "keys"): Operation({201: KeyWithSecret}, NEW_KEY.type, errors=(StoreUnavailable,)),
    ("get", "keys/{id}"): Operation({200: KeyObject}, errors=(NotFound,)),
    ("patch", "keys/{id}"): Operation(
        {200: KeyObject}, KEY_CHANGES.type, errors=(NotFound, Conflict, StoreUnavailable)
    ),
    ("delete", "keys/{id}"): Operation({200: DeletedKey}, errors=(NotFound, StoreUnavailable)),
    ("post", "keys/{id}/rotate"): Operation(
        {200: KeyWithSecret}, ROTATION.type, errors=(NotFound, Conflict, StoreUnavailable)
    ),
    ("get", "invitations"): Operation({200: InvitationList}, errors=(StoreUnavailable,)),
    ("post", "invitations"): Operation(
        {201: InvitationWithLink},
        NEW_INVITATION.type,
        errors=(NotFound, Conflict, StoreUnavailable),
    ),
    ("get", "invitations/{id}"): Operation(
        {200: InvitationObject}, errors=(NotFound, StoreUnavailable)
    ),
    ("delete", "invitations/{id}"): Operation(
        {200: InvitationObject}, errors=(NotFound, StoreUnavailable)
    ),
    ("get", "usage"): USAGE,
    ("get", "requests"): REQUESTS,
    ("get", "requests/{id}"): Operation({200: RequestObject}, errors=(NotFound, StoreUnavailable)),
    ("get", "live"): Operation({200: Live}),
    ("get", "health"): Operation({200: HealthReport}),
    ("get", "jobs/{id}"): Operation({200: JobObject}, errors=(NotFound,)),
    ("delete", "jobs/{id}"): Operation({200: JobObject}, errors=(NotFound,)),
    ("get", "jobs/{id}/stream"): STREAM,
    **HISTORY_OPERATIONS,
    ("get", "openapi.json"): Operation({200: dict[str, Any]}),
    ("get", "/healthz"): Operation({200: HealthObject}),
    ("get", "/readyz"): Operation({200: HealthObject, 503: HealthObject}),
}
