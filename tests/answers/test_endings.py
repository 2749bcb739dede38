"""How answers end: never a clean end for a cut one, and each clock by its own name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from support.builders.jobs import make_job
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    chunk,
    completion,
    event,
    events_of,
    refusal,
    refusing_url,
    silence,
    stream_of,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, front_door, parse_events, text_of
from support.schemas import validate_error
from support.waiting import PATIENCE_S, in_idle_time, soon
from tornado.httputil import HTTPConnection

from server.answers.reply import HEARTBEAT, StreamReply

LARGE_PAGE = b"<html>" + b"x" * 100_000
FAST = "[stream]\nfirst_content_timeout_s = 0.3\ngap_timeout_s = 0.3\nheartbeat_s = 0.05\n"


def last_error(text: str) -> dict[str, Any]:
    events = parse_events(text)
    assert "[DONE]" not in events
    validate_error(events[-1])
    error: dict[str, Any] = events[-1]["error"]
    return error


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_cut_stream_ends_with_an_error_event_and_no_done(
    upstream: FakeUpstream, door: Door, end: Any
) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end=end))
    text = await door.stream_text()
    assert text_of(parse_events(text)) == "partial"
    assert last_error(text)["code"] == "upstream_disconnected"
    (row,) = await door.usage_rows()
    assert row.status == "cut" and row.estimated and row.completion_tokens == 2


async def test_a_stream_without_finish_reason_is_cut_unless_it_has_an_end_mark(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False)))
    assert last_error(await door.stream_text())["code"] == "upstream_disconnected"
    upstream.plan(streaming(events_of(["partial"], finish=None, done=True)))
    *_, last, end = parse_events(await door.stream_text())
    assert end == "[DONE]"
    assert [choice["finish_reason"] for choice in last["choices"]] == ["stop"]


async def test_a_missing_done_after_the_finish_reason_is_fine(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(stream_of(["all"], done=False))
    assert parse_events(await door.stream_text())[-1] == "[DONE]"


async def test_the_openai_client_raises_on_a_cut_stream(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end="cut"))
    async with openai.AsyncOpenAI(base_url=f"{door.url}/api/v1", api_key=OWNER) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True
        )
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "upstream_disconnected"


async def test_a_cut_whole_answer_is_a_502(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(completion(end="cut"))
    answer = await door.chat()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_disconnected"
    (row,) = await door.usage_rows()
    assert row.status == "failed" and row.cost_microusd == 0


@pytest.mark.gateway(settings=FAST.replace("heartbeat_s = 0.05", "heartbeat_s = 10"))
async def test_no_content_in_time_is_a_504(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(silence())
    async with door.stream() as response:
        body = await response.aread()
    assert response.status_code == 504, body
    assert response.json()["error"]["code"] == "upstream_timeout"
    assert (await upstream.request()).left is not None
    await soon((await upstream.request()).left.wait())
    answer = await door.chat()
    assert answer.status_code == 504


@pytest.mark.gateway(settings=FAST)
async def test_comments_of_the_upstream_are_no_content(upstream: FakeUpstream, door: Door) -> None:
    async def never() -> None: ...

    hold = asyncio.Event()
    upstream.plan(streaming([b": OPENROUTER PROCESSING\n\n", Pause(hold)]))
    text = await door.stream_text()
    assert last_error(text)["code"] == "upstream_timeout"
    assert "OPENROUTER" not in text


@pytest.mark.gateway(settings="[stream]\nheartbeat_s = 0.05\n")
async def test_heartbeats_come_before_the_first_token_and_between(
    upstream: FakeUpstream, door: Door
) -> None:
    start, go_on = asyncio.Event(), asyncio.Event()
    pieces = events_of(["one", "two"])
    upstream.plan(streaming([Pause(start), *pieces[:2], Pause(go_on), *pieces[2:]]))
    async with door.stream() as response:
        seen = ""
        async for part in response.aiter_text():
            seen += part
            if seen.count(": hb\n\n") >= 2:
                start.set()
            if "one" in seen and seen.rpartition("one")[2].count(": hb\n\n") >= 2:
                go_on.set()
    assert text_of(parse_events(seen)) == "onetwo"
    assert seen.endswith("data: [DONE]\n\n")


class Written(HTTPConnection):
    """A client's connection that keeps when it was written to; while `full` it takes no more."""

    def __init__(self) -> None:
        self.full: asyncio.Future[None] | None = None
        self.writes: list[tuple[float, bytes]] = []

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Keep what is written, with the time."""
        loop = asyncio.get_running_loop()
        self.writes.append((round(loop.time(), 3), chunk))
        if self.full is not None:
            return self.full
        taken: asyncio.Future[None] = loop.create_future()
        taken.set_result(None)
        return taken


@in_idle_time
async def test_heartbeats_fill_every_pause_but_those_of_a_client_that_does_not_read() -> None:
    written = Written()
    reply = StreamReply(
        written,
        make_job(),
        lambda: b"",
        lambda _error: None,
        chunked=False,
        heartbeat_s=10.0,
        updates=False,
    )
    await asyncio.sleep(24)
    reply.write(b"one")
    await asyncio.sleep(12)
    written.full = asyncio.get_running_loop().create_future()
    assert not reply.write(b"two")
    await asyncio.sleep(100)
    assert reply._timer.when() > asyncio.get_running_loop().time() + 1, "it does not poll"
    full, written.full = written.full, None
    full.set_result(None)
    taken_at = asyncio.get_running_loop().time()
    reply.write(b"three")
    await asyncio.sleep(25)
    reply.end(None)
    beats = [at for at, data in written.writes if data.endswith(HEARTBEAT)]
    assert beats[:3] == [10, 20, 34]
    assert [at - taken_at for at in beats[3:]] == [10, 20]
    assert reply.done.done()


@pytest.mark.gateway(settings=FAST.replace("first_content_timeout_s = 0.3", ""))
async def test_silence_in_the_middle_ends_with_the_gap_clock(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end="hang"))
    error = last_error(await door.stream_text())
    assert (error["code"], error["type"]) == ("upstream_gap_timeout", "timeout")
    (row,) = await door.usage_rows()
    assert row.status == "timed_out"


@pytest.mark.gateway(settings="[stream]\ngap_timeout_s = 0.2\ntools_gap_timeout_s = 0.4\n")
async def test_the_settings_say_how_long_a_gap_may_be_with_tools_and_without(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end="hang"))
    for tools, length in ((TOOLS, "0.4 s"), ([], "0.2 s")):
        error = last_error(await door.stream_text(tools=tools))
        assert (error["code"], length in error["message"]) == ("upstream_gap_timeout", True)


TOOLS = [{"type": "function", "function": {"name": "f"}}]
CLOCKS = {
    "first_content_timeout_s": ([], "upstream_timeout"),
    "gap_timeout_s": (events_of(["Hi"], finish=None, done=False), "upstream_gap_timeout"),
    "total_timeout_s": (events_of(["Hi"], finish=None, done=False), "upstream_total_timeout"),
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("own", [False, True])
async def test_each_clock_is_set_for_all_models_or_for_one(
    tmp_path: Path, upstream: FakeUpstream, clock: str, own: bool
) -> None:
    pieces, code = CLOCKS[clock]
    upstream.plan(streaming(pieces, end="hang"))
    line = f"{clock} = 0.2"
    prices, settings = (line, "") if own else ("", f"[stream]\n{line}")
    async with (
        front_door(tmp_path, upstream, prices=prices, settings=settings) as door,
        door.stream(tools=TOOLS if own else []) as answer,
    ):
        assert code in (await answer.aread()).decode()


@pytest.mark.gateway(settings="[stream]\ngap_timeout_s = 0.3\n")
@pytest.mark.parametrize("end", ["comments", "silence", "reset"])
async def test_a_finished_answer_ends_well_whatever_its_upstream_does_then(
    upstream: FakeUpstream, door: Door, end: str
) -> None:
    def comments() -> Any:
        yield from events_of(["all"], done=False)
        while True:
            yield b": still here\n\n"

    if end == "comments":
        upstream.plan(streaming(comments(), gap_s=0.05))
    else:
        last: Any = "hang" if end == "silence" else "reset"
        upstream.plan(streaming(events_of(["all"], done=False), end=last))
    text = await door.stream_text()
    assert (text_of(parse_events(text)), parse_events(text)[-1]) == ("all", "[DONE]")
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("finished", True)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (refusal(429, headers={"retry-after": "7"}), 429),
        (refusal(500), 502),
        (refusal(503), 503),
        (refusal(408), 504),
        (refusal(504), 504),
        (refusal(401), 502),
        (Answer(raw=True, end="cut"), 502),
        (streaming(events_of([], finish=None, done=False), end="cut"), 502),
        (streaming([event({"error": {"message": "boom", "code": 500}})]), 502),
    ],
)
async def test_before_the_first_content_the_next_deployment_is_tried(
    tmp_path: Path, first: Answer, status: int
) -> None:
    async with FakeUpstream() as one, FakeUpstream() as two, front_door(tmp_path, one, two) as door:
        one.plan(first)
        two.plan(stream_of(["from two"]))
        text = await door.stream_text()
        assert text_of(parse_events(text)) == "from two"
        two.plan(first)
        async with door.stream() as response:
            body = await response.aread()
        assert response.status_code == status, body
        if status == 429:
            assert response.headers["retry-after"] == "7"
        elif status == 504:
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("timeout", "upstream_timeout")
        else:
            assert "boom" not in body.decode() and "scripted" not in body.decode()


IMPATIENT = "[queue]\nmax_wait_s = 0.1\n"
SHORT_WAIT = {"retry-after": "0.2"}


@pytest.mark.gateway(settings=IMPATIENT)
@pytest.mark.parametrize(
    ("first", "status", "code"),
    [
        (refusal(429, LARGE_PAGE, SHORT_WAIT), 429, "rate_limit_exceeded"),
        (refusal(400, LARGE_PAGE), 400, None),
        (refusal(401, LARGE_PAGE), 502, "upstream_unavailable"),
        (refusal(503, LARGE_PAGE, SHORT_WAIT), 503, "upstream_overloaded"),
        (refusal(429, b"slow", SHORT_WAIT, end="cut"), 429, "rate_limit_exceeded"),
        (refusal(400, b"no", end="reset"), 400, None),
    ],
)
async def test_a_refusal_with_a_page_that_is_large_or_cut_keeps_its_status_and_its_wait(
    upstream: FakeUpstream, door: Door, first: Answer, status: int, code: str | None
) -> None:
    upstream.plan(first, completion())
    answer = await door.chat()
    error = answer.json()["error"]
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if "retry-after" in first.headers else None)
    assert "x" * 100 not in answer.text
    assert code is None or error["code"] == code
    if first.status == 401:
        return  # this deployment is not used again for some minutes
    # The rest of the page must not be read as the answer to the next request.
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await door.chat()).status_code in (429, 503):
            await asyncio.sleep(0.05)  # the deployment cools for 0.2 s
    assert answer.status_code == 200
    assert len(upstream.requests) == 2


async def test_a_deployment_nobody_listens_on_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="roxy.workers")
    with refusing_url() as nobody:
        async with FakeUpstream() as two, front_door(tmp_path, nobody, two) as door:
            assert (await door.chat()).status_code == 200
        async with front_door(tmp_path, nobody) as door:
            answer = await door.chat()
            assert answer.status_code == 502
            assert answer.json()["error"]["code"] == "upstream_unavailable"
            assert "127.0.0.1" not in answer.text
            assert "Connection refused" in caplog.text or "Errno 111" in caplog.text
            assert "is unavailable: " in caplog.text and "Try again" not in caplog.text


async def test_after_the_first_content_nothing_is_retried(tmp_path: Path) -> None:
    async with FakeUpstream() as one, FakeUpstream() as two, front_door(tmp_path, one, two) as door:
        one.plan(streaming(events_of(["partial"], finish=None, done=False), end="cut"))
        assert last_error(await door.stream_text())["code"] == "upstream_disconnected"
        assert two.requests == []


async def test_the_upstreams_own_4xx_about_the_request_passes_on_in_its_words(
    tmp_path: Path,
) -> None:
    words = {
        "error": {
            "message": "max_tokens is too large",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "bad_max",
        }
    }
    async with FakeUpstream() as one, FakeUpstream() as two, front_door(tmp_path, one, two) as door:
        for status in (400, 413, 422):
            one.plan(refusal(status, words))
            answer = await door.chat()
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["message"] == "max_tokens is too large"
            assert (error["param"], error["code"]) == ("max_tokens", "bad_max")
        assert two.requests == []


async def test_an_error_inside_a_running_stream_becomes_one_error_event(tmp_path: Path) -> None:
    for inband in (
        {"error": {"message": "secret host 10.1.2.3", "code": 500}},
        {"object": "error", "message": "x", "code": 500},
    ):
        async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
            upstream.plan(
                streaming(
                    [event(chunk({"content": "a"})), event(inband), event("[DONE]")], gap_s=0.05
                )
            )
            text = await door.stream_text()
            assert last_error(text)["type"] == "upstream_error"
            assert "10.1.2.3" not in text


@pytest.mark.parametrize(
    "answer",
    [
        streaming([b"data: {not json}\n\n"]),
        streaming([b"data: \xff\xfe\n\n"]),
        Answer(headers={"content-type": "text/html"}, pieces=[b"<html>"]),
        Answer(status=302, headers={"location": "http://127.0.0.1:1/"}),
        Answer(
            headers={"content-type": "text/event-stream", "content-encoding": "gzip"},
            pieces=[b"\x1f\x8b"],
        ),
        Answer(raw=True, pieces=[b"SSH-2.0-OpenSSH\r\n"]),
    ],
)
async def test_what_is_no_answer_is_a_502(
    upstream: FakeUpstream, door: Door, answer: Answer
) -> None:
    upstream.plan(answer)
    async with door.stream() as response:
        await response.aread()
    assert response.status_code == 502, response.text
    assert response.json()["error"]["type"] == "upstream_error"


@pytest.mark.gateway(settings="[stream]\nmax_event_bytes = 1048576\n")
async def test_an_endless_line_ends_in_an_error_event_not_in_memory(
    upstream: FakeUpstream, door: Door
) -> None:
    def endless() -> Any:
        yield event(chunk({"content": "a"}))
        yield b"data: "
        while True:
            yield b"x" * 65536

    upstream.plan(streaming(endless()))
    assert last_error(await door.stream_text())["type"] == "upstream_error"
    seen = await upstream.request()
    await soon(seen.left.wait())
    assert seen.sent_bytes < 16 * 1024 * 1024
