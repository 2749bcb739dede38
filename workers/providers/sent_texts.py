"""Recognise the client's own texts in an upstream's error: no prompt may put a deployment aside.

Upstreams quote what they refuse. A value such as `rate limit, try again in 59m` would otherwise be
read as what the upstream says about itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

QUOTE_MARK = "''"
"""What stands for each quotation in words that are classified."""
_LEAST_CHARS = 6
"""Shorter pieces between quotations prove nothing: many prompts have them."""
_GAP = r"[\W_]*"


class SentTexts:
    """All texts of one request: the strings in its members, and the names of these.

    They are read only when an error has words that would count against a deployment.
    """

    __slots__ = ("_fields", "_texts")

    def __init__(self, fields: Mapping[str, Raw]) -> None:
        self._fields = fields
        self._texts: list[str] | None = None

    def hold(self, words: str) -> bool:
        """Return whether the request has these words, or a piece of them between quotations.

        Only letters and digits are compared, without regard to case.
        """
        pieces = [re.findall(r"[^\W_]", piece) for piece in words.split(QUOTE_MARK)]
        return any(
            self._has(_GAP.join(map(re.escape, piece)))
            for piece in pieces
            if len(pieces) == 1 or len(piece) >= _LEAST_CHARS
        )

    def _has(self, form: str) -> bool:
        if not form:
            return False
        if self._texts is None:
            self._texts = [
                text for raw in self._fields.values() for text in _strings(msgspec.json.decode(raw))
            ]
        wanted = re.compile(form, re.IGNORECASE)
        return any(wanted.search(text) for text in self._texts)


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings of a decoded value; its depth is bounded by the decoder."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
