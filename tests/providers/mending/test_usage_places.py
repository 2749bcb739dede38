"""Usage is booked wherever an upstream writes it: in failures, in each choice, beside media."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace
from support.fakes.openai_wire import (
    DEPLOYMENT,
    DONE,
    MODEL,
    ROLE,
    STOP,
    TEXT,
    chunk,
    compact,
    event,
    translator,
)

from workers.catalog.quirks import Quirks
from workers.errors import UpstreamError
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.request.chat_request import parse_chat
from workers.request.token_usage import Usage

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
BILLED = Usage(1000, 500)
BASE = {"id": "c1", "object": "chat.completion", "created": 7, "model": "vendor/glm"}


def read(body: bytes, *, stream: bool, **fields: Any) -> tuple[Usage | None, bool, int]:
    """Have a body read at once; return usage without total, failure, and the size of the text."""
    one = translator(stream=stream, **fields)
    failed = False
    try:
        if stream:
            one.feed(body)
            if not one.done:
                one.finish()
        else:
            one.whole(body)
    except UpstreamError:
        failed = True
    usage = one.usage and replace(one.usage, total_tokens=None)
    return usage, failed or one.failure is not None, one.output_bytes


def whole(*choices: Any, **more: Any) -> bytes:
    return compact(BASE | {"choices": choices} | more)


def message(content: str = "Hi", reason: str = "stop", **more: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": content}
    return {"index": 0, "message": told, "finish_reason": reason} | more


FAILED = {"index": 0, "delta": {}, "finish_reason": "error"}
BROKEN = chunk({}, usage=USAGE).replace(b"c1", b"\xff1")


@pytest.mark.parametrize(
    "body",
    [
        ROLE + chunk({}, "error", usage=USAGE),
        ROLE + event(BASE | {"choices": [FAILED | {"usage": USAGE}]}),
        ROLE + event(BASE | {"choices": [FAILED], "x_vendor": {"usage": USAGE}}),
        ROLE + TEXT + chunk({}, "network_error", usage=USAGE),
        ROLE + event({"error": {"message": "x"}, "usage": USAGE}),
        ROLE + chunk({}, "error") + chunk(usage=USAGE) + DONE,
        ROLE + BROKEN,
        whole(message(reason="error"), usage=USAGE),
        whole(message("H\xff"), usage=USAGE).replace("\xff".encode(), b"\xff"),
        whole({"index": 0, "finish_reason": "error", "message": {"content": "x"}}, usage=USAGE),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_is_booked_as_its_upstream_reports_it(body: bytes, stream: bool) -> None:
    usage, failed, _ = read(body, stream=stream)
    assert failed and usage == BILLED


@pytest.mark.parametrize(
    "body", [whole(message(), usage=USAGE) * 2, whole(usage=USAGE), b"[" + whole(usage=USAGE)]
)
def test_a_body_that_is_no_answer_is_booked_as_it_reports(body: bytes) -> None:
    assert read(body, stream=False)[:2] == (BILLED, True)


@pytest.mark.parametrize(
    "reported",
    [
        {"usage": [USAGE]},
        {"usage": json.dumps(USAGE)},
        {"usage": [json.dumps(USAGE), USAGE]},
        {"meta": {"billing": {"usage": USAGE}}},
        {"meta": {"attempts": [{"n": 1}, {"usage": USAGE}]}},
        {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        {"metadata": {"prompt_tokens": "1", "completion_tokens": "1"}, "x": {"usage": USAGE}},
    ],
    ids=range(7),
)
def test_usage_is_found_in_other_places(reported: dict[str, Any]) -> None:
    told = ROLE + TEXT + STOP
    assert read(told + chunk(**reported) + DONE, stream=True)[0] == BILLED
    bare = event({"type": "usage"} | reported)
    assert read(told + bare + DONE, stream=True)[0] == BILLED
    assert read(whole(message(), **reported), stream=False)[0] == BILLED


CHEAP = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": CHEAP},
        {"metadata": {"usage": CHEAP}},
        {"choices": [message() | {"message": {"content": "Hi", "parsed": {"usage": CHEAP}}}]},
        {"choices": [message(logprobs={"usage": CHEAP})]},
    ],
    ids=range(4),
)
def test_what_the_client_or_the_model_has_written_is_no_usage(more: dict[str, Any]) -> None:
    assert read(compact(BASE | {"choices": [message()]} | more), stream=False)[:2] == (None, False)


FIRST = {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400}
SECOND = {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}
BOTH = Usage(100, 500)


@pytest.mark.parametrize(
    ("each", "usage"),
    [
        ((FIRST, SECOND), BOTH),
        ((SECOND, FIRST), BOTH),
        ((FIRST, FIRST), Usage(100, 600)),
        ((FIRST, {"completion_tokens": 200}), BOTH),
        ((FIRST, {}), Usage(100, 300)),
        (({}, SECOND), Usage(100, 200)),
        ((FIRST | {"cached_tokens": 9}, SECOND), Usage(100, 500, cached_tokens=9)),
    ],
    ids=range(7),
)
def test_the_usage_of_each_choice_counts(each: tuple[Any, Any], usage: Usage) -> None:
    first, second = each
    choices = [message(usage=first), message(usage=second) | {"index": 1}]
    assert read(whole(*choices), stream=False, n=2)[0] == usage
    ends = [
        event(BASE | {"choices": [{"index": i, "delta": {}, "finish_reason": "stop", "usage": u}]})
        for i, u in enumerate(each)
    ]
    begun = ROLE + chunk({"content": "a"}) + ROLE.replace(b'"index":0', b'"index":1')
    for told in (ends, ends[::-1], [*ends, *ends]):
        assert read(begun + b"".join(told) + DONE, stream=True, n=2)[0] == usage


def test_the_usage_of_the_answer_counts_where_it_is_larger_than_that_of_its_choices() -> None:
    choices = [message(usage=FIRST), message(usage=SECOND) | {"index": 1}]
    assert read(whole(*choices, usage=USAGE), stream=False, n=2)[0] == BILLED


BEGUN = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
LONG = chunk({"content": "word " * 1000})


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ((chunk({"role": "assistant", "content": ""}, usage=BEGUN), LONG, STOP), Usage(1000)),
        ((chunk(usage=BEGUN), LONG, STOP), Usage(1000)),
        ((ROLE, chunk({"content": "a"}, usage=BEGUN), LONG, STOP), Usage(1000)),
        ((ROLE, chunk(usage=BEGUN | {"completion_tokens": 0}), LONG, STOP), Usage(1000)),
        ((chunk(usage=BEGUN), ROLE, TEXT, STOP), Usage(1000, 1)),
        ((chunk(usage=BEGUN), LONG, STOP, chunk(usage=USAGE)), BILLED),
        ((chunk(usage=BEGUN), LONG, chunk({}, "stop", usage=USAGE)), BILLED),
        ((ROLE, LONG, chunk(usage=USAGE), STOP), BILLED),
        ((ROLE, chunk({"content": "word " * 1000}, usage=USAGE), STOP), BILLED),
        # What is reported at the end counts, however unlikely it is.
        ((ROLE, LONG, STOP, chunk(usage=BEGUN)), Usage(1000, 1)),
        ((ROLE, LONG, chunk({}, "stop", usage=BEGUN)), Usage(1000, 1)),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_report_of_the_beginning_is_not_that_of_the_whole_answer(
    events: tuple[bytes, ...], usage: Usage, stream: bool
) -> None:
    read_usage, failed, _ = read(b"".join(events) + DONE, stream=stream)
    assert (read_usage, failed) == (usage, False)
    shown = translator(usage=True)
    out = shown.feed(b"".join(events) + DONE)
    told = json.loads(out.split(b"data: ")[-2])["usage"]
    assert told["completion_tokens"] == (usage.completion_tokens or -(-shown.output_bytes // 4))
    assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"]


def test_a_usage_of_the_beginning_and_its_cost_wait_for_those_of_the_end() -> None:
    deployment = replace(DEPLOYMENT, quirks=Quirks(cost_is_authoritative=True))
    request = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
    begun, end = BEGUN | {"cost": 0.0}, USAGE | {"cost": 0.25}
    one = OpenAITranslator(request, MODEL, deployment, 100_000)
    one.feed(chunk(usage=begun) + ROLE + LONG)
    assert one.usage == Usage(1000, 1, 1001), "until the end"
    one.feed(STOP)
    assert (one.usage, one.stated_cost_microusd) == (Usage(1000), None)
    assert one.usage is one.usage, "its identity shows whether another one has come"
    one.feed(chunk(usage=end) + DONE)
    assert (one.usage, one.stated_cost_microusd) == (Usage(1000, 500, 1500), 250_000)


@pytest.mark.parametrize("junk", [b'{"x":"\xff"}', b'{"x":', b"\0", b"garbage"])
def test_an_unreadable_event_does_not_spoil_an_answer_that_is_complete(junk: bytes) -> None:
    told = ROLE + TEXT + STOP + event(junk)
    assert read(told + chunk(usage=USAGE) + DONE, stream=True) == (BILLED, False, 2)
    assert read(told + DONE, stream=True) == (None, False, 2)
    assert read(ROLE + TEXT + event(junk) + DONE, stream=True)[1], "it is not complete"


@pytest.mark.parametrize("padding", [b"\0", b"\0\0\0", b" \0\n", b"\n\0"])
@pytest.mark.parametrize("stream", [True, False])
def test_padding_does_not_spoil_a_whole_answer(padding: bytes, stream: bool) -> None:
    body = whole(message(), usage=USAGE) + padding
    assert read(body, stream=stream) == (BILLED, False, 2)


@pytest.mark.parametrize(
    ("member", "least", "most"),
    [
        ({"audio": {"id": "a", "data": "A" * 26_700}}, 300, 600),
        ({"audio": {"id": "a", "transcript": "é" * 50}}, 100, 100),
        ({"audio": {"id": "a", "data": None}, "content": "x"}, 1, 1),
        ({"audio": "A" * 26_700}, 300, 600),
        ({"images": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}, 1088, 25_000),
        ({"images": [{"url": "data:,x"}] * 2}, 2 * 1088, 2 * 25_000),
        ({"images": {"url": "data:,x"}}, 1088, 25_000),
        ({"audio": None, "images": [], "content": "Hi"}, 2, 2),
    ],
    ids=range(8),
)
def test_media_count_as_text_of_about_as_many_tokens(
    member: dict[str, Any], least: int, most: int
) -> None:
    told = {"role": "assistant"} | member
    answers = [
        (ROLE + chunk(told) + STOP + DONE, True, 0),
        (ROLE + TEXT + TEXT + chunk(member) + STOP + DONE, True, 4),
        (whole({"index": 0, "message": told, "finish_reason": "stop"}), False, 0),
    ]
    for body, stream, text_bytes in answers:
        usage, failed, size = read(body, stream=stream)
        assert (usage, failed) == (None, False)
        assert least <= size - text_bytes <= most
