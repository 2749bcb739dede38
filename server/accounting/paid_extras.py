"""What only the owner may send to a model, because it costs more than tokens or names other models.

Which members and types of tools these are is data of the model's deployments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from workers.request.content_parts import MAX_PICTURE_TOKENS
from workers.request.member_names import folded

if TYPE_CHECKING:
    from workers.catalog.catalog import Model
    from workers.request.chat_request import ChatRequest

PLAIN_TOOLS = ("function", "custom")
"""The types of tools that the client runs itself."""


class _TypedTool(Struct, gc=False):
    type: str = ""


_TOOLS = msgspec.json.Decoder(list[_TypedTool] | None)


class PaidExtras:
    """The members and tools that keys and guests may not send to one model.

    `added_bytes` is the most that the model's deployments add to a request (`add_fields`),
    `picture_tokens` what a picture can cost there above the ceiling for most models.
    """

    def __init__(self, model: Model) -> None:
        live = model.live_deployments()
        types = {name for one in live for name in one.quirks.owner_only_tools}
        self._fields = {folded(name) for one in live for name in one.owner_only_fields}
        self._types = frozenset(types)
        self._beginnings = tuple(name[:-1] for name in types if name.endswith("*") and name != "*")
        self._only_plain = "*" in types
        added = [one.quirks.add_fields for one in live if one.quirks.add_fields]
        self.added_bytes = max((len(msgspec.json.encode(one)) for one in added), default=0)
        most = max((one.quirks.picture_tokens for one in live), default=0)
        self.picture_tokens = max(most - MAX_PICTURE_TOKENS, 0)

    def find(self, request: ChatRequest) -> tuple[str, str] | None:
        """Return a member or tool that only the owner may send, in words, and its `param`."""
        if self._fields:
            for name in request.fields:
                if folded(name) in self._fields:  # as servers in Go compare names
                    return repr(name[:100]), name[:100]
        if self._types and "tools" in request.fields:
            for index, tool in enumerate(_TOOLS.decode(request.fields["tools"]) or ()):
                if self._is_paid(tool.type):
                    return f"tools of type {tool.type[:100]!r}", f"tools[{index}].type"
        return None

    def _is_paid(self, kind: str) -> bool:
        if self._only_plain and kind not in PLAIN_TOOLS:
            return True
        return kind in self._types or (bool(self._beginnings) and kind.startswith(self._beginnings))
