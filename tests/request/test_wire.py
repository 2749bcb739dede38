"""A chat request is checked field by field, passes on what it does not know, and usage is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.catalog.quirks import NO_QUIRKS
from workers.errors import InvalidRequest
from workers.providers.openai.request_body import request_body
from workers.request.chat_request import ADDED_TOKENS, ChatRequest, parse_chat

HELLO = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def body(**fields: Any) -> bytes:
    """Write a good request with some fields changed; `...` leaves one out."""
    told = {"model": "zai/glm-4.5", "messages": [HELLO]} | fields
    kept = {name: value for name, value in told.items() if value is not ...}
    return json.dumps(kept, separators=(",", ":")).encode()


def parse(**fields: Any) -> ChatRequest:
    return parse_chat(body(**fields))


def refusal(text: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(text)
    error = caught.value
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert "`" not in error.message and "$" not in error.message
    return error


def test_a_plain_request_is_read() -> None:
    request = parse()
    assert (request.model, request.stream, request.n) == ("zai/glm-4.5", False, 1)
    assert (request.include_usage, request.max_output_tokens) == (False, None)
    assert list(request.fields) == ["model", "messages"]


def test_what_the_gateway_acts_on_is_read() -> None:
    request = parse(stream=True, stream_options={"include_usage": True}, n=3, max_tokens=7)
    assert (request.stream, request.include_usage, request.n) == (True, True, 3)
    assert request.max_output_tokens == 7
    assert parse(max_completion_tokens=9).max_output_tokens == 9
    assert parse(max_completion_tokens=9, max_tokens=7).max_output_tokens == 7


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": None},
        {"stream": False, "stream_options": None},
        {"stream": True, "stream_options": {}},
        {"stream": True, "stream_options": {"include_usage": None, "new": 1}},
        {"n": None, "max_tokens": None, "temperature": None, "top_p": None, "stop": None},
        {"n": 128, "temperature": 2, "top_p": 1, "presence_penalty": -2, "seed": -5},
        {"temperature": 0, "top_p": 0.0, "frequency_penalty": 2.0},
        {"logprobs": True, "top_logprobs": 20, "logit_bias": {"50256": -100}},
        {"stop": "x"},
        {"stop": ["a", "b", "c", "d"]},
        {"stop": []},
        {"tools": [TOOL, {"type": "custom", "custom": {"name": "x"}}], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": None, "tool_choice": None, "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": "any"},
        {"functions": [{"name": "f"}], "function_call": "auto"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"metadata": {"a": "b"}, "user": "u", "store": None, "service_tier": "auto"},
        {"reasoning_effort": "high", "modalities": ["text"], "verbosity": "low"},
        {"api_base": "http://evil", "headers": {"x": 1}, "key": None, "unheard_of": [1, {"a": 2}]},
        {"messages": [{"role": "system", "content": "s"}, {"role": "developer", "content": []}]},
        {"messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [HELLO, {"role": "assistant", "tool_calls": [CALL], "unknown": 1}]},
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
        {"messages": [{"role": "assistant", "reasoning_content": "hm", "content": "x"}]},
        {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "42"}]},
        {"messages": [{"role": "function", "name": "f", "content": None}]},
        {"messages": [{"content": "role comes last", "name": "bob", "role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "unheard_of", "x": 1}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https:/"}}],
                }
            ]
        },
    ],
)
def test_a_good_request_passes(fields: dict[str, Any]) -> None:
    request = parse(**fields)
    assert json.loads(request_body(request, "zai/glm-4.5", NO_QUIRKS)).keys() >= fields.keys()


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [HELLO, fields]}


def part(**fields: Any) -> dict[str, Any]:
    return message(role="user", content=[{"type": "text", "text": "a"}, fields])


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": ...}, "model", "Missing required parameter: 'model'. Send the id of a model"),
        ({"model": ""}, "model", "must be the id of a model"),
        ({"model": 5}, "model", "must be the id of a model"),
        ({"model": None}, "model", "must be the id of a model"),
        ({"model": "x" * 300}, "model", "must be the id of a model"),
        ({"messages": ...}, "messages", "Missing required parameter: 'messages'"),
        ({"messages": []}, "messages", "a list of at least one message"),
        ({"messages": {}}, "messages", "a list of at least one message"),
        ({"messages": "hi"}, "messages", "a list of at least one message"),
        ({"messages": None}, "messages", "a list of at least one message"),
        ({"messages": [5]}, "messages[0]", "an object with 'role' and 'content'"),
        (message(content="x"), "messages[1].role", "Missing required parameter"),
        (message(role="robot", content="x"), "messages[1].role", "one of system, developer, user"),
        (message(role=5, content="x"), "messages[1].role", "one of system, developer, user"),
        (message(role=None, content="x"), "messages[1].role", "one of system, developer, user"),
        (message(role="user"), "messages[1].content", "Missing required parameter"),
        (message(role="user", content=None), "messages[1].content", "a string or a list"),
        (message(role="user", content=5), "messages[1].content", "a string or a list"),
        (message(role="user", content={}), "messages[1].content", "a string or a list"),
        (message(role="system", content=None), "messages[1].content", "a string or a list"),
        (message(role="assistant", content=True), "messages[1].content", "a string or a list"),
        (message(role="tool", content="x"), "messages[1].tool_call_id", "Missing required"),
        (message(role="tool", tool_call_id=5, content="x"), "messages[1].tool_call_id", "the id"),
        (message(role="tool", tool_call_id="c"), "messages[1].content", "Missing required"),
        (message(role="assistant", tool_calls={}), "messages[1].tool_calls", "a list"),
        (
            message(role="assistant", tool_calls=[{}]),
            "messages[1].tool_calls[0].function",
            "Missing",
        ),
        (
            message(
                role="assistant", tool_calls=[CALL | {"function": {"name": "f", "arguments": 5}}]
            ),
            "messages[1].tool_calls[0].function.arguments",
            "a string that holds the arguments",
        ),
        (message(role="user", content=["x"]), "messages[1].content[0]", "an object with a 'type'"),
        (part(text="x"), "messages[1].content[1].type", "Missing required parameter"),
        (part(type=5), "messages[1].content[1].type", "a string, such as text"),
        (part(type="text"), "messages[1].content[1].text", "a string"),
        (part(type="text", text=5), "messages[1].content[1].text", "a string"),
        (part(type="image_url"), "messages[1].content[1].image_url", "Missing required"),
        (part(type="image_url", image_url="x"), "messages[1].content[1].image_url", "URL"),
        (part(type="image_url", image_url=5), "messages[1].content[1].image_url", "a 'url'"),
        (part(type="image_url", image_url={}), "messages[1].content[1].image_url.url", "Missing"),
        (
            part(type="image_url", image_url={"url": 1}),
            "messages[1].content[1].image_url.url",
            "URL",
        ),
        ({"stream": "true"}, "stream", "true or false"),
        ({"stream": 1}, "stream", "true or false"),
        ({"stream_options": {}}, "stream_options", "only allowed with 'stream': true"),
        ({"stream": False, "stream_options": {}}, "stream_options", "only allowed with"),
        ({"stream": True, "stream_options": []}, "stream_options", "an object"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "true or false",
        ),
        ({"n": 0}, "n", "from 1 to 128"),
        ({"n": 129}, "n", "from 1 to 128"),
        ({"n": 1.5}, "n", "from 1 to 128"),
        ({"n": "1"}, "n", "from 1 to 128"),
        ({"n": True}, "n", "from 1 to 128"),
        ({"n": 10**30}, "n", "from 1 to 128"),
        ({"max_tokens": 10**30}, "max_tokens", "at most 31 bits"),
        ({"max_tokens": 2**31}, "max_tokens", "at most 31 bits"),
        ({"max_tokens": -(2**31) - 1}, "max_tokens", "at most 31 bits"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens", "a whole number"),
        ({"temperature": "hot"}, "temperature", "a number"),
        ({"top_p": "1"}, "top_p", "a number"),
        ({"presence_penalty": "3"}, "presence_penalty", "a number"),
        ({"frequency_penalty": []}, "frequency_penalty", "a number"),
        ({"logprobs": 5}, "logprobs", "true or false"),
        ({"top_logprobs": 2.5}, "top_logprobs", "a whole number"),
        ({"logit_bias": {"1": "1"}}, "logit_bias", "token ids and numbers"),
        ({"logit_bias": []}, "logit_bias", "token ids and numbers"),
        ({"stop": 5}, "stop", "a string or a list of strings"),
        ({"stop": [5]}, "stop[0]", "a string"),
        ({"seed": "x"}, "seed", "a whole number"),
        ({"seed": 2**63}, "seed", "a whole number"),
        ({"tools": {}}, "tools", "a list of tools"),
        ({"tools": ["f"]}, "tools[0]", "an object with a 'type'"),
        ({"tools": [TOOL, {}]}, "tools[1].type", "Missing required parameter"),
        ({"tools": [{"type": 5}]}, "tools[0].type", "a string, such as function"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing required parameter"),
        ({"tools": [TOOL | {"function": {}}]}, "tools[0].function.name", "Missing required"),
        ({"tool_choice": 5}, "tool_choice", "a string, such as auto"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls", "true or false"),
        ({"response_format": "json"}, "response_format", "an object with a 'type'"),
        ({"response_format": {}}, "response_format.type", "Missing required parameter"),
        ({"response_format": {"type": 1}}, "response_format.type", "json_object"),
        ({"metadata": [1]}, "metadata", "an object"),
        ({"user": 5}, "user", "a string"),
        ({"store": 1}, "store", "must be true or false"),
        ({"prediction": []}, "prediction", "must be an object"),
        ({"reasoning_effort": 3}, "reasoning_effort", "must be a string"),
        ({"modalities": "text"}, "modalities", "must be a list"),
    ],
)
def test_a_wrong_field_is_refused_and_named(fields: dict[str, Any], param: str, words: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param
    assert words.lower() in error.message.lower()
    assert f"'{param}'" in error.message or param == "stream_options"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (body(user="\x00").replace(rb"\u0000", b"\xff"), "not valid UTF-8"),
        (body(x=1).replace(b'"x":1', b'"x":NaN'), "not valid JSON"),
        (body(x=1).replace(b'"x"', b'"model"'), "'model' occurs more than once"),
        (body(x=1).replace(b"1", b"[" * 70 + b"]" * 70), "64 levels"),
        (body(x=1).replace(b"1", b"[" * 5000 + b"]" * 5000), "64 levels"),
    ],
)
def test_a_body_that_is_no_request_is_refused(text: bytes, words: str) -> None:
    assert words in refusal(text).message


def test_only_the_model_is_changed_on_the_way_up() -> None:
    text = (
        b'{ "x":{"a" : 1.50,"b":[ ]}, "model":"a",'
        b'"messages": [{"role":"user","content":"\\u00e9"}] }'
    )
    sent = request_body(parse_chat(text), "vendor/a-1", NO_QUIRKS)
    assert sent == (
        b'{"x":{"a" : 1.50,"b":[ ]},"model":"vendor/a-1",'
        b'"messages":[{"role":"user","content":"\\u00e9"}]}'
    )


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"stream": True}, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False}}, {"include_usage": True}),
        (
            {"stream": True, "stream_options": {"include_obfuscation": False, "new": [1]}},
            {"include_obfuscation": False, "new": [1], "include_usage": True},
        ),
        ({"stream": False}, None),
        ({}, None),
    ],
)
def test_a_stream_always_asks_upstream_for_usage(
    fields: dict[str, Any], options: dict[str, Any] | None
) -> None:
    assert (
        json.loads(request_body(parse(**fields), "m", NO_QUIRKS)).get("stream_options") == options
    )


def test_a_request_can_be_written_for_several_deployments() -> None:
    request = parse(stream=True)
    assert json.loads(request_body(request, "a", NO_QUIRKS))["model"] == "a"
    assert json.loads(request_body(request, "b", NO_QUIRKS))["model"] == "b"


def picture(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def media(kind: str, data: str) -> list[dict[str, Any]]:
    name = {"file": "file_data", "video_url": "url"}.get(kind, "data")
    return [{"role": "user", "content": [{"type": kind, kind: {name: data}}]}]


@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [
        ({"messages": [{"role": "user", "content": "x" * 4000}]}, 1000, 1020),
        ({"tools": [TOOL | {"description": "x" * 4000}]}, 1000, 1050),
        ({"unknown": "x" * 4000}, 1000, 1040),
        ({"response_format": {"type": "json_schema", "json_schema": "x" * 4000}}, 1000, 1050),
        ({"messages": picture("data:image/png;base64," + "QUJD" * 500_000)}, 1000, 1040),
        ({"messages": picture("https://example.com/a.png")}, 1000, 1040),
        ({"messages": picture("https://example.com/a.png") * 3}, 3000, 3100),
        ({"messages": media("input_audio", "QUJD" * 500_000)}, 1000, 1040),
        ({"messages": media("file", "QUJD" * 500_000)}, 1000, 1040),
        ({"messages": media("file", "QUJD" * 100)}, 100, 140),
        ({"messages": media("video_url", "data:video/mp4;base64," + "QUJD" * 100_000)}, 1000, 1040),
    ],
)
def test_the_prompt_estimate_counts_text_by_bytes_and_pictures_by_piece(
    fields: dict[str, Any], low: int, high: int
) -> None:
    assert low <= parse(**fields).prompt_estimate <= high


@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [
        ({"messages": [{"role": "user", "content": "x" * 4000}]}, 4000, 4100),
        ({"unknown": "x" * 4000}, 4000, 4100),
        ({"messages": picture("data:image/png;base64," + "QUJD" * 500_000)}, 8192, 8400),
        ({"messages": picture("DATA:IMAGE/png;base64," + "QUJD" * 500_000)}, 8192, 8400),
        ({"messages": picture("https://example.com/a.png")}, 8192, 8400),
        ({"messages": picture("https://example.com/a.png") * 3}, 3 * 8192, 3 * 8400),
        # Upstreams count pages and frames, of which a few bytes can hold many.
        ({"messages": picture("data:application/pdf;base64,QUJD")}, 2**40, 2**41),
        ({"messages": media("file", "QUJD" * 9_000)}, 2**40, 2**41),
        ({"messages": media("file", "QUJD" * 100)}, 2**40, 2**41),
        ({"messages": media("video_url", "data:video/mp4;base64,QUJD")}, 2**40, 2**41),
        ({"messages": media("input_audio", "QUJD" * 9_000)}, 36_000, 36_300),
        ({"messages": media("video_url", "https://example.com/a.mp4")}, 2**40, 2**40 + 300),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
                ]
            },
            2**40,
            2**40 + 300,
        ),
    ],
)
def test_a_request_cannot_be_more_tokens_than_its_bound(
    fields: dict[str, Any], low: int, high: int
) -> None:
    assert low <= parse(**fields).prompt_bound - ADDED_TOKENS <= high


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**40, "", "user", [], {}, [None], [[]], [{}], {"type": 5}, {"a": []}]
)
KEYS = ["role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "id"]
VALUES: st.SearchStrategy[Any] = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=6,
)  # fmt: skip
FIELDS = [
    "messages", "model", "stream", "stream_options", "n", "stop", "tools", "tool_choice", "seed",
    "response_format", "logit_bias", "metadata", "functions", "max_tokens", "unknown",
]  # fmt: skip


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_any_fields_pass_or_are_refused(fields: dict[str, Any]) -> None:
    check_any(body(**fields))


@given(st.integers(0, 200), st.binary(max_size=4), st.integers(0, 4))
def test_any_damage_passes_or_is_refused(at: int, put: bytes, cut: int) -> None:
    text = body(stream=True, tools=[TOOL], messages=[HELLO, *media("file", "QUJD")])
    check_any(text[:at] + put + text[at + cut :])


def check_any(text: bytes) -> None:
    try:
        request = parse_chat(text)
    except InvalidRequest:
        return
    json.loads(request_body(request, "m", NO_QUIRKS))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("stop", [["a", "b", "c", "d", "e"], [], ""]),
        ("max_tokens", [-1, 0, -2, 2**31 - 1]),
        ("max_completion_tokens", [-1, 0]),
        ("top_logprobs", [-1, 25, 1000]),
        ("temperature", [-0.1, 2.5, 100]),
        ("top_p", [-1, 1.1]),
        ("presence_penalty", [-2.1, 5]),
        ("frequency_penalty", [-3, 2.1]),
        ("logit_bias", [{"50256": 101}, {"50256": -1000.5}]),
        ("metadata", [{"a": 1}, {"a": {"b": ["c", None]}}, {}]),
    ],
)
def test_a_range_is_the_upstreams_business(name: str, values: list[Any]) -> None:
    for value in values:
        request = parse(**{name: value})
        assert json.loads(request_body(request, "m", NO_QUIRKS))[name] == value


@pytest.mark.parametrize(
    ("caps", "smallest"),
    [
        ({"max_tokens": -1}, None),
        ({"max_tokens": 0}, None),
        ({"max_completion_tokens": -1, "max_tokens": 500}, 500),
        ({"max_completion_tokens": 10, "max_tokens": -1}, 10),
        ({"max_completion_tokens": 10, "max_tokens": 500}, 10),
        ({"max_completion_tokens": 500, "max_tokens": 10}, 10),
        ({"max_completion_tokens": None, "max_tokens": 7}, 7),
    ],
)
def test_the_smaller_cap_that_is_a_limit_counts(caps: dict[str, Any], smallest: int | None) -> None:
    assert parse(**caps).max_output_tokens == smallest


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\udc00", "\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        (r"\uD83D x \uDE00", "\ufffd x \ufffd"),
        (r"\ud83dA", "\ufffdA"),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\\\\ud83d\udfff", "\\\\ud83d\ufffd"),
        (r"\ud83d\n\ude00\"", '\ufffd\n\ufffd"'),
    ],
)
def test_half_a_character_in_the_history_is_mended(sent: str, read: str) -> None:
    for text in (
        body().replace(b"Hello", sent.encode()),
        b"\xef\xbb\xbf" + body().replace(b"Hello", sent.encode()),
    ):
        passed = json.loads(request_body(parse_chat(text), "m", NO_QUIRKS))
        assert passed["messages"][0]["content"] == read
    inside = body(tools=[TOOL | {"x": {"k": "Here"}}]).replace(b"Here", sent.encode())
    assert (
        json.loads(request_body(parse_chat(inside), "m", NO_QUIRKS))["tools"][0]["x"]["k"] == read
    )


def test_what_only_looks_like_half_a_character_stays_as_it_is() -> None:
    text = body().replace(b"Hello", rb"\\ud83d \ud83d\ude00 \u00e9")
    assert (
        json.loads(request_body(parse_chat(text), "m", NO_QUIRKS))["messages"]
        == json.loads(text)["messages"]
    )


def test_more_halves_than_can_be_mended_in_time_are_refused() -> None:
    assert "surrogate" in refusal(body().replace(b"Hello", rb"\ud83d" * 20_001)).message


def test_a_byte_order_mark_before_the_body_is_skipped() -> None:
    assert parse_chat(b"\xef\xbb\xbf" + body()).fields == parse().fields
