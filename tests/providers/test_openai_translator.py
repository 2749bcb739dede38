"""An OpenAI-shaped stream passes as it came, and never says that a cut answer was complete."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.fakes.openai_wire import (
    DEPLOYMENT,
    DONE,
    MODEL,
    ROLE,
    STOP,
    TEXT,
    USAGE,
    chunk,
    event,
    ours,
    translator,
)

from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from workers.providers.formats import TRANSLATORS
from workers.providers.openai.client_events import MAX_HELD_BYTES, MAX_HELD_EVENTS
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.request.chat_request import parse_chat
from workers.request.token_usage import Usage


def relay(*events: bytes, usage: bool = False) -> bytes:
    """Feed a whole stream in one read and end the body."""
    one = translator(usage=usage)
    out = one.feed(b"".join(events))
    return out if one.done else out + one.finish()


def test_the_table_of_translators_makes_them() -> None:
    request = parse_chat(b'{"model":"a","messages":[{"role":"user","content":"x"}]}')
    made = TRANSLATORS["openai"](request, MODEL, DEPLOYMENT, 1000)
    assert isinstance(made, OpenAITranslator)
    assert (made.committed, made.done, made.usage, made.finish_reason) == (False, False, None, None)


def test_the_request_names_the_upstreams_model_and_carries_our_secret() -> None:
    sent = translator(temperature=1, unheard_of={"a": 1}).request()
    assert sent.path == "/chat/completions"
    headers = dict(sent.headers)
    assert headers["authorization"] == "Bearer sk-up-secret"
    assert (headers["content-type"], headers["accept"]) == ("application/json", "text/event-stream")
    assert json.loads(sent.body) == {
        "model": "vendor/glm",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "temperature": 1,
        "unheard_of": {"a": 1},
        "stream_options": {"include_usage": True},
    }


def test_a_deployment_without_secret_sends_none() -> None:
    request = parse_chat(b'{"model":"a","messages":[{"role":"user","content":"x"}]}')
    local = replace(DEPLOYMENT, secret="", secret_env="")
    headers = dict(OpenAITranslator(request, MODEL, local, 1000).request().headers)
    assert headers == {"content-type": "application/json", "accept": "application/json"}


@pytest.mark.parametrize(
    ("stream", "status", "headers", "good"),
    [
        (True, 200, {"content-type": "text/event-stream"}, True),
        (True, 200, {"content-type": "Text/Event-Stream; charset=utf-8"}, True),
        (True, 200, {}, True),
        (True, 200, {"content-type": "application/json"}, True),
        (True, 200, {"content-type": "application/octet-stream"}, True),
        (True, 200, {"content-type": "text/plain; charset=utf-8"}, True),
        (True, 200, {"content-type": "text/html"}, False),
        (True, 200, {"content-type": "application/xhtml+xml"}, False),
        (True, 200, {"content-type": "text/event-stream", "content-encoding": "gzip"}, False),
        (True, 200, {"content-type": "text/event-stream", "content-encoding": "Identity"}, True),
        (False, 200, {"content-type": "application/json; charset=utf-8"}, True),
        (False, 200, {"content-type": "text/event-stream"}, True),
        (False, 200, {"content-type": "Text/HTML; charset=utf-8"}, False),
        (False, 200, {"content-encoding": "br"}, False),
        (False, 200, {"content-encoding": "X-GZIP"}, False),
        (True, 200, {"content-encoding": "identity, zstd"}, False),
        (True, 200, {"content-encoding": "none"}, True),
        (False, 200, {"content-encoding": "UTF-8"}, True),
        (False, 200, {"content-encoding": "identity, identity"}, True),
        (True, 201, {"content-type": "text/event-stream"}, True),
        (False, 201, {"content-type": "application/json"}, True),
        (False, 201, {"content-type": "text/html"}, False),
        (False, 203, {}, True),
        (False, 202, {}, False),
        (False, 204, {}, False),
        (False, 206, {}, False),
        (True, 301, {}, False),
        (True, 503, {}, False),
    ],
)
def test_only_an_answer_of_the_right_kind_is_taken(
    stream: bool, status: int, headers: dict[str, str], good: bool
) -> None:
    one = translator(stream=stream)
    if good:
        one.check_head(status, headers)
    else:
        with pytest.raises(UpstreamError) as caught:
            one.check_head(status, headers)
        assert caught.value.retryable


NAMED = {"id": "c1", "object": "chat.completion.chunk", "created": 7}
MANY = b'{"model":"m-1"},' * 9
CHOICES = (
    b'"id":"c1","object":"chat.completion.chunk","created":7,'
    b'"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]'
)


@pytest.mark.parametrize(
    ("sent", "given_out"),
    [
        (b'{"model":"m-1",%b}', b'{"model":"OURS",%b}'),
        (b'{"model": "m-1", %b}', b'{"model": "OURS", %b}'),
        (b'{%b,"model":"m-1"}', b'{%b,"model":"OURS"}'),
        (b' { %b , "x":1.50 ,"model":"m-1"} ', b' { %b , "x":1.50 ,"model":"OURS"} '),
        (b'{"model":"zai/glm-4.5",%b,"z":[ ]}', b'{"model":"OURS",%b,"z":[ ]}'),
        (b'{"model" : "m-1",%b}', b'{"model":"OURS",%b}'),
        (b'{"model":"m\\/1",%b}', b'{"model":"OURS",%b}'),
        (b'{"mod\\u0065l":"m-1",%b}', b'{"model":"OURS",%b}'),
        (b'{"x":{"model":"m-1"}, "model":"m-1",%b}', b'{"x":{"model":"m-1"}, "model":"OURS",%b}'),
        (b'{"x":{"model":"m-1b"}, "model":"m-1",%b}', b'{"x":{"model":"m-1b"}, "model":"OURS",%b}'),
        (b'{"x":[' + MANY + b'0],"model":"m-1",%b}', b'{"x":[' + MANY + b'0],"model":"OURS",%b}'),
        (b'{"model":"a","model":"m-1",%b}', b'{"model":"a","model":"OURS",%b}'),
        (b'{"model":"m-1","x":{"model":"m-1"},%b}', b'{"model":"OURS","x":{"model":"m-1"},%b}'),
        (b'{"x":{"model":"m-1"},"model" : "m-1",%b}', b'{"x":{"model":"m-1"},"model":"OURS",%b}'),
        (b'{"x":"\\"model\\":","model":"m-1",%b}', b'{"x":"\\"model\\":","model":"OURS",%b}'),
        (b'{"x":"\\"model","model":"m-1",%b}', b'{"x":"\\"model","model":"OURS",%b}'),
        (b'{"x":"model","model":"m-1",%b}', b'{"x":"model","model":"OURS",%b}'),
        (b'{%b}', b'{%b,"model":"OURS"}'),
        (b'{"model":null,%b}', b'{"model":"OURS",%b}'),
        (b'{"model":5,%b}', b'{"model":"OURS",%b}'),
        (b'{"model":"",%b}', b'{"model":"OURS",%b}'),
        ('{"model":"modèle",%b}'.encode(), b'{"model":"OURS",%b}'),
    ],
)  # fmt: skip
def test_only_the_value_of_the_top_level_model_is_changed(sent: bytes, given_out: bytes) -> None:
    one = translator()
    one.feed(ROLE)
    expected = event(given_out.replace(b"%b", CHOICES).replace(b"OURS", MODEL.id.encode()))
    one.feed(event(sent.replace(b"%b", CHOICES)))
    for _ in range(3):
        assert one.feed(event(sent.replace(b"%b", CHOICES))) == expected


def test_the_model_may_change_on_the_way() -> None:
    for name in ("m-1", "m-2", MODEL.id, "m-1"):
        assert f'"model":"{name}"'.encode() in chunk({"content": "x"}, model=name)
    one = translator()
    one.feed(ROLE + TEXT)
    for name in ("m-1", "m-2", MODEL.id, "m-1"):
        assert one.feed(chunk({"content": "x"}, model=name)) == ours(chunk({"content": "x"}))


@pytest.mark.parametrize(
    ("delta", "commits"),
    [
        ({}, False),
        (None, False),
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"role": "assistant", "content": None, "refusal": None, "tool_calls": []}, False),
        ({"reasoning_content": "", "reasoning": None, "function_call": {}, "x": [ ]}, False),
        ({"content": "a"}, True),
        ({"content": " "}, True),
        ({"reasoning_content": "a"}, True),
        ({"reasoning": "a"}, True),
        ({"refusal": "a"}, True),
        ({"tool_calls": [{"index": 0, "id": "c"}]}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"audio": {"id": "a"}}, True),
        ({"images": [{"type": "image_url"}]}, True),
        ({"reasoning_details": [{"type": "x"}]}, True),
        ({"content": [{"type": "thinking", "thinking": []}]}, False),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}, True),
        ({"content": {}}, False),
    ],
)  # fmt: skip
def test_the_first_delta_with_anything_in_it_commits(delta: Any, commits: bool) -> None:
    one = translator()
    assert one.feed(ROLE) == b""
    out = one.feed(chunk(delta))
    assert one.committed is commits
    assert out.startswith(ours(ROLE)) is commits
    assert (out == b"") is not commits
    assert one.feed(TEXT).endswith(ours(TEXT))
    assert one.committed


def test_a_finish_reason_commits() -> None:
    one = translator()
    assert one.feed(ROLE + STOP) == ours(ROLE, STOP)
    assert (one.committed, one.finish_reason) == (True, "stop")


def test_what_came_before_the_first_content_is_given_out_with_it_in_order() -> None:
    one = translator()
    empty = chunk(prompt_filter_results=[{"prompt_index": 0}])
    assert one.feed(b": PROCESSING\n\n" + empty) == b""
    assert one.feed(ROLE) == b""
    assert one.feed(TEXT + TEXT) == ours(empty, ROLE, TEXT, TEXT)
    assert one.feed(TEXT) == ours(TEXT)


@pytest.mark.parametrize(
    ("one_event", "least"),
    [
        (chunk({"content": ""}), MAX_HELD_EVENTS),
        (chunk({}, pad="x" * 100_000), MAX_HELD_BYTES // 100_000),
    ],
    ids=["events", "bytes"],
)
def test_what_is_held_back_is_bounded(one_event: bytes, least: int) -> None:
    one = translator()
    assert one.feed(ROLE) == b""
    out, count = b"", 0
    while not one.committed:
        out = one.feed(one_event)
        count += 1
    assert least <= count <= least + 2
    assert out == ours(ROLE, one_event * count)


def test_comments_alone_never_commit() -> None:
    one = translator()
    for _ in range(100):
        assert one.feed(b": PROCESSING\n\n" * 1000) == b""
    assert not one.committed


def test_several_events_of_one_read_leave_as_one() -> None:
    one = translator()
    assert one.feed(ROLE + TEXT * 50) == ours(ROLE, TEXT * 50)


def test_a_thousand_equal_tokens_are_a_thousand_tokens() -> None:
    one = translator()
    one.feed(ROLE)
    out = b"".join(one.feed(TEXT) for _ in range(1000))[len(ours(ROLE)) :]
    assert out == ours(TEXT) * 1000
    assert one.output_bytes == 2000


@pytest.mark.parametrize(
    ("delta", "size"),
    [
        ({"content": "abc"}, 3),
        ({"content": "é👋"}, 6),
        ({"content": "a", "refusal": "b"}, 2),
        ({"reasoning_content": "abc", "reasoning": "abc"}, 3),
        ({"reasoning": "abc"}, 3),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a"'}}]}, 5),
        ({"tool_calls": [{"index": 0}, {"index": 1, "function": {"arguments": "x"}}]}, 1),
        ({"function_call": {"name": "f", "arguments": "{}"}}, 3),
        ({"role": "assistant"}, 0),
        (None, 0),
        ({"content": [{"text": "abcdef"}]}, 6),
        ({"content": "a", "refusal": {"odd": 1}}, len('a{"odd":1}')),
        ({"content": "a", "refusal": {"text": "No."}}, len("aNo.")),
        ({"content": "a", "refusal": False}, 1),
        (
            {"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "c", "input": "é"}}]},
            3,
        ),
        (
            {"content": "a", "tool_calls": "odd"},
            len('{"role":"assistant","content":"a","tool_calls":"odd"}'),
        ),
    ],
)
def test_generated_text_is_counted(delta: Any, size: int) -> None:
    one = translator()
    one.feed(chunk(delta))
    assert one.output_bytes == size


WHOLE = [ROLE, TEXT, STOP]
NULLED = [each[:-3] + b',"usage":null}\n\n' for each in WHOLE]
ALONE = chunk(usage=USAGE)
BESIDE = chunk({}, "stop", usage=USAGE)
MADE = event(json.loads(ALONE[6:]))
SMALLER = {"prompt_tokens": 3, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("sent", "plain", "asked", "told"),
    [
        ([ROLE, TEXT, STOP], WHOLE, NULLED, None),
        ([*WHOLE, ALONE], WHOLE, [*NULLED, ALONE], USAGE),
        ([ROLE, TEXT, BESIDE], WHOLE, [*NULLED, MADE], USAGE),
        (NULLED, NULLED, NULLED, None),
        ([ALONE, ROLE, TEXT, STOP], WHOLE, [*NULLED, ALONE], USAGE),
        ([*WHOLE, chunk(usage=SMALLER), ALONE], WHOLE, [*NULLED, ALONE], USAGE),
        ([ROLE, TEXT, chunk({}, "stop", usage=SMALLER), ALONE], WHOLE, [*NULLED, ALONE], USAGE),
        ([ROLE, TEXT, chunk(usage=SMALLER), BESIDE], WHOLE, [*NULLED, MADE], USAGE),
        ([*WHOLE, chunk(choices=None, usage=USAGE)], WHOLE, [*NULLED, ALONE], USAGE),
        ([*WHOLE, chunk(usage=USAGE, x={"y": 1})], WHOLE,
         [*NULLED, chunk(usage=USAGE, x={"y": 1})], USAGE),
        ([*WHOLE, chunk(usage={})], WHOLE, NULLED, None),
        ([ROLE, TEXT, chunk({}, "stop", usage=[])], WHOLE, NULLED, None),
        ([ROLE, TEXT, chunk({}, "stop", usage="x")], WHOLE, NULLED, None),
    ],
    ids=["none", "alone", "beside", "null", "first", "twice", "both", "beside last", "choices null",
         "more members", "empty", "a list", "a string"],
)  # fmt: skip
@pytest.mark.parametrize("end", [DONE, b""], ids=["done", "no done"])
def test_usage_comes_once_at_the_end_and_only_when_asked_for(
    sent: list[bytes],
    plain: list[bytes],
    asked: list[bytes],
    told: dict[str, int] | None,
    end: bytes,
) -> None:
    assert relay(*sent, end) == ours(*plain, DONE)
    assert relay(*sent, end, usage=True) == ours(*asked, DONE)
    one = translator()
    one.feed(b"".join(sent) + end)
    assert one.usage == (Usage(**told) if told else None)


def test_a_made_usage_chunk_is_complete_even_when_the_chunks_were_not() -> None:
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}
    bare = {"choices": [choice], "usage": {"prompt_tokens": 1}}
    out = relay(event(bare), usage=True).split(b"\n\n")
    first, made = json.loads(out[0][6:]), json.loads(out[1][6:])
    assert made["id"].startswith("chatcmpl-") and made["created"] > 0
    assert (made["id"], made["created"]) == (first["id"], first["created"])
    assert (made["object"], made["model"]) == ("chat.completion.chunk", MODEL.id)
    assert made["choices"] == []
    assert made["usage"] == {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def both(first: str | None, second: str | None) -> bytes:
    choices = [{"index": i, "delta": {"content": "x"}, "finish_reason": None} for i in (0, 1)]
    ends = [
        {"index": i, "delta": {}, "finish_reason": end}
        for i, end in ((0, first), (1, second))
        if end
    ]
    return b"".join(event({"model": "vendor/glm", "choices": [each]}) for each in choices + ends)


@pytest.mark.parametrize(
    ("stream", "complete"),
    [
        (TEXT + STOP + DONE, True),
        (TEXT + STOP, True),
        (STOP + DONE, True),
        (TEXT + chunk({}, "length"), True),
        (TEXT + chunk({"content": "."}, "a_new_reason"), True),
        (TEXT + STOP + TEXT, True),
        (both("stop", "stop"), True),
        (both("stop", None) + DONE, True),
        (both("stop", None), False),
        (both(None, None) + DONE, True),
        (both(None, None), False),
        (TEXT + DONE, True),
        (TEXT, False),
        (TEXT + chunk({"content": "."}, ""), False),
        (ROLE, False),
        (b"", False),
        (b": nothing but comments\n\n", False),
        (ALONE, False),
        (TEXT + STOP[:-2], True),
        (TEXT + STOP[:-1] + b"\r", True),
        (TEXT + STOP + b"data: [DONE]", True),
        (TEXT + STOP + b"data: [DO", True),
        (TEXT + STOP + TEXT[:30], True),
        (TEXT + STOP[:-3], False),
        (TEXT + STOP[:30], False),
    ],
)
def test_an_answer_is_complete_only_with_its_finish_reason(stream: bytes, complete: bool) -> None:
    if complete:
        out = relay(stream)
        assert out.endswith(b"\n\n" + DONE) and out.count(b"[DONE]") == 1
        return
    with pytest.raises(UpstreamDisconnected):
        relay(stream)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_one_chunk_without_framing_is_a_beginning_and_no_whole_answer(end: bytes) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]}
    one = translator()
    one.feed(json.dumps(chunk).encode() + end)
    with pytest.raises(UpstreamDisconnected):
        one.finish()


def test_what_comes_after_the_end_is_ignored() -> None:
    one = translator()
    one.feed(ROLE + TEXT)
    assert one.feed(STOP + DONE + TEXT + b"garbage\n\ndata: garbage\n\n") == ours(STOP, DONE)
    assert one.done
    assert one.feed(TEXT) == b""


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (event({"error": {"message": "x", "code": 429}}), UpstreamRateLimited),
        (event({"error": {"message": "No.", "type": "invalid_request_error"}}), UpstreamRejected),
        (event({"error": "exploded"}), UpstreamError),
        (event({"object": "error", "message": "No.", "code": 400}), UpstreamRejected),
        (event({"detail": "exploded"}), UpstreamError),
        (event([{"error": {"code": 503, "message": "x"}}]), UpstreamOverloaded),
        (b"event: error\n" + event({"error": {"message": "x", "code": 500}}), UpstreamUnavailable),
        (chunk({"content": ""}, "error", error={"code": 502, "message": "x"}), UpstreamUnavailable),
        (chunk({"content": ""}, "error"), UpstreamError),
        (b"data: Internal Server Error\n\n", UpstreamError),
        (b"data: {\n\n", UpstreamError),
        (b"data: 5\n\n", UpstreamError),
        (b"data: null\n\n", UpstreamError),
        (b"data: []\n\n", UpstreamError),
        (b'data: {"choices":5}\n\n', UpstreamError),
        (b'data: {"choices":[5]}\n\n', UpstreamError),
        (chunk("text"), UpstreamError),
        (chunk([]), UpstreamError),
        (TEXT.replace(b"Hi", b"\xff"), UpstreamError),
        (TEXT.replace(b'"c1"', b'"\xff"'), UpstreamError),
        (TEXT.replace(b"Hi", b"\x01"), UpstreamError),
        (TEXT.replace(b'"c1"', b"NaN"), UpstreamError),
        (event(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"), UpstreamError),
        (b"data: " + b"x" * 1_100_000, UpstreamError),
    ],
)
def test_a_failure_in_the_stream_is_raised_after_what_came_before_it(
    sent: bytes, kind: type[UpstreamError]
) -> None:
    fresh = translator()
    with pytest.raises(UpstreamError) as caught:
        fresh.feed(ROLE + TEXT + sent)
    assert type(caught.value) is kind
    assert not fresh.committed  # nothing was given out: another deployment may be tried

    one = translator()
    one.feed(ROLE + TEXT)
    out = one.feed(chunk({"content": "last"}) + sent)
    assert out.startswith(ours(chunk({"content": "last"})))
    assert type(one.failure) is kind
    with pytest.raises(kind):
        one.feed(TEXT)
    with pytest.raises(kind):
        one.finish()
    assert not one.done


def test_an_error_told_in_the_last_unterminated_event_is_told() -> None:
    one = translator()
    one.feed(TEXT + event({"error": {"message": "x", "code": 429}})[:-2])
    with pytest.raises(UpstreamRateLimited):
        one.finish()


@pytest.mark.parametrize(
    ("sent", "given_out"),
    [
        (chunk(), chunk()),
        (chunk(x={"a": 1}), chunk(x={"a": 1})),
        (chunk(choices=None), chunk()),
        (event({"object": "x"}), event(NAMED | {"model": MODEL.id, "choices": []})),
        (chunk({"content": "x"}, error=None), chunk({"content": "x"}, error=None)),
        (chunk({"content": "x"}, error=""), chunk({"content": "x"}, error="")),
        (event({"type": "ping"}), b""),
        (event({}), b""),
        (b"data:\n\ndata: \n\n", b""),
        (b"data:   \n\n", b""),
        (chunk({"content": "x"}).replace(b',"finish_reason":null', b""), chunk({"content": "x"})),
        (chunk({"content": "x"}).replace(b'"delta":{"content":"x"}', b'"delta":null'), chunk({})),
        (TEXT.replace(b"Hi", rb"\ud83d"), TEXT.replace(b"Hi", rb"\ufffd")),
        (TEXT.replace(b"Hi", rb"\ude00 \u00e9"), TEXT.replace(b"Hi", rb"\ufffd \u00e9")),
        (TEXT.replace(b"Hi", rb"\\ud83d \ud83d\ude00"),) * 2,
        (chunk({"content": [{"type": "text", "text": "x"}]}), chunk({"content": "x"})),
        (chunk({"content": "x"}).replace(b'"index":0', b'"index":"0"'), chunk({"content": "x"})),
        (chunk({"tool_calls": {"odd": 1}}),) * 2,
        (chunk({"content": "a\u2028b\u0085c é 👋"}),) * 2,
        (TEXT.replace(b',"choices"', b',\r"choices"'), TEXT.replace(b',"choices"', b', "choices"')),
    ],
)  # fmt: skip
def test_oddities_become_what_clients_can_read(sent: bytes, given_out: bytes) -> None:
    one = translator()
    one.feed(ROLE + TEXT)
    assert one.feed(sent) == ours(given_out)
    assert one.feed(STOP + DONE) == ours(STOP, DONE)


def test_an_event_of_several_megabytes_passes() -> None:
    one = translator(max_event_bytes=8 * 1024 * 1024)
    image = chunk(
        {"images": [{"image_url": {"url": "data:image/png;base64," + "QUJD" * 1_500_000}}]}
    )
    one.feed(ROLE + TEXT)
    out = b"".join(one.feed(image[at : at + 65_536]) for at in range(0, len(image), 65_536))
    assert out == ours(image)


def good_events(stream: bytes) -> bool:
    events = stream.split(b"\n\n")
    assert events.pop() == b""
    for one in events:
        assert one.startswith(b"data: ") and b"\n" not in one and b"\r" not in one
        if one != b"data: [DONE]":
            told = json.loads(one[6:].decode())
            assert told["model"] == MODEL.id and isinstance(told["choices"], list)
    return True


MARKS = [
    b'"',
    b"{",
    b"}",
    b",",
    b"\n",
    b"\n\n",
    b"data: ",
    b"null",
    b"[]",
    b"\xff",
    b"\\",
    b"\\ud83d",
]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.sampled_from(MARKS), st.integers(0, 9))),
    st.booleans(),
)
def test_whatever_an_upstream_sends_the_client_gets_good_events(
    damage: list[tuple[int, bytes, int]], usage: bool
) -> None:
    stream = ROLE + TEXT + BESIDE + ALONE + DONE
    for at, put, cut in damage:
        stream = stream[:at] + put + stream[at + cut :]
    one = translator(usage=usage)
    out = b""
    try:
        for at in range(0, len(stream), 97):
            out += one.feed(stream[at : at + 97])
        if not one.done:
            out += one.finish()
    except UpstreamError:
        assert b"[DONE]" not in out
    assert out == b"" or good_events(out)
