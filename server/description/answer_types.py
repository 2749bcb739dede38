"""What the API answers, as types: the OpenAPI document is made from them.

The handlers build these answers as plain dicts; a test holds what they send against these types.
Instants are Unix seconds, money is micro-dollars.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.store.key import Limits, Period, Status
from workers.run.job import JobState


class ErrorDetails(Struct):
    """What went wrong. `param` is the path of the field, `code` stable, each null where unknown."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Struct):
    """Any answer other than success, and the event that ends a stream which failed."""

    error: ErrorDetails


class PriceTier(Struct):
    """Prices of requests whose prompt is longer than `above_prompt_tokens`."""

    above_prompt_tokens: int
    prompt: float
    completion: float
    cached_prompt: float | UnsetType = UNSET
    cache_write_prompt: float | UnsetType = UNSET


class Prices(Struct):
    """Prices in US dollars per `per_tokens` tokens."""

    currency: Literal["USD"]
    per_tokens: int
    prompt: float
    completion: float
    cached_prompt: float | UnsetType = UNSET
    cache_write_prompt: float | UnsetType = UNSET
    tiers: list[PriceTier] | UnsetType = UNSET


class Modalities(Struct):
    """What a model takes and gives: text, image, audio, file, ..."""

    input: list[str]
    output: list[str]


class Model(Struct):
    """A model of the catalog; the first four members are OpenAI's."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    description: str
    context_window: int
    max_output_tokens: int
    modalities: Modalities
    prices: Prices | None
    endpoints: list[str]
    available: bool
    demo: bool


class ModelList(Struct):
    """The models the caller may use."""

    object: Literal["list"]
    data: list[Model]


class Key(Struct, kw_only=True):
    """A key, without its secret. `models` null: every model."""

    id: str
    object: Literal["key"]
    name: str
    redacted: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    status: Status
    models: list[str] | None
    limits: Limits
    weight: int


class KeyWithSecret(Key, kw_only=True):
    """A key with its new secret, `key`, which no other answer holds."""

    key: str
    previous_valid_until: int | UnsetType | None = UNSET


class DeletedKey(Key, kw_only=True):
    """A key that has been revoked."""

    deleted: bool


class KeyList(Struct):
    """All keys."""

    object: Literal["list"]
    data: list[Key]


class Meter(Struct):
    """What is left of one limit, and in how many seconds all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class Running(Struct):
    """How many requests may run at a time, and how many do."""

    limit: int
    running: int


class Budget(Struct):
    """A budget and what is spent of it; `reset_s` null: never."""

    limit_microusd: int
    spent_microusd: int
    reserved_microusd: int
    period: Period
    reset_s: float | None


class Remaining(Struct):
    """What is left of every limit there is."""

    requests: Meter | UnsetType = UNSET
    requests_day: Meter | UnsetType = UNSET
    tokens: Meter | UnsetType = UNSET
    concurrent_requests: Running | UnsetType = UNSET
    budget: Budget | UnsetType = UNSET


class Caller(Struct, kw_only=True):
    """Who asks; what a key is like is told to key holders, `remaining` null to the owner."""

    id: str
    object: Literal["key"]
    kind: Literal["owner", "key", "guest"]
    remaining: Remaining | None
    name: str | UnsetType = UNSET
    redacted: str | UnsetType = UNSET
    created_at: int | UnsetType = UNSET
    last_used_at: int | UnsetType | None = UNSET
    expires_at: int | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    models: list[str] | UnsetType | None = UNSET
    limits: Limits | UnsetType = UNSET
    weight: int | UnsetType = UNSET


class UsageGroup(Struct, kw_only=True):
    """Sums of one group; it has the members that were grouped by. Means are null without data."""

    day: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    key_name: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated_requests: int
    unpriced_requests: int
    cost_microusd: int
    mean_ttft_ms: int | None
    mean_duration_ms: int | None


class Usage(Struct):
    """Usage from `start` to `end`, both included."""

    object: Literal["list"]
    start: str
    end: str
    group_by: list[Literal["day", "key", "model"]]
    data: list[UsageGroup]


class RequestAttempt(Struct):
    """A deployment that was tried. `start_ms` counts from when the request came.

    `ending` is "answered", "cancelled" or the code of an error; what the upstream itself refused is
    "upstream_rejected", its rate limit "upstream_rate_limited".
    """

    deployment: str
    start_ms: int
    duration_ms: int
    ending: str


class Request(Struct):
    """One request of the log. Numbers that are not known are null; `cost_microusd`: no price.

    `attempts` tells which deployments were tried, in order; null: none, or one that answered.
    """

    id: str
    object: Literal["request"]
    at: float
    key_id: str
    key_name: str
    model: str
    deployment: str | None
    status: str
    http_status: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool
    cost_microusd: int | None
    ttft_ms: int | None
    duration_ms: int
    queued_ms: int
    stream: bool
    attempts: list[RequestAttempt] | None
    tokens_per_s: float | None


class RequestPage(Struct):
    """A page of the request log; `before` asks for the next one, null: there is none."""

    object: Literal["list"]
    data: list[Request]
    before: int | None


class TokensUsed(Struct):
    """What a request used; `estimated` where the upstream did not tell."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool


class Job(Struct):
    """A request that runs or is kept. Places are told while it waits, what it used after its end.

    `first_event` and `last_event` are the numbers of the events that can be read again.
    """

    id: str
    object: Literal["job"]
    model: str
    state: JobState
    position: int | None
    waiting: int | None
    expected_wait_s: float | None
    kept: bool
    first_event: int | None
    last_event: int | None
    error: ErrorDetails | None
    ending: str | None
    usage: TokensUsed | None
    cost_microusd: int | None
    ttft_s: float | None
    duration_s: float | None
    queued_s: float | None
    tokens_per_s: float | None


class LiveJob(Struct):
    """A request that runs or waits; `tokens` is an estimate, `started_s` its age."""

    id: str
    state: JobState
    who: str
    who_name: str
    position: int | None
    started_s: float
    tokens: int
    kept: bool
    deployment: str | None
    attempts: int


class LiveDeployment(Struct):
    """One way to serve a model, and how many requests it carries."""

    id: str
    live: bool
    demo: bool
    busy: int
    max_concurrency: int


class LiveModel(Struct):
    """What happens at one model; `expected_wait_s` is a newcomer's."""

    id: str
    queued: int
    running: int
    workers: int
    expected_wait_s: float
    jobs: list[LiveJob]
    jobs_left_out: int
    deployments: list[LiveDeployment]


class Live(Struct):
    """Everything that runs and waits now."""

    object: Literal["live"]
    models: list[LiveModel]


class Health(Struct):
    """Whether all is well, and if not, why."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] | UnsetType = UNSET
