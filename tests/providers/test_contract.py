"""What every provider's translator and probe owe, whatever the wire format.

The rows are data: `tests/support/inputs/wire_formats.py`. Tests of one wire format's own quirks lie
beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from support.inputs.wire_formats import (
    HOST,
    MODEL,
    SECRET,
    UPSTREAM_MODEL,
    WIRE_FORMATS,
    WireFormatRow,
)
from support.schemas import validate_chunk, validate_completion

from workers.catalog.quirks import Quirks
from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from workers.providers.formats import PROBES, TRANSLATORS
from workers.providers.probe import ProbeResult
from workers.providers.translator import Translator
from workers.request.chat_request import parse_chat
from workers.transport.transport import request_head

DONE = b"data: [DONE]\n\n"
STREAM_HEAD = {"content-type": "text/event-stream"}
WHOLE_HEAD = {"content-type": "application/json"}

rows = pytest.mark.parametrize("row", WIRE_FORMATS, ids=lambda row: row.provider)


def request_body(*, stream: bool) -> dict[str, Any]:
    """Return a request of a client."""
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": MODEL.id, "messages": messages, "stream": stream}


def translator(
    row: WireFormatRow, *, stream: bool = True, usage: bool = False, max_event_bytes: int = 1 << 20
) -> Translator:
    """Make the translator of one attempt; `usage`: the client asks for it."""
    body = request_body(stream=stream)
    if usage:
        body["stream_options"] = {"include_usage": True}
    request = parse_chat(json.dumps(body).encode())
    return TRANSLATORS[row.provider](request, MODEL, row.deployment, max_event_bytes)


def relayed(row: WireFormatRow, pieces: Iterable[bytes], *, usage: bool = False) -> bytes:
    """Translate a whole streamed answer; return what the client gets."""
    one = translator(row, usage=usage)
    out = b"".join([one.feed(piece) for piece in pieces])
    return out if one.done else out + one.finish()


def chunks_of(out: bytes) -> list[dict[str, Any]]:
    """Read the chunks of a stream that is whole events; the end mark is left out."""
    assert out.endswith(b"\n\n")
    payloads = [event.removeprefix(b"data: ") for event in out[:-2].split(b"\n\n")]
    return [json.loads(payload) for payload in payloads if payload != b"[DONE]"]


def text_of(chunks: Iterable[dict[str, Any]]) -> str:
    """Join the content of all chunks."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def comparable(out: bytes) -> list[dict[str, Any]]:
    """Return the chunks without what a translator may make up anew for each answer."""
    return [
        {name: value for name, value in chunk.items() if name not in ("id", "created")}
        for chunk in chunks_of(out)
    ]


def test_every_provider_has_a_translator_a_probe_and_a_row() -> None:
    assert {row.provider for row in WIRE_FORMATS} == set(TRANSLATORS) == set(PROBES)


@rows
@pytest.mark.parametrize("stream", [True, False])
def test_the_request_can_be_sent_and_shows_the_secret_in_one_header_only(
    row: WireFormatRow, stream: bool
) -> None:
    sent = translator(row, stream=stream).request()
    assert sent.path.startswith("/")
    request_head("POST", row.deployment.base_url + sent.path, sent.headers)
    headers = {name.lower(): value for name, value in sent.headers}
    name, value = row.secret_header
    assert headers.pop(name) == value
    assert headers["content-type"] == "application/json"
    json.loads(sent.body)
    assert SECRET not in f"{sent.path}{headers}{sent.body!r}"
    assert UPSTREAM_MODEL in f"{sent.path}{sent.body!r}", "the upstream knows the model by this"
    assert MODEL.id not in f"{sent.path}{sent.body!r}"


@rows
@pytest.mark.parametrize("usage", [False, True])
def test_a_streamed_answer_becomes_valid_chunks_and_one_end(
    row: WireFormatRow, usage: bool
) -> None:
    one = translator(row, usage=usage)
    one.check_head(200, STREAM_HEAD)
    out = one.feed(row.stream)
    out += b"" if one.done else one.finish()
    assert out.count(DONE) == 1 and out.endswith(DONE)
    chunks = chunks_of(out)
    for chunk in chunks:
        validate_chunk(chunk)
        assert chunk["model"] == MODEL.id
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert text_of(chunks) == row.text
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == [row.finish_reason]
    assert one.done and one.committed and one.failure is None
    assert one.finish_reason == row.finish_reason
    assert one.output_bytes == len(row.text.encode())


@rows
def test_usage_is_read_always_and_shown_to_a_client_that_asked(row: WireFormatRow) -> None:
    unasked, asked = translator(row), translator(row, usage=True)
    chunks, asked_chunks = (
        chunks_of(one.feed(row.stream) + (b"" if one.done else one.finish()))
        for one in (unasked, asked)
    )
    assert unasked.usage == asked.usage == row.usage
    assert not any(chunk.get("usage") for chunk in chunks)
    *earlier, last = asked_chunks
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == row.usage.prompt_tokens
    assert last["usage"]["completion_tokens"] == row.usage.completion_tokens
    assert all(chunk["usage"] is None for chunk in earlier)


@rows
@pytest.mark.parametrize("usage", [False, True])
def test_it_makes_no_difference_where_the_bytes_are_split(row: WireFormatRow, usage: bool) -> None:
    stream = row.stream
    expected = comparable(relayed(row, [stream], usage=usage))
    assert comparable(relayed(row, [bytes([byte]) for byte in stream], usage=usage)) == expected
    for at in range(1, len(stream)):
        assert comparable(relayed(row, [stream[:at], stream[at:]], usage=usage)) == expected, at


@rows
def test_content_is_passed_on_with_the_read_that_brought_it(row: WireFormatRow) -> None:
    one = translator(row)
    opening = b"".join(row.events[: row.opening])
    assert one.feed(opening) == b"" and not one.committed, "a retry is still possible"
    assert text_of(chunks_of(one.feed(row.events[row.opening]))) != ""
    assert one.committed


@rows
def test_a_cut_answer_never_ends_cleanly(row: WireFormatRow) -> None:
    stream = row.stream
    clean = 0
    for at in range(len(stream)):
        one = translator(row)
        out = one.feed(stream[:at])
        try:
            out += b"" if one.done else one.finish()
        except UpstreamDisconnected:
            assert DONE not in out, at
            assert not one.done, at
        else:
            clean += 1
            assert out.endswith(DONE) and text_of(chunks_of(out)) == row.text, at
            assert one.finish_reason == row.finish_reason, at
    assert clean < len(stream) - len(b"".join(row.events[: row.opening])), "cuts were noticed"


@rows
def test_nothing_follows_the_end(row: WireFormatRow) -> None:
    one = translator(row)
    out = one.feed(row.stream + row.stream)
    out += b"" if one.done else one.finish()
    assert out.count(DONE) == 1 and text_of(chunks_of(out)) == row.text
    assert one.feed(row.stream) == b""
    assert one.usage == row.usage


FAILURES = [
    pytest.param(row, event, kind, id=f"{row.provider}-{number}")
    for row in WIRE_FORMATS
    for number, (event, kind) in enumerate(row.failures)
]


@pytest.mark.parametrize(("row", "event", "kind"), FAILURES)
def test_a_failure_before_the_content_is_raised_and_nothing_is_committed(
    row: WireFormatRow, event: bytes, kind: type[UpstreamError]
) -> None:
    one = translator(row)
    with pytest.raises(UpstreamError) as raised:
        one.feed(b"".join(row.events[: row.opening]) + event)
    assert type(raised.value) is kind and raised.value.retryable
    assert not one.committed and not one.done


@pytest.mark.parametrize(("row", "event", "kind"), FAILURES)
def test_a_failure_after_content_follows_the_frames_at_hand(
    row: WireFormatRow, event: bytes, kind: type[UpstreamError]
) -> None:
    one = translator(row)
    first, second = row.events[row.opening : row.opening + 2]
    out = one.feed(b"".join(row.events[: row.opening]) + first)
    out += one.feed(second + event)
    assert row.text.startswith(text_of(chunks_of(out))) and len(chunks_of(out)) >= 2
    assert type(one.failure) is kind
    assert DONE not in out and not one.done
    with pytest.raises(kind):
        one.feed(b"")
    with pytest.raises(kind):
        one.finish()


@rows
@pytest.mark.parametrize(
    ("status", "kind", "client_status"),
    [
        (400, UpstreamRejected, 400),
        (401, UpstreamUnavailable, 502),
        (404, UpstreamUnavailable, 502),
        (429, UpstreamRateLimited, 429),
        (500, UpstreamUnavailable, 502),
    ],
)
def test_a_rejection_becomes_one_of_our_errors_without_host_and_secret(
    row: WireFormatRow, status: int, kind: type[UpstreamError], client_status: int
) -> None:
    error = translator(row).rejection(status, {"retry-after": "7"}, row.rejections[status])
    assert type(error) is kind and error.status == client_status
    assert error.retryable == (status != 400), "the next deployment may answer, or not"
    if status == 429:
        assert error.retry_after_s == 7.0
    shown = error.encoded().decode() + str(error)
    assert HOST not in shown and SECRET not in shown


@rows
@pytest.mark.parametrize("stream", [True, False])
def test_only_an_answer_of_the_right_kind_is_read(row: WireFormatRow, stream: bool) -> None:
    good = STREAM_HEAD if stream else WHOLE_HEAD
    translator(row, stream=stream).check_head(200, good)
    for status, headers in (
        (200, {"content-type": "text/html"}),
        (200, good | {"content-encoding": "gzip"}),
        (204, good),
        (302, good | {"location": "https://elsewhere.example/"}),
    ):
        with pytest.raises(UpstreamError):
            translator(row, stream=stream).check_head(status, headers)


@rows
def test_a_whole_answer_becomes_a_valid_completion(row: WireFormatRow) -> None:
    one = translator(row, stream=False)
    answer = json.loads(one.whole(row.whole))
    validate_completion(answer)
    assert answer["model"] == MODEL.id
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == row.text
    assert choice["finish_reason"] == row.finish_reason == one.finish_reason
    assert answer["usage"]["completion_tokens"] == row.usage.completion_tokens
    assert one.usage == row.usage and one.done
    assert one.output_bytes == len(row.text.encode())


@rows
def test_a_whole_answer_that_is_cut_or_is_none_raises(row: WireFormatRow) -> None:
    for at in range(len(row.whole)):
        with pytest.raises(UpstreamError):
            translator(row, stream=False).whole(row.whole[:at])
    for status in (400, 500):
        with pytest.raises(UpstreamError):
            translator(row, stream=False).whole(row.rejections[status])


@rows
def test_an_event_that_is_too_large_raises(row: WireFormatRow) -> None:
    with pytest.raises(UpstreamError):
        translator(row, max_event_bytes=16).feed(row.stream)


@rows
def test_translators_share_no_state(row: WireFormatRow) -> None:
    first, second = translator(row, usage=True), translator(row)
    outs = [b"", b""]
    for event in row.events:
        outs[0] += first.feed(event)
        outs[1] += second.feed(event)
    assert first.done and second.done
    assert comparable(outs[0]) == comparable(relayed(row, row.events, usage=True))
    assert comparable(outs[1]) == comparable(relayed(row, row.events))
    fresh = translator(row)
    assert (fresh.done, fresh.committed, fresh.usage, fresh.output_bytes) == (False, False, None, 0)


@rows
def test_an_answer_has_finished_with_its_reason_and_before_its_usage(row: WireFormatRow) -> None:
    one, finished = translator(row), []
    for event in row.events:
        one.feed(event)
        finished.append((one.finished, one.finish_reason is not None, one.done))
    assert all(is_finished is has_reason for is_finished, has_reason, _ in finished)
    assert (True, True, False) in finished and not finished[0][0] and finished[-1][2]


@rows
@pytest.mark.parametrize("stream", [True, False])
def test_a_cost_counts_only_where_the_deployment_says_that_it_is_paid(
    row: WireFormatRow, stream: bool
) -> None:
    for believed, cost in ((True, 500_000), (False, None)):
        quirks = Quirks(cost_is_authoritative=believed)
        deployment = msgspec.structs.replace(row.deployment, quirks=quirks)
        request = parse_chat(json.dumps(request_body(stream=stream)).encode())
        one = TRANSLATORS[row.provider](request, MODEL, deployment, 1 << 20)
        if stream:
            one.feed(row.with_cost(row.stream, 0.5))
        else:
            one.whole(row.with_cost(row.whole, 0.5))
        assert one.stated_cost_microusd == cost
        assert one.usage == row.usage


@rows
def test_the_probe_can_be_sent_and_shows_the_secret_in_one_header_only(row: WireFormatRow) -> None:
    probe = PROBES[row.provider](row.deployment)
    assert probe.method == "GET" and probe.path.startswith("/")
    request_head(probe.method, row.deployment.base_url + probe.path, probe.headers)
    headers = {name.lower(): value for name, value in probe.headers}
    name, value = row.secret_header
    assert headers.pop(name) == value
    assert SECRET not in f"{probe.path}{headers}"


@rows
@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "works"), (401, "secret_rejected"), (404, "works"), (429, "works"), (500, "failing")],
)
def test_the_probe_tells_a_rejected_secret_and_a_failing_upstream_apart(
    row: WireFormatRow, status: int, result: ProbeResult
) -> None:
    read = PROBES[row.provider](row.deployment).read
    body = row.rejections.get(status, b"")
    assert read(status, body) == result
    assert read(status, b"<html>") == result, "the status is enough"
