"""An answer that is not streamed is checked, accounted for, and passes but for the model's name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.fakes.openai_wire import USAGE, compact, translator

from workers.errors import (
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from workers.request.token_usage import Usage

CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(message: Any = ..., finish: Any = "stop", **more: Any) -> bytes:
    text = {"role": "assistant", "content": "Hi", "refusal": None} if message is ... else message
    choice = {"index": 0, "message": text, "logprobs": None, "finish_reason": finish}
    told = {"id": "c1", "object": "chat.completion", "created": 7, "model": "vendor/glm"}
    return compact(told | {"choices": [choice], "usage": USAGE} | more)


@pytest.mark.parametrize(
    "sent",
    [
        answer(),
        answer(usage=None),
        answer(unheard_of={"a": [1, {}]}, error=None),
        answer({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls"),
        answer({"role": "assistant", "content": "é 👋 \u2028 \\"}),
        answer({"role": "assistant", "content": 'say "model":"vendor/glm"'}),
        b" \n"
        + answer().replace(b'"choices":[', b' "choices": [\n').replace(b"}", b', "x":1.50 }'),
    ],
)
def test_an_answer_passes_but_for_the_model(sent: bytes) -> None:
    one = translator(stream=False)
    expected = sent.strip().replace(b':"vendor/glm"', b':"zai/glm-4.5"')
    assert one.whole(sent) == expected.replace(b': "vendor/glm"', b': "zai/glm-4.5"')
    assert one.done and one.committed


def test_usage_and_text_of_an_answer_are_read() -> None:
    one = translator(stream=False)
    one.whole(answer({"content": "Hié", "reasoning_content": "hm"}, "length"))
    assert (one.usage, one.output_bytes, one.finish_reason) == (Usage(3, 2, 5), 6, "length")


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens": 3, "completion_tokens": 2},
        {"prompt_tokens": 3.0, "completion_tokens": "2", "total_tokens": 5},
        {"input_tokens": 3, "output_tokens": 2},
    ],
)
def test_a_usage_in_another_form_is_shown_as_openais(told: dict[str, Any]) -> None:
    shown = msgspec.json.decode(translator(stream=False).whole(answer(usage=told)))["usage"]
    assert {name: shown[name] for name in USAGE} == USAGE
    assert all(type(shown[name]) is int for name in USAGE)


def test_an_answer_without_usage_has_none() -> None:
    told: list[Any] = [None, {}, [], "x"]
    for usage in told:
        one = translator(stream=False)
        one.whole(answer(usage=usage))
        assert one.usage is None


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", UpstreamError),
        (b"<html>", UpstreamError),
        (b"null", UpstreamError),
        (b"[]", UpstreamError),
        (b"{}", UpstreamError),
        (answer()[:-1], UpstreamError),
        (answer() + b"x", UpstreamError),
        (answer(choices=None), UpstreamError),
        (answer(choices=[]), UpstreamError),
        (answer(None), UpstreamError),
        (answer({}), UpstreamError),
        (answer(choices={}), UpstreamError),
        (answer(choices=["x"]), UpstreamError),
        (answer(id="x").replace(b'"x"', b'"\xff"'), UpstreamError),
        (answer(id="x").replace(b'"x"', b"NaN"), UpstreamError),
        (answer(id="x").replace(b'"x"', b"[" * 5000 + b"]" * 5000), UpstreamError),
        (answer(None, "error"), UpstreamError),
        (compact({"error": {"message": "No.", "code": 400}}), UpstreamRejected),
        (compact({"error": {"message": "No.", "code": 429}}), UpstreamRateLimited),
        (answer(error={"message": "x", "code": 502}), UpstreamUnavailable),
        (compact({"object": "error", "message": "x", "code": 500}), UpstreamUnavailable),
    ],
)
def test_what_is_no_completion_is_an_error(sent: bytes, kind: type[UpstreamError]) -> None:
    one = translator(stream=False)
    with pytest.raises(UpstreamError) as caught:
        one.whole(sent)
    assert type(caught.value) is kind
    assert not one.done
