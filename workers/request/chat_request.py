"""The chat completion request, as far as the gateway reads it.

Everything else passes through as sent. Field names and ranges: OpenAI's API document, "Create chat
completion".
"""

from __future__ import annotations

import codecs
import math

from msgspec import Raw, Struct

from workers.errors import InvalidRequest
from workers.request.chat_schema import check_chat
from workers.request.history import mended_history
from workers.request.json_body import read_object, with_whole_characters

CAP_FIELDS = ("max_tokens", "max_completion_tokens")
"""The members that cap an answer, the older one first."""

ADDED_TOKENS = 512
"""The most that an upstream adds to a prompt: with tools, Anthropic adds up to 346 tokens."""


class ChatRequest(Struct):
    """A checked chat completion request.

    `fields` holds every top-level member as sent, in order. `max_output_tokens` is the smaller of
    `max_completion_tokens` and `max_tokens` (None: neither was sent, or none that is a limit).
    `prompt_estimate` is in tokens, `prompt_bound` the most tokens that the request can be.
    `predicted_bound` is the most tokens of a `prediction`, which are paid as an answer, beside it.
    `largest_file_bytes` is the size of its largest picture, recording or file. `cap` is set by
    admission: the most tokens of each choice that the upstream must be given (None: no limit
    depends on it, so the request passes as sent). `cap_is_added`: the client did not ask for that
    cap, so that a refusal of it is not the client's business. `hides_costs`: the answer is sent
    without what the upstream states about money. `pictures` is how many of them `prompt_bound`
    counts.
    """

    model: str
    stream: bool
    n: int
    include_usage: bool
    max_output_tokens: int | None
    fields: dict[str, Raw]
    prompt_estimate: int
    largest_file_bytes: int = 0
    prompt_bound: int = 0
    predicted_bound: int = 0
    cap: int | None = None
    cap_is_added: bool = False
    hides_costs: bool = False
    pictures: int = 0


def parse_chat(body: bytes) -> ChatRequest:
    """Read and check the fields that the gateway must know.

    Raises InvalidRequest for every malformed body, with the field in `param`. A byte order mark,
    halves of surrogate pairs and faults of the history are mended: agents send the history of a
    conversation with each request, so a refusal would end the conversation for good.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        fields = read_object(body)
    except InvalidRequest:
        mended = with_whole_characters(body)
        if mended == body:
            raise
        body = mended
        fields = read_object(body)
    chat, media, is_mendable = check_chat(body, fields)
    text_bytes = len(body) - media.size_bytes
    if is_mendable:
        sent_bytes = len(fields["messages"])
        fields["messages"] = mended_history(fields["messages"])
        text_bytes += max(0, len(fields["messages"]) - sent_bytes)
    return ChatRequest(
        model=chat.model,
        stream=chat.stream is True,
        n=chat.n or 1,
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage is True,
        max_output_tokens=smallest_cap(chat.max_completion_tokens, chat.max_tokens),
        fields=fields,
        prompt_estimate=math.ceil(text_bytes / 4) + media.tokens,
        largest_file_bytes=media.largest_bytes,
        # No tokenizer makes more than one token of a byte.
        prompt_bound=text_bytes + ADDED_TOKENS + media.max_tokens,
        pictures=media.pictures,
        predicted_bound=len(fields["prediction"]) if chat.prediction else 0,
    )


def smallest_cap(*caps: int | None) -> int | None:
    """Return the smallest cap, or None if none is positive: upstreams may read others as no limit.

    Where a limit depends on it, it is written into every member that the upstream may read.
    """
    return min((cap for cap in caps if cap is not None and cap > 0), default=None)
