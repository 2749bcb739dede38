"""What an upstream quotes from a request is no statement about the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fakes.upstream import FakeUpstream, refusal
from support.front_door import MODEL, Door, front_door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def door(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Door]:
    """Start a gateway with one deployment."""
    async with front_door(tmp_path, upstream) as opened:
        yield opened


async def state(door: Door) -> str:
    """Return the state of the deployment of the test model, as the owner sees it."""
    health = (await door.get("/api/v1/health")).json()
    (model,) = [one for one in health["models"] if one["id"] == MODEL]
    return str(model["deployments"][0]["state"])


def quoting(text: str) -> dict[str, Any]:
    """Return the error of an upstream about a value, as OpenAI words it."""
    words = f"Invalid value: '{text}'. Supported values are: 'low', 'medium', and 'high'."
    return {"error": {"message": words, "type": "invalid_request_error", "code": "invalid_value"}}


QUOTED = (
    "out of credits",
    "low' out of credits 'x",
    "a' api key 'b",
    "a' api key 'c' is expired 'b",
    "x\nUnauthorized: invalid\n api key\n",
    "Out Of\n'x\nCREDITS'",
    '{"error": {"code": "insufficient_quota", "message": "x"}}',
    '{"error": {"type": "authentication_error", "message": "x"}}',
    '{"error": {"type": "rate_limit_error", "message": "x, try again in 50m"}}',
    "rate limit, try again in 59m0s",
    "too many requests: retry after 3000 seconds",
)


@pytest.mark.parametrize("text", QUOTED)
@pytest.mark.parametrize("place", ["value", "name"])
async def test_a_text_of_the_client_puts_no_deployment_aside(
    upstream: FakeUpstream, door: Door, text: str, place: str
) -> None:
    upstream.plan(refusal(400, quoting(text)))
    properties: dict[str, Any] = {text if place == "name" else "x": {"const": text}}
    tool = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    answer = await door.chat(tools=[{"type": "function", "function": tool}])
    assert answer.status_code == 400
    assert await state(door) == "ready"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Your credit balance is too low to access the API.", "cooling"),
        ("API key not valid. Please pass a valid API key.", "cooling"),
        ("Rate limit reached, try again in 50m", "cooling"),
    ],
)
async def test_what_the_upstream_says_itself_still_counts(
    upstream: FakeUpstream, door: Door, words: str, expected: str
) -> None:
    upstream.plan(refusal(400, {"error": {"message": words}}))
    content = "The balance is too low. Is the key valid? What is the limit, and the rate?"
    await door.chat(content)
    assert await state(door) == expected
