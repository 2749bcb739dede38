"""An answer belongs to the server: readers may leave, come back and be several; Stop ends it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from support.fakes.upstream import (
    USAGE,
    Answer,
    FakeUpstream,
    Pause,
    completion,
    events_of,
    refusal,
    silence,
    streaming,
)
from support.front_door import OWNER, Door, bearer, front_door, parse_events, request_body, text_of
from support.kept import (
    HELD,
    KEEP,
    UPDATES,
    WORDS,
    Reading,
    ask,
    attach,
    code_of,
    ended,
    facts,
    held_after,
    replay,
    status_of_stream,
    stop,
)
from support.visitors import guest
from support.waiting import soon


async def test_a_reload_at_any_event_misses_nothing_and_doubles_nothing(
    upstream: FakeUpstream, door: Door
) -> None:
    whole: list[str] = []
    for cut in range(2, len(HELD) + 1):
        answer, gate = held_after(cut)
        upstream.plan(answer)
        async with ask(door) as first:
            seen = list(await first.read(cut))
        async with attach(door, first.id, cut) as second:
            gate.set()
            seen += await second.finish()
        assert seen[-1] == "data: [DONE]"
        assert text_of(parse_events("\n\n".join(seen))) == "".join(WORDS)
        whole = whole or seen
        assert seen == whole
        for after in range(len(seen) + 1):
            assert await replay(door, first.id, after) == seen[after:]
    rows = await door.usage_rows(len(HELD) - 1)
    assert {row.status for row in rows} == {"finished"}


async def test_two_readers_see_the_same_to_the_end(upstream: FakeUpstream, door: Door) -> None:
    answer, gate = held_after(3)
    upstream.plan(answer)
    async with ask(door) as first, attach(door, first.id) as second:
        assert await first.read(3) == await second.read(3)
        async with attach(door, first.id, 2) as third:
            gate.set()
            assert await first.finish() == await second.finish()
            assert await third.finish() == first.events[2:]
    assert len(upstream.requests) == 1


async def test_an_answer_without_readers_runs_to_its_end_and_tells_what_it_used(
    upstream: FakeUpstream, door: Door
) -> None:
    key = await door.mint()
    answer, gate = held_after(2)
    upstream.plan(answer)
    async with ask(door, bearer(key)) as reading:
        await reading.read(2)
    running = await facts(door, reading.id, key)
    assert (running["state"], running["kept"], running["last_event"]) == ("streaming", True, 2)
    assert running["ending"] is running["usage"] is running["duration_s"] is None
    gate.set()
    told = await ended(door, reading.id)
    (row,) = await door.usage_rows()
    assert told["ending"] == row.status == "finished"
    assert told["usage"] == {
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cached_tokens": row.cached_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "estimated": False,
    }
    assert told["usage"]["completion_tokens"] == USAGE["completion_tokens"]
    assert told["cost_microusd"] == row.cost_microusd == 25
    assert told["ttft_s"] == row.ttft_ms / 1000
    assert told["duration_s"] == row.duration_ms / 1000
    assert told["queued_s"] == row.queued_ms / 1000
    assert told["error"] is None
    events = await replay(door, reading.id, headers=bearer(key))
    assert (told["first_event"], told["last_event"]) == (1, len(events))


async def test_a_guest_is_not_shown_what_it_cost(upstream: FakeUpstream, door: Door) -> None:
    visitor = guest(door)
    upstream.plan(held_after(2)[0])
    async with ask(door, visitor) as reading:
        await reading.read(2)
        path = f"/api/v1/jobs/{reading.id}"
        stopped = (await door.client.delete(path, headers=visitor)).json()
        read = (await door.client.get(path, headers=visitor)).json()
        assert stopped["usage"] == read["usage"]
        assert stopped["cost_microusd"] is read["cost_microusd"] is None
        assert (await facts(door, reading.id))["cost_microusd"] > 0, "the owner sees it"


async def test_a_stop_while_streaming_keeps_the_text_so_far(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(held_after(3)[0])
    async with ask(door) as reading:
        await reading.read(3)
        stopped = await stop(door, reading.id)
        assert (stopped["state"], stopped["ending"]) == ("done", "cancelled")
        assert stopped["error"]["code"] == "stopped"
        events = await reading.finish()
    await soon((await upstream.request()).left.wait())
    assert code_of(events[-1]) == "stopped"
    assert text_of(parse_events("\n\n".join(events))) == "one two "
    assert await replay(door, reading.id) == events
    assert await replay(door, reading.id, 3) == events[3:]
    assert await replay(door, reading.id, 4) == []
    again = await stop(door, reading.id)
    assert again == await facts(door, reading.id)
    (row,) = await door.usage_rows()
    assert (row.status, row.http_status) == ("cancelled", 499)


@pytest.mark.gateway(max_concurrency=1)
async def test_a_stop_while_queued_never_reaches_the_upstream(
    upstream: FakeUpstream, door: Door
) -> None:
    answer, gate = held_after(2)
    upstream.plan(answer)
    async with ask(door) as first, ask(door, UPDATES) as second:
        await first.read(2)
        await second.read_comment("queued position=1 waiting=1")
        assert (await facts(door, second.id))["position"] == 1
        await stop(door, second.id)
        assert [code_of(one) for one in await second.finish()] == ["stopped"]
        gate.set()
        await first.finish()
    assert len(upstream.requests) == 1
    assert [code_of(one) for one in await replay(door, second.id)] == ["stopped"]


async def test_a_stop_while_connecting_ends_the_upstream_call(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(silence())
    headers = KEEP | bearer(OWNER) | {"X-Request-Id": "my-own-id-1"}
    asked = asyncio.create_task(
        door.client.post(
            "/api/v1/chat/completions", json=request_body(stream=True), headers=headers
        )
    )
    request = await upstream.request()
    assert (await stop(door, "my-own-id-1"))["state"] == "done"
    answer = await soon(asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (499, "stopped")
    await soon(request.left.wait())


async def test_a_request_that_is_not_kept_can_be_stopped_too(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(held_after(2)[0])
    async with door.stream() as response:
        reading = Reading(response)
        await reading.read(2)
        assert (await facts(door, reading.id))["kept"] is False
        assert (await stop(door, reading.id))["state"] == "done"
        assert code_of((await reading.finish())[-1]) == "stopped"
    assert (await door.get(f"/api/v1/jobs/{reading.id}/stream")).status_code == 404


@pytest.mark.gateway(settings="[answers]\nguest_grace_s = 0.3\n")
async def test_a_guests_answer_is_stopped_when_nobody_came_back_in_time(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(held_after(2)[0])
    visitor = guest(door)
    async with contextlib.AsyncExitStack() as stack:
        async with ask(door, visitor) as first:
            await first.read(2)
            second = await stack.enter_async_context(attach(door, first.id, 1, visitor))
        await second.read(1)
        await asyncio.sleep(0.6)  # longer than the grace, while the second reader is there
        assert not (await upstream.request()).left.is_set()
    await soon((await upstream.request()).left.wait())
    told = await ended(door, first.id)
    assert (told["ending"], told["error"]["code"]) == ("cancelled", "abandoned")
    assert code_of((await replay(door, first.id, headers=visitor))[-1]) == "abandoned"


async def test_others_do_not_see_that_there_is_a_job(upstream: FakeUpstream, door: Door) -> None:
    key, other = await door.mint(), await door.mint()
    visitor, stranger = guest(door), guest(door)
    cases = ((bearer(key), bearer(other)), (visitor, stranger), (visitor, bearer(key)))
    for own, foreign in cases:
        upstream.plan(held_after(2)[0])
        async with ask(door, own) as reading:
            await reading.read(2)
            for method, path in (("GET", ""), ("GET", "/stream"), ("DELETE", "")):
                answer = await door.client.request(
                    method, f"/api/v1/jobs/{reading.id}{path}", headers=foreign
                )
                assert answer.status_code == 404, (method, path)
            assert (await facts(door, reading.id))["state"] == "streaming", "the owner may look"
            refused = await status_of_stream(door, reading.id, bearer(OWNER), "")
            assert refused == (404, "not_found"), "but not read"
            await stop(door, reading.id)
    unknown = await status_of_stream(door, "req_unknown_one", bearer(OWNER), "")
    assert unknown == (404, "not_found")


@pytest.mark.parametrize("query", ["?after=-1", "?after=x", "?after=1e3", "?after=99", "?after=²"])
async def test_a_number_that_is_none_is_a_400(door: Door, query: str) -> None:
    async with ask(door) as reading:
        await reading.finish()
    refused = await status_of_stream(door, reading.id, bearer(OWNER), query)
    assert refused == (400, None)


async def test_a_failure_before_any_content_is_a_status_first_and_an_event_later(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(500))
    headers = KEEP | bearer(OWNER)
    answer = await door.client.post(
        "/api/v1/chat/completions", json=request_body(stream=True), headers=headers
    )
    assert answer.status_code == 502
    events = await replay(door, answer.headers["x-request-id"])
    assert [code_of(one) for one in events] == ["upstream_unavailable"]
    told = await facts(door, answer.headers["x-request-id"])
    assert (told["ending"], told["usage"], told["cost_microusd"]) == ("failed", None, 0)


async def test_a_cut_answer_ends_for_every_reader_with_the_same_error(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end="cut"))
    async with ask(door) as reading:
        events = await reading.finish()
    assert code_of(events[-1]) == "upstream_disconnected"
    assert await replay(door, reading.id) == events


async def test_an_answer_that_was_not_to_be_kept_cannot_be_read_again(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(held_after(2)[0])
    async with door.stream() as response:
        reading = Reading(response)
        await reading.read(2)
        refused = await status_of_stream(door, reading.id, bearer(OWNER), "")
        assert refused == (404, "not_found")
    await soon((await upstream.request()).left.wait())
    upstream.plan(completion())
    whole = await door.client.post(
        "/api/v1/chat/completions", json=request_body(), headers=KEEP | bearer(OWNER)
    )
    assert whole.status_code == 200
    assert len(door.gateway.services.answers) == 0, "only streams are kept"


async def test_a_revoked_key_ends_its_kept_answers(upstream: FakeUpstream, door: Door) -> None:
    made = await door.mint_key()
    upstream.plan(held_after(2)[0])
    async with ask(door, bearer(made["key"])) as reading:
        await reading.read(2)
    await door.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    assert (await ended(door, reading.id))["error"]["code"] == "invalid_api_key"
    refused = await status_of_stream(door, reading.id, bearer(made["key"]), "")
    assert refused == (401, "invalid_api_key")


@pytest.mark.gateway(max_concurrency=1)
async def test_comments_tell_the_states_in_words(upstream: FakeUpstream, door: Door) -> None:
    answer, gate = held_after(2)
    upstream.plan(answer, silence())
    async with ask(door) as first, ask(door, UPDATES) as second:
        await first.read(2)
        await second.read_comment("queued position=1 waiting=1 expected_wait_s=")
        async with attach(door, second.id, 0, UPDATES) as third:
            await third.read_comment("queued position=1 waiting=1 expected_wait_s=")
            gate.set()
            await second.read_comment("connecting")
            await third.read_comment("connecting")
        await stop(door, second.id)


async def test_a_retry_at_another_deployment_is_told(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with (
        FakeUpstream() as failing,
        FakeUpstream() as working,
        front_door(tmp_path, failing, working) as door,
    ):
        failing.plan(refusal(500))
        working.plan(streaming([Pause(hold), *events_of(["late"])]))
        async with ask(door, UPDATES) as reading:
            await reading.read_comment("retrying")
            hold.set()
            events = await reading.finish()
        assert text_of(parse_events("\n\n".join(events))) == "late"
        assert not any("127.0.0.1" in comment for comment in reading.comments)


async def test_a_wait_that_would_cure_is_told_before_a_late_error(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(lambda _request: refusal_after(hold))
    async with ask(door, UPDATES | {"X-Roxy-Max-Wait": "10"}) as reading:
        await reading.read_comment("connecting")
        hold.set()
        events = await reading.finish()
    assert [code_of(one) for one in events] == ["rate_limit_exceeded"]
    # What is left of the wait, on a slow machine less than all of it.
    assert any(one.startswith(": retry_after_s=1") for one in reading.comments)


def refusal_after(event: asyncio.Event) -> Answer:
    """Plan a 429 whose head comes late."""
    head = b"HTTP/1.1 429 Scripted\r\nRetry-After: 17\r\nContent-Length: 2\r\n\r\n{}"
    return Answer(pieces=(Pause(event), head), raw=True)
