"""No spelling of a member gets past the checks to an upstream that reads JSON in another way."""

from __future__ import annotations

import json

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer

from workers.errors import InvalidRequest
from workers.request.chat_request import parse_chat
from workers.request.chat_schema import Chat

GOOD = '"model":"m","messages":[{"role":"user","content":"Hi"}]'


def refusal(body: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(body.encode())
    return caught.value


@pytest.mark.parametrize("name", Chat.__struct_fields__)
def test_every_checked_member_is_refused_in_another_case(name: str) -> None:
    for other in {name.upper(), name.title(), name[0].upper() + name[1:]}:
        assert refusal(f'{{{GOOD},"{other}":null}}').param == other


@pytest.mark.parametrize(
    "name",
    [
        "me\u017fsages", "me\\u017fsages", "MESSAGE\u017f", "max_to\u212aens", "max_to\\u212aens",
        "\u017ftream", "tool\u017f", "MAX_COMPLETION_TO\u212aEN\u017f", "maxTokens",
        "maxCompletionTokens", "streamOptions", "serviceTier", "Webs\\u0065archOptions",
    ],
)  # fmt: skip
def test_a_name_that_folds_to_a_checked_one_is_refused(name: str) -> None:
    error = refusal(f'{{{GOOD},"{name}":null}}')
    assert error.param == json.loads(f'"{name}"')
    assert "Send '" in error.message


@pytest.mark.parametrize(
    "name", ["max_token", "max-tokens", "top_k", "Top_K", "modelx", "maxlength", "\uff4dodel", ""]
)
def test_other_names_pass(name: str) -> None:
    fields = parse_chat(f'{{{GOOD},"{name}":1}}'.encode()).fields
    assert bytes(fields[name]) == b"1"


TWICE = {
    "role": '[{"role":"user","role":"assistant","content":"x"}]',
    "content": '[{"role":"user","content":[],"content":"x"}]',
    "escaped": '[{"role":"user","content":"x","c\\u006fntent":"y"}]',
    "second message": '[{"role":"user","content":"x"},{"role":"user","x":1,"x":2,"content":"x"}]',
    "part": '[{"role":"user","content":[{"type":"text","text":"a","type":"x"}]}]',
    "text": '[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]',
    "hidden by a shorter part": (
        '[{"role":"user","content":[{"type":"text","text":"a","text":"bb"},{"type":"x"}]}]'
    ),
    "url": (
        '[{"role":"user","content":[{"type":"image_url","image_url":'
        '{"url":"file:///etc/passwd","url":"https://x/"}}]}]'
    ),
    "empty name": '[{"role":"user","content":"x","":1,"":2}]',
    "short name": '[{"role":"user","content":"x","a":1,"a":2}]',
}


@pytest.mark.parametrize("messages", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("spaced", [False, True])
def test_a_key_that_occurs_twice_in_a_message_is_refused(messages: str, spaced: bool) -> None:
    if spaced:
        messages = messages.replace('":', '": ').replace(',"', ', "')
    error = refusal(f'{{"model":"m","messages":{messages}}}')
    assert "role" in (error.param or "") or "more than once" in error.message
    assert (error.param or "").startswith("messages[")


def test_a_key_that_occurs_twice_in_a_tool_is_refused() -> None:
    tool = '{"type":"web_search","type":"function","function":{"name":"f"}}'
    assert refusal(f'{{{GOOD},"tools":[{tool}]}}').param == "tools[0].type"


def test_keys_that_repeat_where_nothing_is_checked_pass() -> None:
    parse_chat(f'{{{GOOD},"zz":{{"a":1,"a":2}},"metadata":{{"b":"1","b":"2"}}}}'.encode())


@pytest.mark.parametrize(
    ("member", "param"),
    [
        ('"images":["file:///etc/passwd"]', "messages[0].images[0]"),
        ('"images":["AAAA","FILE:/x"]', "messages[0].images[1]"),
        ('"Images":["file:///x"]', "messages[0].Images[0]"),
        ('"image":"file:///x"', "messages[0].image"),
        ('"image_url":"ftp://x/"', "messages[0].image_url"),
        ('"image_url":{"url":"file:///x"}', "messages[0].image_url.url"),
        ('"attachments":[{"url":"file:///x"}]', "messages[0].attachments[0].url"),
        ('"files":[{"file_data":"file:///x"}]', "messages[0].files[0].file_data"),
        ('"video":"gs://x/a"', "messages[0].video"),
        ('"Content":[]', "messages[0].Content"),
        ('"Tool_Calls":[]', "messages[0].Tool_Calls"),
    ],
)
def test_media_beside_the_content_are_checked(member: str, param: str) -> None:
    error = refusal(f'{{"model":"m","messages":[{{"role":"user","content":"x",{member}}}]}}')
    assert error.param == param


@pytest.mark.parametrize(
    "member",
    [
        '"images":["AAAA","https://x/a.png","data:image/png;base64,AA"]', '"images":null',
        '"audio":{"id":"audio_1"}', '"attachments":[{"name":"a: b","id":1}]', '"name":"file:x"',
        '"reasoning_content":"file:///x"', '"files":[]', '"metadata":{"url":"file:///x"}',
    ],
)  # fmt: skip
def test_good_members_of_a_message_pass(member: str) -> None:
    message = f'{{"role":"assistant","content":"x",{member}}}'
    fields = parse_chat(f'{{"model":"m","messages":[{message}]}}'.encode()).fields
    assert bytes(fields["messages"]).decode() == f"[{message}]"


@pytest.mark.parametrize(
    "part", ['"IMAGE_URL":{"url":"file:///x"}', '"image_url":{"URL":"file:x"}']
)
def test_urls_are_checked_in_every_case(part: str) -> None:
    body = f'{{"model":"m","messages":[{{"role":"user","content":[{{"type":"x",{part}}}]}}]}}'
    assert "URL" in refusal(body).message


def test_a_part_of_the_length_of_a_text_is_checked_all_the_same() -> None:
    part = '{"type":"a","url":"file:x"}'
    assert len(part) == len('{"type":"text","text":null}')
    error = refusal(f'{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}')
    assert error.param == "messages[0].content[0].url"


async def test_no_lookalike_reaches_an_upstream(upstream: FakeUpstream, door: Door) -> None:
    for member in ("Max_Tokens", "N", "tool\u017f"):
        answer = await door.client.post(
            "/api/v1/chat/completions",
            json={"model": "test/one", "messages": [], member: 1} | json.loads(f"{{{GOOD}}}"),
            headers=bearer(OWNER),
        )
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, member)
    assert upstream.requests == []
