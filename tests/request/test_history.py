"""What agents write into a history reaches the upstream in the form that OpenAI's API has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import Door

from workers.errors import InvalidRequest
from workers.request.chat_request import ChatRequest, parse_chat

ASK = {"role": "user", "content": "Hi"}


def call(call_id: Any = ..., arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    """Write a tool call; an ellipsis leaves a member out."""
    function = {"name": "f"} | ({} if arguments is ... else {"arguments": arguments})
    made = {"type": "function", "function": function} | more
    if call_id is not ...:
        made["id"] = call_id
    return {name: value for name, value in made.items() if value is not ...}


def answer(call_id: Any = ..., text: str = "42") -> dict[str, Any]:
    made = {"role": "tool", "content": text}
    return made if call_id is ... else made | {"tool_call_id": call_id}


def calls(*made: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def parse(*messages: dict[str, Any], spaced: bool = False) -> ChatRequest:
    body = {"model": "m", "messages": list(messages)}
    return parse_chat(json.dumps(body, separators=None if spaced else (",", ":")).encode())


def sent(*messages: dict[str, Any], spaced: bool = False) -> list[Any]:
    """Return the messages as the upstream gets them."""
    made: list[Any] = json.loads(bytes(parse(*messages, spaced=spaced).fields["messages"]))
    return made


@pytest.mark.parametrize("missing", [..., None, ""])
@pytest.mark.parametrize("spaced", [False, True])
def test_calls_and_answers_without_ids_get_the_same_ones(missing: Any, spaced: bool) -> None:
    history = [ASK, calls(call(missing), call(missing)), answer(missing), answer(missing), ASK]
    _, asked, first, second, _ = sent(*history, spaced=spaced)
    ids = [one["id"] for one in asked["tool_calls"]]
    assert len(set(ids)) == 2 and all(ids)
    assert [first["tool_call_id"], second["tool_call_id"]] == ids
    assert sent(*history, spaced=spaced)[1] == asked, "the same each time, so that prompts cache"


def test_a_call_without_an_id_gets_that_of_its_answer() -> None:
    asked, *answers = sent(calls(call(), call("b")), answer("a"), answer("b"))
    assert [one["id"] for one in asked["tool_calls"]] == ["a", "b"]
    assert [one["tool_call_id"] for one in answers] == ["a", "b"]


def test_an_id_of_another_call_is_not_taken_again() -> None:
    asked, *_ = sent(calls(call(), call("a")), answer("a"), answer("b"))
    first, second = [one["id"] for one in asked["tool_calls"]]
    assert second == "a" and first != "a"


def test_an_answer_without_an_id_answers_the_next_open_call() -> None:
    _, *answers = sent(calls(call("a"), call("b"), call("c")), answer("b"), answer(), answer())
    assert [one["tool_call_id"] for one in answers] == ["b", "a", "c"]


def test_made_ids_differ_between_turns() -> None:
    turns = sent(calls(call()), answer(), ASK, calls(call()), answer())
    ids = [one["tool_calls"][0]["id"] for one in turns if one["role"] == "assistant"]
    assert len(set(ids)) == 2
    assert [one["tool_call_id"] for one in turns if one["role"] == "tool"] == ids


def test_an_answer_without_an_id_and_without_a_call_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(ASK, answer())
    assert refused.value.param == "messages[1].tool_call_id"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"a": 1, "b": [True, None]}, '{"a": 1, "b": [true, null]}'),
        ({}, "{}"),
        ([], "{}"),
        (None, "{}"),
        (..., "{}"),
    ],
)
def test_arguments_become_a_string(arguments: Any, text: str) -> None:
    (asked,) = sent(calls(call("a", arguments)))
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == json.loads(text)
    (asked,) = sent(
        {"role": "assistant", "content": None, "function_call": call("a", arguments)["function"]}
    )
    assert json.loads(asked["function_call"]["arguments"]) == json.loads(text)


@pytest.mark.parametrize("arguments", [5, True, [1], [{}]])
def test_arguments_that_stand_for_no_object_are_refused(arguments: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(calls(call("a", arguments)))
    assert refused.value.param == "messages[0].tool_calls[0].function.arguments"


def test_a_call_without_a_type_is_a_function() -> None:
    (asked,) = sent(calls(call("a", type=...)))
    assert asked["tool_calls"][0]["type"] == "function"


def test_an_empty_list_beside_calls_is_no_content() -> None:
    (asked,) = sent(calls(call("a"), content=[]))
    assert asked["content"] is None
    (plain,) = sent({"role": "assistant", "content": []})
    assert plain["content"] == [], "without calls it passes as it came"


@pytest.mark.parametrize("kind", ["image_url", "video_url", "audio_url"])
@pytest.mark.parametrize("url", ["https://host/a.png", "data:image/png;base64,AAAA"])
def test_a_url_that_is_a_string_becomes_an_object(kind: str, url: str) -> None:
    part = {"type": kind, kind: url, "detail": 1}
    (asked,) = sent({"role": "user", "content": [{"type": "text", "text": "a"}, part]})
    assert asked["content"] == [
        {"type": "text", "text": "a"},
        {"type": kind, kind: {"url": url}, "detail": 1},
    ]


def test_a_string_of_another_api_passes() -> None:
    part = {"type": "input_image", "image_url": "https://host/a.png"}
    assert sent({"role": "user", "content": [part]})[0]["content"] == [part]


def test_what_is_good_passes_byte_for_byte() -> None:
    messages = (
        b'[{"content":"Hi" , "role":"user","x":{"a":1.50}},{"role":"assistant","content":null,'
        b'"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":""}}]},'
        b'{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"\\u00e9"}]}]'
    )
    request = parse_chat(b'{"model":"m","messages":%b}' % messages)
    assert bytes(request.fields["messages"]) == messages


PICTURE = "data:image/png;base64," + "QUJD" * 50_000


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": PICTURE}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]},
        {"role": "user", "content": "Hi", "images": [PICTURE]},
        {"role": "user", "content": "Hi", "images": [PICTURE.partition(",")[2]]},
        {"role": "user", "content": "Hi", "image": PICTURE},
    ],
)
def test_a_picture_counts_as_one_wherever_it_stands(message: dict[str, Any]) -> None:
    request = parse(message)
    assert 1000 <= request.prompt_estimate < 1100
    assert request.prompt_bound < 10_000
    assert 149_000 < request.largest_file_bytes < 151_000


@pytest.mark.parametrize(
    ("member", "known"),
    [
        ({"videos": ["https://host/a.mp4"]}, False),
        ({"files": [{"file_id": "file-1"}]}, False),
        ({"videos": ["AAAA"]}, False),
        ({"audios": ["AAAA"]}, True),
        ({"images": ["https://host/a.png"]}, True),
    ],
)
def test_what_an_upstream_fetches_has_no_known_bound(member: dict[str, Any], known: bool) -> None:
    bound = parse({"role": "user", "content": "Hi"} | member).prompt_bound
    assert (bound < 10_000) is known and (bound < 2**40) is known


def test_arguments_that_grow_by_their_escapes_count_as_sent() -> None:
    as_object = parse(calls(call("a", {"a": '"' * 4000})))
    assert as_object.prompt_bound >= len(as_object.fields["messages"])


async def test_an_upstream_gets_the_mended_history(upstream: FakeUpstream, door: Door) -> None:
    history = [ASK, calls(call(arguments={"a": 1}), content=[]), answer(), ASK]
    assert (await door.chat(messages=history)).status_code == 200
    _, asked, told, _ = upstream.requests[0].json["messages"]
    assert told["tool_call_id"] == asked["tool_calls"][0]["id"]
    assert asked["tool_calls"][0]["function"]["arguments"] == '{"a":1}'
    assert asked["content"] is None
