"""Variations of what upstreams get wrong, which no list names, come out as OpenAI's schema says."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from msgspec.structs import replace
from support.answers_read import ReadAnswer, read_chunks, read_whole
from support.fakes.openai_wire import (
    DEPLOYMENT,
    DONE,
    MODEL,
    ROLE,
    STOP,
    TEXT,
    USAGE,
    chunk,
    compact,
    event,
    ours,
    translator,
)

from workers.catalog.quirks import Quirks
from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamRejected
from workers.providers.openai.mending.finish_reasons import FAILED, translated
from workers.providers.openai.mending.usage_places import is_blocked, stated_cost_microusd
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.request.chat_request import parse_chat
from workers.request.token_usage import Usage


def chunks(*events: bytes, **fields: Any) -> list[dict[str, Any]]:
    """Return the chunks that a client gets of a stream, and check its end."""
    one = translator(**fields)
    out = one.feed(b"".join(events))
    out += b"" if one.done else one.finish()
    payloads = [each.removeprefix(b"data: ") for each in out[:-2].split(b"\n\n")]
    assert payloads.pop() == b"[DONE]"
    return [json.loads(payload) for payload in payloads]


def whole(message: Any, finish: Any = "stop", *, fields: Any = None, **more: Any) -> Any:
    """Return the whole answer that a client gets."""
    choice = {"message": message, "finish_reason": finish}
    told = {"id": "c1", "object": "chat.completion", "created": 7, "model": "m"} | more
    body = compact(told | {"choices": [choice]})
    return json.loads(translator(stream=False, **(fields or {})).whole(body))


@pytest.mark.parametrize(
    ("meaning", "reasons"),
    [
        ("stop", "end_turn eos STOP stop_sequence eos_token COMPLETE FINISH_REASON_STOP endTurn"),
        ("length", "max_tokens MAX_TOKENS model_length max-output-tokens maxTokens token_limit"),
        ("length", "model_context_window_exceeded length_limit truncated"),
        ("tool_calls", "tool_use tool-calls TOOL_CALL toolUse tools"),
        ("content_filter", "SAFETY refusal sensitive guardrail_intervened RECITATION ERROR_TOXIC"),
        ("content_filter", "content_filtered PROHIBITED_CONTENT BLOCKLIST moderation"),
        (
            FAILED,
            "error network_error abort aborted cancelled insufficient_system_resource timeout",
        ),
        (FAILED, "MALFORMED_FUNCTION_CALL engine_failure overloaded server_error"),
        ("", " null NULL none FINISH_REASON_UNSPECIFIED"),
        ("function_call", "function_call functionCall FUNCTION-CALL"),
    ],
)
def test_a_reason_is_read_by_its_words(meaning: str, reasons: str) -> None:
    for reason in reasons.split(" "):
        assert translated(reason) == meaning, reason


@pytest.mark.parametrize("reason", ["moonrise", 5, ["stop"], {"a": 1}, True])
def test_an_unknown_reason_is_stop_and_a_line_in_the_log(
    reason: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert translated(reason) is None
    with caplog.at_level(logging.WARNING, "roxy.workers"):
        got = chunks(ROLE, TEXT, chunk({}, reason), DONE)
        assert got[-1]["choices"][0]["finish_reason"] == "stop"
        assert whole({"content": "x"}, reason)["choices"][0]["finish_reason"] == "stop"
    assert [DEPLOYMENT.id in record.getMessage() for record in caplog.records] == [True, True]


def test_a_missing_reason_is_added_once_for_each_choice_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def of(index: int, finish: str | None = None) -> bytes:
        told = json.loads(chunk({"role": "assistant", "content": "x"}, finish)[6:])
        told["choices"][0]["index"] = index
        return event(told)

    with caplog.at_level(logging.WARNING, "roxy.workers"):
        got = chunks(of(0), of(2), of(1, "length"), DONE, n=3)
    reasons = [
        (choice["index"], choice["finish_reason"])
        for each in got
        for choice in each["choices"]
        if choice["finish_reason"]
    ]
    assert reasons == [(1, "length"), (0, "stop"), (2, "stop")]
    assert len(caplog.records) == 2


CALL = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FORCED = {"type": "function", "function": {"name": "f"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}


@pytest.mark.parametrize(
    ("text", "sent", "fields", "told"),
    [
        ({"tool_calls": [CALL]}, "stop", {}, "tool_calls"),
        ({"tool_calls": [CALL]}, "end_turn", {"tool_choice": "required"}, "tool_calls"),
        ({"tool_calls": [CALL]}, "function_call", {}, "tool_calls"),
        ({"tool_calls": [CALL]}, "stop", {"tool_choice": ALLOWED}, "tool_calls"),
        ({"tool_calls": [CALL]}, "stop", {"tool_choice": FORCED}, "stop"),
        ({"tool_calls": [CALL]}, "tool_calls", {"tool_choice": FORCED}, "tool_calls"),
        ({"tool_calls": [CALL]}, "length", {}, "length"),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "stop", {}, "function_call"),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "tool_calls", {}, "function_call"),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "stop",
         {"function_call": {"name": "f"}}, "stop"),
        ({"content": "x"}, "stop", {}, "stop"),
        ({"content": "x", "tool_calls": []}, "stop", {}, "stop"),
    ],
)  # fmt: skip
def test_the_reason_fits_what_was_generated(
    text: dict[str, Any], sent: str, fields: dict[str, Any], told: str
) -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]} if fields else {}
    if "function_call" in fields:
        tools = {"functions": [{"name": "f"}]}
    for events in ([chunk(text), chunk({}, sent)], [chunk(text, sent)]):
        got = chunks(ROLE, *events, DONE, **tools, **fields)
        assert got[-1]["choices"][0]["finish_reason"] == told
    message = {"role": "assistant", **text}
    assert whole(message, sent, fields=tools | fields)["choices"][0]["finish_reason"] == told


def call(arguments: Any = ..., name: Any = ..., **members: Any) -> dict[str, Any]:
    """Write a fragment of a call; `...`: left out."""
    function = {"name": name, "arguments": arguments}
    return members | {"function": {key: each for key, each in function.items() if each is not ...}}


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        # By id, whatever the index says
        ([[call("{", "f", id="x")], [call("}", id="x")]], [("f", "{}")]),
        ([[call("{", "f", id="x")], [call("{", "g", id="y")], [call("}", id="x")],
          [call("}", id="y")]], [("f", "{}"), ("g", "{}")]),
        ([[call("{", "f", index=0, id="x")], [call("}", index=1, id="x")]], [("f", "{}")]),
        ([[call("{}", "f", index=0, id="x")], [call("{}", "f", index=0, id="y")]],
         [("f", "{}"), ("f", "{}")]),
        # A fragment without id belongs to the last call
        ([[call("{", "f", id="x")], [call("}")]], [("f", "{}")]),
        ([[call("{}", "f", id="x")], [call("{", "g", id="y")], [call("}", id=None)]],
         [("f", "{}"), ("g", "{}")]),
        ([[call("{", "f", index=0, id="x")], [call("}", index=None)]], [("f", "{}")]),
        # A new id for every fragment
        ([[call("{", "f", index=0, id="a")], [call("}", None, index=0, id="b")]], [("f", "{}")]),
        # Neither id nor index
        ([[call("{}", "f"), call("{}", "g")]], [("f", "{}"), ("g", "{}")]),
        ([[call("{}", "f")], [call("{}", "f")]], [("f", "{}"), ("f", "{}")]),
        ([[call("{", "f")], [call("}", "f")]], [("f", "{}")]),
        # Indexes that do not begin with 0, or have gaps
        ([[call("{", "f", index=1, id="x")], [call("}", index=1)]], [("f", "{}")]),
        ([[call("{}", "f", index=0, id="x")], [call("{", "g", index=5, id="y")],
          [call("}", index=5)]], [("f", "{}"), ("g", "{}")]),
        # Repeated and empty members
        ([[call("{", "f", index=0, id="x", type="function")],
          [call("}", "f", index=0, id="x", type="function")]], [("f", "{}")]),
        ([[call("", "f", index=0, id="x", type=None)], [call("{}", "", index=0, id="", type="")]],
         [("f", "{}")]),
        ([[call(None, "f", index=0, id="x", type="function")], [call("{}", index=0)]],
         [("f", "{}")]),
        ([[call("{", "f", index=0, id="x", type="function")], [call(None, index=0)],
          [call("}", index=0)]], [("f", "{}")]),
        # The same id for two calls
        ([[call("{}", "f", index=0, id="c", type="function")],
          [call("{}", "g", index=1, id="c", type="function")]], [("f", "{}"), ("g", "{}")]),
        ([[call("{}", "f", index=0, id="c")], [call("{}", "g", index=1, id="c")]],
         [("f", "{}"), ("g", "{}")]),
        # Arguments that are no text, members beside the function, one call in place of a list
        ([[call({"a": [1, "é"]}, "f", index=0, id="x")]], [("f", '{"a":[1,"é"]}')]),
        ([[call({}, "f")], [call({}, "f")]], [("f", "{}"), ("f", "{}")]),
        ([[{"id": "x", "name": "f", "arguments": "{}"}]], [("f", "{}")]),
        ([call("{}", "f", id="x")], [("f", "{}")]),
        # As it should be, two at once
        ([[call("{", "f", index=0, id="x", type="function"),
           call("{", "g", index=1, id="y", type="function")],
          [call("}", index=1), call("}", index=0)]], [("f", "{}"), ("g", "{}")]),
    ],
)  # fmt: skip
def test_fragments_of_tool_calls_find_their_places(
    deltas: list[Any], calls: list[tuple[str, str]]
) -> None:
    events = [chunk({"tool_calls": delta}) for delta in deltas]
    got = read_chunks(chunks(ROLE, *events, chunk({}, "tool_calls"), DONE))
    assert got == ReadAnswer(reason="tool_calls", calls=calls)
    one = translator()
    for part in (ROLE, *events):
        one.feed(part)
    assert one.output_bytes == sum(len((f + a).encode()) for f, a in calls)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"tool_calls": [call({"a": 1}, "f")]}, [("f", '{"a":1}')]),
        (
            {"tool_calls": [call(None, "f", id=""), call("", "g", id=None)]},
            [("f", "{}"), ("g", "{}")],
        ),
        ({"tool_calls": call("{}", "f", id="x", index=3)}, [("f", "{}")]),
        ({"tool_calls": [{"id": 7, "name": "f", "arguments": "{}"}]}, [("f", "{}")]),
    ],
)
def test_calls_of_a_whole_answer_get_their_members(
    message: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    got = read_whole(json.dumps(whole(message)).encode())
    assert got == ReadAnswer(reason="tool_calls", calls=expected)


@pytest.mark.parametrize(
    ("text", "content", "thinking"),
    [
        ({"content": ["a", {"type": "text", "text": "b"}]}, "ab", ""),
        ({"content": {"type": "text", "text": "a"}}, "a", ""),
        ({"content": [{"type": "reasoning", "text": "h"}, {"text": "a"}]}, "a", "h"),
        ({"content": [{"type": "thinking", "thinking": [{"text": "h"}, "m"]}]}, "", "hm"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "video", "url": "x"}]}, "a", ""),
        ({"content": 5}, "5", ""),
        ({"content": "a", "thinking": "h"}, "a", "h"),
        ({"content": "a", "reasoning_text": "h", "tool_calls": {"odd": 1}}, "a", "h"),
        ({"content": "a", "reasoning": {"content": "h"}}, "a", "h"),
        ({"content": "a", "reasoning": [{"text": "h"}, {"summary": "m"}]}, "a", "hm"),
        ({"content": "a", "reasoning": "", "reasoning_content": "h"}, "a", "h"),
        ({"content": "a", "reasoning": "h", "reasoning_content": None}, "a", "h"),
        ({"content": "a", "reasoning": "h", "reasoning_content": "h"}, "a", "h"),
    ],
)
def test_text_and_thinking_are_strings_under_the_names_that_clients_read(
    text: dict[str, Any], content: str, thinking: str
) -> None:
    for events in ([ROLE, chunk(text)], [chunk(text)], [chunk(text | {"role": "assistant"})]):
        got = chunks(*events, STOP, DONE)
        deltas = [each["choices"][0]["delta"] for each in got]
        assert "".join(delta.get("content") or "" for delta in deltas) == content
        for name in ("reasoning", "reasoning_content"):
            assert "".join(delta.get(name) or "" for delta in deltas) == thinking
        assert [delta.get("role") for delta in deltas if "role" in delta] == ["assistant"]
    message = whole(text)["choices"][0]["message"]
    assert (message["content"] or "") == content
    assert (message.get("reasoning") or "") == (message.get("reasoning_content") or "") == thinking


def test_pictures_among_the_parts_are_kept() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    content = [{"type": "text", "text": "a"}, picture, {"type": "refusal", "refusal": "no"}]
    delta = chunks(chunk({"content": content}), STOP, DONE)[0]["choices"][0]["delta"]
    assert (delta["content"], delta["images"], delta["refusal"]) == ("a", [picture], "no")


READ_CALL = ("f", '{"a":1}')


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function", "id": "t1", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"type": "tool_call", "id": "t1", "name": "f", "arguments": {"a": 1}},
    ],
)
def test_calls_among_the_parts_are_calls(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "a"}, part]
    *_, last, end = chunks(chunk({"content": content}), chunk({}, finish="tool_use"), DONE)
    (call,) = last["choices"][0]["delta"]["tool_calls"]
    made = whole({"content": content}, "tool_use")
    (whole_call,) = made["choices"][0]["message"]["tool_calls"]
    for each in (call, whole_call):
        assert (each["id"], each["type"]) == ("t1", "function")
        assert (each["function"]["name"], each["function"]["arguments"]) == READ_CALL
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert made["choices"][0]["finish_reason"] == "tool_calls"
    assert made["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "reference", "reference_ids": [1, 2]},
        {"type": "audio", "audio": {"data": "QUJD"}},
        {"type": "redacted_thinking", "data": "QUJD"},
        {"type": "file", "file": {"file_id": "f1"}},
        {"new": {"kind": 1}},
        7,
    ],
)
def test_parts_of_unknown_kinds_are_passed_on(part: Any) -> None:
    content = [{"type": "output_text", "text": "a"}, part, {"text": "b"}]
    delta = chunks(chunk({"content": content}), STOP, DONE)[0]["choices"][0]["delta"]
    message = whole({"content": content})["choices"][0]["message"]
    for each in (delta, message):
        assert (each["content"], each["content_parts"]) == ("ab", [part])
    alone = whole({"content": [part]})["choices"][0]["message"]
    assert (alone["content"], alone["content_parts"]) == ("", [part])
    (only, _) = chunks(chunk({"content": [part]}), STOP, DONE)
    assert only["choices"][0]["delta"]["content_parts"] == [part], "it is content too"


@pytest.mark.parametrize(
    ("first", "answer_id", "created"),
    [
        ({"id": 12, "created": 7.5}, "12", 7),
        ({"id": "c", "created": "7"}, "c", 7),
        ({"id": "c", "created": None}, "c", None),
        ({"id": "", "created": 0}, None, None),
        ({"id": None, "created": -1}, None, None),
        ({"created": True, "object": "chat.completion"}, None, None),
    ],
)
def test_an_answer_has_one_id_and_one_time(
    first: dict[str, Any], answer_id: str | None, created: int | None
) -> None:
    def part(text: str, **more: Any) -> bytes:
        choice = {"delta": {"content": text}}
        return event(first | {"choices": [choice]} | more)

    got = chunks(part("a"), part("b", id="other", created=99), part("c", id=[], created={}), DONE)
    names = {(each["id"], each["created"], each["object"]) for each in got}
    ((told_id, told_created, kind),) = names
    assert kind == "chat.completion.chunk" and told_id and told_created > 0
    assert answer_id in (None, told_id) and created in (None, told_created)
    assert read_chunks(got).text == "abc"


def test_chunks_held_before_the_id_is_known_get_it() -> None:
    opening = event({"id": "", "object": "", "created": 0, "choices": [], "extra": 1})
    bare = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    got = chunks(opening, bare, TEXT, STOP, DONE)
    assert {(each["id"], each["created"]) for each in got} == {("c1", 7)}
    assert got[0]["extra"] == 1 and got[0]["choices"] == []


def test_a_choice_without_index_has_its_position() -> None:
    choices = [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]
    got = chunks(event({"choices": choices}), DONE, n=2)
    assert [choice["index"] for choice in got[0]["choices"]] == [0, 1]


def test_an_answer_has_finished_when_every_requested_choice_has() -> None:
    one = translator(n=2)
    both = json.loads(chunk({"role": "assistant", "content": "x"}, "stop")[6:])
    states = []
    for index in (0, 1):  # the second choice may come after the end of the first
        both["choices"][0]["index"] = index
        one.feed(event(both))
        states.append((one.finished, one.done))
    one.feed(DONE)
    states.append((one.finished, one.done))
    assert states == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("last", [False, True], ids=["name first", "name last"])
def test_a_regular_stream_passes_byte_for_byte(last: bool, usage: bool) -> None:
    name = '"id":"c1","object":"chat.completion.chunk","created":7,"model":"vendor/glm"'

    def write(delta: str, finish: str = "null", more: str = "") -> bytes:
        choices = f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]{more}'
        inner = f"{choices},{name}" if last else f"{name},{choices}"
        return f"data: {{{inner}}}\n\n".encode()

    first = '{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}'
    calls, piece = '{"tool_calls":[*]}', '{"index":0,"function":{"arguments":"*"}}'
    end = '"usage":null' if usage else '"logprobs_format":null'
    sent = [
        write(delta, finish, f",{end}")
        for delta, finish in (
            ('{"role":"assistant","content":""}', "null"),
            ('{"content":"a"}', "null"),
            ('{"content":"é 1.50"}', "null"),
            ('{"content":"b","reasoning":"h","reasoning_content":"h"}', "null"),
            ('{"content":"c","x":[ 1.50 ]}', "null"),
            ('{"refusal":"no"}', "null"),
            (calls.replace("*", first), "null"),
            (calls.replace("*", piece.replace("*", "{")), "null"),
            (calls.replace("*", piece.replace("*", "é}")), "null"),
            ("{}", '"tool_calls"'),
        )
    ]
    one = translator(usage=usage)
    assert one.feed(sent[0]) == b""
    assert one.feed(sent[1]) == ours(*sent[:2])
    for each in sent[2:]:
        assert one.feed(each) == ours(each)
    assert one.feed(DONE) == DONE
    assert one.output_bytes == len("a") + len("é 1.50".encode()) + 2 + 1 + 2 + 1 + len(
        "{é}".encode()
    )


@pytest.mark.parametrize(
    "odd",
    [
        TEXT.replace(b"Hi", b"\xff"),
        event({"error": {"message": "x", "code": 500}}),
        TEXT.replace(b'"choices"', b'"error":{"code":500},"choices"'),
        TEXT.replace(b"}]}", b'}],"error":{"message":"x"}}'),
        chunk({"content": "x"}, "network_error"),
        TEXT.replace(b"Hi", b"\x01"),
        TEXT[:40] + b"\n\n",
        TEXT.replace(b'"finish_reason"', b'"unread":"\xff","finish_reason"'),
    ],
)
def test_a_failure_is_noticed_in_the_middle_of_an_ordinary_stream(odd: bytes) -> None:
    one = translator()
    one.feed(ROLE + TEXT * 5)
    with pytest.raises(UpstreamError):
        one.feed(odd)


def test_only_the_role_of_the_delta_is_dropped() -> None:
    nested = {"role": "assistant", "a": 1}
    got = chunks(ROLE, chunk({"role": "assistant", "content": "x", "extra": nested}), STOP, DONE)
    assert got[1]["choices"][0]["delta"] == {"content": "x", "extra": nested}


def test_lines_of_json_without_an_end_are_cut() -> None:
    for lines in (TEXT[6:-1] * 2, ROLE + TEXT[6:-1]):
        one = translator()
        one.feed(lines)
        with pytest.raises(UpstreamDisconnected):
            one.finish()


def test_a_message_repeated_after_many_deltas_adds_nothing() -> None:
    choice = {"index": 0, "message": {"content": "Hi" * 5}, "finish_reason": "stop"}
    got = read_chunks(chunks(ROLE, TEXT * 5, event({"id": "c1", "choices": [choice]}), DONE))
    assert (got.text, got.reason) == ("Hi" * 5, "stop")


def test_the_details_of_the_larger_report_are_shown() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0}}
    smaller = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    reports = chunk(usage=USAGE | details) + chunk(usage=smaller)
    fields = {"stream_options": {"include_usage": True}}
    assert chunks(ROLE, TEXT, STOP, reports, DONE, **fields)[-1]["usage"] == USAGE | details


def test_ordinary_and_odd_chunks_may_alternate() -> None:
    thinking = chunk({"reasoning": "h"})
    twice = chunk({"role": "assistant", "content": "x"})
    parts = chunk({"content": [{"text": "y"}]})
    got = read_chunks(
        chunks(ROLE, *([TEXT, thinking, thinking, TEXT, TEXT, twice, parts] * 3), STOP, DONE)
    )
    assert (got.text, got.thinking) == ("HiHiHixy" * 3, "hh" * 3)


def test_the_cap_of_an_event_can_be_set_for_a_deployment() -> None:
    request = parse_chat(b'{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true}')
    small = replace(DEPLOYMENT, quirks=Quirks(max_event_bytes=50))
    with pytest.raises(UpstreamError):
        OpenAITranslator(request, MODEL, small, 1 << 20).feed(ROLE + TEXT)
    large = replace(DEPLOYMENT, quirks=Quirks(max_event_bytes=1 << 20))
    assert OpenAITranslator(request, MODEL, large, 50).feed(ROLE + TEXT) == ours(ROLE, TEXT)


PROVIDER = {"upstream_inference_cost": 0.2}


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.0012}, 1200),
        ({"cost": "0.5"}, 500_000),
        ({"cost": 0}, 0),
        ({"cost": 0.0000001}, 1),
        ({"cost": {"total_cost": 0.25, "input_cost": 0.1}}, 250_000),
        ({"estimated_cost": 0.25}, 250_000),
        ({"cost": 0.01, "is_byok": True, "cost_details": PROVIDER}, 210_000),
        ({"cost": 0.01, "is_byok": False, "cost_details": PROVIDER}, 10_000),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "much"}, None),
        ({"cost": 1e300}, None),
        ({"cost": "nan"}, None),
        ({"cost": None}, None),
        ({}, None),
        ([], None),
    ],
)  # fmt: skip
def test_a_stated_cost_is_read(usage: Any, cost: int | None) -> None:
    assert stated_cost_microusd(usage) == cost


def test_a_stated_cost_counts_only_where_the_deployment_says_so() -> None:
    request = parse_chat(b'{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true}')
    stream = ROLE + TEXT + STOP + chunk(usage=USAGE | {"cost": 0.5})
    stream += chunk(usage=USAGE | {"cost": 0.1}) + DONE
    believed = replace(DEPLOYMENT, quirks=Quirks(cost_is_authoritative=True))
    for deployment, cost in ((DEPLOYMENT, None), (believed, 500_000)):
        one = OpenAITranslator(request, MODEL, deployment, 1 << 20)
        one.feed(stream)
        assert (one.stated_cost_microusd, one.usage) == (cost, Usage(3, 2, 5))


@pytest.mark.parametrize(
    ("told", "blocked"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, True),
        ({"prompt_feedback": {"block_reason": "OTHER"}}, True),
        ({"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}, False),
        ({"prompt_filter_results": [{"x": {"hate": {"filtered": True}}}]}, True),
        ({"prompt_filter_results": [{"x": {"hate": {"filtered": False}}}]}, False),
        ({"candidates": [{"finishReason": "SAFETY"}]}, True),
        ({"choices": [{"finish_reason": "stop"}]}, False),
        ({"moderation": {"flagged": True}}, True),
        ({"a": [[[[[[[{"filtered": True}]]]]]]]}, False),
        ([], False),
        (None, False),
    ],
)  # fmt: skip
def test_a_block_reason_is_found(told: Any, blocked: bool) -> None:
    assert is_blocked(told) is blocked
    if not isinstance(told, dict) or "choices" in told:
        return
    kind = UpstreamRejected if blocked else UpstreamError
    for stream in (event({"object": "x", "choices": [], **told}), event(told)):
        with pytest.raises(UpstreamError) as caught:
            translator().feed(ROLE + stream + DONE)
        assert type(caught.value) is kind
        assert (caught.value.code == "content_filter") is blocked
    with pytest.raises(UpstreamError) as caught:
        translator(stream=False).whole(compact({"choices": [], **told}))
    assert type(caught.value) is kind


def test_an_empty_answer_with_a_reason_is_an_answer() -> None:
    got = read_chunks(chunks(ROLE, STOP, DONE))
    assert (got.text, got.reason) == ("", "stop")
    assert whole({"role": "assistant", "content": ""})["choices"][0]["message"]["content"] == ""
    assert whole({"role": "assistant"})["choices"][0]["message"]["content"] is None


def test_a_whole_answer_of_a_stream_has_everything_the_chunks_had() -> None:
    logprob = {"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
    parts = [json.loads(chunk({"content": text})[6:]) for text in "ab"]
    for part in parts:
        part["choices"][0]["logprobs"] = {"content": [logprob], "refusal": None}
    stream = ROLE + event(parts[0]) + event(parts[1])
    stream += chunk({"reasoning": "h", "images": [1]}) + chunk({"reasoning": "m", "images": [2]})
    stream += chunk({"refusal": "n"}) + chunk({"refusal": "o"}, service_tier="flex") + STOP
    one = translator(stream=False)
    answer = json.loads(one.whole(stream + chunk(usage=USAGE) + DONE))
    (choice,) = answer["choices"]
    message = choice["message"]
    assert (message["content"], message["reasoning"], message["refusal"]) == ("ab", "hm", "no")
    assert message["images"] == [1, 2] and answer["service_tier"] == "flex"
    assert choice["logprobs"]["content"] == [logprob, logprob]
    assert (answer["model"], answer["usage"], answer["object"]) == (
        MODEL.id, USAGE, "chat.completion",
    )  # fmt: skip
    assert one.output_bytes == len("ab") + len("hm") + len("no")


def test_a_stream_without_its_end_is_no_whole_answer() -> None:
    with pytest.raises(UpstreamError):
        translator(stream=False).whole(ROLE + TEXT)
    with pytest.raises(UpstreamError):
        translator(stream=False).whole(ROLE + DONE)
