"""The gateway as a process: it starts, says where it is, drains at a signal and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.fakes.upstream import FakeUpstream, Pause, chunk, completion, event, silence, streaming
from support.front_door import MODEL, OWNER, parse_events, text_of
from support.processes import Roxy, serving
from support.schemas import validate_error
from support.waiting import PATIENCE_S

SHORT_DRAIN = "[server]\ndrain_timeout_s = 0.5\n"


def held_stream(hold: asyncio.Event) -> Any:
    return streaming(
        [
            event(chunk({"content": "first "})),
            Pause(hold),
            event(chunk({"content": "last"})),
            event(chunk(finish="stop")),
            event("[DONE]"),
        ]
    )


async def draining(roxy: Roxy) -> httpx.Response:
    """Wait until readiness is off."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await roxy.door.client.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.01)
    return answer


async def test_it_starts_says_where_it_is_and_answers_health_checks(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        assert roxy.served == "1 of 5"
        for path in ("/healthz", "/readyz"):
            answer = await roxy.door.client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert (await roxy.door.chat()).status_code == 200
        assert str(tmp_path / "data") in roxy.err


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ('host = "0.0.0.0"', True),
        ('host = "0.0.0.0"\nbase_url = "https://roxy.test"', False),
        ('host = "127.0.0.2"', False),
        ('host = "localhost"', False),
    ],
)
async def test_who_listens_for_others_without_tls_is_warned(
    tmp_path: Path, settings: str, warned: bool
) -> None:
    async with serving(tmp_path, settings=f"[server]\n{settings}\n") as roxy:
        assert ("keys are sent unencrypted" in roxy.err) is warned


async def test_idle_connections_of_strangers_leave_files_for_those_who_ask(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, open_files=200) as roxy:
        assert "at most 68 client connections: the system allows 200 open files" in roxy.err
        assert (await roxy.door.chat()).status_code == 200
        strangers = [await asyncio.open_connection("127.0.0.1", roxy.door.port) for _ in range(300)]
        try:
            assert (await roxy.door.chat()).status_code == 200
            assert (await roxy.door.mint()).startswith("roxy_")
        finally:
            for _, writer in strangers:
                writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_with_exit_code_zero(tmp_path: Path, number: int) -> None:
    async with serving(tmp_path) as roxy:
        await roxy.door.client.get("/healthz")  # leaves an idle kept-alive connection
        roxy.signal(number)
        assert await roxy.ended() == 0


async def test_running_answers_finish_whole_and_new_work_is_refused_before_it_ends(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()

    def answer(request: Any) -> Any:
        if request.json.get("stream"):
            return held_stream(hold)
        whole = completion()
        return replace(whole, framing="chunked", pieces=[Pause(hold), *whole.pieces])

    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        door = roxy.door
        upstream.plan(answer)
        streams = [asyncio.create_task(door.stream_text(f"{n}")) for n in range(8)]
        wholes = [asyncio.create_task(door.chat(f"{n}")) for n in range(8)]
        await upstream.request(15)
        roxy.signal(signal.SIGTERM)
        answer_of_readyz = await draining(roxy)
        assert answer_of_readyz.json()["reasons"] == ["draining"]
        assert (await door.client.get("/healthz")).status_code == 200
        for refused in (await door.chat(), await door.chat(stream=True)):
            assert refused.status_code == 503
            validate_error(refused.json())
            assert refused.json()["error"]["code"] == "server_is_draining"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["connection"] == "close"
        hold.set()
        for text in await asyncio.gather(*streams):
            events = parse_events(text)
            assert text_of(events) == "first last" and events[-1] == "[DONE]"
        for whole in await asyncio.gather(*wholes):
            assert whole.status_code == 200 and whole.json()["model"] == MODEL
        assert await roxy.ended() == 0
    with sqlite3.connect(tmp_path / "data" / "roxy.db") as db:
        sums = db.execute("SELECT sum(requests), sum(failed) FROM usage_daily").fetchone()
        assert sums == (16 + 2, 2)
    db.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_the_last_answer_is_not_cut_by_the_end_of_the_process(
    tmp_path: Path, stream: bool
) -> None:
    """One answer alone: nothing else keeps the process busy when it has ended."""
    hold = asyncio.Event()
    whole = completion()
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        upstream.plan(
            held_stream(hold)
            if stream
            else replace(whole, framing="chunked", pieces=[Pause(hold), *whole.pieces])
        )
        asked = asyncio.create_task(roxy.door.chat(stream=stream))
        await upstream.request()
        roxy.signal(signal.SIGTERM)
        await draining(roxy)
        hold.set()
        answer = await asked
        assert answer.status_code == 200
        assert answer.text.endswith("data: [DONE]\n\n") if stream else answer.json()["choices"]
        assert await roxy.ended() == 0


async def test_a_slow_reader_gets_the_last_byte_before_it_ends(tmp_path: Path) -> None:
    pieces = [event(chunk({"content": f"{n:06d}" + "x" * 8000})) for n in range(1000)]
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        upstream.plan(streaming([*pieces, event(chunk(finish="stop")), event("[DONE]")]))
        async with roxy.door.stream() as response:
            roxy.signal(signal.SIGTERM)
            await draining(roxy)
            received = bytearray()
            async for part in response.aiter_bytes():
                received += part
                await asyncio.sleep(0.01)  # reading slowly is the point of this test
        assert received.count(b'"content":"') == 1000
        assert received.endswith(b"data: [DONE]\n\n")
        assert await roxy.ended() == 0


async def test_answers_that_outlast_the_drain_end_with_an_error_event(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, upstream, settings=SHORT_DRAIN) as roxy,
    ):
        upstream.plan(held_stream(hold), silence())
        async with roxy.door.stream() as response:
            text = response.aiter_text()
            received = await anext(text)
            waiting = asyncio.create_task(roxy.door.chat())
            await upstream.request(1)
            roxy.signal(signal.SIGTERM)
            received += "".join([part async for part in text])
        last = parse_events(received)[-1]
        validate_error(last)
        assert last["error"]["code"] == "server_is_draining"
        assert "[DONE]" not in received
        refused = await waiting
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_is_draining"
        assert await roxy.ended() == 0


async def test_more_signals_change_nothing(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        upstream.plan(held_stream(hold))
        asked = asyncio.create_task(roxy.door.stream_text())
        await upstream.request()
        for _ in range(3):
            roxy.signal(signal.SIGTERM)
            roxy.signal(signal.SIGINT)
            await draining(roxy)
        hold.set()
        assert (await asked).endswith("data: [DONE]\n\n")
        ending = asyncio.create_task(roxy.ended())
        while not ending.done():
            with contextlib.suppress(ProcessLookupError):
                roxy.signal(signal.SIGTERM)  # also in the last moments, after the loop has ended
            await asyncio.wait([ending], timeout=0.002)
        assert await ending == 0


async def test_without_an_upstream_it_starts_and_says_what_would_help(tmp_path: Path) -> None:
    async with serving(tmp_path) as roxy:
        assert roxy.served == "0 of 4" and "no model can be served" in roxy.err
        assert (await roxy.door.client.get("/readyz")).status_code == 200
        answer = await roxy.door.chat(model="meta/llama-3.3-70b")
        assert answer.status_code == 503 and answer.headers["x-should-retry"] == "false"
        error = answer.json()["error"]
        assert error["code"] == "no_upstream_configured"
        for variable in ("GROQ_API_KEY", "OPENROUTER_API_KEY", "AI_GATEWAY_API_KEY"):
            assert variable in error["message"]


async def test_the_demo_streams_all_four_models_to_the_openai_client(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, options=("--demo",)) as roxy,
        openai.AsyncOpenAI(base_url=f"{roxy.door.url}/api/v1", api_key=OWNER) as client,
    ):
        assert roxy.served == "4 of 4" and "by a script, not by a language model" in roxy.err

        async def answer_of(model: str) -> str:
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=40,
            )
            chunks = [one async for one in stream]
            assert {one.model for one in chunks} == {model}
            assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 40
            return "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)

        models = [model.id async for model in client.models.list()]
        answers = await asyncio.gather(*map(answer_of, models))
        assert len(answers) == 4 and all("demo" in text.lower() for text in answers)
