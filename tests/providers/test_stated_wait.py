"""The wait that an upstream asks for is found wherever it says so."""

from __future__ import annotations

from typing import Any

import pytest

from workers.providers.stated_wait import read_wait, reset_s, wait_in_json, wait_in_words

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1h2m3.5s", 3600.0),
        ("try again in 2.666s. Visit", 2.666),
        ("Please retry after 34 seconds.", 34.0),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Please wait 1 minute and 20 seconds", 80.0),
        ("wait for 2 mins before retrying", 120.0),
        ("retry after 12", 12.0),
        ("Retry-After: 12", 12.0),
        ("try again in about 12 seconds", 12.0),
        ("available in 45s", 45.0),
        ("resets in 3 hours", 3600.0),
        ("Your limit will reset at 2099-01-01 00:00:00", 3600.0),
        ("Your limit will reset at 2099-01-01T00:00:00Z", 3600.0),
        ("You will regain access at 2099-01-01 00:00 UTC", 3600.0),
        ("reset at 2001-01-01T00:00:00Z", 0.0),
        ("reset at 2001-01-01 00:00:00", None),
        ("Limit 30000, Used 29123", None),
        ("try again later", None),
        ("retry with at most 5 tools", None),
        ("", None),
    ],
)
def test_a_wait_in_words_is_read(text: str, wait_s: float | None) -> None:
    assert wait_in_words(text) == (None if wait_s is None else pytest.approx(wait_s))


@pytest.mark.parametrize(
    ("members", "wait_s"),
    [
        ({"error": {"details": [{"retryDelay": "34s"}]}}, 34.0),
        ({"error": {"details": [{"retryDelay": "34.5s"}]}}, 34.5),
        ({"error": {"details": [{"retryDelay": {"seconds": 9}}]}}, None),
        ({"retry_after": 1.5}, 1.5),
        ({"retryAfter": "7"}, 7.0),
        ({"retry_after_ms": 1500}, 1.5),
        ({"retryAfterSeconds": 30}, 30.0),
        ({"error": {"resets_in_seconds": 30}}, 30.0),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "4102444800000"}}}}, 3600.0),
        ({"reset_at": 4102444800}, 3600.0),
        ({"resetTime": "2100-01-01T00:00:00Z"}, 3600.0),
        ({"estimated_time": 20.5}, 20.5),
        ({"retry": True}, None),
        ({"retry_after": None}, None),
        ({"retry_after": -1}, None),
        ({"retries": 3, "resettable": 4, "wait_list": 5}, None),
        ({"retry_after": "soon"}, None),
        ([], None),
        ("x", None),
    ],
)
def test_a_wait_in_a_member_is_read(members: Any, wait_s: float | None) -> None:
    assert wait_in_json(members) == wait_s


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (5, 5.0),
        (" 5.0 ", 5.0),
        (0, 0.0),
        ("6m0s", 360.0),
        ("2m59.56s", 179.56),
        ("120ms", 0.12),
        (NOW + 9, 9.0),
        (int((NOW + 9) * 1000), 9.0),
        (int((NOW + 9) * 1_000_000), 9.0),
        (NOW - 9, 0.0),
        ("2027-01-15T08:00:09Z", 9.0),
        ("Fri, 15 Jan 2027 08:00:09 GMT", 9.0),
        ("soon", None),
        ("", None),
        (float("inf"), None),
        (float("nan"), None),
        (None, None),
        (True, None),
        ([5], None),
    ],
)
def test_a_wait_is_read_in_every_form(value: Any, wait_s: float | None) -> None:
    expected = None if wait_s is None else pytest.approx(wait_s, abs=0.01)
    assert read_wait(value, NOW) == expected


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
        ),
        ({"x-ratelimit-reset": "4102444800000"}, 3600.0),
        ({"x-ratelimit-reset": "4102444800"}, 3600.0),
        ({"ratelimit-reset": "40"}, 40.0),
        ({"anthropic-ratelimit-tokens-reset": "2100-01-01T00:00:00Z"}, 3600.0),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"a";r=5;t=9, "b";r=0;t=30'}, 30.0),
        ({"x-ratelimit-reset-tokens": "soon", "x-reset": "5", "x-ratelimit-limit": "9"}, None),
    ],
)
def test_the_limit_that_is_used_up_says_how_long_to_wait(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert reset_s(headers) == wait_s
