"""Recognise the client's own texts in an upstream's error: no prompt may put a deployment aside.

Upstreams quote what they refuse. A value such as `rate limit, try again in 59m` would otherwise be
read as what the upstream says about itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

QUOTE_MARK = "''"
"""What stands for each quotation in words that are classified."""
_MIN_CHARS = 6
"""Shorter pieces between quotations prove nothing: many prompts have them."""
_GAP = r"[\W_]*"
_WORD = re.compile(r"[^\W_]+")
_QUOTED = re.compile(r"'[^'\n]+'|\"[^\"\n]+\"|`[^`\n]+`")
_RUN_WORDS = 4
"""So many words in a row that the request has too are a quotation of it."""


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
            if len(pieces) == 1 or len(piece) >= _MIN_CHARS
        )

    def unquoted(self, message: str, *, known: str) -> str:
        """Return a message in which `…` stands for what it quotes of the request.

        `known`, the model's name at the upstream, stays. "" if the texts are no longer at hand.
        """
        if not self._fields:
            return ""
        values = [msgspec.json.decode(raw) for name, raw in self._fields.items() if name != "model"]
        sent = " ".join(_plain(text) for value in values for text in _strings(value))
        sent = f" {sent} "
        model = known.rpartition("/")[2]
        quoted = _QUOTED.finditer(message)
        spans = [one.span() for one in quoted if one[0][1:-1].rpartition("/")[2] != model]
        words = list(_WORD.finditer(message))
        runs = zip(words, words[_RUN_WORDS - 1 :], strict=False)
        spans += [(first.start(), last.end()) for first, last in runs]
        hidden = [span for span in spans if f" {_plain(message[slice(*span)])} " in sent]
        for start, end in _joined(hidden):
            message = f"{message[:start]}…{message[end:]}"
        return message

    def _has(self, form: str) -> bool:
        if not form:
            return False
        if self._texts is None:
            self._texts = [
                text for raw in self._fields.values() for text in _strings(msgspec.json.decode(raw))
            ]
        wanted = re.compile(form, re.IGNORECASE)
        return any(wanted.search(text) for text in self._texts)


def _plain(text: str) -> str:
    """Return the words of a text, in small letters and with one space between them."""
    return " ".join(_WORD.findall(text.casefold()))


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of a text with those that overlap joined, the last one first."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[::-1]


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
