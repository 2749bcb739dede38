"""The OpenAPI document is valid, complete, and true: real answers are held against it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from house import guards
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.described import described
from support.fakes.upstream import FakeUpstream, refusal
from support.front_door import MODEL, Door, parse_events, request_body
from support.kept import ask, held_after, stop
from support.visitors import guest

from server.api.routes import ROUTES
from server.description.document import document
from server.description.error_table import error_rows
from server.description.operations import OPERATIONS


async def test_the_document_is_valid_and_names_this_servers_models(door: Door) -> None:
    told = (await described(door)).told
    OpenAPIV31SpecValidator(told).validate()
    examples = told["components"]["schemas"]["ChatRequest"]["properties"]["model"]["examples"]
    models = (await door.get("/api/v1/models?all=true")).json()["data"]
    assert examples == [model["id"] for model in models]
    assert MODEL in examples


def test_every_method_of_every_route_is_described_in_words() -> None:
    told = document(ROUTES, [])
    listed = {
        (method, path.removeprefix("/"))
        for path, item in told["paths"].items()
        for method in item
        if method != "servers"
    }
    assert listed == {(method, path.removeprefix("/")) for method, path in OPERATIONS}
    ids = []
    for item in told["paths"].values():
        for method, operation in item.items():
            if method != "servers":
                assert operation["summary"].endswith((".", ":"))
                ids.append(operation["operationId"])
    assert len(ids) == len(set(ids))


def test_every_error_code_is_listed_with_its_cause() -> None:
    rows = error_rows()
    assert {row.code for row in rows if row.code} == guards.error_codes(guards.product())
    assert all(row.cause and 400 <= row.status < 600 for row in rows)


def test_every_cause_is_of_one_code() -> None:
    causes = [row.cause for row in error_rows()]
    assert len(set(causes)) == len(causes)


PASSING = {
    "request_timeout", "conflict", "rate_limit_exceeded", None, "upstream_error",
    "upstream_unavailable", "upstream_disconnected", "upstream_overloaded", "server_is_overloaded",
    "server_is_draining", "store_unavailable", "limits_unavailable", "node_unavailable",
    "upstream_connect_timeout",
    "upstream_timeout", "upstream_gap_timeout", "upstream_total_timeout",
}  # fmt: skip
"""Codes of errors that a later try of the same request may not meet. None: a bug (500)."""


def test_every_other_code_says_that_a_retry_is_of_no_use() -> None:
    rows = error_rows()
    assert {row.code for row in rows if not row.permanent} == PASSING
    assert all(row.permanent for row in rows if row.status in (400, 401, 403, 404, 405, 410))


async def test_answers_about_keys_are_as_described(door: Door) -> None:
    told = await described(door)
    full = {
        "name": "full",
        "models": ["zai/glm-4.5"],
        "expires_at": 4_000_000_000,
        "limits": {"tokens_per_minute": 9, "concurrent_requests": 2, "budget_microusd": 7},
    }
    made = await told.call(door, "post", "/keys", 201, json=full)
    await told.call(door, "get", "/keys/{id}", id=made["id"])
    await told.call(door, "patch", "/keys/{id}", id=made["id"], json={"name": "new"})
    await told.call(door, "get", "/keys")
    await told.call(door, "get", "/key", key=made["key"])
    await told.call(door, "get", "/key")
    rotated = await told.call(door, "post", "/keys/{id}/rotate", id=made["id"], json={})
    await told.call(door, "post", "/keys", 400, json={"name": ""})
    await told.call(door, "get", "/keys", 403, key=rotated["key"])
    await told.call(door, "delete", "/keys/{id}", id=made["id"])
    await told.call(door, "patch", "/keys/{id}", 409, id=made["id"], json={"name": "x"})
    await told.call(door, "get", "/keys/{id}", 404, id="key_none")
    await told.call(door, "get", "/key", 401, key="wrong")


async def test_answers_about_invitations_are_as_described(door: Door) -> None:
    told = await described(door)
    key = await door.mint_key()
    made = await told.call(door, "post", "/invitations", 201, json={"key_id": key["id"]})
    await told.call(door, "get", "/invitations")
    await told.call(door, "get", "/invitations/{id}", id=made["id"])
    await told.call(door, "delete", "/invitations/{id}", id=made["id"])
    await told.call(door, "get", "/invitations/{id}", 404, id="inv_none")


async def test_answers_about_models_and_health_are_as_described(door: Door) -> None:
    told = await described(door)
    await told.call(door, "get", "/models")
    await told.call(door, "get", "/models/{model}", model=MODEL)
    await told.call(door, "get", "/models/{model}", 404, model="no/such")
    await told.call(door, "get", "/healthz")
    await told.call(door, "get", "/readyz")
    door.gateway.services.engine.leaving = True
    await told.call(door, "get", "/readyz", 503)


async def test_completions_and_what_was_used_are_as_described(
    upstream: FakeUpstream, door: Door
) -> None:
    told = await described(door)
    await told.call(door, "post", "/chat/completions", json=request_body())
    for event in parse_events(await door.stream_text())[:-1]:
        told.check("post", "/chat/completions", 200, event, "text/event-stream")
    upstream.plan(refusal(500))
    await told.call(door, "post", "/chat/completions", 502, json=request_body())
    await told.call(door, "post", "/chat/completions", 400, json={})
    await door.usage_rows(3)
    page = await told.call(door, "get", "/requests")
    await told.call(door, "get", "/requests/{id}", id=page["data"][0]["id"])
    for query in ("", "?group_by=day", "?group_by=key,model"):
        assert (await told.call(door, "get", f"/usage{query}"))["data"]


async def test_answers_about_jobs_are_as_described(upstream: FakeUpstream, door: Door) -> None:
    told = await described(door)
    upstream.plan(held_after(2)[0])
    async with ask(door) as reading:
        await reading.read(2)
        running = await told.call(door, "get", "/jobs/{id}", id=reading.id)
        assert running["ending"] is None
        await told.call(door, "get", "/live")
        await told.call(door, "get", "/jobs/{id}/stream?after=99", 400, id=reading.id)
        stopped = await stop(door, reading.id)
    told.check("delete", "/jobs/{id}", 200, stopped)
    assert stopped["ending"] == "cancelled"
    visitor = (await door.client.get("/api/v1/key", headers=guest(door))).json()
    told.check("get", "/key", 200, visitor)


@pytest.mark.parametrize(
    "body",
    [{"temperature": "3"}, {"max_tokens": 2**31}, {"messages": []}, {"n": 0}, {"model": 7}],
)
async def test_what_the_document_forbids_is_refused(door: Door, body: dict[str, Any]) -> None:
    schemas = (await described(door)).told["components"]["schemas"]
    schema = {"$ref": "#/components/schemas/ChatRequest", "components": {"schemas": schemas}}
    validator = jsonschema.Draft202012Validator(schema)
    good: dict[str, Any] = request_body()
    assert validator.is_valid(good)
    assert not validator.is_valid(good | body)
    assert (await door.chat(**body)).status_code == 400
