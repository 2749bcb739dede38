"""Every refusal that real upstreams were seen to send becomes the right error for the client."""

from __future__ import annotations

import json

import pytest
from support.inputs.upstream_refusals import REFUSALS, RefusalRow

from workers.catalog.catalog import Deployment
from workers.providers.problem import find_problem
from workers.providers.rejections import error_by_status, error_in_band

DEPLOYMENT = Deployment(
    id="m@up",
    provider="openai",
    base_url="https://api.up.example/v1",
    upstream_model="m",
    secret_env="UP_API_KEY",
    secret="sk-live-0123456789",
)
JSON_ROWS = [row for row in REFUSALS if row.body[:1] in (b"{", b"[") and find_problem(row.body)]


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.name)
def test_a_refusal_becomes_the_error_of_its_kind(row: RefusalRow) -> None:
    error = error_by_status(row.status, row.headers, row.body, DEPLOYMENT)
    assert (error.status, error.code) == (row.becomes, row.code), error.message
    assert (error.retryable, error.own_fault) == (row.retryable, row.own_fault)
    headers = error.headers()
    wanted = None if row.should_retry is None else str(row.should_retry).lower()
    assert headers.get("X-Should-Retry") == wanted
    if row.wait_s is None:
        assert error.retry_after_s is None
    else:
        assert error.retry_after_s == pytest.approx(row.wait_s)
    assert row.says in error.message
    shown = json.dumps(json.loads(error.encoded()), ensure_ascii=False) + str(error)
    for part in row.never:
        assert part not in shown


@pytest.mark.parametrize("row", JSON_ROWS, ids=lambda row: row.name)
def test_the_same_refusal_in_a_stream_never_shows_more(row: RefusalRow) -> None:
    problem = find_problem(row.body)
    assert problem is not None
    error = error_in_band(problem, DEPLOYMENT)
    shown = json.dumps(json.loads(error.encoded()), ensure_ascii=False) + str(error)
    for part in row.never:
        assert part not in shown
    if row.code in ("context_length_exceeded", "content_filter"):
        assert (error.status, error.code) == (400, row.code)


def test_the_names_of_the_rows_are_distinct() -> None:
    assert len({row.name for row in REFUSALS}) == len(REFUSALS) > 100


OWN_WORDS = (
    "your credit balance is too low",
    "Incorrect API key provided",
    "The model `m` does not exist",
    "account suspended",
)


@pytest.mark.parametrize("words", OWN_WORDS)
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "quoting", ["Invalid value: '{}'.", 'Cannot read "{}" here.', "Bad text `{}`", "{:>300}"]
)
def test_a_prompt_that_is_quoted_puts_no_deployment_aside(
    words: str, status: int, quoting: str
) -> None:
    body = json.dumps({"error": {"message": quoting.format(words)}}).encode()
    error = error_by_status(status, {}, body, DEPLOYMENT)
    assert (error.status, error.own_fault) == (400, "")


def test_a_403_in_unknown_words_puts_no_deployment_aside() -> None:
    error = error_by_status(403, {}, b'{"error":{"message":"Not you"}}', DEPLOYMENT)
    assert (error.status, error.own_fault, error.should_retry) == (502, "", False)


@pytest.mark.parametrize(
    "run", ["model ", "context exceed ", "api key ", "content ", "a", "'", "{"]
)
def test_a_long_message_is_classified_in_linear_time(run: str) -> None:
    # A pattern that backtracks over all of it would take minutes; the test would never end.
    body = json.dumps({"error": {"message": run * (200_000 // len(run))}}).encode()
    assert error_by_status(400, {}, body, DEPLOYMENT).status in (400, 502)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[[", b'"', b"\x1f\x8b", b"data:", b"<", b"\xff" * 99]
)
def test_any_status_with_any_body_is_an_error_for_the_client(body: bytes) -> None:
    for status in (*range(100, 600), 999):
        for headers in ({}, {"content-encoding": "gzip"}, {"content-encoding": "zstd"}):
            if status != 200:
                error = error_by_status(status, headers, body, DEPLOYMENT)
                assert 400 <= error.status <= 599


@pytest.mark.parametrize(
    ("encoding", "read"),
    [
        ("", True),
        ("identity", True),
        ("none", True),
        ("UTF-8", True),
        ("br", False),
        ("zstd", False),
    ],
)
@pytest.mark.parametrize("framing", ["{}", "data: {}\n\n", "Error: {}"])
def test_only_a_compression_keeps_the_words_of_a_refusal_from_being_read(
    encoding: str, read: bool, framing: str
) -> None:
    words = "This model's maximum context length is 8192 tokens"
    body = framing.format(words).encode()
    error = error_by_status(400, {"content-encoding": encoding}, body, DEPLOYMENT)
    assert (error.code == "context_length_exceeded") is read
