"""A rejection of the request keeps the upstream's message; others get the gateway's own."""

from __future__ import annotations

import json
from email.utils import formatdate
from time import time
from typing import Any

import pytest

from workers.catalog.catalog import Deployment
from workers.errors import (
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.providers.problem import find_problem
from workers.providers.rejections import (
    ADDRESS_WRONG,
    CREDENTIALS_REJECTED,
    MODEL_UNKNOWN,
    NO_CREDIT,
    error_by_status,
    error_in_band,
)
from workers.providers.stated_wait import retry_after_s

SECRET = "sk-live-0123456789"
DEPLOYMENT = Deployment(
    id="m@up",
    provider="openai",
    base_url="https://api.up.example:8443/v1",
    upstream_model="m",
    secret_env="UP_API_KEY",
    secret=SECRET,
)
VLLM = {"object": "error", "message": "No."}
TIMED_OUT = "The upstream of this model timed out. Try again."
HTML = b"<html><h1>502 Bad Gateway</h1>nginx at api.up.example</html>"


def err(message: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": more if message is None else {"message": message} | more}


def rejection(status: int, told: Any = b"", **headers: str) -> UpstreamError:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return error_by_status(
        status, {k.replace("_", "-"): v for k, v in headers.items()}, body, DEPLOYMENT
    )


@pytest.mark.parametrize(
    ("told", "message", "code", "param"),
    [
        (
            err("No.", type="x", param="messages[1].role", code="bad"),
            "No.", "bad", "messages[1].role",
        ),
        (err("No.", param=None, code=None), "No.", None, None),
        (err("No.", code=400), "No.", None, None),
        (err("No.", code="has spaces", param="<b>"), "No.", None, None),
        ({"error": "No."}, "No.", None, None),
        ({"message": "No.", "code": "bad"}, "No.", "bad", None),
        (VLLM | {"type": "BadRequestError", "code": 400}, "No.", None, None),
        ({"detail": "No."}, "No.", None, None),
        (
            {"detail": [{"loc": ["body", "messages", 0], "msg": "Field required"}, {"msg": "No."}]},
            "messages.0: Field required; No.", None, None,
        ),
        ([err("No.", code=400, status="INVALID_ARGUMENT")], "No.", None, None),
        (
            err("This model's maximum context length is 8 tokens."),
            "This model's maximum context length is 8 tokens.", "context_length_exceeded", None,
        ),
        (
            err("Too long.", code="context_length_exceeded"),
            "Too long.", "context_length_exceeded", None,
        ),
        (err("a\u0000b\nc\u202ed"), "a b c d", None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_error_about_the_request_keeps_its_words_and_becomes_a_400(
    status: int, told: Any, message: str, code: str | None, param: str | None
) -> None:
    error = rejection(status, told)
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.message, error.code, error.param) == (400, message, code, param)
    assert not error.retryable


@pytest.mark.parametrize(
    "page",
    [
        HTML, b"", b"null", b"[]", b'"No."', b"{}", b'{"error":null}', b'{"error":{}}',
        b'{"error":5}', b'{"message":5}', b'{"error":{"message":["x"]}}', b'{"error":"\xff"}',
        b"[" * 9999 + b"]" * 9999,
    ],
)  # fmt: skip
def test_an_error_page_is_never_quoted(page: bytes) -> None:
    for status in (400, 401, 404, 422, 429, 500, 503):
        error = rejection(status, page)
        assert error.message in (
            UpstreamRejected.summary, CREDENTIALS_REJECTED, MODEL_UNKNOWN, ADDRESS_WRONG,
            UpstreamRateLimited.summary, UpstreamUnavailable.summary, UpstreamOverloaded.summary,
        )  # fmt: skip
    assert isinstance(rejection(400, page), UpstreamRejected)


@pytest.mark.parametrize(
    ("status", "told", "kind", "message"),
    [
        (401, err(f"Incorrect key {SECRET}"), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (403, err("Not you"), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (400, err("API key not valid. Please"), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (400, err("x", code="invalid_api_key"), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (402, err("Pay"), UpstreamUnavailable, NO_CREDIT),
        (429, err("x", code="insufficient_quota"), UpstreamUnavailable, NO_CREDIT),
        (400, err("Your credit balance is too low"), UpstreamUnavailable, NO_CREDIT),
        (404, err("The model `m` does not exist"), UpstreamUnavailable, MODEL_UNKNOWN),
        (400, err("x", code="model_not_found"), UpstreamUnavailable, MODEL_UNKNOWN),
        (408, b"", UpstreamTimeout, TIMED_OUT),
        (504, HTML, UpstreamTimeout, TIMED_OUT),
        (409, b"", UpstreamUnavailable, None),
        (429, err("Org org-1 is limited"), UpstreamRateLimited, None),
        (500, err("Traceback"), UpstreamUnavailable, None),
        (502, HTML, UpstreamUnavailable, None),
        (503, HTML, UpstreamOverloaded, None),
        (529, err(type="overloaded_error"), UpstreamOverloaded, None),
        (405, b"", UpstreamUnavailable, ADDRESS_WRONG),
        (418, b"", UpstreamError, None),
        (204, b"", UpstreamError, None),
    ],
)  # fmt: skip
def test_every_other_rejection_is_told_in_our_words_and_may_be_tried_elsewhere(
    status: int, told: Any, kind: type[UpstreamError], message: str | None
) -> None:
    error = rejection(status, told)
    assert type(error) is kind
    assert (error.message, error.retryable) == (message or kind.summary, True)


def test_a_redirect_is_an_error_that_does_not_say_where() -> None:
    error = rejection(302, b"", location="https://elsewhere.example/")
    assert type(error) is UpstreamError
    assert "redirect" in error.message and "elsewhere" not in error.message


def test_a_time_out_is_told_by_its_code() -> None:
    assert rejection(408).code == "upstream_timeout"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"Key {SECRET} is bad", "Key [redacted] is bad"),
        ("See https://api.up.example:8443/v1/help", "See [upstream]/help"),
        ("POST api.up.example:8443 failed", "POST [upstream] failed"),
        ("at API.Up.Example.", "at [upstream]."),
        ("xapi.up.example too", "[host] too"),
        ("x" * 5000, "x" * 999 + "…"),
    ],
)
def test_our_secret_and_the_host_are_taken_out_of_a_message(said: str, told: str) -> None:
    assert rejection(400, {"error": {"message": said}}).message == told


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7.0),
        ({"retry-after": "86400"}, 3600.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600.0),
    ],
)
def test_the_wait_is_read_and_capped(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s


def test_the_wait_may_be_a_date() -> None:
    wait_s = retry_after_s({"retry-after": formatdate(time() + 600, usegmt=True)})
    assert wait_s is not None and 500 < wait_s <= 600


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 504, 529])
def test_the_wait_is_handed_on(status: int) -> None:
    assert rejection(status, retry_after="7").retry_after_s == 7.0


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        (err("Slow down", code=429), UpstreamRateLimited, None),
        (err("x", code="rate_limit_exceeded"), UpstreamRateLimited, None),
        (err("x", type="rate_limit_error"), UpstreamRateLimited, None),
        (err("x", status="RESOURCE_EXHAUSTED"), UpstreamRateLimited, None),
        (err("No.", code=400), UpstreamRejected, "No."),
        (err("No.", code="422"), UpstreamRejected, "No."),
        (err("No.", type="invalid_request_error"), UpstreamRejected, "No."),
        (
            err(SECRET, type="invalid_request_error", code="invalid_api_key"),
            UpstreamUnavailable, CREDENTIALS_REJECTED,
        ),
        (VLLM | {"type": "BadRequestError", "code": 400}, UpstreamRejected, "No."),
        (VLLM | {"type": "InternalServerError", "code": 500}, UpstreamUnavailable, None),
        (err("x", code=401), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (err("x", type="authentication_error"), UpstreamUnavailable, CREDENTIALS_REJECTED),
        (err("x", code=402), UpstreamUnavailable, NO_CREDIT),
        (err("x", type="insufficient_quota"), UpstreamUnavailable, NO_CREDIT),
        (err("x", type="overloaded_error"), UpstreamOverloaded, None),
        (err("x", code="server_error"), UpstreamUnavailable, None),
        (err("x", code=502, metadata={}), UpstreamUnavailable, None),
        (err("x", code=504, status="DEADLINE_EXCEEDED"), UpstreamTimeout, TIMED_OUT),
        (err("x", type="timeout", code="upstream_timeout"), UpstreamTimeout, TIMED_OUT),
        ({"error": "host api.up.example exploded"}, UpstreamError, None),
        (err("x", code=99999), UpstreamError, None),
        (err("x", code=[400]), UpstreamError, None),
    ],
)  # fmt: skip
def test_an_error_told_in_a_stream_is_mapped_like_one_told_by_status(
    told: Any, kind: type[UpstreamError], message: str | None
) -> None:
    problem = find_problem(json.dumps(told).encode())
    assert problem is not None
    error = error_in_band(problem, DEPLOYMENT)
    assert type(error) is kind
    assert error.message == (message or kind.summary)


@pytest.mark.parametrize(
    "told", [{"choices": []}, {"id": "x", "usage": None}, {}, [], [[]], 5, None]
)
def test_json_that_is_no_error_is_no_problem(told: Any) -> None:
    assert find_problem(json.dumps(told).encode()) is None
