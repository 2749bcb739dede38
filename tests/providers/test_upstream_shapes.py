"""Every shape of the catalogue comes out as it says, streamed and whole, however its bytes are cut.

The content decides, not what was requested: every shape answers both kinds of request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from support.answers_read import ReadAnswer, promised, read_chunks, read_whole
from support.fakes.openai_wire import translator

from server.demo.upstream_shapes import PAD_BYTES, Booked, UpstreamShape, upstream_shapes
from workers.errors import UpstreamError
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.request.token_usage import Usage

SHAPES = [each for each in upstream_shapes() if each.type != "text/html"]
SMALL = [each for each in SHAPES if "$PAD" not in each.template]
GOOD = [each for each in SHAPES if each.error is None]
BAD = [each for each in SHAPES if each.error is not None]
LIMIT = 2 * PAD_BYTES


def relay(
    shape: UpstreamShape, pieces: Iterable[bytes], *, usage: bool = False
) -> tuple[OpenAITranslator, bytes]:
    """Translate a stream; raise what it ends with."""
    one = translator(usage=usage, max_event_bytes=LIMIT)
    one.check_head(200, {"content-type": shape.type})
    out = b"".join([one.feed(piece) for piece in pieces])
    return one, out if one.done else out + one.finish()


def chunks_of(out: bytes) -> list[dict[str, Any]]:
    """Read the chunks of a complete stream."""
    assert out.endswith(b"data: [DONE]\n\n") and out.count(b"data: [DONE]") == 1
    payloads = [each.removeprefix(b"data: ") for each in out[:-2].split(b"\n\n")]
    return [json.loads(payload) for payload in payloads[:-1]]


def booked(shape: UpstreamShape) -> Usage | None:
    """Return the counts that are booked as reported, without the total."""
    told = shape.booked
    if told is None:
        return None
    return Usage(told.prompt, told.completion, None, told.cached, told.written, told.reasoning)


def check_shown(usage: dict[str, Any], booked: Booked) -> None:
    """Check the usage that a client gets: a count that was not reported is an estimate."""
    for name, count in (
        ("prompt_tokens", booked.prompt),
        ("completion_tokens", booked.completion),
    ):
        assert usage[name] == count if count is not None else usage[name] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = usage.get(name, {})
        assert type(details) is dict and all(type(each) is int for each in details.values())


def without_total(usage: Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        None,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


@pytest.mark.parametrize("shape", GOOD, ids=lambda each: each.name)
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_comes_out_as_promised(shape: UpstreamShape, usage: bool) -> None:
    one, out = relay(shape, [shape.body], usage=usage)
    chunks = chunks_of(out)
    assert read_chunks(chunks) == promised(shape)
    assert without_total(one.usage) == booked(shape)
    assert one.finished and one.done and one.finish_reason == shape.reason
    told = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if usage and shape.booked is not None:
        (last,) = told
        assert chunks[-1]["usage"] == last and chunks[-1]["choices"] == []
        check_shown(last, shape.booked)
    else:
        assert told == []


@pytest.mark.parametrize("shape", GOOD, ids=lambda each: each.name)
def test_a_whole_answer_is_made_of_every_shape(shape: UpstreamShape) -> None:
    one = translator(stream=False, max_event_bytes=LIMIT)
    one.check_head(200, {"content-type": shape.type})
    out = one.whole(shape.body)
    assert read_whole(out) == promised(shape)
    assert without_total(one.usage) == booked(shape)
    assert one.finished and one.done and one.finish_reason == shape.reason
    shown = json.loads(out).get("usage")
    if shape.booked is not None:
        check_shown(shown, shape.booked)


def outcome(shape: UpstreamShape, pieces: list[bytes]) -> tuple[ReadAnswer | None, Any, str]:
    """Return what a client gets of a stream that is cut into pieces, its usage and its error."""
    one, out, code = translator(max_event_bytes=LIMIT), b"", ""
    try:
        for piece in pieces:
            out += one.feed(piece)
        out += b"" if one.done else one.finish()
    except UpstreamError as error:
        code = type(error).__name__ + error.message
    chunks = [
        json.loads(event.removeprefix(b"data: "))
        for event in out.split(b"\n\n")[:-1]
        if event != b"data: [DONE]"
    ]
    assert (b"[DONE]" in out) is (code == "")
    return read_chunks(chunks, schema=False) if chunks else None, one.usage, code


@pytest.mark.parametrize("shape", SMALL, ids=lambda each: each.name)
def test_it_makes_no_difference_where_the_bytes_are_cut(shape: UpstreamShape) -> None:
    body = shape.body
    expected = outcome(shape, [body])
    bytewise = outcome(shape, [body[at : at + 1] for at in range(len(body))])
    if shape.name == "usage_after_done":
        assert bytewise[0] == expected[0], "its usage counts only within one read"
        return
    answer, usage, code = expected
    if shape.error is not None and bytewise[0] is not None:
        assert shape.text.startswith(bytewise[0].text) and bytewise[1:] == (usage, code)
    else:
        assert bytewise == expected
    for at in range(1, len(body)):
        got = outcome(shape, [body[:at], body[at:]])
        if got != expected:
            assert shape.error is not None and got[1:] == (usage, code), at
            assert got[0] is not None and answer is None, at


@pytest.mark.parametrize("shape", BAD, ids=lambda each: each.name)
def test_a_failure_is_the_promised_one(shape: UpstreamShape) -> None:
    with pytest.raises(UpstreamError) as streamed:
        relay(shape, [shape.body])
    with pytest.raises(UpstreamError) as whole:
        translator(stream=False).whole(shape.body)
    for caught in (streamed, whole):
        error = caught.value
        assert (error.code or "", error.status) == (shape.error, shape.status)
        assert error.retryable is (shape.status >= 500)


def test_a_page_is_refused() -> None:
    pages = [each for each in upstream_shapes() if each.type == "text/html"]
    assert pages
    for page in pages:
        for stream in (True, False):
            with pytest.raises(UpstreamError):
                translator(stream=stream).check_head(200, {"content-type": page.type})


def test_the_names_are_unique_and_every_group_has_shapes() -> None:
    names = [each.name for each in upstream_shapes()]
    assert len(set(names)) == len(names) >= 50
    groups = {each.about for each in upstream_shapes()}
    assert groups == {"Ends", "Chunks", "Labels and framing", "Usage"}
