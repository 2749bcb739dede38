"""Mend the citations of a message as OpenAI's schema promises them.

The Vercel AI SDK refuses an answer with a citation that lacks a title or its place in the text.
Annotations of other types (OpenRouter's files, which clients send back) stay as they are.
"""

from __future__ import annotations

from typing import Any, Final

CITATION: Final = "url_citation"
_MEMBERS: Final = ("url", "title", "start_index", "end_index")


def mended_annotations(sent: Any) -> list[Any]:
    """Return the annotations of a message or delta, each citation with all of its members."""
    if not isinstance(sent, list):
        return []
    made = [_mended(each) if _is_citation(each) else each for each in sent]
    return [each for each in made if isinstance(each, dict)]


def numbered(annotations: list[Any], start: int) -> list[Any]:
    """Return annotations of a later delta with their places: openai-python joins lists by them."""
    return [each | {"index": place} for place, each in enumerate(annotations, start)]


def _is_citation(sent: Any) -> bool:
    return isinstance(sent, dict) and (sent.get("type") == CITATION or CITATION in sent)


def _mended(sent: dict[str, Any]) -> dict[str, Any] | None:
    """Return a citation with its members under `url_citation`; None: it has no address."""
    made = {name: value for name, value in sent.items() if name not in _MEMBERS}
    citation = sent.get(CITATION)
    citation = dict(citation) if isinstance(citation, dict) else {}
    for name in _MEMBERS:
        if name in sent:
            citation.setdefault(name, sent[name])
    if not isinstance(citation.get("url"), str):
        return None
    if not isinstance(citation.get("title"), str):
        citation["title"] = citation["url"]
    for name in ("start_index", "end_index"):
        value = citation.get(name)
        citation[name] = int(value) if isinstance(value, (int, float)) and value >= 0 else 0
    return made | {"type": CITATION, CITATION: citation}
