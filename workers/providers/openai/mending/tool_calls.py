"""Set index, id and type of streamed tool calls as OpenAI's schema promises them.

Clients add up fragments by `index`: it must be there, count from 0 without gaps, and mean one call.
Upstreams leave it out, send 0 for every call (Gemini's compatible endpoint) or begin with 1, repeat
the id and the name in every fragment, or send them empty; openai-python would add the texts up.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from workers.providers.event_splitter import is_json
from workers.providers.openai.chunks import PlainPiece, ToolCallText

FUNCTION: Final = "function"
CUSTOM: Final = "custom"
_CALL_MEMBERS = ("function", "custom", "name", "arguments", "id")


class CallPlaces:
    """The tool calls of one choice so far: their ids and names, in the order of their indexes."""

    __slots__ = ("_filled", "_ids", "_names", "_theirs")

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._names: list[str] = []
        self._filled: set[int] = set()  # the calls with arguments, and those of custom tools
        self._theirs: dict[int, int] = {}  # the upstream's index -> the call it last stood for

    def are_regular(self, calls: Sequence[ToolCallText]) -> bool:
        """Return whether the fragments of a delta can pass as they are."""
        following = len(self._ids)
        for call in calls:
            if call.index is UNSET:
                return False
            if self._theirs.get(call.index) == call.index:
                if not _continues(call):
                    return False
            elif call.index == following and call.id not in self._ids and _begins(call):
                following += 1
            else:
                return False
        return True

    def note_all(self, calls: Sequence[ToolCallText]) -> None:
        """Record the fragments that pass to the client."""
        for call in calls:
            index, function = call.index, call.function
            if index is UNSET:
                continue
            if index >= len(self._ids):
                name = function.name if function is not None else ""
                self._begin(index, call.id or "", name or "")
            if function is None or function.arguments:
                self._filled.add(index)

    def continued(self, pieces: Sequence[PlainPiece]) -> int:
        """Return the size of pieces that continue known calls, or -1 if one does not."""
        size = 0
        for piece in pieces:
            if self._theirs.get(piece.index) != piece.index:
                return -1
            arguments = piece.function.arguments
            size += len(arguments) if arguments.isascii() else len(arguments.encode())
        self._filled.update([piece.index for piece in pieces])
        return size

    def lack_arguments(self, calls: Sequence[ToolCallText]) -> bool:
        """Return whether a function is still without arguments after the last fragments."""
        if not calls and len(self._filled) == len(self._ids):
            return False
        begun, filled = set(range(len(self._ids))), set(self._filled)
        for call in calls:
            if call.index is UNSET:
                return True  # mended anyway
            begun.add(call.index)
            if call.function is None or call.function.arguments:
                filled.add(call.index)
        return not begun <= filled

    def add_arguments(self, delta: dict[str, Any]) -> None:
        """Add `{}` to the last delta for each function without arguments: "" is no JSON."""
        lacking = [place for place in range(len(self._ids)) if place not in self._filled]
        if not lacking:
            return
        calls = delta.get("tool_calls")
        if not isinstance(calls, list):
            calls = delta["tool_calls"] = []
        here = {call["index"]: call for call in calls}
        for place in lacking:
            if place in here:  # LangChain joins no two fragments of one delta
                here[place].setdefault("function", {})["arguments"] = "{}"
            else:
                calls.append({"index": place, "function": {"arguments": "{}"}})
        self._filled.update(lacking)

    def mended(self, calls: Any) -> Any:
        """Return the fragments of a delta with the members they must have, and no empty ones."""
        if isinstance(calls, dict) and any(name in calls for name in _CALL_MEMBERS):
            calls = [calls]  # one call in place of a list
        if not isinstance(calls, list):
            return calls
        return [self._mended(call) for call in calls if isinstance(call, dict)]

    def _mended(self, sent: dict[str, Any]) -> dict[str, Any]:
        call = with_function(sent)
        function = dict(call["function"]) if "function" in call else None
        their_index = _index(call.pop("index", None))
        call_id = call.pop("id", None) or ""
        name = (function or {}).get("name")
        name = name if isinstance(name, str) else ""
        place = self._find(their_index, str(call_id), name, (function or {}).get("arguments"))
        if place is None:
            place = len(self._ids)
            call_id = str(call_id) if call_id and call_id not in self._ids else new_call_id()
            self._begin(place if their_index is None else their_index, call_id, name)
            made = {"index": place, "id": call_id, "type": kind(call)}
        else:
            made = {"index": place}
            if function is not None and (not name or name == self._names[place]):
                function.pop("name", None)
        if function is not None:
            call["function"] = with_text_arguments(function, first="id" in made)
        if function is None or function.get("arguments"):
            self._filled.add(place)
        call.pop("type", None)
        return made | call

    def _find(self, index: int | None, call_id: str, name: str, arguments: Any) -> int | None:
        """Return the call that a fragment belongs to, or None for a new one.

        The id decides. An unknown id begins a call, unless it comes without a name under an index
        that is known: some servers make up a new id for every fragment.
        """
        known = self._theirs.get(index) if index is not None else None
        if call_id in self._ids:
            place = self._ids.index(call_id)
            repeated = index is None or known is not None or not name
            return place if repeated and not self._is_another(place, name, arguments) else None
        if call_id:
            return known if not name else None
        if known is None and (index is None or not name):
            known = len(self._ids) - 1 if self._ids else None
        return known if known is not None and not self._is_another(known, name, arguments) else None

    def _is_another(self, place: int, name: str, arguments: Any) -> bool:
        """Return whether a fragment is a call of its own although it seems to continue one.

        It has a name, and its arguments are whole although the earlier call has some.
        """
        if not name or place not in self._filled:
            return False
        whole = isinstance(arguments, str) and arguments[:1] == "{" and is_json(arguments.encode())
        return name != self._names[place] or whole or isinstance(arguments, dict)

    def _begin(self, their_index: int, call_id: str, name: str) -> None:
        self._theirs[their_index] = len(self._ids)
        self._ids.append(call_id)
        self._names.append(name)


def _continues(call: ToolCallText) -> bool:
    """Return whether a fragment is the next piece of arguments and nothing else."""
    function = call.function
    if call.id is not UNSET or not (call.type is UNSET or call.type):
        return False
    if function is None:
        return call.custom is not None
    return function.name is UNSET and function.arguments is not None


def _begins(call: ToolCallText) -> bool:
    """Return whether a fragment has what the first one of a call must have."""
    function = call.function
    if not call.id:
        return False
    if call.type == CUSTOM:
        return call.custom is not None
    if call.type != FUNCTION or function is None:
        return False
    return bool(function.name) and function.arguments is not None


def with_function(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call whose `name` and `arguments` lie in its `function`, not beside it.

    A call of no other kind has a `function`, if an empty one: LangChain reads it in each fragment.
    """
    made = dict(call)
    for member in (FUNCTION, CUSTOM):
        if not isinstance(made.get(member), dict):
            made.pop(member, None)
    if FUNCTION not in made and CUSTOM not in made:
        made[FUNCTION] = {name: made.pop(name) for name in ("name", "arguments") if name in made}
    return made


def with_text_arguments(function: dict[str, Any], *, first: bool) -> dict[str, Any]:
    """Return a function whose `arguments` are text; `first`: they must be there."""
    arguments = function.get("arguments")
    if arguments is None:
        function.pop("arguments", None)
        if first:
            function["arguments"] = ""
    elif not isinstance(arguments, str):
        function["arguments"] = msgspec.json.encode(arguments).decode()
    return function


def whole_calls(sent: list[Any]) -> list[Any]:
    """Return the calls of a whole answer with the members that they must have, each its own id."""
    made, ids = [], set()
    for call in map(_whole_call, sent):
        if isinstance(call, dict):
            if call["id"] in ids:
                call["id"] = new_call_id()
            ids.add(call["id"])
        made.append(call)
    return made


def _whole_call(sent: Any) -> Any:
    """Return a call of a whole answer with the members that it must have."""
    if not isinstance(sent, dict):
        return sent
    call = with_function(sent)
    call.pop("index", None)
    made = {"id": str(call.pop("id", None) or new_call_id()), "type": kind(call)}
    call.pop("type", None)
    if "function" in call:
        function = with_text_arguments(dict(call["function"]), first=True)
        function["arguments"] = function["arguments"] or "{}"
        call["function"] = function
    return made | call


def kind(call: Mapping[str, Any]) -> str:
    """Return the type of a tool call by its members; some upstreams state `tool_call` or none."""
    return CUSTOM if "custom" in call and "function" not in call else FUNCTION


def new_call_id() -> str:
    """Return an id for a call that has none: clients send it back with the result."""
    return f"call_{secrets.token_hex(12)}"


def _index(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
