"""Build the body of a request for one OpenAI-shaped upstream.

What the upstream wants differently is data: the quirks of its deployment. A request without a cap
of the gateway and for a deployment without quirks passes as the client sent it, except for the
model's name and the request for usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from workers.catalog.quirks import NO_QUIRKS, NOTHING_LEARNT, Learnt, Quirks
from workers.request.chat_request import CAP_FIELDS, ChatRequest, smallest_cap

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_MESSAGES = msgspec.json.Decoder(list[dict[str, Raw]])
_CAP = msgspec.json.Decoder(int)
_ROLES = (Raw(b'"system"'), Raw(b'"developer"'))


def request_body(
    request: ChatRequest, model: str, quirks: Quirks, learnt: Learnt = NOTHING_LEARNT
) -> bytes:
    """Return the body for an upstream that knows the model as `model`.

    A stream always requests usage, whatever the client requested: the ledger needs it. `learnt` is
    what this upstream has refused of what the gateway adds.
    """
    fields: dict[str, Any] = {**request.fields, "model": model}
    if request.stream:
        _request_usage(fields, quirks.stream_options and learnt.stream_options)
    obeyed = learnt.max_tokens_field or quirks.max_tokens_field
    if request.cap is not None or obeyed:
        _write_cap(fields, request, obeyed, learnt)
    if quirks is not NO_QUIRKS:
        if quirks.system_role:
            _rename_roles(fields, quirks.system_role)
        for name in quirks.drop_fields:
            fields.pop(name, None)
        fields.update(quirks.add_fields)
    return msgspec.json.encode(fields)


def _request_usage(fields: dict[str, Any], taken: bool) -> None:
    """Request the usage of a stream, unless this upstream does not take the member."""
    if not taken:
        fields.pop("stream_options", None)
        return
    sent = fields.get("stream_options", b"null")
    options = None if bytes(sent) == b"null" else _MEMBERS.decode(sent)
    fields["stream_options"] = {**(options or {}), "include_usage": True}


def _write_cap(fields: dict[str, Any], request: ChatRequest, obeyed: str, learnt: Learnt) -> None:
    """Write the answer's cap into the members that this upstream obeys, and into no other.

    Without a cap of the gateway, the client's own is only renamed. A deployment without data gets
    both members: which of them an unknown upstream reads is not known, and a limit must hold. A cap
    that the client did not ask for is no larger than the upstream is known to take.
    """
    sent = [name for name in CAP_FIELDS if bytes(fields.get(name, b"null")) != b"null"]
    if request.cap is None:
        if not sent:
            return
        # Of two caps the smaller one holds, whichever the upstream reads.
        caps = [_CAP.decode(fields[name]) for name in sent]
        value: Any = smallest_cap(*caps) or fields[sent[-1]]
    else:
        value = learnt.cap_sent(request.cap) if request.cap_is_added else request.cap
    for name in CAP_FIELDS:
        fields.pop(name, None)
    if value is not None:
        names = CAP_FIELDS if obeyed in ("", "both") else (obeyed,)
        fields.update(dict.fromkeys(names, value))


def _rename_roles(fields: dict[str, Any], role: str) -> None:
    """Set the role that this upstream knows in every message with instructions."""
    ours = Raw(msgspec.json.encode(role))
    messages = _MESSAGES.decode(fields["messages"])
    renamed = [_with_role(message, ours) for message in messages]
    if renamed != messages:
        fields["messages"] = renamed


def _with_role(message: dict[str, Raw], role: Raw) -> Mapping[str, Raw]:
    return {**message, "role": role} if message.get("role") in _ROLES else message
