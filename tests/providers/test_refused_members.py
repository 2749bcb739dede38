"""A member that the gateway added is found when an upstream does not know it; a value is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.catalog.catalog import Deployment
from workers.providers.problem import find_problem
from workers.providers.refused_members import refused_member
from workers.providers.rejections import error_by_status

DEPLOYMENT = Deployment(
    id="m@up", provider="openai", base_url="https://up.example/v1", upstream_model="m"
)


def told(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message} | more}


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    (
        told(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        "max_tokens",
    ),
    (told("max_tokens is not supported, use max_completion_tokens instead"), "max_tokens"),
    (told("Please use max_completion_tokens instead of max_tokens."), "max_tokens"),
    (
        told("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."),
        "max_tokens",
    ),
    (
        told("max_tokens and max_completion_tokens cannot both be set; only one of them"),
        "max_tokens",
    ),
    (told("property 'max_completion_tokens' is unsupported"), "max_completion_tokens"),
    (told("Unknown parameter: 'stream_options'."), "stream_options"),
    (told("Unknown parameter: 'stream_options.include_usage'."), "stream_options"),
    (told("Unrecognized request argument supplied: stream_options"), "stream_options"),
    (told("Unrecognized request arguments supplied: foo, stream_options"), "stream_options"),
    (told("stream_options: Extra inputs are not permitted"), "stream_options"),
    (
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "stream_options"],
                    "msg": "Extra inputs are not permitted",
                }
            ]
        },
        "stream_options",
    ),
    (
        told('Invalid JSON payload received. Unknown name "stream_options": Cannot find field.'),
        "stream_options",
    ),
    (told('json: unknown field "stream_options"'), "stream_options"),
    (told("create() got an unexpected keyword argument 'stream_options'"), "stream_options"),
    (
        told("Additional properties are not allowed ('stream_options' was unexpected)"),
        "stream_options",
    ),
    (told("This model does not support the `stream_options` parameter"), "stream_options"),
    (told("Parameter stream_options not allowed for this endpoint"), "stream_options"),
    (told("参数 stream_options 不支持"), "stream_options"),
    ({"error": "unsupported field: max_completion_tokens"}, "max_completion_tokens"),
    (told("x", param="stream_options", code="unknown_parameter"), "stream_options"),
)
NOT_REFUSED: tuple[dict[str, Any], ...] = (
    told("max_tokens is too large: 100000. This model supports at most 16384 completion tokens."),
    told("max_tokens must be less than or equal to 8192"),
    told("max_tokens: Input should be a valid integer"),
    told(
        "Unsupported value: 'max_tokens' does not support 0 with this model.",
        code="unsupported_value",
        param="max_tokens",
    ),
    told("Invalid value for max_completion_tokens: expected an integer, not supported"),
    told("max_tokens must be at least 1, got -904."),
    told("Stream options can only be defined when `stream=True`."),
    told("The 'stream_options' parameter is only allowed when 'stream' is enabled."),
    told("Unsupported parameter: 'temperature' is not supported with this model."),
    told("Unknown parameter: 'my_max_tokens'."),
    told("Unknown parameter: 'max_tokens_per_turn'."),
    told("Unknown parameter: 'foo'. Did you read about max_tokens?"),
    told("Unknown parameter: 'stream_options.foo'.", param="stream_options.foo"),
    told("body -> stream_options -> foo: Extra inputs are not permitted"),
    {"detail": [{"loc": ["body", "stream_options", "foo"], "msg": "Extra inputs not permitted"}]},
    told("stream_options[foo] is not supported"),
    told("Field required: max_tokens"),
    told("max_tokens is required"),
    told("Your credit balance is too low"),
    {"error": {}},
)

TOO_LARGE: tuple[tuple[str, tuple[int, bool] | None], ...] = (
    (
        (
            "max_tokens is too large: 8192. This model supports at most 4096 completion tokens,"
            " whereas you provided 8192."
        ),
        (4096, True),
    ),
    (
        (
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens`"
            " is less than the `context_window` for this model"
        ),
        (8192, True),
    ),
    (
        "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for m",
        (8192, True),
    ),
    ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", (8192, True)),
    (
        (
            "Unable to submit request because it has a maxOutputTokens value of 100000 but the"
            " supported range is from 1 (inclusive) to 65537 (exclusive). Update the value and"
            " try again."
        ),
        (65536, True),
    ),
    ("max_tokens: Input should be less than or equal to 4096", (4096, True)),
    (
        (
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a"
            " maximum tokens value that is lower than 4096."
        ),
        (4096, True),
    ),
    (
        (
            "Invalid 'max_tokens': integer above maximum value. Expected a value <= 4096, but got"
            " 8192 instead."
        ),
        (4096, True),
    ),
    ("max_completion_tokens must be between 1 and 16,384", (16384, True)),
    ("max_tokens must be less than 4097", (4096, True)),
    ("max_tokens is too large", (0, True)),
    ("Requests with max_tokens > 4096 must have stream=true", (4096, False)),
    (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum"
            " context length is 8192 tokens and your request has 5000 input tokens (8192 >"
            " 8192 - 5000)."
        ),
        (3192, False),
    ),
    (
        (
            "This model's maximum context length is 4096 tokens. However, you requested 8250 tokens"
            " (8 in the messages, 50 in the functions, and 8192 in the completion)."
        ),
        (4038, False),
    ),
    (
        (
            "This model's maximum context length is 4096 tokens. However, you requested 8192"
            " output tokens and your prompt contains at least 1 input tokens."
        ),
        (0, False),
    ),
    (
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease"
            " input length or `max_tokens` and try again"
        ),
        (10000, False),
    ),
    (
        (
            "`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 20 `inputs` tokens and 8192"
            " `max_new_tokens`"
        ),
        (4077, False),
    ),
    (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
            " (8900 in the messages, 100 in the completion)."
        ),
        None,
    ),
    (
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted"
            " in 9000 tokens. Please reduce the length of the messages."
        ),
        None,
    ),
    ("max_tokens must be at least 1, got -904.", None),
    ("max_tokens is required", None),
    ("prompt is too long: 210000 tokens > 200000 maximum", None),
    ("Unsupported parameter: 'max_tokens' is not supported with this model.", None),
)


@pytest.mark.parametrize(("words", "cap"), TOO_LARGE)
def test_a_cap_that_is_too_large_is_found_with_what_the_upstream_takes(
    words: str, cap: tuple[int, bool] | None
) -> None:
    error = error_by_status(400, {}, json.dumps(told(words)).encode(), DEPLOYMENT)
    assert error.refused_cap == cap


@pytest.mark.parametrize(("told", "member"), REFUSED)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_refused_member_is_named_by_the_error(
    told: dict[str, Any], member: str, status: int
) -> None:
    body = json.dumps(told).encode()
    problem = find_problem(body)
    assert problem is not None
    assert refused_member(problem) == member
    assert error_by_status(status, {}, body, DEPLOYMENT).refused_member == member


@pytest.mark.parametrize("told", NOT_REFUSED)
def test_a_complaint_about_a_value_or_another_member_names_none(told: dict[str, Any]) -> None:
    body = json.dumps(told).encode()
    problem = find_problem(body)
    if problem is not None:
        assert refused_member(problem) is None
    assert error_by_status(400, {}, body, DEPLOYMENT).refused_member == ""
