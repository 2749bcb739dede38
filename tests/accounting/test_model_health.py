"""How well a model has answered lately, and what its card says about it."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import msgspec
import pytest
from support.fakes.upstream import FakeUpstream, refusal
from support.front_door import MODEL, Door

from server.answers.model_health import KEPT_REQUESTS, NOW_S, WINDOW_S, Health, ModelHealth
from server.store.rows import UsageRow
from webui.shell.health_words import HealthWords, health_words
from webui.shell.texts import languages

ENGLISH = languages()["en"]


class Clock:
    """The time of day, as the test wants it."""

    now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def row(
    at: float, *, status: str = "finished", http: int = 200, ttft: int | None = 400, **more: Any
) -> UsageRow:
    """Make a usage row of a model."""
    fields = {"cached_tokens": None, "cache_write_tokens": None, "reasoning_tokens": None}
    counts = {"prompt_tokens": 1, "completion_tokens": 1, "cost_microusd": 0, "estimated": False}
    times = {"ttft_ms": ttft, "duration_ms": 900, "queued_ms": 0, "stream": True}
    named: dict[str, Any] = fields | counts | times | more
    return UsageRow("req_1", at, "owner", MODEL, None, status, http, **named)


def measured(*rows: UsageRow, clock: Clock | None = None) -> Health | None:
    """Measure these rows."""
    health = ModelHealth(wall=clock or Clock())
    for one in rows:
        health.note(one)
    return health.find(MODEL)


NOW = Clock.now


def test_the_median_is_of_streams_only() -> None:
    whole = row(NOW, ttft=9000, stream=False)
    health = measured(*(row(NOW, ttft=ms) for ms in (100, 300, 5000)), whole)
    assert health == Health(4, 0, ttft_ms=300, failing=False, tokens_per_s=1.2)


@pytest.mark.parametrize(
    ("status", "http", "counted"),
    [
        ("failed", 502, True),
        ("failed", 504, True),
        ("failed", 429, True),
        ("cut", 200, True),
        ("timed_out", 504, True),
        ("failed", 400, False),
        ("refused", 503, False),
        ("drained", 503, False),
        ("cancelled", 499, False),
    ],
)
def test_only_what_the_models_side_caused_is_a_failure(
    status: str, http: int, counted: bool
) -> None:
    health = measured(row(NOW, status=status, http=http, ttft=None))
    assert health == (Health(1, 1, None, failing=False) if counted else None)


def test_a_deployment_is_measured_apart_from_its_model() -> None:
    health = ModelHealth(wall=Clock())
    for name, tokens in (("a", 10), ("a", 40), ("a", 20), ("b", 500)):
        health.note(
            msgspec.structs.replace(row(NOW, ttft=400), deployment=name, completion_tokens=tokens)
        )
    one, whole = health.find_deployment("a"), health.find(MODEL)
    assert one is not None and whole is not None
    assert (one.requests, one.ttft_ms, one.tokens_per_s) == (3, 400, 40.0)
    assert whole.requests == 4
    assert health.find_deployment("c") is None


def test_an_hour_is_remembered_and_no_more_than_the_ring_holds() -> None:
    clock = Clock()
    health = ModelHealth(wall=clock)
    for _ in range(2 * KEPT_REQUESTS):
        health.note(row(clock.now))
    found = health.find(MODEL)
    assert found is not None and found.requests == KEPT_REQUESTS
    clock.now += WINDOW_S
    assert health.find(MODEL) is None
    assert health.find("no/such") is None


def test_failures_of_one_key_alone_do_not_show_a_model_as_failing_to_others() -> None:
    def of(key_id: str, *, ok: bool) -> UsageRow:
        kind = row(NOW) if ok else row(NOW, status="failed", http=502, ttft=None)
        return msgspec.structs.replace(kind, key_id=key_id)

    bad = [of("key_bad", ok=False)] * 9
    cases = [
        ([*bad, of("key_good", ok=True)], False),
        (bad, True),  # no one else says otherwise
        ([*bad, of("key_bad", ok=True)], True),
        ([*bad, of("key_good", ok=True), of("key_other", ok=False)], True),
    ]
    for rows, failing in cases:
        health = measured(*rows)
        assert health is not None
        assert health.failing is failing
        assert health.failures == sum(one.status == "failed" for one in rows)


def test_a_model_fails_while_most_of_its_newest_requests_do() -> None:
    bad, good = row(NOW, status="failed", http=502, ttft=None), row(NOW)
    cases = {
        (bad, bad): False,  # two could be chance
        (bad, bad, bad): True,
        (good,) * 40 + (bad,) * 10: True,
        (bad,) * 40 + (good,) * 11: False,
        (good, bad) * 10: True,
        (good, good, bad) * 10: False,
    }
    for rows, expected in cases.items():
        health = measured(*rows)
        assert health is not None and health.failing is expected


def test_a_model_that_has_not_been_asked_lately_is_not_failing() -> None:
    clock = Clock()
    health = ModelHealth(wall=clock)
    for _ in range(4):
        health.note(row(NOW, status="failed", http=502, ttft=None))
    clock.now += NOW_S
    found = health.find(MODEL)
    assert found == Health(4, 4, None, failing=False)


@pytest.mark.parametrize(
    ("health", "mark", "words"),
    [
        (Health(10, 0, 412, failing=False), "good", "0.4 s to first token"),
        (Health(10, 0, 20, failing=False), "good", "<0.1 s to first token"),
        (Health(10, 0, 12_300, failing=False), "good", "12 s to first token"),
        (Health(100, 4, 412, failing=False), "good", "0.4 s to first token"),
        (Health(10, 2, 412, failing=False), "warn", "0.4 s to first token, 20 % failed"),
        (Health(10, 2, None, failing=False), "warn", "20 % failed"),
        (Health(10, 9, 412, failing=True), "bad", "failing"),
    ],
)
def test_a_card_says_it_in_a_few_words(health: Health, mark: str, words: str) -> None:
    told = health_words(health, ENGLISH)
    assert told is not None and (told.mark, told.words) == (mark, words)


def test_a_card_says_nothing_where_nothing_was_measured() -> None:
    assert health_words(None, ENGLISH) is None
    assert health_words(Health(3, 0, None, failing=False), ENGLISH) is None
    assert health_words(Health(1, 1, None, failing=False), ENGLISH) is None


def test_the_figures_are_told_in_full() -> None:
    told = health_words(Health(1204, 602, 412, failing=True), ENGLISH)
    about = "Last hour: 1,204 measured, 50 % failed, half of the streams began within 0.4 s"
    assert told == HealthWords("bad", "failing", about)
    german = health_words(Health(1204, 602, None, failing=True), languages()["de"])
    about = "Letzte Stunde: 1.204 gemessen, 50 % fehlgeschlagen"
    assert german == HealthWords("bad", "gestört", about)


async def health_on_page(door: Door) -> Any:
    """Read what the chat page knows of the test model."""
    text = (await door.client.get("/")).text
    found = re.search(r'data-boot="([^"]*)"', text)
    assert found
    models = json.loads(html.unescape(found[1]))["models"]
    (model,) = [one for one in models if one["id"] == MODEL]
    return model["health"]


async def test_every_settled_request_is_measured(upstream: FakeUpstream, door: Door) -> None:
    assert await health_on_page(door) is None
    await door.stream_text()
    assert (await health_on_page(door))["words"].endswith("to first token")
    upstream.plan(refusal(500))
    for _ in range(3):
        assert (await door.chat()).status_code == 502
    told = await health_on_page(door)
    assert (told["mark"], told["words"]) == ("bad", "failing")
    assert told["about"].startswith("Last hour: 4 measured, 75 % failed")
