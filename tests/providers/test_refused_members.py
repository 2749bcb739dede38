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
