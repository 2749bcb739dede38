"""What the owner sees: who runs and waits now, and every request that was."""

from __future__ import annotations

import asyncio
import csv
from typing import Any

import pytest
from support.described import described
from support.fakes.upstream import FakeUpstream, completion, refusal, stream_of
from support.front_door import MODEL, OWNER, Door, bearer, request_body
from support.kept import ask, code_of, held_after, stop
from support.visitors import guest
from support.waiting import PATIENCE_S, soon, until


async def look(door: Door) -> dict[str, Any]:
    """See what happens at the test model."""
    answer = await door.get("/api/v1/live")
    assert answer.status_code == 200, answer.text
    (model,) = [one for one in answer.json()["models"] if one["id"] == MODEL]
    shown: dict[str, Any] = model
    return shown


async def health(door: Door) -> dict[str, Any]:
    """See the health of the test model, as it is described."""
    report = await (await described(door)).call(door, "get", "/health")
    (model,) = [one for one in report["models"] if one["id"] == MODEL]
    shown: dict[str, Any] = model
    return shown


async def test_the_health_of_a_model_and_of_its_deployments(
    upstream: FakeUpstream, door: Door
) -> None:
    shown = await health(door)
    (deployment,) = shown.pop("deployments")
    nothing = {"requests": 0, "failures": 0, "ttft_ms": None, "failing": False}
    nothing["tokens_per_s"] = None
    assert shown == {"id": MODEL} | nothing
    name = f"{MODEL}@127.0.0.1"
    unused = {"reason": None, "cooling_s": None, "failures": 0, "busy": 0, "limit": 64}
    unused |= {"requests": 0, "ttft_ms": None, "tokens_per_s": None}
    learnt: dict[str, object] = {"learnt": [], "last_failure": None}
    assert deployment == {"id": name, "state": "ready"} | unused | learnt

    upstream.plan(refusal(500), refusal(500), refusal(429, headers={"retry-after": "900"}))
    for _ in range(3):
        await door.chat()
    await door.usage_rows(3)
    shown = await health(door)
    assert (shown["requests"], shown["failures"], shown["failing"]) == (3, 3, True)
    (deployment,) = shown["deployments"]
    assert (deployment["state"], deployment["reason"]) == ("cooling", "upstream_rate_limited")
    assert (deployment["failures"], deployment["limit"]) == (2, 0)
    assert 800 < deployment["cooling_s"] <= 900
    (live,) = (await look(door))["deployments"]
    assert [live[name] for name in ("state", "reason")] == ["cooling", "upstream_rate_limited"]


@pytest.mark.parametrize(
    ("status", "page", "reason", "words"),
    [
        (404, '{"detail": "Not Found"}', "base_url", "Not Found"),
        (404, "<html>no such page</html>", "base_url", None),
        (404, '{"error": "The model `m-9` is unknown"}', "model", "The model `m-9` is unknown"),
        (401, '{"error": "Bad key: upstream-secret"}', "credentials", "Bad key: [redacted]"),
        (500, '{"error": "No: who was my first true love"}', "upstream_unavailable", "No: …"),
    ],
)  # fmt: skip
async def test_the_owner_is_shown_why_the_first_request_has_failed(
    upstream: FakeUpstream,
    door: Door,
    caplog: pytest.LogCaptureFixture,
    status: int,
    page: str,
    reason: str,
    words: str | None,
) -> None:
    caplog.set_level("INFO", "roxy.workers")
    upstream.plan(refusal(status, page.encode()), completion("Fine."))
    answer = await door.chat("Tell me: who was my first true love?", key=await door.mint())
    said = answer.json()["error"]["message"]
    assert words is None or words not in said, "it is for the owner alone"
    (row,) = await door.usage_rows(1)
    (deployment,) = (await health(door))["deployments"]
    failure = deployment["last_failure"]
    assert (failure["reason"], failure["status"], failure["message"]) == (reason, status, words)
    assert failure["at"] == pytest.approx(row.at, abs=PATIENCE_S)
    (tried,) = (await door.get(f"/api/v1/requests/{row.request_id}")).json()["attempts"]
    assert (tried["status"], tried.get("message")) == (status, words)
    assert tried.get("reason") == (reason if not reason.startswith("upstream") else None)
    logged = caplog.text
    assert f"HTTP {status}" in logged and (words or "") in logged
    assert ("Check its base_url" in logged) == (reason == "base_url")
    assert "love" not in logged and "upstream-secret" not in logged
    headers = bearer(OWNER) | {"X-Roxy-Deployment": deployment["id"]}
    path = "/api/v1/chat/completions"
    answer = await door.client.post(path, json=request_body(), headers=headers)
    assert answer.status_code == 200
    (deployment,) = (await health(door))["deployments"]
    assert deployment["last_failure"] is None, "a success ends it"


async def test_a_model_that_is_not_configured_has_no_expected_wait(door: Door) -> None:
    refused = await door.chat(model="zai/glm-4.5")
    assert refused.status_code == 503, refused.text
    models = (await door.get("/api/v1/live")).json()["models"]
    (shown,) = [one for one in models if one["id"] == "zai/glm-4.5"]
    assert (shown["workers"], shown["expected_wait_s"]) == (0, 0.0)


async def test_a_deployment_without_its_secret_is_off(door: Door) -> None:
    report = (await door.get("/api/v1/health")).json()
    states = {one["state"] for model in report["models"] for one in model["deployments"]}
    assert states == {"ready", "off"}


async def page(door: Door, query: str = "") -> dict[str, Any]:
    """Read a page of the request log."""
    answer = await door.get(f"/api/v1/requests{query}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


@pytest.mark.gateway(max_concurrency=1)
async def test_what_runs_and_waits_is_shown_with_whose_it_is(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await door.mint_key("my app")
    answer, gate = held_after(4)
    upstream.plan(answer)
    mine, visitor = bearer(made["key"]), guest(door)
    updates = {"X-Roxy-Queue-Updates": "true"}
    async with ask(door) as running, ask(door, mine | updates) as second:
        await running.read(4)
        await second.read_comment("queued")
        async with ask(door, visitor | updates) as third:
            await third.read_comment("queued")
            shown = await look(door)
            assert (shown["running"], shown["queued"], shown["workers"]) == (1, 2, 1)
            assert shown["expected_wait_s"] > 0
            assert shown["jobs_left_out"] == 0
            (deployment,) = shown["deployments"]
            assert (deployment["live"], deployment["busy"]) == (True, 1)
            assert deployment["max_concurrency"] == 1
            seen = [
                (job["id"], job["state"], job["who"], job["who_name"], job["position"])
                for job in shown["jobs"]
            ]
            assert seen == [
                (running.id, "streaming", "owner", "owner", None),
                (second.id, "queued", made["id"], "my app", 1),
                (third.id, "queued", "guests", "guests", 2),
            ]
            assert shown["jobs"][0]["tokens"] == 4  # "one two three ", by its bytes
            assert shown["jobs"][0]["started_s"] >= 0
            gate.set()
            await third.finish()

    async def idle() -> bool:
        after = await look(door)
        (deployment,) = after["deployments"]
        assert after["queued"] == 0
        return (after["running"], after["jobs"], deployment["busy"]) == (0, [], 0)

    await until(idle)  # a slot is freed once the upstream's answer has come to its end


async def test_the_owner_stops_anybodys_request(upstream: FakeUpstream, door: Door) -> None:
    for headers in (bearer(await door.mint()), guest(door)):
        upstream.plan(held_after(2)[0])
        async with ask(door, headers) as reading:
            await reading.read(2)
            (job,) = (await look(door))["jobs"]
            await stop(door, job["id"])
            assert code_of((await reading.finish())[-1]) == "stopped"
    for request in upstream.requests:
        await soon(request.left.wait())


@pytest.mark.gateway(max_concurrency=1)
async def test_a_long_queue_is_shown_in_part(upstream: FakeUpstream, door: Door) -> None:
    answer, gate = held_after(2)
    upstream.plan(answer, stream_of(["x"]))
    async with ask(door) as running:
        await running.read(2)
        waiting = [asyncio.create_task(door.chat()) for _ in range(210)]

        async def all_wait() -> bool:
            return bool((await look(door))["queued"] == 210)

        await until(all_wait)
        shown = await look(door)
        assert len(shown["jobs"]) == 200
        assert shown["jobs_left_out"] == 11
        for job in list(door.gateway.services.engine.jobs.values()):
            job.cancel()
        gate.set()
    await asyncio.gather(*waiting)


async def test_the_request_log_tells_what_the_database_holds(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await door.mint_key("my app")
    first = await door.chat(key=made["key"])
    upstream.plan(refusal(500))
    second = await door.chat()
    rows = await door.usage_rows(2)
    shown = await page(door)
    assert shown["before"] is None
    assert [one["id"] for one in shown["data"]] == [
        second.headers["x-request-id"],
        first.headers["x-request-id"],
    ]
    for one, row in zip(shown["data"], rows, strict=True):
        for name in ("at", "model", "status", "http_status", "prompt_tokens", "cost_microusd"):
            assert one[name] == getattr(row, name), name
        for name in ("key_id", "duration_ms", "queued_ms", "ttft_ms", "stream", "estimated"):
            assert one[name] == getattr(row, name), name
    assert [one["key_name"] for one in shown["data"]] == ["owner", "my app"]
    single = await door.get(f"/api/v1/requests/{first.headers['x-request-id']}")
    assert single.json() == shown["data"][1]


async def test_the_log_is_filtered_and_read_page_by_page(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await door.mint_key()
    for _ in range(5):
        await door.chat(key=made["key"])
    upstream.plan(refusal(500))
    for _ in range(2):
        await door.chat()
    await door.usage_rows(7)

    async def count(query: str) -> int:
        return len((await page(door, query))["data"])

    assert await count(f"?key={made['id']}") == 5
    assert await count("?key=owner") == 2
    assert await count("?status=failed") == 2
    assert await count(f"?status=finished&model={MODEL}") == 5
    assert await count("?model=no/such") == 0
    seen, before = [], ""
    while True:
        shown = await page(door, f"?limit=3{before}")
        seen += [one["id"] for one in shown["data"]]
        if shown["before"] is None:
            break
        before = f"&before={shown['before']}"
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize(
    "query",
    [
        "status=bogus",
        "limit=0",
        "limit=1001",
        "limit=x",
        "before=-1",
        "before=" + "9" * 40,
        "days=7",
    ],
)
async def test_a_parameter_that_is_none_is_a_400(door: Door, query: str) -> None:
    answer = await door.get(f"/api/v1/requests?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_only_the_owner_sees_them(door: Door) -> None:
    key = await door.mint()
    for path in ("live", "requests", "requests/req_x"):
        assert (await door.get(f"/api/v1/{path}", key)).status_code == 403
        assert (await door.get(f"/api/v1/{path}", None)).status_code == 401
    missing = await door.get("/api/v1/requests/req_x", OWNER)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
async def test_no_name_of_a_key_is_a_formula_in_the_csv(door: Door, start: str) -> None:
    name = f"{start}1+cmd|'/c calc'!A1"
    assert (await door.chat(key=await door.mint(name))).is_success
    await door.usage_rows()
    answer = await door.get("/api/v1/usage?group_by=key&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    (row,) = csv.DictReader(answer.text.splitlines())
    assert row["key_name"] == "'" + name
    assert row["requests"] == "1"
