"""The base of the history's handlers: who has a history, and how bodies are read."""

from __future__ import annotations

import re
from typing import Any, ClassVar, TypeVar

import msgspec

from server.api.base import BaseHandler
from server.config.settings import History
from workers.errors import Forbidden, InvalidRequest
from workers.request.json_body import read_object, with_whole_characters
from workers.type_words import requirement, split_fault
from workers.units import KIB

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNNAMED = re.compile(r"(unknown|required) field `(.*)`$", re.DOTALL)
MAX_OBJECT_BYTES = 64 * KIB

Body = TypeVar("Body")


class HistoryHandler(BaseHandler):
    """A route of the chat history, which guests do not have."""

    cross_origin = False
    while_off: ClassVar[bool] = False
    """Whether it also answers while the history is switched off: what was kept stays theirs."""

    def refuse_head(self) -> None:
        """Refuse guests, and everybody while the history is switched off."""
        super().refuse_head()
        if not self.rules.enabled and not self.while_off:
            raise Forbidden("The chat history is switched off here.", code="history_off")
        if self.principal is not None and self.principal.kind == "guest":
            raise Forbidden(
                "Guests have no chat history on the server. Sign in with a key.",
                code="history_unavailable",
            )

    @property
    def rules(self) -> History:
        """Return the settings of the history."""
        return self.services.config.history

    @property
    def person(self) -> str:
        """Return whose history this is: "owner" or a key's id."""
        assert self.principal is not None
        return self.principal.scope

    def read_id(self, text: str | None, param: str) -> str:
        """Return an id of a record. Raises InvalidRequest."""
        if text is None or ID.fullmatch(text) is None:
            raise InvalidRequest(
                f"'{param}' must be an id of 1 to 64 letters, digits, _ and -.", param=param
            )
        return text

    def read_body(self, decoder: msgspec.json.Decoder[Body]) -> Body:
        """Decode the JSON body. Raises InvalidRequest, which names the member."""
        return read_json(self.take_body(), decoder)


def read_json(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Decode a JSON object of a client. Raises InvalidRequest, which names the member.

    Texts that JavaScript has cut may end in half a character, which becomes U+FFFD.
    """
    try:
        read_object(body)
    except InvalidRequest:
        body = with_whole_characters(body)
        read_object(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    fault, path = split_fault(error)
    unnamed = UNNAMED.search(fault)
    if unnamed is not None:
        path = f"{path}.{unnamed[2]}" if path else unnamed[2]
    path = path[:200]
    if unnamed is not None and unnamed[1] == "unknown":
        return InvalidRequest(f"There is no field '{path}' here.", param=path)
    if unnamed is not None:
        return InvalidRequest(f"'{path}' is required.", param=path)
    name = f"'{path}'" if path else "The body"
    return InvalidRequest(f"{name} {requirement(fault)}.", param=path or None)


def check_object(value: Any, param: str, most: int = MAX_OBJECT_BYTES) -> None:
    """Raise InvalidRequest for an object that is too large or has numbers of more than 64 bits."""
    if not isinstance(value, dict):  # not sent
        return
    try:
        msgspec.msgpack.encode(value)
    except (OverflowError, RecursionError) as error:
        raise InvalidRequest(f"'{param}' has a number that is too large.", param=param) from error
    if len(msgspec.json.encode(value)) > most:
        raise InvalidRequest(f"'{param}' may have at most {most // KIB} KiB.", param=param)
