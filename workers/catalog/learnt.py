"""Learn from refusals what an upstream takes of what the gateway writes into requests.

Those are `stream_options` and the cap of an answer. A request that is refused for one of them is
sent once more without it; what is learnt so counts for the deployment once it has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from workers.request.chat_request import CAP_FIELDS

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment
    from workers.errors import UpstreamError
    from workers.request.chat_request import ChatRequest

OTHER_CAP: dict[str, Literal["max_tokens", "max_completion_tokens"]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The member that still caps an answer where the upstream does not take the other one."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


class Lesson(NamedTuple):
    """What a refusal changes in `Learnt`; without `lasting` for this one request only.

    `words` describe it for the log.
    """

    changes: dict[str, Any]
    words: str
    lasting: bool = True


def lesson_of(deployment: Deployment, request: ChatRequest, error: UpstreamError) -> Lesson | None:
    """Return what a refusal teaches about what the gateway has written, or None.

    A refusal of `stream_options` in which the client asks for more than usage may be about that. It
    must not end the reports of usage, on which all limits of the deployment's clients depend.
    """
    learnt = deployment.learnt
    if error.refused_cap is not None and request.cap is not None and request.cap_is_added:
        sent = learnt.cap_sent(request.cap)
        most, lasting = error.refused_cap
        if sent is None or most >= sent:
            return None
        if most:
            words = (
                f"takes answers of at most {most} tokens, and the gateway asked for {sent}: set"
                f" max_output_tokens = {most} for {request.model}"
            )
            return Lesson({"max_output_tokens": most}, words, lasting)
        words = (
            f"does not take answers of {sent} tokens, and does not say how many it takes: set a"
            f" smaller max_output_tokens for {request.model}"
        )
        return Lesson({"refused_output_tokens": sent}, words, lasting)
    words = f"does not take {error.refused_member}, which the gateway adds: it is left out"
    words += " until the next start"
    member = error.refused_member
    if member == "stream_options":
        asked = request.stream and deployment.quirks.stream_options and learnt.stream_options
        if not asked or _asks_for_more_than_usage(request):
            return None
        return Lesson({"stream_options": False}, words)
    other = OTHER_CAP.get(member)
    if other and _may_rename_cap(deployment, request, member):
        return Lesson({"max_tokens_field": other}, words)
    return None


def _may_rename_cap(deployment: Deployment, request: ChatRequest, member: str) -> bool:
    """Return whether the cap may be written into another member than the one that was refused.

    The gateway must have written it, and the owner must not have said so.
    """
    stated, learnt = deployment.quirks.max_tokens_field, deployment.learnt.max_tokens_field
    if stated not in ("", "both") and not deployment.cap_field_assumed:
        return False
    if (learnt or stated) == OTHER_CAP[member]:
        return False  # the refused member was not sent
    has_cap = any(bytes(request.fields.get(name, b"null")) != b"null" for name in CAP_FIELDS)
    return request.cap is not None or (has_cap and bool(learnt or stated))


def _asks_for_more_than_usage(request: ChatRequest) -> bool:
    sent = request.fields.get("stream_options", b"null")
    return any(name != "include_usage" for name in _MEMBERS.decode(sent) or ())
